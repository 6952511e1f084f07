"""Pages of operations: overview, ledger, outbox, deadlines, audit log, settings, metrics."""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters.operations import (
    CHANNEL_LABELS,
    CHECK_LABELS,
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
from workflow.tickets.upcoming import UpcomingTask

MAIL_RETRY_MESSAGE = "The mail about ticket #{ticket} is being sent again."
FILE_RETRY_MESSAGE = "The file of ticket #{ticket} is being fetched again."
EMPTY_OUTBOX_TEXTS = {
    OutboxState.WAITING: "No mail is waiting to be sent.",
    OutboxState.REFUSED: "No mail was refused.",
    OutboxState.WITHHELD: "No mail was withheld.",
    OutboxState.BOUNCED: "No mail bounced.",
}
MAX_WORKBOOKS = 100  # on the page; the command lists all

pages = Blueprint("operations", __name__)


@pages.get("/operations")
@requires(Right.AUDIT)
def show_overview() -> str:
    """Show what `intake status` prints: channels, processes, backlog, checks, needs."""
    status = present_status(get_context())
    return render_template(
        "operations/overview.html",
        status=status,
        channels=list_channels(status, get_context().settings, now()),
        at=datetime.fromisoformat,
        labels=CHANNEL_LABELS,
        check_labels=CHECK_LABELS,
        files=list_unfetched_files(get_session(), status["backlog"]),
        now=now(),
        alarm_days=oauth_tokens.ALARM_DAYS,
        with_links=link_commands,
    )


@pages.get("/operations/ledger")
@requires(Right.AUDIT)
def show_ledger() -> str:
    """Show what `intake ledger` prints.

    A page of its own, because it counts every item there is.
    """
    balance = _compute_balance()
    row_kinds = ("rows", *sheet_counts.ROW_KINDS)
    return render_template(
        "operations/ledger.html",
        balance=balance,
        channel_headings=["Channel", *_list_number_headings(balance.total.as_dict()), "adds up"],
        workbook_headings=["Delivery", *_list_number_headings(row_kinds), "adds up"],
        row_kinds=row_kinds,
        workbooks=balance.workbooks[:MAX_WORKBOOKS],
        more_workbooks=len(balance.workbooks[MAX_WORKBOOKS:]),
        unbalanced_workbooks=balance.unbalanced_workbooks[:MAX_WORKBOOKS],
    )


@pages.get("/operations/ledger.csv")
@requires(Right.AUDIT)
def download_ledger() -> Response:
    """Send the ledger as CSV, a line for each channel and one for the total."""
    balance = _compute_balance()
    heads = ["channel", *balance.total.as_dict(), "adds up"]
    lines = {**balance.channels, "total": balance.total}
    rows = [
        [name, *map(str, line.as_dict().values()), "yes" if line.adds_up else "NO"]
        for name, line in lines.items()
    ]
    return build_csv_response("ledger", [heads, *rows])


@pages.get("/operations/outbox")
@requires(Right.AUDIT)
def show_outbox() -> str:
    """Show a page of the mails that are not sent, of one state."""
    state = _get_outbox_state()
    mails, older = failed.list_mails(get_session(), state, _get_before())
    return render_template(
        "operations/outbox.html",
        mails=mails,
        older=older,
        state=state,
        empty_text=EMPTY_OUTBOX_TEXTS[state],
        states=failed.UNSENT_STATES,
        counts=failed.count_by_state(get_session()),
        may_retry=lambda mail: failed.may_retry(mail, now()),
        now=now(),
    )


@pages.get("/operations/outbox.csv")
@requires(Right.AUDIT)
def download_outbox() -> Response:
    """Send the newest unsent mails as CSV, without addresses: the tickets have them."""
    state = _get_outbox_state()
    mails, _ = failed.list_mails(get_session(), state, most=failed.MAX_EXPORTED)
    heads = ["mail", "ticket", "template", "state", "reason", "attempts", "queued", "next attempt"]
    is_waiting = state is OutboxState.WAITING
    rows = [
        [
            str(mail.id),
            str(mail.ticket_id),
            mail.template,
            mail.state,
            mail.reason,
            str(mail.attempts),
            format_iso(mail.created_at) or "",
            (format_iso(mail.not_before) or "") if is_waiting else "",
        ]
        for mail in mails
    ]
    return build_csv_response(f"outbox-{state}", [heads, *rows])


@pages.post("/operations/outbox/<int:number>/retry")
@requires(Right.LEAD)
def retry_mail(number: int) -> AnyResponse:
    """Send one mail again, now."""
    _change(
        lambda session: (
            failed.retry_mail(session, number, by=get_staff().name, now=now()).ticket_id
        ),
        MAIL_RETRY_MESSAGE,
    )
    return redirect(url_for("operations.show_outbox"))


@pages.post("/operations/outbox/retry")
@requires(Right.LEAD)
def retry_waiting_mails() -> AnyResponse:
    """Send again, now, every mail that waits between two attempts: the relay works again."""
    with get_context().store.transaction() as session:
        count = failed.retry_waiting_mails(session, by=get_staff().name, now=now())
    flash(
        f"{count} mails are being sent again." if count else "No mail waits: all are due already.",
        "success",
    )
    return redirect(url_for("operations.show_outbox"))


@pages.post("/operations/files/<int:number>/again")
@requires(Right.LEAD)
def retry_file(number: int) -> AnyResponse:
    """Fetch a linked file again: its server works again, or its host is allowed now."""
    _change(
        lambda session: linked_files.retry(session, number, by=get_staff().name, now=now()),
        FILE_RETRY_MESSAGE,
    )
    return redirect(url_for("operations.show_overview", _anchor="files"))


@pages.get("/operations/next-week")
@requires(Right.AUDIT)
def show_next_week() -> str:
    """Show the deadlines of the next seven days, by day and person."""
    deadlines, has_more = upcoming.list_upcoming(get_session(), get_context().settings, now())
    days: dict[date, list[UpcomingTask]] = {}
    for deadline in deadlines:
        days.setdefault(deadline.at.astimezone(get_time_zone()).date(), []).append(deadline)
    return render_template(
        "operations/next_week.html",
        days=[(day, len(of_day), _group_by_person(of_day)) for day, of_day in days.items()],
        has_more=has_more,
        max_tickets=upcoming.LONGEST,
    )


@pages.get("/operations/next-week.csv")
@requires(Right.AUDIT)
def download_next_week() -> Response:
    """Send the deadlines of the next seven days as CSV."""
    deadlines, _ = upcoming.list_upcoming(get_session(), get_context().settings, now())
    heads = ["due", "ticket", "unless recorded", "task", "assigned to"]
    rows = [
        [format_iso(d.at) or "", str(d.ticket.id), d.deadline.milestone, d.deadline.task, d.person]
        for d in deadlines
    ]
    return build_csv_response("next-week", [heads, *rows])


@pages.get("/operations/audit")
@requires(Right.AUDIT)
def show_audit_log() -> str:
    """Show a page of the audit log, newest entries first; empty where nothing matches."""
    audit_filter = _get_audit_filter()
    rows, older = search.list_page(get_session(), audit_filter, get_time_zone(), _get_before())
    return render_template(
        "operations/audit.html",
        rows=present_audit(get_session(), rows),
        older=older,
        filters=audit_filter,
        query=_build_query(audit_filter),
        actions=search.list_recent_actions(get_session()),
    )


@pages.get("/operations/audit.csv")
@requires(Right.AUDIT)
def download_audit_log() -> Response:
    """Send the newest entries that match the filter as CSV.

    The export is itself recorded in the audit log.
    """
    query = search.build_query(_get_audit_filter(), get_time_zone())
    entries = list(get_session().scalars(query.limit(search.MAX_EXPORTED)))
    with get_context().store.transaction() as session:
        audit.record(
            session,
            "exported",
            by=get_staff().name,
            cause="audit log",
            now=now(),
            rows=len(entries),
        )
    heads = ["number", "at", "who", "action", "ticket", "why", "detail"]
    rows = [
        [
            str(entry.id),
            format_iso(entry.at) or "",
            entry.actor,
            entry.action,
            str(entry.ticket_id or ""),
            entry.cause,
            " ".join(f"{key}={value}" for key, value in entry.detail.items()),
        ]
        for entry in entries
    ]
    return build_csv_response("audit", [heads, *rows])


@pages.get("/operations/settings")
@requires(Right.AUDIT)
def show_settings() -> str:
    """Show every setting with its value and source; of a secret only whether it is set."""
    return render_template(
        "operations/settings.html", settings=report.list_settings(get_context().settings)
    )


@pages.get("/metrics")
@public
def send_metrics() -> Response:
    """Send the metrics in Prometheus' text format.

    401 without the token where one is set; 403 from another machine where none is.
    """
    settings = get_context().settings
    if metrics.may_read_metrics(
        settings, request.remote_addr or "", request.host, request.headers.get("Authorization", "")
    ):
        return Response(metrics.render_metrics(get_context()), content_type=metrics.CONTENT_TYPE)
    if settings.metrics_token.get_secret_value():
        return Response(
            "the token, please\n", 401, {"WWW-Authenticate": "Bearer"}, content_type="text/plain"
        )
    return Response(
        "set INTAKE_METRICS_TOKEN to ask from elsewhere\n", 403, content_type="text/plain"
    )


def _compute_balance() -> ledger.Balance:
    with get_context().store.read_only() as session:
        return ledger.compute_balance(session)


def _group_by_person(deadlines: Iterable[UpcomingTask]) -> dict[str, list[UpcomingTask]]:
    """Return the deadlines of each person, sorted by name; "" where nobody is set up."""
    people: dict[str, list[UpcomingTask]] = {}
    for deadline in sorted(deadlines, key=lambda deadline: deadline.person.lower()):
        people.setdefault(deadline.person, []).append(deadline)
    return people


def _list_number_headings(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return headings of columns of numbers, as the macro `table_head` takes them."""
    return [(name, "text-end") for name in names]


def _get_outbox_state() -> OutboxState:
    state = request.args.get("state", "")
    return OutboxState(state) if state in failed.UNSENT_STATES else OutboxState.WAITING


def _change(change: Callable[[Session], object], message: str) -> None:
    """Make a change that returns a ticket's number; flash the message, or why it failed."""
    try:
        with get_context().store.transaction() as session:
            ticket = change(session)
        flash(message.format(ticket=ticket), "success")
    except ActionNotAllowed as error:
        flash(str(error), "error")


def _get_before() -> int | None:
    """Return the id before which the page begins; None for the newest page."""
    return parse_id(request.args.get("before")) or None


def _get_audit_filter() -> AuditFilter:
    ticket = parse_id(request.args.get("ticket", "").strip().removeprefix("#"))
    return AuditFilter(
        request.args.get("person", "").strip(),
        request.args.get("action", "").strip(),
        ticket or None,
        _get_day(),
    )


def _get_day() -> date | None:
    """Return the day of the filter; None for anything but a date.

    Also None at the ends of the calendar, where a time zone's offset would overflow.
    """
    try:
        day = date.fromisoformat(request.args.get("day", ""))
    except ValueError:
        return None
    margin = timedelta(days=2)
    return day if date.min + margin < day < date.max - margin else None


def _build_query(audit_filter: AuditFilter) -> dict[str, str]:
    """Return the filter as the query of the address of another page."""
    values = {
        "person": audit_filter.person,
        "action": audit_filter.action,
        "ticket": audit_filter.ticket,
        "day": audit_filter.day,
    }
    return {name: str(value) for name, value in values.items() if value}
