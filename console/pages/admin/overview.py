"""The house itself.

What is alive, what waits, what fires next, who did what, and the settings as they are.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import groupby

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters.operations import (
    CHANNEL_LABELS,
    link_commands,
    list_channels,
    list_unfetched_files,
    present_audit,
    present_status,
)
from console.presenters.times import format_iso
from console.web import metrics
from console.web.filters import build_csv_response
from console.web.request import (
    get_context,
    get_session,
    get_staff,
    get_time_zone,
    now,
    public,
    requires,
)
from workflow.audit import record as audit
from workflow.audit import search
from workflow.audit.search import AuditFilter
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed
from workflow.filing import linked_files, sheet_counts
from workflow.mail import failed
from workflow.models.states import OutboxState
from workflow.operations import ledger, oauth_tokens
from workflow.permissions import Right
from workflow.settings import report
from workflow.tickets import upcoming

MAIL_RETRIED = "The mail about ticket #{ticket} is tried again now."
FILE_RETRIED = "The file of ticket #{ticket} is fetched again now."
MAX_WORKBOOKS = 100  # lines of the page; the command lists all

pages = Blueprint("operations", __name__)


@pages.get("/operations")
@requires(Right.AUDIT)
def overview() -> str:
    """Return what `intake status` says.

    Doors, processes, backlog, checks, and what needs a person.
    """
    found = present_status(get_context())
    return render_template(
        "operations/overview.html",
        found=found,
        doors=list_channels(found, get_context().settings, now()),
        at=datetime.fromisoformat,
        words=CHANNEL_LABELS,
        files=list_unfetched_files(get_session(), found["backlog"]),
        now=now(),
        alarm=oauth_tokens.ALARM_DAYS,
        with_links=link_commands,
    )


@pages.get("/operations/ledger")
@requires(Right.AUDIT)
def balance() -> str:
    """Return what `intake ledger` says.

    It counts everything there is, so it is a page of its own.
    """
    kinds = ("rows", *sheet_counts.ROW_KINDS)
    return render_template(
        "operations/ledger.html", found=_balance(), kinds=kinds, most=MAX_WORKBOOKS
    )


@pages.get("/operations/ledger.csv")
@requires(Right.AUDIT)
def balance_table() -> Response:
    """The same for a spreadsheet."""
    found = _balance()
    lines = {**found.channels, "together": found.total}
    heads = ["door", *found.total.as_dict(), "adds up"]
    rows = (
        [name, *map(str, line.as_dict().values()), _yes(line.adds_up)]
        for name, line in lines.items()
    )
    return build_csv_response("ledger", [heads, *rows])


@pages.get("/operations/outbox")
@requires(Right.AUDIT)
def outbox() -> str:
    """Promised mails that are not sent."""
    state = _outbox_state()
    found, more = failed.list_mails(get_session(), state, _before())
    return render_template(
        "operations/outbox.html",
        found=found,
        more=more,
        state=state,
        states=failed.UNSENT_STATES,
        counts=failed.count_by_state(get_session()),
        may_retry=lambda mail: failed.may_retry(mail, now()),
        now=now(),
    )


@pages.get("/operations/outbox.csv")
@requires(Right.AUDIT)
def outbox_table() -> Response:
    """The newest of them for a spreadsheet; addresses are left out, the tickets have them."""
    state = _outbox_state()
    found, _ = failed.list_mails(get_session(), state, most=failed.MAX_EXPORTED)
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
            format_iso(m.created_at) or "",
            (format_iso(m.not_before) or "") if m.state is waiting else "",
        ]
        for m in found
    )
    return build_csv_response(f"outbox-{state}", [heads, *rows])


@pages.post("/operations/outbox/<int:number>/retry")
@requires(Right.LEAD)
def retry(number: int) -> AnyResponse:
    """Have one mail tried now."""
    _done(
        lambda session: (
            failed.retry_mail(session, number, by=get_staff().name, now=now()).ticket_id
        ),
        MAIL_RETRIED,
    )
    return redirect(url_for("operations.outbox"))


@pages.post("/operations/outbox/retry")
@requires(Right.LEAD)
def retry_waiting() -> AnyResponse:
    """Have every mail tried now that pauses between two tries: the relay was mended."""
    with get_context().store.transaction() as session:
        count = failed.retry_waiting_mails(session, by=get_staff().name, now=now())
    flash(
        f"{count} mails are tried again now." if count else "No mail pauses: all are due already.",
        "success",
    )
    return redirect(url_for("operations.outbox"))


@pages.post("/operations/files/<int:number>/again")
@requires(Right.LEAD)
def fetch_again(number: int) -> AnyResponse:
    """Have a linked file fetched anew: its place was mended, or is allowed now."""
    _done(
        lambda session: linked_files.retry(session, number, by=get_staff().name, now=now()),
        FILE_RETRIED,
    )
    return redirect(url_for("operations.overview", _anchor="files"))


@pages.get("/operations/next-week")
@requires(Right.AUDIT)
def next_week() -> str:
    """The deadlines that fall within seven days, by day and person."""
    found, more = upcoming.list_upcoming(get_session(), get_context().settings, now())
    by_day = [
        (day, list(firing))
        for day, firing in groupby(found, key=lambda f: f.at.astimezone(get_time_zone()).date())
    ]
    return render_template(
        "operations/next_week.html", days=by_day, more=more, most=upcoming.LONGEST
    )


@pages.get("/operations/next-week.csv")
@requires(Right.AUDIT)
def next_week_table() -> Response:
    """The same for a spreadsheet."""
    found, _ = upcoming.list_upcoming(get_session(), get_context().settings, now())
    rows = (
        [format_iso(f.at) or "", str(f.ticket.id), f.deadline.milestone, f.deadline.task, f.person]
        for f in found
    )
    return build_csv_response(
        "next-week", [["falls at", "ticket", "unless recorded", "task", "goes to"], *rows]
    )


@pages.get("/operations/audit")
@requires(Right.AUDIT)
def audit_log() -> str:
    """Return who did what, newest first.

    404 is never said: a filter nothing fits has an empty page.
    """
    wanted = _filter()
    found, more = search.list_page(get_session(), wanted, get_time_zone(), _before())
    return render_template(
        "operations/audit.html",
        rows=present_audit(get_session(), found),
        more=more,
        wanted=wanted,
        args=_args(wanted),
        actions=search.list_recent_actions(get_session()),
    )


@pages.get("/operations/audit.csv")
@requires(Right.AUDIT)
def audit_table() -> Response:
    """What the filter finds, for a spreadsheet, the newest rows of very many.

    Who took it is on record itself.
    """
    wanted = _filter()
    found = list(
        get_session().scalars(
            search.build_query(wanted, get_time_zone()).limit(search.MAX_EXPORTED)
        )
    )
    with get_context().store.transaction() as session:
        audit.record(
            session, "exported", by=get_staff().name, cause="audit log", now=now(), rows=len(found)
        )
    heads = ["number", "at", "who", "action", "ticket", "why", "detail"]
    rows = (
        [
            str(r.id),
            format_iso(r.at) or "",
            r.actor,
            r.action,
            str(r.ticket_id or ""),
            r.cause,
            " ".join(f"{k}={v}" for k, v in r.detail.items()),
        ]
        for r in found
    )
    return build_csv_response("audit", [heads, *rows])


@pages.get("/operations/settings")
@requires(Right.AUDIT)
def settings() -> str:
    """Every setting, its value and where it comes from; of a secret whether it is set."""
    return render_template(
        "operations/settings.html", found=report.list_settings(get_context().settings)
    )


@pages.get("/metrics")
@public
def prometheus() -> Response:
    """200 Prometheus' text; 401 without the token where one is set.

    403 from another machine where none is.
    """
    given = get_context().settings
    if metrics.may_read_metrics(
        given, request.remote_addr or "", request.host, request.headers.get("Authorization", "")
    ):
        return Response(metrics.render_metrics(get_context()), content_type=metrics.CONTENT_TYPE)
    if given.metrics_token.get_secret_value():
        return Response(
            "the token, please\n", 401, {"WWW-Authenticate": "Bearer"}, content_type="text/plain"
        )
    return Response(
        "set INTAKE_METRICS_TOKEN to ask from elsewhere\n", 403, content_type="text/plain"
    )


def _balance() -> ledger.Balance:
    with get_context().store.read_only() as session:
        return ledger.compute_balance(session)


def _outbox_state() -> OutboxState:
    said = request.args.get("state", "")
    return OutboxState(said) if said in failed.UNSENT_STATES else OutboxState.WAITING


def _done(deed: Callable[[Session], object], words: str) -> None:
    """Do it to something of a ticket's, whose number it gives, and say so; or why not."""
    try:
        with get_context().store.transaction() as session:
            ticket = deed(session)
        flash(words.format(ticket=ticket), "success")
    except ActionNotAllowed as missing:
        flash(str(missing), "error")


def _before() -> int | None:
    return parse_id(request.args.get("before")) or None


def _filter() -> AuditFilter:
    said = request.args
    ticket = parse_id(said.get("ticket", "").strip().removeprefix("#"))  # as people write it
    return AuditFilter(
        said.get("person", "").strip(), said.get("action", "").strip(), ticket or None, _day()
    )


def _day() -> date | None:
    try:
        day = date.fromisoformat(request.args.get("day", ""))
    except ValueError:
        return None
    return day if date.min + timedelta(2) < day < date.max - timedelta(2) else None


def _args(wanted: AuditFilter) -> dict[str, str]:
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
