"""Number formats that make a number an identity.

Leading zeros and fixed marks, as 000-00-0000 (ECMA-376 §18.8.31).
"""

import re
from functools import cache

_MOST = 15  # digits of a number that Excel keeps
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[\$-[0-9A-Fa-f,]*\]|(?P<digit>[0#?])|(?P<mark>[-/()'
    r" :])|(?P<other>.)",
    re.DOTALL,
)
_LOWER = re.compile(r"\[<=(\d{1,15})\]")


@cache
def parse_masks(code: str) -> tuple[tuple[float, str], ...]:
    """The masks of a format, each with the greatest number it is for.

    None where it is no format of identities.

    A mask has "0" for a digit always shown, "#" for one shown if there, and NUL before each mark:
    "M-"0000 shows 42 as M-0042. Formats with decimals, thousands, percent, colours or a day's parts
    are none.
    """
    found = []
    for section in code.split(";")[:2]:
        bound = _LOWER.match(section)
        mask = _mask(section[bound.end() :] if bound else section)
        if mask:
            found.append((float(bound[1]) if bound else float("inf"), mask))
        if not bound:
            break
    return tuple(found) if any("0" in mask or len(found) > 1 for _, mask in found) else ()


def format_digits(digits: str, code: str) -> str:
    """The digits of a whole number as a format of identities shows them.

    As they are under any other format.
    """
    mask = next((mask for most, mask in parse_masks(code) if int(digits) <= most), "")
    return _filled(digits, mask) if mask else digits


def _mask(section: str) -> str:
    mask = ""
    for token in _TOKEN.finditer(section):
        if token["other"]:
            return ""
        if token["digit"]:
            mask += "0" if token["digit"] == "0" else "#"
        else:
            mark = token["quoted"] or token["escaped"] or token["mark"] or ""
            mask += "".join(f"\0{character}" for character in mark)
    places = _places(mask)
    return mask if 1 < len(places) <= _MOST or (places and "\0" in mask) else ""


def _places(mask: str) -> str:
    return re.sub("\0.", "", mask, flags=re.DOTALL)


def _filled(digits: str, mask: str) -> str:
    """Fill a mask from its end; what is more than it holds goes before its first place."""
    places = _places(mask)
    padded = digits.rjust(len(places))
    more, rest = padded[: len(padded) - len(places)], iter(padded[len(padded) - len(places) :])
    out, characters = [], iter(mask)
    for character in characters:
        if character == "\0":
            out.append(next(characters))
            continue
        digit = next(rest)
        out.append(more + (digit if digit != " " else "0" * (character == "0")))
        more = ""
    return "".join(out)
