"""lists of tickets without a sort, when a ticket is due.

And the words of tickets, kept by the database itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UNDONE = sa.text("done_at IS NULL")
INDEXES = {
    "ix_tickets_status": ["status", "id"],
    "ix_tickets_by_stage": ["status", "stage", "id"],
    "ix_tickets_by_door": ["status", "transport", "id"],
    "ix_tickets_by_company": ["company_id", "status", "id"],
    "ix_tickets_telemedicine": ["status", "telemedicine", "id"],
    "ix_tickets_due": ["status", "due_at", "id"],
}

# What is due when, by the rules of this version and in elapsed hours; the clock reckons anew when
# it starts.
SOON, LATE = (
    "NOT EXISTS (SELECT 1 FROM milestones m WHERE m.ticket_id = tickets.id AND m.period ="
    f" tickets.period AND m.milestone = '{milestone}')"
    for milestone in ("4-Support Follow Up Sent", "Resolution")
)
IN_DAYS = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', period_started_at, '+{} days') || '000'",
    "postgresql": "period_started_at + interval '{} days'",
}

# One row a ticket with all that is searched. What is cut keeps a row within what PostgreSQL can
# index (1 MB).
CUT = {
    "sqlite": "substr({text}, 1, {length})",
    "postgresql": "left({text}, {length})",
}
JOINED = {"sqlite": "group_concat({}, ' ')", "postgresql": "string_agg({}, ' ')"}


def documents(dialect: str) -> str:
    cut, joined = CUT[dialect], JOINED[dialect]
    text = cut.format(text="m.text", length=10_000)
    message = f"m.from_name || ' ' || m.from_email || ' ' || m.subject || ' ' || {text}"
    # Each looked up by itself: before PostgreSQL knows how many there are, it would read all
    # contacts for each ticket.
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
        "CREATE VIEW ticket_documents AS SELECT t.id AS ticket_id,"
        f" {cut.format(text=words, length=100_000)} AS words FROM tickets t LEFT JOIN companies c"
        " ON c.id = t.company_id"
    )


# Which changes of which table are of which tickets.
OF_COMPANY = "IN (SELECT id FROM tickets WHERE company_id = new.id)"
OF_CONTACT = "IN (SELECT ticket_id FROM ticket_contacts WHERE contact_id = new.id)"
# A ticket comes in with its first message, which none is without: then once, and not with each row
# that makes it.
CHANGES = (
    ("tickets", "UPDATE", ("name", "subject", "company_id"), "= new.id"),
    ("companies", "UPDATE", ("name", "number"), OF_COMPANY),
    ("contacts", "UPDATE", ("name", "email"), OF_CONTACT),
    ("ticket_contacts", "INSERT", (), "= new.ticket_id"),
    ("ticket_contacts", "UPDATE", ("ticket_id", "contact_id"), "IN (old.ticket_id, new.ticket_id)"),
    ("ticket_contacts", "DELETE", (), "= old.ticket_id"),
    ("messages", "INSERT", (), "= new.ticket_id"),
    (
        "messages",
        "UPDATE",
        ("ticket_id", "from_name", "from_email", "subject", "text"),
        "IN (old.ticket_id, new.ticket_id)",
    ),
    ("messages", "DELETE", (), "= old.ticket_id"),
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.add_column("tickets", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    soon, late = (IN_DAYS[dialect].format(days) for days in (2, 3))
    op.execute(
        f"UPDATE tickets SET due_at = CASE WHEN {SOON} THEN {soon} WHEN {LATE} THEN {late} END"
        " WHERE status = 'open'"
    )
    op.drop_index("ix_tickets_stage", table_name="tickets")
    op.drop_index("ix_tickets_company_id", table_name="tickets")
    for name, columns in INDEXES.items():
        op.create_index(name, "tickets", columns)
    op.create_index(
        "ix_tasks_undone",
        "tasks",
        ["kind", "ticket_id"],
        sqlite_where=UNDONE,
        postgresql_where=UNDONE,
    )
    op.execute(documents(dialect))
    if dialect == "sqlite":
        _sqlite()
    else:
        _postgres()


def _sqlite() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE ticket_words USING fts5(words, tokenize = 'unicode61"
        " remove_diacritics 2', prefix = '3')"
    )
    op.execute(
        "INSERT INTO ticket_words (rowid, words) SELECT ticket_id, words FROM ticket_documents"
    )
    op.execute(
        "CREATE TABLE ticket_words_paused (one INTEGER PRIMARY KEY)"
    )  # while many rows are written at once
    for table, event, columns, of in CHANGES:
        when = f" OF {', '.join(columns)}" if columns else ""
        changed = " OR ".join(f"old.{c} IS NOT new.{c}" for c in columns) or "true"
        if (table, event) == ("ticket_contacts", "INSERT"):
            changed = "EXISTS (SELECT 1 FROM ticket_words WHERE rowid = new.ticket_id)"
        op.execute(
            f"CREATE TRIGGER search_{table}_{event.lower()} AFTER {event}{when} ON {table} WHEN NOT"
            f" EXISTS (SELECT 1 FROM ticket_words_paused) AND ({changed}) BEGIN DELETE FROM"
            f" ticket_words WHERE rowid {of}; INSERT INTO ticket_words (rowid, words) SELECT"
            f" ticket_id, words FROM ticket_documents WHERE ticket_id {of}; END"
        )
    op.execute(
        "CREATE TRIGGER search_tickets_delete AFTER DELETE ON tickets BEGIN"
        " DELETE FROM ticket_words WHERE rowid = old.id; END"
    )


# Letters without their marks, and no sign that would make PostgreSQL's parser see an address or a
# number with a point.
SIGNS = r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""
DASHES = "\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u00b7\u00ab\u00bb"
BARE, SPACES = SIGNS + DASHES, " " * len(SIGNS + DASHES)
MARKLESS = r"normalize(regexp_replace(normalize(said, NFKD), '[\u0300-\u036f]+', '', 'g'), NFC)"
# Most texts have no letter with a mark once the dash of every ticket's name is out of the way: they
# need no more.
FOLD = f"""
CREATE FUNCTION search_folded(said text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN octet_length(bare) = char_length(bare) THEN bare
    ELSE translate({MARKLESS}, $signs${BARE}$signs$, '{SPACES}') END
FROM (SELECT translate(said, $signs${BARE}$signs$, '{SPACES}') AS bare) AS told
$$
"""
INDEXED = "SELECT ticket_id, to_tsvector('simple', search_folded(words)) FROM ticket_documents"
# else many rows are being written
GOING_ON = "current_setting('intake.words_paused', true) IS DISTINCT FROM 'on'"
# At the end of a transaction and once in it, whatever it has changed of a ticket: the row is this
# transaction's then. Waiting for another that ends at the same time comes first: what it has added
# must be seen by what is read after. A plan made while the tables are small is kept as long as the
# connection: it must not be one that reads them whole.
KEEP = f"""
CREATE FUNCTION search_keep(wanted integer) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE done boolean;
BEGIN
    SELECT xmin = pg_current_xact_id()::xid INTO done
    FROM ticket_words WHERE ticket_id = wanted FOR UPDATE;
    IF done THEN
        RETURN;
    END IF;
    INSERT INTO ticket_words {INDEXED} WHERE ticket_id = wanted
    ON CONFLICT (ticket_id) DO UPDATE SET words = excluded.words;
END
$$
"""
# Always by the index, whatever is guessed: for a rare word a plan that reads every ticket is a
# second.
FEW = """
CREATE FUNCTION search_few(asked tsquery, most integer) RETURNS SETOF integer LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
SELECT ticket_id FROM ticket_words WHERE words @@ asked LIMIT most
$$
"""


def _postgres() -> None:
    op.create_table(
        "ticket_words",
        sa.Column("ticket_id", sa.Integer(), nullable=False),
        sa.Column("words", sa.dialects.postgresql.TSVECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_ticket_words")),
        sa.ForeignKeyConstraint(
            ["ticket_id"],
            ["tickets.id"],
            name=op.f("fk_ticket_words_ticket_id_tickets"),
            ondelete="CASCADE",
        ),
    )
    op.execute(FOLD)
    op.execute(f"INSERT INTO ticket_words {INDEXED}")
    op.create_index("ix_ticket_words_words", "ticket_words", ["words"], postgresql_using="gin")
    op.execute(KEEP)
    op.execute(FEW)
    for table, event, columns, of in CHANGES:
        name = f"search_{table}_{event.lower()}"
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" PERFORM search_keep(id) FROM tickets WHERE id {of} ORDER BY id; RETURN NULL; END $$"
        )
        when = f" OF {', '.join(columns)}" if columns else ""
        changed = " OR ".join(f"old.{c} IS DISTINCT FROM new.{c}" for c in columns) or "true"
        op.execute(
            f"CREATE CONSTRAINT TRIGGER {name} AFTER {event}{when} ON {table} DEFERRABLE INITIALLY"
            f" DEFERRED FOR EACH ROW WHEN (({changed}) AND {GOING_ON}) EXECUTE FUNCTION {name}()"
        )


def downgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    for table, event in [*((c[0], c[1]) for c in CHANGES), ("tickets", "DELETE")]:
        name = f"search_{table}_{event.lower()}"
        op.execute(f"DROP TRIGGER IF EXISTS {name}{f' ON {table}' if postgres else ''}")
        if postgres:
            op.execute(f"DROP FUNCTION IF EXISTS {name}()")
    if postgres:
        op.execute("DROP FUNCTION search_keep(integer)")
        op.execute("DROP FUNCTION search_few(tsquery, integer)")
    else:
        op.drop_table("ticket_words_paused")
    op.drop_table("ticket_words")
    op.execute("DROP VIEW ticket_documents")
    if postgres:
        op.execute("DROP FUNCTION search_folded(text)")
    op.drop_index("ix_tasks_undone", table_name="tasks")
    for name in INDEXES:
        op.drop_index(name, table_name="tickets")
    op.create_index("ix_tickets_stage", "tickets", ["stage"])
    op.create_index("ix_tickets_company_id", "tickets", ["company_id"])
    op.drop_column("tickets", "due_at")
