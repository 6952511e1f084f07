"""Forms that were sent after their session had ended: saved, and shown again after sign-in.

A form whose CSRF token fits no session any more is not lost. If we made the form, for an account,
its fields are saved for that account (workflow/accounts/saved_forms.py) and shown after sign-in,
where one press sends them again. Nothing is sent automatically: that press carries a new token,
like every other form.
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

# Parameter of the address a saved form is sent to: its key, so that it can be deleted then. It and
# the addresses of these pages have the name of the first release: people have them in open tabs.
RESENT_KEY = "kept_form"
LIBRARY = "security."  # endpoints of the sign-in library
MAX_LINE_LENGTH = 60  # characters; a longer value is shown in a field of several lines
# Labels of the fields that people type into; a test compares them with the templates. All other
# fields are choices or values of the page, and are sent as they were.
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
    "sender": "Sender",
    "since": "Since",
    "subject": "Subject",
    "text": "Text",
    "until": "Until",
}
# Fields that some forms let people type and others choose: digits alone are a choice.
MIXED_FIELDS = {
    "company",
    "into",
    "name",
    "number",
    "other",
    "row",
}
LONG_FIELDS = {"text", "body"}  # of several lines, however short their value is
SIGNED_OUT_MESSAGE = (
    "You were signed out. Sign in: what you typed is saved and will be shown again."
)
PAGE_TOO_OLD_MESSAGE = (
    "This page was older than your sign-in. Nothing was lost: check and send it again."
)
TRY_AGAIN_MESSAGE = "This page was open for too long, so nothing was done. Please try once more."
NOT_SAVED_MESSAGE = (
    "You were signed out, and nothing was done. Sign in, go to the page again and repeat it."
)

pages = Blueprint("saved_forms", __name__)


@dataclass(frozen=True)
class Field:
    """A field of a saved form, as its page shows it."""

    name: str
    label: str
    value: str
    is_editable: bool  # can be changed before the form is sent again
    is_long: bool  # shown in a field of several lines


@pages.get("/kept-forms")
@requires(Right.READ)
def list_forms() -> AnyResponse | str:
    """List the saved forms that were not sent again yet."""
    forms = saved_forms.list_forms(
        get_session(), get_context().sealer, _get_account_id() or 0, now()
    )
    if not forms:
        session.pop(SAVED_FORMS_KEY, None)
        return redirect("/")
    return render_template(
        "saved_forms/list.html",
        forms=[(form, form.at + saved_forms.KEEP_FOR) for form in forms],
        find_page=find_page,
    )


@pages.get("/kept-forms/newest", endpoint="newest")
@requires(Right.READ)
def show_newest() -> AnyResponse:
    """Redirect to the form that was saved last."""
    forms = saved_forms.list_forms(
        get_session(), get_context().sealer, _get_account_id() or 0, now()
    )
    return redirect(url_for("saved_forms.show", key=forms[0].key) if forms else "/")


@pages.get("/kept-forms/<key>")
@requires(Right.READ)
def show(key: str) -> str:
    """Show a saved form with a button that sends it again. 404 for another person's."""
    form = saved_forms.find_form(
        get_session(), get_context().sealer, _get_account_id() or 0, key, now()
    )
    if form is None:
        abort(404)
    path, _, query = form.content.path.partition("?")
    query = urlencode([*parse_qsl(query), (RESENT_KEY, key)])
    fields = [_build_field(name, value) for name, value in form.content.fields]
    file_fields: dict[str, list[str]] = {}
    for name, file in sorted(form.content.files, key=lambda pair: pair[0].lower()):
        file_fields.setdefault(name, []).append(file)
    return render_template(
        "saved_forms/form.html",
        form=form,
        action=f"{path}?{query}",
        page=find_page(path),
        editable_fields=[field for field in fields if field.is_editable],
        fixed_fields=[field for field in fields if not field.is_editable],
        file_fields=file_fields,  # names of the chosen files by field
        until=form.at + saved_forms.KEEP_FOR,
    )


@pages.post("/kept-forms/<key>/discard")
@requires(Right.READ)
def discard(key: str) -> AnyResponse:
    """Delete a saved form without sending it."""
    _delete(key)
    flash("The form was discarded.", "success")
    return redirect("/kept-forms" if session.get(SAVED_FORMS_KEY) else "/")


# -- a form that was sent too late ----


def save_late_form() -> AnyResponse | tuple[str, int] | None:
    """Answer the form of this request, whose CSRF token fits no session.

    Returns None where the request has to be refused: we did not make the form, or another site or
    a script sent it.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    token = request.form.get(form_tokens.CSRF_FIELD, "")
    if (
        hasattr(view, SCRIPT_ATTRIBUTE)
        or not form_tokens.is_our_token(token)
        or _is_from_another_site()
    ):
        return None
    own_answer = cast("Callable[..., AnyResponse] | None", getattr(view, EXPIRED_ATTRIBUTE, None))
    if own_answer is not None:
        return own_answer(**(request.view_args or {}))
    if (request.endpoint or "").startswith(LIBRARY):  # passwords and codes are never saved
        flash(TRY_AGAIN_MESSAGE, "error")
        return redirect(_find_library_page())
    owner, me = form_tokens.find_account_id(token), _get_account_id()
    if owner is None:  # the form of a page without sign-in: there is nobody to save it for
        if me is not None or g.get("csrf_valid"):
            return None
        flash(NOT_SAVED_MESSAGE, "error")
        return redirect(url_for("security.login", next=find_page(request.path)))
    return _save(owner, me)


def _save(owner: int, me: int | None) -> AnyResponse | tuple[str, int]:
    """Save the form for the account that opened it, and redirect to it or to the sign-in page.

    403 where somebody else is signed in now, 413 where the form is too large to be saved.
    """
    old_key = request.args.get(RESENT_KEY)
    with get_context().store.transaction() as writing:
        key = saved_forms.save_form(writing, get_context().sealer, owner, _read_form(), now())
        if key is not None and old_key:  # a saved form that expired once more
            saved_forms.delete_form(writing, owner, old_key)
    if key is None:
        text = (
            "You were signed out, and the form is too large to be saved. Go back and copy your"
            " text."
        )
        return render_template("error.html", title="Too large", text=text), 413
    if me is None:
        flash(SIGNED_OUT_MESSAGE, "error")
        # 303: the browser follows with a GET and does not send the form to the sign-in page.
        return redirect(url_for("security.login"), code=303)
    if me != owner:
        text = (
            "Somebody else filled it in, before you signed in here. It is saved for them, and was"
            " not sent."
        )
        return render_template("error.html", title="This form is not yours", text=text), 403
    session[SAVED_FORMS_KEY] = FORMS_LISTED
    flash(PAGE_TOO_OLD_MESSAGE, "info")
    return redirect(url_for("saved_forms.show", key=key), code=303)


def forget_resent_form(response: Response) -> Response:
    """Delete a saved form once it was sent again and accepted."""
    key = request.args.get(RESENT_KEY)
    is_success = response.status_code < 400  # noqa: PLR2004
    was_accepted = request.method == "POST" and g.get("csrf_valid") and is_success
    # Some pages redirect before they say what is wrong with a form.
    was_refused = any(category == "error" for category, _ in session.get("_flashes", ()))
    if key and was_accepted and not was_refused:
        _delete(key)
    return response


def _delete(key: str) -> None:
    me = _get_account_id()
    if me is None:
        return
    with get_context().store.transaction() as writing:
        saved_forms.delete_form(writing, me, key)
        remaining = saved_forms.list_forms(writing, get_context().sealer, me, now())
    if not remaining:
        session.pop(SAVED_FORMS_KEY, None)


def _read_form() -> FormContent:
    """Return the address and fields of this request's form, of its files only the names."""
    query = [(name, value) for name, value in request.args.items(multi=True) if name != RESENT_KEY]
    return FormContent(
        path=f"{request.path}?{urlencode(query)}" if query else request.path,
        fields=[(n, v) for n, v in request.form.items(multi=True) if n != form_tokens.CSRF_FIELD],
        # Names only: browsers let no page fill in a file field, so the bytes would be of no use.
        files=[(n, f.filename) for n, f in request.files.items(multi=True) if f.filename],
    )


def _is_from_another_site() -> bool:
    """Return whether the browser says that a page of another site sent the request.

    Older browsers do not say: then the token alone has to do.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin", "null")  # "null" where a page of ours hides its address
    ours = {request.host, urlsplit(get_context().settings.public_url).netloc}
    return site not in {"same-origin", "none"} or (
        origin != "null" and urlsplit(origin).netloc not in ours
    )


def _find_library_page() -> str:
    """Return the address of the page with the sign-in library's form, or of the sign-in page."""
    path = find_page(request.path)
    next_page = request.args.get("next")
    if path != request.path:
        path = url_for("security.login")
    return f"{path}?{urlencode({'next': next_page})}" if next_page else path


def find_page(path: str) -> str:
    """Return the page that has the form of this address: the nearest address above with a GET."""
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


def _build_field(name: str, value: str) -> Field:
    is_choice = name in MIXED_FIELDS and value.isdigit()
    label = TYPED_FIELDS.get(name) or name.replace("_", " ").replace("-", " ").capitalize()
    return Field(
        name,
        label,
        value,
        is_editable=name in TYPED_FIELDS and not is_choice,
        is_long=name in LONG_FIELDS or "\n" in value or len(value) > MAX_LINE_LENGTH,
    )


def _get_account_id() -> int | None:
    """Return the account that is signed in, also before the guard of the pages has run."""
    return int(current_user.id) if current_user and current_user.is_authenticated else None
