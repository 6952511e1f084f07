"""What the rows of each sheet of a workbook were read as."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

COUNTS = (
    "rows",
    "items",
    "repeated",
    "rejected",
    "headings",
    "titles",
    "footers",
    "blank",
    "hidden_rows",
)
PLACES = ("heading_places", "title_places", "footer_places")


def upgrade() -> None:
    op.create_table(
        "delivery_sheets",
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sheet", sa.Text(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.Text(), nullable=False) for name in PLACES),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name=op.f("fk_delivery_sheets_delivery_id_deliveries"),
        ),
        sa.PrimaryKeyConstraint("delivery_id", "position", name=op.f("pk_delivery_sheets")),
    )


def downgrade() -> None:
    op.drop_table("delivery_sheets")
