"""Keys of forms: each form has its own, and two are valid while one is changed.

The HandshakeKey is never stored, however it is written.
"""

import hmac
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr
from werkzeug.test import Client, TestResponse

from ingest.intake import Intake
from ingest.processing.process import process_waiting
from parsers.formstack.values import Json
from tests.support.context import count_rows
from webhooks.app import create_app
from webhooks.body import remove_handshake
from webhooks.signature import _matches
from workflow.context import AppContext
from workflow.models.core import Delivery, Ticket
from workflow.settings.forms import Form
from workflow.settings.settings import Settings, SettingsError, load_settings

FORM = {"FormID": "77", "UniqueID": "1", "Practice": "Sunrise Clinic", "Message": "Please help"}


class Sender:
    def __init__(self, context: AppContext, **settings: object) -> None:
        data = Settings.model_validate({**context.settings.model_dump(), **settings})
        self.context = AppContext(
            data, context.store, context.sealer, context.blob_store, context.signer, context.clock
        )
        self._client = Client(create_app(self.context, Intake(self.context).accept_all))

    def post(
        self,
        key: str,
        body: bytes | None = None,
        *,
        header: str = "X-FS-Signature",
        kind: str = "",
        **more: str,
    ) -> int:
        raw = urlencode({**FORM, **more}).encode() if body is None else body
        answer: TestResponse = self._client.post(
            "/formstack",
            data=raw,
            headers={header: hmac.new(key.encode(), raw, "sha256").hexdigest()},
            content_type=kind or "application/x-www-form-urlencoded",
        )
        return answer.status_code


def test_while_the_common_key_is_changed_both_are_valid(context: AppContext) -> None:
    sender = Sender(context, formstack_key="new", formstack_key_previous="old")
    assert [sender.post(key, UniqueID=key) for key in ("new", "old", "older")] == [202, 202, 401]


def test_while_the_key_of_a_form_is_changed_both_are_valid_and_no_other(
    context: AppContext,
) -> None:
    forms = {
        "77": {"key": "new", "key_previous": "old", "header": "X-Own"},
        "78": {"key": "others"},
    }
    sender = Sender(context, formstack_key="common", form=forms)
    result = [
        sender.post(key, UniqueID=key, header="X-Own") for key in ("new", "old", "others", "common")
    ]
    assert result == [202, 202, 401, 401]


def test_a_form_that_goes_over_to_the_common_key_may_keep_its_own_meanwhile(
    context: AppContext,
) -> None:
    sender = Sender(
        context,
        formstack_key="common",
        formstack_key_previous="past",
        form={"77": {"key_previous": "own"}},
    )
    assert [sender.post(key, UniqueID=key) for key in ("common", "past", "own", "other")] == [
        202,
        202,
        202,
        401,
    ]


def test_while_the_handshake_is_changed_both_are_valid(context: AppContext) -> None:
    own = {"key": "k", "handshake": "new", "handshake_previous": "old"}
    sender = Sender(context, form={"77": own})
    result = [
        sender.post("k", UniqueID=data, HandshakeKey=data) for data in ("new", "old", "é", "")
    ]
    assert result == [202, 202, 401, 401]
    assert sender.post("k") == 401, "none at all"


def test_a_form_nobody_knows_is_a_ticket_with_a_caveat(context: AppContext) -> None:
    sender = Sender(context, form={"78": {"key": "others"}})
    assert sender.post("others") == 202
    assert sender.post("wrong") == 401
    process_waiting(sender.context)
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, 1)
    assert "the form is not known: it has no [form.ID] in the settings" in ticket.caveats


def test_what_the_settings_say_of_a_form_is_on_its_ticket(context: AppContext) -> None:
    own = {"key": "k", "fields": {"Q1": "company"}, "defaults": {"subject": "From the portal"}}
    sender = Sender(context, form={"77": own})
    assert sender.post("k", Practice="", Q1="Moonlight") == 202
    process_waiting(sender.context)
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, 1)
    assert (ticket.name, ticket.subject) == ("Support – Moonlight", "From the portal")


SHAKEN = {**FORM, "HandshakeKey": "hush-hush"}
ESCAPED = json.dumps(SHAKEN).replace("HandshakeKey", "Handsh\\u0061keKey").encode()


@pytest.mark.parametrize(
    "body",
    [
        urlencode(SHAKEN).encode(),
        urlencode(SHAKEN).replace("HandshakeKey", "%48andshakeKey").encode(),
        urlencode({**FORM, "Handshake Key": "hush-hush"}).encode(),
        urlencode(SHAKEN).encode() + b"&HandshakeKey=hush-hush",
        b"HandshakeKey=hush-hush",
        json.dumps(SHAKEN).encode(),
        json.dumps(SHAKEN).encode("utf-16"),
        json.dumps(SHAKEN).encode("utf-16-be"),
        json.dumps(SHAKEN).encode("utf-8-sig"),
        ESCAPED,
        json.dumps({**FORM, "HandshakeKey": {"value": "hush-hush", "type": "text"}}).encode(),
        json.dumps({**FORM, "HandshakeKey": ["hush-hush", {"x": "hush-hush"}]}).encode(),
        json.dumps(SHAKEN).encode()[:-1],
        json.dumps(SHAKEN).encode()[:-3],
        b'{"HandshakeKey":hush-hush}',
        b'{"a":1,"HandshakeKey":' + b"[" * 100_000 + b'"hush-hush"',
    ],
)  # fmt: skip
def test_the_handshake_key_is_never_stored_however_it_is_written(
    context: AppContext, body: bytes
) -> None:
    sender = Sender(context, formstack_key="k")
    kind = "application/x-www-form-urlencoded" if b"=" in body else "application/json"
    assert sender.post("k", body, kind=kind) in {202, 415}
    assert count_rows(context, Delivery) == 1
    with context.store.read_only() as session:
        kept = session.get_one(Delivery, 1)
    raw = context.blob_store.read(kept.content, kept.blob)
    assert b"hush" not in raw.replace(b"\0", b"")
    if kept.state == "pending":
        assert b"Sunrise" in raw.replace(b"\0", b"") or b"Practice" not in body


def test_a_text_that_only_speaks_of_a_handshake_key_stays_as_it_is() -> None:
    body = json.dumps(
        {"Message": 'it says "HandshakeKey": "x", which', "HandshakeKey": "y", "Name": "ü"}
    ).encode()
    assert remove_handshake(body) == body.replace(b'"HandshakeKey": "y"', b'"HandshakeKey": ""')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.just("HandshakeKey"), inner, max_size=3)
    ),
    max_leaves=8,
)


@examples(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), values), values, st.booleans())
def test_of_json_only_the_handshake_key_is_taken(
    body: dict[str, Json],
    secret: Json,
    plain: bool,  # noqa: FBT001
) -> None:
    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {k: "" if k == "HandshakeKey" else bare(v) for k, v in value.items()}
        return [bare(v) for v in value] if isinstance(value, list) else value

    data = {**body, "HandshakeKey": secret}
    raw = json.dumps(data, ensure_ascii=plain).encode(errors="surrogatepass")
    assert json.loads(remove_handshake(raw).decode(errors="surrogatepass")) == bare(data)


def test_every_fault_in_the_settings_of_forms_is_reported_at_once_and_no_secret(
    tmp_path: Path,
) -> None:
    form = {
        "key": "hunter2",
        "header": "X Own:",
        "handshake_previous": "hunter3",
        "fields": {"Q1": "hunter4"},
        "defaults": {"hunter": "x"},
        "file_hosts": "https://x.example",
        "more": 1,
    }
    with pytest.raises(SettingsError) as error_info:
        load_settings(
            home=tmp_path,
            formstack_key_previous="hunter5",
            form={"77": form, "7 7": {}},
            file_hosts="a b,http://c",
        )
    result = str(error_info.value)
    assert len(result.splitlines()) == 9, result
    assert "hunter2" not in result + repr(Form(key=SecretStr("hunter2")))
    assert not [n for n in range(3, 6) if f"hunter{n}" in result]
    assert "'company'" in result, "it names what may stand there"


@pytest.mark.parametrize("signature", ["é", "sha256=", ""])
def test_an_odd_signature_is_no_error(signature: str) -> None:
    assert not _matches(b"x", "k", signature)
