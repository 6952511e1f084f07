"""Decoder of text in any charset: by its label, unless the bytes contradict the label."""

import codecs
import re
from functools import lru_cache

from parsers.text import charset_guess

# A label names what the sender's program believed; these are what such programs really send (WHATWG
# Encoding §4.2, and the supersets every mail reader uses: GB18030 for GB2312, cp949 for KS C 5601,
# cp932 for Shift_JIS).
SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "cp950",
    "koi8-r": "koi8-u",
}

# Labels Python does not know, or knows as something else.
ALIASES = {
    "ansi": "cp1252",
    "cp-850": "cp850",
    "cp65001": "utf-8",
    "gb18030-2000": "gb18030",
    "iso-8859-6-i": "iso8859-6",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-8-i": "iso8859-8",
    "iso-10646-ucs-2": "utf-16",
    "ks_c_5601": "cp949",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "unicode": "utf-16",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
    "visual": "iso8859-8",
    "x-euc-cn": "gb18030",
    "x-gbk": "gb18030",
    "x-mac-roman": "mac-roman",
    "x-sjis": "cp932",
    "x-unicode-2-0-utf-7": "utf-7",
    "x-windows-949": "cp949",
    "x-x-big5": "cp950",
}

# Only codecs of character sets: bz2, hex, idna, punycode, undefined, unicode_escape and their like
# are no charsets, and some of them take quadratic time or unpack bombs.
SAFE = re.compile(
    r"(ascii|utf-(7|8|8-sig|16|16-le|16-be|32|32-le|32-be)"
    r"|iso8859-\d+|cp\d{3,4}"
    r"|gb18030|gb2312|gbk|hz|big5|big5hkscs"
    r"|euc_(jp|kr|jis_2004|jisx0213)|shift_jis(_2004|x0213)?"
    r"|iso2022_(jp|jp_1|jp_2|jp_2004|jp_3|jp_ext|kr)|johab"
    r"|koi8-[rtu]|kz1048|ptcp154|tis-620"
    r"|mac-(roman|cyrillic|greek|turkish|latin2|iceland)|hp-roman8)",
)

MULTIBYTE = frozenset({"gb18030", "cp949", "cp932", "cp950", "big5hkscs", "euc_jp", "johab", "hz"})
MAX_CHECKED = 8192  # characters of damaged UTF-8 that are counted
# What a label that says Western is worth as evidence; programs write one on anything.
WESTERN_LABEL = 4.0
UNDEFINED_1252 = {b: chr(b) for b in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
JIS_SHIFT = re.compile(rb"\x1b(\$[@B]|\(\w)")


@lru_cache(maxsize=256)
def find_codec(label: str) -> str:
    """Return Python's name of the codec for a label, "" where the label names no character set."""
    name = label.strip().strip("\"'").lower()
    if len(name) > 40 or not name.isascii():  # noqa: PLR2004 - no charset's name is longer
        return ""
    name = ALIASES.get(name, name).removeprefix("charset=")
    for spelling in (
        name,
        name.removeprefix("x-"),
        name.replace("windows", "cp").replace("-", ""),
        name.split("*")[0],
    ):
        try:
            name_in_python = codecs.lookup(ALIASES.get(spelling, spelling)).name
        except (LookupError, ValueError):
            continue
        if SAFE.fullmatch(name_in_python):
            return SUPERSETS.get(name_in_python, name_in_python)
    return ""


def decode(data: bytes, label: str = "", hint: str = "") -> str:
    """Decode bytes; raises nothing, and drops no byte that can be shown.

    The text has no NUL and no lone surrogate. `label` is the charset these bytes are labelled with,
    `hint` that of other bytes of the same message (for a header: the charset of the body).
    """
    codec = find_codec(label) if label else ""
    text = _decode_ascii(data, codec) if data.isascii() else _decode_marked(data)
    if text is None:
        text = _decode_high(data, codec, find_codec(hint) if hint else "")
    return clean(text)


def clean(text: str) -> str:
    """Return a text without NULs and lone surrogates, as any database and JSON writer takes it."""
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _decode_marked(data: bytes) -> str | None:
    """Decode bytes that open with a byte order mark; None for others."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return _decode_strict(data[len(mark) :], name)
    return None


def _decode_ascii(data: bytes, codec: str) -> str:
    """Decode bytes below 0x80: ASCII, or one of the charsets that are written in them."""
    if b"\x1b" in data:
        return _decode_escaped(data, codec)
    if codec in {"hz", "utf-7"}:
        return _decode_strict(data, codec) or data.decode("ascii")
    if codec.startswith(("utf-16", "utf-32")) and b"\0" in data:
        return _decode_wide(data, codec)
    return data.decode("ascii")


def _decode_escaped(data: bytes, codec: str) -> str:
    """Decode ISO 2022 in any dialect: the label is often missing or only `iso-2022-jp`."""
    if codec.startswith("iso2022_kr") or b"\x1b$)C" in data:
        return _decode_strict(data, "iso2022_kr") or data.decode("ascii", "replace")
    if JIS_SHIFT.search(data) is None:
        return data.decode("ascii", "replace")
    for name in ("iso2022_jp", "iso2022_jp_ext"):
        text = _decode_strict(data, name)
        if text is not None:
            return text
    return _decode_cp50220(data)


def _decode_cp50220(data: bytes) -> str:
    """Decode ISO-2022-JP of Microsoft: with NEC and IBM characters, which only cp932 knows."""
    pieces = JIS_SHIFT.split(data)
    text = pieces[0].decode("ascii", "replace")
    for shift, run in zip(pieces[1::2], pieces[2::2], strict=False):
        if shift.startswith(b"$"):
            pairs = (run[start : start + 2] for start in range(0, len(run), 2))
            text += b"".join(map(_convert_to_sjis, pairs)).decode("cp932", "replace")
        elif shift == b"(I":
            text += bytes(b | 0x80 for b in run).decode("cp932", "replace")
        else:
            text += run.decode("ascii", "replace")
    return text


def _convert_to_sjis(pair: bytes) -> bytes:
    """Return a JIS X 0208 character as Shift_JIS.

    Line ends and stray bytes inside a run pass as they are.
    """
    first, last = 0x21, 0x7E  # of the bytes of a character
    if len(pair) < 2 or not all(first <= byte <= last for byte in pair):  # noqa: PLR2004 - a pair
        return pair
    row, cell = pair[0] - first, pair[1]
    # Shift_JIS jumps over the half-width kana, 0xA0 to 0xDF, and over 0x7F.
    lead = (row >> 1) + (0x81 if row < 0x3E else 0xC1)  # noqa: PLR2004
    even = 0x20 if cell > 0x5F else 0x1F  # noqa: PLR2004
    return bytes((lead, cell + (0x7E if row & 1 else even)))


def _decode_wide(data: bytes, codec: str) -> str:
    """Decode UTF-16 or UTF-32.

    Without a mark it is big-endian by RFC 2781 and mostly little-endian in practice: the NULs
    decide.
    """
    if codec in {"utf-16", "utf-32"}:
        codec += "-le" if data[1::2].count(0) >= data[0::2].count(0) else "-be"
    return data.decode(codec, "replace")


def _decode_high(data: bytes, codec: str, hint: str) -> str:
    """Decode bytes some of which are above 0x7F, and that have no byte order mark."""
    utf8 = _decode_strict(data, "utf-8")
    if utf8 is not None and not _may_be_multibyte(data, codec, utf8):
        return utf8
    if codec.startswith(("utf-16", "utf-32")):
        return _decode_wide(data, codec)
    if codec in {"", "utf-8"}:
        return (
            data.decode("utf-8", "replace")
            if _is_mostly_utf8(data)
            else _decode_by_guess(data, hint)
        )
    if codec == "cp1252":
        return _decode_by_guess(data, hint, WESTERN_LABEL)
    text = _decode_strict(data, codec)
    return text if text is not None else _decode_mislabelled(data, codec, hint)


def _may_be_multibyte(data: bytes, codec: str, utf8: str) -> bool:
    """Return whether a multibyte label may be right although the bytes are valid UTF-8.

    Two bytes of such a charset can be one of UTF-8, but never three.
    """
    if codec not in MULTIBYTE or max(utf8) >= "\u0800":
        return False
    return _decode_strict(data, codec) is not None


def _is_mostly_utf8(data: bytes) -> bool:
    """Return whether damaged UTF-8 is best decoded as UTF-8 all the same.

    It has more whole characters than broken ones.
    """
    broken = data.decode("utf-8", "replace").count("\ufffd")
    whole = sum(1 for c in data.decode("utf-8", "ignore")[:MAX_CHECKED] if c > "\x7f")
    return whole >= max(broken, 1)


def _decode_mislabelled(data: bytes, codec: str, hint: str) -> str:
    """Decode by a label with marks for a few broken bytes, or by a guess where it fits badly."""
    text = data.decode(codec, "replace")
    if codec in MULTIBYTE or text.count("\ufffd") * 10 < len(data):
        return text
    return _decode_by_guess(data, hint)


def _decode_by_guess(data: bytes, hint: str, western_prior: float = 0.0) -> str:
    """Decode bytes without a label that can be trusted, by the hint or the likeliest charset.

    Where the evidence decides for none, each byte above ASCII is U+FFFD: wrong letters would pass
    for the sender's.
    """
    if hint and hint not in {"utf-8", "cp1252"} and not hint.startswith(("utf-16", "utf-32")):
        text = _decode_strict(data, hint)
        if text is not None:
            return text
    guess = charset_guess.guess(data, western_prior)
    if guess.codec not in {"", "cp1252"}:
        return data.decode(guess.codec, "replace")
    return _decode_latin(data) if guess.looks_western else data.decode("ascii", "replace")


def guess_codec(data: bytes) -> str:
    """Return the likeliest codec of bytes that are no UTF-8, Windows-1252 where none is likely."""
    return charset_guess.guess(data).codec or "cp1252"


def _decode_latin(data: bytes) -> str:
    """Decode Windows-1252.

    Its five undefined bytes pass as C1 controls, as in ISO 8859-1 (WHATWG does the same).
    """
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1").translate(_C1_AS_1252)


_C1_AS_1252 = {b: UNDEFINED_1252.get(b) or bytes([b]).decode("cp1252") for b in range(0x80, 0xA0)}


def _decode_strict(data: bytes, name: str) -> str | None:
    """Decode bytes all of which are valid in a charset, None where some are not."""
    try:
        return data.decode(name)
    except (UnicodeError, ValueError):
        return None
