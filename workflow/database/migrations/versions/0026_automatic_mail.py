"""automatic mail: the recipients that budgets count by."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, length in (("recipient", 320), ("recipient_domain", 255)):
        op.add_column(
            "outbox", sa.Column(name, sa.String(length), nullable=False, server_default="")
        )
        op.create_index(f"ix_outbox_{name}", "outbox", [name, "created_at"])


def downgrade() -> None:
    for name in ("recipient_domain", "recipient"):
        op.drop_index(f"ix_outbox_{name}", table_name="outbox")
        op.drop_column("outbox", name)
