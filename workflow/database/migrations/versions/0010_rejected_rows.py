"""rows that were rejected are found without looking at all others."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("outcome = 'rejected'")
    op.create_index(
        "ix_filings_rejected",
        "filings",
        ["delivery_id"],
        sqlite_where=where,
        postgresql_where=where,
    )


def downgrade() -> None:
    op.drop_index("ix_filings_rejected", table_name="filings")
