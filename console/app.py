"""The Flask app for people: the desk behind sign-in, and customers' pages behind signed links."""

from pathlib import Path
from typing import cast

from flask import Flask, Response, current_app, render_template, request
from flask_bootstrap import Bootstrap5
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from console.api import endpoint as api
from console.pages import account, automated, customers, dashboard, people, saved_forms, tokens
from console.pages.admin import (
    canned_responses,
    column_mapping,
    deliveries,
    overview,
    sender_rules,
    staff,
    webhooks,
)
from console.pages.tickets import answer, attached, files, links, queue, saved_views, tasks, ticket
from console.web import api_errors, auth, filters, url_rules
from console.web import request as web_request
from workflow.context import AppContext
from workflow.runtime import log

PAGE_MODULES = (
    customers,
    queue,
    automated,
    saved_views,
    account,
    dashboard,
    ticket,
    files,
    attached,
    links,
    people,
    tasks,
    overview,
    deliveries,
    webhooks,
    column_mapping,
    staff,
    answer,
    canned_responses,
    sender_rules,
    tokens,
    saved_forms,
)
MAX_FORM_BYTES = 34 * 1024 * 1024  # attachments of an answer; mail servers accept no more
# No inline script: markup of a customer that slipped through could not act. `data:` is for the
# icons in Bootstrap's stylesheet and the picture of the second factor.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action"
    " 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # addresses of signed links are secrets
    "Cache-Control": "no-store",  # patient data must not stay on a shared computer
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ERROR_TEXTS = {
    400: (
        "Bad request",
        (
            "The page could not read what was sent, and nothing was changed. Go back, load the page"
            " again and repeat it."
        ),
    ),
    401: (
        "Sign in first",
        "You have been signed out, and nothing was changed. Sign in and repeat it.",
    ),
    403: ("Not allowed", "Your role does not have this right. An admin can change that."),
    404: (
        "Not found",
        (
            "There is nothing here, or no longer. If a link in our mail brought you here, copy all"
            " of it."
        ),
    ),
    405: (
        "This page does not accept that kind of request",
        "Nothing was changed. Open the page from the menu and use its buttons.",
    ),
    413: ("Too large", "What was sent is larger than a mail can be."),
    429: ("Too often", "Wait a minute, then try again."),
}


def create_app(context: AppContext) -> Flask:
    """Build the console app over a context.

    Nothing is shown without a right or a signed link, and no GET request changes anything.
    """
    console = Path(__file__).parent
    app = Flask("console", root_path=str(console))
    app.url_rule_class = url_rules.LazyRule
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=2 * 1024 * 1024,  # text fields, which stay in memory
        BOOTSTRAP_SERVE_LOCAL=True,  # no browser of the desk loads from a foreign host
        # No longer: after an update the addresses of static files are the same as before.
        SEND_FILE_MAX_AGE_DEFAULT=3600,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    Bootstrap5(app)
    web_request.register_context(app, context)
    filters.register_filters(app)
    auth.register_auth(app, context)
    for part in PAGE_MODULES:
        app.register_blueprint(part.pages)
    # Customers have no session; the signed token in the address is the proof. Mail programs also
    # post there, without a page of ours (RFC 8058).
    auth.csrf.exempt(customers.pages)
    api.register_api(app, context)
    auth.csrf.exempt(api.blueprint)  # it reads no cookie, so no other site can misuse one
    app.register_error_handler(CSRFError, _answer_expired_form)
    app.register_error_handler(Exception, _answer_error)
    app.after_request(_add_security_headers)
    app.after_request(saved_forms.forget_resent_form)
    return app


def _answer_expired_form(error: Exception) -> AnyResponse | tuple[str, int]:
    """Answer a form whose CSRF token fits no session any more.

    Save what was typed when the form is ours; refuse it otherwise. A script gets a status only.
    """
    signed_out = isinstance(error, CSRFError) and error.description == auth.SESSION_ENDED_MESSAGE
    if request.path.startswith("/api/"):
        return api_errors.build_error_response(error)
    refused = Unauthorized() if signed_out or _is_script_request() else error
    return saved_forms.save_late_form() or _answer_error(refused)


def _is_script_request() -> bool:
    return hasattr(
        current_app.view_functions.get(request.endpoint or ""), web_request.SCRIPT_ATTRIBUTE
    )


def _answer_error(error: Exception) -> AnyResponse | tuple[str, int]:
    """Answer an error with a fixed text, so that nothing internal is shown."""
    if request.path.startswith("/api/"):
        return api_errors.build_error_response(error)
    if isinstance(error, HTTPException):
        if error.response is not None:
            return cast("Response", error.response)
        code = error.code or 500
        if code < 400:  # noqa: PLR2004  # werkzeug raises redirects as exceptions, too
            return cast("Response", error.get_response())
        title, text = ERROR_TEXTS.get(code, ("This did not work", "Go back and try again."))
        return render_template("error.html", title=title, text=text), code
    log.fault("console", error)
    text = "Something went wrong on our side. Nothing was changed. Please try again."
    return render_template("error.html", title="Internal error", text=text), 500


def _add_security_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    for name, value in SECURITY_HEADERS.items():
        if not (name == "Cache-Control" and request.endpoint in {"static", "bootstrap.static"}):
            response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response
