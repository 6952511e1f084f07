"""The ticket page.

The process beside the timeline, its buttons, and nobody acting on what they have not seen.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from console.app import create_app
from console.presenters.tickets.links import make_key
from parsers.item import Address, Format, InboundItem
from parsers.mail import secure_links
from tests.support.context import (
    HandClock,
    complete,
    count_rows,
    create_company,
    create_staff,
    deliver,
    file_in,
    list_audit_entries,
    make_mail,
    open_ticket,
    reach,
    run_in_threads,
)
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow import process
from workflow.context import AppContext
from workflow.mail import compose
from workflow.models.core import AuditEntry, Message, OutgoingMail, Staff, Task, Ticket
from workflow.models.presence import Presence
from workflow.models.states import OutboxState, Role, Status
from workflow.process import Milestone, Stage, Step


@pytest.fixture
def ticket(context: AppContext) -> int:
    number = open_ticket(
        context, make_mail("Mrs Example's claim was denied", subject="A denied claim")
    )
    reach(context, number, Milestone.CUSTOMER_NOTIFIED, by="rule")
    return number


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context)


def get_seen_version(desk: Desk, number: int) -> dict[str, str]:
    """What a form of the page carries: the version of the ticket that was on the screen."""
    found = re.search(r'name="seen" value="(\d+)"', desk.get(f"/tickets/{number}").text)
    assert found
    return {"seen": found[1]}


def do(desk: Desk, number: int, action: str, **form: Any) -> Any:
    return desk.post(f"/tickets/{number}/do/{action}", get_seen_version(desk, number) | form)


def load_ticket(context: AppContext, number: int) -> Ticket:
    with context.store.read_only() as session:
        found = session.get_one(Ticket, number)
        assert found.milestones is not None
        return found


@contextmanager
def capture_queries(context: AppContext) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(context.store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(context.store.engine, "before_cursor_execute", note)


# -- the page ----


def test_the_page_says_what_is_missing_and_by_when(desk: Desk, ticket: int) -> None:
    page = desk.get(f"/tickets/{ticket}").text
    assert "To reach 5-Audit, still missing:" in page
    assert process.describe_milestone(Milestone.FOLLOW_UP_SENT) in page
    assert "follow up with the customer" in page
    assert ">in 2 d</time>" in page
    assert "Mrs Example&#39;s claim was denied" in page


def test_a_new_milestone_appears_without_touching_a_template(
    desk: Desk, ticket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = str.__new__(Milestone, "4-Insurance Called")
    new._name_, new._value_ = "INSURANCE_CALLED", "4-Insurance Called"
    steps = [
        Step(s.stage, s.on_entry, (*s.waits_for, new)) if s.stage is Stage.IN_PROGRESS else s
        for s in process.STEPS
    ]
    monkeypatch.setattr(process, "STEPS", tuple(steps))
    page = desk.get(f"/tickets/{ticket}").text
    assert 'value="INSURANCE_CALLED"' in page
    assert "box 4-Insurance Called is ticked" in page


def test_newest_words_first_the_quoted_ones_folded_away(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    clock.turn(minutes=5)
    first = load_ticket(context, ticket)
    with context.store.read_only() as session:
        answered = session.get_one(Ticket, first.id).messages[0].message_id
    item = make_mail(
        "It works now\n\n> did it work?", in_reply_to=f"<{answered}>", reply_text="It works now"
    )
    deliver(context, item)
    page = desk.get(f"/tickets/{ticket}").text
    assert page.index("It works now") < page.index("Mrs Example")
    newest, _, rest = page[page.index("It works now") :].partition("<details")
    assert "did it work?" not in newest
    assert "did it work?" in rest


def test_a_form_shows_its_table_and_its_link_first(context: AppContext, desk: Desk) -> None:
    form = InboundItem(
        format=Format.FORMSTACK,
        external_id="f1",
        sender=Address("Ann", "ann@practice.example"),
        text="help",
        company="Acme",
        link="https://forms.example/1",
        details=(("Claim", "<b>77</b>"),),
        caveats=("no phone number given",),
    )
    page = desk.get(f"/tickets/{open_ticket(context, form)}").text
    link = re.search(r'<a[^>]*href="https://forms.example/1"[^>]*>', page)
    assert link
    assert 'target="_blank"' in link[0]
    assert 'rel="noopener noreferrer"' in link[0]
    assert page.index("https://forms.example/1") < page.index("Stage")
    assert "&lt;b&gt;77&lt;/b&gt;" in page
    assert "no phone number given" in page


@pytest.mark.parametrize(
    ("caveat", "is_open"),
    [
        (secure_links.CAVEAT.format(place=secure_links.LISTED_LINK, expiry=""), True),
        ("other", False),
    ],
)
def test_the_link_of_a_secure_message_is_shown_at_once(
    context: AppContext, desk: Desk, caveat: str, *, is_open: bool
) -> None:
    link = "https://portal.example/m/1"
    item = make_mail("Read the message", details=(("Read", link),), caveats=(caveat,))
    page = desk.get(f"/tickets/{open_ticket(context, item)}").text
    assert ('<details class="mt-2" open>' in page) is is_open
    assert f'/links/{make_key(link)}" target="_blank" rel="noopener noreferrer' in page


@pytest.mark.parametrize(
    ("came_as", "title"),
    [(Format.FORMSTACK, "Fields of the form"), (Format.SECURE_MESSAGE, "Other columns of the row"),
     (Format.PHONE, "Details of the call"), (Format.MAIL, "Links")],
)  # fmt: skip
def test_what_stands_beside_the_text_is_called_after_what_came(
    context: AppContext, desk: Desk, came_as: Format, title: str
) -> None:
    item = InboundItem(
        format=came_as,
        external_id="x1",
        sender=Address("Ann", "ann@practice.example"),
        text="help",
        company="Acme",
        details=(("Provider", "Dr. Moss"),),
    )
    ticket = open_ticket(context, item)
    with context.store.read_only() as session:
        message = session.get_one(Ticket, ticket).messages[0].id
    assert f"<summary>{title} (1)</summary>" in desk.get(f"/tickets/{ticket}").text
    assert f"<summary>{title}</summary>" in desk.get(f"/tickets/{ticket}/answer").text
    assert f">{title}</h2>" in desk.get(f"/messages/{message}/text").text


def test_mails_show_how_far_they_came(context: AppContext, desk: Desk, ticket: int) -> None:
    with context.store.transaction() as session:
        sent = session.get_one(Ticket, ticket).outbox[0]
        sent.state, sent.reason = OutboxState.REFUSED, "refused by the relay with 550"
    page = desk.get(f"/tickets/{ticket}").text
    assert "refused by the relay with 550" in page
    assert process.Template.NOTICE in page


def test_a_long_ticket_costs_few_queries_and_few_bytes(any_context: AppContext) -> None:
    desk = sign_in_at_desk(any_context)
    number = open_ticket(any_context, make_mail("x" * 900_000))
    with any_context.store.transaction() as session:
        for n in range(30):
            found = make_mail(
                f"message {n} " + "wörds & more <tags> " * 4000, in_reply_to="", subject=f"s{n}"
            )
            file_in(any_context, session, found)
        for message in session.query(Message):
            message.ticket_id = number
    desk.get(f"/tickets/{number}")
    with capture_queries(any_context) as statements:
        answer = desk.client.get(f"/tickets/{number}")  # as it is sent
    assert len([s for s in statements if not s.startswith(("BEGIN", "SAVEPOINT", "RELEASE"))]) <= 20
    assert len(answer.data) < 300_000
    assert answer.text.count('id="message-') == 31
    assert "The whole message" in answer.text


def test_older_entries_are_a_page_away(context: AppContext, desk: Desk, ticket: int) -> None:
    with context.store.transaction() as session:
        for n in range(70):
            session.add(
                AuditEntry(
                    at=context.clock(),
                    actor="Bob",
                    cause="",
                    action="reopened",
                    ticket_id=ticket,
                    detail={"n": n},
                )
            )
    assert "older=1" in desk.get(f"/tickets/{ticket}").text
    older = desk.get(f"/tickets/{ticket}?older=1").text
    assert "Mrs Example" in older
    assert "older=2" not in older
    assert desk.get(f"/tickets/{ticket}?older=-5").status_code == 200
    assert desk.get(f"/tickets/{ticket}?older=x").status_code == 200


def test_what_is_not_there_is_404(desk: Desk, ticket: int) -> None:
    for path in (
        "/tickets/999",
        "/tickets/99999999999999999999",
        "/messages/999/html",
        "/attachments/999",
    ):
        assert desk.get(path).status_code == 404
    assert desk.post("/tickets/999/do/note", {"text": "x"}).status_code == 404
    assert desk.post("/tickets/999/pulse").status_code == 404
    assert desk.post(f"/tickets/{ticket}/do/explode").status_code == 404


def test_a_number_wider_than_the_databases_is_no_address_of_ours(context: AppContext) -> None:
    admin, wide = sign_in_at_desk(context, Role.ADMIN), "9" * 20
    rules = [
        r
        for r in create_app(context).url_map.iter_rules()
        if "<int" in r.rule and not r.rule.startswith("/api/")
    ]
    assert len(rules) > 20
    for rule in rules:
        path = re.sub(r"<int[^>]*>", wide, re.sub(r"<any\((\w+)[^>]*>", r"\1", rule.rule)).replace(
            "<name>", "note"
        )
        for method in (rule.methods or set()) & {"GET", "POST"}:
            answer = admin.get(path) if method == "GET" else admin.post(path)
            assert answer.status_code in {
                404,
                405,
            }, f"{method} {path}"  # 405: the library, where GET has a rule too


# -- the buttons ----


def test_a_ticket_is_walked_to_its_end_by_the_buttons(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    me = re.search(r'name="owner" value="(\d+)"', desk.get(f"/tickets/{ticket}").text)
    assert me
    assert do(desk, ticket, "assign", owner=me[1]).status_code == 302
    assert do(desk, ticket, "tick", milestone="FOLLOW_UP_SENT", note="by phone").status_code == 302
    assert load_ticket(context, ticket).stage is Stage.AUDIT
    do(desk, ticket, "tick", milestone="RECAP_SENT", note="told by phone")
    do(desk, ticket, "resolve", resolution="yes")
    done = load_ticket(context, ticket)
    assert (done.stage, done.status, done.resolution) == (Stage.COMPLETED, Status.COMPLETED, "Yes")
    page = desk.get(f"/tickets/{ticket}").text
    assert "told by phone" in page
    assert "Moved to 6-Completed" in page
    assert [a.actor for a in list_audit_entries(context, ticket, "reached")] == [
        "rule",
        "Ann Lee",
        "Ann Lee",
        "Ann Lee",
    ]


def test_a_box_that_the_process_ticks_or_nobody_knows_cannot_be_ticked(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    for milestone in ("CUSTOMER_NOTIFIED", "RESOLVED", "nonsense", ""):
        assert do(desk, ticket, "tick", milestone=milestone).status_code == 422
    assert load_ticket(context, ticket).stage is Stage.IN_PROGRESS


def test_what_cannot_be_done_says_why_and_keeps_what_was_typed(desk: Desk, ticket: int) -> None:
    answer = do(desk, ticket, "merge", into="#4711")
    assert answer.status_code == 422
    assert "no ticket 4711" in answer.text
    assert 'value="#4711"' in answer.text
    assert do(desk, ticket, "end", status="spam", reason="  ").status_code == 422


def test_the_other_ways_out_and_back(context: AppContext, desk: Desk, ticket: int) -> None:
    other = open_ticket(context)
    assert do(desk, ticket, "end", status="spam", reason="an advert").status_code == 302
    assert do(desk, ticket, "tick", milestone="FOLLOW_UP_SENT").status_code == 422
    do(desk, ticket, "reopen", reason="no advert")
    do(desk, ticket, "tick", milestone="FOLLOW_UP_SENT")
    do(desk, ticket, "move-back", stage="IN_PROGRESS", reason="wrong customer")
    assert load_ticket(context, ticket).stage is Stage.IN_PROGRESS
    do(desk, ticket, "merge", into=str(other))
    assert load_ticket(context, ticket).merged_into_id == other
    page = desk.get(f"/tickets/{ticket}").text
    for words in ("an advert", "no advert", "wrong customer", f"Merged into #{other}"):
        assert words in page


def test_a_task_is_finished_on_its_own_ticket_only(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    do(desk, ticket, "telemedicine")
    other = open_ticket(context)
    with context.store.read_only() as session:
        task = session.query(Task).filter_by(kind="telemedicine").one().id
    assert do(desk, other, "finish-task", task=task).status_code == 422
    assert do(desk, ticket, "telemedicine").status_code == 302
    assert "It was handed over before" in desk.get(f"/tickets/{ticket}").text
    assert do(desk, ticket, "finish-task", task=task).status_code == 302
    assert "Handed over to CSC Onboarding telemedicine" in desk.get(f"/tickets/{ticket}").text


def test_a_note_is_shown_to_the_desk_and_mailed_to_nobody(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    before = count_rows(context, OutgoingMail)
    assert do(desk, ticket, "note", text="She is <b>angry</b>").status_code == 302
    page = desk.get(f"/tickets/{ticket}").text
    assert "She is &lt;b&gt;angry&lt;/b&gt;" in page
    assert count_rows(context, OutgoingMail) == before
    assert do(desk, ticket, "note", text=" ").status_code == 422


def test_a_question_that_was_asked_leaves_the_list(context: AppContext, desk: Desk) -> None:
    number = open_ticket(context, make_mail(caveats=("no phone number given",)))
    assert 'value="no phone number given"' in desk.get(f"/tickets/{number}").text
    do(desk, number, "settle", caveat="no phone number given")
    assert "no phone number given" not in load_ticket(context, number).caveats


def test_related_tickets_are_linked_or_told_apart_and_that_can_change(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    stranger = Address("Eve", "eve@elsewhere.example")
    with context.store.read_only() as session:
        name = session.get_one(Ticket, ticket).messages[0].message_id
    about = open_ticket(context, make_mail(sender=stranger, in_reply_to=f"<{name}>"))
    assert f"possibly about #{ticket}" in desk.get(f"/tickets/{about}").text
    for verdict in ("not related", "linked", "not related"):
        assert do(desk, about, "relation", other=str(ticket), verdict=verdict).status_code == 302
        assert f"<strong>{verdict}</strong>" in desk.get(f"/tickets/{ticket}").text
    assert do(desk, about, "relation", other="4711", verdict="linked").status_code == 422
    assert do(desk, about, "link", other=str(about)).status_code == 422


# -- several people ----


def test_somebody_who_also_looks_is_named(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    bob = sign_in_at_desk(context, name="Bob Ray")
    bob.get(f"/tickets/{ticket}")
    assert "Bob Ray is viewing this ticket now" in desk.get(f"/tickets/{ticket}").text
    assert desk.post(f"/tickets/{ticket}/pulse", {"seen": "0"}).json["watching"] == ["Bob Ray"]  # type: ignore[index]
    clock.turn(minutes=5)
    assert "Bob Ray viewed this ticket" in desk.get(f"/tickets/{ticket}").text
    clock.turn(minutes=6)
    assert (
        "Bob Ray"
        not in desk.get(f"/tickets/{ticket}")
        .text.partition("Customer")[0]
        .partition("notices")[2][:600]
    )


def test_a_task_that_another_has_done_is_told_by_its_words(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    before = get_seen_version(desk, ticket)
    bob = sign_in_at_desk(context, name="Bob Ray")
    do(bob, ticket, "telemedicine")
    with context.store.read_only() as session:
        task = session.query(Task).filter_by(kind="telemedicine").one()
    do(bob, ticket, "finish-task", task=task.id)
    asked = desk.post(f"/tickets/{ticket}/do/tick", before | {"milestone": "FOLLOW_UP_SENT"})
    assert asked.status_code == 409
    assert f"Task done: {task.text}" in asked.text


def test_whoever_only_looks_on_is_given_no_ticket(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    sign_in_at_desk(context, Role.AUDITOR, name="Olga Orr")
    with context.store.read_only() as session:
        auditor = session.query(Staff).filter_by(name="Olga Orr").one().id
    assert f'<option value="{auditor}"' not in desk.get(f"/tickets/{ticket}").text
    answer = do(desk, ticket, "assign", owner=auditor)
    assert answer.status_code == 422
    assert "Olga Orr only looks on" in answer.text
    assert load_ticket(context, ticket).owner_id is None


def test_acting_on_what_another_has_changed_asks_again(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    before = get_seen_version(desk, ticket)
    bob = sign_in_at_desk(context, name="Bob Ray")
    do(bob, ticket, "note", text="I have called her")
    form = before | {"milestone": "FOLLOW_UP_SENT", "note": "by mail"}
    answer = desk.post(f"/tickets/{ticket}/do/tick", form)
    assert answer.status_code == 409
    assert "I have called her" in answer.text
    assert load_ticket(context, ticket).stage is Stage.IN_PROGRESS
    again = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
    assert again["note"] == "by mail"
    assert desk.post(f"/tickets/{ticket}/do/tick", again).status_code == 302
    assert load_ticket(context, ticket).stage is Stage.AUDIT


def test_of_two_who_do_the_same_at_once_one_is_asked(any_context: AppContext) -> None:
    number = open_ticket(any_context)
    desks = [sign_in_at_desk(any_context, name=name) for name in ("Ann Lee", "Bob Ray")]
    forms = [get_seen_version(desk, number) | {"milestone": "FOLLOW_UP_SENT"} for desk in desks]
    codes: list[int] = []
    path = f"/tickets/{number}/do/tick"
    assert not run_in_threads(
        *(
            lambda d=d, f=f: codes.append(d.post(path, f).status_code)
            for d, f in zip(desks, forms, strict=True)
        )
    )
    assert sorted(codes) == [302, 409]
    assert len(list_audit_entries(any_context, number, "reached")) == 1


def test_a_mail_on_its_way_waits_ten_seconds_and_undo_takes_it_back(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    reach(context, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    do(desk, ticket, "tick", milestone="RECAP_SENT")
    page = desk.get(f"/tickets/{ticket}").text
    assert "now at 6-Completed" in page
    number = re.search(r'name="undo" value="(\d+)"', page)
    assert number
    clock.turn(seconds=8)
    assert do(desk, ticket, "undo", undo=number[1]).status_code == 302
    page = desk.get(f"/tickets/{ticket}").text
    assert "Undone: Ticked 5-Recap of Resolution Sent" in page
    assert "undone by Ann Lee before it was sent" in page
    assert load_ticket(context, ticket).stage is Stage.AUDIT
    assert do(desk, ticket, "undo", undo=number[1]).status_code == 422


def test_what_the_customer_writes_asks_again_what_rules_do_does_not(
    context: AppContext, desk: Desk
) -> None:
    number = open_ticket(context, make_mail(name="first@practice.example"))
    form = get_seen_version(desk, number) | {"milestone": "FOLLOW_UP_SENT"}
    reach(context, number, Milestone.CUSTOMER_NOTIFIED, by="rule")
    assert desk.post(f"/tickets/{number}/do/tick", form).status_code == 302
    form = get_seen_version(desk, number) | {"resolution": "yes"}
    deliver(context, make_mail("wait, one more", in_reply_to="<first@practice.example>"))
    assert (
        "A message came from the customer" in desk.post(f"/tickets/{number}/do/resolve", form).text
    )
    news = desk.post(f"/tickets/{number}/pulse", form).json
    assert news == {"watching": [], "changed": ["A message came from the customer (the process)"]}


def test_a_form_that_saw_nothing_is_asked_again(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    at = sign_in_at_desk(context, name="Bob Ray")
    do(at, ticket, "note", text="hello")
    for nonsense in ({}, {"seen": "x"}, {"seen": "-1"}):
        assert (
            desk.post(
                f"/tickets/{ticket}/do/resolve", {**nonsense, "resolution": "yes"}
            ).status_code
            == 409
        )


def test_who_looked_is_on_record_once_an_hour(
    context: AppContext, desk: Desk, ticket: int, clock: HandClock
) -> None:
    for _ in range(3):
        desk.get(f"/tickets/{ticket}")
    desk.post(f"/tickets/{ticket}/pulse")
    assert [(a.actor, a.detail) for a in list_audit_entries(context, ticket, "viewed")] == [
        ("Ann Lee", {})
    ]
    clock.turn(minutes=10)
    desk.get(f"/tickets/{ticket}")
    assert count_rows(context, Presence) == 1
    for _ in range(5):
        clock.turn(minutes=10)
        desk.get(f"/tickets/{ticket}")
    assert len(list_audit_entries(context, ticket, "viewed")) == 2


def test_a_page_left_open_does_not_keep_its_session_alive(
    desk: Desk, ticket: int, clock: HandClock
) -> None:
    desk.get(f"/tickets/{ticket}")
    for _ in range(3):
        clock.turn(minutes=6)
        last = desk.post(f"/tickets/{ticket}/pulse").status_code
    assert last in {
        400,
        401,
    }  # signed out after a quarter of an hour, though the page went on asking


def test_an_auditor_reads_and_changes_nothing(context: AppContext, ticket: int) -> None:
    auditor = sign_in_at_desk(context, Role.AUDITOR, "Ada Cole")
    page = auditor.get(f"/tickets/{ticket}").text
    assert "/do/" not in page
    assert auditor.post(f"/tickets/{ticket}/do/note", {"text": "x"}).status_code == 403


def test_contacts_can_be_called_and_the_manager_is_named(context: AppContext, desk: Desk) -> None:
    with context.store.transaction() as session:
        acme = create_company(session, "Acme Clinic", manager=create_staff(session, "Mary"))
    item = InboundItem(
        format=Format.PHONE,
        external_id="p1",
        sender=Address("Jo", "jo@acme.example"),
        company="Acme Clinic",
        phone="+1 555 0100",
        text="call back",
    )
    page = desk.get(f"/tickets/{open_ticket(context, item)}").text
    for part in (
        'href="tel:+1 555 0100"',
        'href="mailto:jo@acme.example"',
        f'href="/companies/{acme.id}"',
        "Mary",
    ):
        assert part in page


def test_a_completed_ticket_can_be_reopened_from_its_page(
    context: AppContext, desk: Desk, ticket: int
) -> None:
    complete(context, ticket)
    assert do(desk, ticket, "reopen", reason="not solved").status_code == 302
    assert load_ticket(context, ticket).period == 2


def test_the_token_of_a_reply_address_is_not_shown(context: AppContext, desk: Desk) -> None:
    ours = compose.make_reply_address(7, context.settings, context.signer)
    item = make_mail(to=(Address("Desk", ours), Address("", "jo+t-shirts@clinic.example")))
    page = desk.get(f"/tickets/{open_ticket(context, item)}").text
    assert f"Desk &lt;{context.settings.sender}&gt;" in page
    assert "jo+t-shirts@clinic.example" in page
    assert ours not in page
