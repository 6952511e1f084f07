"""mails that people write to customers, their files, and the texts they begin with."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "written_mails",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("ticket_id", sa.Integer(), nullable=False),
        sa.Column("staff_id", sa.Integer(), nullable=False),
        sa.Column("to", sa.JSON(), nullable=False),
        sa.Column("cc", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("ticks", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promised_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["staff_id"], ["staff.id"], name=op.f("fk_written_mails_staff_id_staff")
        ),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name=op.f("fk_written_mails_ticket_id_tickets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_written_mails")),
        sa.UniqueConstraint("key", name=op.f("uq_written_mails_key")),
    )
    op.create_index(
        "ix_written_mails_drafts", "written_mails", ["ticket_id", "staff_id", "promised_at"]
    )
    op.create_table(
        "written_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("written_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mime", sa.String(length=255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("blob", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["written_id"],
            ["written_mails.id"],
            name=op.f("fk_written_files_written_id_written_mails"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_written_files")),
    )
    op.create_index(op.f("ix_written_files_written_id"), "written_files", ["written_id"])
    held = sa.text("blob IS NOT NULL")
    op.create_index(
        "ix_written_files_blob", "written_files", ["blob"], sqlite_where=held, postgresql_where=held
    )
    op.create_table(
        "mail_texts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("current", sa.String(length=120), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("folder", sa.String(length=120), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("ticks", sa.String(length=64), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_texts")),
        sa.UniqueConstraint("current", name=op.f("uq_mail_texts_current")),
    )
    op.create_index(op.f("ix_mail_texts_name"), "mail_texts", ["name"])
    whose = sa.ForeignKey("written_mails.id", name=op.f("fk_outbox_written_id_written_mails"))
    # In place: SQLite could not put a new table where others point to this one.
    op.add_column(
        "outbox",
        sa.Column("written_id", sa.Integer(), whose, nullable=True),
        inline_references=True,
    )
    op.create_index(op.f("ix_outbox_written_id"), "outbox", ["written_id"])


def downgrade() -> None:
    with op.batch_alter_table("outbox") as batch:
        batch.drop_index(op.f("ix_outbox_written_id"))
        batch.drop_column("written_id")
    op.drop_table("mail_texts")
    op.drop_table("written_files")
    op.drop_table("written_mails")
