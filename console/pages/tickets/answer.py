"""Writing to the customer from the ticket.

Form, preview, warnings before it leaves, ten seconds to take it back.
"""

import hashlib
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.ticket import ACROSS
from console.perform import actions_of
from console.presenters import answer as answer_presenter
from console.web.request import (
    actor,
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
from workflow.errors import ActionNotAllowed
from workflow.mail import answer as mail_answer
from workflow.mail import canned_responses, drafts
from workflow.mail.answer import PatientDataWarning
from workflow.mail.drafts import DraftForm
from workflow.mail.phi_check import PatientDataKind
from workflow.models.core import AuditEntry, Ticket, WrittenFile, WrittenMail
from workflow.models.states import OutboxState
from workflow.permissions import Right
from workflow.tickets import presence
from workflow.tickets.actions import SendMail

MAX_ADDRESS_LENGTH = 320  # characters, at most
ANSWER_PATH = "/tickets/<int:number>/answer"

pages = Blueprint("answer", __name__)


@dataclass
class PageState:
    """What the page says about a mail besides the mail."""

    errors: Sequence[str] = ()
    changes: Sequence[AuditEntry] = ()
    warnings: Sequence[PatientDataWarning] = ()
    companies: Sequence[str] = ()  # whose people it goes to, where they are of more than one
    shows_preview: bool = False
    status_code: int = 200
    seen_version: int = 0  # 0: the version of the ticket that is shown now
    notes: list[str] = field(default_factory=list)


@pages.get(ANSWER_PATH)
@requires(Right.WORK)
def compose(number: int) -> AnyResponse | tuple[str, int]:
    """The form: what was begun before, or a fresh one; `?text=NAME` begins with that text."""
    written = drafts.find_latest_draft(get_session(), number, get_staff())
    if written is None:
        written = answer_presenter.start_draft(
            get_session(),
            _ticket(get_session(), number),
            get_context().settings,
            get_staff(),
            now(),
        )
    if name := request.args.get("text", ""):
        _begin_with(_ticket(get_session(), number), written, name)
    return _page(number, written, PageState())


@pages.post(ANSWER_PATH)
@requires(Right.WORK)
def act(number: int) -> AnyResponse | tuple[str, int]:
    """Do what the button says, having kept what was typed.

    409: sent once somebody has looked at what has changed, at what looks like patient data, or at
    the companies whose people get it, and says so again. 422: it cannot be sent as it stands. In
    both cases nothing was sent, and nothing typed is lost.
    """
    said = PageState(seen_version=_seen())
    with get_context().store.transaction() as session:
        ticket = _ticket(session, number)
        try:
            written = _kept(session, ticket, said)
        except ActionNotAllowed as missing:
            abort(400, str(missing))
        what, _, which = request.form.get("do", "preview").partition(":")
        if written.promised_at is None:
            _do(session, ticket, written, what, which, said)
        assert (
            written.files is not None
        )  # read now: the page shows them once the transaction is over
    if what == "discard":
        flash("The draft is gone.", "success")
    if written.promised_at is not None or what == "discard":
        sent = (
            f"sending-{written.id}" if written.promised_at else "main"
        )  # to the button that takes it back
        return redirect(url_for("ticket.show", number=number, _anchor=sent))
    return _page(number, written, said)


@pages.post(f"{ANSWER_PATH}/draft")
@only_for_scripts
@requires(Right.WORK)
def draft(number: int) -> Response:
    """Keep what is typed so far; the page does so by itself while somebody types.

    204, or 409 once it is sent.
    """
    with get_context().store.transaction() as session:
        try:
            written = drafts.save_draft(
                session, _ticket(session, number), _key(), _typed(), by=get_staff(), now=now()
            )
        except ActionNotAllowed:
            abort(400)
    return Response(status=204 if written.promised_at is None else 409)


@pages.post(f"{ANSWER_PATH}/<int:written>/take-back")
@requires(Right.WORK)
def take_back(number: int, written: int) -> AnyResponse:
    """Withhold a mail before anybody sends it; its words come back into the form."""
    try:
        with get_context().store.transaction() as session:
            sent = session.get(WrittenMail, written)
            if sent is None or sent.ticket_id != number:
                abort(404)
            mail_answer.undo_send(session, sent, by=get_staff().name, now=now())
    except ActionNotAllowed as missing:
        flash(f"Not taken back: {missing}.", "error")
        return redirect(url_for("ticket.show", number=number))
    flash("Taken back: nobody got it. Here it is again, as a draft.", "success")
    return redirect(url_for("answer.compose", number=number))


@pages.get("/answer-files/<int:number>")
@requires(Right.WORK)
def file(number: int) -> Response:
    """A file of a mail that one is writing, to be sure that it is the right one."""
    found = get_session().get(WrittenFile, number) or abort(404)
    written = get_session().get(WrittenMail, found.written_id)
    if written is None or written.staff_id != get_staff().id:
        abort(404)
    answer = Response(
        get_context().blob_store.read(found.content, found.blob),
        mimetype="application/octet-stream",
    )
    answer.headers.set("Content-Disposition", "attachment", filename=found.name)
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return answer


@pages.app_context_processor
def _on_the_ticket() -> dict[str, object]:
    """Return what the ticket page needs to show the mails that can still be taken back."""
    return {
        "on_the_way": lambda ticket: mail_answer.list_undoable(ticket, get_staff().name),
        "OutboxState": OutboxState,
        "draft_of": lambda ticket: drafts.find_latest_draft(get_session(), ticket.id, get_staff()),
    }


# -- what a form says ----


def _typed() -> DraftForm:
    form = request.form
    return DraftForm(
        to=[a[:MAX_ADDRESS_LENGTH] for a in form.getlist("to")[:100]],
        cc=mail_answer.parse_addresses(form.get("cc", "")[:5000]),
        subject=form.get("subject", ""),
        text=form.get("text", ""),
        ticks=form.getlist("ticks"),
    )


def _key() -> str:
    return request.form.get("key", "")


def _seen() -> int:
    return parse_id(request.form.get("seen")) or 0


def _kept(session: Session, ticket: Ticket, said: PageState) -> WrittenMail:
    """The mail as the form says it, its new files with it; what cannot be taken is said."""
    written = drafts.save_draft(session, ticket, _key(), _typed(), by=get_staff(), now=now())
    faults = []
    for given in request.files.getlist("files"):
        name = filenames.make_safe(given.filename or "")
        if name and written.promised_at is None:
            mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
            try:
                drafts.attach_file(
                    session, get_context().blob_store, written, name, mime, given.read()
                )
            except ActionNotAllowed as missing:
                faults.append(str(missing))
        given.close()
    if faults:
        said.errors, said.status_code = faults, 422
    return written


def _do(
    session: Session, ticket: Ticket, written: WrittenMail, what: str, which: str, said: PageState
) -> None:
    if what == "send":
        _send(session, ticket, written, said)
    elif what == "discard":
        drafts.delete_draft(session, written)
    elif what == "remove" and (file := parse_id(which)):
        drafts.remove_file(session, written, file)
    elif what == "text":
        _begin_with(ticket, written, request.form.get("name", ""))
    elif what == "save":
        said.notes.append("Kept. It is here when you come back.")
    else:
        said.shows_preview = True
        said.errors = [
            *said.errors,
            *mail_answer.list_faults(ticket, written, get_context().settings),
        ]


def _send(session: Session, ticket: Ticket, written: WrittenMail, said: PageState) -> None:
    """Promise it, unless something has to be mended, read or confirmed first."""
    if said.errors:  # a file was not taken: it must not go without it
        return
    if faults := mail_answer.list_faults(ticket, written, get_context().settings):
        said.errors, said.status_code = faults, 422
        return
    changed = presence.list_changes(session, ticket.id, said.seen_version, get_staff().name)
    warned = mail_answer.find_warnings(session, ticket, written)
    agreed = not warned or request.form.get("agreed") == content_digest(written)
    companies = mail_answer.list_companies(session, ticket, written)
    across = len(companies) > 1 and request.form.get(ACROSS) == recipients_digest(written)
    if len(companies) > 1 and not across:
        said.companies, said.status_code = companies, 409
    if changed or not agreed:
        said.changes, said.warnings, said.status_code = changed, [] if agreed else warned, 409
        said.seen_version = max([said.seen_version, *(c.id for c in changed)])
        said.shows_preview = agreed  # what was found is shown in the text as it is
    if changed or not agreed or said.companies:
        return
    kinds = sorted({PatientDataKind(k).name for w in warned for k in w.kinds})
    command = SendMail(written.id, warned=kinds, across_companies=across)
    actions_of(get_context()).perform_in(session, ticket, command, actor=actor(), now=now())


def recipients_digest(written: WrittenMail) -> str:
    """Return what somebody confirms who sends to people of two companies.

    These addresses, and no others.
    """
    everybody = sorted({*written.to, *written.cc})
    return hashlib.sha256("\0".join(everybody).encode()).hexdigest()[:32]


def content_digest(written: WrittenMail) -> str:
    """Return what somebody agrees to send: these words and files, and no others."""
    said = "\0".join([written.subject, written.text, *(f.name + f.sha256 for f in written.files)])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _begin_with(ticket: Ticket, written: WrittenMail, name: str) -> None:
    """Put a text into the form.

    In place of one that nobody has changed, else below what is typed.
    """
    with get_context().store.read_only() as session:
        wording = canned_responses.find_response(session, name)
        if wording is not None:
            canned_responses.apply_canned_response(
                canned_responses.list_responses(session),
                ticket,
                written,
                wording,
                settings=get_context().settings,
                signer=get_context().signer,
                by=get_staff().name,
            )


# -- the page ----


def _ticket(session: Session, number: int) -> Ticket:
    return session.get(Ticket, number) or abort(404)


def _page(number: int, written: WrittenMail, said: PageState) -> tuple[str, int]:
    with get_context().store.transaction() as session:
        presence.record_look(session, number, get_staff(), now())
    ticket = _ticket(get_session(), number)
    page = answer_presenter.build_page(
        get_session(), ticket, written, get_context(), me=get_staff(), now=now()
    )
    return render_template(
        "answer/page.html",
        page=page,
        ticket=ticket,
        written=written,
        said=said,
        now=now(),
        callers=list_callers(get_session(), ticket),
        seen=said.seen_version or page.seen,
        agreed=content_digest(written),
        across=recipients_digest(written),
        across_field=ACROSS,
        confirmed=request.form,
        watching=presence.WATCHING,
        changes=answer_presenter.describe_changes(get_session(), said.changes),
        most=drafts.MAX_BYTES,
    ), said.status_code
