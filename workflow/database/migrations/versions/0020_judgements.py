"""judgements: what a message was taken for and why, and mail that is on no ticket."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "messages",
        sa.Column("judgement", sa.String(length=64), nullable=False, server_default=""),
    )
    op.add_column("messages", sa.Column("signs", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column(
        "deliveries",
        sa.Column("by_person", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "automated_mails",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("signs", sa.JSON(), nullable=False),
        sa.Column("from_name", sa.Text(), nullable=False),
        sa.Column("from_email", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ticket_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name=op.f("fk_automated_mails_delivery_id_deliveries"),
        ),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name=op.f("fk_automated_mails_ticket_id_tickets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automated_mails")),
        sa.UniqueConstraint("delivery_id", name=op.f("uq_automated_mails_delivery_id")),
    )
    op.create_index("ix_automated_mails_listed", "automated_mails", ["ticket_id", "id"])


def downgrade() -> None:
    op.drop_table("automated_mails")
    op.drop_column("deliveries", "by_person")
    op.drop_column("messages", "signs")
    op.drop_column("messages", "judgement")
