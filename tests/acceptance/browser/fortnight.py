"""A desk after a fortnight: four doors, six people, every way a ticket can stand.

All through the house's own verbs.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import read_waiting
from parsers import phone_call
from parsers.item import Format
from tests.acceptance.browser.messages import PDF, export, form, letter, png
from tests.support.context import HandClock, company, reach, staff
from workflow.context import House
from workflow.filing.threading import TICKET
from workflow.mail.compose import SURVEY
from workflow.mail.sender import send_waiting
from workflow.models.core import Answer, CompanyDomain, Outgoing, Staff, Ticket
from workflow.models.states import Role, Status
from workflow.operations import status
from workflow.operations.checks import Checks
from workflow.operations.sweep import raise_tasks
from workflow.process import Milestone, Template
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
PLAIN_ERA = """Our ERA for February shows three claims as CO-197, but we have the authorization numbers on file.

Ruby Chen
Office manager
"""
ERA = """<p>Hello,</p><p>Our <b>ERA for February</b> shows three claims as <span style="color:#b00020">CO-197</span>,
but we have the authorization numbers on file.</p>
<table><tr><th>Payer</th><th>Count</th></tr><tr><td>Blue Shield</td><td>3</td></tr></table><p>Ruby</p>"""


@dataclass
class Desk:
    """The house while it is filled: what came in, and what people did."""

    house: House
    clock: HandClock

    def at(self, day: int, hour: int, minute: int = 0) -> None:
        """Turn the clock on to a time in New York in March 2026; the 2nd is a Monday."""
        then = datetime(2026, 3, day, hour, minute, tzinfo=ZoneInfo("America/New_York"))
        assert then >= self.clock.now, "time goes one way"
        self.clock.now = then.astimezone(UTC)

    def comes(self, transport: Transport, kind: Format, raw: bytes, **envelope: object) -> int:
        """Something comes through a door and is read, its notice sent.

        The number of the newest ticket.
        """
        Intake(self.house).accept(
            Arrival(transport=transport, format=kind, raw=raw, envelope=envelope)
        )
        read_waiting(self.house)
        send_waiting(self.house)
        return self.newest()

    def mail(self, raw: bytes) -> int:
        return self.comes(Transport.SMTP, Format.MAIL, raw)

    def form(self, raw: bytes) -> int:
        return self.comes(Transport.FORMSTACK, Format.FORMSTACK, raw)

    def book(self, raw: bytes) -> int:
        return self.comes(Transport.FOLDER, Format.SECURE_MESSAGE, raw)

    def call(
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
        return self.comes(Transport.CONSOLE, Format.PHONE, raw, owner=by)

    def newest(self) -> int:
        with self.house.store.reading() as session:
            return (
                session.scalars(select(Ticket.id).order_by(Ticket.id.desc()).limit(1)).first() or 0
            )

    def takes(self, name: str, *numbers: int) -> None:
        with self.house.store.transaction() as session:
            person = session.scalars(select(Staff).where(Staff.name == name)).one()
            for number in numbers:
                ticket = session.get_one(Ticket, number)
                self.house.desk.assign(session, ticket, person, by=name, now=self.clock())

    def ticks(self, number: int, *milestones: Milestone, by: str = ME) -> None:
        reach(self.house, number, *milestones, by=by)
        send_waiting(self.house)

    def completes(self, number: int, by: str, score: int = 0, comment: str = "") -> None:
        """A ticket to its end; its survey answered with this score."""
        for milestone in (Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED):
            self.ticks(number, milestone, by=by)
            self.clock.turn(minutes=50)
        with self.house.store.transaction() as session:
            ticket = session.get_one(Ticket, number)
            self.house.desk.recap(
                session, ticket, "The claims were filed again.", by=by, now=self.clock()
            )
        send_waiting(self.house)
        self.clock.turn(minutes=5)
        send_waiting(self.house)
        with self.house.store.transaction() as session:
            survey = session.scalar(
                select(Outgoing).where(
                    Outgoing.ticket_id == number, Outgoing.template == Template.SURVEY
                )
            )
            if score and survey is not None:
                session.add(
                    Answer(outbox_id=survey.id, score=score, comment=comment, at=self.clock())
                )

    def notes(self, number: int, text: str, by: str = ME) -> None:
        with self.house.store.transaction() as session:
            person = session.scalars(select(Staff).where(Staff.name == by)).one()
            notes.add(
                session, session.get_one(Ticket, number), text, by=person.name, now=self.clock()
            )

    def address_of(self, number: int) -> str:
        """Where an answer to our mail about this ticket goes."""
        return f"support+{TICKET}-{self.house.signer.token(TICKET, number)}@localhost"

    def survey_of(self, number: int) -> str:
        """The path of the survey of a completed ticket."""
        with self.house.store.reading() as session:
            found = select(Outgoing.id).where(
                Outgoing.ticket_id == number, Outgoing.template == Template.SURVEY
            )
            return f"/survey/{self.house.signer.token(SURVEY, session.scalars(found).one())}"


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


def fill(house: House, clock: HandClock) -> Fortnight:
    """Two weeks of work; at the end it is Thursday the 12th, 15:40 in New York."""
    desk = Desk(house, clock)
    _people(house)
    completed = _last_week(desk)
    form_, row, merged = _this_week(desk)
    rich = _the_rich_one(desk)
    called, failed = _today(desk)
    raise_tasks(house, clock())
    for name in ("smtp", "folder", "webhooks", "worker", "clock"):
        status.alive(house, name)
    Checks(house).round()
    return Fortnight(rich, form_, row, called, completed, merged, failed, desk.survey_of(completed))


def _people(house: House) -> None:
    with house.store.transaction() as session:
        lead, manager = (
            staff(session, "Priya Nair", Role.LEAD),
            staff(session, "Marcus Webb", Role.LEAD),
        )
        agents = [staff(session, name) for name in (ME, "Olga Petrova", "James Cole")]
        staff(session, "Helen Park", Role.AUDITOR)
        for n, (name, domain) in enumerate(PRACTICES.items()):
            made = company(session, name, manager=(lead, manager)[n % 2], number=str(40210 + 7 * n))
            made.consultant = agents[n % 3]
            session.add(CompanyDomain(domain=domain, company=made))


def _last_week(desk: Desk) -> int:
    """One a day, all completed; the number of the first."""
    told = [
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
        zip(told, agents, strict=True), start=2
    ):
        desk.at(day, 10, 7 * day)
        numbers.append(desk.mail(letter(who, subject, f"{text}\n\n{who[0]}\n")))
        desk.at(day, 11, 9 * day)
        desk.takes(by, numbers[-1])
        desk.completes(numbers[-1], by, score, comment)
    return numbers[0]


def _this_week(desk: Desk) -> tuple[int, int, int]:
    """A form that is overdue and escalated, two rows of an export, a doubled form merged, spam."""
    desk.at(9, 9, 12)
    first = desk.form(
        form(
            NORTHGATE,
            SAM,
            "Denied: no referral on file",
            "Four visits were denied for a missing referral.",
            Phone="555-0142",
            Payer="United",
            **{"How many claims": "4"},
        )
    )
    desk.at(9, 11, 30)
    desk.takes("Olga Petrova", first)
    desk.at(10, 8, 45)
    row = (
        desk.book(
            export(
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
    desk.at(10, 13, 20)
    desk.takes("James Cole", row)
    desk.ticks(row, Milestone.FOLLOW_UP_SENT, by="James Cole")
    again = desk.form(form(NORTHGATE, SAM, "Denied: no referral on file", "Once more, to be sure."))
    spam = desk.mail(
        letter(("Growth Team", "offers@bulk-seo.example"), "Rank your clinic #1", "Buy now.")
    )
    with desk.house.store.transaction() as session:
        into, now = session.get_one(Ticket, first), desk.clock()
        desk.house.desk.merge(
            session, session.get_one(Ticket, again), into, by="Olga Petrova", now=now
        )
        ended = session.get_one(Ticket, spam)
        desk.house.desk.end(session, ended, Status.SPAM, by=ME, reason="advertising", now=now)
    return first, row, again


def _the_rich_one(desk: Desk) -> int:
    """A mail with everything on it, followed up by ME, and the customer's answer."""
    desk.at(11, 15, 5)
    files = (
        ("era-february.png", "image/png", png()),
        ("authorizations.pdf", "application/pdf", PDF),
    )
    number = desk.mail(letter(RUBY, "CO-197 denials on the February ERA", PLAIN_ERA, ERA, files))
    desk.at(11, 15, 40)
    desk.takes(ME, number)
    desk.ticks(number, Milestone.FOLLOW_UP_SENT)
    desk.notes(number, "Blue Shield confirms the numbers; resubmission takes five business days.")
    raise_tasks(desk.house, desk.clock())
    desk.at(12, 9, 30)
    text = (
        "Thanks for calling back. The two older ones are from January.\n\n> We have received your"
        " request.\n"
    )
    desk.mail(
        letter(RUBY, "Re: CO-197 denials on the February ERA", text, to=desk.address_of(number))
    )
    return number


def _today(desk: Desk) -> tuple[int, int]:
    desk.at(12, 11, 2)
    desk.mail(
        letter(
            DAN,
            "Eligibility check fails since Monday",
            "Every eligibility check times out.\n\nDan\n",
        )
    )
    desk.at(12, 13, 15)
    words = "Claims of the new provider carry the group NPI."
    called = desk.call(GRACE, HARBOR, "Wrong NPI on claims", words, ME, "555-0187")
    desk.form(
        form(
            BAYVIEW,
            TOM,
            "Video visits unpaid",
            "Video visits of January are unpaid.",
            Telemedicine="Yes",
        )
    )
    desk.at(12, 14, 48)
    desk.mail(
        letter(
            MEI,
            "Patient balance report",
            "The balance report has no totals since the update.\n\nMei\n",
        )
    )
    desk.mail(
        letter(
            ("Lou Barnes", "lou.barnes@mailbox.example"),
            "Question about a bill",
            "Whom do I call?\n",
        )
    )
    broken = Arrival(
        transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=b"this is no workbook"
    )
    failed = Intake(desk.house).accept(broken)
    read_waiting(desk.house)
    desk.at(12, 15, 40)
    return called, failed
