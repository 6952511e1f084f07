"""attachments in originals: the place of a file within the stored mail, instead of a copy."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

COLUMNS = ("source_id", "span_start", "span_end")


def upgrade() -> None:
    # No foreign key, as in 0016: SQLite could drop such a column only by copying the table.
    for column in COLUMNS:
        op.add_column("attachments", sa.Column(column, sa.Integer(), nullable=True))
    op.add_column("attachments", sa.Column("encoding", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("attachments", "encoding")
    for column in COLUMNS:
        op.drop_column("attachments", column)
