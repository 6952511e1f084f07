"""InboundItem, the one shape that the bytes of every channel are parsed into, and its parts."""

import binascii
import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import pybase64


class Format(StrEnum):
    """Format of a delivery's bytes, independent of the channel they came by."""

    MAIL = "mail"  # RFC 5322
    FORMSTACK = "formstack"  # body of a Formstack webhook, JSON or urlencoded
    SECURE_MESSAGE = "secure-message"  # Excel export of Kareo secure messages
    PHONE = "phone"  # a call that staff wrote down, JSON of ours
    CRM = "crm"  # a ticket of another system; imported, never delivered


class ParseError(ValueError):
    """Raised for bytes that are not of the format they were delivered as.

    Permanent: parsing them again with the same parser gives the same error. The message is shown
    to staff, so it names the fault and the remedy, and never quotes customer text.
    """


@dataclass(frozen=True, slots=True)
class Address:
    """A person in a message: `email` as written, `name` decoded; either may be empty."""

    name: str = ""
    email: str = ""

    @property
    def key(self) -> str:
        """The e-mail address as an identity: case folded, empty if there is none."""
        return self.email.strip().casefold()


class Encoding(StrEnum):
    """Encoding of a file within the bytes it came in (RFC 2045 §6)."""

    IDENTITY = "identity"  # 7bit, 8bit, binary
    BASE64 = "base64"
    QUOTED_PRINTABLE = "quoted-printable"


@dataclass(frozen=True, slots=True)
class Span:
    """Place of a file within the bytes it came in: from `start` up to `end`, encoded.

    What is stored of an attachment may be its span alone. So `decode` must give the same bytes in
    every later release: improvements for damaged files belong into the parsers, not here.
    """

    start: int
    end: int
    encoding: Encoding

    def decode(self, source: bytes) -> bytes:
        """Return the file. `source` is all of the bytes it came in.

        Takes time and memory in proportion to the span, whatever stands in it. Raises ValueError
        where its base64 is damaged.
        """
        encoded = memoryview(source)[self.start : self.end]
        match self.encoding:
            case Encoding.IDENTITY:
                return bytes(encoded)
            case Encoding.BASE64:
                return pybase64.b64decode(encoded)
            case Encoding.QUOTED_PRINTABLE:
                return binascii.a2b_qp(encoded)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with an item; `name` is safe to show and save, `content` is decoded.

    `span` is where the content lies in the item's bytes: decoding it gives exactly `content`. None
    where the content was made in another way, as a file in a winmail.dat.
    """

    name: str
    mime: str
    content: bytes = field(repr=False)
    inline: bool = False
    content_id: str = ""  # without angle brackets, as `cid:` names it
    span: Span | None = None

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
        """Hex digest of the bytes with line ends as LF and without the outer white space.

        It compares files of text whatever their line ends are.
        """
        text = self.content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").strip()
        return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounce:
    """Content of a delivery report on a mail that was sent; fields that it lacks are empty."""

    action: str = "failed"  # failed, delayed, delivered, relayed or expanded (RFC 3464 §2.3.3)
    status: str = ""  # as 5.1.1 (RFC 3463)
    failed: tuple[str, ...] = ()  # the addresses it is about, case folded
    reason: str = field(default="", repr=False)  # PHI; the other system's words, one line


class Direction(StrEnum):
    """Direction of an item, as the timeline of a ticket shows it."""

    IN = "in"  # from a customer
    OUT = "out"  # from the desk to a customer, written outside of this program
    NOTE = "note"  # from the desk to itself


class Route(StrEnum):
    """How an item of a customer came, where its sender is not that customer."""

    DIRECT = ""
    FORWARDED = "forwarded"  # by somebody on the desk
    REPLY_TO = "reply-to"  # from a person who asks for answers to another address
    RELAY = "relay"  # by a web form, fax, voicemail or portal that names the customer in Reply-To
    GROUP = "group"  # by a mailing group, which put its own address into From


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedHeader:
    """The header of a message that another one passes on, in its text or attached.

    What it says is as trustworthy as who passes it on. Fields that it lacks are empty.
    """

    sender: Address = Address()
    subject: str = field(default="", repr=False)  # PHI
    date: str = ""  # as written
    language: str = ""  # of its field names, ISO 639-1; "" where it is attached or not known
    is_announced: bool = False  # with words such as "Forwarded message"
    is_attached: bool = False  # it is that of an attached message


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundItem:
    """Customer request, normalised.

    Text fields are never None; what is missing is empty and, where a consultant has to ask for it,
    named in `caveats`. `sent_at` is the sender's claim and aware, or None. Fields marked PHI may
    hold patient data: they are shown on the ticket and nowhere else.
    """

    format: Format
    external_id: str  # the sender's own id of it, unique within the format; "" if it has none
    # The id as it came, where it identifies nothing: it counts rows, is rounded or repeats.
    unreliable_id: str = ""
    sender: Address = Address()
    reply_to: tuple[Address, ...] = ()
    # The author before a mailing group replaced From (X-Original-From, X-Original-Sender).
    original_sender: Address = Address()
    # Headers of messages that it passes on, the outermost first.
    forwarded: tuple[ForwardedHeader, ...] = ()
    is_forward: bool = False  # its subject, or words in its text, say that it passes on a message
    is_form_mail: bool = False  # made by a program that mails web forms
    # Decided when it is filed (workflow.filing.correspondents), but for a direction that the
    # format itself names.
    direction: Direction = Direction.IN
    route: Route = Route.DIRECT
    customer: Address | None = None  # who is to be the contact; None: the sender
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    # Contacts on whose record the ticket's activity is not to show, case folded.
    unshared_addresses: tuple[str, ...] = ()
    on_company: bool = True  # the ticket's activity shows on the company's record
    company: str = ""  # the practice's name
    company_number: str = ""  # the practice's number in Kareo
    phone: str = ""
    category: str = ""
    subject: str = ""  # PHI
    text: str = field(default="", repr=False)  # PHI; the text that the ticket shows
    # PHI; the newest part of `text`, quotes and signature folded away.
    reply_text: str = field(default="", repr=False)
    plain: str = field(default="", repr=False)  # PHI; the text/plain alternative, if any
    # PHI; the HTML alternative as received, not safe to show.
    html: str = field(default="", repr=False)
    # PHI; further (label, value) as received.
    details: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    # https URLs of files that belong to it and can be fetched.
    file_urls: tuple[str, ...] = field(default=(), repr=False)
    link: str = ""  # to the original, if it came with one
    # Formstack's id; the link is made from it by a template in the settings.
    submission_id: str = ""
    thread_id: str = ""  # secure message thread
    sent_at: datetime | None = None
    message_id: str = ""  # with angle brackets
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    bounce: Bounce | None = None  # set where `is_bounce`
    # Authentication-Results as received, topmost first (RFC 8601); may be forged.
    authentication: tuple[str, ...] = ()
    is_auto_reply: bool = False
    is_bounce: bool = False
    is_only_thanks: bool = False  # its newest words thank, and ask for nothing
    is_secure_notice: bool = False  # a portal holds a message: somebody has to open it in time
    is_automated: bool = False  # looks machine-made: no automatic answer, ever
    # Addresses in X-Loop, who have had this mail before, case folded.
    loop_addresses: tuple[str, ...] = ()
    # Mailing lists and groups it came through: addresses (List-Post) and names (List-Id), case
    # folded.
    list_names: tuple[str, ...] = ()
    # Names in `parsers.mail.evidence.SIGNS`: the reasons for the three flags above.
    signs: tuple[str, ...] = ()
    telemedicine: bool = False
    caveats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a time without a zone, which would break arithmetic later."""
        if self.sent_at is not None and self.sent_at.tzinfo is None:
            raise ValueError("sent_at must be aware")

    @property
    def contact(self) -> Address:
        """The person to answer: the customer as filing has found out, else the sender.

        It is the Reply-To where the sender has no address.
        """
        if self.customer is not None:
            return self.customer
        if self.sender.email or not self.reply_to:
            return self.sender
        return self.reply_to[0]


# Heading of our column in a workbook of rejected rows; the parser leaves that column out.
REJECTION_HEADING = "Why it was rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row that is no request as it stands; the other rows of its file are items.

    Staff see it, correct it and drop it again.
    """

    sheet: str
    row: int  # from 1, as Excel counts
    cell: str = ""  # as "D7"; "" where it is not one cell's fault
    reason: str  # the fault and the remedy, in our own words
    # PHI; (heading, text) of every column.
    values: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetCounts:
    """Counts of the rows of one sheet of a workbook, by kind.

    `rows` are counted where the sheet is read, the others where each row is classified: an equal
    sum shows that no row was lost on the way. Of tables side by side, each row counts for each
    table. Places are row numbers as Excel counts them, as "1-3, 9"; of very many the first ones.
    """

    sheet: str  # the name on its tab, "" for a file without sheets
    hidden: bool = False  # a hidden sheet is not read: nothing of it is counted
    rows: int = 0  # up to the last one with anything in it
    items: int = 0
    repeated: int = 0  # rows with the same content as an earlier row of the file
    rejected: int = 0
    continued: int = 0  # rows whose text belongs to the item above them
    headings: int = 0  # repeated ones included
    titles: int = 0
    footers: int = 0
    blank: int = 0
    hidden_rows: int = 0  # of all these; they are read like any others
    heading_places: str = ""
    title_places: str = ""
    footer_places: str = ""

    @property
    def accounted(self) -> int:
        """The sum of the rows of all kinds."""
        requests = self.items + self.repeated + self.rejected + self.continued
        return requests + self.headings + self.titles + self.footers + self.blank


ParseResult = InboundItem | RejectedRow
