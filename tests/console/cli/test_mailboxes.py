"""intake imap --dry-run and intake import mail, against a real Dovecot."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.first_look import Checkpoint
from tests.ingest.imap.test_first_look import append_old_mails
from tests.support import dovecot
from tests.support.command import Intake
from tests.support.dovecot import ALL, PASSWORD, Dovecot
from workflow.context import AppContext

USER = "desk@example.org"


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dovecot]:
    del home
    if not dovecot.BINARY:
        pytest.skip("Dovecot is not installed (Debian: dovecot-imapd): IMAP is NOT tested")
    with dovecot.run_dovecot() as running:
        name = USER.replace("@", "%40")
        monkeypatch.setenv(
            "INTAKE_IMAP_URLS", f"imap://{name}:{PASSWORD}@{ALL}:{running.port}/INBOX"
        )
        append_old_mails(running, USER)
        yield running


@pytest.mark.usefixtures("server", "at_home")
def test_a_dry_run_of_the_reader_says_how_many_mails_would_come(intake: Intake) -> None:
    assert "0 mails would come now, 3 would stay" in intake("imap", "--dry-run").output
    output = intake("imap", "--dry-run", "--since", "2025-03-12").output
    assert "1 mail would come now, 2 would stay" in output
    [row] = json.loads(intake("imap", "--dry-run", "--since", "all", "--json").output)
    assert (row["taken"], row["left"], row["known"]) == (3, 0, False)
    assert (
        "expected now, all or a date"
        in intake("imap", "--dry-run", "--since", "soon", code=2).output
    )


def test_older_mail_is_counted_first_and_imported_with_apply(
    at_home: AppContext, server: Dovecot, intake: Intake
) -> None:
    key = f"{USER}@{ALL}/INBOX"
    assert "start `intake imap` first" in intake("import", "mail", code=78).output
    with server.connect_client(USER) as person:
        validity = person.select_folder("INBOX")[b"UIDVALIDITY"]
    since = at_home.clock()
    StoredCheckpoints(at_home.store).save(key, Checkpoint(validity, 3, 3, since, 3))
    output = intake("import", "mail").output
    assert "3 mails would be imported, arrived from 2025-03-10 to 2025-03-12" in output
    assert "--apply" in output
    assert "3 mails imported" in intake("import", "mail", "--apply").output
    [row] = json.loads(intake("import", "mail", "--mailbox", key, "--json").output)
    assert (row["mails"], row["known"]) == (0, 3)
    assert key in intake("import", "mail", "--mailbox", "other", code=2).output


@pytest.mark.usefixtures("at_home")
def test_without_a_mailbox_the_setting_is_named(intake: Intake) -> None:
    for command in (("imap", "--dry-run"), ("import", "mail")):
        assert "INTAKE_IMAP_URLS" in intake(*command, code=78).output
