"""A person's mail to a customer, through a real relay.

Its content, undoing it, and that it is never sent twice.
"""

import hashlib
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from pydantic import SecretStr

from parsers.item import Address
from tests.support.context import (
    ANN,
    HandClock,
    Posts,
    RecordingNotifier,
    count_rows,
    create_staff,
    list_audit_entries,
    make_mail,
    make_phone_call,
    open_ticket,
    reach,
)
from tests.support.outgoing_mail import read, send_through
from tests.support.servers import Relay
from workflow.context import AppContext, open_context
from workflow.customers import records
from workflow.customers.records import CompanyData
from workflow.errors import AcrossCompanies, ActionNotAllowed, SeemsPatientData
from workflow.mail import answer as mail_answer
from workflow.mail import compose, drafts, sender
from workflow.mail.claims import Claim, claim_batch
from workflow.mail.drafts import DraftForm
from workflow.models.core import (
    Message,
    OutgoingMail,
    Staff,
    StoredAttachment,
    Ticket,
    WrittenFile,
    WrittenMail,
)
from workflow.models.states import OutboxState, Status
from workflow.process import Milestone, Stage, Template
from workflow.tickets.actions import Actions, Actor, SendMail

BOB, CC = "bob@practice.example", "cc@elsewhere.example"
KEY = "k" * 24
TEXT = (
    "Hello,\n\nthe claim was filed again – “today”.\n.\nA line of more than seventy-eight"
    " characters, as people write them, and then some more of it.\n"
)


@pytest.fixture
def relay_context(any_context: AppContext, relay: Relay) -> Iterator[AppContext]:
    """A context that sends through the relay."""
    with send_through(any_context, relay.url) as opened:
        with opened.store.transaction() as session:
            create_staff(session, "Olga")
        yield opened


@pytest.fixture
def number(relay_context: AppContext, relay: Relay) -> int:
    """A ticket of Ann's whose notice is sent."""
    ticket = open_ticket(
        relay_context,
        make_mail(name="first@practice.example", subject="Denied claim of Zebulon Quack"),
    )
    sender.send_waiting(relay_context)
    relay.taken.clear()
    return ticket


def fill_form(**more: Any) -> DraftForm:
    fields: dict[str, Any] = {
        "to": [ANN.email],
        "cc": [],
        "subject": "Your claim",
        "text": TEXT,
        "ticks": [],
        **more,
    }
    return DraftForm(**fields)


def get_olga(session: Any) -> Staff:
    return session.query(Staff).filter_by(name="Olga").one()


def write_answer(
    context: AppContext,
    number: int,
    *files: tuple[str, str, bytes],
    key: str = KEY,
    send: bool = True,
    **more: Any,
) -> int:
    """Write a mail, attach files and queue it; return its number."""
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        draft = drafts.save_draft(
            session, ticket, key, fill_form(**more), by=get_olga(session), now=context.clock()
        )
        for file in files:
            drafts.attach_file(session, context.blob_store, draft, *file)
        if send:
            mail_answer.enqueue(
                session, context.desk, ticket, draft, by="Olga", now=context.clock()
            )
        return draft.id


def queue(context: AppContext, number: int, written: int) -> None:
    with context.store.transaction() as session:
        mail, ticket = session.get_one(WrittenMail, written), session.get_one(Ticket, number)
        mail_answer.enqueue(session, context.desk, ticket, mail, by="Olga", now=context.clock())


def send_command(context: AppContext, number: int, command: SendMail) -> None:
    actions = Actions(context.store, context.desk, mail_answer.HANDLERS)
    with context.store.read_only() as session:
        actor = Actor.person(get_olga(session))
    actions.perform(number, command, actor=actor, now=context.clock())


def undo_send(context: AppContext, written: int, by: str = "Olga") -> WrittenMail:
    with context.store.transaction() as session:
        return mail_answer.undo_send(
            session, session.get_one(WrittenMail, written), by=by, now=context.clock()
        )


def list_mails(context: AppContext) -> list[OutgoingMail]:
    with context.store.read_only() as session:
        return (
            session.query(OutgoingMail)
            .filter(OutgoingMail.written_id.is_not(None))
            .order_by(OutgoingMail.id)
            .all()
        )


def send_all(context: AppContext, clock: HandClock, seconds: float = 10) -> None:
    clock.turn(seconds=seconds)
    while sender.send_waiting(context):  # a busy machine ends a worker's turn before all is sent
        pass


def get_received_mail(relay: Relay, nth: int = 0) -> Any:
    return read(bytes(relay.taken[nth].content or b""))


def get_text(message: Any) -> str:
    return str(message.get_body().get_content()).replace("\r\n", "\n")


def test_what_arrives_is_what_was_written(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    write_answer(relay_context, number)
    send_all(relay_context, clock)
    (taken_mail,), message = relay.taken, get_received_mail(relay)
    settings, signer = relay_context.settings, relay_context.signer
    (row,) = list_mails(relay_context)
    assert taken_mail.rcpt_tos == [ANN.email]
    assert taken_mail.mail_from == compose.make_return_path(row.id, settings, signer)
    assert (message["From"], message["To"]) == ("Billing Support <support@localhost>", ANN.email)
    assert message["Subject"] == "Your claim"
    assert message["Reply-To"] == compose.make_reply_address(number, settings, signer)
    assert message["Message-ID"] == compose.make_message_id(row.id, settings, signer)
    assert message["In-Reply-To"] == message["References"] == "<first@practice.example>"
    assert message["Date"]
    assert "Auto-Submitted" not in message
    assert "Cc" not in message
    assert get_text(message) == TEXT
    assert max(map(len, bytes(taken_mail.content or b"").split(b"\r\n"))) <= 900
    body = bytes(taken_mail.content or b"").partition(b"\r\n\r\n")[2]
    assert max(map(len, body.split(b"\r\n"))) <= 78


def test_files_arrive_intact_and_stay_on_the_timeline(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    large = bytes(range(256)) * 4000
    files = (
        ("scan – größe.pdf", "application/pdf", large),
        ("note.txt", "text/plain", b"a\nb\xff\r\n"),
        ("old.eml", "message/rfc822", b"From: a\n\nb"),
    )
    write_answer(relay_context, number, *files)
    send_all(relay_context, clock)
    parts = list(get_received_mail(relay).iter_attachments())
    assert [(p.get_filename(), p.get_payload(decode=True)) for p in parts] == [
        (n, c) for n, _, c in files
    ]
    assert [p.get_content_type() for p in parts] == [
        "application/pdf",
        "text/plain",
        "application/octet-stream",
    ]
    assert get_text(get_received_mail(relay)) == TEXT
    raw = bytes(relay.taken[0].content or b"").partition(b"\r\n\r\n")[2]
    assert max(map(len, raw.split(b"\r\n"))) <= 120
    assert (
        message_from_bytes(bytes(relay.taken[0].content or b""), policy=policy.default).defects
        == []
    )
    with relay_context.store.read_only() as session:
        message = session.get_one(Ticket, number).messages[-1]
        assert (message.direction, message.subject, message.text, message.from_name) == (
            "out",
            "Your claim",
            TEXT,
            "Olga",
        )
        attached = [
            (a.name, relay_context.blob_store.read(a.content, a.blob)) for a in message.attachments
        ]
    assert attached == [(n, c) for n, _, c in files]


def test_each_gets_it_once_and_all_see_who_gets_it(
    relay_context: AppContext, relay: Relay, clock: HandClock
) -> None:
    number = open_ticket(relay_context, make_phone_call(Address("Bob", BOB)))
    sender.send_waiting(relay_context)
    relay.taken.clear()
    write_answer(relay_context, number, to=[ANN.email, BOB], cc=[CC, BOB])
    send_all(relay_context, clock)
    assert [t.rcpt_tos for t in relay.taken] == [[ANN.email], [BOB], [CC]]
    assert len({get_received_mail(relay, n)["Message-ID"] for n in range(3)}) == 1
    assert {get_received_mail(relay, n)["To"] for n in range(3)} == {f"{ANN.email}, {BOB}"}
    assert {get_received_mail(relay, n)["Cc"] for n in range(3)} == {f"{CC}, {BOB}"}
    assert len({t.mail_from for t in relay.taken}) == 3
    assert (
        count_rows(
            relay_context, Message, Message.ticket_id == number, Message.subject == "Your claim"
        )
        == 1
    )
    send_all(relay_context, clock, 600)
    assert len(relay.taken) == 3


def test_one_who_cannot_be_reached_holds_up_nobody_else(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    relay.at, relay.answers = "RCPT", ["550 5.1.1 unknown"]
    write_answer(relay_context, number, cc=[CC], ticks=[Milestone.FOLLOW_UP_SENT.name])
    send_all(relay_context, clock)
    assert [m.state for m in list_mails(relay_context)] == [OutboxState.REFUSED, OutboxState.SENT]
    with relay_context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.stage is Stage.IN_PROGRESS  # a copy is no follow up
        assert [t.text for t in ticket.tasks] == ["tell the customer by other means"]


def test_a_crash_between_relay_and_commit_sends_the_same_message_again(
    relay_context: AppContext,
    relay: Relay,
    number: int,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mail_id = write_answer(relay_context, number, ("a.pdf", "application/pdf", b"%PDF-"), cc=[CC])
    clock.turn(seconds=10)
    with monkeypatch.context() as patch:
        patch.setattr(sender, "record_sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sender.send_waiting(relay_context)
    for journal in (relay_context.settings.home / "outbox-journal").iterdir():
        journal.unlink()  # as when the machine loses its power
    with pytest.raises(ActionNotAllowed, match="too late"):
        undo_send(relay_context, mail_id)
    send_all(relay_context, clock, 150)
    assert sorted(t.rcpt_tos[0] for t in relay.taken) == sorted([ANN.email, CC] * 2)
    assert len({get_received_mail(relay, n)["Message-ID"] for n in range(4)}) == 1
    assert count_rows(relay_context, StoredAttachment) == 1


def test_within_ten_seconds_it_can_be_undone(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    mail_id = write_answer(relay_context, number, ("a.pdf", "application/pdf", b"%PDF-"), cc=[CC])
    send_all(relay_context, clock, 9)
    assert relay.taken == []
    draft = undo_send(relay_context, mail_id)
    send_all(relay_context, clock, 60)
    assert relay.taken == []
    assert {(m.state, m.reason) for m in list_mails(relay_context)} == {
        (OutboxState.WITHHELD, "undone by Olga")
    }
    with relay_context.store.read_only() as session:
        latest_draft = drafts.find_latest_draft(session, number, get_olga(session))
        assert latest_draft is not None
        assert latest_draft.id == draft.id
        assert (latest_draft.subject, latest_draft.text, latest_draft.to, latest_draft.cc) == (
            "Your claim",
            TEXT,
            [ANN.email],
            [CC],
        )
        assert [f.name for f in latest_draft.files] == ["a.pdf"]
    with pytest.raises(ActionNotAllowed, match="already"):
        undo_send(relay_context, mail_id)
    assert list_audit_entries(relay_context, number, "answer taken back")[0].detail == {
        "written": mail_id,
        "mails": 2,
    }


def test_undone_it_can_be_sent_again(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    draft = undo_send(relay_context, write_answer(relay_context, number))
    write_answer(relay_context, number, key=draft.key, text="better words\n")
    send_all(relay_context, clock)
    assert [get_text(get_received_mail(relay))] == ["better words\n"]
    assert len(relay.taken) == 1


def test_too_late_is_said_and_changes_nothing(
    relay_context: AppContext, number: int, clock: HandClock
) -> None:
    written = write_answer(relay_context, number)
    send_all(relay_context, clock)
    with pytest.raises(ActionNotAllowed, match="too late: the mail is on its way"):
        undo_send(relay_context, written)
    assert [m.state for m in list_mails(relay_context)] == [OutboxState.SENT]
    assert count_rows(relay_context, WrittenMail, WrittenMail.queued_at.is_(None)) == 0


def test_patient_data_is_sent_only_after_its_writer_has_confirmed_this_very_mail(
    relay_context: AppContext, number: int
) -> None:
    mail_id = write_answer(relay_context, number, send=False, text="DOB 04/12/1961")
    with pytest.raises(SeemsPatientData) as refusal:
        send_command(relay_context, number, SendMail(mail_id))
    assert str(refusal.value).startswith("the text seems to hold a date of birth: leave it out")
    assert "1961" not in f"{refusal.value} {refusal.value!r} {refusal.value.warnings}"
    with relay_context.store.read_only() as session:
        earlier = mail_answer.compute_content_digest(session.get_one(WrittenMail, mail_id))
    write_answer(relay_context, number, send=False, text="DOB 04/12/1962")
    with pytest.raises(SeemsPatientData):
        send_command(relay_context, number, SendMail(mail_id, confirmed_content=earlier))
    assert list_mails(relay_context) == []
    with relay_context.store.read_only() as session:
        now = mail_answer.compute_content_digest(session.get_one(WrittenMail, mail_id))
    send_command(relay_context, number, SendMail(mail_id, confirmed_content=now))
    assert len(list_mails(relay_context)) == 1
    assert list_audit_entries(relay_context, number, "answer promised")[0].detail["warned"] == [
        "BIRTH"
    ]


def test_two_companies_get_it_only_after_its_writer_has_confirmed_these_addresses(
    relay_context: AppContext, number: int
) -> None:
    with relay_context.store.transaction() as session:
        for name, domain in (("Practice", "practice.example"), ("Elsewhere", "elsewhere.example")):
            company = CompanyData(name=name, domains=[domain])
            records.save_company(session, None, company, by="Olga", now=relay_context.clock())
    mail_id = write_answer(relay_context, number, send=False, cc=[CC])
    for digest in ("", "0" * 32):
        with pytest.raises(AcrossCompanies, match="Elsewhere"):
            send_command(relay_context, number, SendMail(mail_id, confirmed_recipients=digest))
    assert list_mails(relay_context) == []
    with relay_context.store.read_only() as session:
        digest = mail_answer.compute_recipients_digest(session.get_one(WrittenMail, mail_id))
    send_command(relay_context, number, SendMail(mail_id, confirmed_recipients=digest))
    assert len(list_mails(relay_context)) == 2


def test_nobody_else_takes_it_back(relay_context: AppContext, number: int) -> None:
    written = write_answer(relay_context, number)
    with pytest.raises(ActionNotAllowed, match="only who sent it"):
        undo_send(relay_context, written, by="Rita")


def test_pressed_twice_it_is_sent_once(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    write_answer(relay_context, number)
    with pytest.raises(ActionNotAllowed, match="sent already"):
        write_answer(relay_context, number)
    send_all(relay_context, clock)
    assert len(relay.taken) == 1


@pytest.mark.parametrize("box", [Milestone.FOLLOW_UP_SENT, Milestone.RECAP_SENT])
def test_it_ticks_its_box_once_it_is_sent(
    relay_context: AppContext, number: int, clock: HandClock, box: Milestone
) -> None:
    write_answer(relay_context, number, ticks=[box.name, "RESOLVED", "NONSENSE"])
    assert list_mails(relay_context)[0].template is (
        Template.RECAP if box is Milestone.RECAP_SENT else Template.ANSWER
    )
    assert box not in get_boxes(relay_context, number)
    send_all(relay_context, clock)
    assert get_boxes(relay_context, number) == {Milestone.CUSTOMER_NOTIFIED: "rule", box: "Olga"}


def get_boxes(context: AppContext, number: int) -> dict[Milestone, str]:
    with context.store.read_only() as session:
        return {r.milestone: r.by for r in session.get_one(Ticket, number).milestones}


def test_a_mail_by_hand_spends_nothing_of_the_budget_for_automatic_ones(
    relay_context: AppContext, number: int, clock: HandClock
) -> None:
    for n in range(12):
        write_answer(relay_context, number, key=f"{KEY}{n}")
    send_all(relay_context, clock)
    other = open_ticket(relay_context, make_mail())
    with relay_context.store.read_only() as session:
        assert [m.template for m in session.get_one(Ticket, other).outbox] == [Template.NOTICE]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"to": []}, "choose who gets it"),
        ({"cc": ["a b@x.example"]}, "this is no mail address: a b@x.example"),
        ({"cc": ["x@y.example\r\nBcc: z@y.example"]}, "this is no mail address"),
        ({"to": ["support@localhost"]}, "the desk's own address"),
        ({"cc": [f"c{n}@x.example" for n in range(20)]}, "more than 20 addresses"),
        ({"cc": ["ü@x.example"]}, "ü@x.example needs a mail of its own"),
        ({"subject": " \r\n"}, "the subject is empty"),
        ({"text": "\n \t"}, "the text is empty"),
        ({"text": "x" * 100_001}, "longer than 100,000 characters"),
    ],
)
def test_what_cannot_be_sent_is_said_and_kept(
    relay_context: AppContext, number: int, fields: dict[str, Any], fault: str
) -> None:
    written = write_answer(relay_context, number, send=False, **fields)
    with pytest.raises(ActionNotAllowed, match=fault):
        queue(relay_context, number, written)
    assert list_mails(relay_context) == []
    assert count_rows(relay_context, WrittenMail, WrittenMail.queued_at.is_(None)) == 1


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN, Status.MERGED])
def test_a_ticket_that_has_ended_is_not_answered(
    relay_context: AppContext, number: int, status: Status
) -> None:
    with relay_context.store.transaction() as session:
        session.get_one(Ticket, number).status = status
    with pytest.raises(ActionNotAllowed, match=r"reopen it first|go on there"):
        write_answer(relay_context, number)


def test_a_subject_stays_one_line(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    write_answer(
        relay_context,
        number,
        subject="Your claim\r\nBcc: evil@x.example\x00\u2028 – größe " + "x" * 400,
    )
    send_all(relay_context, clock)
    message = get_received_mail(relay)
    assert message["Subject"].startswith("Your claim Bcc: evil@x.example – größe")
    assert "Bcc" not in message
    assert relay.taken[0].rcpt_tos == [ANN.email]


def test_files_have_a_bound_and_the_same_one_is_kept_once(
    relay_context: AppContext, number: int
) -> None:
    write_answer(
        relay_context, number, ("a.bin", "x", b"1" * 9), ("a.bin", "x", b"1" * 9), send=False
    )
    assert count_rows(relay_context, WrittenFile) == 1
    for name, content, fault in (
        ("b.bin", b"2" * drafts.MAX_BYTES, "20 MB"),
        ("c.bin", b"", "c.bin is empty"),
    ):
        with pytest.raises(ActionNotAllowed, match=fault):
            write_answer(relay_context, number, (name, "x", content), send=False)
    with relay_context.store.transaction() as session:
        file = session.query(WrittenFile).one()
        assert file.sha256 == hashlib.sha256(b"1" * 9).hexdigest()
        drafts.remove_file(session, session.get_one(WrittenMail, file.written_id), file.id)
    assert count_rows(relay_context, WrittenFile) == 0


def test_a_draft_is_ones_own_and_stays_with_its_ticket(
    relay_context: AppContext, number: int
) -> None:
    write_answer(relay_context, number, send=False)
    other = open_ticket(relay_context, make_mail())
    with pytest.raises(ActionNotAllowed, match="of another ticket"):
        write_answer(relay_context, other, send=False)
    with pytest.raises(ActionNotAllowed, match="incomplete"):
        write_answer(relay_context, number, key="short", send=False)


def test_what_is_typed_after_sending_changes_nothing_that_is_sent(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    write_answer(relay_context, number)
    write_answer(relay_context, number, text="later words", send=False)
    send_all(relay_context, clock)
    assert get_text(get_received_mail(relay)) == TEXT


def test_an_answer_to_it_comes_back_to_the_ticket(
    relay_context: AppContext, relay: Relay, number: int, clock: HandClock
) -> None:
    write_answer(relay_context, number, cc=[CC])
    send_all(relay_context, clock)
    answer = make_mail("thanks", in_reply_to=get_received_mail(relay, 1)["Message-ID"])
    assert open_ticket(relay_context, answer) == number


def test_neither_log_nor_queue_nor_audit_has_its_words(
    relay_context: AppContext, number: int, clock: HandClock, capfd: pytest.CaptureFixture[str]
) -> None:
    notified_queues = RecordingNotifier()
    settings = relay_context.settings.model_copy(
        update={"relay_url": SecretStr("smtp://127.0.0.1:9")}
    )
    context = open_context(settings, notifier=notified_queues, clock=clock)
    write_answer(
        context,
        number,
        ("Quack.pdf", "application/pdf", b"Quack"),
        text="Zebulon Quack",
        subject="Quack",
    )
    send_all(context, clock)
    context.close()
    logged_details = " ".join(
        f"{a.cause} {a.detail}"
        for a in list_audit_entries(relay_context, number, "answer promised")
    )
    logged = capfd.readouterr()
    assert "Quack" not in logged_details + " ".join(notified_queues) + logged.out + logged.err


def test_a_box_ticked_meanwhile_is_no_trouble(
    relay_context: AppContext, number: int, clock: HandClock
) -> None:
    write_answer(relay_context, number, ticks=[Milestone.FOLLOW_UP_SENT.name])
    reach(relay_context, number, Milestone.FOLLOW_UP_SENT, by="Rita")
    send_all(relay_context, clock)
    assert get_boxes(relay_context, number)[Milestone.FOLLOW_UP_SENT] == "Rita"
    assert list_mails(relay_context)[0].state is OutboxState.SENT


def test_a_claimed_mail_is_too_late_even_before_the_relay_hears_of_it(
    relay_context: AppContext, number: int, clock: HandClock
) -> None:
    mail_id = write_answer(relay_context, number)
    clock.turn(seconds=10)
    (claim,) = claim_batch(relay_context)
    with pytest.raises(ActionNotAllowed, match="too late"):
        undo_send(relay_context, mail_id)
    posts = Posts()
    sender.send(relay_context, posts, [Claim(*claim)])
    assert len(posts.taken) == 1


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a@x.example, b@x.example", ["a@x.example", "b@x.example"]),
        ("Doe, Ann <ann@x.example>; Bob <bob@x.example>", ["ann@x.example", "bob@x.example"]),
        ("A@X.example\na@x.example", ["a@x.example"]),
        ("nobody", ["nobody"]),
        (" ; ,", [","]),
        ("", []),
    ],
)
def test_addresses_are_read_as_people_write_them(line: str, found: list[str]) -> None:
    assert mail_answer.parse_addresses(line) == found
