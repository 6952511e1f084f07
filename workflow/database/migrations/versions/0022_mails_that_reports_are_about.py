"""mails that reports are about: a note names the mail of ours, so that a correction finds it."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("reported_mail_id", sa.Integer(), nullable=True))
    reported = sa.text("reported_mail_id IS NOT NULL")
    op.create_index(
        "ix_messages_reported_mail",
        "messages",
        ["reported_mail_id"],
        sqlite_where=reported,
        postgresql_where=reported,
    )


def downgrade() -> None:
    op.drop_index("ix_messages_reported_mail", "messages")
    op.drop_column("messages", "reported_mail_id")
