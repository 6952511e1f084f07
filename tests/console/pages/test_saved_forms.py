"""Entered values survive the end of a session, for every form.

It is shown to who typed it and to nobody else.
"""

import html
import re
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from console.pages.saved_forms import TYPED_FIELDS
from console.web import request
from tests.support.context import HandClock, count_rows, create_company, open_ticket
from tests.support.signed_in_client import PASSWORD, Desk, invite, sign_in_at_desk
from workflow.accounts import saved_forms
from workflow.accounts.saved_forms import FormContent
from workflow.context import AppContext
from workflow.models.accounts import Account, SavedFormRow, WebSession
from workflow.models.core import Contact, Message
from workflow.models.states import Role
from workflow.operations.checks import SelfChecks

ANN, BOB = "ann@pmb.example", "bob@pmb.example"
WORDS = "Pat Doe called about claim 1001\nand will call again"
TEMPLATES = Path(__file__).parents[3] / "console" / "templates"
NO_ACCOUNT = {
    "customers.save_survey",
    "customers.unsubscribe",
}  # behind a signed link, without a session
OWN_ANSWER = {"accounts.create_account_by_link", "accounts.sign_out"}


def list_form_rules(app: Flask) -> list[Rule]:
    """Every address of the pages that takes a POST."""
    return [
        r
        for r in app.url_map.iter_rules()
        if "POST" in (r.methods or ()) and not r.rule.startswith("/api/")
    ]


def list_kept_rules(app: Flask) -> list[Rule]:
    """Those whose form is to be kept."""
    return [
        r
        for r in list_form_rules(app)
        if r.endpoint not in NO_ACCOUNT | OWN_ANSWER
        and not r.endpoint.startswith("security.")
        and not hasattr(app.view_functions[r.endpoint], request.SCRIPT_ATTRIBUTE)
    ]


def build_address(app: Flask, rule: Rule) -> str:
    """An address of the rule."""
    values = dict.fromkeys(rule.arguments, "1") | {"what": "done", "token": "x", "name": "note"}
    path = app.url_map.bind("localhost").build(
        rule.endpoint, {k: values[k] for k in rule.arguments}, method="POST"
    )
    return str(path)


def read_fields(page: str) -> dict[str, str]:
    """The fields of the form on the page of a saved form, as a browser would send them."""
    (form,) = re.findall(r'<form [^>]*id="saved-form".*?</form>', page, re.DOTALL)
    inputs = re.findall(r'<input [^>]*name="([^"]+)"[^>]* value="([^"]*)"', form)
    texts = re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL)
    return {name: html.unescape(value) for name, value in [*inputs, *texts]}


def send_again(desk: Desk, page: str, **changed: str) -> TestResponse:
    """Press the button of a saved form."""
    (action,) = re.findall(r'action="([^"]+)" id="saved-form"', page)
    return desk.post(html.unescape(action), {**read_fields(page), **changed})


def split_into_batches(rules: list[Rule]) -> list[list[Rule]]:
    """As many at a time as are kept of one person, since signing in is limited."""
    most = saved_forms.MAX_FORMS
    return [rules[at : at + most] for at in range(0, len(rules), most)]


def show_saved_forms(desk: Desk, app: Flask, rules: list[Rule]) -> list[str]:
    """The pages of the saved forms of these rules; then each is thrown away."""
    listed = desk.get("/kept-forms").text
    pages = {}
    for path in re.findall(r'href="(/kept-forms/[^"]+)"', listed):
        page = desk.get(path).text
        (action,) = re.findall(r'action="([^"?]+)[^"]*" id="saved-form"', page)
        pages[action] = page
        assert desk.post(f"{path}/discard").status_code == 302
    assert "/kept-forms" not in desk.get("/").text
    return [pages[build_address(app, rule)] for rule in rules]


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context, Role.ADMIN)


def let_session_end(desk: Desk, clock: HandClock) -> None:
    """Let the session end by itself, on a page that is still open."""
    assert desk.get("/").status_code == 200
    clock.turn(minutes=desk.context.settings.idle_minutes + 1)


def sign_in(desk: Desk, email: str = ANN) -> TestResponse:
    """Sign in and go where it leads."""
    desk.get("/login")
    data = {"email": email, "password": PASSWORD, "csrf_token": desk.token}
    return desk._remember_token(desk.client.post("/login", data=data, follow_redirects=True))


def test_every_form_is_kept_and_comes_back_after_sign_in(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    app = desk.client.application
    rules = list_kept_rules(app)
    assert len(rules) > 30
    for some in split_into_batches(rules):
        let_session_end(desk, clock)
        for rule in some:
            typed = {"text": WORDS, "phone": "212-555-0142", "ticket": ["1", "2"]}
            answer = desk.post(build_address(app, rule), typed)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/login"), rule
        assert "what you typed is saved" in desk.get("/login").text
        assert "Nothing was lost: check and send again" in sign_in(desk).text
        for rule, page in zip(some, show_saved_forms(desk, app, some), strict=True):
            fields = read_fields(page)
            assert fields["text"] == WORDS, rule
            assert fields["phone"] == "212-555-0142", rule
            assert page.count('name="ticket"') == 2, "each of several values"
    assert count_rows(context, Message) == 0, "nothing is sent by itself"


def test_a_token_that_is_too_old_while_signed_in_shows_the_form_again(
    context: AppContext, desk: Desk
) -> None:
    app = desk.client.application
    for some in split_into_batches(list_kept_rules(app)):
        desk.get("/")
        old = desk.token
        desk.client.delete_cookie("session")
        sign_in(desk)
        for rule in some:
            desk.token = old
            answer = desk.post(build_address(app, rule), {"text": WORDS}, follow_redirects=True)
            assert "older than your sign-in" in answer.text, rule
            assert read_fields(answer.text)["text"] == WORDS, rule
        show_saved_forms(desk, app, some)
    assert count_rows(context, Message) == 0


def test_what_a_script_asks_is_answered_by_a_status_and_not_kept(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    app = desk.client.application
    scripted_rules = [
        r
        for r in list_form_rules(app)
        if hasattr(app.view_functions[r.endpoint], request.SCRIPT_ATTRIBUTE)
    ]
    assert {r.endpoint for r in scripted_rules} == {"ticket.pulse", "answer.save_draft"}
    let_session_end(desk, clock)
    for rule in scripted_rules:
        assert desk.post(build_address(app, rule), {"text": WORDS}).status_code == 401
    assert count_rows(context, SavedFormRow) == 0


def test_a_note_is_added_by_one_press(context: AppContext, desk: Desk, clock: HandClock) -> None:
    number = open_ticket(context)
    desk.get(f"/tickets/{number}")
    clock.turn(minutes=20)
    desk.post(f"/tickets/{number}/do/note", {"text": WORDS})
    assert count_rows(context, Message, Message.direction == "note") == 0
    page = sign_in(desk)
    assert count_rows(context, Message, Message.direction == "note") == 0, (
        "nothing is sent by itself"
    )
    answer = send_again(desk, page.text, text=WORDS + "!")
    assert answer.status_code == 302
    with context.store.read_only() as session:
        note = session.scalars(select(Message).where(Message.direction == "note")).one()
        assert note.text == WORDS + "!"
    assert count_rows(context, SavedFormRow) == 0
    assert "Nothing was lost" not in desk.get("/").text


def test_it_comes_back_behind_a_second_factor_too(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    factory = desk.client.application.extensions["security"]._totp_factory
    secret = factory.generate_totp_secret()
    with context.store.transaction() as session:
        account = session.scalars(select(Account)).one()
        account.second_factor, account.totp_secret = "authenticator", secret
    let_session_end(desk, clock)
    desk.post("/tickets/1/do/note", {"text": WORDS})
    assert "authenticator app shows" in sign_in(desk).text
    assert "claim 1001" not in desk.get("/kept-forms/newest", follow_redirects=True).text
    desk.get("/login")
    sign_in(desk)
    code = factory._totp.from_source(secret).generate().token
    answer = desk.post("/tf-validate", {"code": code}, follow_redirects=True)
    assert read_fields(answer.text)["text"] == WORDS


def test_what_is_refused_when_it_is_sent_again_stays_until_it_is_taken(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    with context.store.transaction() as session:
        number = create_company(session, "Sunrise").id
    let_session_end(desk, clock)
    fields = {
        "text": WORDS,
        "name": "Quincy Vale",
        "phone": "555-0142",
        "new_email": "nonsense",
        "share": "new",
    }
    desk.post(f"/companies/{number}/add-ticket", fields)
    page = sign_in(desk)
    refused = send_again(desk, page.text)
    assert refused.status_code == 409
    assert "Quincy Vale" in refused.text
    assert "Nothing was lost" in desk.get("/").text
    page = desk.get(page.request.path)
    assert send_again(desk, page.text, new_email="q@x.example").status_code == 302
    assert count_rows(context, SavedFormRow) == 0


def test_what_is_refused_by_a_message_on_the_next_page_stays_too(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    with context.store.transaction() as session:
        person = Contact(email="jo@x.example", created_at=context.clock())
        session.add(person)
        session.flush()
        number = person.id
    let_session_end(desk, clock)
    desk.post(f"/contacts/{number}", {"email": "nonsense", "name": "Jo Lee", "phone": "555-0142"})
    page = sign_in(desk)
    assert "Nothing was changed" in desk.get(send_again(desk, page.text).headers["Location"]).text
    assert count_rows(context, SavedFormRow) == 1
    send_again(desk, desk.get(page.request.path).text, email="jo@x.example")
    assert count_rows(context, SavedFormRow) == 0
    assert count_rows(context, Contact, Contact.phone == "555-0142") == 1


def test_signed_out_twice_keeps_the_form_once(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    let_session_end(desk, clock)
    desk.post("/tickets/1/do/note", {"text": WORDS})
    page = sign_in(desk)
    clock.turn(minutes=20)
    assert send_again(desk, page.text, text="changed since").status_code == 303
    page = sign_in(desk)
    assert read_fields(page.text)["text"] == "changed since"
    assert count_rows(context, SavedFormRow) == 1


def test_nobody_else_sees_it(context: AppContext, desk: Desk, clock: HandClock) -> None:
    assert Desk(context).join(invite(context, "Bob"), "Bob", BOB).status_code == 302
    let_session_end(desk, clock)
    old = desk.token
    desk.post("/tickets/1/do/note", {"text": WORDS})
    with context.store.read_only() as session:
        key = session.scalars(select(SavedFormRow.key)).one()
    page = sign_in(desk, BOB)
    assert "claim 1001" not in page.text
    assert desk.get("/").status_code == 200
    assert "Nothing was lost" not in desk.get("/").text
    for path in (f"/kept-forms/{key}", "/kept-forms", "/kept-forms/newest"):
        assert "claim 1001" not in desk.get(path, follow_redirects=True).text
    assert desk.get(f"/kept-forms/{key}").status_code == 404
    desk.post(f"/kept-forms/{key}/discard")
    desk.token = old
    clock.turn(seconds=1)
    answer = desk.post("/tickets/1/do/note", {"text": "another one of hers"})
    assert answer.status_code == 403
    assert "another one of hers" not in answer.text
    assert count_rows(context, SavedFormRow) == 2
    elsewhere = Desk(context)
    assert "another one of hers" in sign_in(elsewhere).text, "at whatever browser she signs in"
    assert desk.get("/account").status_code == 200


def test_it_is_sealed_and_neither_in_an_address_nor_a_cookie_nor_a_log(
    context: AppContext, desk: Desk, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    let_session_end(desk, clock)
    answer = desk.post("/tickets/1/do/note", {"text": WORDS})
    assert not any("claim" in value for _, value in answer.headers)
    with context.store.read_only() as session:
        row = session.scalars(select(SavedFormRow)).one()
        assert b"claim" not in row.content
        assert b"claim" in context.sealer.unseal(row.content)
        assert not any("claim" in s.data for s in session.scalars(select(WebSession)))
    assert "claim" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
def test_a_form_of_another_site_is_not_kept(
    context: AppContext, desk: Desk, clock: HandClock, headers: dict[str, str]
) -> None:
    let_session_end(desk, clock)
    answer = desk.post("/tickets/1/do/note", {"text": WORDS}, headers=headers)
    assert answer.status_code == 400
    assert "Bad request" in answer.text
    assert count_rows(context, SavedFormRow) == 0


@pytest.mark.parametrize("token", ["", "x", "IjE6YWJjIg.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb"])
def test_a_form_without_a_token_of_ours_is_not_kept(
    context: AppContext, desk: Desk, clock: HandClock, token: str
) -> None:
    let_session_end(desk, clock)
    desk.token = token
    assert desk.post("/tickets/1/do/note", {"text": WORDS}).status_code == 400
    assert count_rows(context, SavedFormRow) == 0


def test_a_page_from_before_sign_in_is_led_to_the_sign_in_page(
    context: AppContext, clock: HandClock
) -> None:
    desk = Desk(context)
    desk.get("/login")
    clock.turn(minutes=20)
    answer = desk.post("/tickets/1/do/note", {"text": WORDS})
    assert answer.headers["Location"] == "/login?next=/tickets/1"
    assert count_rows(context, SavedFormRow) == 0


def test_the_sign_in_page_itself_may_be_old(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    fresh = Desk(context)
    fresh.get("/login?next=/tasks")
    clock.turn(hours=3)
    answer = fresh.post("/login?next=/tasks", {"email": ANN, "password": PASSWORD})
    assert answer.headers["Location"] == "/login?next=%2Ftasks"
    assert "Please try once more" in fresh.get(answer.headers["Location"]).text
    answer = fresh.post("/login?next=/tasks", {"email": ANN, "password": PASSWORD})
    assert answer.headers["Location"] == "/tasks"
    assert count_rows(context, SavedFormRow) == 0, "no password is ever kept"
    assert desk.context is context


def test_every_form_of_the_sign_in_library_asks_to_try_again(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    app = desk.client.application
    rules = [r for r in list_form_rules(app) if r.endpoint.startswith("security.")]
    assert len(rules) > 5
    for rule in rules:
        sign_in(desk)
        let_session_end(desk, clock)
        answer = desk.post(build_address(app, rule), {"password": PASSWORD, "code": "123456"})
        assert answer.status_code == 302, rule
        assert "open for too long" in desk.get("/login").text, rule
    assert count_rows(context, SavedFormRow) == 0


def test_an_old_invitation_keeps_name_and_address_but_no_password(
    context: AppContext, clock: HandClock
) -> None:
    token, desk = invite(context, "Cleo"), Desk(context)
    desk.get(f"/join/{token}")
    clock.turn(minutes=20)
    fields = {"name": "Cleo", "email": "cleo@pmb.example", "password": PASSWORD, "again": PASSWORD}
    page = desk.post(f"/join/{token}", fields)
    assert "type it again" in page.text
    assert 'value="cleo@pmb.example"' in page.text
    assert PASSWORD not in page.text
    assert desk.post(f"/join/{token}", fields).headers["Location"] == "/login"


def test_signing_out_from_an_old_page_signs_out(desk: Desk, clock: HandClock) -> None:
    let_session_end(desk, clock)
    assert desk.post("/sign-out").headers["Location"] == "/login"


def test_files_are_named_to_be_chosen_again(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    number = open_ticket(context)
    let_session_end(desk, clock)
    files = [(BytesIO(b"secret"), "claim form.pdf"), (BytesIO(b"secret"), "eob.pdf")]
    desk.post(
        f"/tickets/{number}/answer",
        {"text": WORDS, "files": files},
        content_type="multipart/form-data",
    )
    page = sign_in(desk).text
    assert "Choose them again: claim form.pdf, eob.pdf" in page
    assert 'enctype="multipart/form-data"' in page
    with context.store.read_only() as session:
        assert b"secret" not in context.sealer.unseal(
            session.scalars(select(SavedFormRow.content)).one()
        )


def test_it_is_gone_after_a_day_and_the_oldest_go_first(
    context: AppContext, desk: Desk, clock: HandClock
) -> None:
    assert desk.get("/").status_code == 200
    with context.store.transaction() as session:
        account = session.scalars(select(Account.id)).one()
        for n in range(saved_forms.MAX_FORMS + 2):
            clock.turn(seconds=1)
            saved_forms.save_form(
                session,
                context.sealer,
                account,
                FormContent("/", [("text", str(n))]),
                context.clock(),
            )
        first = saved_forms.list_forms(session, context.sealer, account, context.clock())
        assert [f.content.fields[0][1] for f in first][:: saved_forms.MAX_FORMS - 1] == ["21", "2"]
    clock.turn(seconds=saved_forms.KEEP_FOR.total_seconds())
    with context.store.read_only() as session:
        assert saved_forms.list_forms(session, context.sealer, account, context.clock()) == []
    SelfChecks(context).run_due()
    assert count_rows(context, SavedFormRow) == 0


def test_what_is_too_large_is_said_not_to_be_kept(context: AppContext) -> None:
    with context.store.transaction() as session:
        large = FormContent("/", [("text", "x" * saved_forms.MAX_BYTES)])
        assert saved_forms.save_form(session, context.sealer, 1, large, context.clock()) is None


def test_a_form_of_before_a_change_of_keys_is_kept(context: AppContext, desk: Desk) -> None:
    desk.get("/")
    app = desk.client.application
    app.config["SECRET_KEY_FALLBACKS"] = [app.secret_key]
    app.secret_key = "another"
    answer = desk.post("/tickets/1/do/note", {"text": WORDS})
    assert answer.status_code == 303
    assert count_rows(context, SavedFormRow) == 1


def test_a_session_that_somebody_else_ended_keeps_the_form_too(
    context: AppContext, desk: Desk
) -> None:
    desk.get("/")
    with context.store.transaction() as session:
        session.scalars(select(Account)).one().uniquifier = "ended elsewhere"
    assert desk.post("/tickets/1/do/note", {"text": WORDS}).headers["Location"] == "/login"
    assert count_rows(context, SavedFormRow) == 1


def test_every_field_that_is_typed_into_has_a_name_for_people() -> None:
    templates = [
        path
        for path in TEMPLATES.rglob("*.html")
        if path.parent.name not in {"security", "saved_forms"}
        and path.name not in {"join.html", "survey.html"}
    ]
    typed_kinds = {"text", "tel", "email", "date", "number"}
    names = set()
    search_fields = {"q", "person", "action", "ticket"}  # of forms that change nothing
    for path in templates:
        text = path.read_text()
        tags = re.findall(r"<(?:textarea|input)\b[^>]*>", text)
        calls = re.findall(r"(?:text_field|text_input|input_group)\(.*?\)\s*\}\}", text, re.DOTALL)
        for field in (*tags, *calls):
            kind = re.search(r'\btype="(\w+)"', field)
            name = re.search(r'(?:\bname="|^\w+\(\s*")([\w-]+)"', field)
            if name and (kind is None or kind[1] in typed_kinds):
                names.add(name[1])
    assert {"text", "reason", "subject"} < names, "this test finds no fields"
    assert names - search_fields - set(TYPED_FIELDS) == set(), (
        "add their labels to saved_forms.TYPED_FIELDS"
    )


def test_pages_say_plainly_what_was_wrong(desk: Desk) -> None:
    assert "Bad request" in desk.post("/tasks/1/done", {"csrf_token": "x"}).text
    wrong = desk.client.delete("/companies")
    assert wrong.status_code == 405
    assert "This page does not accept that kind of request" in wrong.text
