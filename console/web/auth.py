"""Sign-in by Flask-Security: password, lock-out, second factor, single sign-on, invitations."""

import hashlib
from datetime import timedelta
from typing import Any, cast

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_security import Security, current_user, hash_password
from flask_security.signals import user_authenticated
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response as AnyResponse

from console.web import api_auth, form_tokens
from console.web.auth_accounts import LOCK_DURATION, MAX_FAILURES, Accounts, User, record_sign_in
from console.web.auth_oidc import NO_ACCOUNT_MESSAGE, OidcProvider
from console.web.auth_sessions import (
    ACCOUNT_KEY,
    FORMS_LISTED,
    FORMS_TO_SHOW,
    SAVED_FORMS_KEY,
    ServerSessions,
    Session,
)
from console.web.request import (
    PUBLIC,
    RIGHT_ATTRIBUTE,
    get_context,
    get_session,
    is_allowed,
    now,
    public,
    when_expired,
)
from workflow.accounts import invitations, saved_forms
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.customers import directory
from workflow.models.accounts import Account, Invitation, make_uniquifier
from workflow.models.core import Staff
from workflow.permissions import Right
from workflow.runtime import crypto

SHORTEST_PASSWORD = 12  # characters
SIGN_IN_LIMIT = "20 per minute"  # from one address
SESSION_ENDED_MESSAGE = "The session has ended."
# without a page of ours; "" is an address that no view serves
OPEN_ENDPOINTS = frozenset({"", "static", "bootstrap.static", "security.static"})
LIBRARY_BLUEPRINT = "security"  # the library's blueprint; its views check permissions themselves
csrf = CSRFProtect()
pages = Blueprint("accounts", __name__)


def register_auth(app: Flask, context: AppContext) -> None:
    """Give the app sessions, accounts and the permission check before every view."""
    app.session_interface = ServerSessions(context)
    app.config.update(_build_configuration(context))
    csrf.init_app(app)
    security = Security(app, Accounts(context), register_blueprint=True)
    if context.settings.oidc is not None and security.oauthglue is not None:
        security.oauthglue.register_provider_ext(OidcProvider(context.settings.oidc))
    # in memory: each process counts alone, on top of the lock-out that all of them share
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", default_limits=[])
    for view in ("login", "verify", "two_factor_token_validation"):
        name = f"{LIBRARY_BLUEPRINT}.{view}"
        app.view_functions[name] = limiter.limit(SIGN_IN_LIMIT, methods=["POST"])(
            cast("Any", app.view_functions[name])
        )
    app.register_blueprint(pages)
    app.before_request(_check_permission)
    app.jinja_env.globals["lock"] = {
        "failures": MAX_FAILURES,
        "minutes": LOCK_DURATION // timedelta(minutes=1),
    }
    app.jinja_env.globals["oidc_name"] = context.settings.oidc.name if context.settings.oidc else ""
    user_authenticated.connect(_on_sign_in, app)


def _build_configuration(context: AppContext) -> dict[str, Any]:
    secret = [
        hashlib.sha256(b"support-intake console\0" + k).hexdigest()
        for k in crypto.load_keys(context.settings)
    ]
    return {
        "SECRET_KEY": secret[0],
        "SECRET_KEY_FALLBACKS": secret[1:],  # old keys still open what they signed
        "SECURITY_PASSWORD_SALT": secret[0],
        "SECURITY_PASSWORD_LENGTH_MIN": SHORTEST_PASSWORD,
        # the same answer for a wrong password and an unknown address
        "SECURITY_RETURN_GENERIC_RESPONSES": True,
        "SECURITY_CHANGEABLE": True,
        "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": False,
        "SECURITY_TWO_FACTOR": True,
        "SECURITY_TWO_FACTOR_REQUIRED": context.settings.second_factor,
        "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator"],
        # whoever reads the mailbox must not get around the second factor
        "SECURITY_TWO_FACTOR_RESCUE_EMAIL": False,
        "SECURITY_MULTI_FACTOR_RECOVERY_CODES": True,
        "SECURITY_TOTP_SECRETS": {str(len(secret) - n): s for n, s in enumerate(secret)},
        "SECURITY_TOTP_ISSUER": "support-intake",
        "SECURITY_OAUTH_ENABLE": context.settings.oidc is not None,
        "SECURITY_OAUTH_BUILTIN_PROVIDERS": [],
        "SECURITY_MSG_IDENTITY_NOT_REGISTERED": (NO_ACCOUNT_MESSAGE, "error"),
        "SECURITY_MSG_DISABLED_ACCOUNT": (NO_ACCOUNT_MESSAGE, "error"),
        "SECURITY_FRESHNESS": timedelta(minutes=context.settings.idle_minutes),
        # addresses are not looked up in DNS: internal domains are valid, too
        "SECURITY_EMAIL_VALIDATOR_ARGS": {"check_deliverability": False, "test_environment": True},
        "SECURITY_JOIN_USER_ROLES": False,
        "SECURITY_DEFAULT_REMEMBER_ME": False,
        "SECURITY_STATIC_FOLDER_URL": "/sign-in-static",
        "REMEMBER_COOKIE_HTTPONLY": True,
        "WTF_CSRF_TIME_LIMIT": None,  # as long as the session
        "WTF_CSRF_SSL_STRICT": context.settings.public_url.startswith("https://"),
        "RATELIMIT_HEADERS_ENABLED": False,
    }


def _on_sign_in(app: Flask, user: User, **_: object) -> None:
    """Start a new session for the person who signs in, and record it in the audit log."""
    del app
    cast("Session", session).renew()  # against session fixation
    session[ACCOUNT_KEY] = user.id
    session[form_tokens.CSRF_FIELD] = form_tokens.create_secret(user.id)
    record_sign_in(get_context(), user)
    if saved_forms.list_forms(get_session(), get_context().sealer, user.id, now()):
        session[SAVED_FORMS_KEY] = FORMS_TO_SHOW


def _check_permission() -> AnyResponse | None:
    """Check that the view names a right and the person has it, before every request."""
    endpoint = request.endpoint or ""
    if endpoint in OPEN_ENDPOINTS:
        return None
    view = current_app.view_functions.get(endpoint)
    if request.blueprint == api_auth.BLUEPRINT:  # programs send a token; no cookie is read there
        api_auth.authorize_call(view)
        return None
    _load_person()
    right = getattr(view, RIGHT_ATTRIBUTE, None)
    if right == PUBLIC or endpoint.startswith(f"{LIBRARY_BLUEPRINT}."):
        return None
    if g.get("staff") is None:
        return _redirect_to_sign_in()
    if right is None or not is_allowed(Right(right)):
        abort(403)
    if session.get(SAVED_FORMS_KEY) == FORMS_TO_SHOW:
        return _redirect_to_saved_form()
    return None


def _load_person() -> None:
    """Set the signed-in person and their time zone for this request."""
    if current_user and current_user.is_authenticated:
        g.staff, g.time_zone = current_user.staff, current_user.time_zone
    elif ACCOUNT_KEY in session:  # signed out elsewhere, or every session of the account was ended
        session.clear()


def _redirect_to_saved_form() -> AnyResponse | None:
    """Redirect the first page after sign-in to the forms saved before it."""
    # a script of another tab must not use the redirect up: nobody would see it
    mode = request.headers.get("Sec-Fetch-Mode", "navigate")
    if request.method != "GET" or mode != "navigate":
        return None
    session[SAVED_FORMS_KEY] = FORMS_LISTED
    return None if request.blueprint == "saved_forms" else redirect(url_for("saved_forms.newest"))


def _redirect_to_sign_in() -> AnyResponse:
    if request.method != "GET":
        # answered like a form whose token has expired: its fields are saved
        raise CSRFError(SESSION_ENDED_MESSAGE)
    back = request.full_path.rstrip("?")
    return redirect(url_for("security.login", next=back if back != "/" else None))


# -- links that make accounts ----


@pages.get("/join/<token>")
@public
def join(token: str) -> str:
    """Show the form of an invitation."""
    with get_context().store.transaction() as session:
        invitation = invitations.find_valid_invitation(session, token, now())
        if invitation is None:
            abort(404)
        name, email = _find_invited_person(session, invitation)
    return render_template(
        "join.html", name=name, email=email, shortest=SHORTEST_PASSWORD, fault=""
    )


def _show_join_again(token: str) -> tuple[str, int]:
    """Show the form again with name and address; a password is never stored."""
    del token
    fault = "This page was open for too long. Only the password is lost: type it again."
    page = render_template(
        "join.html",
        name=request.form.get("name", "")[:200],
        email=request.form.get("email", "")[:320],
        shortest=SHORTEST_PASSWORD,
        fault=fault,
    )
    return page, 400


@pages.post("/join/<token>")
@when_expired(_show_join_again)
@public
def create_account_by_link(token: str) -> AnyResponse | tuple[str, int]:
    """Create the account or set the new password; the link is used up."""
    name, email = (
        request.form.get("name", "").strip()[:200],
        request.form.get("email", "").strip().casefold(),
    )
    password = request.form.get("password", "")
    fault = _find_fault(name, email, password, request.form.get("again", ""))
    if not fault:
        try:
            _create_account(token, name, email, password)
        except IntegrityError:
            fault = (
                "There is an account with this name or address already: sign in, or ask an admin"
                " for a link."
            )
    if fault:
        page = render_template(
            "join.html", name=name, email=email, shortest=SHORTEST_PASSWORD, fault=fault
        )
        return page, 400
    flash("Your account is ready. Sign in with it.", "success")
    return redirect(url_for("security.login"))


def _find_invited_person(session: Any, invitation: Invitation) -> tuple[str, str]:
    person = session.get(Staff, invitation.staff_id) if invitation.staff_id else None
    return (person.name, person.email) if person is not None else ("", "")


def _find_fault(name: str, email: str, password: str, again: str) -> str:
    faults = {
        "Enter your name.": not name or not name.isprintable(),
        "This is not a mail address.": not directory.is_valid_address(email),
        f"Use at least {SHORTEST_PASSWORD} characters; a few words are best.": (
            len(password) < SHORTEST_PASSWORD
        ),
        "The two passwords are not the same.": password != again,
    }
    return next((words for words, wrong in faults.items() if wrong), "")


def _create_account(token: str, name: str, email: str, password: str) -> None:
    moment = now()
    with get_context().store.transaction() as session:
        invitation = invitations.find_valid_invitation(session, token, moment)
        if invitation is None:
            abort(404)
        # In the transaction that makes the account: a link whose use failed can be tried again.
        invitation.used_at = moment
        person = session.get(Staff, invitation.staff_id) if invitation.staff_id else None
        if person is None:
            # added by `intake user add` before the first admin had an account
            person = session.scalar(select(Staff).where(Staff.name == name))
        if person is None:
            person = Staff(name=name, email=email, role=invitation.role, created_at=moment)
            session.add(person)
        # An address on record stays: reminders may go to another one than they sign in by.
        person.role, person.email = invitation.role, person.email or email
        session.flush()
        account = session.scalar(select(Account).where(Account.staff_id == person.id))
        if account is None:
            account = Account(staff_id=person.id, created_at=moment)
            session.add(account)
        account.email, account.password, account.uniquifier = (
            email,
            hash_password(password),
            make_uniquifier(),
        )
        account.active, account.failures, account.locked_until = True, 0, None
        session.flush()
        audit.record(
            session, "account", by=person.name, cause="invitation", now=moment, account=account.id
        )


def _end_session() -> Response:
    session.clear()
    return cast("Response", redirect(url_for("security.login")))


@pages.post("/sign-out")
@when_expired(_end_session)  # signing out is what an old page wants, too
@public
def sign_out() -> Response:
    """End the session on the server, for every copy of its cookie."""
    return _end_session()
