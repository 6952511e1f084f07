"""Conservation: every word of every text part is on the ticket, or in a file that the ticket names.

Mails are built from a tree of parts, each with a word that stands nowhere else, and then damaged. A
word is kept if it is in the text of the item (folded or not), or in the content of an
attachment.
"""

import base64
import quopri
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from parsers.item import InboundItem
from parsers.mail import message

HEAD = b"From: Jane Doe <jane@clinic.example>\r\nSubject: Claims\r\nMIME-Version: 1.0\r\n"
TYPES = [
    "text/plain",
    "text/html",
    "text/enriched",
    "text/calendar",
    "text/csv",
    "text/markdown",
    "",
]
MULTIPARTS = ["mixed", "alternative", "related", "signed", "report", "digest", "parallel"]
SENTENCES = {
    "text/html": "<p>The claim <b>{}</b> was denied.</p>",
    "text/enriched": "<bold>The claim</bold> {} was denied.",
    "text/calendar": "BEGIN:VCALENDAR\r\nSUMMARY:Call about {}\r\nEND:VCALENDAR",
    "text/csv": "claim,code\r\n{},CO-97",
}
USUAL = "This is a multi-part message in MIME format."


@dataclass(frozen=True)
class Leaf:
    mime: str
    encoding: str
    charset: str
    disposition: str
    word: str

    def lines(self) -> Iterator[bytes]:
        written = SENTENCES.get(self.mime, "The claim {} was denied. Schöne Grüße")
        body = written.format(self.word).encode(self.charset or "utf-8", "replace")
        if self.mime:
            charset = f"; charset={self.charset}" if self.charset else ""
            yield f"Content-Type: {self.mime}{charset}".encode()
        if self.disposition:
            yield f"Content-Disposition: {self.disposition}".encode()
        if self.encoding:
            yield f"Content-Transfer-Encoding: {self.encoding}".encode()
        yield b""
        encoders = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}
        yield from (
            encoders.get(self.encoding, bytes)(body)
            .replace(b"\r\n", b"\n")
            .rstrip(b"\n")
            .split(b"\n")
        )

    def words(self) -> Iterator[str]:
        yield self.word


@dataclass(frozen=True)
class Multipart:
    subtype: str
    boundary: str
    parts: tuple["Leaf | Multipart", ...]
    preamble: str = ""
    epilogue: str = ""
    outside: tuple[str, ...] = field(default=())

    def lines(self) -> Iterator[bytes]:
        yield f'Content-Type: multipart/{self.subtype}; boundary="{self.boundary}"'.encode()
        yield b""
        if self.preamble:
            yield self.preamble.encode()
        for part in self.parts:
            yield f"--{self.boundary}".encode()
            yield from part.lines()
        yield f"--{self.boundary}--".encode()
        if self.epilogue:
            yield self.epilogue.encode()

    def words(self) -> Iterator[str]:
        yield from self.outside
        for part in self.parts:
            yield from part.words()


@st.composite
def draw_tree(draw: st.DrawFn) -> Multipart:
    numbers = iter(range(1000))

    def word() -> str:
        return "zzq{0:03d}{0:03d}qzz".format(next(numbers))

    def leaf() -> Leaf:
        mime = draw(st.sampled_from(TYPES))
        encoding = draw(st.sampled_from(["", "7bit", "8bit", "quoted-printable", "base64"]))
        charset = draw(st.sampled_from(["utf-8", "iso-8859-1", ""])) if mime else ""
        given_name = draw(
            st.sampled_from(
                ["", "inline", "attachment", 'attachment; filename="a.txt"', "inline; filename=b"]
            )
        )
        return Leaf(mime, encoding, charset, given_name, word())

    def multipart(depth: int) -> Multipart:
        count = draw(st.integers(1, 3))
        parts = tuple(
            multipart(depth + 1) if depth < 3 and draw(st.integers(0, 2)) == 0 else leaf()
            for _ in range(count)
        )
        mark = draw(
            st.sampled_from(
                ["b{}", "=_Part.{}?=", "----=_NextPart_{}_01D9", "0000000000{}", "a b {}"]
            )
        )
        outside = [word() if draw(st.integers(0, 4)) == 0 else "" for _ in range(2)]
        preamble = (
            f"Please note {outside[0]}." if outside[0] else draw(st.sampled_from(["", USUAL]))
        )
        epilogue = f"Please note {outside[1]}." if outside[1] else ""
        subtype = draw(st.sampled_from(MULTIPARTS))
        boundary = mark.format(next(numbers))
        return Multipart(subtype, boundary, parts, preamble, epilogue, tuple(filter(None, outside)))

    return multipart(0)


def find_delimiters(lines: list[bytes], tree: Multipart) -> list[int]:
    """Indexes of the lines that are delimiters."""
    names: set[bytes] = set()

    def collect(part: Leaf | Multipart) -> None:
        if isinstance(part, Multipart):
            names.update((f"--{part.boundary}".encode(), f"--{part.boundary}--".encode()))
            for child in part.parts:
                collect(child)

    collect(tree)
    return [i for i, line in enumerate(lines) if line in names]


def is_kept(item: InboundItem, word: str) -> bool:
    forms = (word.encode(), *encode_word(word))
    return word in item.text or any(form in a.content for a in item.attachments for form in forms)


def encode_word(word: str) -> Iterator[bytes]:
    """The middle of a word in base64, at each of its three places.

    A file may be a mail with encoded parts.
    """
    for shift in range(3):
        yield base64.b64encode(b" " * shift + word.encode())[4:-4]


def read(raw: bytes) -> InboundItem:
    [item] = message.parse(raw)
    return item


SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(draw_tree(), st.sampled_from([b"\r\n", b"\n"]))
def test_every_word_of_a_mail_is_kept(tree: Multipart, end: bytes) -> None:
    item = read(HEAD.replace(b"\r\n", end) + end.join(tree.lines()) + end)
    assert [word for word in tree.words() if not is_kept(item, word)] == []


@SETTINGS
@given(draw_tree(), st.data())
def test_every_word_is_kept_when_delimiters_are_damaged(
    tree: Multipart, data: st.DataObject
) -> None:
    lines = list(tree.lines())
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(find_delimiters(lines, tree) or [0]))
        how = data.draw(st.sampled_from(["drop", "duplicate", "truncate", "close", "cut the rest"]))
        if how == "drop":
            del lines[at]
        elif how == "duplicate":
            lines.insert(at, lines[at])
        elif how == "truncate":
            lines[at] = lines[at][: data.draw(st.integers(2, max(2, len(lines[at]) - 1)))]
        elif how == "close":
            lines[at] = lines[at].removesuffix(b"--") + b"--"
        else:
            lines = lines[: at + 1]
        if not lines:
            return
    raw = HEAD + b"\r\n".join(lines) + b"\r\n"
    note(raw.decode("utf-8", "replace"))
    item = read(raw)
    note(item.text)
    there = [
        word
        for word in tree.words()
        if word in raw.decode("utf-8", "replace") or is_encoded_in(raw, word)
    ]
    assert [word for word in there if not is_kept(item, word)] == []


def is_encoded_in(raw: bytes, word: str) -> bool:
    return any(form in raw for form in encode_word(word))
