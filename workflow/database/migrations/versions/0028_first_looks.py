"""first looks: what was left in a mailbox, and the Message-IDs of mails to be fetched again."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

# Mailboxes that are known have been read from their beginning: nothing was left in them.
COLUMNS = {
    "mailbox_checkpoints": (
        sa.Column("boundary", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("older_count", sa.Integer(), nullable=True),
    ),
    "item_faults": (sa.Column("message_id", sa.Text(), nullable=False, server_default=""),),
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.execute("UPDATE mailbox_checkpoints SET older_count = 0")


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
