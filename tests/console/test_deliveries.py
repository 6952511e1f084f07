"""parse, deliver, deliveries, replay, dismiss, ledger."""

import json
from pathlib import Path

import pytest
from sqlalchemy import update

import parsers
from ingest import intake as door
from ingest.reading import read_waiting
from parsers.item import Format
from tests.console.command import Intake
from workflow.house import House
from workflow.models import Delivery, Receipt
from workflow.states import DeliveryState

MAIL = (
    b"From: Jo <jo@acme.test>\r\nTo: support@localhost\r\nSubject: Claim\r\nMessage-ID: <1@acme.test>\r\n\r\nHello\r\n"
)
BROKEN = b"PK\x03\x04 nothing of a workbook"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.xlsx"
    path.write_bytes(BROKEN)
    return path


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "a.eml"
    path.write_bytes(MAIL)
    return path


def lines(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_parse_stores_nothing_and_prints_a_line_an_item(intake: Intake, mail: Path, home: Path) -> None:
    [line] = lines(intake("parse", "mail", mail, "--json").stdout)
    assert line["file"] == str(mail)
    assert line["subject"] == "Claim"
    assert not home.exists()


def test_one_unreadable_file_costs_itself_only(intake: Intake, broken: Path, tmp_path: Path) -> None:
    result = intake("parse", "secure-message", broken, tmp_path / "none.xlsx", "--json", code=65)
    assert [sorted(line) for line in lines(result.stdout)] == [["error", "file"]] * 2


def test_a_bug_of_a_parser_is_an_error_of_the_one_file(
    intake: Intake, mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(raw: bytes) -> list[parsers.InboundItem]:
        raise RuntimeError(raw.decode())

    monkeypatch.setitem(parsers.PARSERS, Format.MAIL, explode)
    [line] = lines(intake("parse", "mail", mail, "--json", code=65).stdout)
    assert "RuntimeError" in str(line["error"])
    assert "Hello" not in str(line["error"])


def test_parse_for_people(intake: Intake, mail: Path) -> None:
    said = intake("parse", "mail", mail).stdout
    assert "subject: Claim" in said
    assert "Hello" in said


def test_parse_reply_takes_text_and_html(intake: Intake, tmp_path: Path) -> None:
    text, html = tmp_path / "r.txt", tmp_path / "r.html"
    text.write_text("New words\n\nOn Monday, Ann wrote:\n> old words\n")
    html.write_text("<p>New <b>words</b></p>")
    assert "New words" in str(lines(intake("parse", "reply", text, "--json").stdout)[0]["reply_text"])
    assert "New words" in str(lines(intake("parse", "reply", "--html", html, "--json").stdout)[0]["reply_text"])
    intake("parse", "mail", "--html", text, code=2)


def test_deliver_prints_the_number_and_the_same_bytes_have_the_same(intake: Intake, mail: Path) -> None:
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

    monkeypatch.setattr(door.Intake, "accept", fail)
    said = intake("deliver", "mail", mail, code=75).stderr
    assert "Hello" not in said
    assert "Traceback" not in said


def test_wrong_settings_do_not_bounce_mail(intake: Intake, mail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAKE_MAIL_LIMIT", "much")
    assert "INTAKE_MAIL_LIMIT" in intake("deliver", "mail", mail, code=75).stderr


def test_failed_deliveries_are_seen_replayed_and_dismissed(
    intake: Intake, broken: Path, at_home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake("deliver", "secure-message", broken)
    read_waiting(at_home)
    [only] = json.loads(intake("deliveries", "--state", "failed", "--json").stdout)
    assert only["reason"]
    assert "failed" in intake("status", code=1).output
    assert "1: failed" in intake("replay", "1", code=1).stdout
    assert "no such delivery" in intake("replay", "9", code=1).stdout
    intake("dismiss", "1", "--reason", "sent again")
    item = parsers.InboundItem(format=Format.SECURE_MESSAGE, external_id="m1", company="Acme", text="mended")
    monkeypatch.setitem(parsers.PARSERS, Format.SECURE_MESSAGE, lambda _raw: [item])
    assert "1: processed, ticket 1" in intake("replay", "1").stdout
    assert "only failed ones" in intake("dismiss", "1", "--reason", "again", code=1).stderr
    assert "No delivery is failed" in intake("replay", "--all").stdout
    intake("replay", code=2)


def test_the_ledger_adds_up_at_every_door(intake: Intake, mail: Path, broken: Path, at_home: House) -> None:
    for _ in range(3):
        intake("deliver", "mail", mail)
    intake("deliver", "secure-message", broken)
    intake("ticket", "new", "--text", "hello")
    found = json.loads(intake("ledger", "--json").stdout)
    assert (found["received"], found["duplicate"], found["pending"], found["opened"]) == (5, 2, 2, 1)
    read_waiting(at_home)
    found = json.loads(intake("ledger", "--json").stdout)
    assert (found["pending"], found["opened"], found["failed"]) == (0, 2, 1)
    assert {"pipe", "console"} == set(found["doors"])
    assert "yes" in intake("ledger").output


@pytest.mark.parametrize("loss", ["receipt", "items"])
def test_a_loss_shows_in_the_ledger(intake: Intake, mail: Path, at_home: House, loss: str) -> None:
    intake("deliver", "mail", mail)
    read_waiting(at_home)
    with at_home.store.transaction() as session:
        if loss == "receipt":
            session.delete(session.get_one(Receipt, 1))
        else:
            session.execute(update(Delivery).values(items=2, state=DeliveryState.PROCESSED))
    assert "NO" in intake("ledger", code=1).output
