"""Number formats that make a number an identity.

They show leading zeros or fixed marks, as 000-00-0000 does (ECMA-376 §18.8.31).
"""

import re
from functools import cache

_MAX_DIGITS = 15  # of a number in Excel
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[\$-[0-9A-Fa-f,]*\]|(?P<digit>[0#?])|(?P<mark>[-/()'
    r" :])|(?P<other>.)",
    re.DOTALL,
)
_UPPER_BOUND = re.compile(r"\[<=(\d{1,15})\]")


@cache
def parse_masks(code: str) -> tuple[tuple[float, str], ...]:
    """Return the masks of a format, each with the greatest number it is for.

    A mask has "0" for a digit that is always shown, "#" for one that is shown where the number has
    it, and NUL before each mark: "M-"0000 shows 42 as M-0042. () where the format is for no
    identities, as those with decimals, thousands, percent, colours or parts of a day.
    """
    masks = []
    for section in code.split(";")[:2]:
        bound = _UPPER_BOUND.match(section)
        mask = _parse_mask(section[bound.end() :] if bound else section)
        if mask:
            masks.append((float(bound[1]) if bound else float("inf"), mask))
        if not bound:
            break
    has_zeros = any("0" in mask for _, mask in masks)
    return tuple(masks) if has_zeros or len(masks) > 1 else ()


def format_digits(digits: str, code: str) -> str:
    """Return the digits of a whole number as a format of identities shows them.

    Under any other format they are returned as they are.
    """
    mask = next((mask for most, mask in parse_masks(code) if int(digits) <= most), "")
    return _fill_mask(digits, mask) if mask else digits


def _parse_mask(section: str) -> str:
    """Return the mask of one section of a format; "" where the section is for no identities."""
    pieces = []
    for token in _TOKEN.finditer(section):
        if token["other"]:
            return ""
        pieces.append(_convert_token(token))
    mask = "".join(pieces)
    places = _remove_marks(mask)
    has_marks = "\0" in mask
    # A single digit without marks is an ordinary number.
    if 1 < len(places) <= _MAX_DIGITS or (places and has_marks):
        return mask
    return ""


def _convert_token(token: re.Match[str]) -> str:
    """Return the piece of a mask for a digit, a quoted text or a mark of a format."""
    if token["digit"]:
        return "0" if token["digit"] == "0" else "#"
    marks = token["quoted"] or token["escaped"] or token["mark"] or ""
    return "".join(f"\0{character}" for character in marks)


def _remove_marks(mask: str) -> str:
    """Return the places for digits of a mask."""
    return re.sub("\0.", "", mask, flags=re.DOTALL)


def _fill_mask(digits: str, mask: str) -> str:
    """Return the mask with digits in its places, filled from its end.

    Digits that are more than its places stand before the first one.
    """
    places = _remove_marks(mask)
    padded = digits.rjust(len(places))
    excess = padded[: len(padded) - len(places)]
    remaining = iter(padded[len(excess) :])
    pieces = []
    characters = iter(mask)
    for character in characters:
        if character == "\0":
            pieces.append(next(characters))
            continue
        digit = next(remaining)
        if digit == " ":  # the number has no digit for this place
            digit = "0" if character == "0" else ""
        pieces.append(excess + digit)
        excess = ""
    return "".join(pieces)
