"""parse, deliver, deliveries, delivery, replay, dismiss, ledger."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

import parsers
from console.presenters import replay, terminal, times
from ingest import intake as intake_module
from ingest.processing import parser_pool
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.command import Intake
from workflow.context import AppContext
from workflow.filing.file_item import file_item
from workflow.models.core import AuditEntry, Delivery, DeliverySheet, Receipt
from workflow.models.states import DeliveryState

ROOT = Path(__file__).parents[3]
MAIL = (
    b"From: Jo <jo@acme.test>\r\nTo: support@localhost\r\nSubject: Claim\r\nMessage-ID:"
    b" <1@acme.test>\r\n\r\nHello\r\n"
)
BROKEN = b"PK\x03\x04 nothing of a workbook"


@pytest.fixture
def broken_file(tmp_path: Path) -> Path:
    path = tmp_path / "broken.xlsx"
    path.write_bytes(BROKEN)
    return path


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "a.eml"
    path.write_bytes(MAIL)
    return path


def parse_lines(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_parse_stores_nothing_and_prints_a_line_an_item(
    intake: Intake, mail: Path, home: Path
) -> None:
    [line] = parse_lines(intake("parse", "mail", mail, "--json").stdout)
    assert line["file"] == str(mail)
    assert line["subject"] == "Claim"
    assert not home.exists()


def test_one_unreadable_file_costs_itself_only(
    intake: Intake, broken_file: Path, tmp_path: Path
) -> None:
    result = intake(
        "parse", "secure-message", broken_file, tmp_path / "none.xlsx", "--json", code=65
    )
    assert [sorted(line) for line in parse_lines(result.stdout)] == [["error", "file"]] * 2


def test_a_bug_of_a_parser_is_an_error_of_the_one_file(
    intake: Intake, mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(raw: bytes, *_: object) -> list[parsers.InboundItem]:
        raise RuntimeError(raw.decode())

    monkeypatch.setitem(parsers.PARSERS, Format.MAIL, explode)
    [line] = parse_lines(intake("parse", "mail", mail, "--json", code=65).stdout)
    assert "RuntimeError" in str(line["error"])
    assert "Hello" not in str(line["error"])


def test_parse_for_people(intake: Intake, mail: Path) -> None:
    output = intake("parse", "mail", mail).stdout
    assert "subject: Claim" in output
    assert "Hello" in output


def test_parse_reply_takes_text_and_html(intake: Intake, tmp_path: Path) -> None:
    text, html = tmp_path / "r.txt", tmp_path / "r.html"
    text.write_text("New words\n\nOn Monday, Ann wrote:\n> old words\n")
    html.write_text("<p>New <b>words</b></p>")
    assert "New words" in str(
        parse_lines(intake("parse", "reply", text, "--json").stdout)[0]["reply_text"]
    )
    assert "New words" in str(
        parse_lines(intake("parse", "reply", "--html", html, "--json").stdout)[0]["reply_text"]
    )
    intake("parse", "mail", "--html", text, code=2)


def test_deliver_prints_the_number_and_the_same_bytes_have_the_same(
    intake: Intake, mail: Path
) -> None:
    assert intake("deliver", "mail", mail).stdout == "1\n"
    assert intake("deliver", "mail", "-", stdin=MAIL).stdout == "1\n"
    [only] = json.loads(intake("deliveries", "--json").stdout)
    assert (only["state"], only["transport"], only["size"]) == ("pending", "pipe", len(MAIL))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("Hello")])
def test_what_is_not_stored_is_always_try_again(
    intake: Intake, mail: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(intake_module.Intake, "accept", fail)
    output = intake("deliver", "mail", mail, code=75).stderr
    assert "Hello" not in output
    assert "Traceback" not in output


def test_wrong_settings_do_not_bounce_mail(
    intake: Intake, mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_MAIL_LIMIT", "much")
    assert "INTAKE_MAIL_LIMIT" in intake("deliver", "mail", mail, code=75).stderr


# -- failed ones ----

TABLE = (
    b"Message ID,Practice Name,From,Date,Message\r\n1001,Acme,Jo,7/4/2026 10:00 AM,Help"
    b" me\r\n1002,Acme,Al,,And me\r\n"
)


@contextmanager
def use_parser(
    form: Format, *items: parsers.InboundItem, error: Exception | None = None
) -> Iterator[None]:
    """An earlier parser than the one of the command, which parses in a process of its own."""

    def parser(*_: object) -> list[parsers.InboundItem]:
        if error is not None:
            raise error
        return list(items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parsers.PARSERS, form, parser)
        yield


@pytest.fixture
def failed_delivery(intake: Intake, at_home: AppContext, tmp_path: Path) -> int:
    """A workbook that an earlier parser could not read."""
    path = tmp_path / "table.csv"
    path.write_bytes(TABLE)
    intake("deliver", "secure-message", path)
    with use_parser(
        Format.SECURE_MESSAGE,
        error=parsers.ParseError("mapping needed: no column found for practice"),
    ):
        process_waiting(at_home)
    return 1


def test_failed_deliveries_are_listed_with_reason_and_age_the_oldest_first(
    intake: Intake, failed_delivery: int, broken_file: Path, at_home: AppContext
) -> None:
    intake("deliver", "secure-message", broken_file)
    process_waiting(at_home)
    with at_home.store.transaction() as session:
        session.get_one(Delivery, failed_delivery).received_at -= timedelta(
            days=3, hours=4, minutes=30
        )
    deliveries = json.loads(intake("deliveries", "--state", "failed", "--json").stdout)
    assert [d["id"] for d in deliveries] == [1, 2]
    assert "mapping needed" in deliveries[0]["reason"]
    assert 0 <= deliveries[0]["age_seconds"] - (3 * 86400 + 4 * 3600 + 1800) < 60
    assert 0 <= deliveries[1]["age_seconds"] < 60
    shown = intake("deliveries", "--state", "failed").stdout
    assert "3 d 4 h" in shown
    assert "mapping needed" in shown
    assert "failed" in intake("status", code=1).output
    few = intake("deliveries", "--state", "failed", "--limit", "1").stdout
    assert "3 d 4 h" in few
    assert "1 more, newer" in few


@pytest.mark.parametrize(
    ("seconds", "output"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (3600, "1 h 0 min"),
        (3661, "1 h 1 min"),
        (86399, "23 h 59 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, output: str) -> None:
    assert times.format_duration(seconds) == output


def test_a_failed_one_is_tried_replayed_and_never_read_twice(
    intake: Intake, failed_delivery: int
) -> None:
    tried = intake("replay", failed_delivery, "--dry-run").stdout
    assert "1: it would be read, 2 of 2 items filed" in tried
    assert tried.count("would open a ticket") == 2
    [line] = parse_lines(intake("replay", "--all", "--dry-run", "--json").stdout)
    assert (line["state"], line["read"], line["applied"], line["changes"]) == (
        "failed",
        True,
        False,
        2,
    )
    assert json.loads(intake("tickets", "--json").stdout) == []
    assert intake("replay", "--all").stdout == "1: processed, ticket 1, 2\n"
    assert intake("replay", failed_delivery).stdout == "1: nothing would change\n"
    assert "No delivery is failed" in intake("replay", "--all").stdout
    assert len(json.loads(intake("tickets", "--json").stdout)) == 2
    intake("ledger")


def test_one_that_still_cannot_be_read_says_why(
    intake: Intake, broken_file: Path, at_home: AppContext
) -> None:
    intake("deliver", "secure-message", broken_file)
    process_waiting(at_home)
    assert "1: failed: a damaged workbook" in intake("replay", 1, "--dry-run", code=1).stdout
    assert "1: failed: a damaged workbook" in intake("replay", 1, code=1).stdout
    assert "9: unknown: there is no such delivery" in intake("replay", 9, code=1).stdout
    both = parse_lines(intake("replay", 9, 1, "--json", code=1).stdout)
    assert [(line["delivery"], line["read"]) for line in both] == [(9, False), (1, False)]


def test_several_are_dismissed_at_once_or_none_and_replayed_all_the_same(
    intake: Intake, failed_delivery: int, broken_file: Path, at_home: AppContext
) -> None:
    intake("deliver", "secure-message", broken_file)
    process_waiting(at_home)
    output = intake("dismiss", 1, 9, 2, "--reason", "tests", code=1).stderr
    assert "there is no delivery 9" in output
    assert "none was dismissed" in output
    assert len(json.loads(intake("deliveries", "--state", "failed", "--json").stdout)) == 2
    assert intake("dismiss", 1, 2, "--reason", "tests").stdout == "1: dismissed\n2: dismissed\n"
    assert "only failed ones" in intake("dismiss", 2, "--reason", "again", code=1).stderr
    assert "1: processed, ticket 1, 2" in intake("replay", failed_delivery).stdout
    [left] = json.loads(intake("deliveries", "--state", "dismissed", "--json").stdout)
    assert left["reason"] == "tests"


# -- one of them ----


def test_a_delivery_is_shown_with_how_often_it_came_and_what_became_of_it(
    intake: Intake, mail: Path, at_home: AppContext
) -> None:
    arrival = intake_module.Arrival(
        transport=intake_module.Transport.IMAP,
        format=Format.MAIL,
        raw=MAIL,
        reference="support@mx/INBOX;7;12",
        envelope={"name": "x\x1b[2J", "rcpt_to": ["a@localhost", "b@localhost"]},
    )
    intake_module.Intake(at_home).accept(arrival)
    intake("deliver", "mail", mail)
    process_waiting(at_home)
    delivery = json.loads(intake("delivery", 1, "--json").stdout)
    assert [(r["transport"], r["repeated"], r["reference"]) for r in delivery["receipts"]] == [
        ("imap", False, "support@mx/INBOX;7;12"),
        ("pipe", True, ""),
    ]
    assert delivery["filings"] == [
        {"item": 1, "outcome": "opened", "ticket": 1, "message": 1, "reason": ""}
    ]
    assert delivery["envelope"]["rcpt_to"] == ["a@localhost", "b@localhost"]
    output = intake("delivery", 1).stdout
    for words in (
        "processed",
        "support@mx/INBOX;7;12",
        "again",
        "opened",
        "a@localhost, b@localhost",
        "\ufffd[2J",
    ):
        assert words in output
    assert "no delivery 9" in intake("delivery", 9, code=1).stderr


@pytest.mark.parametrize("size", [10, 400_000])
def test_its_original_comes_out_as_it_came_and_that_is_on_record(
    intake: Intake, at_home: AppContext, tmp_path: Path, size: int
) -> None:
    raw, path = bytes(n % 256 for n in range(size)), tmp_path / "raw"
    path.write_bytes(raw)
    intake("deliver", "mail", path)
    assert intake("delivery", 1, "--raw", "--as", "Olga").stdout_bytes == raw
    with at_home.store.read_only() as session:
        [read] = session.scalars(select(AuditEntry).where(AuditEntry.action == "original read"))
    assert (read.actor, read.detail) == ("Olga", {"delivery": 1})


def test_a_missing_original_is_reported_and_no_access_recorded(
    intake: Intake, at_home: AppContext, tmp_path: Path, home: Path
) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"x" * 400_000)
    intake("deliver", "mail", path)
    for blob in (home / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    assert "INTAKE_BLOBS_URL" in intake("delivery", 1, "--raw", code=1).stderr
    with at_home.store.read_only() as session:
        assert session.scalars(select(AuditEntry)).all() == []


# -- past ones ----


@pytest.fixture
def past(intake: Intake, at_home: AppContext, mail: Path) -> int:
    """A mail whose text an earlier parser got wrong."""
    intake("deliver", "mail", mail)
    [item] = parsers.parse(Format.MAIL, MAIL)
    with use_parser(
        Format.MAIL, replace(item, subject="Cl?im", text="H?llo\n\x1b[2J", plain="H?llo")
    ):
        process_waiting(at_home)
    return 1


def get_text(intake: Intake) -> str:
    return str(json.loads(intake("ticket", 1, "--json").stdout)["messages"][0]["text"])


def test_what_a_past_one_would_change_is_shown_and_changed_only_with_yes(
    intake: Intake, past: int
) -> None:
    for way in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        result = intake("replay", past, *way)
        assert "1: 1 of 1 items would change" in result.stdout
        assert "message 1 on ticket 1" in result.stdout
        for line in ("- Cl?im", "+ Claim", "- H?llo", "+ Hello", "- \ufffd[2J"):
            assert line in result.stdout
        assert "--yes" in result.stderr
        assert get_text(intake).startswith("H?llo")
    changed = intake("replay", past, "--yes").stdout
    assert "1: 1 of 1 items read again" in changed
    assert "changed: subject, text, content digest, ticket's subject" in changed
    assert "Hello" not in changed
    assert get_text(intake).startswith("Hello")
    assert intake("replay", past, "--yes").stdout == "1: nothing would change\n"
    intake("ledger")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("a\nb\nc\n-- \nx", "a\nB\nc\nx", ["  a", "- b", "+ B", "  c", "- -- ", "  x"]),
        ("a\n", "a", ["- 'a\\n'", "+ 'a'"]),
        ("", "new", ["+ new"]),
        ("x" * 999, "x" * 998 + "y", ["- " + "x" * 300, "+ " + "x" * 300]),
    ],
    ids=["lines", "line end", "nothing before", "long"],
)
def test_lines_that_differ_are_shown(before: str, after: str, shown: list[str]) -> None:
    assert list(replay.diff_texts(before, after)) == shown


def test_of_very_many_lines_the_first_ones_are_shown() -> None:
    shown = list(replay.diff_texts("", "\n".join(map(str, range(100)))))
    assert (len(shown), shown[-1]) == (41, "… 60 more lines: --json shows all")


def test_scripts_get_every_field_of_it(intake: Intake, past: int) -> None:
    [line] = parse_lines(intake("replay", past, "--json").stdout)
    assert (line["applied"], line["changes"], line["same"]) == (False, 1, 0)
    [item] = line["items"]
    fields = {f["name"]: (f["before"], f["after"]) for f in item["fields"]}
    assert fields["subject"] == ("Cl?im", "Claim")
    assert (item["verdict"], item["was"], item["ticket"], item["message"]) == (
        "changed",
        "opened",
        1,
        1,
    )
    [line] = parse_lines(intake("replay", past, "--json", "--yes").stdout)
    assert line["applied"] is True
    [line] = parse_lines(intake("replay", past, "--json", "--yes").stdout)
    assert (line["applied"], line["changes"], line["items"]) == (False, 0, [])


@pytest.mark.parametrize(
    ("answer", "text"), [(b"y\n", "Hello"), (b"n\n", "H?llo"), (b"\n", "H?llo")]
)
def test_on_a_terminal_it_asks_first(intake: Intake, past: int, answer: bytes, text: str) -> None:
    shown = run_on_terminal("replay", str(past), answer=answer)
    assert "+ Hello" in shown
    assert "Change it? [y/N]" in shown
    assert get_text(intake).startswith(text)


def test_on_a_terminal_an_original_drives_nothing(intake: Intake, tmp_path: Path) -> None:
    path = tmp_path / "evil.eml"
    path.write_bytes(b"Subject: \x1b[2J\x07\r\n\r\ntext\r\n")
    intake("deliver", "mail", path)
    shown = run_on_terminal("delivery", "1", "--raw")
    assert "Subject: \ufffd[2J\ufffd\r\n\r\ntext" in shown
    assert "\x1b" not in shown


def run_on_terminal(*args: str, answer: bytes = b"") -> str:
    """Run the command for real, with a terminal on every side; what stood on it."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "console.cli.main", *args]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        os.close(theirs)
        os.write(ours, answer)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side has closed
                break
            output += part
        assert process.wait(30) == 0
    os.close(ours)
    return output.decode()


def test_many_past_ones_are_chosen_by_what_they_are(
    intake: Intake, past: int, second_failed_delivery: int, tmp_path: Path, at_home: AppContext
) -> None:
    del past, second_failed_delivery
    other = tmp_path / "b.eml"
    other.write_bytes(MAIL.replace(b"<1@", b"<2@"))
    intake("deliver", "mail", other)
    intake("ticket", "new", "--text", "hello")
    process_waiting(at_home)
    output = intake("replay", "--format", "mail").stdout
    assert output.startswith("1: 1 of 1 items would change")
    assert "3: " not in output  # of which there is nothing to say
    assert (
        "2 deliveries: 0 done, 1 would change, 0 cannot be read, of 1 nothing would change."
        in output
    )
    assert [
        line["delivery"]
        for line in parse_lines(intake("replay", "--transport", "console", "--json").stdout)
    ] == [4]
    tomorrow = (at_home.clock() + timedelta(days=2)).strftime("%Y-%m-%d")
    assert "No processed delivery matches" in intake("replay", "--since", tomorrow).stdout
    done = intake("replay", "--since", "2020-01-01", "--format", "mail", "--yes").stdout
    assert "2 deliveries: 1 done, 0 would change" in done


def test_a_new_item_is_shown_by_what_it_says(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(TABLE)
    intake("deliver", "secure-message", path)
    with use_parser(Format.SECURE_MESSAGE, parsers.parse(Format.SECURE_MESSAGE, TABLE)[0]):
        process_waiting(at_home)
    output = intake("replay", 1).stdout
    assert "1: 1 of 2 items would change" in output
    assert "a new item: would open a ticket" in output
    assert "+ Al" in output
    assert "+ And me" in output
    assert "Help me" not in output


def test_of_very_many_tickets_the_first_and_the_last_are_named() -> None:
    assert terminal.format_numbers([]) == "–"
    assert terminal.format_numbers([3, 4]) == "3, 4"
    assert terminal.format_numbers(list(range(1, 2701))) == "1 … 2700 (2700)"


@pytest.fixture
def second_failed_delivery(
    intake: Intake, broken_file: Path, past: int, at_home: AppContext
) -> int:
    del past
    intake("deliver", "secure-message", broken_file)
    process_waiting(at_home)
    return 2


@pytest.mark.parametrize(
    "args", [[], ["1", "--all"], ["--all", "--format", "mail"], ["1", "--since", "2026-01-01"]]
)
def test_deliveries_are_selected_in_one_way_only(intake: Intake, args: list[str]) -> None:
    intake("replay", *args, code=2)


def test_one_that_cannot_be_read_today_is_left_as_it_was(
    intake: Intake, at_home: AppContext, broken_file: Path
) -> None:
    intake("deliver", "secure-message", broken_file)
    item = parsers.InboundItem(
        format=Format.SECURE_MESSAGE, external_id="m1", company="Acme", text="as it was"
    )
    with use_parser(Format.SECURE_MESSAGE, item):
        process_waiting(at_home)
    assert (
        "1: processed: cannot be read today: a damaged workbook"
        in intake("replay", 1, "--yes", code=1).stdout
    )
    assert get_text(intake) == "as it was"


def test_what_ends_its_parser_does_not_end_the_command(
    intake: Intake, at_home: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "poison.eml"
    path.write_bytes(MAIL.replace(b"Hello", b"poison: crash"))
    intake("deliver", "mail", path)
    monkeypatch.setattr(
        parser_pool, "CHILD_COMMAND", (str(ROOT / "tests" / "support" / "poison_parser.py"),)
    )
    output = intake("replay", 1, "--dry-run", code=1).stdout
    assert output == "1: pending: its parser was ended by signal 11\n"
    process_waiting(at_home)
    output = intake("replay", 1, "--yes", code=1).stdout
    assert output == "1: processed: cannot be read today: its parser was ended by signal 11\n"


def test_what_was_filed_before_it_failed_half_way_is_compared_as_well(
    intake: Intake, failed_delivery: int, at_home: AppContext
) -> None:
    """A corrected parser may find more before what was filed: going on behind it loses that."""
    with at_home.store.transaction() as session:
        second = parsers.parse(Format.SECURE_MESSAGE, TABLE)[1]
        file_item(
            at_home.desk,
            session,
            second,
            session.get_one(Delivery, failed_delivery),
            0,
            at_home.clock(),
        )
    output = intake("replay", failed_delivery, "--yes").stdout
    assert "1: processed" in output
    assert "opened ticket 2" in output
    assert "Help me" not in output
    texts = {
        json.loads(intake("ticket", n, "--json").stdout)["messages"][0]["text"] for n in (1, 2)
    }
    assert texts == {"Help me", "And me"}
    intake("ledger")


# -- the ledger ----


def test_the_ledger_adds_up_for_every_channel(
    intake: Intake, mail: Path, broken_file: Path, at_home: AppContext
) -> None:
    for _ in range(3):
        intake("deliver", "mail", mail)
    intake("deliver", "secure-message", broken_file)
    intake("ticket", "new", "--text", "hello")
    ledger = json.loads(intake("ledger", "--json").stdout)
    assert (ledger["received"], ledger["duplicate"], ledger["pending"], ledger["opened"]) == (
        5,
        2,
        2,
        1,
    )
    process_waiting(at_home)
    ledger = json.loads(intake("ledger", "--json").stdout)
    assert (ledger["pending"], ledger["opened"], ledger["failed"]) == (0, 2, 1)
    assert {"pipe", "console"} == set(ledger["doors"])
    assert "yes" in intake("ledger").output


def test_every_row_of_a_workbook_is_accounted_for(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    file = tmp_path / "june.csv"
    file.write_text("Inbox\nPractice,From,Message\nElm,Bo,Fax.\nOak,Uma,\n\nEnd of report\n")
    intake("deliver", "secure-message", file)
    process_waiting(at_home)
    words = (
        "6 rows = 1 item + 1 rejected + 1 heading (row 2) + 1 title (row 1) + 1 footer (row 6) + 1"
        " blank"
    )
    shown = json.loads(intake("delivery", 1, "--json").stdout)["sheets"]
    assert [
        (one["rows"], one["accounted"], one["footer_places"], one["in_words"]) for one in shown
    ] == [(6, 6, "6", words)]
    assert words in " ".join(intake("delivery", 1).stdout.split())
    assert words in intake("parse", "secure-message", file, "--json", code=65).stderr
    [line] = json.loads(intake("ledger", "--json").stdout)["workbooks"]
    assert (line["delivery"], line["rows"], line["footers"], line["adds_up"]) == (1, 6, 1, True)
    assert "delivery 1" in intake("ledger").stdout
    with at_home.store.transaction() as session:
        session.execute(update(DeliverySheet).values(footers=0))
    output = intake("ledger", code=1)
    assert "not accounted for: deliveries 1" in output.stderr
    found = json.loads(intake("ledger", "--json", code=1).stdout)
    assert (found["broken"], found["broken_workbooks"], found["adds_up"]) == ([], [1], False)


@pytest.mark.parametrize("loss", ["receipt", "items"])
def test_a_loss_shows_in_the_ledger(
    intake: Intake, mail: Path, at_home: AppContext, loss: str
) -> None:
    intake("deliver", "mail", mail)
    process_waiting(at_home)
    with at_home.store.transaction() as session:
        if loss == "receipt":
            session.delete(session.get_one(Receipt, 1))
        else:
            session.execute(update(Delivery).values(items=2, state=DeliveryState.PROCESSED))
    assert "NO" in intake("ledger", code=1).output
