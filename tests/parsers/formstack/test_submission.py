"""Every payload shape Formstack's settings give, and what strangers make of them."""

import contextlib
import json
import unicodedata
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.formstack import submission
from parsers.item import Address, Format, InboundItem, ParseError

JSON = "application/json; charset=utf-8"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
ANSWERS = {
    "FormID": "6606394",
    "UniqueID": "1500878955",
    "HandshakeKey": "open-sesame",
    "Practice": "Sunrise Clinic",
    "Name": "Pat Doe",
    "Email": "pat@clinic.example",
    "Phone": "234-555-6789",
    "Subject": "Billing issue",
    "Message": "Claim 1001 was denied.",
}


def read(body: dict[str, object] | bytes) -> InboundItem:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    (item,) = submission.parse(raw)
    return item


def check(raw: bytes, content_type: str) -> None:
    """Check a body as the webhook does."""
    submission.parse_fields(raw)
    submission.check_content_type(raw, content_type)


def encode_form(body: dict[str, str]) -> bytes:
    return urlencode(body).encode()


@pytest.mark.parametrize("raw", [encode_form(ANSWERS), json.dumps(ANSWERS).encode()])
def test_a_form_is_the_same_item_in_either_encoding(raw: bytes) -> None:
    item = read(raw)
    assert item.format is Format.FORMSTACK
    assert item.external_id == "6606394/1500878955"
    assert item.submission_id == "1500878955"
    assert item.sender == Address("Pat Doe", "pat@clinic.example")
    assert (item.company, item.phone, item.subject) == (
        "Sunrise Clinic",
        "234-555-6789",
        "Billing issue",
    )
    assert item.text.splitlines()[0] == "Message: Claim 1001 was denied."
    assert "Phone: 234-555-6789" in item.text
    assert item.details == item.caveats == ()


@pytest.mark.parametrize("raw", [encode_form(ANSWERS), json.dumps(ANSWERS).encode()])
def test_the_handshake_key_is_nowhere_in_the_item(raw: bytes) -> None:
    (item,) = submission.parse(raw)
    everything = " ".join(str(getattr(item, name)) for name in item.__dataclass_fields__)
    assert "open-sesame" not in everything
    assert "Handshake" not in everything


def test_a_signed_form_without_answers_is_an_item_with_caveats_on_what_to_ask() -> None:
    item = read(b"FormID=6606394&UniqueID=1500878955&HandshakeKey=test")
    assert item.external_id == "6606394/1500878955"
    assert item.text == ""
    assert item.caveats == (
        "no e-mail address given",
        "no phone number given",
        "practice not given",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("first = John\nlast = Smith", "John Smith"),
        ("first = John\nlast = Smith\nfield_type = name", "John Smith"),
        (
            "address = 1 Test Drive\ncity = Test\nstate = IN\nzip = 12345",
            "1 Test Drive, Test, IN, 12345",
        ),
        ("value = john@example.test\nfield_type = email", "john@example.test"),
        ("value = Here is some more text field_type = text", "Here is some more text"),
        ("value = one\ntwo\nfield_type = textarea", "one\ntwo"),
        ("Billing = Good\nClaims = Poor\nfield_type = matrix", "Billing: Good, Claims: Poor"),
        (
            "charge_type = fixed\nquantity = 2\nunit_price = 5\ntotal = 10",
            "charge type: fixed, quantity: 2, unit price: 5, total: 10",
        ),
        ("balance = 5 but paid = 7", "balance = 5 but paid = 7"),
        ("first = I called\nthen nobody came", "first = I called\nthen nobody came"),
        ("first = John last = Smith field_type = name", "John Smith"),
        (
            "address = 1 Test Drive city = Test state = IN zip = 1 field_type = address",
            "1 Test Drive, Test, IN, 1",
        ),
        ("value = \nfield_type = text", ""),
        ("field_type = text", ""),
        ("first = I called last = nobody came", "first = I called last = nobody came"),
        ("type = denial", "type = denial"),
        ("the type = denial", "the type = denial"),
        ("value = 5", "value = 5"),
    ],
)
def test_urlencoded_values_are_split_only_where_they_are_sub_fields(value: str, text: str) -> None:
    item = read(encode_form({"FormID": "1", "UniqueID": "2", "Anything": value}))
    assert item.text == (f"Anything: {text}" if text else "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"first": "John", "last": "Smith"}, "John Smith"),
        ({"first": "John", "last": "Smith", "field_type": "name"}, "John Smith"),
        ({"value": "x", "type": "text"}, "x"),
        ({"value": ["A", "B"], "type": "checkbox"}, "A, B"),
        ({"value": ["line 1", "line 2"], "type": "textarea"}, "line 1\nline 2"),
        (["A", None, "B"], "A, B"),
        (True, "yes"),
        (12345678901234567890, "12345678901234567890"),
        (0.1, "0.1"),
        ({"x": {"y": [1, {"z": "deep"}]}}, "x: y: 1, z: deep"),
        ({"type": "refund", "amount": "5"}, "type: refund, amount: 5"),
    ],
)
def test_json_values_read_like_text(value: object, text: str) -> None:
    assert read({"FormID": "1", "UniqueID": "2", "Anything": value}).text == f"Anything: {text}"


def test_nulls_are_unanswered_and_friendly_keys_are_known() -> None:
    item = read(
        {
            "FormID": "3",
            "UniqueID": "4",
            "email_address": "a@example.test",
            "role": None,
            "opt_in": "Opt in",
        }
    )
    assert item.sender.email == "a@example.test"
    assert item.details == (("opt_in", "Opt in"),)
    assert "role" not in item.text


def test_field_types_stand_in_for_labels_that_say_nothing() -> None:
    item = read(
        {
            "FormID": "1",
            "UniqueID": "2",
            "8123": {"value": "pat@clinic.example", "type": "email"},
            "8124": {"first": "Pat", "last": "Doe", "field_type": "name"},
            "8125": {"value": "555", "type": "phone"},
        }
    )
    assert item.sender == Address("Pat Doe", "pat@clinic.example")
    assert item.phone == "555"


def test_words_around_a_label_do_not_hide_it() -> None:
    body = {
        "First Name": "Pat",
        "LastName": "Doe",
        "Your E-Mail Address *": "p@x.example",
        "Practice ID:": "0042",
    }
    item = read(body)
    assert item.sender == Address("Pat Doe", "p@x.example")
    assert item.company_number == "0042"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"FormID":"6","UniqueID":"1","Message":"first","Message":"second"}',
        b"FormID=6&UniqueID=1&Message=first&Message=second",
    ],
)
def test_duplicate_keys_keep_every_value_and_say_so(raw: bytes) -> None:
    item = read(raw)
    assert item.text == "Message: first\nMessage: second"
    assert any("same label" in caveat for caveat in item.caveats)


@pytest.mark.parametrize("odd", [{"$gt": ""}, None, "u" * 100_000, "../../etc/passwd", ""])
def test_an_odd_unique_id_is_no_identity(odd: object) -> None:
    item = read({**ANSWERS, "UniqueID": odd})
    assert item.external_id == item.submission_id == ""
    assert any("UniqueID" in caveat for caveat in item.caveats)


def test_several_addresses_make_the_first_the_sender() -> None:
    item = read({**ANSWERS, "Email": "a@x.example,b@y.example"})
    assert item.sender.email == "a@x.example"
    assert item.caveats == ("several e-mail addresses given: the first is used",)
    assert "b@y.example" in item.text


@pytest.mark.parametrize(
    "bad", ["not-an-address", "@", "a@", "a b", "x@.example", "a..b@x.example"]
)
def test_an_unusable_address_is_a_caveat(bad: str) -> None:
    item = read({**ANSWERS, "Email": bad})
    assert item.sender.email == ""
    assert item.caveats == ("the e-mail address given cannot be used",)


def test_nothing_can_break_out_of_a_line_or_a_column() -> None:
    evil = "s\r\nX-Injected: 1\x00\x1b[31m\u2028\ud800\u202e"
    item = read(
        {
            **ANSWERS,
            "Subject": evil,
            "Name": evil,
            "Email": "pat@clinic.example\r\nBcc: v@evil.example",
        }
    )
    assert item.sender.email == "pat@clinic.example"
    for text in (item.subject, item.sender.name):
        assert text.isprintable()
    item.text.encode()
    assert not set(item.text) & {"\x00", "\x1b", "\r"}


def test_telemedicine_is_noticed() -> None:
    assert read({**ANSWERS, "Category": "TeleHealth set-up"}).telemedicine
    assert read({**ANSWERS, "Telemedicine": "Yes"}).telemedicine
    assert not read({**ANSWERS, "Telemedicine": "No"}).telemedicine
    assert not read(ANSWERS).telemedicine


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"", FORM),
        (b"", JSON),
        (b"justtext", FORM),
        (b"&" * 100_000, FORM),
        (b"&".join(b"k%d=1" % n for n in range(3_000)), FORM),
        (b"{", JSON),
        (b"{}", JSON),
        (b"[]", JSON),
        (b'"x"', JSON),
        (b"null", JSON),
        (b"1", JSON),
        (b"a=b", JSON),
        (b'{"a":1} x', JSON),
        (b'{"a":"\xff\xfe"}', JSON),
        (b'{"a":' + b"9" * 100_000 + b"}", JSON),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JSON),
        (b"[" * 200_000, JSON),
        (json.dumps({f"k{n}": 1 for n in range(3_000)}).encode(), JSON),
        (json.dumps({"a": [{"b": 1}] * 3_000}).encode(), JSON),
        (b"<a/>", "text/xml"),
        (b"a=b", ""),
        (b"a=b", "text/plain"),
        (b'{"a":1}', "application/jsonx"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
    ],
)
def test_a_body_that_is_no_form_is_refused_by_the_webhook(raw: bytes, content_type: str) -> None:
    with pytest.raises(ParseError) as refused:
        check(raw, content_type)
    assert "denied" not in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (encode_form(ANSWERS), FORM),
        (b"FormID=%zz&UniqueID=%&x=%f&Bad=%ff%fe%80", FORM),
        (b"FormID=1;UniqueID=2", FORM),
        (json.dumps(ANSWERS).encode("utf-16"), JSON),
        (json.dumps(ANSWERS).encode("utf-16-be"), JSON),
        (b"\xef\xbb\xbf" + json.dumps(ANSWERS).encode(), "APPLICATION/JSON"),
        (b'{"UniqueID":1e999999999}', "application/vnd.api+json"),
        (b'{"n":NaN,"i":Infinity}', JSON),
        (b'{"a":"' + b"[" * 1_000 + b'"}', JSON),
    ],
)
def test_a_body_that_the_webhook_takes_is_parsed(raw: bytes, content_type: str) -> None:
    check(raw, content_type)
    assert len(submission.parse(raw)) == 1


@settings(deadline=None, max_examples=50)
@given(
    st.binary()
    | st.text().map(str.encode)
    | st.dictionaries(st.text(), st.text()).map(lambda d: urlencode(d, errors="replace").encode())
)
def test_nothing_but_parse_error(raw: bytes) -> None:
    for call in (submission.parse, lambda one: check(one, JSON), lambda one: check(one, FORM)):
        with contextlib.suppress(ParseError):
            call(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from([*ANSWERS, "Details", "Q1"]), values, min_size=1))
def test_whatever_is_answered_the_item_can_be_stored_and_mailed(body: dict[str, object]) -> None:
    item = read(body)
    for text in (
        item.subject,
        item.sender.name,
        item.sender.email,
        item.company,
        item.phone,
        item.category,
    ):
        assert len(text.splitlines()) <= 1
        assert len(text) <= 500
        assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
    for text in (item.text, *(part for pair in item.details for part in pair)):
        assert "\x00" not in text
        text.encode()
