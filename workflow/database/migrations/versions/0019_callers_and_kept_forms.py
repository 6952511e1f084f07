"""a message keeps the telephone number it came with and is found by it.

Forms typed while signed out are kept.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COLUMNS = ("phone", "search_words")
CUT = {"sqlite": "substr({text}, 1, {length})", "postgresql": "left({text}, {length})"}
JOINED = {"sqlite": "group_concat({}, ' ')", "postgresql": "string_agg({}, ' ')"}
WATCHED = (
    "ticket_id",
    "from_name",
    "from_email",
    "subject",
    "text",
)  # before; afterwards COLUMNS too
TRIGGER = "search_messages_update"
OF = "IN (old.ticket_id, new.ticket_id)"
GOING_ON = "current_setting('intake.words_paused', true) IS DISTINCT FROM 'on'"


def documents(dialect: str, columns: tuple[str, ...]) -> str:
    """The view of 0009 with more columns of a message in it."""
    cut, joined = CUT[dialect], JOINED[dialect]
    more = "".join(
        f" || ' ' || {cut.format(text=f'm.{column}', length=2_000)}" for column in columns
    )
    text = cut.format(text="m.text", length=10_000)
    message = f"m.from_name || ' ' || m.from_email{more} || ' ' || m.subject || ' ' || {text}"
    people = joined.format(
        "(SELECT k.name || ' ' || k.email FROM contacts k WHERE k.id = l.contact_id)"
    )
    words = (
        "t.id || ' ' || t.name || ' ' || t.subject || ' ' || coalesce(c.name, '') || ' ' ||"
        f" coalesce(c.number, '') || ' ' || coalesce((SELECT {people} FROM ticket_contacts l WHERE"
        f" l.ticket_id = t.id), '') || ' ' || coalesce((SELECT {joined.format('newest.said')} FROM"
        f" (SELECT {message} AS said FROM messages m WHERE m.ticket_id = t.id ORDER BY m.id DESC"
        " LIMIT 50) newest), '')"
    )
    return (
        "VIEW ticket_documents AS SELECT t.id AS ticket_id,"
        f" {cut.format(text=words, length=100_000)} AS words FROM tickets t LEFT JOIN companies c"
        " ON c.id = t.company_id"
    )


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("messages", sa.Column(column, sa.Text(), nullable=False, server_default=""))
    _indexed(COLUMNS)  # tickets of before are found as they were: their messages have neither
    op.create_table(
        "kept_forms",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_kept_forms")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_kept_forms_account_id_accounts")
        ),
    )
    op.create_index(op.f("ix_kept_forms_account_id"), "kept_forms", ["account_id"])
    op.create_index(op.f("ix_kept_forms_created_at"), "kept_forms", ["created_at"])


def downgrade() -> None:
    op.drop_table("kept_forms")
    _indexed(())
    for column in COLUMNS:
        op.drop_column("messages", column)


def _indexed(columns: tuple[str, ...]) -> None:
    """Have these columns among the words of a ticket, and a change of them be one of its words."""
    dialect = op.get_bind().dialect.name
    watched = (*WATCHED, *columns)
    if dialect == "sqlite":
        op.execute("DROP VIEW ticket_documents")
        op.execute(f"CREATE {documents(dialect, columns)}")
        changed = " OR ".join(f"old.{c} IS NOT new.{c}" for c in watched)
        op.execute(f"DROP TRIGGER {TRIGGER}")
        op.execute(
            f"CREATE TRIGGER {TRIGGER} AFTER UPDATE OF {', '.join(watched)} ON messages"
            f" WHEN NOT EXISTS (SELECT 1 FROM ticket_words_paused) AND ({changed}) BEGIN"
            f" DELETE FROM ticket_words WHERE rowid {OF};"
            " INSERT INTO ticket_words (rowid, words) SELECT ticket_id, words FROM ticket_documents"
            f" WHERE ticket_id {OF}; END"
        )
        return
    op.execute(f"CREATE OR REPLACE {documents(dialect, columns)}")
    changed = " OR ".join(f"old.{c} IS DISTINCT FROM new.{c}" for c in watched)
    op.execute(f"DROP TRIGGER {TRIGGER} ON messages")
    op.execute(
        f"CREATE CONSTRAINT TRIGGER {TRIGGER} AFTER UPDATE OF {', '.join(watched)} ON messages"
        " DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW WHEN (({changed}) AND {GOING_ON}) EXECUTE FUNCTION {TRIGGER}()"
    )
