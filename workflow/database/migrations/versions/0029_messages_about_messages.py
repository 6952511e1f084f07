"""messages about messages: tickets that receipts, recalls and challenges have opened."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("notice", sa.String(40), nullable=False, server_default="")
    op.add_column("tickets", column)


def downgrade() -> None:
    op.drop_column("tickets", "notice")
