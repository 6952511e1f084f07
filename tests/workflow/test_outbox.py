"""Mail out: against a real SMTP server and the folder, what is sent, sent again, given up, and never said."""

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event, select

from parsers.item import Address
from tests.house import (
    ANN,
    HandClock,
    Posts,
    Woken,
    audited,
    complete,
    contact,
    counted,
    deliver,
    mail,
    phoned,
    reach,
    row,
    ticket_of,
    together,
)
from tests.servers import Relay, free_port
from workflow import outbox
from workflow.house import House, open_house
from workflow.models import Message, Outgoing, Ticket
from workflow.process import Milestone, Stage, Template
from workflow.settings import Settings
from workflow.states import OutboxState

WORDS = ("Jane Roe", "born 1970-01-01", "claim 4711")
PATIENT = mail(f"{WORDS[0]} {WORDS[1]}", subject=WORDS[2], html=f"<b>{WORDS[0]}</b>", reply_text=WORDS[1])


@pytest.fixture
def relayed(house: House, relay: Relay) -> Iterator[House]:
    """A house that sends through the relay."""
    given = house.settings.model_copy(update={"relay_url": SecretStr(relay.url)})
    opened = open_house(given, waker=Woken(), clock=house.clock)
    yield opened
    opened.close()


def outgoing(house: House, number: int = 1) -> Outgoing:
    with house.store.reading() as session:
        return session.get_one(Outgoing, number)


def read(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def in_folder(house: House) -> list[EmailMessage]:
    return [read(p.read_bytes()) for p in sorted((house.settings.home / "outbox").glob("*.eml"))]


# -- what goes out --------------------------------------------------------------------------------------------------


def test_a_notice_says_what_it_is_and_whom_it_answers(relayed: House, relay: Relay) -> None:
    first = ticket_of(relayed, mail(name="first@practice.example"))
    assert outbox.send_waiting(relayed) == 1
    (taken,) = relay.taken
    message = read(bytes(taken.content or b""))
    signer, settings = relayed.signer, relayed.settings
    assert taken.rcpt_tos == [ANN.email]
    assert taken.mail_from == outbox.return_path(1, settings, signer)
    assert message["Message-ID"] == outbox.message_id(1, settings, signer)
    assert message["Reply-To"] == outbox.reply_address(first, settings, signer)
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<first@practice.example>"
    assert message["References"] == "<first@practice.example>"
    assert message["From"] == "Billing Support <support@localhost>"
    assert message["Subject"] == f"Your Billing Support Ticket #{first} has been created"
    assert "has been created. We are working on it." in message.get_content()
    assert signer.number("t", message["Reply-To"].partition("+t-")[2].partition("@")[0]) == first
    assert signer.number("bounce", str(taken.mail_from).partition("+bounce-")[2].partition("@")[0]) == 1


def test_a_later_mail_refers_to_the_whole_thread_of_the_customers_mails(relayed: House, relay: Relay) -> None:
    number = ticket_of(relayed, mail(name="first@practice.example"))
    outbox.send_waiting(relayed)
    deliver(relayed, mail(name="second@practice.example", in_reply_to="<first@practice.example>"))
    complete(relayed, number)
    outbox.send_waiting(relayed)
    survey = read(bytes(relay.taken[-1].content or b""))
    assert survey["References"] == "<first@practice.example> <second@practice.example>"
    assert survey["In-Reply-To"] == "<second@practice.example>"
    assert survey["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("name", ["a b@x.example", "a>b@x.example", "a\r\nBcc: x@y.example@z", "nope", "ü@x.example"])
def test_a_message_id_that_could_break_a_header_is_not_referred_to(relayed: House, relay: Relay, name: str) -> None:
    ticket_of(relayed, mail(name=name))
    outbox.send_waiting(relayed)
    message = read(bytes(relay.taken[0].content or b""))
    assert "References" not in message
    assert "Bcc" not in message


def test_a_recap_is_a_persons_mail_with_the_persons_words(relayed: House, relay: Relay) -> None:
    number = ticket_of(relayed)
    with relayed.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        relayed.desk.recap(session, ticket, "We posted the payment – grüße.", by="Olga", now=relayed.clock())
    outbox.send_waiting(relayed)
    recap = read(bytes(relay.taken[-1].content or b""))
    assert "Auto-Submitted" not in recap
    assert "We posted the payment – grüße." in recap.get_content()
    assert recap["Subject"] == f"Recap of Resolution: Billing Support Ticket #{number}"


def test_an_oversized_mail_is_answered_with_its_own_words(house: House) -> None:
    number = ticket_of(house, mail(), {"oversized": 60_000_000})
    outbox.send_waiting(house)
    (message,) = in_folder(house)
    assert "too large" in message["Subject"]
    assert outgoing(house).template is Template.OVERSIZED
    with house.store.reading() as session:
        assert session.get_one(Ticket, number).stage is Stage.IN_PROGRESS


def test_no_mail_of_ours_repeats_what_the_customer_wrote(house: House) -> None:
    files = ()
    number = ticket_of(house, PATIENT)
    ticket_of(house, mail(WORDS[0], subject=WORDS[1], attachments=files), {"oversized": 1})
    complete(house, number)
    outbox.send_waiting(house)
    assert {m.template for m in (outgoing(house, n) for n in (1, 2, 3))} == {
        Template.NOTICE, Template.OVERSIZED, Template.SURVEY
    }  # fmt: skip
    for path in (house.settings.home / "outbox").glob("*.eml"):
        said = path.read_text() + str(read(path.read_bytes()).get_content())
        assert not [w for w in WORDS if w in said]


def test_every_template_renders_to_one_subject_and_a_text(house: House) -> None:
    number = ticket_of(house)
    for template in Template:
        waiting = Outgoing(id=9, ticket_id=number, template=template, text="words", to=ANN.email)
        subject, said = outbox._render(waiting, house.settings, house.signer)
        assert subject
        assert "\n" not in subject
        assert "{" not in subject + said
        assert said.strip().endswith("Billing Support")


def test_the_mail_is_on_the_timeline_once_sent(house: House) -> None:
    number = ticket_of(house)
    outbox.send_waiting(house)
    with house.store.reading() as session:
        sent = session.get_one(Ticket, number).messages[1]
        assert (sent.direction, f"<{sent.message_id}>") == ("out", outgoing(house).message_id)
    assert audited(house, number, "mail sent")[0].detail == {"mail": 1}


def test_message_ids_are_the_same_for_a_row_and_cannot_be_guessed(house: House, tmp_path: Path) -> None:
    signer, settings = house.signer, house.settings
    ids = {outbox.message_id(n, settings, signer) for n in range(1, 200)}
    assert len(ids) == 199
    assert ids == {outbox.message_id(n, settings, signer) for n in range(1, 200)}
    other = open_house(Settings(home=tmp_path / "other"))
    other.close()
    assert outbox.message_id(1, settings, other.signer) not in ids


# -- sending and sending again --------------------------------------------------------------------------------------


def test_many_mails_go_over_one_connection(relayed: House, relay: Relay) -> None:
    for n in range(5):
        ticket_of(relayed, mail(sender=Address("", f"c{n}@practice.example")))
    assert outbox.send_waiting(relayed) == 5
    assert (len(relay.taken), relay.connections) == (5, 1)


def test_a_450_is_tried_again_with_growing_pauses(relayed: House, relay: Relay, clock: HandClock) -> None:
    number = ticket_of(relayed)
    relay.answers = ["450 4.2.0 later"] * 4
    waited = []
    for _ in range(4):
        assert outbox.send_waiting(relayed) == 1
        assert outbox.send_waiting(relayed) == 0
        waited.append((outgoing(relayed).not_before - clock()).total_seconds())
        clock.turn(seconds=waited[-1] - 1)
        assert outbox.send_waiting(relayed) == 0
        clock.turn(seconds=1)
    assert waited == [30, 60, 120, 240]
    assert outgoing(relayed).reason == "not taken by the relay (450): tried again"
    assert outbox.send_waiting(relayed) == 1
    sent = outgoing(relayed)
    assert (sent.state, sent.attempts, sent.reason) == (OutboxState.SENT, 5, "")
    with relayed.store.reading() as session:
        assert session.get_one(Ticket, number).tasks == []
    assert not contact(relayed, ANN.email).unreachable


@pytest.mark.parametrize("answer", ["421 4.3.2 closing", "450 4.2.0 busy", "hang up"])
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
def test_whatever_passes_is_waited_out_and_the_next_mail_still_goes(
    relayed: House, relay: Relay, clock: HandClock, at: str, answer: str
) -> None:
    relay.at, relay.answers = at, [answer]
    for n in range(2):
        ticket_of(relayed, mail(sender=Address("", f"c{n}@practice.example")))
    outbox.send_waiting(relayed)
    assert [outgoing(relayed, n).state for n in (1, 2)] == [OutboxState.WAITING, OutboxState.SENT]
    clock.turn(seconds=30)
    outbox.send_waiting(relayed)
    assert [t.rcpt_tos for t in relay.taken] == [["c1@practice.example"], ["c0@practice.example"]]


@pytest.mark.parametrize("at", ["RCPT", "DATA"])
def test_a_550_is_not_tried_again_but_told_to_a_person(relayed: House, relay: Relay, clock: HandClock, at: str) -> None:
    relay.at, relay.answers = at, ["550 5.1.1 no such mailbox"]
    number = ticket_of(relayed)
    outbox.send_waiting(relayed)
    clock.turn(days=3)
    assert outbox.send_waiting(relayed) == 0
    refused = outgoing(relayed)
    assert (refused.state, refused.attempts) == (OutboxState.REFUSED, 1)
    assert refused.reason == "refused by the relay with 550"
    assert contact(relayed, ANN.email).unreachable
    with relayed.store.reading() as session:
        ticket = session.get_one(Ticket, number)
        assert [t.text for t in ticket.tasks] == ["tell the customer by other means"]
        assert ticket.stage is Stage.IN_PROGRESS  # recorded as not possible
        assert ticket.milestones[0].note == "not possible: refused by the relay with 550"


def test_a_relay_that_refuses_us_as_the_sender_says_nothing_of_the_customer(
    relayed: House, relay: Relay, clock: HandClock
) -> None:
    ticket_of(relayed)
    relay.at, relay.answers = "MAIL", ["530 5.7.0 authentication required"]
    outbox.send_waiting(relayed)
    assert outgoing(relayed).state is OutboxState.WAITING
    assert not contact(relayed, ANN.email).unreachable
    clock.turn(minutes=1)
    outbox.send_waiting(relayed)
    assert outgoing(relayed).state is OutboxState.SENT


def test_a_relay_that_is_away_for_two_days_is_given_up_without_blaming_the_customer(
    house: House, clock: HandClock
) -> None:
    number = ticket_of(house)
    (house.settings.home / "outbox").write_text("nothing can be handed over here")
    while outgoing(house).state is OutboxState.WAITING:
        assert outbox.send_waiting(house) == 1
        clock.now = max(clock.now, outgoing(house).not_before)
    lost = outgoing(house)
    assert lost.reason == "not taken by the relay for two days"
    assert (clock() - lost.created_at).days == 2
    assert lost.attempts < 120
    assert not contact(house, ANN.email).unreachable
    with house.store.reading() as session:
        assert len(session.get_one(Ticket, number).tasks) == 1


def test_a_relay_nobody_listens_at_is_waited_out(house: House, clock: HandClock) -> None:
    given = house.settings.model_copy(update={"relay_url": SecretStr(f"smtp://127.0.0.1:{free_port()}")})
    away = open_house(given, waker=Woken(), clock=clock)
    ticket_of(away)
    outbox.send_waiting(away)
    assert outgoing(away).reason == "not taken by the relay (no answer): tried again"
    away.close()


@pytest.mark.parametrize("email", ["jörg@practice.example", "x@bücher.example"])
def test_an_address_the_relay_cannot_write_to_is_told_to_a_person_at_once(
    relayed: House, relay: Relay, email: str
) -> None:
    number = ticket_of(relayed, mail(sender=Address("", email)))
    outbox.send_waiting(relayed)
    if relay.taken:  # a domain has an ASCII form
        assert relay.taken[0].rcpt_tos == ["x@xn--bcher-kva.example"]
        return
    assert outgoing(relayed).state is OutboxState.REFUSED
    with relayed.store.reading() as session:
        assert [t.kind for t in session.get_one(Ticket, number).tasks] == ["tell-customer:1"]


class Crash(BaseException):
    """The process is gone."""


def test_a_crash_between_relay_and_commit_sends_it_again_under_the_same_message_id(
    relayed: House, relay: Relay, clock: HandClock
) -> None:
    number = ticket_of(relayed)

    def die(session: Any, *_: Any) -> None:
        if any(isinstance(o, Message) and o.direction == "out" for o in session.new):
            raise Crash

    from sqlalchemy.orm import Session  # noqa: PLC0415

    event.listen(Session, "before_flush", die)
    try:
        with pytest.raises(Crash):
            outbox.send_waiting(relayed)
    finally:
        event.remove(Session, "before_flush", die)
    assert outgoing(relayed).state is OutboxState.WAITING
    assert outbox.send_waiting(relayed) == 0  # its lease runs
    clock.turn(seconds=120)
    assert outbox.send_waiting(relayed) == 1
    ids = [read(bytes(t.content or b""))["Message-ID"] for t in relay.taken]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert bytes(relay.taken[0].content or b"") == bytes(relay.taken[1].content or b"")
    with relayed.store.reading() as session:
        assert len(session.get_one(Ticket, number).messages) == 2


def test_a_relay_slower_than_the_lease_does_not_have_mail_sent_twice(
    relayed: House, relay: Relay, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        ticket_of(relayed, mail(sender=Address("", f"c{n}@practice.example")))
    other = open_house(relayed.settings, waker=Woken(), clock=clock)
    posted = relay.handle_DATA

    async def slowly(*given: Any) -> str:
        clock.turn(seconds=50)
        return await posted(*given)

    monkeypatch.setattr(relay, "handle_DATA", slowly)
    outbox.send_waiting(relayed)
    assert len(relay.taken) == 2  # the third would have come close to the end of its lease
    clock.turn(seconds=120)
    outbox.send_waiting(other)
    clock.turn(seconds=120)
    outbox.send_waiting(relayed)
    other.close()
    sent = sorted(t.rcpt_tos[0] for t in relay.taken)
    assert sent == [f"c{n}@practice.example" for n in range(6)]


def test_two_workers_at_once_send_each_mail_once(postgres_house: House, relay: Relay) -> None:
    given = postgres_house.settings.model_copy(update={"relay_url": SecretStr(relay.url)})
    house = open_house(given, waker=Woken(), clock=postgres_house.clock)
    for n in range(8):
        ticket_of(house, mail(sender=Address("", f"c{n}@practice.example")))
    assert together(*[lambda: outbox.send_waiting(house)] * 4) == []
    assert len(relay.taken) == 8
    assert counted(house, Outgoing, Outgoing.state == OutboxState.SENT) == 8
    house.close()


def test_two_workers_that_send_the_notices_of_one_ticket_at_once_record_it_once(postgres_house: House) -> None:
    house = postgres_house
    number = ticket_of(house, phoned(Address("", "bob@practice.example")))
    posts = Posts()
    assert outbox._claim(house, house.clock()) == [1, 2]
    assert together(*(lambda n=n: outbox.send(house, posts, n) for n in (1, 2))) == []
    assert len(posts.taken) == 2
    assert len(audited(house, number, "reached")) == 1
    assert counted(house, Outgoing, Outgoing.state == OutboxState.SENT) == 2


def test_a_mail_that_was_sent_is_not_sent_by_a_late_worker(house: House) -> None:
    ticket_of(house)
    posts = Posts()
    outbox.send(house, posts, 1)
    outbox.send(house, posts, 1)
    assert len(posts.taken) == 1


def test_one_mail_that_cannot_be_written_stops_no_other(house: House) -> None:
    first, second = (ticket_of(house, mail(sender=Address("", f"c{n}@p.example"))) for n in range(2))
    with house.store.transaction() as session:
        session.get_one(Outgoing, 1).to = "two@x.example, three@y.example"
    outbox.send_waiting(house)
    assert [outgoing(house, n).state for n in (1, 2)] == [OutboxState.REFUSED, OutboxState.SENT]
    assert outgoing(house).reason == "the address cannot be used"
    assert {first, second} == {1, 2}


# -- the folder -----------------------------------------------------------------------------------------------------


def test_without_a_relay_each_mail_is_one_file_however_often_it_is_sent(house: House, clock: HandClock) -> None:
    ticket_of(house)
    outbox.send_waiting(house)
    with house.store.transaction() as session:
        session.query(Message).where(Message.direction == "out").delete()
        session.get_one(Outgoing, 1).state = OutboxState.WAITING
        session.get_one(Outgoing, 1).not_before = clock()
    outbox.send_waiting(house)
    (message,) = in_folder(house)
    assert message["To"] == ANN.email
    assert not list((house.settings.home / "outbox").glob(".*"))


def test_a_folder_that_cannot_be_written_is_waited_out(house: House, clock: HandClock) -> None:
    ticket_of(house)
    folder = house.settings.home / "outbox"
    folder.write_text("not a folder")
    outbox.send_waiting(house)
    assert outgoing(house).state is OutboxState.WAITING
    folder.unlink()
    clock.turn(minutes=3)
    outbox.send_waiting(house)
    assert outgoing(house).state is OutboxState.SENT


# -- whom no automatic mail goes to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("email", "why"),
    [
        ("no-reply@shop.example", "an address nobody reads"),
        ("noreply@shop.example", "an address nobody reads"),
        ("Do-Not-Reply@shop.example", "an address nobody reads"),
        ("MAILER-DAEMON@relay.example", "an address nobody reads"),
        ("postmaster@relay.example", "an address nobody reads"),
        ("bounces+x=y@list.example", "an address nobody reads"),
        ("support@localhost", "our own address"),
        ("Support+t-1-abc@LOCALHOST", "our own address"),
    ],
)
def test_nobody_answers_automatically_to(house: House, email: str, why: str) -> None:
    number = ticket_of(house, mail(sender=Address("", email)))
    with house.store.reading() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.outbox == []
        assert ticket.stage is Stage.IN_PROGRESS
        assert [t.cause for t in ticket.tasks] in ([why], ["automatic sender"])


def test_our_own_addresses_are_known_in_any_spelling(tmp_path: Path) -> None:
    from workflow import people  # noqa: PLC0415

    settings = Settings(home=tmp_path, addresses=("@desk.example", "help@x.example"), from_address="Desk@X.example")
    ours = ["anything@desk.example", "HELP@x.example", "help+tag@x.example", "desk@x.example"]
    assert all(people.is_ours(a, settings) for a in ours)
    assert not any(
        people.is_ours(a, settings) for a in ["x@practice.example", "helper@x.example", "a@sub.desk.example"]
    )


def test_a_contact_that_came_back_is_not_written_to_again(house: House) -> None:
    ticket_of(house)
    with house.store.transaction() as session:
        session.get_one(Outgoing, 1).contact.unreachable = True  # type: ignore[union-attr]
    by_form = ticket_of(house, row(sender=ANN))
    with house.store.reading() as session:
        assert session.get_one(Ticket, by_form).outbox == []


def test_a_contact_who_writes_again_by_mail_can_be_written_to_again(house: House) -> None:
    ticket_of(house)
    with house.store.transaction() as session:
        session.get_one(Outgoing, 1).contact.unreachable = True  # type: ignore[union-attr]
    ticket_of(house, mail("vacation", is_automated=True))
    assert contact(house, ANN.email).unreachable
    number = ticket_of(house)
    with house.store.reading() as session:
        assert len(session.get_one(Ticket, number).outbox) == 1


def test_one_sender_gets_no_more_than_the_budget_of_an_hour(house: House, clock: HandClock) -> None:
    numbers = [ticket_of(house) for _ in range(12)]
    assert counted(house, Outgoing) == house.settings.notices_per_sender_hour == 10
    with house.store.reading() as session:
        last = session.get_one(Ticket, numbers[-1])
        assert last.tasks[0].cause == "too many automatic mails to this address within an hour"
        assert last.stage is Stage.IN_PROGRESS
    ticket_of(house, mail(sender=Address("", "other@practice.example")))
    assert counted(house, Outgoing) == 11
    clock.turn(hours=1, seconds=1)
    ticket_of(house)
    assert counted(house, Outgoing) == 12


def test_a_ticket_has_one_notice_whatever_comes_in_later(house: House) -> None:
    number = ticket_of(house, mail(name="first@practice.example"))
    for _ in range(3):
        deliver(house, mail(in_reply_to="<first@practice.example>"))
    assert counted(house, Outgoing, Outgoing.ticket_id == number) == 1


# -- 9: the survey --------------------------------------------------------------------------------------------------


def surveys(house: House) -> list[Outgoing]:
    with house.store.reading() as session:
        return list(session.scalars(select(Outgoing).where(Outgoing.template == Template.SURVEY)))


def completed(house: House, sender: Address = ANN, **more: Any) -> int:
    number = ticket_of(house, mail(sender=sender, **more))
    complete(house, number)
    outbox.send_waiting(house)
    return number


def test_a_customer_gets_one_survey_in_30_times_24_hours(any_house: House, clock: HandClock) -> None:
    house = any_house
    completed(house)
    completed(house, ANN.__class__("Ann", "ANN@practice.example"))  # the same customer
    assert len(surveys(house)) == 1
    completed(house, Address("", "bob@practice.example"))  # another
    assert len(surveys(house)) == 2
    clock.turn(days=30, seconds=-1)
    completed(house)
    assert len(surveys(house)) == 2
    clock.turn(seconds=1)
    completed(house)
    assert len(surveys(house)) == 3


def test_the_30_days_run_from_the_sending_and_not_from_the_promise(
    relayed: House, relay: Relay, clock: HandClock
) -> None:
    number = ticket_of(relayed)
    outbox.send_waiting(relayed)
    relay.answers = ["450 later"]
    reach(relayed, number, *Milestone)
    outbox.send_waiting(relayed)
    clock.turn(hours=20)
    outbox.send_waiting(relayed)  # sent twenty hours after it was promised
    clock.turn(days=30, hours=-1)
    completed(relayed)
    assert len(surveys(relayed)) == 1
    clock.turn(hours=1)
    completed(relayed)
    assert len(surveys(relayed)) == 2


def test_a_survey_nobody_got_does_not_count(relayed: House, relay: Relay) -> None:
    object.__setattr__(relayed, "settings", relayed.settings.model_copy(update={"survey_by": "company"}))
    number = ticket_of(relayed, row(sender=ANN))
    outbox.send_waiting(relayed)
    reach(relayed, number, *Milestone)
    relay.answers = ["550 gone"]
    outbox.send_waiting(relayed)
    assert [s.state for s in surveys(relayed)] == [OutboxState.REFUSED]
    complete(relayed, ticket_of(relayed, row(sender=Address("", "bob@practice.example"))))
    assert len(surveys(relayed)) == 2


def test_by_setting_the_customer_is_the_company(house: House) -> None:
    object.__setattr__(house, "settings", house.settings.model_copy(update={"survey_by": "company"}))
    for sender in (ANN, Address("", "bob@practice.example")):
        complete(house, ticket_of(house, row(sender=sender)))
    assert len(surveys(house)) == 1


def test_two_tickets_of_one_customer_completed_at_once_send_one_survey(any_house: House) -> None:
    house = any_house
    numbers = [ticket_of(house) for _ in range(4)]
    for number in numbers:
        reach(house, number, *list(Milestone)[:3])
    assert together(*(lambda n=n: reach(house, n, Milestone.RECAP_SENT) for n in numbers)) == []
    assert len(surveys(house)) == 1
    assert counted(house, Ticket, Ticket.stage == Stage.COMPLETED) == 4


def test_two_due_claims_of_one_customer_at_once_send_one_survey(postgres_house: House, clock: HandClock) -> None:
    house = postgres_house
    completed(house)
    clock.turn(days=31)
    numbers = [ticket_of(house) for _ in range(4)]
    for number in numbers:
        reach(house, number, *list(Milestone)[:3])
    assert together(*(lambda n=n: reach(house, n, Milestone.RECAP_SENT) for n in numbers)) == []
    assert len(surveys(house)) == 2


@pytest.mark.parametrize("flag", ["unreachable", "unsubscribed"])
@pytest.mark.parametrize("when", ["before completion", "before sending"])
def test_no_survey_goes_to_the_bounced_or_unsubscribed(house: House, flag: str, when: str) -> None:
    number = ticket_of(house)
    outbox.send_waiting(house)

    def flagged() -> None:
        with house.store.transaction() as session:
            setattr(session.get_one(Outgoing, 1).contact, flag, True)

    if when == "before completion":
        flagged()
    complete(house, number)
    flagged()
    outbox.send_waiting(house)
    assert [s.state for s in surveys(house)] in ([], [OutboxState.WITHHELD])
    assert len(in_folder(house)) == 1


def test_the_cap_holds_for_a_reopened_ticket(house: House, clock: HandClock) -> None:
    number = completed(house)
    with house.store.transaction() as session:
        house.desk.reopen(session, session.get_one(Ticket, number), by="Olga", cause="she called", now=clock())
    complete(house, number)
    assert len(surveys(house)) == 1


def test_a_survey_asks_with_a_signed_link_and_a_way_out(house: House) -> None:
    completed(house)
    survey = next(m for m in in_folder(house) if "How did we do" in m["Subject"])
    link = f"{house.settings.public_url}/survey/{house.signer.token(outbox.SURVEY, surveys(house)[0].id)}"
    assert link in survey.get_content()
    assert survey["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
