"""The JSON API: who may do what, the shapes of the commands, actions with their guards.

And its own document.
"""

import base64
import json
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from marshmallow import RAISE
from redis import Redis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from sqlalchemy import select
from werkzeug.test import TestResponse

from console.api import schemas
from console.presenters import deliveries
from console.presenters.tickets import ticket as ticket_presenter
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Attachment, Format
from tests.support.command import Intake as Intake_
from tests.support.context import (
    HandClock,
    complete,
    count_rows,
    create_company,
    create_staff,
    deliver,
    list_audit_entries,
    make_mail,
    open_ticket,
)
from tests.support.servers import Valkey
from tests.support.signed_in_client import build_app, sign_in_at_desk
from workflow.accounts import api_tokens
from workflow.context import AppContext
from workflow.mail import sender
from workflow.models.accounts import Account, ApiToken
from workflow.models.core import (
    AuditEntry,
    Delivery,
    Message,
    OutgoingMail,
    Staff,
    Ticket,
    WrittenMail,
)
from workflow.models.states import OutboxState, Role, Status
from workflow.permissions import Right, may
from workflow.process import STEPS, Milestone, Template

V1 = "/api/v1"
PAGE = Path(__file__).parents[3] / "docs" / "api.md"


class Program:
    """A program with a token."""

    def __init__(
        self, context: AppContext, app: Flask | FlaskClient, *scopes: Right, role: Role = Role.ADMIN
    ) -> None:
        self.client = app if isinstance(app, FlaskClient) else app.test_client()
        with context.store.transaction() as session:
            name = f"{role} {count_rows(context, Staff)}"
            self.me = create_staff(session, name, role)
            self.row, self.token = api_tokens.create_token(
                session,
                self.me,
                "test",
                scopes or [r for r in Right if may(role, r)],
                by="test",
                now=context.clock(),
            )

    def __call__(
        self, method: str, path: str, body: Any = None, code: int = 200, **headers: str
    ) -> TestResponse:
        heads = {
            "Authorization": f"Bearer {self.token}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        answer = self.client.open(V1 + path, method=method, json=body, headers=heads)
        assert answer.status_code == code, answer.text
        return answer

    def get(self, path: str, code: int = 200) -> Any:
        return self("GET", path, code=code).json

    def post(self, path: str, body: Any = None, code: int = 200, **headers: str) -> Any:
        return self("POST", path, {} if body is None else body, code, **headers).json


@pytest.fixture
def app(context: AppContext) -> Flask:
    return build_app(context)


@pytest.fixture
def program(context: AppContext, app: Flask) -> Program:
    return Program(context, app)


# -- who comes in ----


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer nothing", "Bearer intake_wrong", "Basic YTpi", "intake_x"]
)
def test_without_a_good_token_nothing_is_revealed(app: Flask, header: str) -> None:
    answer = app.test_client().get(
        f"{V1}/tickets", headers={"Authorization": header} if header else {}
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert answer.json is not None
    assert answer.json["error"] == "token"


def test_a_signed_in_browser_is_nobody_to_the_api(context: AppContext) -> None:
    desk = sign_in_at_desk(context, Role.ADMIN)
    assert desk.client.get(f"{V1}/tickets").status_code == 401
    assert desk.client.post(f"{V1}/tickets", json={"text": "x"}).status_code == 401


def test_a_token_opens_no_page(context: AppContext, program: Program) -> None:
    del context
    answer = program.client.get("/", headers={"Authorization": f"Bearer {program.token}"})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login")


def test_a_token_is_kept_as_a_digest_and_its_use_by_the_minute(
    context: AppContext, program: Program, clock: HandClock
) -> None:
    def get_last_use() -> Any:
        with context.store.read_only() as session:
            return session.get_one(ApiToken, program.row.id).used_at

    first = clock.now
    program.get("/me")
    clock.turn(seconds=30)
    program.get("/me")
    assert get_last_use() == first
    clock.turn(seconds=31)
    program.get("/me")
    assert get_last_use() == clock.now
    with context.store.read_only() as session:
        assert program.token not in str([vars(t) for t in session.scalars(select(ApiToken))])


def test_a_revoked_token_ends_at_once(context: AppContext, program: Program) -> None:
    program.get("/me")
    with context.store.transaction() as session:
        api_tokens.revoke_token(session, program.row.id, by="Ada", now=context.clock())
    program.get("/me", code=401)


def test_a_token_ends_with_the_account_of_its_person(context: AppContext, program: Program) -> None:
    with context.store.transaction() as session:
        session.add(
            Account(
                staff_id=program.me.id,
                active=False,
                email="a@b.example",
                uniquifier="u",
                created_at=context.clock(),
            )
        )
    program.get("/me", code=401)


def test_a_token_has_its_scopes_and_never_more_than_its_person_has_now(
    context: AppContext, app: Flask
) -> None:
    reader = Program(context, app, Right.READ)
    reader.get("/tickets")
    answer = reader("POST", "/tickets", {"text": "x"}, 403)
    assert 'error="insufficient_scope", scope="work"' in answer.headers["WWW-Authenticate"]
    lead = Program(context, app, role=Role.LEAD)
    lead.get("/audit")
    with context.store.transaction() as session:
        session.get_one(Staff, lead.me.id).role = Role.AGENT
    lead.get("/audit", code=403)


def test_the_document_says_that_a_call_may_be_stored_and_filed_later(app: Flask) -> None:
    document = app.test_client().get("/api/openapi.json").json
    assert document is not None
    answers = document["paths"]["/api/v1/tickets"]["post"]["responses"]
    schema = answers["202"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/StoredCall"}


def test_every_endpoint_has_its_scope_in_the_document_and_keeps_to_it(
    context: AppContext, app: Flask
) -> None:
    paths = app.test_client().get("/api/openapi.json").json["paths"]  # type: ignore[index]
    program = Program(context, app, Right.READ)
    scopes = {
        (p, m): one["security"]
        for p, ms in paths.items()
        for m, one in ms.items()
        if m != "parameters"
    }
    assert len(scopes) > 45
    for (path, method), (scope,) in scopes.items():
        (needed,) = scope["token"]
        if needed != Right.READ:
            address = (
                re.sub(r"\{\w+\}", "1", path)
                .removeprefix(V1)
                .replace("/tickets.csv/1", "/tickets.csv/open")
            )
            program(method.upper(), address, {} if method in {"post", "patch"} else None, 403)


def test_too_many_calls_are_told_when_to_come_back(context: AppContext) -> None:
    few = context.settings.model_copy(update={"api_calls_per_minute": 2})

    program = Program(context, build_app(replace(context, settings=few)))
    program.get("/me")
    program.get("/me")
    assert program("GET", "/me", code=429).headers["Retry-After"] == "60"


def test_processes_count_together_in_redis_and_each_for_itself_without(
    context: AppContext, valkey: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    few = context.settings.model_copy(update={"api_calls_per_minute": 3, "redis_url": valkey.url})
    one, other = (build_app(replace(context, settings=few)) for _ in range(2))
    program = Program(context, one)
    program.get("/me")
    program.client = other.test_client()
    program.get("/me")
    with Redis.from_url(valkey.url) as redis:
        assert not [key for key in redis.scan_iter() if program.token.encode() in key]
        assert all(0 < redis.ttl(key) <= 60 for key in redis.scan_iter())
    program.get("/me")
    program.client = one.test_client()
    program.get("/me", code=429)
    valkey.stop()
    try:
        for _ in range(3):
            program.get("/me")
        program.get("/me", code=429)
    finally:
        valkey.start()
    assert capsys.readouterr().out.count("API calls are counted by each process") == 1


def test_no_other_site_may_call(program: Program) -> None:
    answer = program("GET", "/me", Origin="https://evil.example")
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert answer.headers["Cache-Control"] == "no-store"


# -- shapes ----


def create_busy_ticket(context: AppContext) -> int:
    """A ticket with something of everything."""
    number = open_ticket(
        context,
        make_mail(
            "first",
            attachments=(Attachment(name="eob.pdf", mime="application/pdf", content=b"%PDF-1.7"),),
        ),
    )
    complete(context, number)
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        context.desk.reopen(session, ticket, by="Olga", cause="test", now=context.clock())
        context.desk.assign(
            session, ticket, create_staff(session, "Olga"), by="Olga", now=context.clock()
        )
        context.desk.create_telemedicine_task(session, ticket, by="Olga", now=context.clock())
        ticket.company = create_company(session, "Sunrise")
    return number


def test_a_ticket_has_the_shape_of_the_command_and_of_the_document(
    context: AppContext, program: Program
) -> None:
    number = create_busy_ticket(context)
    body = program.get(f"/tickets/{number}")
    with context.store.read_only() as session:
        full = json.loads(
            json.dumps(ticket_presenter.present_ticket(session, number, context.settings))
        )
        short = json.loads(
            json.dumps(ticket_presenter.present_ticket_row(session.get_one(Ticket, number)))
        )
    assert body == full
    assert schemas.Ticket(unknown=RAISE).validate(body) == {}
    assert program.get("/tickets")["items"] == [short]
    assert schemas.TicketSummary(unknown=RAISE).validate(short) == {}
    assert [r.cause for r in list_audit_entries(context, number, "viewed")] == ["API"], (
        "who has read it is on record"
    )
    program.get(f"/tickets/{number}")
    assert len(list_audit_entries(context, number, "viewed")) == 1


def test_everything_listed_has_the_shape_of_the_document(
    context: AppContext, program: Program
) -> None:
    number = create_busy_ticket(context)
    Intake(context).accept(
        Arrival(transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=b"no workbook")
    )
    process_waiting(context)
    program.post("/hooks", {"url": "https://crm.example/"}, 201)
    kinds = {
        "/tasks?state=all": schemas.Task,
        "/companies": schemas.Company,
        "/contacts": schemas.Contact,
        "/staff": schemas.StaffMember,
        "/deliveries": schemas.Delivery,
        "/audit": schemas.AuditEntry,
        "/hooks": schemas.Webhook,
        "/figures": schemas.FigureName,
    }
    for path, kind in kinds.items():
        items = program.get(path)["items"]
        assert items, path
        assert not [faults for one in items if (faults := kind(unknown=RAISE).validate(one))], path
    with context.store.read_only() as session:
        failed = session.scalars(select(Delivery.id).where(Delivery.state == "failed")).one()
        body = json.loads(json.dumps(deliveries.find_delivery(session, failed, context.clock())))
    assert program.get(f"/deliveries/{failed}") == body
    assert schemas.DeliveryDetails(unknown=RAISE).validate(body) == {}
    assert program.get("/status")["backlog"]["failed"] == 1
    assert program.get("/ledger")["adds_up"] in {True, False}
    assert [s["stage"] for s in program.get("/process")["stages"]] == [s.stage for s in STEPS]
    assert program.get("/figures/arrivals?days=7")["rows"]
    assert number


def test_files_come_as_they_were_and_it_is_on_record(context: AppContext, program: Program) -> None:
    number = create_busy_ticket(context)
    file = next(
        m["attachments"] for m in program.get(f"/tickets/{number}")["messages"] if m["attachments"]
    )[0]
    answer = program("GET", f"/attachments/{file['id']}")
    assert answer.data == b"%PDF-1.7"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert [r.cause for r in list_audit_entries(context, number, "file opened")] == ["API"]
    program("GET", "/attachments/999", code=404)


def test_a_view_is_exported_without_patient_data_unless_asked_for(
    context: AppContext, program: Program
) -> None:
    deliver(context, make_mail("Jane Doe, born 1970", subject="=cmd"))
    plain = program("GET", "/tickets.csv/open")
    assert plain.mimetype == "text/csv"
    assert "Jane Doe" not in plain.text
    assert "Jane Doe" in program("GET", "/tickets.csv/open?text=true").text
    with context.store.read_only() as session:
        rows = list(session.scalars(select(AuditEntry).where(AuditEntry.action == "exported")))
    assert [r.detail["tickets"] for r in rows] == [1, 1]


# -- lists ----


@pytest.mark.parametrize("sort", ["oldest", "newest", "due"])
def test_pages_hold_every_ticket_once_in_order(
    any_context: AppContext, clock: HandClock, sort: str
) -> None:
    for n in range(7):
        number = open_ticket(any_context)
        if n % 3 == 0:
            complete(any_context, number)
        clock.turn(minutes=7 if n % 2 else 0)
    program, ids, cursor = Program(any_context, build_app(any_context)), list[int](), ""
    while True:
        page = program.get(f"/tickets?view=all&sort={sort}&limit=2&cursor={cursor}")
        ids += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(ids) == list(range(1, 8))
    whole = [one["id"] for one in program.get(f"/tickets?view=all&sort={sort}")["items"]]
    assert ids == whole


def test_lists_are_filtered_and_what_means_nothing_is_said_to(
    context: AppContext, program: Program
) -> None:
    one, other = (
        open_ticket(context, make_mail("about denials")),
        open_ticket(context, make_mail("about payments")),
    )
    program.post(f"/tickets/{one}/assign", {"owner": "me"})

    def list_ids(query: str) -> list[int]:
        return [t["id"] for t in program.get(f"/tickets?{query}")["items"]]

    assert list_ids("owner=me") == [one]
    assert list_ids("owner=nobody") == [other]
    assert list_ids("view=mine") == [one]
    assert list_ids("q=denials") == [one]
    assert list_ids("view=unassigned") == [other]
    for query, field in (
        ("vew=open", "vew"),
        ("view=nonsense", "view"),
        ("owner=ghost", "owner"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
    ):
        assert field in program.get(f"/tickets?{query}", 422)["fields"], query


# -- changes ----


def test_a_call_is_written_down_once_however_often_it_is_sent(any_context: AppContext) -> None:
    program = Program(any_context, build_app(any_context))
    call = {"company": "Sunrise", "contacts": ["pat@clinic.example"], "text": "Asks about denials"}
    first = program("POST", "/tickets", call, 201, Idempotency_Key="call-1")
    assert first.headers["Location"] == f"{V1}/tickets/{first.json['id']}"  # type: ignore[index]
    assert program.post("/tickets", call, 201, Idempotency_Key="call-1") == first.json
    assert (
        program.post("/tickets", {**call, "text": "x"}, 409, Idempotency_Key="call-1")["error"]
        == "conflict"
    )
    assert len(program.post("/tickets", call, 201, Idempotency_Key="call-1")["messages"]) == 2, (
        "nothing is thrown away"
    )
    assert count_rows(any_context, Ticket) == 1
    assert first.json["owner"] is None  # type: ignore[index]
    mine = program.post("/tickets", {**call, "take": True}, 201)
    assert mine["owner"] == program.me.name
    assert count_rows(any_context, Ticket) == 2


def test_keys_of_two_programs_do_not_meet(context: AppContext, app: Flask) -> None:
    one, other = Program(context, app), Program(context, app, role=Role.AGENT)
    assert one.post("/tickets", {"text": "a"}, 201, Idempotency_Key="1")["id"] == 1
    assert other.post("/tickets", {"text": "b"}, 201, Idempotency_Key="1")["id"] == 2


def test_a_ticket_is_walked_to_its_end(context: AppContext, program: Program) -> None:
    number = open_ticket(context)
    with context.store.transaction() as session:
        context.desk.record_milestone(
            session,
            session.get_one(Ticket, number),
            Milestone.CUSTOMER_NOTIFIED,
            by="rule",
            now=context.clock(),
        )
    at = f"/tickets/{number}"
    assert program.post(f"{at}/assign", {"owner": program.me.email})["owner"] == program.me.name
    assert program.post(f"{at}/follow-up", {"note": "by phone"})["stage"] == "5-Audit"
    assert program.post(f"{at}/resolve", {"resolution": "yes"})["missing"] == [
        str(Milestone.RECAP_SENT)
    ]
    assert "date of birth" in program.post(f"{at}/recap", {"text": "Born 1/2/1970."}, 409)["detail"]
    program.post(f"{at}/recap", {"text": "Born 1/2/1970.", "checked": True})
    program.post(f"{at}/recap", {"text": "The claim was resubmitted."})
    assert (
        count_rows(context, WrittenMail, WrittenMail.text.contains("The claim was resubmitted."))
        == 1
    )
    assert (
        program.post(f"{at}/tick", {"milestone": str(Milestone.RECAP_SENT)})["stage"]
        == "6-Completed"
    )
    assert program.post(f"{at}/reopen", {"reason": "they called again"})["stage"] == "4-In Progress"
    program.post(f"{at}/note", {"text": "call on Monday"})
    assert count_rows(context, Message, Message.direction == "note") == 1
    (task,) = [
        t
        for t in program.post(f"{at}/telemedicine")["tasks"]
        if not t["done"] and "telemedicine" in t["text"]
    ]
    assert program.post(f"/tasks/{task['id']}/finish")["done_by"] == program.me.name
    assert (
        program.post(f"{at}/end", {"status": "spam", "reason": "it was"})["status"] == Status.SPAM
    )
    assert {r.actor for r in list_audit_entries(context, number, "reopened")} == {program.me.name}


def test_a_recap_goes_once_with_copies_files_and_a_text_of_the_desk(
    any_context: AppContext,
) -> None:
    program, number = Program(any_context, build_app(any_context)), open_ticket(any_context)
    recap = {
        "text": "We sent it again.",
        "template": str(Template.RECAP),
        "cc": ["Office@clinic.example"],
        "attachments": [
            {"name": "../letter.pdf", "content": base64.b64encode(b"%PDF-1.7").decode()}
        ],
    }
    for _ in range(2):
        program.post(f"/tickets/{number}/recap", recap, Idempotency_Key="recap-1")
    with any_context.store.read_only() as session:
        (written_mail,) = session.scalars(select(WrittenMail))
        (file,) = written_mail.files
        to, mails = written_mail.to, written_mail.mails
        assert [m.to for m in mails] == [*to, "office@clinic.example"]
        assert {m.state for m in mails} == {OutboxState.WAITING}
        assert {m.not_before for m in mails} == {any_context.clock() + timedelta(seconds=10)}
        assert written_mail.subject == f"Recap of Resolution: Billing Support Ticket #{number}"
        assert written_mail.text.startswith("We sent it again.\n\nHello")
        assert (file.name, file.mime, file.size) == ("letter.pdf", "application/pdf", 8)
        assert written_mail.ticks == [Milestone.RECAP_SENT.name]


def test_what_a_recap_cannot_take_is_said_and_nothing_is_sent(
    context: AppContext, program: Program
) -> None:
    number = open_ticket(context)
    at = f"/tickets/{number}/recap"
    assert (
        "no text of this name"
        in program.post(at, {"text": "x", "template": "Nonsense"}, 409)["detail"]
    )
    assert "empty" in program.post(at, {"text": " "}, 409)["detail"]
    wrong = {"text": "x", "attachments": [{"name": "a.pdf", "content": "no base64!"}]}
    assert program.post(at, wrong, 422)["fields"].keys() == {"attachments"}
    recap = {
        "text": "x",
        "attachments": [{"name": "Jane_Doe_born_1-2-1970.pdf", "content": "YQ=="}],
    }
    assert "the name of the file" in program.post(at, recap, 409)["detail"]
    assert "cc" in program.post(at, {"text": "x", "cc": ["nobody"]}, 422)["fields"]
    assert (
        count_rows(context, WrittenMail)
        == count_rows(context, OutgoingMail, OutgoingMail.written_id.is_not(None))
        == 0
    )


def test_what_was_done_last_is_undone(any_context: AppContext, clock: HandClock) -> None:
    program, number = Program(any_context, build_app(any_context)), open_ticket(any_context)
    at = f"/tickets/{number}"
    assert program.post(f"{at}/undo", {}, 409)["detail"] == "there is nothing to undo"
    program.post(f"{at}/assign", {"owner": "me"})
    program.post(f"{at}/recap", {"text": "We sent it again."}, Idempotency_Key="1")
    program.post(f"{at}/undo")
    assert (
        "was undone"
        in program.post(f"{at}/recap", {"text": "x"}, 409, Idempotency_Key="1")["detail"]
    )
    with any_context.store.read_only() as session:
        assert {m.state for m in session.scalars(select(WrittenMail)).one().mails} == {
            OutboxState.WITHHELD
        }
    assert program.post(f"{at}/recap", {"text": "We sent it again."})["owner"] == program.me.name
    clock.turn(seconds=11)
    sender.send_waiting(any_context)
    error = program.post(f"{at}/undo", {}, 409)["detail"]
    assert error.startswith("since then: mail sent")
    other = Program(any_context, program.client)
    program.post(f"{at}/resolve", {"resolution": "yes"})
    assert "only" in other.post(f"{at}/undo", {}, 409)["detail"]
    assert program.post(f"{at}/undo")["resolution"] is None
    assert list_audit_entries(any_context, number, "undone")


def test_what_cannot_be_is_said_with_what_is_missing(context: AppContext, program: Program) -> None:
    number = open_ticket(context)
    error = program.post(f"/tickets/{number}/reopen", {"reason": "x"}, 409)
    assert error["error"] == "conflict"
    assert "open" in error["detail"]
    assert program.post(f"/tickets/{number}/resolve", {"resolution": "maybe"}, 422)[
        "fields"
    ].keys() == {"resolution"}
    assert program.post(f"/tickets/{number}/merge", {"into": number}, 409)
    assert program.post("/tickets/999/note", {"text": "x"}, 404)["error"] == "not-found"
    assert program.post("/tickets", {"text": "a\0b"}, 422)["fields"].keys() == {"text"}
    assert program.post(f"/tickets/{number}/assign", {"owner": "ghost"}, 422)["fields"].keys() == {
        "owner"
    }
    raw = program.client.post(
        f"{V1}/tickets",
        data=b"{",
        content_type="application/json",
        headers={"Authorization": f"Bearer {program.token}"},
    )
    assert raw.status_code == 400


def test_an_action_can_insist_on_what_was_seen(context: AppContext, program: Program) -> None:
    number = open_ticket(context)
    seen = program("GET", f"/tickets/{number}").headers["ETag"]
    program.post(f"/tickets/{number}/note", {"text": "first"}, If_Match=seen)
    assert (
        program.post(f"/tickets/{number}/note", {"text": "second"}, 412, If_Match=seen)["error"]
        == "changed"
    )
    fresh = program("GET", f"/tickets/{number}").headers["ETag"]
    program.post(f"/tickets/{number}/note", {"text": "second"}, If_Match=fresh)
    assert count_rows(context, Message, Message.direction == "note") == 2


def test_companies_and_contacts_are_put_on_record_and_changed(any_context: AppContext) -> None:
    program = Program(any_context, build_app(any_context))
    company = program.post(
        "/companies", {"name": "Acme", "number": "77", "domains": ["acme.example"]}, 201
    )
    changed = program("PATCH", f"/companies/{company['id']}", {"manager": "me"}).json
    assert changed == {**company, "manager": program.me.name}
    assert program(
        "PATCH", f"/companies/{company['id']}", {"manager": None, "number": None}
    ).json == {
        **company,
        "number": None,
    }
    program.post("/companies", {"name": "ACME."}, 409)
    contact = program.post(
        "/contacts", {"email": "Pat@acme.example", "company": company["id"]}, 201
    )
    assert contact["email"] == "pat@acme.example"
    assert program("PATCH", f"/contacts/{contact['id']}", {"phone": "555"}).json == {
        **contact,
        "phone": "555",
    }
    assert program.get(f"/contacts?company={company['id']}")["items"][0]["phone"] == "555"
    program.post("/contacts", {"email": "nonsense"}, 409)
    assert (
        "company"
        in program.post("/contacts", {"email": "x@y.example", "company": 99}, 422)["fields"]
    )
    assert program.get("/companies?q=acm")["items"][0]["id"] == company["id"]


def test_failed_deliveries_are_dismissed_and_read_again(
    context: AppContext, program: Program
) -> None:
    Intake(context).accept(
        Arrival(transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=b"no workbook")
    )
    process_waiting(context)
    assert program.post("/deliveries/1/dismiss", {"reason": "a test"})["state"] == "dismissed"
    program.post("/deliveries/1/dismiss", {"reason": "again"}, 409)
    assert program.post("/deliveries/1/replay")["state"] == "failed"
    program.post("/deliveries/99/replay", code=404)


def test_webhooks_are_registered_with_a_secret_shown_once(program: Program) -> None:
    webhook = program.post(
        "/hooks", {"url": "https://crm.example/x", "events": ["ticket.opened"]}, 201
    )
    secret = webhook.pop("secret")
    assert secret.startswith("whsec_")
    assert program.get("/hooks")["items"] == [webhook]
    assert program.post("/hooks/1/again") == {"events": 0}
    program("DELETE", "/hooks/1", code=204)
    program("DELETE", "/hooks/1", code=404)
    program.post("/hooks", {"url": "http://169.254.169.254/"}, 409)


# -- the page of tokens ----


def test_a_token_is_made_on_the_page_shown_once_and_revoked(context: AppContext) -> None:
    desk = sign_in_at_desk(context)
    assert "You have no token" in desk.get("/account/tokens").text
    refused = desk.post("/account/tokens", {"name": "phone system", "scope": ["read", "admin"]})
    assert refused.status_code == 422
    assert 'value="phone system"' in refused.text
    page = desk.post("/account/tokens", {"name": "phone system", "scope": ["read"]}).text
    (token,) = re.findall(r'value="(intake_[^"]+)"', page)
    assert token not in desk.get("/account/tokens").text
    heads = {"Authorization": f"Bearer {token}"}
    program = build_app(context).test_client()
    assert program.get(f"{V1}/me", headers=heads).json["name"] == "Ann Lee"  # type: ignore[index]
    other = sign_in_at_desk(context, name="Bo Ray")
    assert other.post("/account/tokens/1/revoke").status_code == 404
    assert desk.post("/account/tokens/1/revoke").status_code == 302
    assert program.get(f"{V1}/me", headers=heads).status_code == 401


# -- its document ----


def test_the_examples_of_the_docs_work(context: AppContext, program: Program) -> None:
    script = PAGE.read_text().partition("```sh\nINTAKE=")[2].partition("```")[0]
    calls = [line for line in script.splitlines() if line.startswith("curl")]
    assert len(calls) > 10
    for line in calls:
        words = shlex.split(line.replace("$INTAKE", V1).replace("$TOKEN", program.token))[1:]
        request_fields: dict[str, Any] = {"method": "GET", "headers": {}}
        while len(words) > 1:
            option, value, *words = words
            match option:
                case "-H":
                    name, _, text = value.partition(": ")
                    request_fields["headers"][name] = text
                case "-X":
                    request_fields["method"] = value
                case "--json":
                    request_fields |= {
                        "data": value,
                        "content_type": "application/json",
                        "method": "POST",
                    }
                case "-d":
                    request_fields["data"] = value
        answer = program.client.open(words[0], **request_fields)
        assert answer.status_code in {200, 201}, (line, answer.text)
    assert (
        count_rows(context, WrittenMail, WrittenMail.text.contains("The claim was resubmitted."))
        == 1
    )


def test_called_as_the_document_says_and_otherwise_it_never_breaks(context: AppContext) -> None:
    settings = context.settings.model_copy(update={"api_calls_per_minute": 100_000})

    app = build_app(replace(context, settings=settings))
    program = Program(context, app)
    create_busy_ticket(context)
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
    few = examples(
        max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for found in schema.get_all_operations():
        operation = found.ok()

        @few
        @given(case=operation.as_strategy())
        def call(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {program.token}"})
            case.validate_response(answer, checks=checks)

        call()


# -- the commands ----


def test_tokens_and_webhooks_by_command_show_their_secret_once(intake: Intake_) -> None:
    intake("user", "add", "Ann Lee", "--role", "agent")
    token = intake(
        "token", "add", "phone system", "--for", "Ann Lee", "--scope", "read"
    ).stdout.strip()
    assert token.startswith("intake_")
    assert (
        "has not the right"
        in intake("token", "add", "x", "--for", "Ann Lee", "--scope", "admin", code=1).output
    )
    listed = intake("token", "list", "--json").stdout
    assert token not in listed
    assert json.loads(listed)[0]["scopes"] == ["read"]
    assert "phone system" in intake("token", "list").stdout
    intake("token", "revoke", "1")
    assert "No program has a token" in intake("token", "list").stdout
    secret = intake(
        "hook", "add", "https://crm.example/x", "--event", "ticket.opened"
    ).stdout.strip()
    assert secret.startswith("whsec_")
    assert (
        "there is no event x"
        in intake("hook", "add", "https://crm.example/x", "--event", "x", code=1).output
    )
    assert "crm.example" in intake("hook", "list").stdout
    assert "0 events" in intake("hook", "again", "1").stdout
    intake("hook", "remove", "1")
    assert "No webhook" in intake("hook", "list").stdout


# -- senders ----


def test_rules_for_senders_are_set_removed_and_brought_back(
    context: AppContext, program: Program
) -> None:
    body = {"sender": "payer.example", "treatment": "never"}
    rule = program.post("/sender-rules", body, 201)
    assert (rule["scope"], rule["sender"], rule["ended_at"]) == ("domain", "@payer.example", None)
    program.post("/sender-rules", body, 409)
    program.post("/sender-rules", {**body, "treatment": "sometimes"}, 422)
    assert program.post(f"/sender-rules/{rule['id']}/remove")["ended_at"]
    again = program.post(f"/sender-rules/{rule['id']}/undo")["items"]
    assert again == program.get("/sender-rules")["items"] == [rule]
    program.post("/sender-rules/99/remove", code=409)
    agent = Program(context, program.client, role=Role.AGENT)
    agent.post("/sender-rules", body, 403)


def test_an_automated_mail_is_made_a_ticket_and_that_is_undone(
    context: AppContext, program: Program
) -> None:
    raw = b"From: x@payer.example\nAuto-Submitted: auto-generated\nSubject: x\n\nClaim 1.\n"
    Intake(context).accept(Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw))
    process_waiting(context)
    [mail] = program.get("/automated")["items"]
    ticket = program.post(f"/automated/{mail['id']}/ticket")
    assert ticket["status"] == "open"
    undone = program.post(f"/automated/{mail['id']}/undo")
    assert (undone["id"], undone["status"]) == (ticket["id"], "withdrawn")
    program.post(f"/automated/{mail['id']}/undo", code=409)
    program.post("/automated/99/undo", code=404)
    assert program.get("/automated")["items"] == [mail]
