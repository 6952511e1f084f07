"""Merging tickets.

Across companies only when somebody confirms it, and never so that a request is lost from view.
"""

from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Attachment
from tests.support.context import (
    HandClock,
    complete,
    create_company,
    list_audit_entries,
    make_mail,
    make_phone_call,
    make_row,
    open_ticket,
    reach,
)
from tests.workflow.tickets.test_undo import ME, do_reversibly, take_snapshot, undo_by_id
from workflow.context import AppContext
from workflow.customers import mixed_companies, records
from workflow.errors import AcrossCompanies, ActionNotAllowed
from workflow.mail import answer as mail_answer
from workflow.mail import drafts, sender
from workflow.models.core import CompanyDomain, Contact, Filing, OutgoingMail, Ticket, WrittenMail
from workflow.models.states import Status
from workflow.process import Milestone, Template
from workflow.tickets import undo, views

OURS, THEIRS = "Harbor Clinic", "Meadow Dental"
IDA, TOM = Address("Ida Bell", "ida@harbor.example"), Address("Tom Reed", "tom@meadow.example")
PRIVATE = Address("Tom at home", "tom@gmail.com")


@pytest.fixture
def town(any_context: AppContext) -> AppContext:
    with any_context.store.transaction() as session:
        for name, domain in ((OURS, "harbor.example"), (THEIRS, "meadow.example")):
            session.add(CompanyDomain(domain=domain, company=create_company(session, name)))
    return any_context


def merge(context: AppContext, number: int, into: int, *, across: bool = False) -> None:
    with context.store.transaction() as session:
        one, other = session.get_one(Ticket, number), session.get_one(Ticket, into)
        context.desk.merge(session, one, other, by=ME, now=context.clock(), across_companies=across)


def list_mails(context: AppContext, number: int, template: Template) -> list[str]:
    with context.store.read_only() as session:
        found = select(OutgoingMail.to).where(
            OutgoingMail.ticket_id == number, OutgoingMail.template == template
        )
        return sorted(session.scalars(found))


def list_people(context: AppContext, number: int) -> list[str]:
    with context.store.read_only() as session:
        return sorted(link.contact.email for link in session.get_one(Ticket, number).contacts)


# -- two companies ----

# the ticket that ends, the one that goes on, and the names in the question
PAIRS = {
    "two practices on record": (make_mail(sender=TOM), make_mail(sender=IDA), (THEIRS, OURS)),
    "by what rows name": (
        make_row(company=THEIRS, sender=Address("Tom")),
        make_row(company=OURS, sender=Address("Ida")),
        (THEIRS, OURS),
    ),
    "a private address for a practice": (
        make_phone_call(company=THEIRS),
        make_mail(sender=IDA),
        (THEIRS, OURS),
    ),
    "contacts of two, one practice": (
        make_row(company=OURS, sender=TOM),
        make_row(company=OURS, sender=IDA),
        (THEIRS, OURS),
    ),
    "two that nobody knows": (
        make_mail(sender=Address("", "a@north.example")),
        make_mail(sender=Address("", "b@south.example")),
        ("north.example", "south.example"),
    ),
    "one that nobody knows": (
        make_mail(sender=Address("", "a@north.example")),
        make_mail(sender=IDA),
        ("north.example", OURS),
    ),
    "two private addresses at one provider": (
        make_mail(sender=PRIVATE),
        make_mail(sender=Address("", "gus@gmail.com")),
        (PRIVATE.email, "gus@gmail.com"),
    ),
    "a private address into a practice": (
        make_mail(sender=PRIVATE),
        make_mail(sender=IDA),
        (PRIVATE.email, OURS),
    ),
    "a practice into a private address": (
        make_mail(sender=IDA),
        make_mail(sender=PRIVATE),
        (OURS, PRIVATE.email),
    ),
    "a private address and a domain": (
        make_mail(sender=Address("", "a@north.example")),
        make_mail(sender=PRIVATE),
        ("north.example", PRIVATE.email),
    ),
    "two at another provider": (
        make_mail(sender=Address("", "hal@hotmail.co.uk")),
        make_mail(sender=Address("", "gil@hotmail.co.uk")),
        ("hal@hotmail.co.uk", "gil@hotmail.co.uk"),
    ),
    "namesakes": (
        make_row(company="Twin", company_number="7"),
        make_row(company="twin", company_number="8"),
        ("(number 7)", "(number 8)"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_across_companies_it_asks_and_names_both(town: AppContext, name: str) -> None:
    first, second, names = PAIRS[name]
    number, into = open_ticket(town, first), open_ticket(town, second)
    before = take_snapshot(town, number), take_snapshot(town, into)
    with pytest.raises(AcrossCompanies) as asked:
        merge(town, number, into)
    assert [one in str(asked.value) for one in names] == [True, True]
    assert (take_snapshot(town, number), take_snapshot(town, into)) == before
    merge(town, number, into, across=True)
    assert take_snapshot(town, number)["status"] is Status.MERGED


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (make_mail(sender=IDA), make_mail(sender=Address("", "kim@harbor.example"))),
        (make_row(company=OURS), make_mail(sender=IDA)),
        (make_row(company=OURS), make_row(company="harbor clinic")),
        (make_mail(sender=PRIVATE), make_mail(sender=PRIVATE)),  # the same person
        (make_mail(sender=PRIVATE), make_phone_call(PRIVATE, company=THEIRS)),
        (make_phone_call(PRIVATE, company=THEIRS), make_mail(sender=PRIVATE)),
        (
            make_row(company="", sender=Address("Tom")),
            make_mail(sender=PRIVATE),
        ),  # one of which nothing is known
        (make_mail(sender=PRIVATE), make_row(company="", sender=Address("Tom"))),
        (make_row(company="", sender=Address("Tom")), make_row(company=OURS, sender=IDA)),
        (
            make_mail(sender=Address("", "a@north.example")),
            make_mail(sender=Address("", "b@north.example")),
        ),
        (
            make_mail(sender=Address("", "a@north.example")),
            make_phone_call(Address("", "b@north.example"), company="North"),
        ),
    ],
)
def test_within_one_company_nobody_is_asked(town: AppContext, first: Any, second: Any) -> None:
    merge(town, open_ticket(town, first), open_ticket(town, second))


# -- an ended ticket ----


def test_an_open_ticket_reopens_the_completed_one_it_is_merged_into(
    town: AppContext, clock: HandClock
) -> None:
    into = open_ticket(town)
    complete(town, into)
    clock.turn(days=40)
    number = open_ticket(town)
    merge(town, number, into)
    with town.store.read_only() as session:
        ticket = session.get_one(Ticket, into)
        assert (ticket.status, ticket.period, ticket.period_started_at) == (Status.OPEN, 2, clock())
        assert ticket.due_at is not None
        assert ticket.due_at > clock()
        listed = views.VIEWS["unassigned"].where
        assert into in set(session.scalars(select(Ticket.id).where(*listed(None, clock()))))


def test_a_completed_ticket_reopens_nothing(town: AppContext) -> None:
    number, into = open_ticket(town), open_ticket(town)
    complete(town, number)
    complete(town, into)
    merge(town, number, into)
    assert take_snapshot(town, into)["status"] is Status.COMPLETED


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN])
def test_nothing_is_merged_into_or_out_of_a_side_end(town: AppContext, status: Status) -> None:
    number, ended_ticket = open_ticket(town), open_ticket(town)
    with town.store.transaction() as session:
        town.desk.close(
            session,
            session.get_one(Ticket, ended_ticket),
            status,
            by=ME,
            reason="r",
            now=town.clock(),
        )
    with pytest.raises(
        ActionNotAllowed, match=f"#{ended_ticket} is closed as {status}: reopen it first"
    ):
        merge(town, number, ended_ticket)
    with pytest.raises(ActionNotAllowed, match="reopen it first"):
        merge(town, ended_ticket, number)
    assert take_snapshot(town, number)["status"] is Status.OPEN


def test_a_merged_ticket_is_not_merged_again(town: AppContext) -> None:
    one, two, three = (open_ticket(town) for _ in range(3))
    merge(town, one, two)
    with pytest.raises(ActionNotAllowed, match="reopen it first"):
        merge(town, one, three)


# -- undo ----


def merge_reversibly(context: AppContext, number: int, into: int) -> int:
    def work(session: Any, found: Ticket) -> None:
        other = session.get_one(Ticket, into)
        context.desk.merge(session, found, other, by=ME, now=context.clock(), across_companies=True)

    return do_reversibly(context, number, "merge", work, into)


def test_undo_restores_contacts_status_and_reopening(town: AppContext, clock: HandClock) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    complete(town, into)
    clock.turn(hours=1)
    before = take_snapshot(town, number), take_snapshot(town, into)
    which = merge_reversibly(town, number, into)
    assert take_snapshot(town, into)["period"] == 2
    undo_by_id(town, number, which)
    assert (take_snapshot(town, number), take_snapshot(town, into)) == before
    assert len(list_audit_entries(town, into, "undone")) == 1


def test_what_somebody_did_on_the_reopened_ticket_is_not_undone(town: AppContext) -> None:
    number, into = open_ticket(town), open_ticket(town)
    complete(town, into)
    which = merge_reversibly(town, number, into)
    reach(town, into, Milestone.FOLLOW_UP_SENT)
    with pytest.raises(ActionNotAllowed, match=f"since then: .* on #{into}"):
        undo_by_id(town, number, which)


def test_reopening_a_merged_ticket_takes_its_contacts_along_the_whole_chain(
    town: AppContext,
) -> None:
    number, into, last = (open_ticket(town, make_mail(sender=who)) for who in (TOM, IDA, IDA))
    merge(town, number, into, across=True)
    merge(town, into, last, across=True)
    assert list_people(town, last) == [IDA.email, TOM.email]
    before = [take_snapshot(town, n) for n in (number, into, last)]

    def reopen(session: Any, found: Ticket) -> None:
        town.desk.reopen(session, found, by=ME, cause="wrong number", now=town.clock())

    which = do_reversibly(town, number, "reopen", reopen)
    assert [list_people(town, n) for n in (number, into, last)] == [
        [TOM.email],
        [IDA.email],
        [IDA.email],
    ]
    undo_by_id(town, number, which)
    assert [take_snapshot(town, n) for n in (number, into, last)] == before


def test_a_contact_that_was_there_before_stays(town: AppContext) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=IDA)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    merge(town, number, into)
    with town.store.transaction() as session:
        town.desk.reopen(
            session, session.get_one(Ticket, number), by=ME, cause="r", now=town.clock()
        )
    assert list_people(town, into) == [IDA.email]


# -- what came meanwhile ----

LATE = "my late answer"


def reply_to_notice(
    context: AppContext, number: int, who: Address, text: str = LATE, **more: Any
) -> int:
    """Have somebody answer the notice of a ticket; return the ticket that the answer joins."""
    sender.send_waiting(context)
    with context.store.read_only() as session:
        sent = [one.message_id for one in session.get_one(Ticket, number).outbox if one.message_id]
    return open_ticket(context, make_mail(text, sender=who, in_reply_to=sent[0], **more))


def list_texts(context: AppContext, number: int) -> list[str]:
    with context.store.read_only() as session:
        return [m.text for m in session.get_one(Ticket, number).messages if m.direction == "in"]


def list_caveats(context: AppContext, number: int) -> list[Any]:
    with context.store.read_only() as session:
        return list(session.get_one(Ticket, number).caveats)


def reopen_ticket(context: AppContext, number: int) -> None:
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        context.desk.reopen(session, ticket, by=ME, cause="wrong number", now=context.clock())


@pytest.mark.parametrize("way", ["undo", "reopen"])
def test_what_came_for_the_merged_ticket_goes_back_with_it(town: AppContext, way: str) -> None:
    number, into = (
        open_ticket(town, make_mail("first", sender=TOM)),
        open_ticket(town, make_mail("ours", sender=IDA)),
    )
    sender.send_waiting(town)
    which = merge_reversibly(town, number, into)
    file = Attachment("remit.pdf", "application/pdf", b"%PDF-1.4 of Meadow")
    assert reply_to_notice(town, number, TOM, attachments=(file,)) == into
    answered = "second@meadow.example"
    assert reply_to_notice(town, number, TOM, "and one more", name=answered) == into
    # An answer to what was redirected is for the merged ticket too.
    chained = make_mail("an answer to that", sender=TOM, in_reply_to=f"<{answered}>")
    assert open_ticket(town, chained) == into
    assert reply_to_notice(town, into, IDA, "of ours") == into
    assert len(list_texts(town, into)) == 5
    if way == "undo":
        undo_by_id(town, number, which)
    else:
        reopen_ticket(town, number)
    assert list_texts(town, into) == ["ours", "of ours"]
    assert list_texts(town, number) == ["first", LATE, "and one more", "an answer to that"]
    with town.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        [kept] = [one for message in ticket.messages for one in message.attachments]
        assert kept.name == "remit.pdf"
        assert {m.addressed_ticket_id for m in ticket.messages} == {None}
        numbers = [m.id for m in ticket.messages]
        filed = session.scalars(select(Filing.ticket_id).where(Filing.message_id.in_(numbers)))
        assert set(filed) == {number}
    for one in (number, into):
        [row_] = list_audit_entries(town, one, "messages moved")
        assert (row_.actor, row_.detail["to"], len(row_.detail["messages"])) == (ME, number, 3)
        assert not any("merged into" in caveat for caveat in list_caveats(town, one))
    assert reply_to_notice(town, number, TOM, "after it") == number


def test_along_a_chain_it_goes_back_as_far_as_it_is_undone(town: AppContext) -> None:
    number, into, last = (open_ticket(town, make_mail(sender=who)) for who in (TOM, IDA, IDA))
    sender.send_waiting(town)
    merge(town, number, into, across=True)
    merge(town, into, last, across=True)
    assert reply_to_notice(town, number, TOM) == last
    reopen_ticket(town, into)
    assert LATE in list_texts(town, into)
    assert LATE not in list_texts(town, last)
    reopen_ticket(town, number)
    assert LATE in list_texts(town, number)
    assert LATE not in list_texts(town, into)


def test_undoing_a_reopening_brings_the_messages_along(town: AppContext) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    merge(town, number, into, across=True)
    reply_to_notice(town, number, TOM)

    def reopen(session: Any, found: Ticket) -> None:
        town.desk.reopen(session, found, by=ME, cause="r", now=town.clock())

    which = do_reversibly(town, number, "reopen", reopen)
    assert LATE in list_texts(town, number)
    undo_by_id(town, number, which)
    assert LATE in list_texts(town, into)
    reopen_ticket(town, number)
    assert LATE in list_texts(town, number), "it still knows whose it is"
    with pytest.raises(ActionNotAllowed):
        undo_by_id(town, number, which)


def test_a_reopening_is_not_undone_once_a_message_came(town: AppContext) -> None:
    """It would be on a merged ticket, where nobody looks."""
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    sender.send_waiting(town)
    merge(town, number, into, across=True)

    def reopen(session: Any, found: Ticket) -> None:
        town.desk.reopen(session, found, by=ME, cause="r", now=town.clock())

    which = do_reversibly(town, number, "reopen", reopen)
    assert reply_to_notice(town, number, TOM) == number
    with pytest.raises(ActionNotAllowed, match="a message came"):
        undo_by_id(town, number, which)


def test_a_completed_ticket_that_mail_came_for_comes_back_open(town: AppContext) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    complete(town, number)
    sender.send_waiting(town)
    which = merge_reversibly(town, number, into)
    reply_to_notice(town, number, TOM)
    with pytest.raises(ActionNotAllowed, match="a message came"):
        undo_by_id(town, number, which)
    reopen_ticket(town, number)
    assert take_snapshot(town, number)["status"] is Status.OPEN
    assert take_snapshot(town, number)["due_at"] is not None
    assert LATE in list_texts(town, number)


def test_what_cannot_be_told_apart_has_a_caveat_on_both(town: AppContext) -> None:
    """Somebody whom the merge brought answers the ticket that goes on: it may be about either."""
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    merge(town, number, into, across=True)
    assert reply_to_notice(town, into, TOM) == into
    reopen_ticket(town, number)
    assert LATE in list_texts(town, into)
    assert f"it was merged into #{into}: more about it may be there" in list_caveats(town, number)
    assert any(
        f"#{number} was merged into this ticket" in caveat for caveat in list_caveats(town, into)
    )


def test_where_nothing_came_there_is_no_caveat(town: AppContext) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    before = [list_caveats(town, one) for one in (number, into)]
    merge(town, number, into, across=True)
    reopen_ticket(town, number)
    assert [list_caveats(town, one) for one in (number, into)] == before
    assert list_audit_entries(town, number, "messages moved") == []


# -- mails after it ----


@pytest.fixture
def both(town: AppContext) -> int:
    """A ticket of one company into which one of another was merged; its contacts.

    Ida, Tom, and Tom's private one.
    """
    number = open_ticket(town, make_phone_call(TOM, PRIVATE, company=THEIRS))
    with town.store.transaction() as session:  # the caller of the helper is somebody else
        for link in session.get_one(Ticket, number).contacts:
            if link.contact.email not in {TOM.email, PRIVATE.email}:
                session.delete(link)
    with (
        town.store.transaction() as session
    ):  # staff confirmed it: let only the ticket tell whose it is
        session.scalars(select(Contact).where(Contact.email == PRIVATE.email)).one().company = None
    into = open_ticket(town, make_mail(sender=IDA))
    merge(town, number, into, across=True)
    return into


def test_nobody_of_the_other_company_is_chosen_beforehand(town: AppContext, both: int) -> None:
    with town.store.read_only() as session:
        recipients = mail_answer.list_recipients(
            session, session.get_one(Ticket, both), town.settings
        )
        assert {r.email: r.is_default for r in recipients} == {
            IDA.email: True,
            TOM.email: False,
            PRIVATE.email: False,
        }
        assert all(THEIRS in r.obstacle for r in recipients if not r.is_default)


def answer(context: AppContext, number: int, to: list[str], **more: Any) -> list[OutgoingMail]:
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        mail = WrittenMail(
            key=drafts.make_key(),
            ticket_id=number,
            staff_id=_create_staff(session),
            to=to,
            cc=[],
            subject="s",
            text="t",
            ticks=[],
            changed_at=context.clock(),
        )
        session.add(mail)
        session.flush()
        return mail_answer.enqueue(
            session, context.desk, ticket, mail, by=ME, now=context.clock(), **more
        )


def _create_staff(session: Any) -> int:
    # each answer by somebody new would be two of one name
    from tests.support.context import create_staff  # noqa: PLC0415
    from workflow.customers.directory import find_staff  # noqa: PLC0415

    return (find_staff(session, "Olga") or create_staff(session, "Olga")).id


@pytest.mark.parametrize("other", [TOM.email, PRIVATE.email])
def test_an_answer_to_both_asks_once_more_and_names_both(
    town: AppContext, both: int, other: str
) -> None:
    with pytest.raises(AcrossCompanies) as asked:
        answer(town, both, [IDA.email, other])
    assert OURS in str(asked.value)
    assert THEIRS in str(asked.value)
    assert list_mails(town, both, Template.ANSWER) == []
    answer(town, both, [other])  # to one of them alone nobody asks
    answer(town, both, [IDA.email, "claims@payer.example"])  # a payer is no customer
    answer(town, both, [IDA.email, other], across_companies=True)
    assert list_mails(town, both, Template.ANSWER).count(other) == 2


def test_two_at_a_public_provider_get_no_mail_together_unasked(town: AppContext) -> None:
    """Neither the recap nor an answer, also where the merge itself was confirmed."""
    gus, hal = "gus@gmail.com", "hal@gmail.com"
    into = open_ticket(town, make_mail(sender=Address("", hal)))
    merge(town, open_ticket(town, make_mail(sender=Address("", gus))), into, across=True)
    with pytest.raises(AcrossCompanies) as asked:
        answer(town, into, [hal, gus])
    assert gus in str(asked.value)
    assert hal in str(asked.value)
    with town.store.transaction() as session:
        ticket = session.get_one(Ticket, into)
        found = mail_answer.list_recipients(session, ticket, town.settings)
        assert {one.email: one.is_default for one in found} == {hal: True, gus: False}
        town.desk.recap(session, ticket, "done", by=ME, now=town.clock())
    assert list_mails(town, into, Template.RECAP) == [hal]
    complete(town, into)
    assert list_mails(town, into, Template.SURVEY) == [hal]


def test_two_that_were_merged_into_a_ticket_of_nobody_get_no_recap_together_unasked(
    town: AppContext,
) -> None:
    into = open_ticket(town, make_row(company="", sender=Address("Somebody")))
    merge(town, open_ticket(town, make_mail(sender=Address("", "gus@gmail.com"))), into)
    number = open_ticket(town, make_mail(sender=Address("", "hal@gmail.com")))
    with pytest.raises(AcrossCompanies):
        merge(town, number, into)
    merge(town, number, into, across=True)
    with town.store.transaction() as session, pytest.raises(AcrossCompanies):
        town.desk.recap(session, session.get_one(Ticket, into), "done", by=ME, now=town.clock())


def test_an_answer_to_two_namesakes_names_their_numbers(town: AppContext) -> None:
    people_there = [Address("", "a@east.example"), Address("", "b@west.example")]
    numbers = [
        open_ticket(town, make_phone_call(person, company="Twin", company_number=number))
        for person, number in zip(people_there, ("7", "8"), strict=True)
    ]
    merge(town, *numbers, across=True)
    with pytest.raises(AcrossCompanies, match=r"\(number [78]\) and Twin \(number [78]\)"):
        answer(town, numbers[1], [person.email for person in people_there])


def test_contacts_that_staff_put_on_one_ticket_are_one_customer(town: AppContext) -> None:
    number = open_ticket(
        town,
        make_phone_call(Address("", "gus@gmail.com"), Address("", "hal@gmail.com"), company=""),
    )
    answer(town, number, ["gus@gmail.com", "hal@gmail.com"])


def test_a_copy_to_another_practice_on_record_asks_too(town: AppContext) -> None:
    number = open_ticket(town, make_mail(sender=IDA))
    with pytest.raises(AcrossCompanies):
        answer(town, number, [IDA.email, "anybody@meadow.example"])


def test_automatic_mail_goes_to_the_tickets_own_company(town: AppContext, both: int) -> None:
    complete(town, both)
    assert list_mails(town, both, Template.SURVEY) == [IDA.email]
    with town.store.transaction() as session:
        ticket = session.get_one(Ticket, both)
        town.desk.recap(session, ticket, "done", by=ME, now=town.clock())
    assert list_mails(town, both, Template.RECAP) == [IDA.email]
    with town.store.transaction() as session:
        ticket = session.get_one(Ticket, both)
        town.desk.recap(session, ticket, "done", by=ME, now=town.clock(), across_companies=True)
    assert list_mails(town, both, Template.RECAP) == sorted(
        [IDA.email, IDA.email, TOM.email, PRIVATE.email]
    )


def test_a_ticket_without_own_contacts_writes_to_nobody_by_itself(town: AppContext) -> None:
    into = open_ticket(town, make_row(company=OURS, sender=Address("Ida")))
    merge(town, open_ticket(town, make_mail(sender=TOM)), into, across=True)
    with town.store.transaction() as session, pytest.raises(ActionNotAllowed, match="no contact"):
        town.desk.recap(session, session.get_one(Ticket, into), "done", by=ME, now=town.clock())


def test_whoever_a_merge_has_brought_does_not_give_the_ticket_their_company(
    town: AppContext,
) -> None:
    into = open_ticket(town, make_mail(sender=Address("", "x@gmail.com")))
    merge(town, open_ticket(town, make_mail(sender=PRIVATE)), into, across=True)
    with town.store.transaction() as session:
        private = session.scalars(select(Contact).where(Contact.email == PRIVATE.email)).one()
        theirs = mixed_companies.find_party(session, session.get_one(Ticket, into))
        assert theirs is not None
        assert theirs.name == "x@gmail.com"
        meadow = session.scalars(
            select(CompanyDomain).where(CompanyDomain.domain == "meadow.example")
        ).one()
        assert (
            records.set_contact_company(session, private, meadow.company, by=ME, now=town.clock())
            == 0
        )


def test_an_undo_of_an_earlier_release_still_takes_contacts_back(town: AppContext) -> None:
    number, into = (
        open_ticket(town, make_mail(sender=TOM)),
        open_ticket(town, make_mail(sender=IDA)),
    )
    which = merge_reversibly(town, number, into)
    with town.store.transaction() as session:
        row_ = session.get_one(undo.UndoRecord, which)
        links = row_.before["links"]
        kept = {k: v for k, v in row_.before.items() if k not in {"links", "other"}}
        row_.before = {**kept, "contacts": [link["id"] for link in links]}
    undo_by_id(town, number, which)
    assert list_people(town, into) == [IDA.email]
