"""InboundItem: the one shape every door's bytes are read into, and the words around it."""

import hashlib
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import TypeVar

T = TypeVar("T")


class Format(StrEnum):
    """What the bytes are, whichever way they came."""

    MAIL = "mail"  # RFC 5322
    FORMSTACK = "formstack"  # body of a Formstack webhook, JSON or urlencoded
    SECURE_MESSAGE = "secure-message"  # Excel export of Kareo secure messages
    PHONE = "phone"  # a call written down by staff, JSON of ours
    CRM = "crm"  # a ticket that was in another system before; imported, never delivered


class ParseError(ValueError):
    """The bytes are not of the format they were delivered as.

    Permanent: reading them again with the same parser gives the same answer. The message is shown
    to staff, so it says what is wrong and what to do, and never quotes customer text.
    """


def _quickly_pickled(kind: type[T]) -> type[T]:
    """Have a frozen class with slots pickled by its values in order.

    Asking for its fields each time takes longer.

    Items go from the process that reads them to the one that files them, 100,000 of a workbook.
    """
    # a dataclass, as all of them here
    names = tuple(f.name for f in fields(kind))  # type: ignore[arg-type]
    values, put = attrgetter(*names), object.__setattr__

    def state(self: T) -> tuple[object, ...]:
        return values(self)  # a getter is no method: what binds it to an item is this function

    def restore(self: T, kept: tuple[object, ...]) -> None:
        for name, value in zip(names, kept, strict=True):
            put(self, name, value)

    setattr(kind, "__getstate__", state)  # noqa: B010  # mypy knows no other way
    setattr(kind, "__setstate__", restore)  # noqa: B010
    return kind


@_quickly_pickled
@dataclass(frozen=True, slots=True)
class Address:
    """A person as a message names them.

    `email` is as written, `name` decoded, either may be empty.
    """

    name: str = ""
    email: str = ""

    @property
    def key(self) -> str:
        """The address as an identity: case folded, empty if there is none."""
        return self.email.strip().casefold()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with an item; `name` is safe to show and save, `content` is decoded."""

    name: str
    mime: str
    content: bytes = field(repr=False)
    inline: bool = False
    content_id: str = ""  # without angle brackets, as `cid:` names it

    @property
    def size(self) -> int:
        """Bytes after decoding."""
        return len(self.content)

    @property
    def sha256(self) -> str:
        """Hex digest of the decoded bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def sha256_nl(self) -> str:
        """Hex digest of the bytes.

        For text parts: with line ends as LF and without the outer white space.
        """
        text = self.content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").strip()
        return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounce:
    """What a delivery report says of a mail that was sent; fields it does not say are empty."""

    action: str = "failed"  # failed, delayed, delivered, relayed or expanded (RFC 3464 §2.3.3)
    status: str = ""  # as 5.1.1 (RFC 3463)
    failed: tuple[str, ...] = ()  # the addresses it is about, case folded
    reason: str = field(default="", repr=False)  # PHI; the other system's words, one line


@_quickly_pickled
@dataclass(frozen=True, slots=True, kw_only=True)
class InboundItem:
    """One customer request, normalised.

    Text fields are never None; what is missing is empty and, where a consultant has to ask for it,
    named in `caveats`. `sent_at` is the sender's claim and aware, or None. Fields marked PHI may
    hold patient data: they are shown on the ticket and nowhere else.
    """

    format: Format
    external_id: str  # the sender's own id of it, unique within the format; "" if it has none
    # the id as it was given, where it identifies nothing: it counts rows, is rounded or repeats
    unreliable_id: str = ""
    sender: Address = Address()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    unshared_addresses: tuple[
        str, ...
    ] = ()  # addresses of contacts on whose record the ticket's activity is not to show
    on_company: bool = True  # whether the ticket's activity shows on the company's record
    company: str = ""  # the practice's name
    company_number: str = ""  # the practice's number in Kareo
    phone: str = ""
    category: str = ""
    subject: str = ""  # PHI
    text: str = field(default="", repr=False)  # PHI; what the ticket shows
    reply_text: str = field(
        default="", repr=False
    )  # PHI; the newest part of `text`, quotes and signature folded away
    plain: str = field(default="", repr=False)  # PHI; the text/plain alternative, if any
    html: str = field(
        default="", repr=False
    )  # PHI; the HTML alternative as received, not safe to show
    details: tuple[tuple[str, str], ...] = field(
        default=(), repr=False
    )  # PHI; further (label, value) as received
    file_urls: tuple[str, ...] = field(
        default=(), repr=False
    )  # https URLs where files that belong to it can be fetched
    link: str = ""  # where the original can be seen, if it came with one
    submission_id: str = (
        ""  # Formstack's id; the link is made from it by a template in the settings
    )
    thread_id: str = ""  # secure message thread
    sent_at: datetime | None = None
    message_id: str = ""  # with angle brackets
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    bounce: Bounce | None = None  # set where `is_bounce`
    authentication: tuple[
        str, ...
    ] = ()  # Authentication-Results as received, topmost first (RFC 8601); may be forged
    is_auto_reply: bool = False
    is_bounce: bool = False
    is_automated: bool = False  # looks machine-made: no automatic answer, ever
    loop_addresses: tuple[
        str, ...
    ] = ()  # addresses in X-Loop: who has had this mail before, case folded
    signs: tuple[
        str, ...
    ] = ()  # names in `parsers.mail.evidence.SIGNS`: why the three above are set
    telemedicine: bool = False
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would break arithmetic later: a time without a zone."""
        if self.sent_at is not None and self.sent_at.tzinfo is None:
            raise ValueError("sent_at must be aware")

    @property
    def contact(self) -> Address:
        """Return whom to answer: the sender, or the Reply-To where the sender has no address."""
        if self.sender.email or not self.reply_to:
            return self.sender
        return self.reply_to[0]


# heads the column of ours beside rejected rows; whoever reads it again leaves it out
REJECTION_HEADING = "Why it was rejected"


@_quickly_pickled
@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row that is no request as it stands: the others are read.

    This one is shown, mended and dropped again.
    """

    sheet: str
    row: int  # from 1, as Excel counts
    cell: str = ""  # as "D7"; "" where it is not one cell's fault
    reason: str  # what is wrong and what to do, in our own words
    values: tuple[tuple[str, str], ...] = field(
        default=(), repr=False
    )  # PHI; (heading, text) of every column


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetCounts:
    """What the rows of one sheet of a workbook were read as.

    `rows` are counted where the sheet is read, the others where each row is judged: that the sum is
    the same shows that no row was lost on the way. Of tables side by side, each row counts for each
    table. Places are row numbers as Excel counts them, as "1-3, 9"; of very many the first ones.
    """

    sheet: str  # the name on its tab, "" for a file without sheets
    hidden: bool = False  # a hidden sheet is not read: nothing of it is counted
    rows: int = 0  # up to the last one with anything in it
    items: int = 0
    repeated: int = 0  # rows that say what an earlier row of the file says
    rejected: int = 0
    headings: int = 0  # repeated ones included
    titles: int = 0
    footers: int = 0
    blank: int = 0
    hidden_rows: int = 0  # of all these; they are read as any others
    heading_places: str = ""
    title_places: str = ""
    footer_places: str = ""

    @property
    def accounted(self) -> int:
        """Return how many rows there are by what they were read as."""
        read = self.items + self.repeated + self.rejected
        return read + self.headings + self.titles + self.footers + self.blank


ParseResult = InboundItem | RejectedRow
