"""A request through each channel, over real sockets and files, from the queue to 6-Completed.

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
from tests.ingest.folder.test_watcher import build_workbook
from tests.support import dovecot
from tests.support.context import count_rows
from tests.support.servers import Relay, Valkey
from webhooks.app import create_app
from workflow import background_jobs
from workflow.context import AppContext, open_context
from workflow.models.core import AuditEntry, Delivery, OutgoingMail, Receipt, Ticket
from workflow.models.states import OutboxState
from workflow.operations.item_faults import ItemFaults
from workflow.process import STEPS, Milestone, Stage, Template
from workflow.settings.settings import Mailbox, load_settings

KEY = "the key of the story"
SUPPORT = "support@localhost"
PAT = "pat@clinic.example"
CHANNELS = ["smtp", "lmtp", "imap", "formstack", "folder", "call", "pipe"]


@dataclass
class Story:
    """The application with real channels, a real Valkey, a real worker and a real relay."""

    context: AppContext
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
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)

    def is_stored(self, transport: str) -> bool:
        return count_rows(self.context, Delivery, Delivery.transport == transport) == 1

    def get_ticket(self) -> Ticket:
        with self.context.store.read_only() as session:
            return session.scalars(select(Ticket)).one()

    def tick(self, milestone: Milestone) -> None:
        with self.context.store.transaction() as session:
            ticket = session.scalars(select(Ticket)).one()
            self.context.desk.record_milestone(
                session, ticket, milestone, by="dana", now=self.context.clock()
            )

    def send_recap(self) -> None:
        with self.context.store.transaction() as session:
            ticket = session.scalars(select(Ticket)).one()
            self.context.desk.recap(
                session, ticket, "It was resubmitted.", by="dana", now=self.context.clock()
            )


@pytest.fixture
def story(
    tmp_path: Path, database_url: str, valkey: Valkey, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Story]:
    environment = {
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
    for name, value in environment.items():
        monkeypatch.setenv(f"INTAKE_{name}", str(value))
    settings = load_settings()
    notifier = background_jobs.JobNotifier(settings.redis_url)
    context = open_context(settings, notifier=notifier)
    background_jobs.close_context()
    yield Story(context, valkey, relay)
    background_jobs.close_context()
    notifier.close()
    context.close()


def make_message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = f"Pat Doe <{PAT}>"
    mail["To"] = SUPPORT
    mail["Subject"] = "claim rejected for Mrs Example"
    mail["Message-ID"] = f"<{time.monotonic_ns()}@clinic.example>"
    mail["Date"] = "Mon, 23 Nov 2026 10:00:00 +0000"
    mail.set_content("Please call back about the claim.")
    return mail


def send_by_smtp(story: Story) -> None:
    with smtp_listener.run_in_thread(
        story.context.settings, Intake(story.context).accept
    ) as listener:
        with smtplib.SMTP("127.0.0.1", listener.ports["smtp"]) as client:
            client.send_message(make_message(), PAT, [SUPPORT])
        assert story.is_stored("smtp"), "acknowledged before the commit"


def send_by_lmtp(story: Story) -> None:
    with smtp_listener.run_in_thread(
        story.context.settings, Intake(story.context).accept
    ) as listener:
        with smtplib.LMTP("127.0.0.1", listener.ports["lmtp"]) as client:
            client.send_message(make_message(), PAT, [SUPPORT])
        assert story.is_stored("lmtp"), "acknowledged before the commit"


def append_by_imap(story: Story) -> None:
    if dovecot.BINARY is None:
        pytest.skip("Dovecot is not installed (Debian: dovecot-imapd)")
    with dovecot.run_dovecot() as server, ExitStack() as stack:
        server.deliver("support", bytes(make_message()))
        box = Mailbox(
            host=dovecot.ALL,
            port=server.port,
            tls=False,
            user="support",
            password=SecretStr(dovecot.PASSWORD),
        )
        mailboxes, stop = set[str](), threading.Event()
        store = story.context.store
        reader_context = reader.ReaderContext(
            settings=story.context.settings.model_copy(update={"mailbox": (box,)}),
            accept=Intake(story.context).accept,
            checkpoints=StoredCheckpoints(store),
            get_deferred=partial(ItemFaults, store, story.context.clock, Transport.IMAP),
            record_look=mailboxes.add,
            stop=stop,
        )
        _start_process(stack, stop, reader.serve, (reader_context,))
        story.until(
            lambda: (
                bool(mailboxes)
                and any(b"$Intake" in flags for flags in server.read_flags("support").values())
            )
        )
        assert story.is_stored("imap"), "marked before the commit"
        assert not any(b"\\Seen" in flags for flags in server.read_flags("support").values())


def post_by_formstack(story: Story) -> None:
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
    server = make_server(
        "127.0.0.1", 0, create_app(story.context, Intake(story.context).accept_all)
    )
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
    assert story.is_stored("formstack"), "acknowledged before the commit"


def drop_into_folder(story: Story) -> None:
    dropbox = story.context.settings.dropbox
    with ExitStack() as stack:
        stop = threading.Event()
        _start_process(
            stack, stop, watcher.serve, (story.context, Intake(story.context).accept, stop)
        )
        story.until((dropbox / "rejected").is_dir)
        (dropbox / "export.xlsx").write_bytes(build_workbook("Please call back."))
        story.until((dropbox / "done" / "export.xlsx").exists)


def write_down_call(story: Story) -> None:
    arguments = [
        "ticket",
        "new",
        "--company",
        "Sunrise",
        "--contact",
        PAT,
        "--text",
        "Asks about denials",
    ]
    assert _run_intake(arguments).strip() == str(story.get_ticket().id)


def send_by_pipe(story: Story) -> None:
    path = story.context.settings.home / "mail.eml"
    path.write_bytes(bytes(make_message()))
    _run_intake(["deliver", "mail", str(path)])


def _run_intake(arguments: list[str]) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def _start_process(
    stack: ExitStack, stop: threading.Event, serve: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    stack.callback(thread.join, 20)
    stack.callback(stop.set)


SENDERS = {
    "smtp": send_by_smtp,
    "lmtp": send_by_lmtp,
    "imap": append_by_imap,
    "formstack": post_by_formstack,
    "folder": drop_into_folder,
    "call": write_down_call,
    "pipe": send_by_pipe,
}


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_request_becomes_a_ticket_and_walks_to_completed(story: Story, channel: str) -> None:
    SENDERS[channel](story)
    story.work()

    ticket = story.get_ticket()
    assert (ticket.stage, ticket.owner_id, ticket.status) == (Stage.IN_PROGRESS, None, "open")
    assert [e.rcpt_tos for e in story.relay.taken] == [[PAT]]
    notice = bytes(story.relay.taken[0].content or b"").decode()
    assert f"#{ticket.id}" in notice
    assert not {"Example", "Please", "denials", "Sunrise"} & set(notice.replace(".", " ").split())

    story.tick(Milestone.FOLLOW_UP_SENT)
    story.tick(Milestone.RESOLVED)
    assert story.get_ticket().stage is Stage.AUDIT
    story.send_recap()
    story.work()

    assert (story.get_ticket().stage, story.get_ticket().status) == (Stage.COMPLETED, "completed")
    with story.context.store.read_only() as session:
        stages = session.scalars(
            select(AuditEntry.detail).where(AuditEntry.action == "stage").order_by(AuditEntry.id)
        )
        assert [s["stage"] for s in stages] == [s.stage.name for s in STEPS]
        mails = session.execute(
            select(OutgoingMail.template, OutgoingMail.state).order_by(OutgoingMail.id)
        ).all()
    assert mails == [
        (t, OutboxState.SENT) for t in (Template.NOTICE, Template.RECAP, Template.SURVEY)
    ]
    assert count_rows(story.context, Receipt) == count_rows(story.context, Delivery) == 1


def test_all_channels_together_make_one_ticket_each_and_one_survey_for_one_customer(
    story: Story,
) -> None:
    for channel in ("smtp", "formstack", "folder", "pipe"):
        SENDERS[channel](story)
    _run_intake(
        ["ticket", "new", "--company", "Sunrise", "--contact", PAT, "--text", "Asks about denials"]
    )
    story.work()
    assert count_rows(story.context, Ticket, Ticket.stage == Stage.IN_PROGRESS) == 5
    with story.context.store.transaction() as session:
        for ticket in session.scalars(select(Ticket).order_by(Ticket.id)):
            for milestone in (Milestone.RESOLVED, Milestone.RECAP_SENT, Milestone.FOLLOW_UP_SENT):
                story.context.desk.record_milestone(
                    session, ticket, milestone, by="dana", now=story.context.clock()
                )
    story.work()
    assert count_rows(story.context, Ticket, Ticket.stage == Stage.COMPLETED) == 5
    assert count_rows(story.context, OutgoingMail, OutgoingMail.template == Template.SURVEY) == 1
    assert count_rows(story.context, Ticket, Ticket.format == Format.MAIL) == 2
