"""files that messages link to."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "linked_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attachment_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_linked_files_message_id_messages")
        ),
        sa.ForeignKeyConstraint(
            ["attachment_id"],
            ["attachments.id"],
            name=op.f("fk_linked_files_attachment_id_attachments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_linked_files")),
        sa.UniqueConstraint("message_id", "digest", name=op.f("uq_linked_files_message_id")),
        sa.UniqueConstraint("attachment_id", name=op.f("uq_linked_files_attachment_id")),
    )
    op.create_index("ix_linked_files_waiting", "linked_files", ["state", "not_before"])


def downgrade() -> None:
    op.drop_index("ix_linked_files_waiting", table_name="linked_files")
    op.drop_table("linked_files")
