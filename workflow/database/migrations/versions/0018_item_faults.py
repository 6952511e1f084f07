"""items that a channel could not take, to be tried again.

And processes that ended by themselves.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item_faults",
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("place", sa.String(length=600), nullable=False),
        sa.Column("item", sa.String(length=300), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("channel", "place", "item", name=op.f("pk_item_faults")),
    )
    op.create_table(
        "process_ends",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("process", sa.String(length=40), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("how", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_process_ends")),
    )
    op.create_index(op.f("ix_process_ends_at"), "process_ends", ["at"])


def downgrade() -> None:
    op.drop_table("process_ends")
    op.drop_table("item_faults")
