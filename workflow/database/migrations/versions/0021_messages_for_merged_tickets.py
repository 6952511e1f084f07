"""Messages know which ticket they were addressed to, where a merge has led them to another."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No foreign key, as in 0016: SQLite could drop such a column only by copying the table.
    op.add_column("messages", sa.Column("addressed_ticket_id", sa.Integer(), nullable=True))
    # Most messages have none: the index holds the few that were redirected.
    few = sa.text("addressed_ticket_id IS NOT NULL")
    op.create_index(
        "ix_messages_addressed",
        "messages",
        ["addressed_ticket_id"],
        sqlite_where=few,
        postgresql_where=few,
    )


def downgrade() -> None:
    op.drop_index("ix_messages_addressed", table_name="messages")
    op.drop_column("messages", "addressed_ticket_id")
