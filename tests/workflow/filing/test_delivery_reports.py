"""Delivery reports reach the mail they are about, its contact and its ticket.

Forged senders reach nothing.
"""

from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Attachment, Bounce
from tests.support.context import (
    ANN,
    count_rows,
    deliver,
    get_contact,
    list_audit_entries,
    make_mail,
    open_ticket,
)
from workflow.context import AppContext, open_context
from workflow.filing.dmarc import FORGED_CAVEAT, has_failed_dmarc
from workflow.mail import sender
from workflow.models.core import Message, OutgoingMail, Task, Ticket, TicketRelation
from workflow.models.states import OutboxState, Outcome

EDGE = "mx.desk.example"


@pytest.fixture
def sent_mail(context: AppContext) -> OutgoingMail:
    """The notice of a ticket, taken by the relay."""
    number = open_ticket(context)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        return session.scalars(select(OutgoingMail).where(OutgoingMail.ticket_id == number)).one()


def file_report(context: AppContext, sent_mail: OutgoingMail, **fields: Any) -> Outcome:
    original = Attachment(
        "original", "message/rfc822", f"Message-ID: {sent_mail.message_id}".encode()
    )
    bounce = Bounce(failed=(sent_mail.to,), **fields)
    item = make_mail(
        sender=Address("", "mailer-daemon@mx.example"),
        is_bounce=True,
        is_automated=True,
        bounce=bounce,
        attachments=(original,),
        signs=("daemon-address", "bounce-wording"),
    )
    return deliver(context, item).outcome


def reload_mail(context: AppContext, sent_mail: OutgoingMail) -> OutgoingMail:
    with context.store.read_only() as session:
        return session.get_one(OutgoingMail, sent_mail.id)


def test_the_report_is_on_the_timeline_and_its_code_on_the_mail(
    context: AppContext, sent_mail: OutgoingMail
) -> None:
    assert (
        file_report(context, sent_mail, status="5.1.1", reason="no such user here")
        is Outcome.IGNORED
    )
    assert reload_mail(context, sent_mail).state is OutboxState.BOUNCED
    assert reload_mail(context, sent_mail).reason == "came back (5.1.1)"
    with context.store.read_only() as session:
        note = session.scalars(select(Message).where(Message.direction == "note")).one()
    assert note.ticket_id == sent_mail.ticket_id
    assert "no such user here" in note.text


def test_a_delay_is_noted_once_and_gives_nobody_a_task(
    context: AppContext, sent_mail: OutgoingMail
) -> None:
    for _ in range(2):
        file_report(context, sent_mail, action="delayed", status="4.4.7")
    assert reload_mail(context, sent_mail).state is OutboxState.SENT
    assert reload_mail(context, sent_mail).reason == "delayed on its way (4.4.7)"
    assert not get_contact(context, ANN.email).unreachable
    assert count_rows(context, Task) == 0
    assert len(list_audit_entries(context, sent_mail.ticket_id, "delayed")) == 1


def test_a_bounce_after_a_delay_still_counts(context: AppContext, sent_mail: OutgoingMail) -> None:
    file_report(context, sent_mail, action="delayed")
    file_report(context, sent_mail, action="failed")
    assert get_contact(context, ANN.email).unreachable
    assert count_rows(context, Task) == 1


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_a_report_that_it_arrived_changes_nothing(
    context: AppContext, sent_mail: OutgoingMail, action: str
) -> None:
    assert file_report(context, sent_mail, action=action) is Outcome.IGNORED
    assert reload_mail(context, sent_mail).state is OutboxState.SENT
    assert count_rows(context, Message, Message.direction == "note") == 1  # its words can be read
    assert count_rows(context, Task) == 0


@pytest.mark.parametrize(
    ("headers", "failed"),
    [
        ([f"{EDGE}; dmarc=fail (p=reject) header.from=practice.example"], True),
        ([f"{EDGE.upper()} 1; spf=pass; DMARC=Fail"], True),
        ([f"{EDGE}; dmarc=pass"], False),
        (
            [f"{EDGE}; spf=fail; dkim=fail"],
            False,
        ),  # DMARC says nothing of a domain without a policy
        (["mx.evil.example; dmarc=fail"], False),  # anybody's claim
        ([f"{EDGE} (mx); spf=pass (dmarc=fail; not ours to say)"], False),
        ([f"{EDGE}; dmarc=pass", f"{EDGE}; dmarc=fail"], False),  # one of them is forged
        ([], False),
        ([""], False),
    ],
)
def test_only_the_one_verdict_of_our_own_edge_is_believed(
    headers: list[str], *, failed: bool
) -> None:
    assert has_failed_dmarc(make_mail(authentication=tuple(headers)), EDGE) is failed
    assert not has_failed_dmarc(make_mail(authentication=tuple(headers)), "")


@pytest.fixture
def guarded_context(context: AppContext) -> AppContext:
    changed = context.settings.model_copy(
        update={"authserv_id": EDGE, "database_url": str(context.store.engine.url)}
    )
    return open_context(changed, clock=context.clock)


def test_a_mail_its_domain_disowns_is_shown_and_never_answered_and_joins_nothing(
    guarded_context: AppContext,
) -> None:
    first = make_mail()
    number = open_ticket(guarded_context, first)
    forged = make_mail(
        "pay to this account", in_reply_to=first.message_id, authentication=(f"{EDGE}; dmarc=fail",)
    )
    filing = deliver(guarded_context, forged)
    assert filing.outcome is Outcome.OPENED
    with guarded_context.store.read_only() as session:
        ticket = session.get_one(Ticket, filing.ticket_id)
        assert FORGED_CAVEAT in ticket.caveats
        assert ticket.outbox == []
        assert session.get(TicketRelation, (filing.ticket_id, number)) is not None
    guarded_context.close()


def test_a_forged_copy_of_a_known_mail_does_not_join_its_ticket(
    guarded_context: AppContext,
) -> None:
    first = make_mail()
    open_ticket(guarded_context, first)
    copy = make_mail("other words", name=first.external_id, authentication=(f"{EDGE}; dmarc=fail",))
    assert deliver(guarded_context, copy).outcome is Outcome.OPENED
    assert count_rows(guarded_context, Ticket) == 2
    guarded_context.close()
