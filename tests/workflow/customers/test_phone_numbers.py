"""Telephone numbers.

The same number is recognised in every notation, with or without the country code.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.item import Format
from workflow.customers import phone_numbers
from workflow.customers.phone_numbers import (
    build_search_words,
    find_numbers,
    list_digit_forms,
    list_search_forms,
)

WRITINGS = [
    "2125550142",
    "212-555-0142",
    "212.555.0142",
    "212 555 0142",
    "(212) 555-0142",
    "(212)555-0142",
    "212/555-0142",
    "+1 212 555 0142",
    "+1 (212) 555-0142",
    "1-212-555-0142",
    "12125550142",
    "001 212 555 0142",
    "212\u2013555\u20130142",
]


@pytest.mark.parametrize("kept", WRITINGS)
@pytest.mark.parametrize("asked", WRITINGS)
def test_two_writings_of_one_number_meet(kept: str, asked: str) -> None:
    assert find_numbers(kept) == [kept]
    assert set(list_search_forms(asked)) & set(list_digit_forms(kept))


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("+44 (0)20 7946 0018", "020 7946 0018"),
        ("0711/1234567", "+49 711 1234567"),
        ("+7 495 123-45-67", "4951234567"),
    ],
)
def test_numbers_of_other_countries_meet_with_and_without_their_code(kept: str, asked: str) -> None:
    assert set(list_search_forms(asked)) & set(list_digit_forms(kept))
    assert set(list_search_forms(kept)) & set(list_digit_forms(asked))


def test_the_last_seven_digits_are_enough_but_other_area_codes_are_not_the_same() -> None:
    assert set(list_search_forms("555-0142")) & set(list_digit_forms("(212) 555-0142"))
    assert not set(list_search_forms("(646) 555-0142")) & set(list_digit_forms("(212) 555-0142"))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("call (212) 555-0142 or 646.555.0199, after 5", ["(212) 555-0142", "646.555.0199"]),
        ("212-555-0142 646-555-0199", ["212-555-0142", "646-555-0199"]),
        ("212-555-0142/646-555-0199", ["212-555-0142", "646-555-0199"]),
        ("212-555-0142 x12", ["212-555-0142"]),
        ("2125550142ext3", ["2125550142"]),
        ("paid $1,234.56 on 3 May, claim 1001", []),
        ("", []),
    ],
)
def test_numbers_are_found_in_sentences(text: str, numbers: list[str]) -> None:
    assert [n.strip() for n in find_numbers(text)] == numbers


def test_what_is_no_number_has_no_forms() -> None:
    assert list_digit_forms("at the front desk") == []
    assert list_digit_forms("12") == []
    assert list_digit_forms("1" * 16) == []


def test_only_of_a_call_the_typed_words_are_searched_too() -> None:
    details = [("Caller", "Dr. Odd")]
    assert (
        build_search_words("2125550142", "", details, Format.PHONE) == "2125550142 5550142 Dr. Odd"
    )
    assert build_search_words("2125550142", "", details, Format.FORMSTACK) == "2125550142 5550142"
    assert build_search_words("ext. 44", "", (), Format.FORMSTACK) == "44"


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="0123456789 ()+-./x\n", max_size=200))
def test_any_text_is_read_and_what_is_found_has_forms(text: str) -> None:
    assert all(list_digit_forms(number) for number in find_numbers(text))
    assert len(find_numbers(text)) <= phone_numbers.MAX_NUMBERS
