"""One's own account: time zone, password, second factor, and where one is signed in."""

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
from workflow.customers import records
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
def show() -> str:
    """Return what the account is, and what can be changed of it."""
    account = get_session().scalars(select(Account).where(Account.id == _mine())).one()
    signed_in = get_session().scalars(
        select(WebSession)
        .where(WebSession.account_id == account.id)
        .order_by(WebSession.seen_at.desc())
    )
    zones = [*COMMON_TIME_ZONES, *sorted(available_timezones() - set(COMMON_TIME_ZONES))]
    here = hash_secret(_browser().token)
    others = list(
        get_session().scalars(
            select(Staff).where(Staff.id != account.staff_id).order_by(Staff.name)
        )
    )
    return render_template(
        "account.html",
        account=account,
        zones=zones,
        sessions=list(signed_in),
        here=here,
        others=others,
        away=_away(account.staff),
    )


@pages.post("/account/time-zone")
@requires(Right.READ)
def time_zone() -> Response:
    """Read all times in another zone from now on."""
    zone = request.form.get("zone", "")
    if zone and zone not in available_timezones():
        abort(400)
    with get_context().store.transaction() as session:
        session.execute(update(Account).where(Account.id == _mine()).values(time_zone=zone))
    flash("Times are shown in this zone now.", "success")
    return redirect("/account")


@pages.post("/account/end-sessions")
@requires(Right.READ)
def end_sessions() -> Response:
    """Sign out everywhere but here."""
    here = hash_secret(_browser().token)
    with get_context().store.transaction() as session:
        others = delete(WebSession).where(WebSession.account_id == _mine(), WebSession.key != here)
        session.execute(others)
        audit.record(
            session,
            "sessions ended",
            by=get_staff().name,
            cause="account",
            now=now(),
            account=_mine(),
        )
    flash("You are signed out everywhere else.", "success")
    return redirect("/account")


@pages.post("/account/away")
@requires(Right.WORK)
def away() -> Response:
    """Say from which day to which one is away, and who covers; without a first day one is back."""
    said = {field: request.form.get(field, "") for field in ("since", "until")}
    try:
        since, until = (_midnight(said["since"]), _midnight(said["until"], days=1))
        with get_context().store.transaction() as session:
            person = session.get_one(Staff, get_staff().id)
            cover = session.get(Staff, parse_id(request.form.get("cover")) or 0)
            records.set_absence(
                session, person, since=since, until=until, cover=cover, by=person.name, now=now()
            )
    except (ActionNotAllowed, ValueError) as fault:
        flash(
            f"Nothing was changed: {fault if isinstance(fault, ActionNotAllowed) else 'that is no day'}.",
            "error",
        )
    else:
        flash(
            "New tasks of yours go to your cover meanwhile." if since else "You are here.",
            "success",
        )
    return redirect("/account")


def _away(person: Staff) -> str:
    """Return whether a person is or will be away, and who covers, in words."""
    if person.away_since is None or (person.away_until is not None and person.away_until <= now()):
        return "You are here."
    last = f" to {format_day(person.away_until - timedelta(days=1))}" if person.away_until else ""
    return (
        f"Away from {format_day(person.away_since)}{last};"
        f" {person.cover.name if person.cover else 'nobody'} covers."
    )


def _midnight(said: str, days: int = 0) -> datetime | None:
    """The beginning of the viewer's day, so many days later; None where none is said.

    Raises ValueError.
    """
    if not said:
        return None
    return datetime.combine(
        date.fromisoformat(said) + timedelta(days=days), time(0), get_time_zone()
    ).astimezone(UTC)


def _mine() -> int:
    return int(session[ACCOUNT_KEY])


def _browser() -> Session:
    # a proxy has no other way
    found = session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    assert isinstance(found, Session)
    return found
