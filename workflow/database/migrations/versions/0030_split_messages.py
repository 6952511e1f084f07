"""split messages: the ticket that a message was split off."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("split_from_ticket_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("messages", "split_from_ticket_id")
