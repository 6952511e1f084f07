"""who is away and who covers, and whether a ticket shows on its company's timeline."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tickets",
        sa.Column("share_activity", sa.Boolean(), server_default=sa.true(), nullable=False),
    )
    op.add_column("staff", sa.Column("away_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("staff", sa.Column("away_until", sa.DateTime(timezone=True), nullable=True))
    # In words both databases have: SQLite would copy the table, which other tables' rows refer to.
    op.execute(
        "ALTER TABLE staff ADD COLUMN cover_id INTEGER CONSTRAINT fk_staff_cover_id_staff"
        " REFERENCES staff (id)"
    )


def downgrade() -> None:
    with op.batch_alter_table("staff") as staff:
        staff.drop_column("cover_id")
        staff.drop_column("away_until")
        staff.drop_column("away_since")
    op.drop_column("tickets", "share_activity")
