"""intake backfill --once and --forms, against a Formstack of our own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command import Intake
from tests.support.formstack_server import Formstack, make_json_answer, run_formstack

INTAKE = [sys.executable, "-m", "console.cli.main"]
NOW = datetime.now(UTC)  # the command asks the wall clock


@pytest.fixture
def formstack(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Formstack]:
    with run_formstack() as server:
        (home.parent / "forms.toml").write_text("[form.77]\n[form.88]\nbackfill = false\n")
        monkeypatch.setenv("INTAKE_CONFIG", str(home.parent / "forms.toml"))
        monkeypatch.setenv("INTAKE_FORMSTACK_TOKEN", server.token)
        monkeypatch.setenv("INTAKE_FORMSTACK_API", server.url)
        server.send("1", NOW - timedelta(days=3))
        server.send("2", NOW - timedelta(hours=1))
        server.send("3", NOW - timedelta(hours=1), form="99")
        yield server


@pytest.mark.usefixtures("formstack")
def test_once_says_what_was_looked_at_and_what_was_new(intake: Intake) -> None:
    assert "form 77: 1 looked at, 1 new" in intake("backfill", "--once").output
    since = (NOW - timedelta(days=5)).date()
    assert "form 77: 2 looked at, 1 new" in intake("backfill", "--once", "--since", since).output
    assert "form 99: 1 looked at, 1 new" in intake("backfill", "--once", "--form", "99").output
    assert "backfill" in intake("ledger").output
    assert "77" in intake("status", code=1).output


@pytest.mark.usefixtures("formstack")
def test_forms_lists_the_accounts_forms_and_which_are_pulled(intake: Intake) -> None:
    lines = [line.split() for line in intake("backfill", "--forms").output.splitlines()]
    assert ["77", "pulled", "Form", "77"] in lines
    assert ["99", "–", "Form", "99"] in lines


@pytest.mark.parametrize(("status", "code"), [(401, 78), (500, 75)])
def test_an_obstacle_is_printed_with_an_exit_code(
    intake: Intake, formstack: Formstack, status: int, code: int
) -> None:
    formstack.answers = [make_json_answer({}, status)]
    output = intake("backfill", "--once", code=code).output
    assert "form 77: Formstack" in output
    assert formstack.token not in output
    if code == 78:
        assert "backfill of form 77: Formstack refuses the token" in intake("status", code=1).output


def _process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*INTAKE, "backfill"], env=dict(os.environ), stderr=subprocess.PIPE, text=True
    )


def _stop_after(process: subprocess.Popen[str], text: str) -> str:
    """Stop the process once its log contains the text; return the whole log."""
    assert process.stderr is not None
    log = ""
    try:
        for line in process.stderr:
            log += line
            if text in line:
                break
    finally:
        process.terminate()
        log += process.communicate(timeout=20)[1]
    assert process.returncode == 0
    return log


def test_the_process_pulls_and_ends_on_a_signal(intake: Intake, formstack: Formstack) -> None:
    intake("migrate")
    heard = _stop_after(_process(), "backfilled")
    assert "new=1" in heard
    assert formstack.token not in heard
    assert "form 77: 1 looked at, 0 new" in intake("backfill", "--once").output


@pytest.mark.usefixtures("intake")
def test_the_process_waits_without_a_token_until_a_signal() -> None:
    assert "INTAKE_FORMSTACK_TOKEN" in _stop_after(_process(), "nothing is pulled")


def test_without_a_token_once_says_so(intake: Intake) -> None:
    assert "INTAKE_FORMSTACK_TOKEN" in intake("backfill", "--once", code=78).output


def test_since_goes_with_once(intake: Intake) -> None:
    assert "--once" in intake("backfill", "--since", "2026-03-01", code=2).output
