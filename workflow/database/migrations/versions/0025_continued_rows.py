"""continued rows: of a workbook, those whose text belongs to the row above them."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "delivery_sheets",
        sa.Column("continued", sa.Integer(), nullable=False, server_default="0"),
    )


def downgrade() -> None:
    op.drop_column("delivery_sheets", "continued")
