"""XML from strangers, through expat.

No document type, no entities, bounded depth, one token never large.
"""

from collections.abc import Callable, Iterable
from typing import NoReturn
from xml.parsers import expat

from parsers.item import ParseError

MAX_DEPTH = 64
MAX_ELEMENTS = 500_000  # of a part read whole: a workbook's list of names and styles
MAX_TOKEN = 2**20  # bytes of one tag, attribute or comment

Element = tuple[str, str, dict[str, str]]  # parent's name, name, attributes; names without prefix
DAMAGED = "a damaged workbook: open it in Excel and save it as .xlsx, or export the messages again"


class Feed:
    """An expat parser that raises ParseError for what is malformed or declares a type.

    Set handlers on `expat`.
    """

    def __init__(self) -> None:
        self.expat = expat.ParserCreate()
        self.expat.StartDoctypeDeclHandler = _refuse
        self.expat.EntityDeclHandler = _refuse
        self._fed = 0

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse a piece; `last` closes the document."""
        self._fed += len(chunk)
        try:
            self.expat.Parse(chunk, last)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise error if isinstance(error, ParseError) else ParseError(DAMAGED) from error
        if self._fed - self.expat.CurrentByteIndex > MAX_TOKEN:
            raise ParseError(DAMAGED)

    def whole(self, chunks: Iterable[bytes]) -> None:
        """Parse a part from its beginning to its end."""
        for chunk in chunks:
            self.feed(chunk)
        self.feed(b"", last=True)


class Reader(Feed):
    """A feed that also refuses what is nested deeper than 64.

    And takes the prefix off the names of elements.

    So transitional and strict workbooks, and those with other prefixes, read alike.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        text: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._start, self._end, self._depth = start, end, 0
        self.expat.StartElementHandler = self._open
        self.expat.EndElementHandler = self._close
        if text:
            self.expat.buffer_text = True
            self.expat.CharacterDataHandler = text

    def _open(self, tag: str, attrs: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError(DAMAGED)
        self._start(local_name(tag), attrs)

    def _close(self, tag: str) -> None:
        self._depth -= 1
        self._end(local_name(tag))


class Probe:
    """Feed it a part to learn what can be known without reading it.

    Its root, and whether it is damaged.

    A document type is refused at once, in whatever encoding; what is malformed is only noted, since
    not every part is read. Nesting is counted in bytes, which costs next to nothing and may say too
    much, never too little for long.
    """

    def __init__(self) -> None:
        self._feed = Feed()
        self._feed.expat.StartElementHandler = self._first
        self._balance, self._last = 0, b""
        self.root = ""
        self.damaged = False
        self.deep = False

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse a piece. Raises ParseError at a document type."""
        if self.damaged:
            return
        seam = self._last + chunk[:1]  # a tag may begin in one piece and go on in the next
        self._last = chunk[-1:]
        self._balance += chunk.count(b"<")
        for piece in (chunk, seam):
            self._balance -= 2 * piece.count(b"</") + piece.count(b"/>")
        self.deep = self.deep or self._balance > MAX_DEPTH
        try:
            self._feed.feed(chunk, last=last)
        except ParseError as error:
            if str(error) != DAMAGED:
                raise
            self.damaged = True

    def _first(self, tag: str, _: dict[str, str]) -> None:
        self.root = local_name(tag)
        self._feed.expat.StartElementHandler = None


def local_name(name: str) -> str:
    """The name of an element or attribute without its prefix."""
    return name.rpartition(":")[2] if ":" in name else name


def elements(chunks: Iterable[bytes]) -> list[Element]:
    """Read the elements of a part, in order.

    What a workbook says of itself stands in attributes.
    """
    found: list[Element] = []
    path = [""]

    def start(tag: str, attrs: dict[str, str]) -> None:
        if len(found) >= MAX_ELEMENTS:
            raise ParseError(DAMAGED)
        found.append((path[-1], tag, attrs))
        path.append(tag)

    def end(_: str) -> None:
        path.pop()

    Reader(start, end).whole(chunks)
    return found


def is_shallow(chunks: Iterable[bytes]) -> bool:
    """Tell exactly whether a part is nested no deeper than it may be."""
    try:
        Reader(lambda _tag, _attrs: None, lambda _: None).whole(chunks)
    except ParseError:
        return False
    return True


def _refuse(*_: object) -> NoReturn:
    raise ParseError(
        "a workbook with a document type inside (an attack): do not open it, ask the sender for the"
        " original"
    )
