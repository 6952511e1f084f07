"""Correspondents: who the customer is, and what the desk itself has written."""

from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Direction, Format, ForwardedHeader, InboundItem, Route
from parsers.mail import message
from tests.support.context import (
    ANN,
    START,
    complete,
    count_rows,
    create_staff,
    deliver,
    get_contact,
    make_mail,
    make_row,
    open_ticket,
)
from workflow.context import AppContext
from workflow.filing import correspondents
from workflow.filing.corrections import HANDLERS
from workflow.filing.file_item import ONLY_THANKS_CAVEAT
from workflow.mail import answer, compose
from workflow.models.core import (
    Company,
    CompanyDomain,
    Contact,
    Filing,
    Message,
    OutgoingMail,
    Task,
    Ticket,
    TicketRelation,
)
from workflow.models.states import Outcome, Role, Status
from workflow.permissions import RIGHTS_BY_ROLE
from workflow.process import Milestone
from workflow.settings.settings import Settings
from workflow.tickets.actions import HANDLERS as TICKET_HANDLERS
from workflow.tickets.actions import Actions, Actor, Undo, UseSender

CARLA = Address("Carla Consult", "carla@desk.example")
MEL = Address("Mel Dodd", "mel.dodd@north.example")
STRANGER = Address("Mallory", "mallory@elsewhere.example")
OURS = Address("Billing Support", "support@localhost")
FORWARDED = ForwardedHeader(sender=MEL, subject="Copay", language="en", is_announced=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"authserv_id": "mx.desk.example"})


@pytest.fixture
def context(context: AppContext) -> AppContext:
    """Context with Carla on the desk, and a practice whose domain is on record."""
    with context.store.transaction() as session:
        carla = create_staff(session, "Carla Consult")
        carla.email = CARLA.email
        north = Company(name="North Pediatrics", key="north pediatrics", created_at=START)
        session.add(CompanyDomain(domain="north.example", company=north))
    return context


def get_ticket_facts(context: AppContext, number: int | None) -> dict[str, Any]:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        return {
            "contacts": [link.contact.email for link in ticket.contacts],
            "company": ticket.company.name if ticket.company else "",
            "status": ticket.status,
            "notices": [mail.to for mail in ticket.outbox],
            "tasks": [task.kind for task in ticket.tasks],
            "directions": [m.direction for m in ticket.messages],
            "caveats": list(ticket.caveats),
        }


def get_message(context: AppContext, filing: Filing) -> Message:
    with context.store.read_only() as session:
        return session.get_one(Message, filing.message_id)


def make_forward(**more: Any) -> InboundItem:
    fields: dict[str, Any] = {
        "sender": CARLA,
        "subject": "Fwd: Copay",
        "forwarded": (FORWARDED,),
        "is_forward": True,
        **more,
    }
    return make_mail(**fields)


# -- forwarded by a colleague ----


@pytest.mark.parametrize(
    "headers",
    [
        (FORWARDED,),
        (ForwardedHeader(sender=MEL, is_attached=True),),
        # Bob forwarded it to Carla, who forwards it to the desk.
        (ForwardedHeader(sender=OURS), ForwardedHeader(sender=CARLA), FORWARDED),
        (FORWARDED, ForwardedHeader(sender=STRANGER)),
    ],
)
def test_the_original_sender_becomes_the_contact(
    context: AppContext, headers: tuple[ForwardedHeader, ...]
) -> None:
    filing = deliver(context, make_forward(forwarded=headers))
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == facts["notices"] == [MEL.email]
    assert facts["company"] == "North Pediatrics"
    (caveat,) = (c for c in facts["caveats"] if correspondents.is_route_caveat(c))
    assert "Carla Consult <carla@desk.example>" in caveat
    assert "Mel Dodd <mel.dodd@north.example>" in caveat
    stored = get_message(context, filing)
    assert (stored.from_email, stored.sent_by_email) == (MEL.email, CARLA.email)
    assert (stored.route, stored.direction) == (Route.FORWARDED, Direction.IN)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (ForwardedHeader(sender=Address("Mel Dodd")),),
        (ForwardedHeader(sender=CARLA),),
        (
            ForwardedHeader(sender=MEL, is_attached=True),
            ForwardedHeader(sender=STRANGER, is_attached=True),
        ),
    ],
)
def test_a_forward_that_names_nobody_clearly_has_no_contact(
    context: AppContext, headers: tuple[ForwardedHeader, ...]
) -> None:
    filing = deliver(context, make_forward(forwarded=headers))
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == facts["notices"] == []
    assert any(c.startswith("forwarded by Carla Consult") for c in facts["caveats"])


def test_a_customer_who_forwards_stays_the_customer(context: AppContext) -> None:
    payer = ForwardedHeader(sender=Address("", "claims@payer.example"), is_announced=True)
    facts = get_ticket_facts(
        context, deliver(context, make_forward(sender=MEL, forwarded=(payer,))).ticket_id
    )
    assert facts["contacts"] == [MEL.email]
    assert not any(map(correspondents.is_route_caveat, facts["caveats"]))


def test_people_in_copy_of_a_forward_do_not_become_the_customer(context: AppContext) -> None:
    item = make_forward(to=(OURS,), cc=(Address("Payer", "claims@payer.example"),))
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert (facts["contacts"], facts["directions"]) == ([MEL.email], ["in"])
    to_payer = make_forward(to=(Address("Payer", "claims@payer.example"),), cc=(OURS,))
    facts = get_ticket_facts(context, deliver(context, to_payer).ticket_id)
    assert (facts["contacts"], facts["directions"]) == (["claims@payer.example"], ["out"])


def test_a_forward_whose_sender_is_forged_names_nobody(context: AppContext) -> None:
    item = make_forward(authentication=("mx.desk.example; dmarc=fail",))
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert MEL.email not in facts["contacts"]
    assert facts["notices"] == []


def test_a_colleague_who_answers_the_desk_alone_quotes_the_customer(context: AppContext) -> None:
    quote = ForwardedHeader(sender=MEL, subject="Copay", language="en")
    item = make_mail(sender=CARLA, subject="RE: Copay", forwarded=(quote,))
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert facts["contacts"] == [MEL.email]
    assert correspondents.INTERNAL_CAVEAT not in facts["caveats"]


def test_a_colleague_s_own_request_sends_no_notice(context: AppContext) -> None:
    facts = get_ticket_facts(context, deliver(context, make_mail(sender=CARLA)).ticket_id)
    assert facts["contacts"] == [CARLA.email]
    assert facts["notices"] == facts["tasks"] == []


# -- Reply-To, groups, programs ----

RELAYS = (
    "wordpress@clinic.example",
    "no-reply@forms.example",
    "noreply@clinic.example",
    "www-data@web.clinic.example",
    "fax@pbx.example",
    "voicemail@pbx.example",
    "efax-service@pbx.example",
    "scanner@clinic.example",
    "notification@securedelivery.example",
    "notifications@portal.example",
    "secure-message@payer.example",
)


@pytest.mark.parametrize("sender", RELAYS)
def test_a_program_names_the_customer_in_reply_to(context: AppContext, sender: str) -> None:
    filing = deliver(context, make_mail(sender=Address("Web", sender), reply_to=(MEL,)))
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == facts["notices"] == [MEL.email]
    assert any(sender in caveat and MEL.email in caveat for caveat in facts["caveats"])
    stored = get_message(context, filing)
    assert (stored.route, stored.from_email) == (Route.RELAY, MEL.email)
    assert stored.sent_by_email == sender


@pytest.mark.parametrize(
    ("sender", "fields", "expected"),
    [
        (
            "wordpress@clinic.example",
            {"text": "Name: Mel\nYour e-mail: mel.dodd@north.example\n\nHow?"},
            MEL.email,
        ),
        (
            "info@clinic.example",
            {"text": "Email address: mel.dodd@north.example", "is_form_mail": True},
            MEL.email,
        ),
        (
            "notification@securedelivery.example",
            {"subject": "New secure message from Mel Dodd <mel.dodd@north.example>"},
            MEL.email,
        ),
        # Two addresses, or one in a letter of somebody else, name nobody.
        (
            "wordpress@clinic.example",
            {"text": "Email: mel.dodd@north.example\nEmail: ann@practice.example"},
            "wordpress@clinic.example",
        ),
        (
            "no-reply@vendor.example",
            {"text": "Questions?\nE-mail: help@vendor.example"},
            "no-reply@vendor.example",
        ),
        ("ann@practice.example", {"text": "Email: mel.dodd@north.example"}, ANN.email),
    ],
)
def test_a_form_without_reply_to_names_the_customer_in_words(
    context: AppContext, sender: str, fields: dict[str, Any], expected: str
) -> None:
    filing = deliver(context, make_mail(sender=Address("", sender), **fields))
    assert get_ticket_facts(context, filing.ticket_id)["contacts"] == [expected]


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("", "voicemail"),
        ("", "fax"),
        ("", "efax-service"),
        ("", "vm"),
        ("eFax", "message"),
        ("Voice Mail", "no-reply"),
    ],
)
def test_a_caller_without_an_address_is_called_back(
    context: AppContext, name: str, local: str
) -> None:
    item = make_mail(
        "Length: 0:42",
        sender=Address(name, f"{local}@pbx.example"),
        subject="New message from NORTH PED (555) 014-7788 to ext 300",
    )
    filing = deliver(context, item)
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == facts["notices"] == []
    assert facts["tasks"] == ["tell-customer"]
    stored = get_message(context, filing)
    assert (stored.phone, stored.from_email) == ("(555) 014-7788", f"{local}@pbx.example")
    assert any("call (555) 014-7788" in caveat for caveat in facts["caveats"])


def test_our_own_address_names_the_visitor_of_a_form(context: AppContext) -> None:
    facts = get_ticket_facts(
        context, deliver(context, make_mail(sender=OURS, reply_to=(MEL,))).ticket_id
    )
    assert facts["contacts"] == facts["notices"] == [MEL.email]


def test_our_own_address_never_becomes_a_contact(context: AppContext) -> None:
    for item in (
        make_mail(sender=OURS),
        make_mail(sender=Address("Web", "wordpress@clinic.example"), reply_to=(OURS,)),
        make_forward(forwarded=(ForwardedHeader(sender=OURS),)),
        make_mail(sender=OURS, authentication=("mx.desk.example; dmarc=fail",)),
    ):
        deliver(context, item)
    with context.store.read_only() as session:
        emails = set(session.scalars(select(Contact.email)))
    assert OURS.email not in emails


def test_a_group_of_ours_passes_on_the_author(context: AppContext) -> None:
    via = Address("'Mel Dodd' via Support", OURS.email)
    signs = ("precedence", "list-field")
    first = make_mail(sender=via, original_sender=MEL, signs=signs, is_automated=True)
    filing = deliver(context, first)
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == facts["notices"] == [MEL.email]
    reply = make_mail(
        sender=via, original_sender=MEL, in_reply_to=first.message_id, subject="Re: a question"
    )
    assert deliver(context, reply).ticket_id == filing.ticket_id


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (Address("Joe", "joe@gmail.com"), "answers@new.example"),
        (Address("Joe", "joe@new.example"), "answers@new.example"),
        (Address("Mel Dodd", MEL.email), MEL.email),  # on record: a thief would ask for answers
    ],
)
def test_answers_go_where_a_person_asks_for_them(
    context: AppContext, sender: Address, expected: str
) -> None:
    item = make_mail(sender=sender, reply_to=(Address("", "answers@new.example"),))
    filing = deliver(context, item)
    facts = get_ticket_facts(context, filing.ticket_id)
    assert facts["contacts"] == [expected]
    assert any("answers@new.example" in caveat for caveat in facts["caveats"])
    assert get_message(context, filing).from_email == sender.email  # whose words they are
    again = make_mail("And when?", sender=sender, in_reply_to=item.message_id)
    assert deliver(context, again).ticket_id == filing.ticket_id


def test_a_stranger_does_not_speak_for_a_customer_on_record(context: AppContext) -> None:
    filing = deliver(context, make_mail(sender=STRANGER, reply_to=(MEL,)))
    facts = get_ticket_facts(context, filing.ticket_id)
    assert (facts["contacts"], facts["company"]) == ([STRANGER.email], "")
    assert any(MEL.email in caveat for caveat in facts["caveats"])


@pytest.mark.parametrize(
    "fields",
    [
        {"sender": STRANGER, "reply_to": (ANN,)},
        {"sender": Address("Web", "wordpress@elsewhere.example"), "reply_to": (ANN,)},
        {"sender": Address("", ""), "reply_to": (ANN,)},
        {"sender": STRANGER, "original_sender": ANN},
        {"sender": Address("Ann via Group", "group@elsewhere.example"), "original_sender": ANN},
        {
            "sender": STRANGER,
            "forwarded": (ForwardedHeader(sender=ANN, is_announced=True),),
            "is_forward": True,
        },
        {
            "sender": CARLA,
            "forwarded": (ForwardedHeader(sender=ANN, is_announced=True),),
            "is_forward": True,
            "authentication": ("mx.desk.example; dmarc=fail",),
        },
        {
            "sender": Address("Ann via Support", OURS.email),
            "original_sender": ANN,
            "authentication": ("mx.desk.example; dmarc=fail",),
        },
    ],
)
def test_no_header_lets_a_stranger_onto_a_ticket(
    context: AppContext, fields: dict[str, Any]
) -> None:
    first = make_mail()
    number = open_ticket(context, first)
    filing = deliver(context, make_mail("let me in", in_reply_to=first.message_id, **fields))
    assert filing.outcome is Outcome.OPENED
    assert get_ticket_facts(context, number)["directions"] == ["in"]


def test_named_customers_get_no_more_than_the_budget_allows(context: AppContext) -> None:
    budget = context.settings.notices_per_sender_hour
    for n in range(budget + 3):
        sender = Address("", f"form{n}@elsewhere.example")
        deliver(context, make_mail(sender=sender, reply_to=(MEL,), is_form_mail=True))
    assert count_rows(context, OutgoingMail, OutgoingMail.to == MEL.email) == budget


# -- direction ----


@pytest.mark.parametrize("sender", [CARLA, OURS])
def test_the_desk_s_answer_goes_out_on_its_ticket(context: AppContext, sender: Address) -> None:
    first = make_mail()
    number = open_ticket(context, first)
    complete(context, number)
    ours = make_mail(
        "All done now", sender=sender, to=(ANN,), cc=(OURS,), in_reply_to=first.message_id
    )
    assert deliver(context, ours).ticket_id == number
    facts = get_ticket_facts(context, number)
    assert facts["directions"] == ["in", "out"]
    assert facts["status"] is Status.COMPLETED  # an answer of ours reopens nothing
    stored = deliver(context, make_mail("One page is missing", in_reply_to=ours.message_id))
    assert stored.ticket_id == number
    assert get_ticket_facts(context, number)["status"] is Status.OPEN


@pytest.mark.parametrize("field", ["to", "cc"])
def test_the_desk_s_first_mail_opens_the_customer_s_ticket(context: AppContext, field: str) -> None:
    people: dict[str, Any] = {"to": (OURS,), "cc": (OURS,)} | {field: (OURS, MEL)}
    first = make_mail("Please send the W-9", sender=CARLA, **people)
    filing = deliver(context, first)
    facts = get_ticket_facts(context, filing.ticket_id)
    assert (facts["contacts"], facts["directions"]) == ([MEL.email], ["out"])
    assert facts["company"] == "North Pediatrics"
    assert facts["notices"] == facts["tasks"] == []
    with context.store.read_only() as session:
        (milestone,) = session.get_one(Ticket, filing.ticket_id).milestones
        assert milestone.milestone is Milestone.CUSTOMER_NOTIFIED
        assert milestone.note == "not needed: the desk wrote to the customer first"
    reply = make_mail("Here it is", sender=MEL, in_reply_to=first.message_id)
    assert deliver(context, reply).ticket_id == filing.ticket_id
    assert get_ticket_facts(context, filing.ticket_id)["notices"] == []


@pytest.mark.parametrize(
    ("quoted", "expected"), [((), MEL.email), ((ForwardedHeader(sender=ANN),), ANN.email)]
)
def test_of_several_recipients_the_customer_is_chosen(
    context: AppContext, quoted: tuple[ForwardedHeader, ...], expected: str
) -> None:
    payer = Address("Payer", "claims@payer.example")
    item = make_mail(sender=CARLA, to=(payer, MEL), cc=(OURS, ANN), forwarded=quoted)
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert (facts["contacts"], facts["directions"]) == ([expected], ["out"])


def test_a_form_in_our_name_that_fails_dmarc_names_its_visitor(context: AppContext) -> None:
    failed = ("mx.desk.example; dmarc=fail",)
    item = make_mail(sender=OURS, reply_to=(MEL,), authentication=failed)
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert (facts["contacts"], facts["notices"]) == ([MEL.email], [])


def test_a_colleague_s_word_to_the_desk_is_a_note(context: AppContext) -> None:
    number = open_ticket(context)
    complete(context, number)
    token = compose.make_reply_address(number, context.settings, context.signer)
    item = make_mail("All done now", sender=CARLA, to=(Address("", token),))
    filing = deliver(context, item)
    assert filing.ticket_id == number
    facts = get_ticket_facts(context, number)
    assert (facts["directions"], facts["status"]) == (["in", "note"], Status.COMPLETED)
    assert correspondents.INTERNAL_CAVEAT in get_message(context, filing).caveats


VERDICTS = (
    ((), True),
    (("other.example; dmarc=fail",), True),  # not our server
    (("mx.desk.example; dmarc=pass",), True),
    (("mx.desk.example; dmarc=none; dkim=pass header.d=desk.example",), True),
    (("mx.desk.example; dmarc=none; spf=pass smtp.mailfrom=x@desk.example",), True),
    (("mx.desk.example; dmarc=none; dkim=pass header.d=evil.example",), False),
    (("mx.desk.example; dmarc=none; dkim=fail header.d=desk.example",), False),
    (("mx.desk.example; dmarc=fail; dkim=pass header.d=desk.example",), False),
    (("mx.desk.example; dmarc=pass", "mx.desk.example; dmarc=pass"), False),
)


@pytest.mark.parametrize(("results", "expected"), VERDICTS)
def test_only_a_verified_colleague_speaks_for_the_desk(
    context: AppContext, results: tuple[str, ...], *, expected: bool
) -> None:
    first = make_mail()
    number = open_ticket(context, first)
    item = make_mail(
        "Pay to this account",
        sender=CARLA,
        to=(ANN,),
        in_reply_to=first.message_id,
        authentication=results,
    )
    stored = get_message(context, deliver(context, item))
    assert (stored.direction == "out") is expected
    if not expected:
        assert any("verif" in caveat for caveat in stored.caveats)
    assert number


def test_a_payer_whom_the_desk_asked_may_answer_on_the_ticket(context: AppContext) -> None:
    first = make_mail()
    number = open_ticket(context, first)
    payer = Address("Payer", "claims@payer.example")
    ours = make_mail(sender=CARLA, to=(payer,), in_reply_to=first.message_id)
    assert deliver(context, ours).ticket_id == number
    reply = make_mail("Denied", sender=payer, in_reply_to=ours.message_id)
    assert deliver(context, reply).ticket_id == number
    other = make_mail("Me too", sender=STRANGER, in_reply_to=ours.message_id)
    assert deliver(context, other).ticket_id != number


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": Direction.OUT, "sender": Address("Whoever")},
        {"sender": CARLA},
        {"sender": Address("carla  CONSULT")},
        {"sender": OURS},
    ],
)
def test_a_row_that_the_desk_has_sent_goes_out(context: AppContext, fields: dict[str, Any]) -> None:
    first = make_row(thread_id="t-1", sender=Address("Nora Quill"))
    number = deliver(context, first).ticket_id
    sent = make_row("We sent it again", thread_id="t-1", to=(Address("Nora Quill"),), **fields)
    filing = deliver(context, sent)
    assert filing.ticket_id == number
    assert get_ticket_facts(context, number)["directions"] == ["in", "out"]
    alone = deliver(context, make_row("Please call", to=(MEL,), **fields))
    facts = get_ticket_facts(context, alone.ticket_id)
    assert (facts["directions"], facts["contacts"]) == (["out"], [MEL.email])
    assert facts["notices"] == []


@pytest.mark.parametrize("recipients", [(), (Address("Carla Consult"),), (OURS,)])
def test_a_row_of_a_namesake_of_a_colleague_is_the_customers(
    context: AppContext, recipients: tuple[Address, ...]
) -> None:
    """A name alone proves nothing where nobody of a practice is named as the recipient."""
    row = make_row("Please call", sender=Address("Carla Consult"), to=recipients)
    number = deliver(context, row).ticket_id
    facts = get_ticket_facts(context, number)
    assert facts["directions"] == ["in"]
    with context.store.read_only() as session:
        assert correspondents.COLLEAGUE_NAME_CAVEAT in session.get_one(Ticket, number).caveats


def make_form(*details: tuple[str, str]) -> InboundItem:
    return InboundItem(
        format=Format.FORMSTACK,
        external_id="6606394/1500878955",
        sender=MEL,
        text="\n".join(["Message: help", *(f"{label}: {value}" for label, value in details)]),
        details=details,
    )


@pytest.mark.parametrize(
    ("approval", "direction"),
    [
        (("Approved by", "Carla Consult"), "note"),
        (("Approver e-mail", "carla@desk.example"), "note"),
        (("Reviewed By", "Somebody Else"), "in"),
        (("Provider", "Carla Consult"), "in"),
    ],
)
def test_our_approval_of_a_submission_is_a_note(
    context: AppContext, approval: tuple[str, str], direction: str
) -> None:
    number = deliver(context, make_form()).ticket_id
    assert number is not None
    complete(context, number)
    assert deliver(context, make_form(approval)).ticket_id == number
    facts = get_ticket_facts(context, number)
    assert facts["directions"] == ["in", direction]
    assert facts["status"] is (Status.OPEN if direction == "in" else Status.COMPLETED)


# -- hints ----


@pytest.mark.parametrize(
    "words",
    [
        {"subject": "Re: Your Billing Support Ticket #{n} has been created"},
        {"subject": "ticket no. {n}"},
        {"text": "Here it is.\n\n> Subject: Recap: Billing Support Ticket #{n}"},
        {"text": "Here it is.\n\nFrom: Billing Support <{address}>"},
    ],
)
@pytest.mark.parametrize(("sender", "is_related"), [(ANN, True), (STRANGER, False)])
def test_a_ticket_named_in_words_is_possibly_meant(
    context: AppContext, words: dict[str, str], sender: Address, *, is_related: bool
) -> None:
    number = open_ticket(context)
    address = compose.make_reply_address(number, context.settings, context.signer)
    fields = {name: text.format(n=number, address=address) for name, text in words.items()}
    filing = deliver(context, make_mail(sender=sender, **fields))
    assert filing.outcome is Outcome.OPENED
    assert count_rows(context, TicketRelation) == is_related


@pytest.mark.parametrize(
    ("contact", "colleague", "joins"),
    [
        ("sam@clinic.example", "tia@clinic.example", True),
        ("sam@gmail.com", "tia@gmail.com", False),
        ("sam@clinic.example", "tia@other.example", False),
        ("sam@clinic.example", "tia@north.example", False),
        ("sam@clinic.example", "tia@sub.clinic.example", False),
    ],
)
def test_a_colleague_of_the_contact_answers_our_notice(
    context: AppContext, contact: str, colleague: str, *, joins: bool
) -> None:
    number = open_ticket(context, make_mail(sender=Address("", contact)))
    token = compose.make_reply_address(number, context.settings, context.signer)
    item = make_mail("For Dr. Ude", sender=Address("", colleague), to=(Address("", token),))
    assert (deliver(context, item).ticket_id == number) is joins


def test_thanks_on_a_ticket_carry_a_hint_and_reopen_it(context: AppContext) -> None:
    first = make_mail()
    number = open_ticket(context, first)
    complete(context, number)
    filing = deliver(
        context, make_mail("Thank you!", in_reply_to=first.message_id, is_only_thanks=True)
    )
    assert ONLY_THANKS_CAVEAT in get_message(context, filing).caveats
    assert get_ticket_facts(context, number)["status"] is Status.OPEN


# -- To and Cc ----


def test_people_in_copy_are_kept_and_offered(context: AppContext) -> None:
    joe, biller = Address("Joe", "joe@practice.example"), Address("", "biller@gmail.com")
    robot = Address("", "no-reply@portal.example")
    number = open_ticket(context, make_mail(to=(OURS, joe), cc=(biller, CARLA, robot, ANN)))
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.messages[0].to == [[OURS.name, OURS.email], ["Joe", "joe@practice.example"]]
        assert ["", "biller@gmail.com"] in ticket.messages[0].cc
        copied = answer.list_copied(session, ticket, context.settings)
    assert [person.email for person in copied] == [joe.email, biller.email]


# -- one click to take it back ----


def make_actions(context: AppContext) -> Actions:
    return Actions(context.store, context.desk, {**TICKET_HANDLERS, **HANDLERS})


def test_the_sender_is_made_the_contact_and_that_is_undone(context: AppContext) -> None:
    number = deliver(context, make_forward()).ticket_id
    assert number is not None
    before = get_ticket_facts(context, number)
    carla = Actor("Carla Consult", RIGHTS_BY_ROLE[Role.AGENT])
    actions = make_actions(context)
    actions.perform(number, UseSender(), actor=carla, now=context.clock())
    facts = get_ticket_facts(context, number)
    assert (facts["contacts"], facts["company"]) == ([CARLA.email], "")
    assert not any(map(correspondents.is_route_caveat, facts["caveats"]))
    assert get_contact(context, MEL.email) is not None
    actions.perform(number, Undo(), actor=carla, now=context.clock())
    assert get_ticket_facts(context, number) == before


def test_parsed_mail_of_a_colleague_s_phone_ends_the_same(context: AppContext) -> None:
    raw = (
        "From: Carla Consult <carla@desk.example>\r\nTo: support@localhost\r\n"
        "Subject: Fwd: Copay refund\r\nMessage-ID: <f1@desk.example>\r\n"
        "Content-Type: text/html; charset=utf-8\r\n\r\n"
        "<div>For the queue</div><div>Begin forwarded message:</div><br>"
        '<blockquote type="cite"><div><b>From: </b>Mel Dodd &lt;mel.dodd@north.example&gt;</div>'
        "<div><b>Date: </b>27 November 2026</div><div><b>To: </b>Carla</div>"
        "<div><b>Subject: </b>Copay refund</div><br><div>How?</div></blockquote>\r\n"
    )
    (item,) = message.parse(raw.encode())
    facts = get_ticket_facts(context, deliver(context, item).ticket_id)
    assert facts["contacts"] == [MEL.email]
    assert count_rows(context, Task) == 0
