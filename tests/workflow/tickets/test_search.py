"""Search finds the tickets that hold the words, also after they changed.

No input is an error.
"""

from typing import Any

import pytest
from sqlalchemy import delete, select, text

from parsers.item import Address, Format
from tests.support.context import (
    create_company,
    get_contact,
    make_mail,
    make_row,
    open_ticket,
    run_in_threads,
)
from workflow.context import AppContext
from workflow.models.core import Company, Contact, Filing, Message, Ticket, TicketContact
from workflow.tickets import search, views


def find_tickets(context: AppContext, words: str, **more: Any) -> list[int]:
    asked = views.TicketQuery("all", words=words, **more)
    with context.store.read_only() as session:
        return [
            t.id for t in views.load_page(session, asked, actor="", now=context.clock()).tickets
        ]


@pytest.mark.parametrize(
    "words",
    ["denied", "DENI", "claim denied", '"claim was denied"', "practice.example",
     "ann@practice.example", "Ann", "jos", "josé", "den ann", "o'brien", "4711"],
)  # fmt: skip
def test_a_ticket_is_found_by_subject_text_and_contact(any_context: AppContext, words: str) -> None:
    open_ticket(
        any_context,
        make_mail("nothing", subject="another thing", sender=Address("Bo", "bo@else.example")),
    )
    number = open_ticket(
        any_context, make_mail("The claim was denied for José O'Brien, no. 4711-2")
    )
    assert find_tickets(any_context, words) == [number]


@pytest.mark.parametrize("words", ['"denied claim"', "denied sunrise", "enied", "anna"])
def test_what_is_not_there_in_this_order_is_not_found(any_context: AppContext, words: str) -> None:
    open_ticket(any_context, make_mail("The claim was denied"))
    assert find_tickets(any_context, words) == []


@pytest.mark.parametrize(
    "words",
    ['"', "'", "\\", "*", "a* OR", 'NEAR("', "a & | !b", "(", "words:x", "-", "%", "\x00", "a\x00b",
     "<->", "é" * 500, "AND", "NOT denied", "^x", "{}", "a:*b", "\N{FIRE}", "x" * 5000,
     "' ; DROP TABLE tickets; --", " ", ""],
)  # fmt: skip
def test_nothing_that_is_typed_is_an_error(any_context: AppContext, words: str) -> None:
    open_ticket(any_context)
    find_tickets(any_context, words)


def test_what_a_ticket_is_found_by_follows_every_change(any_context: AppContext) -> None:
    number = open_ticket(any_context, make_row("please help"))
    assert find_tickets(any_context, "sunrise") == [number]
    with any_context.store.transaction() as session:
        session.get_one(Company, 1).name = "Moonlight Clinic"
    assert (
        find_tickets(any_context, "sunrise family"),
        find_tickets(any_context, "moonlight"),
    ) == (
        [number],
        [number],
    )  # its own name
    with any_context.store.transaction() as session:
        session.get_one(Ticket, number).name = "Support"
        session.scalars(select(Message)).one().text = "thank you"
    assert (find_tickets(any_context, "sunrise"), find_tickets(any_context, "help")) == ([], [])
    assert find_tickets(any_context, "thank moonlight") == [number]
    with any_context.store.transaction() as session:
        session.get_one(Ticket, number).company = create_company(session, "Third Practice")
        session.execute(delete(Filing))
        session.execute(delete(Message))
    assert (
        find_tickets(any_context, "moonlight"),
        find_tickets(any_context, "thank"),
        find_tickets(any_context, "third"),
    ) == ([], [], [number])


def test_contacts_come_go_and_change_their_names(any_context: AppContext) -> None:
    number = open_ticket(any_context)
    with any_context.store.transaction() as session:
        session.get_one(
            Contact, get_contact(any_context, "ann@practice.example").id
        ).name = "Zoe Other"
    assert find_tickets(any_context, "zoe") == [number]
    with any_context.store.transaction() as session:
        session.execute(delete(TicketContact))
    assert find_tickets(any_context, "zoe") == []


def test_a_ticket_that_is_gone_is_not_found(any_context: AppContext) -> None:
    number = open_ticket(any_context)
    with any_context.store.transaction() as session:
        for table in (
            "milestones",
            "audit",
            "tasks",
            "outbox",
            "filings",
            "messages",
            "ticket_contacts",
        ):
            session.execute(text(f"DELETE FROM {table}"))  # noqa: S608  # names from above
        session.execute(delete(Ticket))
    with any_context.store.read_only() as session:
        assert session.scalar(text("SELECT count(*) FROM ticket_words")) == 0
    assert find_tickets(any_context, str(number)) == []


def test_very_long_and_very_many_messages_are_taken(any_context: AppContext) -> None:
    number = open_ticket(any_context, make_mail(" ".join(f"w{n}" for n in range(30_000))))
    with any_context.store.transaction() as session:
        for n in range(60):
            message = make_mail(f"next{n} " + "\N{GREEK SMALL LETTER OMEGA}x " * 3000)
            session.add(
                Message(
                    ticket_id=number,
                    direction="in",
                    format=message.format,
                    text=message.text,
                    at=any_context.clock(),
                )
            )
    assert find_tickets(any_context, "next59 ann") == [number]


def test_few_and_many_are_found_alike(
    postgres_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [open_ticket(postgres_context, make_mail(f"denied {n}")) for n in range(4)]
    for few, often, sample, many in (
        (1000, 0.1, 2, True),
        (1000, 2, 1000, False),
        (3, 2, 1000, True),
    ):
        monkeypatch.setattr(search, "FEW", few)
        monkeypatch.setattr(search, "OFTEN", often)
        monkeypatch.setattr(search, "SAMPLE", sample)
        assert find_tickets(postgres_context, "denied") == numbers[::-1]
        assert find_tickets(postgres_context, "nowhere") == []
        with postgres_context.store.read_only() as session:
            asked = views.TicketQuery("all", words="denied")
            assert (
                views.count_tickets(session, asked, actor="", now=postgres_context.clock()).number
                == 4
            )
            assert search.has_too_many_hits(session, "denied") is many
            assert not search.has_too_many_hits(session, "nowhere")


def test_two_messages_at_the_same_time_are_both_found(postgres_context: AppContext) -> None:
    number = open_ticket(postgres_context)

    def add(word: str) -> None:
        with postgres_context.store.transaction() as session:
            message = Message(
                ticket_id=number,
                direction="in",
                format=Format.MAIL,
                text=word,
                at=postgres_context.clock(),
            )
            session.add(message)

    for n in range(10):
        assert run_in_threads(*(lambda w=w: add(w) for w in (f"left{n}", f"right{n}"))) == []
        assert find_tickets(postgres_context, f"left{n} right{n}") == [number]


@pytest.mark.parametrize(
    ("query", "number"),
    [("123", 123), ("#123", 123), (" # 7 ", 7), ("12a", None), ("", None), ("1234567890", None),
     ("²", None), ("\N{ARABIC-INDIC DIGIT THREE}", None), ("1 2", None)],
)  # fmt: skip
def test_a_ticket_number_is_recognised_in_a_query(query: str, number: int | None) -> None:
    assert search.parse_ticket_number(query) == number


def test_a_snippet_shows_what_was_found_between_what_stands_around(any_context: AppContext) -> None:
    number = open_ticket(
        any_context, make_mail("x " * 200 + "the claim was denied again. " + "y " * 200)
    )
    with any_context.store.read_only() as session:
        (pieces,) = search.list_snippets(session, [number], search.parse_phrases("deni")).values()
    assert [p.text for p in pieces if p.is_hit] == ["denied"]
    whole = "".join(p.text for p in pieces)
    assert "the claim was denied again" in whole
    assert (whole[0], whole[-1], len(whole) < 300) == ("…", "…", True)


@pytest.mark.parametrize("kind", ["trigger", "view"])
def test_no_migration_has_taken_away_what_keeps_the_words(
    any_context: AppContext, kind: str
) -> None:
    """On SQLite a table that Alembic copies loses its triggers.

    Such a migration has to make them anew.
    """
    by_database = {
        (
            "sqlite",
            "trigger",
        ): "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'search%'",
        ("postgresql", "trigger"): "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'search%'",
        ("sqlite", "view"): "SELECT count(*) FROM sqlite_master WHERE name = 'ticket_documents'",
        ("postgresql", "view"): "SELECT count(*) FROM pg_views WHERE viewname = 'ticket_documents'",
    }
    with any_context.store.read_only() as session:
        dialect = session.get_bind().dialect.name
        many = {("sqlite", "trigger"): 10, ("postgresql", "trigger"): 9}
        assert session.scalar(text(by_database[dialect, kind])) == many.get((dialect, kind), 1)
