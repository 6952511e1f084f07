"""indexes of the dashboard: the oldest open tickets, arrivals, and durations of some weeks."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tickets_by_age", "tickets", ["status", "created_at", "id"])
    op.create_index(
        "ix_tickets_arrivals", "tickets", ["created_at", "transport", "status", "stage"]
    )
    op.drop_index("ix_tickets_created_at", "tickets")
    op.create_index(
        "ix_milestones_by_time", "milestones", ["milestone", "at", "ticket_id", "period"]
    )


def downgrade() -> None:
    op.drop_index("ix_milestones_by_time", "milestones")
    op.create_index("ix_tickets_created_at", "tickets", ["created_at"])
    op.drop_index("ix_tickets_arrivals", "tickets")
    op.drop_index("ix_tickets_by_age", "tickets")
