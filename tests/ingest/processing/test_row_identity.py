"""Rows of exports over weeks: which are the same message, and which only have an id in common."""

import csv
import io
from collections.abc import Sequence
from itertools import count

import openpyxl
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format, InboundItem
from parsers.secure_message import workbook as secure_message_workbook
from tests.support.context import count_rows
from workflow.context import AppContext
from workflow.filing import threading
from workflow.filing.file_item import REUSED_ID_CAVEAT
from workflow.models.core import Company, Filing, Message, Ticket
from workflow.models.states import Outcome
from workflow.operations.ledger import compute_balance

Line = tuple[object, ...]
HEADINGS = ("Date Received", "Practice Name", "From", "Subject", "Message")
# date, practice, sender, subject, text
BIRCH = (
    "03/02/2026 08:15",
    "Birch Hill Clinic",
    "Rosa Dean",
    "Denial",
    "Claim 12 of our patient M. was denied.",
)
ELM = ("03/02/2026 11:40", "Elm Street Dental", "Paul Ware", "Portal", "The portal shows nothing.")
FERN = (
    "03/09/2026 09:00",
    "Fern Pediatrics",
    "Lea North",
    "Refund",
    "Refund for Mrs. T. is missing.",
)
BIRCH_AGAIN = (
    "03/09/2026 10:30",
    "Birch Hill Clinic",
    "Rosa Dean",
    "Upload",
    "The file of 03/06 has not come.",
)
LATER = (
    "03/16/2026 10:30",
    "Elm Street Dental",
    "Paul Ware",
    "Portal",
    "It works again, thank you.",
)

_offered = count(1)


def build_workbook(heading: str, *lines: Line) -> bytes:
    """A workbook with an id column of this heading before the others."""
    book = openpyxl.Workbook()
    for line in ((heading, *HEADINGS), *lines):
        book.worksheets[0].append([*line])
    out = io.BytesIO()
    book.properties.title = f"export {next(_offered)}"  # no two files are the same bytes
    book.save(out)
    return out.getvalue()


def build_text_table(heading: str, *lines: Line) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([(heading, *HEADINGS), *lines])
    return out.getvalue().encode()


def file_workbook(
    context: AppContext, raw: bytes, transport: Transport = Transport.FOLDER
) -> list[str]:
    """Have a file taken and filed; what has become of its rows."""
    arrival = Arrival(transport=transport, format=Format.SECURE_MESSAGE, raw=raw)
    number = Intake(context).accept(arrival)
    process_waiting(context)
    with context.store.read_only() as session:
        rows = select(Filing.outcome).where(Filing.delivery_id == number).order_by(Filing.position)
        return [str(outcome) for outcome in session.scalars(rows)]


def list_texts(context: AppContext) -> dict[str, list[list[str]]]:
    """The texts of every ticket, by its practice."""
    texts: dict[str, list[list[str]]] = {}
    with context.store.read_only() as session:
        for ticket in session.scalars(select(Ticket).order_by(Ticket.id)):
            name = ticket.company.name if ticket.company else ""
            texts.setdefault(name, []).append(
                [m.text for m in ticket.messages if m.direction == "in"]
            )
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up
    return texts


TWO_WEEKS = {
    "Birch Hill Clinic": [[BIRCH[4]], [BIRCH_AGAIN[4]]],
    "Elm Street Dental": [[ELM[4]]],
    "Fern Pediatrics": [[FERN[4]]],
}
ROUNDED = "1.23457E+15"
# heading, and the ids of each of two weeks
COUNTED = [
    ("Message #", [1, 2], [1, 2]),
    ("Message ID", [1, 2], [2, 1]),
    ("Message #", ["#1", "#2"], ["#1", "#2"]),
    ("Message No.", ["001", "002"], ["001", "002"]),
    ("Message Number", [1.0, 2.0], [1.0, 2.0]),
    ("ID", [1, 2], [1, 2]),
    ("Message ID", [ROUNDED, ROUNDED], [ROUNDED, ROUNDED]),
    ("Message ID", ["1,23457E+15", "1,23457E+15"], ["1,23457E+15", "1,23457E+15"]),
    ("Message ID", ["1234570000000000"] * 2, ["1234570000000000"] * 2),
    ("Message ID", [1234570000000000] * 2, [1234570000000000] * 2),
    ("Message ID", ["123457000000"] * 2, ["123457000000"] * 2),
    ("Message ID", ["12345678901234500"] * 2, ["12345678901234500"] * 2),
    ("Message ID", ["same", "same"], ["same", "same"]),
    ("Message ID", [4711, 4712], [4711, 4712]),
    ("Message ID", ["MSG-1", "MSG-2"], ["MSG-1", "MSG-2"]),
    ("Thread ID", [1, 2], [1, 2]),
    ("Conversation", [ROUNDED, ROUNDED], [ROUNDED, ROUNDED]),
    ("Thread ID", ["T-1", "T-2"], ["T-1", "T-2"]),
]


@pytest.mark.parametrize(("heading", "first", "second"), COUNTED, ids=lambda v: str(v)[:30])
def test_two_weeks_of_exports_never_meet_on_one_ticket(
    context: AppContext, heading: str, first: Sequence[object], second: Sequence[object]
) -> None:
    one, two = (
        [*zip(first, (BIRCH, ELM), strict=True)],
        [*zip(second, (FERN, BIRCH_AGAIN), strict=True)],
    )
    file_workbook(context, build_workbook(heading, *[(a, *b) for a, b in one]))
    file_workbook(context, build_workbook(heading, *[(a, *b) for a, b in two]))
    assert list_texts(context) == TWO_WEEKS


@pytest.mark.parametrize(("heading", "first", "second"), COUNTED, ids=lambda v: str(v)[:30])
def test_a_longer_export_with_last_weeks_rows_doubles_nothing(
    context: AppContext, heading: str, first: Sequence[object], second: Sequence[object]
) -> None:
    lines = [*zip([*first, *second], (BIRCH, ELM, FERN, BIRCH_AGAIN), strict=True)]
    file_workbook(context, build_workbook(heading, *[(a, *b) for a, b in lines[:2]]))
    whole = build_workbook(heading, *[(a, *b) for a, b in lines])
    assert file_workbook(context, whole) == ["duplicate", "duplicate", "opened", "opened"]
    assert list_texts(context) == TWO_WEEKS
    again = build_text_table(
        heading, *[(a, *b) for a, b in reversed(lines)]
    )  # the same rows, as text
    assert file_workbook(context, again, Transport.PIPE) == ["duplicate"] * 4
    assert list_texts(context) == TWO_WEEKS


@pytest.mark.parametrize("newest", ["first", "last"])
@pytest.mark.parametrize("number", ["{}", "MSG-{}", "{:05}"])
def test_a_counter_that_counts_anew_doubles_nothing(
    any_context: AppContext, newest: str, number: str
) -> None:
    lines = [BIRCH, ELM, FERN, BIRCH_AGAIN, LATER]
    for size in (4, 5):
        some = lines[:size] if newest == "last" else lines[:size][::-1]
        file_workbook(
            any_context,
            build_workbook(
                "Message ID", *[(number.format(n), *b) for n, b in enumerate(some, start=1)]
            ),
        )
    assert (
        count_rows(any_context, Ticket)
        == count_rows(any_context, Message, Message.direction == "in")
        == 5
    )


def test_the_same_rows_with_and_without_an_id_column_double_nothing(
    any_context: AppContext,
) -> None:
    file_workbook(any_context, build_workbook("Message ID", ("K-88", *BIRCH), ("K-91", *ELM)))
    assert file_workbook(any_context, build_workbook("Status", ("x", *BIRCH), ("y", *ELM))) == [
        "duplicate",
        "duplicate",
    ]
    assert file_workbook(any_context, build_workbook("Message ID", ("K-88", *BIRCH))) == [
        "duplicate"
    ]


def test_messages_of_the_same_words_are_distinguished_by_their_ids(any_context: AppContext) -> None:
    lines = [("K-88", *BIRCH), ("K-91", *BIRCH)]
    assert file_workbook(any_context, build_workbook("Message ID", *lines)) == ["opened", "opened"]
    assert file_workbook(
        any_context, build_workbook("Message ID", *lines[::-1], ("K-95", *BIRCH))
    ) == [
        "duplicate",
        "duplicate",
        "opened",
    ]


@pytest.mark.parametrize("column", [1, 2, 4], ids=["practice", "sender", "text"])
def test_a_known_id_with_something_else_is_a_ticket_of_its_own_that_says_so(
    any_context: AppContext, column: int
) -> None:
    file_workbook(any_context, build_workbook("Message ID", ("K-88", *BIRCH)))
    other = [*BIRCH]
    other[column] = "Something Else"
    assert file_workbook(any_context, build_workbook("Message ID", ("K-88", *other))) == ["opened"]
    with any_context.store.read_only() as session:
        first, second = session.scalars(select(Ticket).order_by(Ticket.id))
        assert REUSED_ID_CAVEAT not in first.caveats
        assert REUSED_ID_CAVEAT in second.caveats
    assert file_workbook(
        any_context, build_workbook("Message ID", ("K-88", *other), ("K-88", *BIRCH))
    ) == [
        "duplicate",
        "duplicate",
    ]


def test_what_identifies_nothing_still_stands_on_the_ticket(context: AppContext) -> None:
    file_workbook(context, build_workbook("Message #", (7, *BIRCH)))
    with context.store.read_only() as session:
        assert session.scalars(select(Message)).one().details == [["Message #", "7"]]


@pytest.mark.parametrize(
    "identifier",
    [
        "00088211",
        "88211",
        "1001",
        "KM-1",
        "1234567",
        "123456789012345",
        "1234567890123456",
        "A7F3",
        "12-7",
    ],
)
def test_what_looks_like_an_id_is_one(identifier: str) -> None:
    [item] = secure_message_workbook.parse(build_workbook("Message ID", (identifier, *BIRCH)))
    assert (item.external_id, item.unreliable_id) == (identifier, "")


# -- rows that an earlier release has filed ----


def restore_old_keys(context: AppContext, raw: bytes) -> None:
    """Give the messages of a file the keys and ids that releases before this one gave them."""
    with context.store.transaction() as session:
        for item in secure_message_workbook.parse(raw):
            keys = threading.build_keys(item)
            assert keys is not None
            name = item.unreliable_id or item.external_id
            message = _get_message(session, item)
            message.message_id = name
            message.external_id = f"{name}#{keys.legacy[0].rpartition('#')[2]}"
            message.ticket.origin = f"secure-message:{name}:{item.sender.key}"


def _get_message(session: Session, item: InboundItem) -> Message:
    return session.scalars(select(Message).where(Message.text == item.text)).one()


@pytest.mark.parametrize("ids", [(1, 2), ("K-88", "K-91"), ("1.5E+12", "7.1E+11")], ids=str)
def test_rows_of_an_earlier_release_are_known_again(
    any_context: AppContext, ids: tuple[object, object]
) -> None:
    first = build_workbook("Message ID", (ids[0], *BIRCH), (ids[1], *ELM))
    file_workbook(any_context, first)
    restore_old_keys(any_context, first)
    longer = build_workbook("Message ID", (ids[0], *BIRCH), (ids[1], *ELM), ("K-99", *FERN))
    assert file_workbook(any_context, longer) == ["duplicate", "duplicate", "opened"]


def test_a_row_that_an_earlier_release_took_for_anothers_gets_its_own_ticket(
    any_context: AppContext,
) -> None:
    lines = [(1, *BIRCH), (2, *ELM)]
    first = build_workbook("Message #", *lines)
    file_workbook(any_context, first)
    restore_old_keys(any_context, first)
    with (
        any_context.store.transaction() as session
    ):  # the text of one practice on the ticket of the other
        mine = select(Ticket.id).join(Company).where(Company.name == BIRCH[1]).scalar_subquery()
        session.execute(update(Message).where(Message.text == ELM[4]).values(ticket_id=mine))
    assert file_workbook(any_context, build_workbook("Message #", *lines, (3, *FERN))) == [
        "duplicate",
        "opened",
        "opened",
    ]
    with any_context.store.read_only() as session:
        again = session.scalars(select(Ticket).order_by(Ticket.id.desc())).all()[1]
        assert again.company is not None
        assert (again.company.name, [m.text for m in again.messages]) == (ELM[1], [ELM[4]])
        assert Outcome.APPENDED not in set(session.scalars(select(Filing.outcome)))
