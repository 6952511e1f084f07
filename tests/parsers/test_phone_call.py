"""Calls that staff wrote down, composed and parsed again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers import phone_call
from parsers.item import Address, Format, ParseError
from parsers.phone_call import Contact


def test_what_the_console_composes_is_read_back() -> None:
    raw = phone_call.compose(
        call_id="c-1",
        company="Sunrise Clinic",
        name="Pat Doe",
        email="pat@clinic.example",
        phone="234-555-6789",
        subject="Denied claim",
        text="Called about claim 1001.\nCall back.",
        contacts=[Contact("Sam Roe", "sam@clinic.example", share_activity=False)],
        created_by="alice",
        telemedicine=True,
    )
    (item,) = phone_call.parse(raw)
    assert item.format is Format.PHONE
    assert item.external_id == "c-1"
    assert item.sender == Address("Pat Doe", "pat@clinic.example")
    assert item.to == (Address("Sam Roe", "sam@clinic.example"),)
    assert item.text == "Called about claim 1001.\nCall back."
    assert item.details == (
        ("Caller", "Pat Doe"),
        ("Call back", "234-555-6789"),
        ("Practice", "Sunrise Clinic"),
        ("Contact", "Sam Roe <sam@clinic.example>"),
        ("Written down by", "alice"),
    )
    assert item.unshared_addresses == ("sam@clinic.example",)
    assert item.telemedicine
    assert item.caveats == ()


def test_without_a_caller_the_first_contact_is_the_sender() -> None:
    contacts = [
        Contact("A", "a@x.example"),
        Contact("B", "b@x.example"),
        Contact("A", "A@X.example"),
    ]
    (item,) = phone_call.parse(phone_call.compose(call_id="c", contacts=contacts))
    assert item.sender == Address("A", "a@x.example")
    assert item.to == (Address("B", "b@x.example"),)


def test_a_call_without_answers_has_caveats_on_what_to_ask() -> None:
    (item,) = phone_call.parse(phone_call.compose(call_id="c"))
    assert item.sender == Address()
    assert item.caveats == (
        "no e-mail address given",
        "no phone number given",
        "practice not given",
    )


def test_what_is_typed_where_an_address_belongs_is_kept_as_it_was_typed() -> None:
    raw = phone_call.compose(
        call_id="c",
        email="jo at the clinic",
        contacts=[Contact("Sam Roe"), Contact("", "no address")],
    )
    (item,) = phone_call.parse(raw)
    assert item.sender == Address("Sam Roe")
    assert "the e-mail address given cannot be used" in item.caveats
    assert ("E-mail address", "jo at the clinic") in item.details
    assert [value for label, value in item.details if label == "Contact"] == [
        "Sam Roe",
        "no address",
    ]


typed = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=700)


@settings(deadline=None, max_examples=50)
@given(name=typed, number=typed, company=typed, subject=typed, email=typed, contact=typed)
def test_nothing_that_was_typed_is_lost(
    name: str, number: str, company: str, subject: str, email: str, contact: str
) -> None:
    raw = phone_call.compose(
        call_id="c",
        name=name,
        phone=number,
        company=company,
        subject=subject,
        email=email,
        contacts=[Contact(contact)],
    )
    (item,) = phone_call.parse(raw)
    values = [value for _, value in item.details]
    shown = [*values, item.sender.email, item.subject]
    assert all(one in shown for one in (name, number, company, subject, email, contact))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id":""}',
        b'{"id":{}}',
        b'{"id":"1","text":[]}',
        b'{"id":"1","contacts":{"a":1}}',
        b"\xff",
    ],
)
def test_what_is_no_call_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        phone_call.parse(raw)


json_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.lists(st.text())
    | st.dictionaries(st.text(), st.text())
)
keys = st.sampled_from(
    ["id", "company", "name", "email", "contacts", "text", "telemedicine", "created_by"]
)


@settings(deadline=None, max_examples=50)
@given(
    st.binary()
    | st.dictionaries(keys, json_values | st.lists(st.dictionaries(keys, json_values))).map(
        lambda d: json.dumps(d).encode()
    )
)
def test_nothing_but_parse_error(raw: bytes) -> None:
    try:
        (item,) = phone_call.parse(raw)
    except ParseError:
        return
    assert item.external_id


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text())
def test_no_text_breaks_a_line_or_the_database(subject: str, text: str) -> None:
    (item,) = phone_call.parse(phone_call.compose(call_id="c", subject=subject, text=text))
    assert len(item.subject.splitlines()) <= 1
    item.subject.encode()
    assert "\x00" not in item.text
    item.text.encode()
