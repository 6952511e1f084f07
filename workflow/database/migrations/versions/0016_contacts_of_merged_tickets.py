"""Contacts that a merge brings know which ticket they come from."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No foreign key: SQLite could drop such a column only by copying the table, which loses its
    # triggers (0009).
    op.add_column("ticket_contacts", sa.Column("from_ticket_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("ticket_contacts", "from_ticket_id")
