"""One's own account: time zone, password, second factor, and where one is signed in."""

from zoneinfo import available_timezones

from flask import Blueprint, abort, flash, redirect, render_template, request, session
from sqlalchemy import delete, select, update
from werkzeug.wrappers import Response

from console.web.asking import db, house, needs, now, staff
from console.web.sessions import ACCOUNT, Session, key_of
from workflow import audit
from workflow.account_models import Account, WebSession
from workflow.rights import Right

pages = Blueprint("account", __name__)
COMMON = tuple(
    f"America/{city}"
    for city in ("New_York", "Chicago", "Denver", "Phoenix", "Los_Angeles", "Anchorage", "Puerto_Rico")
)


@pages.get("/account")
@needs(Right.READ)
def show() -> str:
    """What the account is, and what can be changed of it."""
    account = db().scalars(select(Account).where(Account.id == _mine())).one()
    signed_in = db().scalars(
        select(WebSession).where(WebSession.account_id == account.id).order_by(WebSession.seen_at.desc())
    )
    zones = [*COMMON, *sorted(available_timezones() - set(COMMON))]
    here = key_of(_browser().token)
    return render_template("account.html", account=account, zones=zones, sessions=list(signed_in), here=here)


@pages.post("/account/time-zone")
@needs(Right.READ)
def time_zone() -> Response:
    """Read all times in another zone from now on."""
    zone = request.form.get("zone", "")
    if zone and zone not in available_timezones():
        abort(400)
    with house().store.transaction() as session:
        session.execute(update(Account).where(Account.id == _mine()).values(time_zone=zone))
    flash("Times are shown in this zone now.", "success")
    return redirect("/account")


@pages.post("/account/end-sessions")
@needs(Right.READ)
def end_sessions() -> Response:
    """Sign out everywhere but here."""
    here = key_of(_browser().token)
    with house().store.transaction() as session:
        others = delete(WebSession).where(WebSession.account_id == _mine(), WebSession.key != here)
        session.execute(others)
        audit.record(session, "sessions ended", by=staff().name, cause="account", now=now(), account=_mine())
    flash("You are signed out everywhere else.", "success")
    return redirect("/account")


def _mine() -> int:
    return int(session[ACCOUNT])


def _browser() -> Session:
    found = session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # a proxy has no other way
    assert isinstance(found, Session)
    return found
