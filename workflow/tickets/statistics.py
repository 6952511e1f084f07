"""Statistics of the desk, counted by the database.

Arrivals, progress, durations, work by person and company, and survey results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import (
    TIMESTAMP,
    ColumnElement,
    Float,
    Select,
    and_,
    case,
    cast,
    extract,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from workflow import process
from workflow.models.core import (
    Company,
    OutgoingMail,
    Staff,
    SurveyAnswer,
    Task,
    Ticket,
    TicketMilestone,
)
from workflow.models.states import Status
from workflow.process import Milestone
from workflow.tickets.desk import Desk

NOBODY, NO_COMPANY = "nobody", "company not known"
LONGEST_LIST = 20  # rows of a list by person or company: the rest is in the export
HOUR = 3600.0
Row = list[str | float | int | None]
When = ColumnElement[datetime] | InstrumentedAttribute[datetime]


@dataclass(frozen=True)
class Window:
    """A number of days up to today, in the viewer's calendar."""

    days: list[date]
    zone: ZoneInfo

    @property
    def begin(self) -> datetime:
        """First moment of the window."""
        return self._get_midnight(self.days[0])

    def list_bounds(self, step: int = 1) -> list[tuple[date, datetime, datetime]]:
        """Return first day, beginning and end of each `step` days.

        A day that daylight saving makes shorter is a day.
        """
        firsts = self.days[::step]
        ends = [self._get_midnight(d + timedelta(days=step)) for d in firsts]
        return [(d, self._get_midnight(d), end) for d, end in zip(firsts, ends, strict=True)]

    def _get_midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(0), self.zone)


@dataclass(frozen=True)
class Figure:
    """A table of numbers with words around it: what a chart, a page and a CSV file show alike."""

    name: str
    title: str
    heads: tuple[str, ...]
    rows: list[Row] = field(repr=False)
    unit: str = "tickets"
    is_stacked: bool = False

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to draw."""
        return not any(value for row in self.rows for value in row[1:])


def make_window(now: datetime, zone: ZoneInfo, days: int) -> Window:
    """Return the window of the last `days` days, today included."""
    today = now.astimezone(zone).date()
    return Window([today - timedelta(days=days - 1 - n) for n in range(days)], zone)


def count_arrivals(session: Session, over: Window) -> Figure:
    """Return the tickets opened, by channel and day (by week beyond a month)."""
    # more bars than those of a month would be too narrow to read
    bounds = over.list_bounds(1 if len(over.days) <= 31 else 7)  # noqa: PLR2004
    counts = _count_in_bounds(session, Ticket.transport, Ticket.created_at, bounds)
    channels = sorted(counts)
    rows: list[Row] = [
        [day.isoformat(), *(counts[channel][n] for channel in channels)]
        for n, (day, _, _) in enumerate(bounds)
    ]
    return Figure("arrivals", "What came in", ("day", *channels), rows, is_stacked=True)


def count_funnel(session: Session, over: Window) -> Figure:
    """Return how many of the tickets opened in the window have come at least to each stage."""
    query = select(Ticket.stage, func.count()).where(
        Ticket.created_at >= over.begin, Ticket.status.in_([Status.OPEN, Status.COMPLETED])
    )
    at = {stage: int(count) for stage, count in session.execute(query.group_by(Ticket.stage))}
    stages = [s.stage for s in process.STEPS]
    rows: list[Row] = [
        [str(stage), sum(at.get(later, 0) for later in stages[n:]), at.get(stage, 0)]
        for n, stage in enumerate(stages)
    ]
    return Figure("funnel", "How far they got", ("stage", "reached", "stand there now"), rows)


def measure_durations(session: Session, over: Window) -> Figure:
    """Return the hours from receipt to each milestone of a deadline.

    Columns are the median, the 90th percentile, and how many were counted.
    """
    rows: list[Row] = [
        [str(d.milestone), *_compute_percentiles(session, d.milestone, over)]
        for d in process.DEADLINES
    ]
    return Figure(
        "durations",
        "How long it took",
        ("until", "median", "9 of 10 within", "tickets"),
        rows,
        unit="hours",
    )


def _compute_percentiles(
    session: Session, milestone: Milestone, over: Window
) -> list[float | int | None]:
    seconds = _build_seconds(session, Ticket.period_started_at, TicketMilestone.at)
    is_of_ticket = and_(
        Ticket.id == TicketMilestone.ticket_id, Ticket.period == TicketMilestone.period
    )
    in_window = (TicketMilestone.milestone == milestone, TicketMilestone.at >= over.begin)
    if _is_sqlite(session):
        query = _select_percentiles_by_rank(seconds, is_of_ticket, in_window)
    else:
        median, most = (func.percentile_disc(part).within_group(seconds) for part in (0.5, 0.9))
        milestones = select(median, most, func.count()).select_from(TicketMilestone)
        query = milestones.join(Ticket, is_of_ticket).where(*in_window)
    half, nine_tenths, count = session.execute(query).one()
    return [_convert_to_hours(half), _convert_to_hours(nine_tenths), int(count)]


def _select_percentiles_by_rank(
    seconds: ColumnElement[float],
    is_of_ticket: ColumnElement[bool],
    in_window: tuple[ColumnElement[bool], ...],
) -> Select[float, float, int]:
    """Return a query for median, 90th percentile and count, for SQLite.

    It has no ordered-set aggregates.
    """
    ranks = (
        select(
            seconds.label("s"),
            func.row_number().over(order_by=seconds).label("n"),
            func.count().over().label("of"),
        )
        .join(Ticket, is_of_ticket)
        .where(*in_window)
        .subquery()
    )
    at = [func.min(ranks.c.s).filter(ranks.c.n * 10 >= ranks.c.of * part) for part in (5, 9)]
    return select(*at, func.count()).select_from(ranks)


def count_missed_deadlines(session: Session, over: Window) -> Figure:
    """Return the number of missed deadlines by week."""
    bounds = over.list_bounds(7)
    kinds = {Desk.build_deadline_kind(d): d.task for d in process.DEADLINES}
    by_kind = _count_in_bounds(session, Task.kind, Task.created_at, bounds, Task.kind.in_(kinds))
    rows: list[Row] = [
        [day.isoformat(), *(by_kind.get(kind, [0] * len(bounds))[n] for kind in kinds)]
        for n, (day, _, _) in enumerate(bounds)
    ]
    return Figure(
        "misses",
        "Deadlines missed",
        ("week from", *kinds.values()),
        rows,
        unit="tasks",
        is_stacked=True,
    )


def measure_satisfaction(session: Session, over: Window) -> Figure:
    """Return the survey scores (1 to 5) by month, with how many answered."""
    months = sorted({day.replace(day=1) for day in over.days})
    rows: list[Row] = []
    firsts = [datetime.combine(m, time(0), over.zone) for m in months]
    ends = [*firsts[1:], datetime.combine(over.days[-1] + timedelta(days=1), time(0), over.zone)]
    within = [
        _build_range_condition(SurveyAnswer.at, begin, end)
        for begin, end in zip(firsts, ends, strict=True)
    ]
    columns = [
        c for w in within for c in (func.avg(case((w, SurveyAnswer.score))), func.count().filter(w))
    ]
    found = list(session.execute(select(*columns).where(SurveyAnswer.at >= firsts[0])).one())
    for n, month in enumerate(months):
        mean, count = found[2 * n : 2 * n + 2]
        rows.append(
            [f"{month:%Y-%m}", round(float(mean), 2) if mean is not None else None, int(count)]
        )
    return Figure(
        "satisfaction",
        "How content customers are",
        ("month", "mean score", "answers"),
        rows,
        unit="of 5",
    )


def count_by_consultant(session: Session, over: Window) -> Figure:
    """Return the survey scores by the ticket's owner, most answers first."""
    owner = aliased(Staff)
    query = _select_scores(func.coalesce(owner.name, NOBODY), over).join(
        owner, owner.id == Ticket.owner_id, isouter=True
    )
    heads = ("consultant", "mean score", "answers")
    return Figure(
        "by-consultant", "Scores by consultant", heads, _load_scores(session, query), unit="of 5"
    )


def count_by_company(session: Session, over: Window) -> Figure:
    """Return the survey scores by company, most answers first."""
    query = _select_scores(func.coalesce(Company.name, NO_COMPANY), over).join(
        Company, Company.id == Ticket.company_id, isouter=True
    )
    heads = ("company", "mean score", "answers")
    return Figure(
        "by-company", "Scores by company", heads, _load_scores(session, query), unit="of 5"
    )


def list_oldest(session: Session) -> Sequence[Ticket]:
    """Return the ten open tickets that have waited longest."""
    waiting = (
        select(Ticket)
        .where(Ticket.status == Status.OPEN)
        .order_by(Ticket.created_at, Ticket.id)
        .limit(10)
    )
    return session.scalars(waiting).all()


def _select_scores(who: ColumnElement[str], over: Window) -> Select[str, float, int]:
    answers = select(who.label("who"), func.avg(SurveyAnswer.score), func.count()).select_from(
        SurveyAnswer
    )
    joined = answers.join(OutgoingMail, OutgoingMail.id == SurveyAnswer.outbox_id).join(
        Ticket, Ticket.id == OutgoingMail.ticket_id
    )
    grouped = joined.where(SurveyAnswer.at >= over.begin).group_by("who")
    return grouped.order_by(func.count().desc(), "who").limit(LONGEST_LIST)


def _load_scores(session: Session, query: Select[str, float, int]) -> list[Row]:
    return [
        [str(who), round(float(mean), 2), int(count)] for who, mean, count in session.execute(query)
    ]


def _count_in_bounds(
    session: Session,
    group: InstrumentedAttribute[str],
    moment: InstrumentedAttribute[datetime],
    bounds: Sequence[tuple[date, datetime, datetime]],
    *conditions: ColumnElement[bool],
) -> dict[str, list[int]]:
    """Return how many rows of each group have their moment within each of adjoining bounds."""
    ends = [end for _, _, end in bounds]
    if _is_sqlite(session):
        number: ColumnElement[int] = case(*((moment < end, n) for n, end in enumerate(ends)))
    else:  # a binary search, instead of up to thirty comparisons a row
        begins = array([cast(begin, TIMESTAMP(timezone=True)) for _, begin, _ in bounds])
        number = func.width_bucket(moment, begins) - 1
    query = (
        select(group, number.label("number"), func.count())
        .where(moment >= bounds[0][1], moment < ends[-1], *conditions)
        .group_by(group, "number")
    )
    counts: dict[str, list[int]] = {}
    for name, index, count in session.execute(query):
        counts.setdefault(str(name), [0] * len(bounds))[int(index)] = int(count)
    return counts


def _build_range_condition(moment: When, begin: datetime, end: datetime) -> ColumnElement[bool]:
    return and_(moment >= begin, moment < end)


def _build_seconds(session: Session, begin: When, end: When) -> ColumnElement[float]:
    if _is_sqlite(session):
        days = func.julianday(end, type_=Float) - func.julianday(begin, type_=Float)
        return days * literal(24 * HOUR)
    return cast(extract("epoch", end - begin), Float)


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _convert_to_hours(seconds: float | None) -> float | None:
    return round(float(seconds) / HOUR, 1) if seconds is not None else None


FIGURES = {
    "arrivals": count_arrivals,
    "funnel": count_funnel,
    "durations": measure_durations,
    "misses": count_missed_deadlines,
    "satisfaction": measure_satisfaction,
    "by-consultant": count_by_consultant,
    "by-company": count_by_company,
}
