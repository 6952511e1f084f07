"""Customers' words are on the ticket and nowhere else.

Not in a log, a queue, an audit row or a mail of ours.
"""

import logging

import pytest
from pydantic import SecretStr
from sqlalchemy import inspect, select

import parsers
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Address, Attachment, Format, InboundItem, ParseError
from tests.support.context import HandClock, complete, count_rows, make_call_arrival, make_mail
from tests.support.servers import Relay
from workflow.context import AppContext, open_context
from workflow.mail import sender
from workflow.models.core import AuditEntry, Delivery, OutgoingMail, Task, Ticket
from workflow.models.states import DeliveryState
from workflow.operations import sweep
from workflow.runtime import log as runtime_log

MARKERS = ("Zebulon", "Quackenbush", "4711-0815", "wombat.pdf", "ann.zq@practice.example")
NAME, FAMILY, CLAIM, FILE, EMAIL = MARKERS
FULL_NAME = f"{NAME} {FAMILY}"


@pytest.fixture(autouse=True)
def json_log() -> None:
    """The log as a process has it."""
    runtime_log.configure("test", as_json=True)


def make_marked_item() -> InboundItem:
    file = Attachment(FILE, "application/pdf", f"{FULL_NAME}".encode())
    return make_mail(
        f"{FULL_NAME} {CLAIM}",
        subject=f"about {FULL_NAME}",
        sender=Address(FULL_NAME, EMAIL),
        html=f"<p>{FULL_NAME}",
        attachments=(file,),
        details=(("Patient", FULL_NAME),),
        company=f"{FAMILY} Practice",
        phone=CLAIM,
    )


def parse_marked_mail(raw: bytes, *_: object) -> list[InboundItem]:
    if raw.startswith(b"unreadable"):
        raise ParseError("not a message: ask for it once more") from ValueError(FULL_NAME)
    if raw.startswith(b"broken"):
        raise RuntimeError(f"cannot read {raw!r}")
    return [make_marked_item()]


def test_no_log_audit_row_or_mail_of_ours_repeats_a_customer(
    any_context: AppContext,
    relay: Relay,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(parsers.PARSERS, Format.MAIL, parse_marked_mail)
    context = open_context(
        any_context.settings.model_copy(update={"relay_url": SecretStr(relay.url)}),
        notifier=any_context.store.notify,
        clock=clock,
    )
    runtime_log.configure("test", as_json=True)  # again: standard error is the test's now
    intake = Intake(context)
    for start in (b"good ", b"unreadable ", b"broken "):
        intake.accept(
            Arrival(
                transport=Transport.SMTP,
                format=Format.MAIL,
                raw=start + FULL_NAME.encode() + CLAIM.encode(),
                envelope={"mail_from": EMAIL},
            )
        )
    intake.accept(make_call_arrival(f"{FULL_NAME} {CLAIM}", name=FULL_NAME, email=EMAIL))
    relay.answers = [
        f"450 4.2.0 <{EMAIL}> greylisted {FULL_NAME}",
        f"550 5.1.1 <{EMAIL}> unknown {FULL_NAME}",
    ]
    for _ in range(4):
        process_waiting(context)
        sender.send_waiting(context)
        clock.turn(minutes=2)
    clock.turn(days=4)
    sweep.sweep(context, redis_away=lambda: True)
    with context.store.read_only() as session:
        tickets = list(session.scalars(select(Ticket.id)))
    for number in tickets:
        complete(context, number)
    sender.send_waiting(context)

    assert len(tickets) == 2
    assert count_rows(context, Delivery, Delivery.state == DeliveryState.FAILED) == 2
    assert count_rows(context, OutgoingMail) >= 2
    with context.store.read_only() as session:
        for model in (AuditEntry, Task):
            for kept in session.scalars(select(model)):
                shown = " ".join(str(getattr(kept, c.key)) for c in inspect(model).columns)
                assert not [m for m in MARKERS if m in shown], shown
        for delivery in session.scalars(select(Delivery)):
            assert not [m for m in MARKERS if m in delivery.reason]
    context.close()
    output = capfd.readouterr()
    log = output.out + output.err + caplog.text
    assert '"event": "filed"' in log
    assert '"event": "fault"' in log
    assert not [m for m in MARKERS if m in log], log
    for taken in relay.taken:
        body = bytes(taken.content or b"").decode().replace(EMAIL, "")  # the address it goes to
        assert not [m for m in MARKERS if m in body]
    assert relay.taken


def test_a_fault_is_told_by_class_and_place_only(capfd: pytest.CaptureFixture[str]) -> None:
    runtime_log.configure("test", as_json=True)
    try:
        parse_marked_mail(b"broken" + FULL_NAME.encode())
    except RuntimeError as error:
        runtime_log.fault("here", error)
    output = capfd.readouterr().err
    assert "RuntimeError" in output
    assert "test_privacy.py:" in output
    assert NAME not in output


def test_an_item_and_an_arrival_do_not_show_their_text_when_printed() -> None:
    arrival = make_call_arrival(FULL_NAME)
    assert NAME not in repr(arrival)
    item = make_mail(
        FULL_NAME,
        html=FULL_NAME,
        details=(("Patient", FULL_NAME),),
        attachments=(Attachment("a", "b/c", FULL_NAME.encode()),),
    )
    assert NAME not in repr(item)
