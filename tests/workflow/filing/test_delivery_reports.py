"""What reports say of our mail reaches the mail, its contact and its ticket.

And forged senders reach nothing.
"""

from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Attachment, Bounce
from tests.support.context import ANN, audited, contact, counted, deliver, mail, ticket_of
from workflow.context import House, open_house
from workflow.filing.dmarc import FORGED, failed_dmarc
from workflow.mail import sender
from workflow.models.core import Message, Outgoing, Task, Ticket, TicketRelation
from workflow.models.states import OutboxState, Outcome

EDGE = "mx.desk.example"


@pytest.fixture
def sent(house: House) -> Outgoing:
    """The notice of a ticket, taken by the relay."""
    number = ticket_of(house)
    sender.send_waiting(house)
    with house.store.reading() as session:
        return session.scalars(select(Outgoing).where(Outgoing.ticket_id == number)).one()


def report(house: House, sent: Outgoing, **said: Any) -> Outcome:
    original = Attachment("original", "message/rfc822", f"Message-ID: {sent.message_id}".encode())
    bounce = Bounce(failed=(sent.to,), **said)
    item = mail(
        sender=Address("", "mailer-daemon@mx.example"),
        is_bounce=True,
        is_automated=True,
        bounce=bounce,
        attachments=(original,),
        signs=("daemon-address", "bounce-wording"),
    )
    return deliver(house, item).outcome


def mail_now(house: House, sent: Outgoing) -> Outgoing:
    with house.store.reading() as session:
        return session.get_one(Outgoing, sent.id)


def test_what_the_other_system_said_stands_on_the_timeline_and_its_code_on_the_mail(
    house: House, sent: Outgoing
) -> None:
    assert report(house, sent, status="5.1.1", reason="no such user here") is Outcome.IGNORED
    assert mail_now(house, sent).state is OutboxState.BOUNCED
    assert mail_now(house, sent).reason == "came back (5.1.1)"
    with house.store.reading() as session:
        note = session.scalars(select(Message).where(Message.direction == "note")).one()
    assert note.ticket_id == sent.ticket_id
    assert "no such user here" in note.text


def test_a_delay_is_said_once_and_gives_nobody_a_task(house: House, sent: Outgoing) -> None:
    for _ in range(2):
        report(house, sent, action="delayed", status="4.4.7")
    assert mail_now(house, sent).state is OutboxState.SENT
    assert mail_now(house, sent).reason == "delayed on its way (4.4.7)"
    assert not contact(house, ANN.email).unreachable
    assert counted(house, Task) == 0
    assert len(audited(house, sent.ticket_id, "delayed")) == 1


def test_a_bounce_after_a_delay_still_counts(house: House, sent: Outgoing) -> None:
    report(house, sent, action="delayed")
    report(house, sent, action="failed")
    assert contact(house, ANN.email).unreachable
    assert counted(house, Task) == 1


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_a_report_that_it_arrived_changes_nothing(
    house: House, sent: Outgoing, action: str
) -> None:
    assert report(house, sent, action=action) is Outcome.IGNORED
    assert mail_now(house, sent).state is OutboxState.SENT
    assert counted(house, Message, Message.direction == "note") == 1  # its words can be read
    assert counted(house, Task) == 0


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
def test_only_the_one_verdict_of_our_own_edge_is_believed(headers: list[str], failed: bool) -> None:  # noqa: FBT001
    assert failed_dmarc(mail(authentication=tuple(headers)), EDGE) is failed
    assert not failed_dmarc(mail(authentication=tuple(headers)), "")


@pytest.fixture
def guarded(house: House) -> House:
    changed = house.settings.model_copy(
        update={"authserv_id": EDGE, "database_url": str(house.store.engine.url)}
    )
    return open_house(changed, clock=house.clock)


def test_a_mail_its_domain_disowns_is_shown_and_never_answered_and_joins_nothing(
    guarded: House,
) -> None:
    first = mail()
    number = ticket_of(guarded, first)
    forged = mail(
        "pay to this account", in_reply_to=first.message_id, authentication=(f"{EDGE}; dmarc=fail",)
    )
    filing = deliver(guarded, forged)
    assert filing.outcome is Outcome.OPENED
    with guarded.store.reading() as session:
        ticket = session.get_one(Ticket, filing.ticket_id)
        assert FORGED in ticket.caveats
        assert ticket.outbox == []
        assert session.get(TicketRelation, (filing.ticket_id, number)) is not None
    guarded.close()


def test_a_forged_copy_of_a_known_mail_does_not_join_its_ticket(guarded: House) -> None:
    first = mail()
    ticket_of(guarded, first)
    copy = mail("other words", name=first.external_id, authentication=(f"{EDGE}; dmarc=fail",))
    assert deliver(guarded, copy).outcome is Outcome.OPENED
    assert counted(guarded, Ticket) == 2
    guarded.close()
