"""Backup and restore: everything comes back, no secret leaves, nothing is overwritten unasked."""

import os
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.reader import Checkpoint
from ingest.processing.process import process_waiting
from tests.support.command import Intake
from tests.support.context import count_rows
from tests.support.servers import Postgres
from workflow.context import AppContext, open_context
from workflow.mail.sender import send_waiting
from workflow.models.core import Heartbeat, OutgoingMail, Task, Ticket
from workflow.models.states import OutboxState
from workflow.operations import status
from workflow.operations.backup import remove_secrets, render_toml, withhold_mail
from workflow.settings.settings import load_settings

BIG = b"From: a@b.test\r\nSubject: big\r\n\r\n" + b"a line of a large mail\r\n" * 20_000
TOML = """
relay_url = "smtps://me:hunter2@relay.test"
redis_url = "redis://:hunter2@127.0.0.1/0"
addresses = "support@localhost"
tls_key = "/etc/key.pem"
desk_lead = "Ann \\"A\\" Lee"
survey_days = 30
business_days = false

[[mailbox]]
host = "imap.test"
user = "support"
password = "hunter2"
[mailbox.oauth2]
token_url = "https://login.test/token"
client_id = "7"
client_secret = "hunter2"
refresh_token = "hunter2"

[form.6606394]
key = "hunter2"
handshake = "hunter2"
header = "X-Mine"
"""


@pytest.fixture
def backed_up(intake: Intake, at_home: AppContext, tmp_path: Path) -> Path:
    del at_home
    (tmp_path / "intake.toml").write_text(TOML)
    intake("ticket", "new", "--text", "hello", "--company", "Acme")
    intake("deliver", "mail", "-", stdin=BIG)
    intake("backup", tmp_path / "b.tar")
    return tmp_path / "b.tar"


def test_no_secret_is_in_it_and_only_we_can_read_it(backed_up: Path, home: Path) -> None:
    key = (home / "secret.keys").read_bytes().strip()
    packed = backed_up.read_bytes()
    assert b"hunter2" not in packed
    assert key not in packed
    assert backed_up.stat().st_mode & 0o077 == 0
    with tarfile.open(backed_up) as tar:
        blobs = [name for name in tar.getnames() if name.startswith("blobs/")]
        settings = tar.extractfile("intake.toml")
        assert settings is not None
        settings_data = tomllib.loads(settings.read().decode())
    assert len(blobs) == 1
    assert settings_data["mailbox"][0]["host"] == "imap.test"
    assert settings_data["desk_lead"] == 'Ann "A" Lee'
    assert settings_data["tls_key"] == "/etc/key.pem"


def test_settings_survive_as_toml() -> None:
    settings_data = tomllib.loads(TOML)
    assert tomllib.loads(render_toml(settings_data)) == settings_data
    assert remove_secrets(settings_data)["redis_url"] == "redis://127.0.0.1/0"


def test_everything_comes_back_in_an_empty_home(
    intake: Intake, backed_up: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    monkeypatch.setenv("INTAKE_HOME", str(other))
    assert "secret.keys" in intake("restore", backed_up).output
    (other / "secret.keys").write_bytes((home / "secret.keys").read_bytes())
    assert "hello" in intake("ticket", "1").output
    assert '"received": 2' in intake("ledger", "--json").output
    assert len(list((other / "blobs").glob("*/*"))) == 1


def test_a_database_that_holds_tickets_is_overwritten_only_by_force(
    intake: Intake, backed_up: Path
) -> None:
    intake("ticket", "new", "--text", "since then")
    assert "--force" in intake("restore", backed_up, code=1).stderr
    intake("ticket", "2")
    intake("restore", backed_up, "--force")
    intake("ticket", "2", code=1)


def test_what_is_no_backup_is_refused(intake: Intake, tmp_path: Path, home: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    assert "not a backup" in intake("restore", tmp_path / "x.tar", code=1).stderr
    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        tar.add(tmp_path / "x.tar", "x.tar")
    assert "no backup of ours" in intake("restore", tmp_path / "y.tar", code=1).stderr
    assert not (home / "intake.db").exists()


def test_a_backup_overwrites_no_file(intake: Intake, backed_up: Path) -> None:
    assert "exists already" in intake("backup", backed_up, code=1).stderr


def test_postgresql_needs_its_tools(
    intake: Intake, at_home: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del at_home
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("console.bootstrap.ensure_migrated", lambda _: None)
    monkeypatch.setenv("INTAKE_DATABASE_URL", "postgresql+psycopg://u:hunter2@127.0.0.1:1/x")
    output = intake("backup", tmp_path / "p.tar", code=1).stderr
    assert "pg_dump is not on PATH" in output
    assert "hunter2" not in output


# -- after a restore ----

MAIL = b"From: jo@acme.test\r\nMessage-ID: <1@acme.test>\r\nSubject: one\r\n\r\nplease help\r\n"


@pytest.fixture
def database(
    request: pytest.FixtureRequest, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Go on with another, empty database of the same kind.

    PostgreSQL with the tools of its own version.
    """
    del intake
    if request.param == "sqlite":
        return lambda: None
    server: Postgres = request.getfixturevalue("postgres")
    monkeypatch.setenv("PATH", f"{server.tools}:{os.environ['PATH']}")

    def fresh() -> None:
        name = f"backup{os.urandom(4).hex()}"
        request.addfinalizer(lambda: server.drop(name))
        monkeypatch.setenv("INTAKE_DATABASE_URL", server.copy(name))

    fresh()
    return fresh


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_a_restored_system_sends_and_imports_nothing_again(
    intake: Intake,
    database: Callable[[], None],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intake("migrate")
    intake("deliver", "mail", "-", stdin=MAIL)
    intake("deliver", "mail", "-", stdin=BIG)
    first = open_context(load_settings())
    process_waiting(first)
    StoredCheckpoints(first.store).save("box", Checkpoint(7, 42))
    status.record_alive(first, "clock")
    waiting = count_rows(first, OutgoingMail, OutgoingMail.state == OutboxState.WAITING)
    intake("backup", tmp_path / "b.tar")
    assert send_waiting(first) == waiting == 2  # the original goes on
    first.close()

    database()
    other = tmp_path / "other"
    monkeypatch.setenv("INTAKE_HOME", str(other))
    assert "2 mails that waited were held back" in intake("restore", tmp_path / "b.tar").output
    (other / "secret.keys").write_bytes((home / "secret.keys").read_bytes())
    again = open_context(load_settings())
    try:
        assert send_waiting(again) == 0
        assert not (other / "outbox").exists()
        assert count_rows(again, Ticket, Ticket.stage == "4-In Progress") == 2
        assert count_rows(again, Task, Task.text == "tell the customer by other means") == 2
        assert count_rows(again, Heartbeat) == 0
        assert StoredCheckpoints(again.store).load("box") == Checkpoint(7, 42)
        intake(
            "deliver", "mail", "-", stdin=b"Received: again\r\n" + MAIL
        )  # the mailbox handed it over once more
        process_waiting(again)
        assert (count_rows(again, Ticket), count_rows(again, OutgoingMail)) == (2, 2)
        assert withhold_mail(load_settings(), again.clock()) == 0
        assert len(list((other / "blobs").glob("*/*"))) == 1
        intake("ledger")
    finally:
        again.close()
