"""The desk in figures.

Counted right on both databases, in the viewer's days, the chart as the table.
"""

import csv
import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from defusedxml import ElementTree
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import HandClock, complete, make_mail, open_ticket
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.models.core import OutgoingMail, SurveyAnswer, Ticket
from workflow.operations.sweep import raise_tasks
from workflow.process import Template
from workflow.tickets import statistics
from workflow.tickets.statistics import FIGURES, Figure, make_window

NEW_YORK = ZoneInfo("America/New_York")


def get_figure(context: AppContext, name: str, days: int = 30) -> Figure:
    with context.store.read_only() as session:
        return FIGURES[name](session, make_window(context.clock(), NEW_YORK, days))


def set_opening_time(context: AppContext, number: int, at: datetime) -> int:
    ticket = open_ticket(context, make_mail(f"claim {number}", name=f"{number}@x.example"))
    with context.store.transaction() as session:
        row = session.get_one(Ticket, ticket)
        row.created_at = row.period_started_at = at
    return ticket


def test_a_day_is_the_viewers(any_context: AppContext, clock: HandClock) -> None:
    clock.now = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
    set_opening_time(
        any_context, 1, datetime(2026, 11, 2, 4, 59, tzinfo=UTC)
    )  # 23:59 on the first, in New York
    set_opening_time(any_context, 2, datetime(2026, 11, 2, 5, 1, tzinfo=UTC))
    set_opening_time(
        any_context, 3, datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    )  # in the hour that comes twice
    found = {row[0]: row[1] for row in get_figure(any_context, "arrivals", 7).rows}
    assert (found["2026-10-31"], found["2026-11-01"], found["2026-11-02"]) == (0, 2, 1)
    assert len(found) == 7


def test_times_to_a_milestone_are_median_and_nine_in_ten(
    any_context: AppContext, clock: HandClock
) -> None:
    begin = clock.now
    tickets = [set_opening_time(any_context, n, begin) for n in range(10)]
    for hours, ticket in enumerate(tickets, start=1):
        clock.now = begin + timedelta(hours=hours)
        complete(any_context, ticket)
    followed = get_figure(any_context, "durations").rows[0]
    assert followed == ["4-Support Follow Up Sent", 5.0, 9.0, 10]


def test_the_funnel_counts_who_came_at_least_so_far(any_context: AppContext) -> None:
    complete(any_context, open_ticket(any_context, make_mail("one", name="1@x.example")))
    open_ticket(any_context, make_mail("two", name="2@x.example"))
    rows = get_figure(any_context, "funnel").rows
    assert rows[0][0] == "1-Submitted"
    assert [r[1] for r in rows] == [2, 1, 1, 1]


def test_a_missed_deadline_counts_in_its_week(any_context: AppContext, clock: HandClock) -> None:
    open_ticket(any_context, make_mail("one"))
    clock.turn(days=4)
    raise_tasks(any_context, clock.now)
    assert [sum(r[n] for r in get_figure(any_context, "misses").rows) for n in (1, 2)] == [1, 1]  # type: ignore[misc]


def record_survey_answer(context: AppContext, number: int, score: int) -> None:
    ticket = open_ticket(
        context, make_mail(f"n{number}", sender=Address("", f"p{number}@x.example"))
    )
    complete(context, ticket)
    with context.store.transaction() as session:
        survey = session.scalars(
            select(OutgoingMail).where(
                OutgoingMail.ticket_id == ticket, OutgoingMail.template == Template.SURVEY
            )
        ).one()
        session.add(SurveyAnswer(outbox_id=survey.id, score=score, comment="", at=context.clock()))


def test_scores_by_month_consultant_and_company(any_context: AppContext) -> None:
    record_survey_answer(any_context, 1, 5)
    record_survey_answer(any_context, 2, 2)
    assert get_figure(any_context, "satisfaction").rows[-1][1:] == [3.5, 2]
    assert get_figure(any_context, "by-consultant").rows == [[statistics.NOBODY, 3.5, 2]]
    assert get_figure(any_context, "by-company").rows == [[statistics.NO_COMPANY, 3.5, 2]]


@pytest.fixture
def desk(any_context: AppContext) -> Desk:
    return sign_in_at_desk(any_context)


def test_every_figure_is_drawn_and_a_file(any_context: AppContext, desk: Desk) -> None:
    record_survey_answer(any_context, 1, 4)
    page = desk.get("/dashboard?days=90").text
    for name in FIGURES:
        assert (f"/dashboard/{name}.svg?days=90" in page) is not get_figure(
            any_context, name, 90
        ).empty
        drawn = desk.get(f"/dashboard/{name}.svg?days=90")
        assert ElementTree.fromstring(drawn.data).tag.endswith("svg")
        assert "script" not in drawn.text
        rows = list(
            csv.reader(
                io.StringIO(desk.get(f"/dashboard/{name}.csv?days=90").data.decode("utf-8-sig"))
            )
        )
        assert tuple(rows[0]) == get_figure(any_context, name, 90).heads


def test_an_empty_desk_says_so(desk: Desk) -> None:
    page = desk.get("/dashboard")
    assert page.status_code == 200
    assert "No ticket is open" in page.text
    assert desk.get("/dashboard/nonsense.svg").status_code == 404
    assert desk.get("/dashboard?days=9999999999999").status_code == 200
