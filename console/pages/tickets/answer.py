"""Page on which a person writes to the customer: form, preview, warnings, undo for ten seconds."""

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.ticket import ACROSS
from console.perform import get_actions
from console.presenters.tickets import answer as answer_presenter
from console.web.request import (
    get_actor,
    get_context,
    get_session,
    get_staff,
    now,
    only_for_scripts,
    requires,
)
from parsers.text import filenames
from workflow.customers.callers import list_callers
from workflow.database.ids import parse_id
from workflow.errors import (
    AcrossCompanies,
    ActionNotAllowed,
    NoSuchMail,
    NoSuchTicket,
    PatientDataWarning,
    SeemsPatientData,
)
from workflow.mail import answer as mail_answer
from workflow.mail import canned_responses, drafts
from workflow.mail.drafts import DraftForm
from workflow.models.core import AuditEntry, Ticket, WrittenFile, WrittenMail
from workflow.permissions import Right
from workflow.tickets import presence
from workflow.tickets.actions import SendMail, UndoSend

MAX_ADDRESS_LENGTH = 320  # characters: 64 before the @ and 255 behind it (RFC 5321, 4.5.3.1)
ANSWER_PATH = "/tickets/<int:number>/answer"

pages = Blueprint("answer", __name__)


@dataclass
class PageState:
    """State of the page beside the mail itself: errors, warnings, questions to confirm."""

    errors: Sequence[str] = ()
    changes: Sequence[AuditEntry] = ()
    warnings: Sequence[PatientDataWarning] = ()
    companies: Sequence[str] = ()  # of the recipients, where there is more than one
    shows_preview: bool = False
    status_code: int = 200
    seen_version: int = 0  # id of the last change seen; 0: the one that is shown now
    notes: list[str] = field(default_factory=list)


@pages.get(ANSWER_PATH)
@requires(Right.WORK)
def compose(number: int) -> AnyResponse | tuple[str, int]:
    """Show the form: the person's draft or an empty one; `?text=NAME` inserts that response."""
    draft = drafts.find_latest_draft(get_session(), number, get_staff())
    if draft is None:
        draft = answer_presenter.start_draft(
            get_session(),
            _get_ticket(get_session(), number),
            get_context().settings,
            get_staff(),
            now(),
        )
    if name := request.args.get("text", ""):
        _insert_response(_get_ticket(get_session(), number), draft, name)
    return _render_page(number, draft, PageState())


@pages.post(ANSWER_PATH)
@requires(Right.WORK)
def submit(number: int) -> AnyResponse | tuple[str, int]:
    """Save what was typed, and do what the pressed button says.

    409: the mail is sent once the person has seen and confirmed what others changed, what looks
    like patient data, or that people of two companies get it. 422: it cannot be sent as it is. In
    both cases nothing was sent, and nothing that was typed is lost.
    """
    state = PageState(seen_version=_get_seen_version())
    with get_context().store.transaction() as session:
        ticket = _get_ticket(session, number)
        try:
            draft = _save_form(session, ticket, state)
        except ActionNotAllowed as error:
            abort(400, str(error))
        button, _, argument = request.form.get("do", "preview").partition(":")
        if draft.queued_at is None:
            _do(session, ticket, draft, button, argument, state)
        # Loaded now: the page shows the files when the transaction is over.
        assert draft.files is not None
    if button == "discard":
        flash("The draft was discarded.", "success")
    if draft.queued_at is not None or button == "discard":
        # After sending, to the button that undoes it.
        anchor = f"sending-{draft.id}" if draft.queued_at else "main"
        # A redirect, so that loading the page again does not send the form again.
        return redirect(url_for("ticket.show", number=number, _anchor=anchor))
    return _render_page(number, draft, state)


@pages.post(f"{ANSWER_PATH}/draft")
@only_for_scripts
@requires(Right.WORK)
def save_draft(number: int) -> Response:
    """Save what is typed so far, which a script does while somebody types.

    204, or 409 when the mail is sent already.
    """
    with get_context().store.transaction() as session:
        try:
            draft = drafts.save_draft(
                session,
                _get_ticket(session, number),
                _get_key(),
                _parse_form(),
                by=get_staff(),
                now=now(),
            )
        except ActionNotAllowed:
            abort(400)
    return Response(status=204 if draft.queued_at is None else 409)


@pages.post(f"{ANSWER_PATH}/<int:draft>/take-back")
@requires(Right.WORK)
def undo_sending(number: int, draft: int) -> AnyResponse:
    """Withhold a mail that is not sent yet, and make it a draft again."""
    try:
        result = get_actions(get_context()).perform(
            number, UndoSend(draft), actor=get_actor(), now=now()
        )
    except (NoSuchTicket, NoSuchMail):
        abort(404)
    except ActionNotAllowed as error:
        flash(f"Sending was not undone: {error}.", "error")
        return redirect(url_for("ticket.show", number=number))
    flash(f"{result.words}.", "success")
    return redirect(url_for("answer.compose", number=number))


@pages.get("/answer-files/<int:number>")
@requires(Right.WORK)
def download_file(number: int) -> Response:
    """Send a file of one's own draft, to check that it is the right one. 404 for others'."""
    file = get_session().get(WrittenFile, number) or abort(404)
    draft = get_session().get(WrittenMail, file.written_id)
    if draft is None or draft.staff_id != get_staff().id:
        abort(404)
    response = Response(
        get_context().blob_store.read(file.content, file.blob),
        mimetype="application/octet-stream",
    )
    response.headers.set("Content-Disposition", "attachment", filename=file.name)
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


# -- the form ----


def _parse_form() -> DraftForm:
    form = request.form
    return DraftForm(
        # Bounds for what a script may send; the page itself offers only the contacts of the ticket.
        to=[a[:MAX_ADDRESS_LENGTH] for a in form.getlist("to")[:100]],
        cc=mail_answer.parse_addresses(form.get("cc", "")[:5000]),
        subject=form.get("subject", ""),
        text=form.get("text", ""),
        ticks=form.getlist("ticks"),
    )


def _get_key() -> str:
    return request.form.get("key", "")


def _get_seen_version() -> int:
    return parse_id(request.form.get("seen")) or 0


def _save_form(session: Session, ticket: Ticket, state: PageState) -> WrittenMail:
    """Save the form as the person's draft, with its new files; the state has their errors.

    Raises ActionNotAllowed for a draft of another person or ticket.
    """
    draft = drafts.save_draft(session, ticket, _get_key(), _parse_form(), by=get_staff(), now=now())
    errors = []
    for upload in request.files.getlist("files"):
        name = filenames.make_safe(upload.filename or "")
        if name and draft.queued_at is None:
            mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
            try:
                drafts.attach_file(
                    session, get_context().blob_store, draft, name, mime, upload.read()
                )
            except ActionNotAllowed as error:
                errors.append(str(error))
        upload.close()
    if errors:
        state.errors, state.status_code = errors, 422
    return draft


def _do(
    session: Session,
    ticket: Ticket,
    draft: WrittenMail,
    button: str,
    argument: str,
    state: PageState,
) -> None:
    """Do what a button says; one that is not known shows the preview."""
    if button == "send":
        _send(session, ticket, draft, state)
    elif button == "discard":
        drafts.delete_draft(session, draft)
    elif button == "remove" and (file := parse_id(argument)):
        drafts.remove_file(session, draft, file)
    elif button == "text":
        _insert_response(ticket, draft, request.form.get("name", ""))
    elif button == "save":
        state.notes.append("Draft saved.")
    else:
        state.shows_preview = True
        state.errors = [
            *state.errors,
            *mail_answer.list_faults(ticket, draft, get_context().settings),
        ]


def _send(session: Session, ticket: Ticket, draft: WrittenMail, state: PageState) -> None:
    """Queue the mail, unless something has to be corrected, read or confirmed first."""
    if state.errors:  # a file was not accepted: the mail must not be sent without it
        return
    if faults := mail_answer.list_faults(ticket, draft, get_context().settings):
        state.errors, state.status_code = faults, 422
        return
    command = SendMail(
        draft.id,
        confirmed_content=request.form.get("agreed", ""),
        confirmed_recipients=request.form.get(ACROSS, ""),
    )
    changes = presence.list_changes(session, ticket.id, state.seen_version, get_staff().name)
    if not changes and _perform(session, ticket, command):
        return
    # The page asks everything at once, whichever question the command raised.
    questions = mail_answer.list_questions(session, ticket, draft, command)
    state.status_code = 409
    state.companies = questions.companies
    _ask_again(state, changes, questions.warnings)


def _perform(session: Session, ticket: Ticket, command: SendMail) -> bool:
    """Queue the mail; return False where its writer has to confirm something first."""
    try:
        with session.begin_nested():  # the draft stays saved where the mail is not sent
            get_actions(get_context()).perform_in(
                session, ticket, command, actor=get_actor(), now=now()
            )
    except (SeemsPatientData, AcrossCompanies):
        return False
    return True


def _ask_again(
    state: PageState, changes: list[AuditEntry], warnings: Sequence[PatientDataWarning]
) -> None:
    """Show what others changed meanwhile, and the warnings that nobody has confirmed."""
    if not changes and not warnings:
        return
    state.changes = changes
    state.warnings = warnings
    state.seen_version = max([state.seen_version, *(c.id for c in changes)])
    state.shows_preview = not warnings  # otherwise the warnings show the text


def _insert_response(ticket: Ticket, draft: WrittenMail, name: str) -> None:
    """Insert a canned response: in place of one that nobody has changed, else below the text."""
    with get_context().store.read_only() as session:
        response = canned_responses.find_response(session, name)
        if response is not None:
            canned_responses.apply_canned_response(
                canned_responses.list_responses(session),
                ticket,
                draft,
                response,
                settings=get_context().settings,
                signer=get_context().signer,
                by=get_staff().name,
            )


# -- the page ----


def _get_ticket(session: Session, number: int) -> Ticket:
    return session.get(Ticket, number) or abort(404)


def _render_page(number: int, draft: WrittenMail, state: PageState) -> tuple[str, int]:
    with get_context().store.transaction() as session:
        presence.record_look(session, number, get_staff(), now())
    ticket = _get_ticket(get_session(), number)
    page = answer_presenter.build_page(
        get_session(), ticket, draft, get_context(), me=get_staff(), now=now()
    )
    return render_template(
        "answer/page.html",
        page=page,
        ticket=ticket,
        draft=draft,
        state=state,
        now=now(),
        callers=list_callers(get_session(), ticket),
        seen_version=state.seen_version or page.version,
        agreed=mail_answer.compute_content_digest(draft),
        across=mail_answer.compute_recipients_digest(draft),
        across_field=ACROSS,
        watching=presence.WATCHING,
        changes=answer_presenter.describe_changes(get_session(), state.changes),
        max_bytes=drafts.MAX_BYTES,
    ), state.status_code
