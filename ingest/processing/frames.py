"""Frames between a worker and its parser processes.

A frame is a length in eight octets, big-endian, and so many octets. A request is two frames: a
`Request`, and the bytes to parse as they are. The answer is frames of `Items` as they are read, or
of `Previews`, and a last one that says how it ended. All but the bytes to parse are MessagePack of
the types below. Reading it builds values of these types or fails: a process that hostile bytes have
taken over can make its own answer wrong, and nothing run in the worker.
"""

from collections.abc import Callable
from typing import IO, Annotated

import msgspec

from parsers.item import Format, InboundItem, ParseResult, RejectedRow, SheetCounts
from parsers.options import Options

MAX_FRAME_ITEMS = 200  # in one frame
# Of a frame in an answer. The largest mail decoded, with its text in every form, takes a quarter.
MAX_FRAME_BYTES = 256 * 1024 * 1024
READY = b"ready"  # first frame of a process: what follows is its time for an item
_LENGTH_OCTETS = 8

TablePreview = tuple[str, list[tuple[int, dict[int, str]]]]  # as in secure_message.preview


class MalformedFrameError(Exception):
    """A frame that is too large or holds something else than an answer."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A request to parse; without a format, to return the first rows of the tables in a file."""

    format: Format | None
    options: Options
    skip: int  # items to leave out


class Items(msgspec.Struct, frozen=True, array_like=True, tag="items"):
    """Items in a row; `rejected` have their place among all of the frame.

    `total` is how many there are in all, 0 if that is not known. The last frame of a workbook has
    the counts of its sheets.
    """

    requests: Annotated[list[InboundItem], msgspec.Meta(max_length=MAX_FRAME_ITEMS)]
    rejected: Annotated[list[tuple[int, RejectedRow]], msgspec.Meta(max_length=MAX_FRAME_ITEMS)]
    total: int
    sheets: tuple[SheetCounts, ...]

    @classmethod
    def build(
        cls, items: list[ParseResult], total: int, sheets: tuple[SheetCounts, ...]
    ) -> "Items":
        """Return the frame of these items."""
        requests = [item for item in items if isinstance(item, InboundItem)]
        rejected = [
            (place, item) for place, item in enumerate(items) if isinstance(item, RejectedRow)
        ]
        return cls(requests, rejected, total, sheets)

    def list_all(self) -> list[ParseResult]:
        """Return requests and rejected rows in the order of the file."""
        items: list[ParseResult] = list(self.requests)
        for place, row in self.rejected:
            items.insert(place, row)
        return items


class Previews(msgspec.Struct, frozen=True, array_like=True, tag="previews"):
    """The first rows of the tables in a file."""

    tables: list[TablePreview]


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """Everything was read."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The parser raised ParseError with this message."""

    message: str


class Broken(msgspec.Struct, frozen=True, array_like=True, tag="broken"):
    """The parser raised another error, of this class and at this place in our code."""

    kind: str
    place: str


class OutOfMemory(msgspec.Struct, frozen=True, array_like=True, tag="memory"):
    """The parser needed more memory than one item may have."""


Answer = Items | Previews | End | Refused | Broken | OutOfMemory

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_request(request: Request) -> bytes:
    """Return the body of a frame."""
    return _encoder.encode(request)


def encode_answer(answer: Answer) -> bytes:
    """Return the body of a frame; that of OutOfMemory where the worker would not take it."""
    body = _encoder.encode(answer)
    return body if len(body) <= MAX_FRAME_BYTES else _encoder.encode(OutOfMemory())


def decode_request(body: bytes) -> Request:
    """Return the request in a frame."""
    return _request_decoder.decode(body)


def decode_answer(body: bytes) -> Answer:
    """Return the part of an answer in a frame. Raises MalformedFrameError where it is none."""
    try:
        return _answer_decoder.decode(body)
    # msgspec reports what is no MessagePack, of another type or nested too deep by these; their
    # texts may quote a customer's.
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise MalformedFrameError from None


def read_frame(read: Callable[[int], bytes], max_bytes: int | None = None) -> bytes | None:
    """Return the body of the next frame; None at the end of the stream, also within a frame.

    Raises MalformedFrameError for one of more than `max_bytes`.
    """
    head = read(_LENGTH_OCTETS)
    if len(head) < _LENGTH_OCTETS:
        return None
    size = int.from_bytes(head)
    if max_bytes is not None and size > max_bytes:
        raise MalformedFrameError
    body = read(size)
    return body if len(body) == size else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """Write a frame."""
    stream.write(build_head(body))
    stream.write(body)  # not joined with its length: it may be large


def build_head(body: bytes) -> bytes:
    """Return the octets that stand before the body of a frame."""
    return len(body).to_bytes(_LENGTH_OCTETS)
