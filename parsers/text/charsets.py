"""Bytes of a mail to text: what the label says, unless the bytes say otherwise."""

import codecs
import re
from functools import lru_cache

from charset_normalizer import from_bytes

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
    r"(ascii|utf-(7|8|8-sig|16|16-le|16-be|32|32-le|32-be)|iso8859-\d+|cp\d{3,4}|gb18030|gb2312|gbk|hz|big5|big5hkscs"
    r"|euc_(jp|kr|jis_2004|jisx0213)|shift_jis(_2004|x0213)?|iso2022_(jp|jp_1|jp_2|jp_2004|jp_3|jp_ext|kr)|johab"
    r"|koi8-[rtu]|kz1048|ptcp154|tis-620|mac-(roman|cyrillic|greek|turkish|latin2|iceland)|hp-roman8)",
)

MULTIBYTE = frozenset({"gb18030", "cp949", "cp932", "cp950", "big5hkscs", "euc_jp", "johab", "hz"})
SNIFF_BYTES = 8192  # enough for a guess; charset-normalizer's cost grows with its input
SNIFF_LEAST = 24  # below this a statistical guess is a coin toss
LATIN_SHARE = (
    0.4  # of letters above ASCII; Western text stays far below, Chinese and Cyrillic lie far above
)
UNDEFINED_1252 = {b: chr(b) for b in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
JIS_SHIFT = re.compile(rb"\x1b(\$[@B]|\(\w)")


@lru_cache(maxsize=256)
def find_codec(label: str) -> str:
    """Python's name of the codec to use for a label of a mail.

    Or "" where the label names no character set.
    """
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
            found = codecs.lookup(ALIASES.get(spelling, spelling)).name
        except (LookupError, ValueError):
            continue
        if SAFE.fullmatch(found):
            return SUPERSETS.get(found, found)
    return ""


def decode(data: bytes, label: str = "", hint: str = "") -> str:
    """Text of bytes: never fails, never gives a NUL or a lone surrogate.

    And drops no byte it can show.

    `label` is what the message says of these bytes, `hint` what it says of others (for headers: the
    body's charset).
    """
    named = find_codec(label) if label else ""
    text = _seven_bit(data, named) if data.isascii() else _marked(data)
    return clean(
        text if text is not None else _eight_bit(data, named, find_codec(hint) if hint else "")
    )


def clean(text: str) -> str:
    """Text any database and JSON writer takes: without NULs and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _marked(data: bytes) -> str | None:
    """Text of bytes that open with a byte order mark."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return _strict(data[len(mark) :], name)
    return None


def _seven_bit(data: bytes, named: str) -> str:
    """ASCII, or one of the charsets that hide in it."""
    if b"\x1b" in data:
        return _escaped(data, named)
    if named in {"hz", "utf-7"}:
        return _strict(data, named) or data.decode("ascii")
    if named.startswith(("utf-16", "utf-32")) and b"\0" in data:
        return _wide(data, named)
    return data.decode("ascii")


def _escaped(data: bytes, named: str) -> str:
    """ISO 2022 in whatever dialect: the label is often missing or only `iso-2022-jp`."""
    if named.startswith("iso2022_kr") or b"\x1b$)C" in data:
        return _strict(data, "iso2022_kr") or data.decode("ascii", "replace")
    if JIS_SHIFT.search(data) is None:
        return data.decode("ascii", "replace")
    for name in ("iso2022_jp", "iso2022_jp_ext"):
        text = _strict(data, name)
        if text is not None:
            return text
    return _cp50220(data)


def _cp50220(data: bytes) -> str:
    """ISO-2022-JP as Microsoft writes it: with NEC and IBM characters, which only cp932 knows."""
    pieces = JIS_SHIFT.split(data)
    text = pieces[0].decode("ascii", "replace")
    for shift, run in zip(pieces[1::2], pieces[2::2], strict=False):
        if shift.startswith(b"$"):
            text += b"".join(_sjis(run[i : i + 2]) for i in range(0, len(run), 2)).decode(
                "cp932", "replace"
            )
        elif shift == b"(I":
            text += bytes(b | 0x80 for b in run).decode("cp932", "replace")
        else:
            text += run.decode("ascii", "replace")
    return text


def _sjis(pair: bytes) -> bytes:
    """One JIS X 0208 character as Shift_JIS.

    Line ends and stray bytes inside a run pass as they are.
    """
    if len(pair) < 2 or not (0x21 <= pair[0] <= 0x7E and 0x21 <= pair[1] <= 0x7E):  # noqa: PLR2004 - JIS X 0208
        return pair
    row, cell = pair[0] - 0x21, pair[1]
    lead = (row >> 1) + (0x81 if row < 0x3E else 0xC1)  # noqa: PLR2004 - Shift_JIS jumps over the half-width kana
    trail = cell + 0x7E if row & 1 else cell + (0x20 if cell > 0x5F else 0x1F)  # noqa: PLR2004
    return bytes((lead, trail))


def _wide(data: bytes, named: str) -> str:
    """UTF-16 or UTF-32 without a mark: big-endian says RFC 2781, little-endian says practice.

    The NULs decide.
    """
    if named in {"utf-16", "utf-32"}:
        named += "-le" if data[1::2].count(0) >= data[0::2].count(0) else "-be"
    return data.decode(named, "replace")


def _eight_bit(data: bytes, named: str, hint: str) -> str:
    utf8 = _strict(data, "utf-8")
    if utf8 is not None and not (
        named in MULTIBYTE and max(utf8) < "\u0800" and _strict(data, named) is not None
    ):
        return utf8
    if named.startswith(("utf-16", "utf-32")):
        return _wide(data, named)
    if named == "utf-8" or (not named and _mostly_utf8(data)):
        return data.decode("utf-8", "replace") if _mostly_utf8(data) else _guess(data, hint)
    if named and named != "cp1252":
        text = _strict(data, named)
        return text if text is not None else _mislabelled(data, named, hint)
    if named == "cp1252" and _looks_latin(data):
        return _latin(data)
    return _guess(data, hint)


def _mostly_utf8(data: bytes) -> bool:
    """Return whether damaged UTF-8 is still best read as such.

    More whole characters than broken ones.
    """
    broken = data.decode("utf-8", "replace").count("\ufffd")
    whole = sum(1 for c in data.decode("utf-8", "ignore")[:SNIFF_BYTES] if c > "\x7f")
    return whole >= max(broken, 1)


def _looks_latin(data: bytes) -> bool:
    """Return whether bytes labelled Western may be Western.

    Few letters above ASCII, and no C1 controls.
    """
    sample = data[:SNIFF_BYTES]
    high = sum(b > 0x7F for b in sample)  # noqa: PLR2004 - above ASCII
    letters = sum(chr(b).isalpha() for b in sample if b < 0x80) + high  # noqa: PLR2004 - ASCII
    return high < 6 or high < LATIN_SHARE * letters  # noqa: PLR2004 - too few to say anything against the label


def _mislabelled(data: bytes, named: str, hint: str) -> str:
    """The named charset with marks for a few broken bytes, or a guess where it fits badly."""
    text = data.decode(named, "replace")
    if named in MULTIBYTE or text.count("\ufffd") * 10 < len(data):
        return text
    return _guess(data, hint)


def _guess(data: bytes, hint: str) -> str:
    """Return what bytes without a trustworthy label are likeliest to be."""
    if hint and hint not in {"utf-8", "cp1252"} and not hint.startswith(("utf-16", "utf-32")):
        text = _strict(data, hint)
        if text is not None:
            return text
    name = guess_codec(data)
    return _latin(data) if name == "cp1252" else data.decode(name, "replace")


def guess_codec(data: bytes) -> str:
    """The codec that bytes which are no UTF-8 are likeliest in.

    Windows-1252, unless their letters say otherwise.
    """
    if len(data) >= SNIFF_LEAST and not _looks_latin(data):
        best = from_bytes(data[:SNIFF_BYTES]).best()
        name = find_codec(best.encoding) if best is not None else ""
        if name and name not in {"utf-8", "ascii"}:
            return name
    return "cp1252"


def _latin(data: bytes) -> str:
    """Decode Windows-1252.

    Its five undefined bytes pass as C1 controls, as in ISO 8859-1 (WHATWG does the same).
    """
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1").translate(_C1_AS_1252)


_C1_AS_1252 = {b: UNDEFINED_1252.get(b) or bytes([b]).decode("cp1252") for b in range(0x80, 0xA0)}


def _strict(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except (UnicodeError, ValueError):
        return None
