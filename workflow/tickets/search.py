"""Full-text search over tickets: parses what people type, and writes a query for each database.

Any text is a valid search.

The database itself keeps one row of words a ticket, by triggers (migration "views and search"):
number, name, subject, company, contacts and messages. Words are found by how they begin, "in
quotes" in this order; marks and case do not matter. A telephone number is found however it is
written (phone_numbers.py).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Text,
    any_,
    bindparam,
    cast,
    column,
    false,
    func,
    literal,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSVECTOR
from sqlalchemy.orm import Session

from workflow.customers import phone_numbers
from workflow.models.core import Ticket

MOST_WORDS, LONGEST_WORD = 12, 60
SHORTEST_BEGINNING = 3  # characters; half the tickets have a word that begins with "a"
# Keys of `session.info`: conditions by tsquery, and the tsqueries that have many hits.
CONDITIONS_KEY, FREQUENT_KEY = "search", "search many"
# On PostgreSQL a search looks at the newest SAMPLE tickets first. Hits in more than the share OFTEN
# of them mean many hits; FEW is the largest number that is not many.
SAMPLE = 1000
OFTEN = 0.1
FEW = 1000
AROUND = 60  # characters of a snippet on each side of what was found
_WORD = re.compile(r"[^\W_]+")
_PART = re.compile(r'"([^"]*)"?|([^"]+)')
_NUMBER = re.compile(r"\s*#?\s*(\d{1,9})\s*")
_words_table = table("ticket_words", column("ticket_id", Integer), column("words", TSVECTOR))
_fts_table = table("ticket_words", column("rowid", Integer), column("ticket_words", Text))
_documents_table = table("ticket_documents", column("ticket_id", Integer), column("words", Text))

_INDEX_POSTGRES = text(
    "INSERT INTO ticket_words SELECT ticket_id, to_tsvector('simple', search_folded(words)) FROM"
    " ticket_documents WHERE ticket_id = ANY(:numbers)"
)
_KEEP_POSTGRES = text("SELECT search_keep(id) FROM tickets WHERE id = ANY(:numbers) ORDER BY id")
_PAUSE = {  # and to go on; for this transaction only
    "sqlite": (
        "INSERT INTO ticket_words_paused (one) VALUES (1)",
        "DELETE FROM ticket_words_paused",
    ),
    "postgresql": (
        "SELECT set_config('intake.words_paused', 'on', true)",
        "SELECT set_config('intake.words_paused', 'off', true)",
    ),
}
_NUMBERS: BindParameter[int] = bindparam("numbers", expanding=True)
_FORGET_SQLITE = text("DELETE FROM ticket_words WHERE rowid IN :numbers").bindparams(_NUMBERS)
_INDEX_SQLITE = text(
    "INSERT INTO ticket_words (rowid, words) SELECT ticket_id, words FROM ticket_documents WHERE"
    " ticket_id IN :numbers"
).bindparams(_NUMBERS)


def is_index_table(table_name: str) -> bool:
    """Return whether a table is one of the search index, made by a migration and not by a model."""
    return table_name.startswith(("ticket_words", "ticket_documents"))


@dataclass(frozen=True)
class Phrase:
    """Words that follow one another; the last may be only how a word begins.

    Of a telephone number `numbers` are other words, each of which is as good as the whole phrase.
    """

    words: tuple[str, ...]
    is_prefix: bool
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a snippet, and whether it is what was looked for."""

    text: str
    is_hit: bool


def parse_ticket_number(search_text: str) -> int | None:
    """Return the ticket number typed as `123` or `#123`; None for anything else."""
    match = _NUMBER.fullmatch(search_text)
    return int(match[1]) if match and match[1].isascii() else None


def parse_phrases(search_text: str) -> list[Phrase]:
    """Parse what somebody typed into phrases, MOST_WORDS at most.

    Quotes keep words together; every other sign separates words, as in what is searched.
    """
    phrases: list[Phrase] = []
    for quotation, plain_text in _PART.findall(search_text):
        phrases += _parse_quotation(quotation) if quotation else _parse_plain_text(plain_text)
    return phrases[:MOST_WORDS]


def _parse_quotation(text: str) -> list[Phrase]:
    numbers = phone_numbers.find_numbers(text)
    if numbers == [text.strip()]:
        return _make_number_phrases(text)
    return _make_phrases(text, is_prefix=False)


def _parse_plain_text(text: str) -> list[Phrase]:
    """Return the phrases outside quotes: telephone numbers whole, the rest word by word."""
    phrases: list[Phrase] = []
    at = 0
    for begin, end in phone_numbers.find_spans(text):
        phrases += [
            phrase
            for part in text[at:begin].split()
            for phrase in _make_phrases(part, is_prefix=True)
        ]
        phrases += _make_number_phrases(text[begin:end])
        at = end
    return phrases + [
        phrase for part in text[at:].split() for phrase in _make_phrases(part, is_prefix=True)
    ]


def _make_phrases(text: str, *, is_prefix: bool, numbers: Iterable[str] = ()) -> list[Phrase]:
    words = tuple(w[:LONGEST_WORD] for w in _WORD.findall(fold_words(text)))
    if not words:
        return []
    return [
        Phrase(
            words,
            is_prefix=is_prefix and len(words[-1]) >= SHORTEST_BEGINNING,
            numbers=tuple(numbers),
        )
    ]


def _make_number_phrases(text: str) -> list[Phrase]:
    return _make_phrases(text, is_prefix=True, numbers=phone_numbers.list_search_forms(text))


def fold_words(text: str) -> str:
    """Return a text in lower case and without accents: José is found by jose."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare).lower()


def build_condition(session: Session, search_text: str) -> ColumnElement[bool]:
    """Return the condition that a ticket has all phrases in it; false where there is none."""
    phrases = parse_phrases(search_text)
    if not phrases:
        return false()
    if session.get_bind().dialect.name == "postgresql":
        return _build_postgres_condition(session, _write_tsquery(phrases))
    # As a list of numbers: joined, SQLite may ask the index anew for each ticket.
    return Ticket.id.in_(
        select(_fts_table.c.rowid).where(
            _fts_table.c.ticket_words.bool_op("MATCH")(_write_fts_query(phrases))
        )
    )


def _build_postgres_condition(session: Session, tsquery: str) -> ColumnElement[bool]:
    """Return the condition for a tsquery: few tickets by their numbers, many by the index.

    With many hits PostgreSQL reads the newest tickets until a page is full. It cannot tell the two
    cases apart itself: it takes a prefix for frequent, and would read every ticket for a word that
    nobody has ever written. So the newest tickets are sampled first, then the index is asked.
    """
    conditions: dict[str, ColumnElement[bool]] = session.info.setdefault(
        CONDITIONS_KEY, {}
    )  # for page and count alike
    if tsquery not in conditions:
        query = func.to_tsquery(cast(literal("simple", literal_execute=True), REGCONFIG), tsquery)
        few = _find_few(session, query)
        if few is None:
            conditions[tsquery] = Ticket.id.in_(
                select(_words_table.c.ticket_id).where(_words_table.c.words.bool_op("@@")(query))
            )
            session.info.setdefault(FREQUENT_KEY, set()).add(tsquery)
        else:
            conditions[tsquery] = Ticket.id == any_(cast(literal(few), ARRAY(Integer)))
    return conditions[tsquery]


def _find_few(session: Session, query: ColumnElement[Any]) -> list[int] | None:
    """Return the numbers of all tickets that match; None where those are more than FEW."""
    newest = select(_words_table).order_by(_words_table.c.ticket_id.desc()).limit(SAMPLE).subquery()
    often = select(func.count()).select_from(newest).where(newest.c.words.bool_op("@@")(query))
    if (session.scalar(often) or 0) > SAMPLE * OFTEN:
        return None
    numbers = list(session.scalars(select(func.search_few(query, FEW + 1))))
    return numbers if len(numbers) <= FEW else None


def has_too_many_hits(session: Session, search_text: str) -> bool:
    """Return whether a search has too many hits to count: that takes longer than showing some."""
    return (
        bool(session.info.get(FREQUENT_KEY))
        and _write_tsquery(parse_phrases(search_text)) in session.info[FREQUENT_KEY]
    )


@contextmanager
def pause_index(connection: Connection) -> Iterator[None]:
    """Pause indexing while many rows are written; `index_tickets` does it afterwards, in one go."""
    begin, end = _PAUSE[connection.dialect.name]
    connection.exec_driver_sql(begin)
    yield
    connection.exec_driver_sql(end)


def index_tickets(session: Session, opened_ids: Sequence[int], grown_ids: Sequence[int]) -> None:
    """Index the tickets that this transaction has opened, or added to, while that was paused."""
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(_INDEX_POSTGRES, {"numbers": list(opened_ids)})
        if grown_ids:
            connection.execute(_KEEP_POSTGRES, {"numbers": list(grown_ids)})
        return
    connection.execute(_FORGET_SQLITE, {"numbers": list(grown_ids)})
    connection.execute(_INDEX_SQLITE, {"numbers": [*opened_ids, *grown_ids]})


def _write_tsquery(phrases: list[Phrase]) -> str:
    # Alphanumeric only, so nothing in it is an operator or a quote.
    terms = []
    for phrase in phrases:
        words = " <-> ".join(phrase.words) + (":*" if phrase.is_prefix else "")
        terms.append(f"({' | '.join((words, *phrase.numbers))})" if phrase.numbers else words)
    return " & ".join(terms)


def _write_fts_query(phrases: list[Phrase]) -> str:
    terms = []
    for phrase in phrases:
        words = f'"{" ".join(phrase.words)}"{"*" if phrase.is_prefix else ""}'
        terms.append(f"({' OR '.join((words, *phrase.numbers))})" if phrase.numbers else words)
    return " AND ".join(terms)  # in full: beside a parenthesis FTS5 takes no white space for it


def list_snippets(
    session: Session, numbers: Iterable[int], phrases: list[Phrase]
) -> dict[int, list[Piece]]:
    """Return for each ticket the text around a hit. It is patient data, as its message is."""
    rows = session.execute(
        select(_documents_table).where(_documents_table.c.ticket_id.in_(list(numbers)))
    )
    return {ticket: _build_snippet(words, phrases) for ticket, words in rows}


def _build_snippet(text: str, phrases: list[Phrase]) -> list[Piece]:
    """Return the text around the last hit, in pieces: found and not found in turn; [] without one.

    The last hit is in a message if any is: name and subject stand before it, and are shown anyway.
    """
    prefixes = {number: False for phrase in phrases for number in phrase.numbers}
    prefixes |= {phrase.words[0]: phrase.is_prefix and len(phrase.words) == 1 for phrase in phrases}
    hits = sorted(_find_hits(text, prefixes))
    if not hits:
        return []
    begin, end = _choose_bounds(text, hits[-1])
    shown_hits = [(first, after) for first, after in hits if first >= begin]
    before = text[begin : shown_hits[0][0]]
    pieces = [Piece(f"…{before}" if begin else before, is_hit=False)]
    for (first, after), (next_hit, _) in pairwise([*shown_hits, (end, end)]):
        pieces += [
            Piece(text[first:after], is_hit=True),
            Piece(text[after:next_hit], is_hit=False),
        ]
    return [*pieces, Piece("…" if end < len(text) else "", is_hit=False)]


def _choose_bounds(text: str, hit: tuple[int, int]) -> tuple[int, int]:
    """Return where the snippet around a hit begins, at a word, and where it ends."""
    first, after = hit
    begin = 0
    if first > 2 * AROUND:
        begin = text.find(" ", first - 2 * AROUND, first) + 1
    return begin, min(len(text), after + AROUND)


def _find_hits(text: str, prefixes: dict[str, bool]) -> Iterable[tuple[int, int]]:
    """Yield the span of each word that is wanted, or begins with a wanted prefix.

    `prefixes` has for each word whether it is a prefix.
    """
    for match in _WORD.finditer(text):
        word = fold_words(match[0])
        if any(word.startswith(w) if is_prefix else word == w for w, is_prefix in prefixes.items()):
            yield match.span()
