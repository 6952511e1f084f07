"""Page of the signed-in person's account: time zone, absence, sign-in, active sessions."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import available_timezones

from flask import Blueprint, abort, flash, redirect, render_template, request, session
from sqlalchemy import delete, select, update
from werkzeug.wrappers import Response

from console.web.auth_sessions import ACCOUNT_KEY, Session
from console.web.filters import format_day
from console.web.request import (
    get_context,
    get_session,
    get_staff,
    get_time_zone,
    now,
    requires,
)
from workflow.audit import record as audit
from workflow.customers import directory, records
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account, WebSession
from workflow.models.core import Staff
from workflow.permissions import Right
from workflow.runtime.crypto import hash_secret

pages = Blueprint("account", __name__)
COMMON_TIME_ZONES = tuple(
    f"America/{city}"
    for city in (
        "New_York",
        "Chicago",
        "Denver",
        "Phoenix",
        "Los_Angeles",
        "Anchorage",
        "Puerto_Rico",
    )
)


@pages.get("/account")
@requires(Right.READ)
def show_account() -> str:
    """Show the signed-in person's account with the forms that change it."""
    account = get_session().scalars(select(Account).where(Account.id == _get_account_id())).one()
    sessions = get_session().scalars(
        select(WebSession)
        .where(WebSession.account_id == account.id)
        .order_by(WebSession.seen_at.desc())
    )
    colleagues = get_session().scalars(
        directory.select_present_staff().where(Staff.id != account.staff_id)
    )
    return render_template(
        "account.html",
        account=account,
        zones=[*COMMON_TIME_ZONES, *sorted(available_timezones() - set(COMMON_TIME_ZONES))],
        sessions=list(sessions),
        this_session=hash_secret(_get_web_session().token),
        colleagues=list(colleagues),
        absence=_describe_absence(account.staff),
    )


@pages.post("/account/time-zone")
@requires(Right.READ)
def save_time_zone() -> Response:
    """Save the time zone in which times are shown; empty means the desk's."""
    zone = request.form.get("zone", "")
    if zone and zone not in available_timezones():
        abort(400)
    with get_context().store.transaction() as session:
        session.execute(
            update(Account).where(Account.id == _get_account_id()).values(time_zone=zone)
        )
    flash("Times are now shown in this time zone.", "success")
    return redirect("/account")


@pages.post("/account/end-sessions")
@requires(Right.READ)
def end_sessions() -> Response:
    """Sign out every browser of the account but this one."""
    this_session = hash_secret(_get_web_session().token)
    with get_context().store.transaction() as session:
        session.execute(
            delete(WebSession).where(
                WebSession.account_id == _get_account_id(), WebSession.key != this_session
            )
        )
        audit.record(
            session,
            "sessions ended",
            by=get_staff().name,
            cause="account",
            now=now(),
            account=_get_account_id(),
        )
    flash("You are signed out everywhere else.", "success")
    return redirect("/account")


@pages.post("/account/away")
@requires(Right.WORK)
def save_absence() -> Response:
    """Save the first and last day of an absence and who covers; no first day ends it."""
    try:
        since = _parse_day(request.form.get("since", ""))
        # A person names the last day away; stored is the midnight after it.
        until = _parse_day(request.form.get("until", ""), days_later=1)
        with get_context().store.transaction() as session:
            person = session.get_one(Staff, get_staff().id)
            cover = session.get(Staff, parse_id(request.form.get("cover")) or 0)
            records.set_absence(
                session, person, since=since, until=until, cover=cover, by=person.name, now=now()
            )
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
    except ValueError:
        flash("Nothing was changed: that is not a date.", "error")
    else:
        flash(
            "Your new tasks go to your cover while you are away." if since else "You are here.",
            "success",
        )
    return redirect("/account")


def _describe_absence(person: Staff) -> str:
    """Return a sentence that says whether a person is or will be away, and who covers."""
    if person.away_since is None or (person.away_until is not None and person.away_until <= now()):
        return "You are here."
    cover = person.cover.name if person.cover else "nobody"
    period = format_day(person.away_since)
    if person.away_until:  # the midnight after the last day
        period += f" to {format_day(person.away_until - timedelta(days=1))}"
    return f"Away from {period}; {cover} covers."


def _parse_day(text: str, days_later: int = 0) -> datetime | None:
    """Return the midnight in UTC at which a day begins for the viewer; None for an empty text.

    Raises ValueError for anything but an ISO date.
    """
    if not text:
        return None
    day = date.fromisoformat(text) + timedelta(days=days_later)
    return datetime.combine(day, time(0), get_time_zone()).astimezone(UTC)


def _get_account_id() -> int:
    return int(session[ACCOUNT_KEY])


def _get_web_session() -> Session:
    # Flask gives out a proxy, and this is the only way to the object behind it.
    web_session = session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    assert isinstance(web_session, Session)
    return web_session
