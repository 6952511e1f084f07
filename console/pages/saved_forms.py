"""Forms that outlived their session.

Kept when they come too late, shown again to who filled them in.

A form whose token fits no session any more is not refused. If we made it, for an account, what was
typed is kept for that account (workflow/accounts/saved_forms.py) and shown after sign-in, to be
sent again by one press. Nothing is sent by itself: the press carries a fresh token like that of any
other form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import (
    Blueprint,
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
from flask_security import current_user
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from console.web import form_tokens
from console.web.auth_sessions import FORMS_LISTED, SAVED_FORMS_KEY
from console.web.request import (
    EXPIRED_ATTRIBUTE,
    SCRIPT_ATTRIBUTE,
    get_context,
    get_session,
    now,
    requires,
)
from workflow.accounts import saved_forms
from workflow.accounts.saved_forms import FormContent
from workflow.permissions import Right

RESENT_KEY = (  # in the address a kept form is sent to: its key, so that it is forgotten then
    "kept_form"
)
LIBRARY = "security."  # endpoints of the sign-in library
MAX_LINE_LENGTH = 60  # characters: longer ones are shown on several lines
# Fields that people type into, and what their forms call them; a test holds it to the templates.
# The others are choices and marks of the page: they are sent along as they were.
TYPED_FIELDS = {
    "body": "Text",
    "cc": "Cc",
    "company": "Company",
    "day": "Day",
    "domains": "Mail domains",
    "email": "Mail address",
    "folder": "Folder",
    "into": "Into ticket",
    "name": "Name",
    "new_email": "Another mail address",
    "new_name": "Name of another contact",
    "note": "Note",
    "number": "Number",
    "other": "Ticket",
    "phone": "Phone",
    "reason": "Reason",
    "row": "Row",
    "since": "Since",
    "subject": "Subject",
    "text": "Text",
    "until": "Until",
}
TYPED_OR_CHOSEN = {
    "company",
    "into",
    "name",
    "number",
    "other",
    "row",
}  # where digits alone are a choice or a mark
SIGNED_OUT = "You were signed out. Sign in: what you typed is not lost and is shown again then."
PAGE_TOO_OLD = "This page was older than your sign-in. Nothing was lost: check and send it again."
TRY_AGAIN = "This page was open for too long, so nothing was done. Please try once more."
NOT_SAVED = (
    "You were signed out, and nothing was done. Sign in, go to the page again and repeat it."
)

pages = Blueprint("kept_forms", __name__)


@dataclass(frozen=True)
class Field:
    """A field of a kept form, as its page shows it."""

    name: str
    label: str
    value: str
    is_editable: bool  # can be changed before it is sent
    is_long: bool


@pages.get("/kept-forms")
@requires(Right.READ)
def listed() -> AnyResponse | str:
    """The forms that wait to be sent again."""
    found = saved_forms.list_forms(get_session(), get_context().sealer, _me() or 0, now())
    if not found:
        session.pop(SAVED_FORMS_KEY, None)
        return redirect("/")
    until = [(form, form.at + saved_forms.KEEP_FOR) for form in found]
    return render_template("kept_forms/list.html", forms=until, page_of=find_page)


@pages.get("/kept-forms/newest")
@requires(Right.READ)
def newest() -> AnyResponse:
    """Lead to the form that was kept last."""
    found = saved_forms.list_forms(get_session(), get_context().sealer, _me() or 0, now())
    return redirect(url_for("kept_forms.show", key=found[0].key) if found else "/")


@pages.get("/kept-forms/<key>")
@requires(Right.READ)
def show(key: str) -> str:
    """Return what was typed, with a button that sends it."""
    form = saved_forms.find_form(get_session(), get_context().sealer, _me() or 0, key, now())
    if form is None:
        abort(404)
    path, _, query = form.content.path.partition("?")
    again = urlencode([*parse_qsl(query), (RESENT_KEY, key)])
    return render_template(
        "kept_forms/form.html",
        form=form,
        action=f"{path}?{again}",
        page=find_page(path),
        fields=[_field(name, value) for name, value in form.content.fields],
        until=form.at + saved_forms.KEEP_FOR,
    )


@pages.post("/kept-forms/<key>/discard")
@requires(Right.READ)
def discard(key: str) -> AnyResponse:
    """Throw one away."""
    _forget(key)
    flash("What you had typed was thrown away.", "success")
    return redirect("/kept-forms" if session.get(SAVED_FORMS_KEY) else "/")


# -- a form that comes too late ----


def save_late_form() -> AnyResponse | tuple[str, int] | None:
    """Answer the form of this request, whose token fits no session; None where it is to be refused.

    It is refused where we did not make it, where another site sent it, and where a script did.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    token = request.form.get(form_tokens.CSRF_FIELD, "")
    if (
        hasattr(view, SCRIPT_ATTRIBUTE)
        or not form_tokens.is_our_token(token)
        or _from_another_site()
    ):
        return None
    own = cast("Callable[..., AnyResponse] | None", getattr(view, EXPIRED_ATTRIBUTE, None))
    if own is not None:
        return own(**(request.view_args or {}))
    if (request.endpoint or "").startswith(LIBRARY):  # passwords and codes: never kept
        flash(TRY_AGAIN, "error")
        return redirect(_library_page())
    owner, me = form_tokens.find_account_id(token), _me()
    if owner is None:  # a page that needs no sign-in; nobody types a form of the desk there
        if me is not None or g.get("csrf_valid"):
            return None
        flash(NOT_SAVED, "error")
        return redirect(url_for("security.login", next=find_page(request.path)))
    return _kept(owner, me)


def _kept(owner: int, me: int | None) -> AnyResponse | tuple[str, int]:
    """Keep the form for its owner, and lead who is asking to it, or to the sign-in page."""
    before = request.args.get(RESENT_KEY)
    with get_context().store.transaction() as writing:
        key = saved_forms.save_form(writing, get_context().sealer, owner, _filled(), now())
        if key is not None and before:  # it was a kept one already
            saved_forms.delete_form(writing, owner, before)
    if key is None:
        text = (
            "You were signed out, and what was sent is too large to be kept. Go back and copy your"
            " text."
        )
        return render_template("error.html", title="Too large", text=text), 413
    if me is None:
        flash(SIGNED_OUT, "error")
        return redirect(url_for("security.login"), code=303)
    if me != owner:
        text = (
            "It was filled in by somebody else, before you signed in here. It is kept for them, and"
            " was not sent."
        )
        return render_template("error.html", title="This form is not yours", text=text), 403
    session[SAVED_FORMS_KEY] = FORMS_LISTED
    flash(PAGE_TOO_OLD, "info")
    return redirect(url_for("kept_forms.show", key=key), code=303)


def forget_resent_form(response: Response) -> Response:
    """Forget a kept form once it was sent again and taken."""
    key = request.args.get(RESENT_KEY)
    taken = request.method == "POST" and g.get("csrf_valid") and response.status_code < 400  # noqa: PLR2004
    # Some pages say what is wrong with a form only when they have led elsewhere.
    refused = any(category == "error" for category, _ in session.get("_flashes", ()))
    if key and taken and not refused:
        _forget(key)
    return response


def _forget(key: str) -> None:
    me = _me()
    if me is None:
        return
    with get_context().store.transaction() as writing:
        saved_forms.delete_form(writing, me, key)
        left = saved_forms.list_forms(writing, get_context().sealer, me, now())
    if not left:
        session.pop(SAVED_FORMS_KEY, None)


def _filled() -> FormContent:
    query = [(name, value) for name, value in request.args.items(multi=True) if name != RESENT_KEY]
    return FormContent(
        path=f"{request.path}?{urlencode(query)}" if query else request.path,
        fields=[(n, v) for n, v in request.form.items(multi=True) if n != form_tokens.CSRF_FIELD],
        files=[(n, f.filename) for n, f in request.files.items(multi=True) if f.filename],
    )


def _from_another_site() -> bool:
    """Return whether the browser says so.

    Older ones say nothing: then the token alone has to do.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin", "null")  # "null" where a page of ours hides its address
    ours = {request.host, urlsplit(get_context().settings.public_url).netloc}
    return site not in {"same-origin", "none"} or (
        origin != "null" and urlsplit(origin).netloc not in ours
    )


def _library_page() -> str:
    """Return the page of a form of the sign-in library; the sign-in page where it has none."""
    path = find_page(request.path)
    following = request.args.get("next")
    if path != request.path:
        path = url_for("security.login")
    return f"{path}?{urlencode({'next': following})}" if following else path


def find_page(path: str) -> str:
    """Return the page on which the form of an address stands.

    The nearest one above that can be looked at.
    """
    adapter = current_app.url_map.bind("localhost")
    path = urlsplit(path).path
    while path.strip("/"):
        try:
            adapter.match(path, method="GET")
        except HTTPException:
            path = path.rpartition("/")[0]
        else:
            return path
    return "/"


def _field(name: str, value: str) -> Field:
    typed = name in TYPED_FIELDS and not (name in TYPED_OR_CHOSEN and value.isdigit())
    label = TYPED_FIELDS.get(name) or name.replace("_", " ").replace("-", " ").capitalize()
    return Field(
        name, label, value, is_editable=typed, is_long="\n" in value or len(value) > MAX_LINE_LENGTH
    )


def _me() -> int | None:
    """Return the account that is signed in; the guard may not have run yet."""
    return int(current_user.id) if current_user and current_user.is_authenticated else None
