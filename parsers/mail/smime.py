"""Content of opaque S/MIME (RFC 8551 §3.5.2): a signed message is wrapped, but not encrypted.

Our own walk over the ASN.1, because `cryptography` returns the certificates of a signed block but
not its content, and asn1crypto had its last release in 2022. Nothing is verified here.
"""

import binascii
from dataclasses import dataclass

import pybase64

# Pieces of one content in BER; programs that stream write pieces of a kilobyte or more.
MAX_PIECES = 100_000
MAX_NESTING = 16  # of strings in strings, and of elements that are passed over
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2 (RFC 5652 §5.1)
_SEQUENCE, _OID, _EXPLICIT = 0x30, 0x06, 0xA0
_OCTETS, _OCTETS_IN_PIECES = 0x04, 0x24
_INDEFINITE = 0x80  # a length; below it the length itself, above it how many bytes the length has
_SHORTEST = 2  # bytes of an element: a tag and a length
_MAX_LENGTH_BYTES = 4  # of a length; more are no mail's


class _DamagedError(Exception):
    """The bytes are not what the walk expects."""


@dataclass(frozen=True, slots=True)
class SignedContent:
    """Bytes that were signed, mostly a MIME entity; `is_cut` where the end of them is missing."""

    content: bytes
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of ASN.1: `end` is None where its length is indefinite (X.690 §8.1.3.6)."""

    tag: int
    start: int
    end: int | None


def find_signed_content(block: bytes) -> SignedContent | None:
    """Return the content of a block that is only signed, None where it is none or has none.

    The block is DER or BER, as bytes or still in base64 with or without armour. What it is stands
    in it: the parameter smime-type is missing or wrong in the wild.
    """
    try:
        return _find_content(_remove_base64(block))
    except _DamagedError:
        return None


def looks_like_block(block: bytes) -> bool:
    """Return whether bytes begin as a CMS block does: with a sequence that begins with an OID."""
    try:
        data = _remove_base64(block[:200] if block[:1] == b"\x30" else block)
        sequence = _read(data, 0)
        return sequence.tag == _SEQUENCE and _read(data, sequence.start).tag == _OID
    except _DamagedError:
        return False


def _remove_base64(block: bytes) -> bytes:
    if block[:1] == b"\x30":
        return block
    lines = block.strip().splitlines()
    if lines and lines[0].startswith(b"-----BEGIN "):
        lines = [line for line in lines if not line.startswith(b"-----")]
    if not lines or not lines[0].startswith(b"MI"):  # 0x30 and a length of two bytes or indefinite
        raise _DamagedError
    try:
        return pybase64.b64decode(b"".join(lines))
    except (binascii.Error, ValueError) as error:
        raise _DamagedError from error


def _find_content(data: bytes) -> SignedContent | None:
    """Go down ContentInfo → SignedData → EncapsulatedContentInfo → eContent (RFC 5652 §3, §5)."""
    info = _expect(data, 0, _SEQUENCE)
    kind = _expect(data, info.start, _OID)
    if data[kind.start : kind.end] != _SIGNED_DATA:
        return None
    signed = _expect(data, _expect(data, _find_end(data, kind), _EXPLICIT).start, _SEQUENCE)
    position = signed.start
    for _ in ("version", "digestAlgorithms"):
        position = _find_end(data, _read(data, position))
    encapsulated = _expect(data, position, _SEQUENCE)
    position = _find_end(data, _expect(data, encapsulated.start, _OID))
    if encapsulated.end is not None and position >= encapsulated.end:
        return None  # a detached signature, or certificates alone
    content = _read(data, position)
    return _join_octets(data, content.start) if content.tag == _EXPLICIT else None


def _expect(data: bytes, position: int, tag: int) -> _Element:
    element = _read(data, position)
    if element.tag != tag:
        raise _DamagedError
    return element


def _read(data: bytes, position: int) -> _Element:
    """Return the element at a position; its end may lie behind that of the data."""
    header = data[position : position + _SHORTEST + _MAX_LENGTH_BYTES]
    if len(header) < _SHORTEST:
        raise _DamagedError
    tag, length = header[0], header[1]
    start = position + _SHORTEST
    if length == _INDEFINITE:
        return _Element(tag, start, None)
    if length < _INDEFINITE:
        return _Element(tag, start, start + length)
    size = length - _INDEFINITE
    if size > _MAX_LENGTH_BYTES or len(header) < _SHORTEST + size:
        raise _DamagedError
    length = int.from_bytes(header[_SHORTEST : _SHORTEST + size], "big")
    return _Element(tag, start + size, start + size + length)


def _find_end(data: bytes, element: _Element) -> int:
    """Return the position behind an element."""
    if element.end is not None:
        return element.end
    position, depth = element.start, 1
    for _ in range(MAX_PIECES):
        inner = _read(data, position)
        if inner.tag == 0 and inner.end == inner.start:  # end of contents
            depth -= 1
            position = inner.start
            if depth == 0:
                return position
        elif inner.end is None:
            depth += 1
            position = inner.start
            if depth > MAX_NESTING:
                raise _DamagedError
        else:
            position = inner.end
    raise _DamagedError


def _join_octets(data: bytes, position: int) -> SignedContent:
    """Return an OCTET STRING, whole or in pieces (X.690 §8.7), as far as it is there."""
    pieces: list[bytes] = []
    ends: list[int | None] = []  # of the strings that the walk is in
    for _ in range(MAX_PIECES):
        while ends and ends[-1] is not None and position >= ends[-1]:
            ends.pop()
        if pieces and not ends:
            return SignedContent(b"".join(pieces), is_cut=False)
        try:
            element = _read(data, position)
        except _DamagedError:
            break
        if element.tag == 0 and element.end == element.start and ends:
            ends.pop()
            position = element.start
            if not ends:
                return SignedContent(b"".join(pieces), is_cut=False)
        elif element.tag == _OCTETS and element.end is not None:
            pieces.append(data[element.start : element.end])
            position = element.end
            if position > len(data):
                break
        elif element.tag == _OCTETS_IN_PIECES and len(ends) < MAX_NESTING:
            ends.append(element.end)
            position = element.start
        else:
            break
    if not pieces:
        raise _DamagedError
    return SignedContent(b"".join(pieces), is_cut=True)
