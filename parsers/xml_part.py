"""XML from strangers, through expat: no document type, no entities, bounded depth, one token never large."""

from collections.abc import Callable, Iterable
from typing import NoReturn
from xml.parsers import expat

from parsers.item import ParseError

MAX_DEPTH = 64
MAX_ELEMENTS = 500_000  # of a part read whole: a workbook's list of names and styles
MAX_TOKEN = 2**20  # bytes of one tag, attribute or comment

Element = tuple[str, str, dict[str, str]]  # parent's name, name, attributes; names without prefix
_DAMAGED = "a damaged workbook: open it in Excel and save it as .xlsx, or export the messages again"


class Reader:
    """An expat parser that raises ParseError for what is malformed, nested deeper than 64 or declares a type.

    Handlers get names without prefix, so transitional and strict workbooks read alike.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        text: Callable[[str], None] | None = None,
    ) -> None:
        self._start, self._end, self._depth, self._fed = start, end, 0, 0
        self._expat = _safe_parser()
        self._expat.StartElementHandler = self._open
        self._expat.EndElementHandler = self._close
        if text:
            self._expat.buffer_text = True
            self._expat.CharacterDataHandler = text

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse a piece; `last` closes the document."""
        self._fed += len(chunk)
        try:
            self._expat.Parse(chunk, last)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise error if isinstance(error, ParseError) else ParseError(_DAMAGED) from error
        if self._fed - self._expat.CurrentByteIndex > MAX_TOKEN:
            raise ParseError(_DAMAGED)

    def _open(self, tag: str, attrs: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError(_DAMAGED)
        self._start(tag.rpartition(":")[2] if ":" in tag else tag, attrs)

    def _close(self, tag: str) -> None:
        self._depth -= 1
        self._end(tag.rpartition(":")[2] if ":" in tag else tag)


class DoctypeProbe:
    """Feed it a part to have a document type refused, in whatever encoding; malformed parts are the reader's matter."""

    def __init__(self) -> None:
        self._expat: expat.XMLParserType | None = _safe_parser()
        self._fed = 0

    def feed(self, chunk: bytes) -> None:
        """Parse a piece. Raises ParseError at a document type."""
        if self._expat is None:
            return
        self._fed += len(chunk)
        try:
            self._expat.Parse(chunk, False)
            if self._fed - self._expat.CurrentByteIndex > MAX_TOKEN:
                self._expat = None
        except ParseError:
            raise
        except (expat.ExpatError, LookupError, ValueError):
            self._expat = None


def elements(chunks: Iterable[bytes]) -> list[Element]:
    """Read the elements of a part, in order: what a workbook says of itself stands in attributes."""
    found: list[Element] = []
    path = [""]

    def start(tag: str, attrs: dict[str, str]) -> None:
        if len(found) >= MAX_ELEMENTS:
            raise ParseError(_DAMAGED)
        found.append((path[-1], tag, attrs))
        path.append(tag)

    reader = Reader(start, lambda _: _pop(path))
    for chunk in chunks:
        reader.feed(chunk)
    reader.feed(b"", last=True)
    return found


def _pop(path: list[str]) -> None:
    path.pop()


def _safe_parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    return parser


def _refuse(*_: object) -> NoReturn:
    raise ParseError(
        "a workbook with a document type inside (an attack): do not open it, ask the sender for the original"
    )
