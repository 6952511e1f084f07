"""Parser of XML from strangers, with expat.

Document types, entities, deep nesting and large tokens are refused.
"""

from collections.abc import Callable, Iterable
from typing import NoReturn
from xml.parsers import expat

from parsers.item import ParseError

MAX_DEPTH = 64
MAX_ELEMENTS = 500_000  # of a part read whole: a workbook's list of names and styles
MAX_TOKEN = 2**20  # bytes of one tag, attribute or comment

# An element's parent, its own name and its attributes; names of elements are without prefix.
Element = tuple[str, str, dict[str, str]]
DAMAGED = "a damaged workbook: open it in Excel and save it as .xlsx, or export the messages again"


class Feed:
    """An expat parser, fed piece by piece; handlers are set on `expat`.

    Raises ParseError for XML that is malformed or declares a document type or an entity.
    """

    def __init__(self) -> None:
        self.expat = expat.ParserCreate()
        self.expat.StartDoctypeDeclHandler = _refuse
        self.expat.EntityDeclHandler = _refuse
        self._octets_fed = 0

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse a piece; `last` closes the document."""
        self._octets_fed += len(chunk)
        try:
            self.expat.Parse(chunk, last)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise error if isinstance(error, ParseError) else ParseError(DAMAGED) from error
        if self._octets_fed - self.expat.CurrentByteIndex > MAX_TOKEN:
            raise ParseError(DAMAGED)

    def parse_all(self, chunks: Iterable[bytes]) -> None:
        """Parse a part from its beginning to its end."""
        for chunk in chunks:
            self.feed(chunk)
        self.feed(b"", last=True)


class Reader(Feed):
    """A feed that also refuses XML nested deeper than 64, and takes the prefix off element names.

    So transitional and strict workbooks, and those with other prefixes, are read alike.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        text: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._start = start
        self._end = end
        self._depth = 0
        self.expat.StartElementHandler = self._open
        self.expat.EndElementHandler = self._close
        if text:
            self.expat.buffer_text = True
            self.expat.CharacterDataHandler = text

    def _open(self, tag: str, attrs: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError(DAMAGED)
        self._start(strip_prefix(tag), attrs)

    def _close(self, tag: str) -> None:
        self._depth -= 1
        self._end(strip_prefix(tag))


class Probe:
    """Check of a part without reading it: its root element, and whether it is damaged.

    A document type is refused at once, in whatever encoding. Malformed XML is only noted, because
    not every part is read later. Nesting is estimated by counting bytes, which costs next to
    nothing: `deep` may be true of a shallow part, and misses only what opens and closes within one
    piece.
    """

    def __init__(self) -> None:
        self._feed = Feed()
        self._feed.expat.StartElementHandler = self._note_root
        self._balance = 0  # opening tags without closing ones
        self._last = b""  # the last byte of the piece before
        self.root = ""
        self.is_damaged = False
        self.deep = False

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse a piece. Raises ParseError at a document type."""
        if self.is_damaged:
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
            self.is_damaged = True

    def _note_root(self, tag: str, _: dict[str, str]) -> None:
        self.root = strip_prefix(tag)
        self._feed.expat.StartElementHandler = None


def strip_prefix(name: str) -> str:
    """Return the name of an element or attribute without its prefix."""
    return name.rpartition(":")[2] if ":" in name else name


def list_elements(chunks: Iterable[bytes]) -> list[Element]:
    """Return the elements of a part in order, without their texts.

    The settings of a workbook stand in attributes.
    """
    elements: list[Element] = []
    path = [""]

    def add_element(tag: str, attrs: dict[str, str]) -> None:
        """Add an element that begins, as the child of the innermost open one."""
        if len(elements) >= MAX_ELEMENTS:
            raise ParseError(DAMAGED)
        elements.append((path[-1], tag, attrs))
        path.append(tag)

    def close_element(_: str) -> None:
        """Close the innermost element."""
        path.pop()

    Reader(add_element, close_element).parse_all(chunks)
    return elements


def is_shallow(chunks: Iterable[bytes]) -> bool:
    """Return whether a part is well-formed and nested no deeper than 64, by reading all of it."""
    try:
        Reader(lambda _tag, _attrs: None, lambda _: None).parse_all(chunks)
    except ParseError:
        return False
    return True


def _refuse(*_: object) -> NoReturn:
    raise ParseError(
        "a workbook with a document type inside (an attack): do not open it, ask the sender for the"
        " original"
    )
