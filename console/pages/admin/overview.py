"""The house itself.

What is alive, what waits, what fires next, who did what, and the settings as they are.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import groupby

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters.house_data import status_data
from console.presenters.operations import DOOR_WORDS, doors, files, trail_data, with_links
from console.presenters.times import iso
from console.web import metrics
from console.web.filters import csv_file
from console.web.request import db, house, needs, now, number_of, public, staff, zone
from workflow.audit import record as audit
from workflow.audit import search
from workflow.audit.search import Filter
from workflow.errors import Missing
from workflow.filing import linked_files, sheet_counts
from workflow.mail import failed
from workflow.models.states import OutboxState
from workflow.operations import ledger, oauth_tokens
from workflow.permissions import Right
from workflow.settings import report
from workflow.tickets import upcoming

MAIL_TRIED = "The mail about ticket #{ticket} is tried again now."
FILE_FETCHED = "The file of ticket #{ticket} is fetched again now."
MOST_WORKBOOKS = 100  # lines of the page; the command lists all

pages = Blueprint("operations", __name__)


@pages.get("/operations")
@needs(Right.AUDIT)
def overview() -> str:
    """Return what `intake status` says.

    Doors, processes, backlog, checks, and what needs a person.
    """
    found = status_data(house())
    return render_template(
        "operations/overview.html",
        found=found,
        doors=doors(found, house().settings, now()),
        at=datetime.fromisoformat,
        words=DOOR_WORDS,
        files=files(db(), found["backlog"]),
        now=now(),
        alarm=oauth_tokens.ALARM,
        with_links=with_links,
    )


@pages.get("/operations/ledger")
@needs(Right.AUDIT)
def balance() -> str:
    """Return what `intake ledger` says.

    It counts everything there is, so it is a page of its own.
    """
    kinds = ("rows", *sheet_counts.KINDS)
    return render_template(
        "operations/ledger.html", found=_balance(), kinds=kinds, most=MOST_WORKBOOKS
    )


@pages.get("/operations/ledger.csv")
@needs(Right.AUDIT)
def balance_table() -> Response:
    """The same for a spreadsheet."""
    found = _balance()
    lines = {**found.doors, "together": found.total}
    heads = ["door", *found.total.as_dict(), "adds up"]
    rows = (
        [name, *map(str, line.as_dict().values()), _yes(line.adds_up)]
        for name, line in lines.items()
    )
    return csv_file("ledger", [heads, *rows])


@pages.get("/operations/outbox")
@needs(Right.AUDIT)
def outbox() -> str:
    """Promised mails that are not sent."""
    state = _outbox_state()
    found, more = failed.page(db(), state, _before())
    return render_template(
        "operations/outbox.html",
        found=found,
        more=more,
        state=state,
        states=failed.UNSENT,
        counts=failed.counts(db()),
        may_retry=lambda mail: failed.may_retry(mail, now()),
        now=now(),
    )


@pages.get("/operations/outbox.csv")
@needs(Right.AUDIT)
def outbox_table() -> Response:
    """The newest of them for a spreadsheet; addresses are left out, the tickets have them."""
    state = _outbox_state()
    found, _ = failed.page(db(), state, most=failed.MOST_EXPORTED)
    heads = ["mail", "ticket", "template", "state", "reason", "attempts", "promised", "next try"]
    waiting = OutboxState.WAITING
    rows = (
        [
            str(m.id),
            str(m.ticket_id),
            m.template,
            m.state,
            m.reason,
            str(m.attempts),
            iso(m.created_at) or "",
            (iso(m.not_before) or "") if m.state is waiting else "",
        ]
        for m in found
    )
    return csv_file(f"outbox-{state}", [heads, *rows])


@pages.post("/operations/outbox/<int:number>/retry")
@needs(Right.LEAD)
def retry(number: int) -> AnyResponse:
    """Have one mail tried now."""
    _done(
        lambda session: failed.retry(session, number, by=staff().name, now=now()).ticket_id,
        MAIL_TRIED,
    )
    return redirect(url_for("operations.outbox"))


@pages.post("/operations/outbox/retry")
@needs(Right.LEAD)
def retry_waiting() -> AnyResponse:
    """Have every mail tried now that pauses between two tries: the relay was mended."""
    with house().store.transaction() as session:
        count = failed.retry_waiting(session, by=staff().name, now=now())
    flash(
        f"{count} mails are tried again now." if count else "No mail pauses: all are due already.",
        "success",
    )
    return redirect(url_for("operations.outbox"))


@pages.post("/operations/files/<int:number>/again")
@needs(Right.LEAD)
def fetch_again(number: int) -> AnyResponse:
    """Have a linked file fetched anew: its place was mended, or is allowed now."""
    _done(
        lambda session: linked_files.again(session, number, by=staff().name, now=now()),
        FILE_FETCHED,
    )
    return redirect(url_for("operations.overview", _anchor="files"))


@pages.get("/operations/next-week")
@needs(Right.AUDIT)
def next_week() -> str:
    """The deadlines that fall within seven days, by day and person."""
    found, more = upcoming.upcoming(db(), house().settings, now())
    by_day = [
        (day, list(firing))
        for day, firing in groupby(found, key=lambda f: f.at.astimezone(zone()).date())
    ]
    return render_template(
        "operations/next_week.html", days=by_day, more=more, most=upcoming.LONGEST
    )


@pages.get("/operations/next-week.csv")
@needs(Right.AUDIT)
def next_week_table() -> Response:
    """The same for a spreadsheet."""
    found, _ = upcoming.upcoming(db(), house().settings, now())
    rows = (
        [iso(f.at) or "", str(f.ticket.id), f.deadline.milestone, f.deadline.task, f.person]
        for f in found
    )
    return csv_file(
        "next-week", [["falls at", "ticket", "unless recorded", "task", "goes to"], *rows]
    )


@pages.get("/operations/audit")
@needs(Right.AUDIT)
def audit_log() -> str:
    """Return who did what, newest first.

    404 is never said: a filter nothing fits has an empty page.
    """
    wanted = _filter()
    found, more = search.page(db(), wanted, zone(), _before())
    return render_template(
        "operations/audit.html",
        rows=trail_data(db(), found),
        more=more,
        wanted=wanted,
        args=_args(wanted),
        actions=search.lately(db()),
    )


@pages.get("/operations/audit.csv")
@needs(Right.AUDIT)
def audit_table() -> Response:
    """What the filter finds, for a spreadsheet, the newest rows of very many.

    Who took it is on record itself.
    """
    wanted = _filter()
    found = list(db().scalars(search.rows(wanted, zone()).limit(search.MOST_EXPORTED)))
    with house().store.transaction() as session:
        audit.record(
            session, "exported", by=staff().name, cause="audit log", now=now(), rows=len(found)
        )
    heads = ["number", "at", "who", "action", "ticket", "why", "detail"]
    rows = (
        [
            str(r.id),
            iso(r.at) or "",
            r.actor,
            r.action,
            str(r.ticket_id or ""),
            r.cause,
            " ".join(f"{k}={v}" for k, v in r.detail.items()),
        ]
        for r in found
    )
    return csv_file("audit", [heads, *rows])


@pages.get("/operations/settings")
@needs(Right.AUDIT)
def settings() -> str:
    """Every setting, its value and where it comes from; of a secret whether it is set."""
    return render_template("operations/settings.html", found=report.shown(house().settings))


@pages.get("/metrics")
@public
def prometheus() -> Response:
    """200 Prometheus' text; 401 without the token where one is set.

    403 from another machine where none is.
    """
    given = house().settings
    if metrics.may_ask(
        given, request.remote_addr or "", request.host, request.headers.get("Authorization", "")
    ):
        return Response(metrics.text(house()), content_type=metrics.CONTENT_TYPE)
    if given.metrics_token.get_secret_value():
        return Response(
            "the token, please\n", 401, {"WWW-Authenticate": "Bearer"}, content_type="text/plain"
        )
    return Response(
        "set INTAKE_METRICS_TOKEN to ask from elsewhere\n", 403, content_type="text/plain"
    )


def _balance() -> ledger.Balance:
    with house().store.reading() as session:
        return ledger.balance(session)


def _outbox_state() -> OutboxState:
    said = request.args.get("state", "")
    return OutboxState(said) if said in failed.UNSENT else OutboxState.WAITING


def _done(deed: Callable[[Session], object], words: str) -> None:
    """Do it to something of a ticket's, whose number it gives, and say so; or why not."""
    try:
        with house().store.transaction() as session:
            ticket = deed(session)
        flash(words.format(ticket=ticket), "success")
    except Missing as missing:
        flash(str(missing), "error")


def _before() -> int | None:
    return number_of(request.args.get("before")) or None


def _filter() -> Filter:
    said = request.args
    ticket = number_of(said.get("ticket", "").strip().removeprefix("#"))  # as people write it
    return Filter(
        said.get("person", "").strip(), said.get("action", "").strip(), ticket or None, _day()
    )


def _day() -> date | None:
    try:
        day = date.fromisoformat(request.args.get("day", ""))
    except ValueError:
        return None
    return day if date.min + timedelta(2) < day < date.max - timedelta(2) else None


def _args(wanted: Filter) -> dict[str, str]:
    """The filter for the address of another page of it."""
    said = {
        "person": wanted.person,
        "action": wanted.action,
        "ticket": wanted.ticket,
        "day": wanted.day,
    }
    return {name: str(value) for name, value in said.items() if value}


def _yes(value: bool) -> str:  # noqa: FBT001  # a word for a cell
    return "yes" if value else "NO"
