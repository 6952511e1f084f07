"""Text signed by PGP in the clear (RFC 9580 §7): its words stand between lines of armour."""

import re

BEGIN = "-----BEGIN PGP SIGNED MESSAGE-----"
_BEGIN_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"
_END_SIGNATURE = "-----END PGP SIGNATURE-----"
_HEADER = re.compile(r"(?:Hash|Charset|Comment|Version|MessageID|NotDashEscaped):.*", re.IGNORECASE)
_BASE64 = re.compile(r"=?[A-Za-z0-9+/]{1,100}={0,2}")


def split_armour(text: str) -> tuple[str, str]:
    """Return the text without the armour of signatures in the clear, and that armour.

    The armour is "" where nothing is signed. A line within the armour that is none of it is
    somebody's words and stays.
    """
    if BEGIN not in text:
        return text, ""
    lines = text.split("\n")
    last_end = max(
        (i for i, line in enumerate(lines) if line.rstrip() == _END_SIGNATURE), default=0
    )
    words: list[str] = []
    armour: list[str] = []
    place = "outside"
    for number, line in enumerate(lines):
        bare = line.rstrip()
        is_armour, place = _read_line(bare, place, has_end=number < last_end)
        if is_armour:
            armour.append(bare)
        elif place == "signed" and line.startswith("- "):
            words.append(line[2:])  # §7.2: a dash at the beginning of a line is escaped
        else:
            words.append(line)
    return "\n".join(words), "\n".join(filter(None, armour))


def _read_line(line: str, place: str, *, has_end: bool) -> tuple[bool, str]:
    """Return whether a line is armour, and where the next one stands.

    `has_end` says that the end of a signature follows: without one no line counts as its base64.
    """
    if line == BEGIN:
        return True, "header"
    if place == "header":
        return _read_header_line(line)
    if place == "signature":
        return _read_signature_line(line)
    if place == "signed" and line == _BEGIN_SIGNATURE:
        return True, "signature" if has_end else "outside"
    return False, place


def _read_header_line(line: str) -> tuple[bool, str]:
    if not line:
        return True, "signed"
    return (True, "header") if _HEADER.fullmatch(line) else (False, "signed")


def _read_signature_line(line: str) -> tuple[bool, str]:
    if line == _END_SIGNATURE:
        return True, "outside"
    is_armour = not line or bool(_HEADER.fullmatch(line) or _BASE64.fullmatch(line))
    return is_armour, "signature"
