"""Telephone numbers in texts, and the digit forms by which search compares them.

A number is found whatever punctuation stands between its digits, with its country code or without.
For that a message stores, beside the number as written, a few strings of digits alone; a search
makes the same strings of its words, and one in common is a hit.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from parsers.item import Format

MIN_DIGITS, MAX_DIGITS = 7, 15  # digits: a local number in North America; the longest by E.164
LOCAL_DIGITS = 7  # without the area code
MAX_TEXT = 20_000  # characters of a text that are searched
MAX_NUMBERS = 20  # of one message: a table of claim numbers is not a telephone directory
ONE_DIGIT_CODES = ("1", "7")  # country codes of one digit (E.164); all others have two or three
_SIGN = r"[ \t\u00a0().\-\u2010-\u2015]"
_NUMBER = re.compile(
    # North America first: of two such numbers one behind the other, it finds both.
    rf"(?<!\d)(?:(?:\+|00)?1{_SIGN}{{0,2}})?\(?\d{{3}}(?:{_SIGN}{{0,2}}|/)\d{{3}}{_SIGN}{{0,2}}\d{{4}}(?!\d)"
    # Any other: digits with at most three punctuation characters between two of them.
    rf"|(?<!\d)(?:\+{_SIGN}?)?\(?\d(?:(?:{_SIGN}{{0,3}}|/)\d){{6,17}}(?!\d)"
)
# Where a number can be at all. Every incoming text is searched, and this test is ten times as fast.
_STRETCH = re.compile(r"\d[\d+/ \t\u00a0().\-\u2010-\u2015]{6,}")
MAX_PREFIX = 4  # characters before the first digit: "+ (" and the like
_TRUNK = re.compile(r"\(0\)")  # trunk prefix, written after a country code but not dialled
_SIGNS = re.compile(r"\D+")


def find_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the numbers in a text, in order."""
    text = text[:MAX_TEXT]
    searched_until = 0
    for stretch in _STRETCH.finditer(text):
        begin = max(searched_until, stretch.start() - MAX_PREFIX)
        for match in _NUMBER.finditer(text, begin, stretch.end()):
            if MIN_DIGITS <= len(_extract_digits(match[0])) <= MAX_DIGITS:
                yield match.span()
        searched_until = stretch.end()


def find_numbers(text: str) -> list[str]:
    """Return the numbers in a text as they are written, in order; at most `MAX_NUMBERS`."""
    return [text[begin:end] for begin, end in islice(find_spans(text), MAX_NUMBERS)]


def list_digit_forms(number: str) -> list[str]:
    """Return the strings of digits that stand for a number, the longest first.

    Empty when it is no number. Example: `+1 (555) 010-2233` gives 15550102233, 5550102233 and
    0102233.
    """
    digits = _extract_digits(number)
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return []
    is_international = number.lstrip(" (").startswith(("+", "00"))
    forms = [digits, *_strip_country_code(digits, is_international=is_international)]
    if digits.startswith("0"):  # the trunk prefix of most countries
        forms.append(digits.lstrip("0"))
    forms.append(digits[-LOCAL_DIGITS:])
    return [form for form in dict.fromkeys(forms) if len(form) >= MIN_DIGITS]


def list_search_forms(number: str) -> list[str]:
    """Return the forms of a number to search for.

    The local digits alone only when nothing else was typed, since many numbers share them.
    """
    forms = list_digit_forms(number)
    return [form for form in forms if len(form) > LOCAL_DIGITS] or forms


def build_search_words(
    phone: str, text: str, details: Iterable[tuple[str, str]], came_as: Format
) -> str:
    """Return words for the search index of a message, beside its sender, subject and text.

    These are the forms of all its numbers, and of a call everything that staff typed about the
    caller.
    """
    values = [value for _, value in details]
    words = _list_forms_in((phone, *values, text))
    if phone and not find_numbers(phone):  # an extension, or a few digits: indexed as they are
        words.append(_SIGNS.sub("", phone))
    if came_as is Format.PHONE:
        words += values
    return " ".join(dict.fromkeys(word for word in words if word))


def _list_forms_in(texts: Iterable[str]) -> list[str]:
    """Return the forms of the first `MAX_NUMBERS` different numbers in some texts."""
    numbers = dict.fromkeys(number for text in texts for number in find_numbers(text))
    first = islice(numbers, MAX_NUMBERS)
    return [form for number in first for form in list_digit_forms(number)]


def _extract_digits(number: str) -> str:
    """Return the digits of a number, without its prefix for international calls."""
    plain = _SIGNS.sub("", _TRUNK.sub("", number))
    return plain.removeprefix("00")


def _strip_country_code(digits: str, *, is_international: bool) -> list[str]:
    """Return a number without its country code: both ways where the code can have two lengths.

    A code is assumed in North American numbers of eleven digits, and in numbers that are written in
    international form.
    """
    # North America: 1, area code, seven digits
    if digits.startswith("1") and len(digits) == 11:  # noqa: PLR2004
        return [digits[1:]]
    if not is_international:
        return []
    lengths = (1,) if digits.startswith(ONE_DIGIT_CODES) else (2, 3)
    return [digits[length:] for length in lengths]
