"""automatic mail: recipients that budgets count by, rules for senders, undo of a ticket made."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, length in (("recipient", 320), ("recipient_domain", 255)):
        op.add_column(
            "outbox", sa.Column(name, sa.String(length), nullable=False, server_default="")
        )
        op.create_index(f"ix_outbox_{name}", "outbox", [name, "created_at"])
    op.add_column(
        "automated_mails", sa.Column("made_by", sa.Text(), nullable=False, server_default="")
    )
    op.add_column(
        "automated_mails", sa.Column("made_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "automated_mails",
        sa.Column("made_audit_id", sa.Integer(), nullable=False, server_default="0"),
    )
    op.create_table(
        "sender_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=320), nullable=False),
        sa.Column("treatment", sa.String(length=64), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sender_rules")),
    )
    held = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_sender_rules_held",
        "sender_rules",
        ["scope", "value"],
        unique=True,
        sqlite_where=held,
        postgresql_where=held,
    )


def downgrade() -> None:
    op.drop_table("sender_rules")
    for name in ("made_audit_id", "made_at", "made_by"):
        op.drop_column("automated_mails", name)
    for name in ("recipient_domain", "recipient"):
        op.drop_index(f"ix_outbox_{name}", table_name="outbox")
        op.drop_column("outbox", name)
