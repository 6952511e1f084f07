"""correspondents: recipients of messages, and the sender where the customer stands elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("to", "cc"):
        op.add_column("messages", sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
    op.add_column(
        "messages", sa.Column("route", sa.String(length=16), nullable=False, server_default="")
    )
    for name in ("sent_by_name", "sent_by_email", "customer_email"):
        op.add_column("messages", sa.Column(name, sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    for name in ("customer_email", "sent_by_email", "sent_by_name", "route", "cc", "to"):
        op.drop_column("messages", name)
