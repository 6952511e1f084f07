"""Benchmark of each list of the desk with very many tickets.

Whole pages, signed in, as a browser asks for them.

    python benchmarks/views.py [TICKETS ON SQLITE] [TICKETS ON POSTGRESQL]

By default 100,000 and 1,000,000; 0 leaves a database out. Exit 1 where the median of a list is 100
ms or more. Also what the triggers of the search cost whoever files tickets.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from benchmarks.support.results import Figure, record
from parsers.item import Format
from tests.support.servers import Postgres
from tests.support.signed_in_client import sign_in_at_desk
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.models.core import (
    AuditEntry,
    Company,
    Contact,
    Message,
    Staff,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
)
from workflow.models.states import Role, Status
from workflow.process import STEPS, Milestone, Stage
from workflow.runtime import log
from workflow.settings.settings import load_settings

LIMIT = 0.1  # seconds, at the median
LIMITS = {"dashboard": 0.3, "dashboard, a quarter": 0.3}
ROUNDS = 15
CHUNK = 10_000
NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
OPEN, UNOWNED, ESCALATED = 0.05, 0.4, 0.1  # of all tickets; of the open ones; of those owned
COMPANIES, STAFF = 2000, 40
CHANNELS = ("smtp", "smtp", "smtp", "imap", "formstack", "folder", "console")
_SOUNDS = [c + v for c in "bcdfgklmnprstv" for v in "aeiou"]
WORDS = ["".join(random.Random(n).choices(_SOUNDS, k=2 + n % 3)) for n in range(5000)]
PAGES = {
    "unassigned": "/",
    "mine": "/?view=mine",
    "all open": "/?view=open",
    "all open, due first": "/?view=open&sort=due",
    "all open, page 20": "/?view=open&page=20",
    "overdue": "/?view=overdue",
    "escalated": "/?view=escalated",
    **{
        f"at {s.stage}": f"/?view={s.stage.lower().replace(' ', '-')}" for s in STEPS if s.waits_for
    },
    "completed": "/?view=completed",
    "spam": "/?view=spam",
    "completed, of a company": "/?view=completed&company=practice+77",
    "open, of a company": "/?view=open&company=practice+77",
    "completed, by a channel": "/?view=completed&door=folder",
    "completed, by a channel nobody uses": "/?view=completed&door=lmtp",
    "completed, of a consultant": "/?view=completed&owner=7",
    "completed, telemedicine": "/?view=completed&telemedicine=1",
    "search: a rare word": "/search?q=claim4711",
    "search: a common word": f"/search?q={WORDS[0]}",
    "search: two letters": f"/search?q={WORDS[0][:2]}",
    "search: three letters": f"/search?q={WORDS[1][:3]}",
    "search: two words": f"/search?q={WORDS[12]}+{WORDS[40]}",
    "search: a common and a rare word": f"/search?q={WORDS[0]}+claim4711",
    "search: a company": "/search?q=practice+77",
    "search: an address": "/search?q=pat77%40clinic.example",
    "search: words in quotes": f"/search?q=%22{WORDS[2]}+{WORDS[3]}%22",
    "search among the open": f"/search?q={WORDS[40]}&view=open",
    "a common word among the open": f"/search?q={WORDS[0]}&view=open",
    "search: nothing": "/search?q=nosuchword",
    "news": "/queue/news?view=unassigned",
    "ticket": "/tickets/1711",
    "answer": "/tickets/1711/answer",
    "dashboard": "/dashboard",
    "dashboard, a quarter": "/dashboard?days=91",
    "companies": "/companies",
    "companies, by name": "/companies?q=practice+77",
    "company": "/companies/77",
    "contact": "/contacts/77",
    "senders": "/senders",
    "tasks": "/tasks",
    "automated mail": "/automated",
    "operations": "/operations",
    "deliveries": "/operations/deliveries",
    "outbox": "/operations/outbox",
    "audit log": "/operations/audit",
    "audit log, of a ticket": "/operations/audit?ticket=1711",
    "next week": "/operations/next-week",
    "metrics": "/metrics",
}


def make_texts(dice: random.Random) -> list[str]:
    """Texts of forty words, the first of which are in most of them and the last in few."""
    weights = [1 / (n + 1) for n in range(len(WORDS))]
    return [" ".join(dice.choices(WORDS, weights, k=40)) for _ in range(2000)]


def make_ticket(number: int, dice: random.Random) -> dict[str, Any]:
    is_open = dice.random() < OPEN
    age = timedelta(hours=dice.randrange(96)) if is_open else timedelta(days=dice.randrange(4, 700))
    owned = not is_open or dice.random() > UNOWNED
    ended = dice.choices([Status.COMPLETED, Status.SPAM, Status.WITHDRAWN], [97, 2, 1])[0]
    stage = dice.choice([s.stage for s in STEPS if s.waits_for]) if is_open else Stage.COMPLETED
    company = dice.randrange(1, COMPANIES + 1)
    return {
        "id": number,
        "name": f"Support \N{EN DASH} Practice {company}",
        "subject": f"about claim{number}",
        "pipeline": "p",
        "type": "Billing Issue",
        "stage": stage,
        "status": Status.OPEN if is_open else ended,
        "owner_id": dice.randrange(1, STAFF + 1) if owned else None,
        "company_id": company,
        "transport": dice.choice(CHANNELS),
        "format": Format.MAIL,
        "automated": False,
        "link": "",
        "thread_id": "",
        "telemedicine": dice.random() < 0.02,
        "caveats": [],
        "created_at": NOW - age,
        "period": 1,
        "period_started_at": NOW - age,
        "due_at": NOW - age + timedelta(days=2) if is_open else None,
    }


def make_task(of: dict[str, Any]) -> dict[str, Any]:
    return {
        "ticket_id": of["id"],
        "period": 1,
        "kind": "deadline:RESOLVED",
        "text": "escalate",
        "assignee": "Sam",
        "follows_owner": False,
        "cause": "late",
        "created_at": NOW,
    }


def make_milestones(of: dict[str, Any], dice: random.Random) -> list[dict[str, Any]]:
    """Return the milestones of a ticket: all three of a completed one."""
    reached = [Milestone.CUSTOMER_NOTIFIED]
    if of["stage"] is Stage.COMPLETED:
        reached += [Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED]
    return [
        {
            "ticket_id": of["id"],
            "period": 1,
            "milestone": milestone,
            "at": of["created_at"] + timedelta(hours=dice.randrange(1, 72)),
            "by": "Agent 1",
            "note": "",
        }
        for milestone in reached
    ]


def make_message(of: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "ticket_id": of["id"],
        "direction": "in",
        "format": Format.MAIL,
        "message_id": "",
        "from_name": "",
        "from_email": "",
        "subject": of["subject"],
        "text": text,
        "reply_text": "",
        "html": "",
        "details": [],
        "at": NOW,
        "caveats": [],
    }


def add_people(session: Session) -> None:
    staff = [
        {"name": f"Agent {n}", "email": "", "role": Role.AGENT, "created_at": NOW}
        for n in range(1, STAFF + 1)
    ]
    session.execute(insert(Staff), staff)
    numbers = range(1, COMPANIES + 1)
    session.execute(
        insert(Company),
        [{"name": f"Practice {n}", "key": f"practice {n}", "created_at": NOW} for n in numbers],
    )
    contacts = [
        {
            "email": f"pat{n}@clinic.example",
            "name": f"Pat {n}",
            "phone": "",
            "company_id": n if n % 20 else None,
            "created_at": NOW,
        }
        for n in numbers
    ]
    session.execute(insert(Contact), contacts)


def make_chunks(first: int, count: int) -> Iterator[dict[Any, list[dict[str, Any]]]]:
    """Rows by table, so many tickets at a time; the same ones in every run."""
    dice = random.Random(first)
    bodies = make_texts(dice)
    for start in range(first, first + count, CHUNK):
        tickets = [make_ticket(n, dice) for n in range(start, min(start + CHUNK, first + count))]
        late = [
            t
            for t in tickets
            if dice.random() < (ESCALATED if t["status"] is Status.OPEN else 0.01)
        ]
        links = [
            {"ticket_id": t["id"], "contact_id": t["company_id"], "share_activity": True}
            for t in tickets
        ]
        yield {
            Ticket: tickets,
            TicketContact: links,
            Message: [make_message(t, dice.choice(bodies)) for t in tickets],
            TicketMilestone: [row for t in tickets for row in make_milestones(t, dice)],
            AuditEntry: [
                {
                    "at": t["created_at"],
                    "actor": "rule",
                    "cause": "",
                    "action": "opened",
                    "ticket_id": t["id"],
                    "detail": {},
                }
                for t in tickets
            ],
            Task: [make_task(t) for t in late],
        }


def add_tickets(context: AppContext, first: int, count: int) -> float:
    """File tickets in statements of many rows; seconds."""
    elapsed = 0.0
    for rows in make_chunks(first, count):
        began = time.perf_counter()
        with context.store.transaction() as session:
            for model, values in rows.items():
                session.connection().execute(insert(model.__table__), values)
        elapsed += time.perf_counter() - began
    return elapsed


def without_triggers(context: AppContext, work: Callable[[], object]) -> None:
    """Do work that the words of tickets do not follow, and have them follow at once at the end."""
    postgres = context.store.engine.dialect.name == "postgresql"
    with context.store.engine.connect() as connection:
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'search%'"
        kept = [] if postgres else connection.execute(text(found)).all()
    tables = ("tickets", "ticket_contacts", "messages")
    off = (
        [f"ALTER TABLE {t} DISABLE TRIGGER USER" for t in tables]
        if postgres
        else [f"DROP TRIGGER {n}" for n, _ in kept]
    )
    on = (
        [f"ALTER TABLE {t} ENABLE TRIGGER USER" for t in tables]
        if postgres
        else [sql for _, sql in kept]
    )
    run_statements(context, *off)
    work()
    words = (
        "INSERT INTO ticket_words SELECT ticket_id, to_tsvector('simple', search_folded(words))"
        " FROM ticket_documents"
        if postgres
        else "INSERT INTO ticket_words (rowid, words) SELECT ticket_id, words FROM ticket_documents"
    )
    missing = (
        "ticket_id NOT IN (SELECT ticket_id FROM ticket_words)" if postgres else "ticket_id > 0"
    )
    before = "DROP INDEX ix_ticket_words_words" if postgres else "DELETE FROM ticket_words"
    after = (
        ["CREATE INDEX ix_ticket_words_words ON ticket_words USING gin (words)"] if postgres else []
    )
    run_statements(context, before, f"{words} WHERE {missing}", *after, *on)


def run_statements(context: AppContext, *statements: str) -> None:
    with context.store.engine.execution_options(statement_seconds=None).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def measure(context: AppContext, name: str, count: int) -> bool:
    """Fill a database, ask for each list, print how long it took. Whether all were quick enough."""
    with context.store.transaction() as session:
        add_people(session)
    tried = min(count, 10_000)
    bare: list[float] = []
    without_triggers(context, lambda: bare.append(add_tickets(context, 1, tried)))
    followed = add_tickets(context, 1 + tried, tried)
    cost = (followed - bare[0]) / tried * 1e6
    Console().print(
        f"{name}: filing {tried / bare[0]:,.0f} tickets/s without the search's triggers, "
        f"{tried / followed:,.0f} with them: {cost:,.0f} \N{MICRO SIGN}s a ticket"
    )
    without_triggers(context, lambda: add_tickets(context, 1 + 2 * tried, count - 2 * tried))
    postgres = context.store.engine.dialect.name == "postgresql"
    with context.store.engine.execution_options(
        statement_seconds=None, isolation_level="AUTOCOMMIT"
    ).connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if postgres else "ANALYZE")
    return measure_pages(context, f"{name}, {count:,} tickets")


def measure_pages(context: AppContext, title: str) -> bool:
    desk = sign_in_at_desk(context, Role.LEAD, "Agent Zero")
    with context.store.transaction() as session:  # as much as somebody can own
        run_mine = text(
            "UPDATE tickets SET owner_id = (SELECT max(id) FROM staff) WHERE owner_id = 3 AND"
            " status = 'open'"
        )
        session.execute(run_mine)
    table = Table("list", "median, ms", "slowest, ms", "KB", title=title)
    quick = True
    medians = {}
    for name, path in PAGES.items():
        took, size = [], 0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = desk.get(path)
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, (path, answer.status_code)
            size = len(answer.data)
        median = statistics.median(took)
        limit = LIMITS.get(name, LIMIT)
        quick &= median < limit
        medians[name] = 1000 * median
        table.add_row(
            name,
            f"{median * 1e3:.0f}",
            f"{max(took) * 1e3:.0f}",
            f"{size / 1000:.0f}",
            style="" if median < limit else "red",
        )
    Console().print(table)
    slowest = max((name for name in medians if name not in LIMITS), key=medians.__getitem__)
    record(
        f"views, {title.partition(',')[0]}",
        [
            Figure(f"{title}: {slowest}", "", medians[slowest], "ms", 100, is_ceiling=True),
            Figure(f"{title}: dashboard", "", medians["dashboard"], "ms", 300, is_ceiling=True),
        ],
    )
    return quick


def measure_database(url: str, name: str, count: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        migrate(url)
        context = open_context(
            load_settings(home=Path(folder), database_url=url, log_json=False), clock=lambda: NOW
        )
        log.disable()
        try:
            return measure(context, name, count)
        finally:
            context.close()


def main() -> int:
    sqlite, postgres = (
        int(sys.argv[n]) if len(sys.argv) > n else many
        for n, many in ((1, 100_000), (2, 1_000_000))
    )
    quick = True
    if sqlite:
        with tempfile.TemporaryDirectory() as folder:
            quick &= measure_database(f"sqlite:///{folder}/views.db", "SQLite", sqlite)
    if postgres:
        server = Postgres()
        try:
            server.run("CREATE DATABASE views")
            quick &= measure_database(server.build_url("views"), "PostgreSQL", postgres)
        finally:
            server.stop()
    return 0 if quick else 1


if __name__ == "__main__":
    sys.exit(main())
