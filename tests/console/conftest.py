"""A home of its own for each test of the command, whose log ends with it."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Intake
from workflow.context import AppContext, open_context
from workflow.settings.settings import load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """INTAKE_HOME of this test, not made yet; no other setting of this machine holds."""
    for name in [n for n in os.environ if n.startswith("INTAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INTAKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTAKE_CONFIG", str(tmp_path / "intake.toml"))
    return tmp_path / "home"


@pytest.fixture
def intake(home: Path) -> Iterator[Intake]:
    """The command, with `home` as its INTAKE_HOME."""
    del home
    handlers = list(logging.getLogger().handlers)
    yield Intake()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def at_home(intake: Intake) -> Iterator[AppContext]:
    """The context of the home the command works in."""
    intake("migrate")
    opened = open_context(load_settings())
    yield opened
    opened.close()
