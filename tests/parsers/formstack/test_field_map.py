"""Field maps from the settings, files in answers, and the shapes that forms were seen in."""

import base64
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.parser_options import build_form_maps
from parsers.formstack import field_labels, files, submission
from parsers.item import Address, InboundItem
from parsers.options import FormMap, Options
from workflow.settings.forms import FormDefault, FormField
from workflow.settings.settings import Settings

VECTORS = Path(__file__).parents[4] / "shared" / "formstack-vectors.json"
UNKNOWN = "the form is not known: it has no [form.ID] in the settings"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4
KEPT = "https://www.formstack.com/admin/download/file/123"


def make_options(**form: object) -> Options:
    return Options(forms=build_form_maps(Settings.model_validate({"form": {"77": form}})))


def read(form_options: Options = Options(), **body: object) -> InboundItem:  # noqa: B008  # frozen
    (item,) = submission.parse(
        json.dumps({"FormID": "77", "UniqueID": "1", **body}).encode(), form_options
    )
    return item


def test_settings_and_parser_have_the_same_words() -> None:
    assert {f.value for f in FormField} - {"ignore"} == set(
        field_labels.FIELDS_BY_LABEL.values()
    ) - field_labels.ENVELOPE_FIELDS | {"file"}
    settings = FormMap(form="77", defaults=tuple((d.value, "Yes") for d in FormDefault))
    item = read(Options(forms=(settings,)))
    assert all(getattr(item, d.value) in {"Yes", True} for d in FormDefault)


def test_fields_mean_what_the_settings_say_and_what_looks_like_it_no_longer_does() -> None:
    settings = make_options(
        fields={"Q1": "company", "Tell us": "description", "8127": "email", "Consent": "ignore"}
    )
    item = read(
        settings,
        Q1="Sunrise",
        Company="An insurer",
        **{"Tell us": "Help", "8127": "p@x.example", "Consent": "ok"},
    )
    assert (item.company, item.sender.email) == ("Sunrise", "p@x.example")
    assert item.text == "Tell us: Help\nQ1: Sunrise\nCompany: An insurer\nEmail: p@x.example"
    assert item.details == (("Company", "An insurer"),)


def test_a_field_that_the_settings_name_but_nobody_answered_leaves_the_word_to_the_label() -> None:
    item = read(
        make_options(fields={"Q1": "company", "Nick": "name"}),
        Q1="",
        Company="Sunrise",
        **{"First name": "Pat"},
    )
    assert (item.company, item.sender.name) == ("Sunrise", "Pat")
    item = read(
        make_options(fields={"Given": "first_name", "Family": "last_name"}),
        Given="Pat",
        Family="Doe",
        Name="Clinic",
    )
    assert item.sender.name == "Pat Doe"


def test_defaults_stand_where_the_form_has_no_answer() -> None:
    settings = make_options(
        defaults={"company": "Sunrise", "category": "Denials", "telemedicine": "yes"}
    )
    item = read(settings, Message="x")
    assert (item.company, item.category, item.telemedicine) == ("Sunrise", "Denials", True)
    assert "practice not given" not in item.caveats
    item = read(settings, Practice="Other", Telemedicine="No")
    assert (item.company, item.telemedicine) == ("Other", False)


def test_a_form_that_is_not_in_the_settings_has_a_caveat() -> None:
    assert UNKNOWN in read(Options(forms=(FormMap(form="78"),))).caveats
    assert UNKNOWN not in read(make_options()).caveats
    assert UNKNOWN not in read().caveats, "without settings for any form all are known"


def test_numbers_for_labels_are_a_caveat_where_no_settings_name_them() -> None:
    assert any("by number" in c for c in read(**{"8123": "x"}).caveats)
    assert not any(
        "by number" in c
        for c in read(make_options(fields={"8123": "subject"}), **{"8123": "x"}).caveats
    )


@pytest.mark.parametrize(
    ("value", "links"),
    [
        (KEPT, [KEPT]),
        ([KEPT, KEPT + "4"], [KEPT, KEPT + "4"]),
        ({"value": KEPT, "field_type": "file"}, [KEPT]),
        (
            {"value": "https://elsewhere.example/a?sig=1", "type": "file"},
            ["https://elsewhere.example/a?sig=1"],
        ),
        ("https://s3.amazonaws.com/files.formstack.com/uploads/1/2/3/EOB.pdf", None),
        ("https://files.formstack.com/a.pdf", None),
        (f"see {KEPT}", []),
        ("https://elsewhere.example/a", []),
        ("http://www.formstack.com/admin/download/file/1", []),
        ("https://evil.example/www.formstack.com/admin/download/file/1", []),
        ("https://evilformstack.com/admin/download/file/1", []),
        ("https://s3.amazonaws.com/other/files.formstack.com/x", []),
    ],
)
def test_links_to_files_are_kept_as_links(value: object, links: list[str] | None) -> None:
    item = read(Upload=value)
    assert list(item.file_urls) == ([value] if links is None else links)
    assert item.details[0][0] == "Upload"
    assert "Upload: " in item.text


def test_a_field_that_the_settings_say_is_for_files_is() -> None:
    item = read(make_options(fields={"Scan": "file"}), Scan="https://uploads.example/x")
    assert item.file_urls == ("https://uploads.example/x",)
    assert item.details == (("Scan", "https://uploads.example/x"),)


@pytest.mark.parametrize(
    ("value", "mime"),
    [
        (base64.b64encode(PDF).decode(), "application/pdf"),
        (base64.b64encode(PDF).decode().replace("+", " "), "application/pdf"),
        (base64.encodebytes(PDF).decode(), "application/pdf"),
        ("data:image/png;base64," + base64.b64encode(PDF).decode(), "image/png"),
        ("data:image/png;charset=utf-8;base64," + base64.b64encode(PDF).decode(), "image/png"),
        (
            {"value": base64.b64encode(PDF[9:]).decode(), "field_type": "file"},
            "application/octet-stream",
        ),
    ],
)
def test_a_file_in_the_body_is_an_attachment_and_not_text(value: object, mime: str) -> None:
    item = read(Upload=value)
    (file,) = item.attachments
    assert (file.mime, file.content) == (mime, PDF[9:] if mime.endswith("octet-stream") else PDF)
    assert item.text == f"Upload: {file.name}"
    assert item.details == (("Upload", file.name),)


def test_two_files_in_one_field_have_two_names() -> None:
    item = read(
        Upload=[base64.b64encode(PDF).decode()] * 2,
        More="data:;base64," + base64.b64encode(PDF).decode(),
    )
    assert [f.name for f in item.attachments] == [
        "attachment-1.pdf",
        "attachment-2.pdf",
        "attachment-3.pdf",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Q" * 200,
        "none",
        "A" * 63,
        "%PDF-",
        "data:image/png;base64,",
        base64.b64encode(b"x" * 99).decode(),
    ],
)
def test_words_that_could_be_base64_stay_words(text: str) -> None:
    item = read(Anything=text)
    assert not item.attachments
    assert item.text == f"Anything: {text}"


@settings(deadline=None, max_examples=50)
@given(st.text() | st.text("AB+/= \nhtps:/.", min_size=64), st.booleans())
def test_whatever_is_answered_looking_for_files_raises_nothing(
    text: str,
    is_file_field: bool,  # noqa: FBT001 - drawn
) -> None:
    answer = files.find_files(text, is_file_field=is_file_field)
    assert not (answer.links and answer.attachments)


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared payloads are not on this machine")
def test_every_payload_of_the_shared_vectors_is_read() -> None:
    settings = {
        name: body
        for name, body in json.loads(VECTORS.read_text()).items()
        if not name.startswith(("_", "sig"))
    }
    assert len(settings) > 5
    items = {}
    for name, body in settings.items():
        raw = (
            urlencode(body).encode() if name.startswith("urlencoded") else json.dumps(body).encode()
        )
        (items[name],) = submission.parse(raw)
        assert "secretkey" not in repr((items[name].text, items[name].details))
    for name in ("urlencoded_plain", "urlencoded_with_type", "json_plain", "json_with_type_doc"):
        assert items[name].sender == Address("John Smith", "john@example.test"), name
        assert items[name].external_id == "23534/12345678"
    assert "1234 Test Drive, Test, IN, 12345" in items["urlencoded_plain"].text
    assert (
        items["urlencoded_with_type_single_line"].text
        == "Another text field: Here is some more text"
    )
    seen = items["json_with_type_seen"]
    assert seen.sender.email == "john@example.test"
    assert seen.text.startswith("Details: line 1\nline 2")
    assert "Systems Requested: A, B" in seen.text
    assert items["json_nulls_and_friendly_keys"].sender.email == "a@example.test"
