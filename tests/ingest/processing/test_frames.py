"""Frames between workers and parsers: typed, bounded, and nothing in them can run."""

import io
import pickle
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.processing import frames
from ingest.processing.frames import Answer, Broken, End, Items, MalformedFrameError, OutOfMemory
from parsers.item import (
    Address,
    Attachment,
    Bounce,
    Encoding,
    Format,
    InboundItem,
    ParseResult,
    RejectedRow,
    SheetCounts,
    Span,
)
from parsers.options import FormMap, Options, Profile

ITEM = InboundItem(
    format=Format.MAIL,
    external_id="1@x.example",
    sender=Address("Müller", "a@x.example"),
    details=(("a", "b"),),
    sent_at=datetime(2026, 3, 2, 15, 0, 0, 1, tzinfo=UTC),
    attachments=(
        Attachment("a.pdf", "application/pdf", b"\0\xff", span=Span(1, 4, Encoding.BASE64)),
        Attachment("b.txt", "text/plain", b"", inline=True, content_id="x"),
    ),
    bounce=Bounce(failed=("b@x.example",)),
)
ROW = RejectedRow(sheet="S", row=7, cell="D7", reason="no", values=(("a", "b"),))
ANSWERS: list[Answer] = [
    Items.build([ITEM, ROW, ITEM, ROW, ROW], 9, (SheetCounts(sheet="S", rows=3),)),
    frames.Previews([("S", [(1, {1: "a", 3: "b"})])]),
    frames.Refused("the file is locked"),
    Broken("KeyError", "row.py:7"),
    OutOfMemory(),
    End(),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert frames.decode_answer(frames.encode_answer(answer)) == answer


@pytest.mark.parametrize(
    "items", [[], [ITEM], [ROW], [ROW, ITEM, ROW], [ITEM, ITEM, ROW], [ROW, ROW, ITEM]]
)
def test_requests_and_rejected_rows_keep_their_order(items: list[ParseResult]) -> None:
    assert Items.build(items, 0, ()).list_all() == items


def test_a_request_arrives_as_it_was_sent() -> None:
    options = Options(
        profiles=(Profile(name="p", columns=(("a", "text"),)),),
        passwords=("open sesame",),
        forms=(FormMap(form="1", fields=(("b", "company"),)),),
    )
    for request in (
        frames.Request(Format.MAIL, options, 3),
        frames.Request(None, Options(), 0),
    ):
        assert frames.decode_request(frames.encode_request(request)) == request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        pickle.dumps(ITEM),
        msgspec.msgpack.encode(["unknown"]),
        msgspec.msgpack.encode(["items", [{"format": "mail"}], [], 0, []]),
        msgspec.msgpack.encode(["items", [], [], "many", []]),
        msgspec.msgpack.encode(["refused", b"bytes"]),
        msgspec.msgpack.encode(["items", [], [[2**64 - 1, {"sheet": "", "row": 1}]], 0, []]),
        b"\x92\xa7refused\xa3\xed\xa0\x80",  # a surrogate, which no database takes
        b"\x95\xa5items\xdd\xff\xff\xff\xff",  # a list of 4,294,967,295 entries
        b"\x91" * 1_000_000,
        frames.encode_answer(Items([ITEM] * 201, [], 0, ())),
        frames.encode_answer(ANSWERS[0])[:-1],
        frames.encode_answer(ANSWERS[0]) + b"\0",
    ],
)
def test_anything_else_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        frames.decode_answer(body)


def test_a_time_without_a_zone_is_malformed() -> None:
    body = frames.encode_answer(Items([ITEM], [], 0, ()))
    [_, [item], *rest] = msgspec.msgpack.decode(body)
    item["sent_at"] = "2026-03-02T15:00:00"
    with pytest.raises(MalformedFrameError):
        frames.decode_answer(msgspec.msgpack.encode(["items", [item], *rest]))


@given(at=st.integers(0), octet=st.integers(0, 255), index=st.integers(0, len(ANSWERS) - 1))
def test_a_changed_octet_is_malformed_or_an_answer(at: int, octet: int, index: int) -> None:
    body = bytearray(frames.encode_answer(ANSWERS[index]))
    body[at % len(body)] = octet
    with suppress(MalformedFrameError):
        assert isinstance(frames.decode_answer(bytes(body)), Answer)


@given(body=st.binary())
def test_any_octets_are_malformed_or_an_answer(body: bytes) -> None:
    with suppress(MalformedFrameError):
        assert isinstance(frames.decode_answer(body), Answer)


def test_the_length_of_a_frame_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    frames.write_frame(stream, b"12345")
    written = stream.getvalue()
    assert frames.read_frame(io.BytesIO(written).read, 5) == b"12345"
    with pytest.raises(MalformedFrameError):
        frames.read_frame(io.BytesIO(written).read, 4)
    for end in range(len(written)):
        assert frames.read_frame(io.BytesIO(written[:end]).read) is None
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    assert frames.decode_answer(frames.encode_answer(ANSWERS[0])) == OutOfMemory()
