"""Threading: the ticket that an item joins, and items that never open one (reading 13)."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Attachment, Format, InboundItem
from tests.support.context import (
    ANN,
    START,
    HandClock,
    count_rows,
    create_company,
    create_staff,
    deliver,
    get_contact,
    list_audit_entries,
    make_mail,
    make_phone_call,
    make_row,
    open_ticket,
    run_in_threads,
)
from workflow.context import AppContext
from workflow.filing import threading
from workflow.filing.file_item import (
    NAMESAKE_CAVEAT,
    REUSED_ID_CAVEAT,
    REUSED_THREAD_CAVEAT,
)
from workflow.mail import compose
from workflow.mail import sender as mail_sender
from workflow.models.core import (
    Company,
    CompanyDomain,
    Filing,
    Message,
    OutgoingMail,
    StoredAttachment,
    Ticket,
    TicketRelation,
)
from workflow.models.states import OutboxState, Outcome, Status

STRANGER = Address("Mallory", "mallory@elsewhere.example")


def get_token_address(context: AppContext, number: int) -> str:
    return compose.make_reply_address(number, context.settings, context.signer)


def send_notice(context: AppContext, number: int) -> OutgoingMail:
    """The notice of a ticket, sent."""
    mail_sender.send_waiting(context)
    with context.store.read_only() as session:
        return session.get_one(Ticket, number).outbox[0]


def get_first_message(context: AppContext, number: int) -> str:
    with context.store.read_only() as session:
        return f"<{session.get_one(Ticket, number).messages[0].message_id}>"


def make_answer(context: AppContext, number: int, way: str) -> tuple[InboundItem, dict[str, Any]]:
    """Return an answer to a ticket, with its envelope, that can be matched in one way only."""
    fields: dict[str, Any] = {
        "envelope": {},
        "To header": {"to": (Address("", get_token_address(context, number)),)},
        "Cc header": {"cc": (Address("", get_token_address(context, number).upper()),)},
        "In-Reply-To of ours": {"in_reply_to": send_notice(context, number).message_id},
        "References of ours": {
            "references": ("<x@y.example>", send_notice(context, number).message_id)
        },
        "In-Reply-To of theirs": {"in_reply_to": get_first_message(context, number)},
        "References of theirs": {
            "references": (get_first_message(context, number), "<lost@y.example>")
        },
    }[way]
    recipients = [get_token_address(context, number)]
    return make_mail(**fields), {"rcpt_to": recipients} if way == "envelope" else {}


WAYS = [
    "envelope",
    "To header",
    "Cc header",
    "In-Reply-To of ours",
    "References of ours",
    "In-Reply-To of theirs",
    "References of theirs",
]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_of_the_contact_joins_its_ticket(context: AppContext, way: str) -> None:
    number = open_ticket(context)
    filing = deliver(context, *make_answer(context, number, way))
    assert (filing.outcome, filing.ticket_id) == (Outcome.APPENDED, number)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_answer_of_a_stranger_opens_a_ticket_possibly_about_it(
    context: AppContext, way: str
) -> None:
    number = open_ticket(context)
    item, envelope = make_answer(context, number, way)
    stranger = make_mail(
        sender=STRANGER,
        to=item.to,
        cc=item.cc,
        in_reply_to=item.in_reply_to,
        references=item.references,
    )
    filing = deliver(context, stranger, envelope)
    assert filing.outcome is Outcome.OPENED
    assert filing.ticket_id != number
    with context.store.read_only() as session:
        assert (
            session.get_one(TicketRelation, (filing.ticket_id, number)).reason
            == f"possibly about #{number}"
        )
        assert len(session.get_one(Ticket, number).messages) == 2  # the customer's and our notice


def test_colleagues_of_the_same_practice_and_staff_belong(context: AppContext) -> None:
    with context.store.transaction() as session:
        practice = create_company(session, "Practice")
        session.add(CompanyDomain(domain="practice.example", company_id=practice.id))
        create_staff(session, "Olga")
    number = open_ticket(context)
    for sender in (Address("", "other@practice.example"), Address("", "Olga@Desk.Example")):
        filing = deliver(
            context, make_mail(sender=sender, in_reply_to=get_first_message(context, number))
        )
        assert (filing.outcome, filing.ticket_id) == (Outcome.APPENDED, number)


def test_a_practice_named_in_a_form_does_not_make_its_sender_belong(context: AppContext) -> None:
    with context.store.transaction() as session:
        practice = create_company(session, "Practice")
        session.add(CompanyDomain(domain="practice.example", company_id=practice.id))
    number = open_ticket(context)
    deliver(context, make_row(sender=STRANGER, company="Practice"))  # a claim anyone can make
    filing = deliver(
        context, make_mail(sender=STRANGER, in_reply_to=get_first_message(context, number))
    )
    assert filing.outcome is Outcome.OPENED


def test_two_practices_of_one_name_stay_apart_by_their_numbers(context: AppContext) -> None:
    numbers = [
        open_ticket(context, make_row(company="Sunrise", company_number=n)) for n in ("1", "2", "1")
    ]
    with context.store.read_only() as session:
        one, two, again = (session.get_one(Ticket, n).company_id for n in numbers)
    assert one == again != two


@pytest.mark.parametrize(
    ("on_record", "given"), [("00471", "471"), ("471", "00471"), ("0471", "00471")]
)
@pytest.mark.parametrize("name", ["Quarry Lane", "Other Name", ""])
def test_a_number_is_found_whatever_became_of_its_zeros(
    any_context: AppContext, on_record: str, given: str, name: str
) -> None:
    with any_context.store.transaction() as session:
        session.add(
            Company(name="Quarry Lane", key="quarry lane", number=on_record, created_at=START)
        )
    number = open_ticket(any_context, make_row(company=name, company_number=given))
    with any_context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.company is not None
        assert ticket.company.number == on_record
        assert NAMESAKE_CAVEAT not in ticket.caveats
    assert count_rows(any_context, Company) == 1


def test_a_number_that_may_be_two_s_is_the_exact_one_or_nobody_s(context: AppContext) -> None:
    with context.store.transaction() as session:
        for number in ("471", "0471"):
            session.add(Company(name=number, key=number, number=number, created_at=START))
    tickets = [
        open_ticket(context, make_row(f"text {n}", company="", company_number=n))
        for n in ("471", "00471")
    ]
    with context.store.read_only() as session:
        companies = [session.get_one(Ticket, n).company for n in tickets]
        assert [company and company.number for company in companies] == ["471", None]


def test_a_second_practice_of_a_name_comes_with_a_caveat(context: AppContext) -> None:
    tickets = [
        open_ticket(context, make_row(company="Sunrise", company_number=n)) for n in ("A1", "A2")
    ]
    with context.store.read_only() as session:
        caveats = [session.get_one(Ticket, n).caveats for n in tickets]
    assert [NAMESAKE_CAVEAT in one for one in caveats] == [False, True]


def test_a_caller_whom_staff_put_down_for_a_practice_belongs_to_it(context: AppContext) -> None:
    open_ticket(
        context,
        InboundItem(
            format=Format.PHONE, external_id="c1", sender=STRANGER, company="Practice", text="x"
        ),
    )
    number = open_ticket(context, make_mail(sender=STRANGER))
    with context.store.read_only() as session:
        assert session.get_one(Ticket, number).name == "Support – Practice"


@pytest.mark.parametrize(
    "subject", ["Re: [#{n}]", "Re: Your Billing Support Ticket #{n} has been created", "#{n}"]
)
def test_a_subject_tag_alone_never_attaches_anything(context: AppContext, subject: str) -> None:
    number = open_ticket(context)
    filing = deliver(context, make_mail(subject=subject.format(n=number)))
    assert filing.outcome is Outcome.OPENED
    assert filing.ticket_id != number
    with context.store.read_only() as session:
        relation = session.scalars(select(TicketRelation)).one()
    assert (relation.other_id, relation.reason) == (number, f"possibly about #{number}")
    stranger = deliver(context, make_mail(subject=subject.format(n=number), sender=STRANGER))
    assert stranger.outcome is Outcome.OPENED
    assert count_rows(context, TicketRelation) == 1


def test_a_forged_token_never_attaches_anything(context: AppContext) -> None:
    number, other = open_ticket(context), open_ticket(context)
    good = get_token_address(context, number)
    digits = good.rpartition("-")[2].partition("@")[0]
    forged_addresses = [
        good.replace(digits, "0" * 32),
        good.replace(digits, digits[::-1]),
        good.replace(
            f"+t-{number}-", f"+t-{other}-"
        ),  # another ticket's number with this one's signature
        good.replace(f"+t-{number}-", f"+t-{9**20}-"),
        compose.make_return_path(number, context.settings, context.signer).replace(
            "+bounce-", "+t-"
        ),  # another purpose
    ]
    for address in forged_addresses:
        filing = deliver(context, make_mail(), {"rcpt_to": [address]})
        assert filing.outcome is Outcome.OPENED, address
    ours = send_notice(context, number).message_id
    filing = deliver(
        context, make_mail(in_reply_to=ours.replace(f"outbox-{number}-", f"outbox-{other}-"))
    )
    assert filing.outcome is Outcome.OPENED
    assert count_rows(context, TicketRelation) == 0


def test_a_token_of_an_earlier_key_still_opens_its_ticket(context: AppContext) -> None:
    from cryptography.fernet import Fernet  # noqa: PLC0415

    from workflow.runtime import crypto  # noqa: PLC0415

    number = open_ticket(context)
    address = get_token_address(context, number)
    rotated = crypto.Signer([Fernet.generate_key(), *crypto.load_keys(context.settings)])
    assert rotated.verify_token("t", address.partition("+t-")[2].partition("@")[0]) == number
    assert compose.make_reply_address(number, context.settings, rotated) != address


def test_our_token_counts_more_than_a_reference(context: AppContext) -> None:
    one, two = open_ticket(context), open_ticket(context)
    filing = deliver(
        context,
        make_mail(in_reply_to=get_first_message(context, one)),
        {"rcpt_to": [get_token_address(context, two)]},
    )
    assert filing.ticket_id == two


# -- the same thing twice ----


def test_the_same_mail_by_two_transports_with_other_trace_headers_is_one_ticket(
    any_context: AppContext,
) -> None:
    context = any_context
    item = make_mail()
    first = deliver(context, item, {"mail_from": ANN.email}, transport="smtp")
    second = deliver(context, item, {}, transport="imap")  # other bytes, the same item
    assert (first.outcome, second.outcome) == (Outcome.OPENED, Outcome.DUPLICATE)
    assert (second.ticket_id, second.message_id) == (first.ticket_id, first.message_id)
    assert (
        count_rows(context, Ticket)
        == count_rows(context, Message)
        == count_rows(context, OutgoingMail)
        == 1
    )


def test_the_same_mail_without_message_id_is_one_ticket_too(context: AppContext) -> None:
    def nameless() -> InboundItem:
        return InboundItem(format=Format.MAIL, external_id="", sender=ANN, text="x", sent_at=START)

    assert deliver(context, nameless()).outcome is Outcome.OPENED
    assert deliver(context, nameless()).outcome is Outcome.DUPLICATE


def test_a_duplicate_of_a_late_reply_or_of_an_answer_is_a_duplicate_too(
    context: AppContext,
) -> None:
    number = open_ticket(context)
    for item in (
        make_mail(in_reply_to=get_first_message(context, number)),
        make_mail(sender=STRANGER),
    ):
        deliver(context, item)
        assert deliver(context, item).outcome is Outcome.DUPLICATE


def test_a_duplicate_does_not_reopen_a_completed_ticket(context: AppContext) -> None:
    from tests.support.context import complete  # noqa: PLC0415

    item = make_mail()
    number = open_ticket(context, item)
    complete(context, number)
    assert deliver(context, item).outcome is Outcome.DUPLICATE
    with context.store.read_only() as session:
        assert session.get_one(Ticket, number).status is Status.COMPLETED
    assert list_audit_entries(context, number, "appended") == []


def test_a_reused_message_id_with_other_content_is_kept_as_a_flagged_second_message(
    context: AppContext,
) -> None:
    number = open_ticket(context, make_mail("first", name="same@practice.example"))
    filing = deliver(context, make_mail("second", name="same@practice.example"))
    assert (filing.outcome, filing.ticket_id) == (Outcome.APPENDED, number)
    with context.store.read_only() as session:
        first, second = session.get_one(Ticket, number).messages
        assert first.caveats == []
        assert second.caveats == ["an earlier message carries the same id with other content"]
        assert second.text == "second"


@pytest.mark.parametrize("has_dates", [True, False])
@pytest.mark.parametrize("words", ["Scan from device.", ""])
def test_a_device_with_one_message_id_for_all_its_mails_opens_a_ticket_for_each(
    any_context: AppContext, words: str, *, has_dates: bool
) -> None:
    """Each is possibly about the first, and none reopens it or stands on it."""
    scans = [
        replace(
            make_mail(words, name="scan@practice.example"),
            sent_at=START + timedelta(minutes=number) if has_dates else None,
            attachments=(
                Attachment(f"scan{number}.pdf", "application/pdf", b"%PDF" + b"x" * number),
            ),
        )
        for number in range(3)
    ]
    tickets = [deliver(any_context, scan).ticket_id for scan in scans]
    assert len(set(tickets)) == len(scans)
    with any_context.store.read_only() as session:
        first, *others = [session.get_one(Ticket, number) for number in tickets]
        assert first.caveats.count(REUSED_ID_CAVEAT) == 0
        assert all(REUSED_ID_CAVEAT in other.caveats for other in others)
        assert all(len(ticket.messages) == 1 for ticket in (first, *others))
    assert [deliver(any_context, scan).outcome for scan in scans] == [Outcome.DUPLICATE] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "Please call.\n\n-- \nA list"},  # the same date: another way
        {"sent_at": START + timedelta(hours=2)},  # the same words: sent again
        {"text": "Please call.\n\n-- \nA list", "sent_at": None},
        {"attachments": ()},  # a gateway has taken the file off
    ],
)
def test_a_copy_of_a_mail_stands_on_its_ticket(
    any_context: AppContext, changes: dict[str, Any]
) -> None:
    file = Attachment("eob.pdf", "application/pdf", b"%PDF")
    mail = replace(
        make_mail("Please call.", name="copy@practice.example"), sent_at=START, attachments=(file,)
    )
    number = open_ticket(any_context, mail)
    assert deliver(any_context, replace(mail, **changes)).ticket_id == number


def test_a_reused_message_id_of_another_sender_is_a_ticket_of_its_own_and_flagged(
    context: AppContext,
) -> None:
    number = open_ticket(context, make_mail(name="same@practice.example"))
    filing = deliver(context, make_mail(name="same@practice.example", sender=STRANGER))
    assert filing.outcome is Outcome.OPENED
    assert filing.ticket_id != number
    with context.store.read_only() as session:
        assert session.get_one(Message, filing.message_id).caveats


def test_an_attachment_more_makes_it_another_message(context: AppContext) -> None:
    open_ticket(context, make_mail(name="same@practice.example"))
    item = make_mail(
        name="same@practice.example", attachments=(Attachment("a.txt", "text/plain", b"new"),)
    )
    assert deliver(context, item).outcome is Outcome.APPENDED


def test_the_same_mail_filed_by_two_workers_at_once_is_one_ticket(
    postgres_context: AppContext,
) -> None:
    context = postgres_context
    item, outcomes = make_mail(), list[Outcome]()

    def work() -> None:
        outcomes.append(deliver(context, item).outcome)

    assert run_in_threads(*[work] * 4) == []
    assert sorted(outcomes) == ["duplicate"] * 3 + ["opened"]
    assert (
        count_rows(context, Ticket)
        == count_rows(context, Message)
        == count_rows(context, OutgoingMail)
        == 1
    )


def test_one_id_with_two_contents_filed_at_once_is_one_ticket_with_two_messages(
    postgres_context: AppContext,
) -> None:
    context = postgres_context
    items = [make_mail(text, name="same@practice.example") for text in ("one", "two", "three")]
    assert run_in_threads(*(lambda i=i: deliver(context, i) for i in items)) == []
    assert (count_rows(context, Ticket), count_rows(context, Message)) == (1, 3)


def test_a_form_sent_twice_is_one_ticket(context: AppContext) -> None:
    form = InboundItem(
        format=Format.FORMSTACK,
        external_id="6606394:77",
        submission_id="77",
        sender=ANN,
        company="Sunrise",
        text="x",
    )
    number = open_ticket(context, form)
    assert deliver(context, form).outcome is Outcome.DUPLICATE
    with context.store.read_only() as session:
        assert (
            session.get_one(Ticket, number).link
            == "https://www.formstack.com/admin/submission/view/77"
        )


def test_two_forms_of_one_sender_are_two_tickets(context: AppContext) -> None:
    forms = [
        InboundItem(format=Format.FORMSTACK, external_id=f"6606394:{n}", sender=ANN, text="x")
        for n in (1, 2)
    ]
    assert [deliver(context, f).outcome for f in forms] == [Outcome.OPENED] * 2


def test_what_has_neither_id_nor_date_is_never_taken_for_something_else(
    context: AppContext,
) -> None:
    forms = [
        InboundItem(format=Format.FORMSTACK, external_id="", sender=ANN, text="x") for _ in range(2)
    ]
    assert [deliver(context, f).outcome for f in forms] == [Outcome.OPENED] * 2


# -- 13: secure messages ----


def test_each_row_is_a_ticket_unless_its_thread_belongs_to_an_open_one(context: AppContext) -> None:
    first = open_ticket(context, make_row(thread_id="T1"))
    assert open_ticket(context, make_row(thread_id="T2")) != first
    assert open_ticket(context, make_row()) != first
    again = deliver(context, make_row(thread_id="T1"))
    assert (again.outcome, again.ticket_id) == (Outcome.APPENDED, first)
    with context.store.transaction() as session:
        context.desk.close(
            session,
            session.get_one(Ticket, first),
            Status.WITHDRAWN,
            by="O",
            reason="r",
            now=context.clock(),
        )
    assert deliver(context, make_row(thread_id="T1")).outcome is Outcome.OPENED


def test_a_thread_id_of_another_practice_is_another_thread(context: AppContext) -> None:
    first = open_ticket(context, make_row(thread_id="T1", company="One Practice"))
    other = open_ticket(context, make_row(thread_id="T1", company="Other Practice"))
    assert other != first
    with context.store.read_only() as session:
        caveats = [session.get_one(Ticket, number).caveats for number in (first, other)]
    assert [REUSED_THREAD_CAVEAT in one for one in caveats] == [False, True]


def test_a_thread_goes_by_the_practice_number_before_its_name(context: AppContext) -> None:
    first = open_ticket(
        context, make_row(thread_id="T1", company="One Practice", company_number="42")
    )
    assert (
        open_ticket(
            context, make_row("by number alone", thread_id="T1", company="", company_number="42")
        )
        == first
    )
    assert (
        open_ticket(
            context,
            make_row("renamed", thread_id="T1", company="One Practice LLC", company_number="42"),
        )
        == first
    )
    assert (
        open_ticket(
            context,
            make_row("namesake", thread_id="T1", company="One Practice", company_number="43"),
        )
        != first
    )


def test_a_row_that_names_no_practice_is_its_senders(context: AppContext) -> None:
    with context.store.transaction() as session:
        made = create_company(session, "One Practice")
        session.add(CompanyDomain(domain="one.example", company=made))
    first = open_ticket(context, make_row(thread_id="T1", company="One Practice"))
    nobody = {"company": "", "thread_id": "T1"}
    assert (
        open_ticket(context, make_row("a", sender=Address("Pat", "pat@one.example"), **nobody))
        == first
    )
    assert (
        open_ticket(context, make_row("b", sender=Address("Pat", "pat@two.example"), **nobody))
        != first
    )


def test_a_secure_message_without_address_gets_a_task_instead_of_a_notice(
    context: AppContext,
) -> None:
    number = open_ticket(context, make_row())
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert [t.kind for t in ticket.tasks] == ["tell-customer"]
        assert ticket.outbox == []


# -- bounces and our own mail ----


def bounce(context: AppContext, sent: OutgoingMail, way: str) -> Filing:
    path = compose.make_return_path(sent.id, context.settings, context.signer)
    report = f"Reporting-MTA: dns; x\n\nMessage-ID: {sent.message_id}\n"
    fields: dict[str, Any] = {
        "return path": {},
        "text": {"text": f"undeliverable\n{report}"},
        "attached headers": {"attachments": (Attachment("h", "message/rfc822", report.encode()),)},
    }[way]
    signs = ("daemon-address", "bounce-wording")
    sender = Address("", "mailer-daemon@relay.example")
    item = make_mail(sender=sender, is_bounce=True, is_automated=True, signs=signs, **fields)
    to = [path] if way == "return path" else ["support@localhost"]
    return deliver(context, item, {"mail_from": "", "rcpt_to": to})


@pytest.mark.parametrize("way", ["return path", "text", "attached headers"])
def test_a_bounce_flags_the_contact_makes_a_task_and_opens_no_ticket(
    context: AppContext, way: str
) -> None:
    number = open_ticket(context)
    sent_mail = send_notice(context, number)
    filing = bounce(context, sent_mail, way)
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, number)
    assert count_rows(context, Ticket) == 1
    assert get_contact(context, ANN.email).unreachable
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert session.get_one(OutgoingMail, sent_mail.id).state is OutboxState.BOUNCED
        assert [t.text for t in ticket.tasks] == ["tell the customer by other means"]
        assert ticket.stage.value == "4-In Progress"  # a bounce never moves a ticket back
    again = bounce(context, sent_mail, way)
    assert again.outcome in {Outcome.IGNORED, Outcome.DUPLICATE}
    assert (
        len(list_audit_entries(context, number, "bounced"))
        == len(list_audit_entries(context, number, "task"))
        == 1
    )


REPORT = ("delivery-status-part", "daemon-address")


def test_a_report_about_no_mail_of_ours_is_backscatter_and_opens_no_ticket(
    context: AppContext,
) -> None:
    assert (
        deliver(context, make_mail(is_bounce=True, is_automated=True, signs=REPORT)).outcome
        is Outcome.IGNORED
    )
    assert count_rows(context, Ticket) == 0


def test_what_only_looks_like_a_bounce_is_shown_to_staff_and_never_answered(
    context: AppContext,
) -> None:
    filing = deliver(
        context, make_mail("your mail to Dr. Who did not arrive", is_bounce=True, is_automated=True)
    )
    assert filing.outcome is Outcome.OPENED
    assert count_rows(context, OutgoingMail) == 0


def test_a_complaint_about_our_mail_ends_surveys_and_opens_no_ticket(context: AppContext) -> None:
    sent = send_notice(context, open_ticket(context))
    original = Attachment("original", "message/rfc822", f"Message-ID: {sent.message_id}".encode())
    assert (
        deliver(
            context,
            make_mail(is_automated=True, signs=("feedback-report-part",), attachments=(original,)),
        ).outcome
        is Outcome.IGNORED
    )
    assert get_contact(context, ANN.email).unsubscribed
    assert not get_contact(context, ANN.email).unreachable
    assert count_rows(context, Ticket) == 1


def _change_digit(digit: re.Match[str]) -> str:
    return "1" if digit[0] == "0" else "0"


def test_a_forged_bounce_flags_nobody(context: AppContext) -> None:
    sent = send_notice(context, open_ticket(context))
    forged_id = sent.message_id.replace("-1-", "-2-") + re.sub(
        r"[0-9a-f](?=@)", _change_digit, sent.message_id
    )
    assert (
        deliver(context, make_mail(forged_id, is_bounce=True, signs=REPORT)).outcome
        is Outcome.IGNORED
    )
    assert not get_contact(context, ANN.email).unreachable


def test_whatever_comes_to_the_return_path_opens_no_ticket(context: AppContext) -> None:
    number = open_ticket(context)
    path = compose.make_return_path(
        send_notice(context, number).id, context.settings, context.signer
    )
    away = make_mail(
        "I am on holiday", is_auto_reply=True, is_automated=True, signs=("auto-submitted-answer",)
    )
    filing = deliver(context, away, {"rcpt_to": [path]})
    assert filing.outcome is Outcome.IGNORED
    assert not get_contact(context, ANN.email).unreachable  # away is not gone


def test_our_own_mail_coming_back_opens_no_ticket(context: AppContext) -> None:
    name = send_notice(context, open_ticket(context)).message_id.strip("<>")
    assert (
        deliver(context, make_mail(name=name, sender=Address("", "support@localhost"))).outcome
        is Outcome.IGNORED
    )
    assert count_rows(context, Ticket) == 1


# -- people ----


def test_only_a_call_gives_further_people_our_mails(context: AppContext) -> None:
    others = (
        Address("", "bob@b.example"),
        Address("", "bob@b.example"),
        Address("x", "not an address"),
    )
    by_mail = open_ticket(context, make_mail(to=others, cc=others))
    by_phone = open_ticket(context, make_phone_call(*others))
    with context.store.read_only() as session:
        assert [m.to for m in session.get_one(Ticket, by_mail).outbox] == [ANN.email]
        assert [m.to for m in session.get_one(Ticket, by_phone).outbox] == [
            ANN.email,
            "bob@b.example",
        ]


def test_a_display_name_is_not_a_practice_but_a_form_names_one(context: AppContext) -> None:
    open_ticket(context, make_mail(company="Nowhere"))
    assert count_rows(context, Ticket, Ticket.company_id.is_not(None)) == 0
    open_ticket(context, make_row(company="Sunrise  FAMILY-practice", company_number="42"))
    open_ticket(context, make_row(company="sunrise family practice"))
    open_ticket(context, make_row(company="Renamed", company_number="42"))
    with context.store.read_only() as session:
        names = {t.name for t in session.query(Ticket).where(Ticket.company_id.is_not(None))}
    assert names == {"Support – Sunrise FAMILY-practice"}


def test_attachments_are_sealed_and_open_again(context: AppContext) -> None:
    small, large = b"small", b"large" * 100_000
    files = tuple(Attachment(n, "text/plain", c) for n, c in (("s.txt", small), ("l.txt", large)))
    number = open_ticket(context, make_mail(attachments=files))
    with context.store.read_only() as session:
        attachments = session.get_one(Ticket, number).messages[0].attachments
        assert [a.name for a in attachments] == ["s.txt", "l.txt"]
        assert [context.blob_store.read(a.content, a.blob) for a in attachments] == [small, large]
        assert attachments[0].content is not None
        assert small not in attachments[0].content
        assert attachments[1].content is None
    assert count_rows(context, StoredAttachment) == 2


ODD = "a\0b"


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": ODD}, {"html": ODD}, {"reply_text": ODD}, {"phone": ODD}, {"thread_id": ODD},
        {"details": ((ODD, ODD),)}, {"sender": Address(ODD, "ann@practice.example")},
        {"caveats": (ODD,)}, {"text": ODD}, {"name": ODD},
        {"attachments": (Attachment(ODD, ODD, b"x", content_id=ODD),)},
        {"subject": "\ud800"}, {"html": "\ud800"},
        {"subject": "s" * 5000}, {"thread_id": "t" * 5000},
        {"name": "n" * 5000}, {"sender": Address("n" * 5000, "a" * 5000 + "@x.example")},
        {"sender": Address("", "ß" * 64 + "@" + "x" * 250 + ".de")},
        {"attachments": (Attachment("n" * 5000, "m" * 5000, b"", content_id="c" * 5000),)},
        {"references": ("<r@x.example>",) * 5000, "to": (ANN,) * 5000},
    ],
    ids=lambda g: "-".join(f"{k}={str(v)[:12]!r}" for k, v in g.items()),
)  # fmt: skip
def test_nothing_in_an_item_keeps_it_from_becoming_a_ticket(
    postgres_context: AppContext, fields: dict[str, Any]
) -> None:
    text = fields.pop("text", "x")
    assert deliver(postgres_context, make_mail(text, **fields)).outcome is Outcome.OPENED


def test_a_number_as_long_as_a_book_still_finds_its_practice(any_context: AppContext) -> None:
    for name in ("One", "Two"):
        assert (
            deliver(any_context, make_row(company=name, company_number="9" * 200)).outcome
            is Outcome.OPENED
        )


def test_an_item_without_anything_becomes_a_ticket_that_says_what_is_missing(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(
        context, InboundItem(format=Format.MAIL, external_id="", caveats=("no sender",))
    )
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.caveats == [
            "no sender",
            "company not known: ask which practice this is about",
        ]
        assert ticket.created_at == clock()


def test_keys_of_messages_distinguish_ids_and_contents() -> None:
    one = make_mail("x", name="a@b.example")
    assert threading.build_message_key(one) == threading.build_message_key(
        make_mail("x", name="a@b.example")
    )
    assert threading.build_message_key(one) != threading.build_message_key(
        make_mail("y", name="a@b.example")
    )
    assert threading.build_message_key(one) != threading.build_message_key(
        make_mail("x", name="c@b.example")
    )
    assert threading.build_message_key(InboundItem(format=Format.MAIL, external_id="")) is None
