"""The webhook over real HTTP: signatures, every status, the spool, and what the ticket says."""

import hmac
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from werkzeug.serving import make_server

from ingest.formstack import spool
from ingest.formstack.spool import Spool
from ingest.intake import AcceptAll, Arrival, Intake
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.context import count_rows
from tests.support.smtp_client import until
from webhooks import app
from webhooks.app import create_app
from workflow.context import AppContext, open_context
from workflow.models.core import Delivery, Message, Receipt, Ticket
from workflow.models.states import DeliveryState
from workflow.operations.refusals import Refusal
from workflow.settings.settings import Form, Settings

KEY = "test1"
FORM = {
    "FormID": "6606394",
    "UniqueID": "1500878955",
    "Practice": "Sunrise Clinic",
    "Email": "pat@clinic.example",
    "Phone": "555-0100",
    "Subject": "Denials",
    "Message": "Please help",
}
# The one signature that was captured from a live delivery: key test1.
CAPTURED = b"FormID=6606394&UniqueID=1500878955&HandshakeKey=test"
CAPTURED_SIGNATURE = "sha256=30dff7f180b6d69eab397a5d51719474df490b730514c253e8b5832d3b51b970"


def sign(body: bytes, key: str = KEY) -> str:
    return "sha256=" + hmac.new(key.encode(), body, sha256).hexdigest()


@dataclass
class WebhookServer:
    """The webhook as a sender sees it."""

    context: AppContext
    url: str

    def post(
        self,
        body: bytes,
        *,
        signature: str | None = None,
        kind: str = "application/x-www-form-urlencoded",
        header: str = "X-FS-Signature",
    ) -> httpx.Response:
        headers = {"Content-Type": kind, header: sign(body) if signature is None else signature}
        return httpx.post(
            f"{self.url}/formstack", content=body, headers={k: v for k, v in headers.items() if v}
        )

    def form(self, **more: str) -> httpx.Response:
        return self.post(urlencode({**FORM, **more}).encode())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    own = Form(key=SecretStr("its own"), header="X-Own", handshake=SecretStr("shake"))
    return Settings(
        home=tmp_path / "home", formstack_key=SecretStr(KEY), form={"77": own}, webhook_limit=10_000
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., WebhookServer]]:
    running = []

    def start(context: AppContext, accept: Callable[[Arrival], int] | None = None) -> WebhookServer:
        server = make_server(
            "127.0.0.1",
            0,
            create_app(context, make_accept_all(accept) if accept else Intake(context).accept_all),
            threaded=True,
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return WebhookServer(context, f"http://127.0.0.1:{server.port}")

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def webhook(context: AppContext, serve: Callable[..., WebhookServer]) -> WebhookServer:
    return serve(context)


def test_a_signed_form_is_stored_before_the_yes_and_becomes_a_ticket_with_its_link(
    webhook: WebhookServer,
) -> None:
    assert webhook.form().status_code == 202
    assert count_rows(webhook.context, Delivery) == 1
    process_waiting(webhook.context)
    with webhook.context.store.read_only() as session:
        ticket = session.scalars(select(Ticket)).one()
        message = session.scalars(select(Message)).one()
    assert ticket.name == "Support – Sunrise Clinic"
    assert ticket.link == "https://www.formstack.com/admin/submission/view/1500878955"
    assert "Please help" in message.text


def test_the_signature_captured_from_a_live_delivery_is_right(webhook: WebhookServer) -> None:
    assert webhook.post(CAPTURED, signature=CAPTURED_SIGNATURE).status_code == 202


def test_json_is_taken_like_a_form(webhook: WebhookServer) -> None:
    body = json.dumps(FORM).encode()
    assert webhook.post(body, kind="application/json; charset=utf-8").status_code == 202
    process_waiting(webhook.context)
    assert count_rows(webhook.context, Ticket) == 1


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        sign(b"another body"),
        sign(urlencode(FORM).encode(), "other"),
        "é",
    ],
)
def test_a_form_without_the_right_signature_is_401_and_nothing_is_stored(
    webhook: WebhookServer, signature: str
) -> None:
    body = urlencode(FORM).encode()
    headers = {"X-FS-Signature": signature.encode()} if signature else {}
    answer = httpx.post(f"{webhook.url}/formstack", content=body, headers=headers)
    assert answer.status_code == 401
    assert count_rows(webhook.context, Delivery) == 0


def test_the_raw_bytes_are_verified_not_what_they_mean(webhook: WebhookServer) -> None:
    body = urlencode(FORM).encode()
    assert webhook.post(body.replace(b"+", b"%20"), signature=sign(body)).status_code == 401


def test_a_form_with_a_key_of_its_own_needs_that_key_and_its_handshake(
    webhook: WebhookServer,
) -> None:
    body = urlencode({**FORM, "FormID": "77", "HandshakeKey": "shake"}).encode()
    assert webhook.post(body).status_code == 401, "signed with the common key"
    assert webhook.post(body, header="X-Own", signature=sign(body, "its own")).status_code == 202
    wrong = body.replace(b"shake", b"other")
    assert webhook.post(wrong, header="X-Own", signature=sign(wrong, "its own")).status_code == 401


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_the_handshake_key_is_never_stored(webhook: WebhookServer, kind: str) -> None:
    result = {**FORM, "HandshakeKey": "hush-hush"}
    body = json.dumps(result).encode() if kind.endswith("json") else urlencode(result).encode()
    assert webhook.post(body, kind=kind).status_code == 202
    with webhook.context.store.read_only() as session:
        delivery = session.scalars(select(Delivery)).one()
    assert b"hush-hush" not in webhook.context.blob_store.read(delivery.content, delivery.blob)
    process_waiting(webhook.context)
    with webhook.context.store.read_only() as session:
        assert "hush" not in str([(m.text, m.details) for m in session.scalars(select(Message))])


def test_a_form_over_the_limit_is_413(webhook: WebhookServer) -> None:
    assert webhook.form(Message="M" * 11_000).status_code == 413
    assert count_rows(webhook.context, Delivery) == 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (urlencode(FORM).encode(), "application/json"),
        (urlencode(FORM).encode(), "text/plain"),
        (b"justtext", "application/x-www-form-urlencoded"),
    ],
)
def test_a_signed_body_that_cannot_be_read_is_415_and_kept_as_failed(
    webhook: WebhookServer, body: bytes, kind: str
) -> None:
    assert webhook.post(body, kind=kind).status_code == 415
    process_waiting(webhook.context)
    assert count_rows(webhook.context, Ticket) == 0
    with webhook.context.store.read_only() as session:
        delivery = session.scalars(select(Delivery)).one()
    assert delivery.state is DeliveryState.FAILED
    assert delivery.reason


def test_bytes_once_refused_for_their_content_type_are_read_when_they_come_again_rightly(
    webhook: WebhookServer,
) -> None:
    body = urlencode(FORM).encode()
    webhook.post(body, kind="text/plain")
    assert webhook.post(body).status_code == 202
    process_waiting(webhook.context)
    assert count_rows(webhook.context, Ticket) == 1


def test_without_a_key_the_webhook_answers_503_to_everybody(
    context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    bare = context.settings.model_copy(update={"formstack_key": SecretStr(""), "form": {}})
    webhook = serve(
        AppContext(
            bare, context.store, context.sealer, context.blob_store, context.signer, context.clock
        )
    )
    assert webhook.form().status_code == 503
    assert httpx.get(f"{webhook.url}/health").status_code == 503


def test_the_same_submission_five_times_at_once_and_in_two_encodings_is_one_ticket(
    any_context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    webhook = serve(any_context)
    threads = [threading.Thread(target=webhook.form) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert webhook.post(json.dumps(FORM).encode(), kind="application/json").status_code == 202
    process_waiting(any_context)
    assert count_rows(any_context, Ticket) == 1
    assert count_rows(any_context, Delivery) == 2
    assert count_rows(any_context, Receipt) == 6


def test_with_the_database_away_the_form_goes_into_the_sealed_spool_and_later_home(
    context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    assert serve(context, raise_unavailable).form(Message="secret words").status_code == 202
    files = list((context.settings.home / "spool").iterdir())
    assert len(files) == 1
    assert b"secret" not in files[0].read_bytes()
    assert spool.drain(context) == 1
    process_waiting(context)
    assert count_rows(context, Ticket, Ticket.format == Format.FORMSTACK) == 1
    assert not list((context.settings.home / "spool").iterdir())


def test_with_neither_database_nor_spool_it_is_503(
    context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    context.settings.home.mkdir(exist_ok=True)
    (context.settings.home / "spool").write_text("in the way")

    assert serve(context, raise_unavailable).form().status_code == 503


def test_an_answer_repeats_nothing_and_sets_nothing(webhook: WebhookServer) -> None:
    answer = webhook.form()
    assert "Sunrise" not in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_is_taken(webhook: WebhookServer, method: str) -> None:
    assert httpx.request(method, f"{webhook.url}/formstack").status_code == 405


def test_health_says_what_is_there(webhook: WebhookServer) -> None:
    answer = httpx.get(f"{webhook.url}/health")
    good = {"key": True, "database": True, "spool": True, "spooled": 0, "damaged": 0}
    assert (answer.status_code, answer.json()) == (200, good)


def make_accept_all(accept: Callable[[Arrival], int]) -> AcceptAll:
    """To be asked about one after the other."""

    def result(arrival: Arrival) -> int | Exception:
        try:
            return accept(arrival)
        except (SQLAlchemyError, OSError) as error:
            return error

    return lambda arrivals: [result(one) for one in arrivals]


def raise_unavailable(arrival: Arrival) -> int:
    del arrival
    raise OperationalError("", {}, Exception())


def test_health_is_good_while_forms_can_be_kept_somewhere(
    context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    webhook = serve(context, raise_unavailable)
    webhook.form()
    gone = context.settings.model_copy(update={"database_url": "sqlite:////no/such/folder/x.db"})
    spooling = serve(open_context(gone))
    answer = httpx.get(f"{spooling.url}/health")
    state = {"key": True, "database": False, "spool": True, "spooled": 1, "damaged": 0}
    assert (answer.status_code, answer.json()) == (200, state)
    (context.settings.home / "spool").rename(context.settings.home / "elsewhere")
    (context.settings.home / "spool").write_text("in the way")
    answer = httpx.get(f"{spooling.url}/health")
    assert (answer.status_code, answer.json()["spool"]) == (503, False)


def test_a_database_that_hangs_holds_up_neither_forms_nor_health(
    context: AppContext, serve: Callable[..., WebhookServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STORE_SECONDS", 0.1)
    monkeypatch.setattr(app, "HEALTH_SECONDS", 0.1)
    monkeypatch.setattr(app, "MAX_WAITING", 1)
    answer, arrivals = threading.Event(), list[Arrival]()

    def hangs(arrival: Arrival) -> int:
        arrivals.append(arrival)
        answer.wait(20)
        return 1

    def hangs_too(_: AppContext) -> bool:
        return answer.wait(20)

    monkeypatch.setattr(app, "_database_answers", hangs_too)
    webhook = serve(context, hangs)
    assert [webhook.form().status_code for _ in range(3)] == [202] * 3
    assert len(arrivals) == 1, "while it is known to be away, forms do not wait for it"
    monkeypatch.setattr(app, "AWAY_SECONDS", 0.0)
    webhook = serve(context, hangs)
    assert [webhook.form().status_code for _ in range(3)] == [202] * 3
    assert len(arrivals) == 2, "and one waits for it, not all of them"
    assert [httpx.get(f"{webhook.url}/health").json()["database"] for _ in range(3)] == [False] * 3
    assert len(Spool(context.settings.home / "spool", context.sealer).list_waiting()) == 6
    answer.set()
    until(lambda: httpx.get(f"{webhook.url}/health").json()["database"])


def test_with_a_full_spool_the_database_is_asked_again_though_it_was_away(
    context: AppContext, serve: Callable[..., WebhookServer]
) -> None:
    failing = [True]

    def accept(arrival: Arrival) -> int:
        return raise_unavailable(arrival) if failing else Intake(context).accept(arrival)

    webhook = serve(context, accept)
    assert webhook.form().status_code == 202
    (context.settings.home / "spool").rename(context.settings.home / "elsewhere")
    (context.settings.home / "spool").write_text("in the way")
    assert webhook.form().status_code == 503
    failing.clear()
    assert webhook.form().status_code == 202
    assert count_rows(context, Delivery) == 1


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_a_receipt_names_form_and_submission_also_when_it_went_through_the_spool(
    context: AppContext, serve: Callable[..., WebhookServer], kind: str
) -> None:
    result = [FORM, {**FORM, "UniqueID": "9" * 300}, {"Message": "nameless"}]
    bodies = [
        json.dumps(one).encode() if kind.endswith("json") else urlencode(one).encode()
        for one in result
    ]
    for accept in (None, raise_unavailable):
        for body in bodies:
            assert serve(context, accept).post(body, kind=kind).status_code == 202
    assert spool.drain(context) == 3
    with context.store.read_only() as session:
        names = list(session.scalars(select(Receipt.reference)))
    assert sorted(names) == sorted(["6606394/1500878955", f"6606394/{'9' * 200}", ""] * 2)


@pytest.mark.parametrize(
    ("signature", "kind", "size", "refusal"),
    [
        ("", "application/json", 10, Refusal.UNSIGNED),
        (sign(b"another"), "application/json", 10, Refusal.SIGNATURE),
        (None, "text/plain", 10, Refusal.UNREADABLE),
        (None, "application/json", 10_001, Refusal.TOO_LARGE),
    ],
)
def test_what_is_refused_is_counted(
    context: AppContext, signature: str | None, kind: str, size: int, refusal: Refusal
) -> None:
    counted: list[Refusal] = []
    client = create_app(context, Intake(context).accept_all, counted.append).test_client()
    body = b'{"Message": "' + b"x" * size + b'"}'
    headers = {"Content-Type": kind, "X-FS-Signature": sign(body) if signature is None else ""}
    if signature:
        headers["X-FS-Signature"] = signature
    assert client.post("/formstack", data=body, headers=headers).status_code >= 400
    assert counted == [refusal]


def test_what_is_taken_is_not_counted_as_refused(context: AppContext) -> None:
    counted: list[Refusal] = []
    client = create_app(context, Intake(context).accept_all, counted.append).test_client()
    body = b'{"FormID": "1", "UniqueID": "2", "Message": "x"}'
    headers = {"Content-Type": "application/json", "X-FS-Signature": sign(body)}
    assert client.post("/formstack", data=body, headers=headers).status_code == 202
    assert counted == []
