"""One request through each door, over real sockets and files, from the queue to 6-Completed.

On both databases.
"""

import hmac
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import select
from werkzeug.serving import make_server

from console.cli.main import cli
from ingest.folder import watcher
from ingest.imap import reader
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.intake import Intake, Transport
from ingest.smtp import listener as smtp_listener
from parsers.item import Format
from tests.ingest.folder.test_watcher import workbook
from tests.support import dovecot
from tests.support.context import counted
from tests.support.servers import Relay, Valkey
from webhooks.app import create
from workflow import background_jobs
from workflow.context import House, open_house
from workflow.models.core import Audit, Delivery, Outgoing, Receipt, Ticket
from workflow.models.states import OutboxState
from workflow.operations.item_faults import ItemFaults
from workflow.process import STEPS, Milestone, Stage, Template
from workflow.settings.settings import Mailbox, load

KEY = "the key of the story"
SUPPORT = "support@localhost"
PAT = "pat@clinic.example"
DOORS = ["smtp", "lmtp", "imap", "formstack", "folder", "call", "pipe"]


@dataclass
class Story:
    """A house with real doors, a real Valkey, a real worker and a real relay."""

    house: House
    valkey: Valkey
    relay: Relay

    def work(self) -> None:
        """Let a worker do what it was woken for, until nothing is left."""
        with Redis.from_url(self.valkey.url) as connection:
            queues = [
                Queue(name, connection=connection, serializer=JSONSerializer)
                for name in background_jobs.QUEUES
            ]
            worker = SimpleWorker(queues, connection=connection, serializer=JSONSerializer)
            worker.work(burst=True, logging_level="CRITICAL")

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not true():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)

    def stored(self, transport: str) -> bool:
        return counted(self.house, Delivery, Delivery.transport == transport) == 1

    def ticket(self) -> Ticket:
        with self.house.store.reading() as session:
            return session.scalars(select(Ticket)).one()

    def tick(self, milestone: Milestone) -> None:
        with self.house.store.transaction() as session:
            ticket = session.scalars(select(Ticket)).one()
            self.house.desk.reach(session, ticket, milestone, by="dana", now=self.house.clock())

    def recap(self) -> None:
        with self.house.store.transaction() as session:
            ticket = session.scalars(select(Ticket)).one()
            self.house.desk.recap(
                session, ticket, "It was resubmitted.", by="dana", now=self.house.clock()
            )


@pytest.fixture
def story(
    tmp_path: Path, database_url: str, valkey: Valkey, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Story]:
    told = {
        "HOME": tmp_path / "home",
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "RELAY_URL": relay.url,
        "FORMSTACK_KEY": KEY,
        "SMTP_LISTEN": "127.0.0.1:0",
        "LMTP_LISTEN": "127.0.0.1:0",
        "FOLDER_SETTLE_SECONDS": 0.05,
        "FOLDER_POLL_SECONDS": 0.2,
    }
    for name, value in told.items():
        monkeypatch.setenv(f"INTAKE_{name}", str(value))
    settings = load()
    waker = background_jobs.Waker(settings.redis_url)
    house = open_house(settings, waker=waker)
    background_jobs.forget_house()
    yield Story(house, valkey, relay)
    background_jobs.forget_house()
    waker.close()
    house.close()


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = f"Pat Doe <{PAT}>"
    mail["To"] = SUPPORT
    mail["Subject"] = "claim rejected for Mrs Example"
    mail["Message-ID"] = f"<{time.monotonic_ns()}@clinic.example>"
    mail["Date"] = "Mon, 23 Nov 2026 10:00:00 +0000"
    mail.set_content("Please call back about the claim.")
    return mail


def through_smtp(story: Story) -> None:
    with smtp_listener.in_thread(story.house.settings, Intake(story.house).accept) as listener:
        with smtplib.SMTP("127.0.0.1", listener.ports["smtp"]) as client:
            client.send_message(message(), PAT, [SUPPORT])
        assert story.stored("smtp"), "the yes came before the commit"


def through_lmtp(story: Story) -> None:
    with smtp_listener.in_thread(story.house.settings, Intake(story.house).accept) as listener:
        with smtplib.LMTP("127.0.0.1", listener.ports["lmtp"]) as client:
            client.send_message(message(), PAT, [SUPPORT])
        assert story.stored("lmtp"), "the yes came before the commit"


def through_imap(story: Story) -> None:
    if dovecot.BINARY is None:
        pytest.skip("Dovecot is not installed (Debian: dovecot-imapd)")
    with dovecot.running() as server, ExitStack() as stack:
        server.deliver("support", bytes(message()))
        box = Mailbox(
            host=dovecot.ALL,
            port=server.port,
            tls=False,
            user="support",
            password=SecretStr(dovecot.PASSWORD),
        )
        seen, stop = set[str](), threading.Event()
        store = story.house.store
        door = reader.Door(
            settings=story.house.settings.model_copy(update={"mailbox": (box,)}),
            accept=Intake(story.house).accept,
            checkpoints=StoredCheckpoints(store),
            faults=partial(ItemFaults, store, story.house.clock, Transport.IMAP),
            seen=seen.add,
            stop=stop,
        )
        _running(stack, stop, reader.serve, (door,))
        story.until(
            lambda: (
                bool(seen)
                and any(b"$Intake" in flags for flags in server.flags("support").values())
            )
        )
        assert story.stored("imap"), "marked before the commit"
        assert not any(b"\\Seen" in flags for flags in server.flags("support").values())


def through_formstack(story: Story) -> None:
    form = {
        "FormID": "1",
        "UniqueID": "77",
        "Name": "Pat Doe",
        "Email": PAT,
        "Practice": "Sunrise",
        "Message": "Please",
    }
    body = urlencode(form).encode()
    signature = hmac.new(KEY.encode(), body, sha256).hexdigest()
    headers = {
        "X-FS-Signature": f"sha256={signature}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    server = make_server("127.0.0.1", 0, create(story.house, Intake(story.house).accept_all))
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert (
        httpx.post(
            f"http://127.0.0.1:{server.port}/formstack", content=body, headers=headers
        ).status_code
        == 202
    )
    thread.join()
    server.server_close()
    assert story.stored("formstack"), "the yes came before the commit"


def through_folder(story: Story) -> None:
    dropbox = story.house.settings.dropbox
    with ExitStack() as stack:
        stop = threading.Event()
        _running(stack, stop, watcher.serve, (story.house, Intake(story.house).accept, stop))
        story.until((dropbox / "rejected").is_dir)
        (dropbox / "export.xlsx").write_bytes(workbook("Please call back."))
        story.until((dropbox / "done" / "export.xlsx").exists)


def through_call(story: Story) -> None:
    told = [
        "ticket",
        "new",
        "--company",
        "Sunrise",
        "--contact",
        PAT,
        "--text",
        "Asks about denials",
    ]
    assert _intake(told).strip() == str(story.ticket().id)


def through_pipe(story: Story) -> None:
    path = story.house.settings.home / "mail.eml"
    path.write_bytes(bytes(message()))
    _intake(["deliver", "mail", str(path)])


def _intake(arguments: list[str]) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def _running(
    stack: ExitStack, stop: threading.Event, serve: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    stack.callback(thread.join, 20)
    stack.callback(stop.set)


THROUGH = {
    "smtp": through_smtp,
    "lmtp": through_lmtp,
    "imap": through_imap,
    "formstack": through_formstack,
    "folder": through_folder,
    "call": through_call,
    "pipe": through_pipe,
}


@pytest.mark.parametrize("door", DOORS)
def test_a_request_becomes_a_ticket_and_walks_to_completed(story: Story, door: str) -> None:
    THROUGH[door](story)
    story.work()

    ticket = story.ticket()
    assert (ticket.stage, ticket.owner_id, ticket.status) == (Stage.IN_PROGRESS, None, "open")
    assert [e.rcpt_tos for e in story.relay.taken] == [[PAT]]
    notice = bytes(story.relay.taken[0].content or b"").decode()
    assert f"#{ticket.id}" in notice
    assert not {"Example", "Please", "denials", "Sunrise"} & set(notice.replace(".", " ").split())

    story.tick(Milestone.FOLLOW_UP_SENT)
    story.tick(Milestone.RESOLVED)
    assert story.ticket().stage is Stage.AUDIT
    story.recap()
    story.work()

    assert (story.ticket().stage, story.ticket().status) == (Stage.COMPLETED, "completed")
    with story.house.store.reading() as session:
        stages = session.scalars(
            select(Audit.detail).where(Audit.action == "stage").order_by(Audit.id)
        )
        assert [s["stage"] for s in stages] == [s.stage.name for s in STEPS]
        mails = session.execute(
            select(Outgoing.template, Outgoing.state).order_by(Outgoing.id)
        ).all()
    assert mails == [
        (t, OutboxState.SENT) for t in (Template.NOTICE, Template.RECAP, Template.SURVEY)
    ]
    assert counted(story.house, Receipt) == counted(story.house, Delivery) == 1


def test_all_doors_together_make_one_ticket_each_and_one_survey_for_one_customer(
    story: Story,
) -> None:
    for door in ("smtp", "formstack", "folder", "pipe"):
        THROUGH[door](story)
    _intake(
        ["ticket", "new", "--company", "Sunrise", "--contact", PAT, "--text", "Asks about denials"]
    )
    story.work()
    assert counted(story.house, Ticket, Ticket.stage == Stage.IN_PROGRESS) == 5
    with story.house.store.transaction() as session:
        for ticket in session.scalars(select(Ticket).order_by(Ticket.id)):
            for milestone in (Milestone.RESOLVED, Milestone.RECAP_SENT, Milestone.FOLLOW_UP_SENT):
                story.house.desk.reach(
                    session, ticket, milestone, by="dana", now=story.house.clock()
                )
    story.work()
    assert counted(story.house, Ticket, Ticket.stage == Stage.COMPLETED) == 5
    assert counted(story.house, Outgoing, Outgoing.template == Template.SURVEY) == 1
    assert counted(story.house, Ticket, Ticket.format == Format.MAIL) == 2
