"""A short run of the harness on each database; `make chaos MINUTES=60` is the long one."""

from collections.abc import Callable

import pytest

from tests.acceptance.chaos.run import Plan, run_chaos, show

SECONDS = 25.0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_or_doubled_whatever_is_killed(
    database: str, record_property: Callable[[str, object], None], request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        request.getfixturevalue("postgres")  # skips where none can run
    run, verdict, settle_seconds = run_chaos(Plan(SECONDS, database, seed=7))
    record_property("figures", show(run, verdict, settle_seconds))
    assert verdict.broken == []
    assert run.keeper.unexpected_ends == []
    assert sum(figures[1] for figures in verdict.channels.values()) > 50
    assert run.kills > 5
