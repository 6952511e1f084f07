"""leases over several hosts, the daily checks, and the channels' own ids of deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OWNED = sa.text("blob IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=600), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "checks",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_checks")),
    )
    # Adding a column with a default and indexes copies no table, on either database.
    op.add_column(
        "receipts", sa.Column("reference", sa.String(length=800), nullable=False, server_default="")
    )
    op.create_index(op.f("ix_receipts_reference"), "receipts", ["reference"])
    # Waiting deliveries are taken up in this order: the first found are the first wanted, however
    # many wait.
    op.drop_index("ix_deliveries_waiting", table_name="deliveries")
    op.create_index("ix_deliveries_waiting", "deliveries", ["state", "attempts", "id"])
    for table in ("deliveries", "attachments"):
        op.create_index(
            f"ix_{table}_blob", table, ["blob"], sqlite_where=OWNED, postgresql_where=OWNED
        )


def downgrade() -> None:
    for table in ("attachments", "deliveries"):
        op.drop_index(f"ix_{table}_blob", table_name=table)
    op.drop_index("ix_deliveries_waiting", table_name="deliveries")
    op.create_index("ix_deliveries_waiting", "deliveries", ["state", "not_before"])
    op.drop_index(op.f("ix_receipts_reference"), table_name="receipts")
    op.drop_column("receipts", "reference")
    op.drop_table("checks")
    op.drop_table("leases")
