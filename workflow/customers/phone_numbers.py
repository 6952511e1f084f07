"""Telephone numbers as people write them, in the forms by which search compares them.

A number is found whatever stands between its digits, with its country code or without. So a message
keeps, beside the number as it was written, a few strings of digits alone; what somebody looks for
is turned into the same strings, and one in common is enough.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from parsers.item import Format

MIN_DIGITS, MAX_DIGITS = 7, 15  # digits: a local number in North America; the longest by E.164
LOCAL_DIGITS = 7  # the last digits, without the area code
MAX_TEXT = 20_000  # characters of a text looked through
MAX_NUMBERS = 20  # of one message: a table of claim numbers is not a telephone directory
ONE_DIGIT_CODES = ("1", "7")  # country codes of one digit (E.164); all others have two or three
_SIGN = r"[ \t\u00a0().\-\u2010-\u2015]"
_NUMBER = re.compile(
    # North America first: of two such numbers one behind the other, it finds both.
    rf"(?<!\d)(?:(?:\+|00)?1{_SIGN}{{0,2}})?\(?\d{{3}}(?:{_SIGN}{{0,2}}|/)\d{{3}}{_SIGN}{{0,2}}\d{{4}}(?!\d)"
    # Any other: digits with at most three signs between two of them.
    rf"|(?<!\d)(?:\+{_SIGN}?)?\(?\d(?:(?:{_SIGN}{{0,3}}|/)\d){{6,17}}(?!\d)"
)
# Where a number can be at all, which is told ten times as fast: every text that comes in is looked
# through.
_STRETCH = re.compile(r"\d[\d+/ \t\u00a0().\-\u2010-\u2015]{6,}")
MAX_PREFIX = 4  # signs in front of the first digit: "+ (" and the like
_TRUNK = re.compile(r"\(0\)")  # written behind a country code, and never dialled after it
_SIGNS = re.compile(r"\D+")


def find_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where numbers stand in a text, in order."""
    text = text[:MAX_TEXT]
    at = 0
    for stretch in _STRETCH.finditer(text):
        begin = max(at, stretch.start() - MAX_PREFIX)
        for match in _NUMBER.finditer(text, begin, stretch.end()):
            if MIN_DIGITS <= len(_digits(match[0])) <= MAX_DIGITS:
                yield match.span()
        at = stretch.end()


def find_numbers(text: str) -> list[str]:
    """Return the numbers in a text as they are written, in order; at most `MAX_NUMBERS`."""
    return [text[begin:end] for begin, end in islice(find_spans(text), MAX_NUMBERS)]


def list_digit_forms(number: str) -> list[str]:
    """Return the strings of digits under which a number is known, the fullest first.

    Empty if it is no number.

    `+1 (555) 010-2233` is known as 15550102233, 5550102233 and 0102233.
    """
    digits = _digits(number)
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return []
    known = [digits, *_without_country(digits, written=number.lstrip(" (").startswith(("+", "00")))]
    if digits.startswith("0"):  # the trunk prefix of most countries
        known.append(digits.lstrip("0"))
    known.append(digits[-LOCAL_DIGITS:])
    return [form for form in dict.fromkeys(known) if len(form) >= MIN_DIGITS]


def list_search_forms(number: str) -> list[str]:
    """Return the forms to look for.

    Its last digits alone only where nothing else was typed: many share them.
    """
    known = list_digit_forms(number)
    return [form for form in known if len(form) > LOCAL_DIGITS] or known


def build_search_words(
    phone: str, text: str, details: Iterable[tuple[str, str]], came_as: Format
) -> str:
    """Return the further words by which a message is found, beside its sender, subject and text.

    These are the forms of all its numbers; and of a call everything that staff typed about the
    caller.
    """
    values = [value for _, value in details]
    numbers = dict.fromkeys(
        number for part in (phone, *values, text) for number in find_numbers(part)
    )
    words = [form for number in list(numbers)[:MAX_NUMBERS] for form in list_digit_forms(number)]
    if phone and not find_numbers(
        phone
    ):  # an extension, a few digits, "at the front desk": as it stands
        words.append(_SIGNS.sub("", phone))
    if came_as is Format.PHONE:
        words += values
    return " ".join(dict.fromkeys(word for word in words if word))


def _digits(number: str) -> str:
    plain = _SIGNS.sub("", _TRUNK.sub("", number))
    return plain.removeprefix("00")


def _without_country(digits: str, *, written: bool) -> list[str]:
    """Return a number without its country code; of a code that can have two lengths, both ways."""
    # North America: 1, area code, seven digits
    if digits.startswith("1") and len(digits) == 11:  # noqa: PLR2004
        return [digits[1:]]
    if not written:
        return []
    return [digits[n:] for n in ((1,) if digits.startswith(ONE_DIGIT_CODES) else (2, 3))]
