"""The view Automated, and the rules for senders."""

import pytest
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import count_rows, create_company, deliver, make_mail
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.customers import sender_rules
from workflow.customers.sender_rules import Author
from workflow.errors import ActionNotAllowed, NotPermitted
from workflow.models.core import AuditEntry, AutomatedMail, SenderRule, Ticket
from workflow.models.states import Role, RuleScope, Status, Treatment
from workflow.permissions import RIGHTS_BY_ROLE

LEAD = Author("Lee Lead", RIGHTS_BY_ROLE[Role.LEAD])
SENDER = Address("Clearing", "notices@clearing.example")


@pytest.fixture
def desk(any_context: AppContext) -> Desk:
    return sign_in_at_desk(any_context, Role.LEAD)


def deliver_automated(context: AppContext, words: str = "Claim 1 was rejected.") -> None:
    item = make_mail(words, sender=SENDER, signs=("auto-submitted",), is_automated=True)
    deliver(context, item)


def set_rule(context: AppContext, sender: str, treatment: Treatment = Treatment.NEVER) -> int:
    with context.store.transaction() as session:
        rule = sender_rules.set_rule(session, sender, treatment, by=LEAD, now=context.clock())
        session.flush()
        return rule.id


def list_held(context: AppContext) -> list[tuple[str, str]]:
    with context.store.read_only() as session:
        return [(rule.value, str(rule.treatment)) for rule in sender_rules.list_rules(session)]


# -- the view ----


def test_a_mail_is_made_a_ticket_and_that_is_undone_on_the_page(
    any_context: AppContext, desk: Desk
) -> None:
    deliver_automated(any_context)
    page = desk.get("/automated").text
    assert "Claim 1 was rejected." in page
    assert "notices@clearing.example" in page
    answer = desk.post("/automated/1/ticket")
    page = desk.get(answer.headers["Location"]).text
    assert "Ticket #1" in page
    assert "Claim 1 was rejected." not in page
    desk.post("/automated/1/undo")
    assert "Claim 1 was rejected." in desk.get("/automated").text
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, 1).status is Status.WITHDRAWN


def test_undo_is_offered_only_to_who_made_the_ticket(any_context: AppContext, desk: Desk) -> None:
    deliver_automated(any_context)
    location = desk.post("/automated/1/ticket").headers["Location"]
    other = sign_in_at_desk(any_context, Role.AGENT, name="Olga")
    assert "/automated/1/undo" not in other.get(location).text
    other.post("/automated/1/undo")
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, 1).status is Status.OPEN


# -- rules ----


@pytest.mark.parametrize(
    ("sender", "scope", "value"),
    [
        ("Ann+x@Payer.example", RuleScope.ADDRESS, "ann@payer.example"),
        ("@Payer.example", RuleScope.DOMAIN, "payer.example"),
        ("mail.payer.example", RuleScope.DOMAIN, "mail.payer.example"),
        ("sunrise family  practice", RuleScope.COMPANY, "1"),
        ("company:1", RuleScope.COMPANY, "1"),
    ],
)
def test_a_sender_is_written_as_people_write_it(
    context: AppContext, sender: str, scope: RuleScope, value: str
) -> None:
    with context.store.transaction() as session:
        create_company(session, "Sunrise Family Practice")
        assert sender_rules.parse_sender(session, sender) == (scope, value)


@pytest.mark.parametrize("sender", ["", "@", "nobody", "company:7", "company:x", "a b@x", "@x"])
def test_what_is_no_sender_is_refused(context: AppContext, sender: str) -> None:
    with pytest.raises(ActionNotAllowed):
        set_rule(context, sender)


def test_nobody_shuts_out_a_public_mail_service(context: AppContext) -> None:
    with pytest.raises(ActionNotAllowed, match="anybody can have mail at"):
        set_rule(context, "gmail.com")
    set_rule(context, "x@gmail.com")


def test_every_change_of_a_rule_is_undone_in_turn(any_context: AppContext) -> None:
    context = any_context
    first = set_rule(context, "payer.example", Treatment.TICKET)
    second = set_rule(context, "payer.example", Treatment.NEVER)
    with context.store.transaction() as session:
        sender_rules.remove_rule(session, second, by=LEAD, now=context.clock())
    assert list_held(context) == []
    seen = []
    for number in (second, second, first):
        with context.store.transaction() as session:
            sender_rules.undo_last_change(session, number, by=LEAD, now=context.clock())
        seen.append(list_held(context))
    assert seen == [[("payer.example", "never")], [("payer.example", "ticket")], []]
    with context.store.read_only() as session:
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == [
        *["sender rule"] * 2,
        "sender rule removed",
        *["sender rule undone"] * 3,
    ]


def test_a_rule_takes_the_right_of_a_lead(context: AppContext) -> None:
    number = set_rule(context, "payer.example")
    agent = Author("Ann", RIGHTS_BY_ROLE[Role.AGENT])
    now = context.clock()
    with context.store.transaction() as session:
        with pytest.raises(NotPermitted):
            sender_rules.set_rule(session, "x.example", Treatment.NEVER, by=agent, now=now)
        with pytest.raises(NotPermitted):
            sender_rules.remove_rule(session, number, by=agent, now=now)
        with pytest.raises(NotPermitted):
            sender_rules.undo_last_change(session, number, by=agent, now=now)


def test_the_page_sets_removes_and_brings_back(any_context: AppContext, desk: Desk) -> None:
    form = {"sender": "payer.example", "treatment": "never"}
    assert desk.post("/operations/senders", form).status_code == 302
    refused = desk.post("/operations/senders", form)
    assert refused.status_code == 422
    assert "set to “never a ticket” already" in refused.text
    desk.post("/operations/senders/1/remove")
    assert list_held(any_context) == []
    assert "@payer.example: never a ticket, until" in desk.get("/operations/senders").text
    desk.post("/operations/senders/1/undo")
    assert list_held(any_context) == [("payer.example", "never")]
    agent = sign_in_at_desk(any_context, Role.AGENT, name="Olga")
    assert agent.post("/operations/senders/1/remove").status_code == 403
    assert count_rows(any_context, SenderRule, SenderRule.ended_at.is_(None)) == 1


def test_the_list_sets_the_sender_of_a_mail(any_context: AppContext, desk: Desk) -> None:
    deliver_automated(any_context)
    assert "Always a ticket" in desk.get("/automated").text
    form = {"sender": SENDER.email, "treatment": "ticket", "back": "automated"}
    assert desk.post("/operations/senders", form).headers["Location"] == "/automated"
    deliver_automated(any_context, "Claim 2 was rejected.")
    assert count_rows(any_context, Ticket) == count_rows(any_context, AutomatedMail) == 1
