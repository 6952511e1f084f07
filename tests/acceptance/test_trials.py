"""The trials beside the project: situations of other help desks, played over a real SMTP socket.

They are no part of the project: INTAKE_TRIALS names their folder, else ../shared/trials is looked
for. A situation for which nothing is expected here fails, so that none is left out in silence.
`test_situations.py` has the same kinds in variants of our own.
"""

import json
import os
import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingest.intake import Intake
from ingest.processing import process
from ingest.smtp import listener as smtp_listener
from tests.console.api.test_api import Program
from tests.support.context import create_company, create_staff
from tests.support.signed_in_client import build_app
from workflow.context import AppContext
from workflow.mail import sender as mail_sender
from workflow.models.core import AutomatedMail, CompanyDomain, Filing, Message, OutgoingMail, Ticket
from workflow.models.states import Role, Status
from workflow.process import Template
from workflow.settings.settings import Settings

ROOT = Path(__file__).parents[2]
TRIALS = Path(os.environ.get("INTAKE_TRIALS") or ROOT.parent / "shared" / "trials") / "mail"
FOLDERS = sorted(path.parent for path in TRIALS.glob("*/steps.json"))


@dataclass(frozen=True)
class Outcome:
    """What becomes of a situation.

    `contacts` are those of each ticket, in order; `notices` the addresses that got one.
    """

    contacts: tuple[tuple[str, ...], ...]
    notices: tuple[str, ...]
    words: str = ""  # stand in what a customer's message shows
    caveat: str = ""  # stands in a caveat of the first ticket or its messages
    note: str = ""  # stands in a note
    status: Status = Status.OPEN  # of the first ticket
    automated: int = 0  # mails that lie under Automated
    ours: int = 0  # messages of the desk that came as mail
    tasks: tuple[str, ...] = ()  # beginnings of the open tasks of all tickets


def one(address: str, words: str = "", **more: Any) -> Outcome:
    """A ticket of somebody who got its notice."""
    return Outcome(((address,),), (address,), words, **more)


def without_notice(address: str, words: str = "", **more: Any) -> Outcome:
    return Outcome(((address,),) if address else ((),), (), words, **more)


DANA, TELL = "dana.reed@riverside.example", "tell the customer"
EXPECTED = {
    "04": one(DANA, "Your ERA enrollment for tax id"),
    "09": one("omar.diaz@northgate.example", "remittance of the 20th"),
    "10": Outcome(
        ((DANA,), ("outside.biller@gmail.com",)),
        (DANA,),  # at most one automatic mail in a conversation
        "I found the contract: it says 180.",
        tasks=(TELL,),
    ),
    "11": Outcome(
        (("lucy.bell@clinic-six.example",), ("lucybell77@gmail.com",)),
        ("lucy.bell@clinic-six.example",),  # the second mail answers the notice of the first
        tasks=(TELL,),
    ),
    "23": one("ada.moss@clinic-ten.example", "Please confirm.", note="read receipt"),
    "24": one("ada.moss@clinic-ten.example", note="I am away until Friday."),
    "27": one("cleo.ames@clinic-ten.example", "Thank you!", caveat="only thanks"),
    "31": one(DANA, "These statements were returned to us"),
    "32": one("records-request@riverside.example"),
    "33": one("practice-owner@clinic-eleven.example"),
    "40": one("paula.dean@clinic-21.example", "resend the March statement", caveat="not verified"),
    "43": one("gina.holt@payer-two.example", caveat="secure message: "),
    "44": without_notice("gina.holt@payer-two.example", caveat="secure message: ", tasks=(TELL,)),
    "45": one("gina.holt@payer-two.example", caveat="secure message: "),
    "48": without_notice("", caveat="call (555) 014-7788", tasks=(TELL,)),
    "49": Outcome((), (), automated=2),
    "52": one(
        "vic.moon@clinic-23.example", note="confirm the sender", tasks=("a spam filter holds",)
    ),
    "56": Outcome(
        (("zed.kay@clinic-26.example",),) * 2,
        ("zed.kay@clinic-26.example",),
        "acct 12",
        tasks=(TELL,),
    ),
    "65": one("lia.monk@clinic-34.example", "White words on a dark page"),
    "74": one("sam.ude@clinic-41.example", "I answer for Dr. Ude"),
    "80": one("abe.noll@clinic-51.example", "one page is missing", ours=1),
    "81": without_notice("bea.oto@clinic-52.example", "Here is the W-9.", ours=1),
    "84": Outcome(
        (("eli.rusk@clinic-54.example",),) * 2,
        ("eli.rusk@clinic-54.example",) * 2,
        "The superbills did not reach the payer.",
    ),
    "86": one("records-request@clinic-56.example", "It did not come."),
    "87": Outcome((("scan@clinic-71.example",),) * 3, (), "Scan from device.", tasks=(TELL,) * 3),
    "92": Outcome(
        (("jo.kim@clinic-74.example",),) * 5, ("jo.kim@clinic-74.example",) * 5, "帳單問題"
    ),
    "96": one("mel.dodd@northgate.example", "How do I refund a copay", caveat="forwarded by Carla"),
    "97": one("nan.eads@clinic-84.example", "How can I pay online?", caveat="came through"),
    "9a": one("rae.ives@clinic-86.example", "Please send the denial list by mail instead."),
    "9c": one("sid.lane@clinic-87.example", note="Back on Monday."),
    "9e": one("val.orr@clinic-89.example", "A question sent to your old address."),
    "9f": without_notice("wyn.park@clinic-90.example", "To the one ending 42.", ours=1),
    "9g": one("xia.roe@clinic-91.example", "Please call about acct 4."),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    addresses = ("support@desk.example", "billing@desk.example", "@help.desk.example")
    changes = {"addresses": addresses, "sender": addresses[0], "smtp_listen": "127.0.0.1:0"}
    return settings.model_copy(update={**changes, "notices_per_sender_hour": 1000})


@dataclass
class Player:
    """Plays the steps of a situation on a desk of its own."""

    context: AppContext
    port: int
    program: Program
    values: dict[str, str]  # of the {{NAMES}} in steps and mails

    def play(self, folder: Path) -> None:
        for step in json.loads((folder / "steps.json").read_text()):
            if "file" in step:
                self._send(folder / step["file"], step)
            else:
                body = {key: self._fill(value) for key, value in (step["body"] or {}).items()}
                # Which of its answers is right is another test's concern; some steps are refused.
                headers = {"Authorization": f"Bearer {self.program.token}"}
                path = f"/api/v1{self._fill(step['post'])}"
                assert self.program.client.post(path, json=body, headers=headers).status_code < 500
            self._work()

    def _send(self, path: Path, step: dict[str, Any]) -> None:
        text = self._fill(path.read_bytes().decode("latin-1"))
        raw = re.sub("\r?\n", "\r\n", text).encode("latin-1")
        sender = step["from"]
        if sender is None:
            found = re.search(rb"(?im)^From:.*?([\w.+='-]+@[\w.-]+)", raw)
            sender = found[1].decode() if found else ""
        options = [] if raw.isascii() else ["SMTPUTF8"]
        with smtplib.SMTP("127.0.0.1", self.port) as client:
            to = [self._fill(address) for address in step["to"]]
            assert client.sendmail(sender, to, raw, mail_options=options) == {}

    def _fill(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return text

    def _work(self) -> None:
        process.process_waiting(self.context)
        mail_sender.send_waiting(self.context)
        with self.context.store.read_only() as session:
            newest = select(Filing.ticket_id).where(Filing.ticket_id.is_not(None))
            numbers = list(session.scalars(newest.order_by(Filing.delivery_id)))
        if numbers:
            self.values |= {"TICKET": str(numbers[-1]), "A": str(numbers[0])}
        folder = Path(self.context.settings.home) / "outbox"
        for file in sorted(folder.glob("*.eml"), key=lambda file: int(file.name.split("-")[1])):
            mail = message_from_bytes(file.read_bytes(), policy=policy.default)
            if "+t-" in str(mail["Reply-To"]):
                self.values |= {
                    "REPLY_TO": str(mail["Reply-To"]),
                    "NOTICE_ID": str(mail["Message-ID"]).strip("<>"),
                    "OUR_SUBJECT": str(mail["Subject"]),
                }


@pytest.fixture
def player(context: AppContext) -> Iterator[Player]:
    with context.store.transaction() as session:
        boss = create_staff(session, "boss", Role.ADMIN)
        carla = create_staff(session, "Carla Consult", Role.LEAD)
        carla.email = "carla@desk.example"
        for name, domain in (
            ("Riverside Family Practice", "riverside.example"),
            ("Northgate Pediatrics", "northgate.example"),
        ):
            company = create_company(session, name, manager=boss)
            session.add(CompanyDomain(domain=domain, company=company))
    program = Program(context, build_app(context))
    with smtp_listener.run_in_thread(context.settings, Intake(context).accept) as listener:
        yield Player(context, listener.ports["smtp"], program, {})


def read_outcome(context: AppContext, expected: Outcome) -> Outcome:
    """Return what has become of it; of texts only whether those expected are there."""
    with context.store.read_only() as session:
        tickets = session.scalars(select(Ticket).order_by(Ticket.id)).all()
        messages = session.scalars(select(Message).order_by(Message.id)).all()
        notices = select(OutgoingMail.to).where(OutgoingMail.template == Template.NOTICE)
        shown = [m.reply_text or m.text for m in messages if m.direction == "in"]
        notes = [m.text for m in messages if m.direction == "note"]
        caveats = [c for row in (*tickets[:1], *messages) for c in row.caveats]
        tasks = [t.text for row in tickets for t in row.tasks if not t.done_at]
        return replace(
            expected,
            contacts=tuple(tuple(c.contact.email for c in row.contacts) for row in tickets),
            notices=tuple(session.scalars(notices.order_by(OutgoingMail.id))),
            words=_find(expected.words, shown),
            caveat=_find(expected.caveat, caveats),
            note=_find(expected.note, notes),
            status=tickets[0].status if tickets else Status.OPEN,
            automated=len(session.scalars(select(AutomatedMail)).all()),
            ours=sum(m.direction == "out" and m.delivery_id is not None for m in messages),
            tasks=tuple(
                begun if text.startswith(begun) else text
                for text, begun in zip(
                    tasks, [*expected.tasks, *[TELL] * len(tasks)][: len(tasks)], strict=True
                )
            ),
        )


def _find(words: str, texts: list[str]) -> str:
    return words if any(words in text for text in texts) or not words else f"not in {texts}"


@pytest.mark.skipif(not FOLDERS, reason=f"no trials in {TRIALS}: set INTAKE_TRIALS to their folder")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_trial_ends_as_it_must(player: Player, folder: Path) -> None:
    expected = EXPECTED[folder.name.partition("-")[0]]
    player.play(folder)
    assert read_outcome(player.context, expected) == expected
