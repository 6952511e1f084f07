"""A desk after a fortnight: four channels, six people, tickets in every state.

Everything comes about by the functions of the application.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers import phone_call
from parsers.item import Format
from tests.acceptance.browser.messages import PDF, make_form, make_mail, make_png, make_workbook
from tests.support.context import HandClock, create_company, create_staff, reach
from workflow.context import AppContext
from workflow.mail.compose import SURVEY_PURPOSE
from workflow.mail.sender import send_waiting
from workflow.models.core import CompanyDomain, OutgoingMail, Staff, SurveyAnswer, Ticket
from workflow.models.states import Role, Status
from workflow.operations import status
from workflow.operations.checks import SelfChecks
from workflow.operations.sweep import raise_tasks
from workflow.process import Milestone, Template
from workflow.runtime.crypto import TICKET
from workflow.tickets import notes

ME = "Ann Lee"
RUBY = ("Ruby Chen", "ruby.chen@sunrise-family.example")
TOM = ("Tom Alvarez", "tom@bayview-pediatrics.example")
GRACE = ("Grace Okafor", "gokafor@harborpoint.example")
DAN = ("Dan Whitfield", "dan.whitfield@lakeside-ortho.example")
MEI = ("Mei Tanaka", "mei@cedarvalley.example")
SAM = ("Sam Ortiz", "billing@northgate-uc.example")
SUNRISE, BAYVIEW, HARBOR = (
    "Sunrise Family Practice",
    "Bayview Pediatrics",
    "Harbor Point Cardiology",
)
LAKESIDE, CEDAR, NORTHGATE = (
    "Lakeside Orthopedics",
    "Cedar Valley Family Health",
    "Northgate Urgent Care",
)
PRACTICES = {
    SUNRISE: "sunrise-family.example",
    BAYVIEW: "bayview-pediatrics.example",
    HARBOR: "harborpoint.example",
    LAKESIDE: "lakeside-ortho.example",
    CEDAR: "cedarvalley.example",
    NORTHGATE: "northgate-uc.example",
}
PLAIN_ERA = """Our ERA for February shows three claims as CO-197, but we have the \
authorization numbers on file.

Ruby Chen
Office manager
"""
ERA = """<p>Hello,</p><p>Our <b>ERA for February</b> \
shows three claims as <span style="color:#b00020">CO-197</span>,
but we have the authorization numbers on file.</p>
<table><tr><th>Payer</th><th>Count</th></tr><tr><td>Blue Shield</td><td>3</td></tr></table>\
<p>Ruby</p>"""


@dataclass
class Desk:
    """Fills the application: receives items and acts as its people do."""

    app_context: AppContext
    clock: HandClock

    def set_time(self, day: int, hour: int, minute: int = 0) -> None:
        """Turn the clock on to a time in New York in March 2026; the 2nd is a Monday."""
        then = datetime(2026, 3, day, hour, minute, tzinfo=ZoneInfo("America/New_York"))
        assert then >= self.clock.now, "time goes one way"
        self.clock.now = then.astimezone(UTC)

    def receive(self, transport: Transport, kind: Format, raw: bytes, **envelope: object) -> int:
        """Receive an item, process it and send its notice; return the newest ticket's number."""
        Intake(self.app_context).accept(
            Arrival(transport=transport, format=kind, raw=raw, envelope=envelope)
        )
        process_waiting(self.app_context)
        send_waiting(self.app_context)
        return self.find_newest()

    def receive_mail(self, raw: bytes) -> int:
        return self.receive(Transport.SMTP, Format.MAIL, raw)

    def receive_form(self, raw: bytes) -> int:
        return self.receive(Transport.FORMSTACK, Format.FORMSTACK, raw)

    def receive_workbook(self, raw: bytes) -> int:
        return self.receive(Transport.FOLDER, Format.SECURE_MESSAGE, raw)

    def record_call(
        self,
        who: tuple[str, str],
        practice: str,
        subject: str,
        text: str,
        by: str,
        number: str = "",
    ) -> int:
        raw = phone_call.compose(
            call_id=subject,
            company=practice,
            name=who[0],
            email=who[1],
            phone=number,
            subject=subject,
            text=text,
            created_by=by,
        )
        return self.receive(Transport.CONSOLE, Format.PHONE, raw, owner=by)

    def find_newest(self) -> int:
        with self.app_context.store.read_only() as session:
            return (
                session.scalars(select(Ticket.id).order_by(Ticket.id.desc()).limit(1)).first() or 0
            )

    def assign(self, name: str, *numbers: int) -> None:
        with self.app_context.store.transaction() as session:
            person = session.scalars(select(Staff).where(Staff.name == name)).one()
            for number in numbers:
                ticket = session.get_one(Ticket, number)
                self.app_context.desk.assign(session, ticket, person, by=name, now=self.clock())

    def tick(self, number: int, *milestones: Milestone, by: str = ME) -> None:
        reach(self.app_context, number, *milestones, by=by)
        send_waiting(self.app_context)

    def complete(self, number: int, by: str, score: int = 0, comment: str = "") -> None:
        """A ticket to its end; its survey answered with this score."""
        for milestone in (Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED):
            self.tick(number, milestone, by=by)
            self.clock.turn(minutes=50)
        with self.app_context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)
            self.app_context.desk.recap(
                session, ticket, "The claims were filed again.", by=by, now=self.clock()
            )
        send_waiting(self.app_context)
        self.clock.turn(minutes=5)
        send_waiting(self.app_context)
        with self.app_context.store.transaction() as session:
            survey = session.scalar(
                select(OutgoingMail).where(
                    OutgoingMail.ticket_id == number, OutgoingMail.template == Template.SURVEY
                )
            )
            if score and survey is not None:
                session.add(
                    SurveyAnswer(outbox_id=survey.id, score=score, comment=comment, at=self.clock())
                )

    def add_note(self, number: int, text: str, by: str = ME) -> None:
        with self.app_context.store.transaction() as session:
            person = session.scalars(select(Staff).where(Staff.name == by)).one()
            notes.add_note(
                session, session.get_one(Ticket, number), text, by=person.name, now=self.clock()
            )

    def find_address(self, number: int) -> str:
        """Return the address for answers to our mail about a ticket."""
        return f"support+{TICKET}-{self.app_context.signer.make_token(TICKET, number)}@localhost"

    def find_survey_link(self, number: int) -> str:
        """Return the path of the survey of a completed ticket."""
        surveys = select(OutgoingMail.id).where(
            OutgoingMail.ticket_id == number, OutgoingMail.template == Template.SURVEY
        )
        with self.app_context.store.read_only() as session:
            mail_id = session.scalars(surveys).one()
        return f"/survey/{self.app_context.signer.make_token(SURVEY_PURPOSE, mail_id)}"


@dataclass(frozen=True)
class Fortnight:
    """The numbers of what a test wants to look at."""

    rich: int  # a mail with HTML, picture and PDF; owned by ME, at 5-Audit
    form: int
    row: int
    called: int
    completed: int
    merged: int
    failed: int  # a delivery
    survey: str  # a path


def fill(app_context: AppContext, clock: HandClock) -> Fortnight:
    """Two weeks of work; at the end it is Thursday the 12th, 15:40 in New York."""
    desk = Desk(app_context, clock)
    _add_people(app_context)
    completed_ticket = _add_last_week(desk)
    form_, row, merged_ticket = _add_this_week(desk)
    rich = _add_rich_ticket(desk)
    phone_ticket, failed_delivery = _add_today(desk)
    raise_tasks(app_context, clock())
    for name in ("smtp", "folder", "webhooks", "worker", "clock"):
        status.record_alive(app_context, name)
    SelfChecks(app_context).run_due()
    return Fortnight(
        rich,
        form_,
        row,
        phone_ticket,
        completed_ticket,
        merged_ticket,
        failed_delivery,
        desk.find_survey_link(completed_ticket),
    )


def _add_people(app_context: AppContext) -> None:
    with app_context.store.transaction() as session:
        lead, manager = (
            create_staff(session, "Priya Nair", Role.LEAD),
            create_staff(session, "Marcus Webb", Role.LEAD),
        )
        agents = [create_staff(session, name) for name in (ME, "Olga Petrova", "James Cole")]
        create_staff(session, "Helen Park", Role.AUDITOR)
        for n, (name, domain) in enumerate(PRACTICES.items()):
            company = create_company(
                session, name, manager=(lead, manager)[n % 2], number=str(40210 + 7 * n)
            )
            company.consultant = agents[n % 3]
            session.add(CompanyDomain(domain=domain, company=company))


def _add_last_week(desk: Desk) -> int:
    """Add one request a day, all completed; return the number of the first."""
    requests = [
        (
            RUBY,
            "Payment posted twice",
            "The Aetna payment of February 12 is on the account twice.",
            5,
            "Fast, clear.",
        ),
        (
            TOM,
            "Which code for telehealth?",
            "Do we bill 99213 with modifier 95 from March on?",
            4,
            "",
        ),
        (
            GRACE,
            "Statements did not go out",
            "Patients say they got no statements in February.",
            5,
            "Thank you!",
        ),
        (
            DAN,
            "Rejected at the clearinghouse",
            "Nine claims came back, the payer ID wrong.",
            3,
            "It took a while.",
        ),
        (MEI, "Fee schedule update", "Please load the new Cigna fee schedule for 2026.", 4, ""),
    ]
    agents, numbers = (ME, "Olga Petrova", ME, "James Cole", ME), []
    for day, ((who, subject, text, score, comment), by) in enumerate(
        zip(requests, agents, strict=True), start=2
    ):
        desk.set_time(day, 10, 7 * day)
        numbers.append(desk.receive_mail(make_mail(who, subject, f"{text}\n\n{who[0]}\n")))
        desk.set_time(day, 11, 9 * day)
        desk.assign(by, numbers[-1])
        desk.complete(numbers[-1], by, score, comment)
    return numbers[0]


def _add_this_week(desk: Desk) -> tuple[int, int, int]:
    """A form that is overdue and escalated, two rows of an export, a doubled form merged, spam."""
    desk.set_time(9, 9, 12)
    first = desk.receive_form(
        make_form(
            NORTHGATE,
            SAM,
            "Denied: no referral on file",
            "Four visits were denied for a missing referral.",
            Phone="555-0142",
            Payer="United",
            **{"How many claims": "4"},
        )
    )
    desk.set_time(9, 11, 30)
    desk.assign("Olga Petrova", first)
    desk.set_time(10, 8, 45)
    row = (
        desk.receive_workbook(
            make_workbook(
                (
                    CEDAR,
                    *MEI,
                    "Secondary not billed",
                    "The secondary insurance was never billed for the January visits.",
                ),
                (
                    SUNRISE,
                    *RUBY,
                    "Refund check",
                    "A refund check came back. Where is it to go now?",
                ),
            )
        )
        - 1
    )
    desk.set_time(10, 13, 20)
    desk.assign("James Cole", row)
    desk.tick(row, Milestone.FOLLOW_UP_SENT, by="James Cole")
    again = desk.receive_form(
        make_form(NORTHGATE, SAM, "Denied: no referral on file", "Once more, to be sure.")
    )
    spam = desk.receive_mail(
        make_mail(("Growth Team", "offers@bulk-seo.example"), "Rank your clinic #1", "Buy now.")
    )
    with desk.app_context.store.transaction() as session:
        into, now = session.get_one(Ticket, first), desk.clock()
        desk.app_context.desk.merge(
            session, session.get_one(Ticket, again), into, by="Olga Petrova", now=now
        )
        ended = session.get_one(Ticket, spam)
        desk.app_context.desk.close(
            session, ended, Status.SPAM, by=ME, reason="advertising", now=now
        )
    return first, row, again


def _add_rich_ticket(desk: Desk) -> int:
    """A mail with everything on it, followed up by ME, and the customer's answer."""
    desk.set_time(11, 15, 5)
    files = (
        ("era-february.png", "image/png", make_png()),
        ("authorizations.pdf", "application/pdf", PDF),
    )
    number = desk.receive_mail(
        make_mail(RUBY, "CO-197 denials on the February ERA", PLAIN_ERA, ERA, files)
    )
    desk.set_time(11, 15, 40)
    desk.assign(ME, number)
    desk.tick(number, Milestone.FOLLOW_UP_SENT)
    desk.add_note(
        number, "Blue Shield confirms the numbers; resubmission takes five business days."
    )
    raise_tasks(desk.app_context, desk.clock())
    desk.set_time(12, 9, 30)
    text = (
        "Thanks for calling back. The two older ones are from January.\n\n> We have received your"
        " request.\n"
    )
    desk.receive_mail(
        make_mail(
            RUBY, "Re: CO-197 denials on the February ERA", text, to=desk.find_address(number)
        )
    )
    return number


def _add_today(desk: Desk) -> tuple[int, int]:
    desk.set_time(12, 11, 2)
    desk.receive_mail(
        make_mail(
            DAN,
            "Eligibility check fails since Monday",
            "Every eligibility check times out.\n\nDan\n",
        )
    )
    desk.set_time(12, 13, 15)
    words = "Claims of the new provider carry the group NPI."
    phone_ticket = desk.record_call(GRACE, HARBOR, "Wrong NPI on claims", words, ME, "555-0187")
    desk.receive_form(
        make_form(
            BAYVIEW,
            TOM,
            "Video visits unpaid",
            "Video visits of January are unpaid.",
            Telemedicine="Yes",
        )
    )
    desk.set_time(12, 14, 48)
    desk.receive_mail(
        make_mail(
            MEI,
            "Patient balance report",
            "The balance report has no totals since the update.\n\nMei\n",
        )
    )
    desk.receive_mail(
        make_mail(
            ("Lou Barnes", "lou.barnes@mailbox.example"),
            "Question about a bill",
            "Whom do I call?\n",
        )
    )
    broken = Arrival(
        transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=b"this is no workbook"
    )
    failed = Intake(desk.app_context).accept(broken)
    process_waiting(desk.app_context)
    desk.set_time(12, 15, 40)
    return phone_ticket, failed
