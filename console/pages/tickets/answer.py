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
from console.web.request import actor, by_script, db, house, needs, now, number_of, staff
from parsers.text import filenames
from workflow.customers.callers import callers
from workflow.errors import Missing
from workflow.mail import answer as mail_answer
from workflow.mail import canned_responses, drafts
from workflow.mail.answer import Warned
from workflow.mail.drafts import Typed
from workflow.mail.phi_check import Kind
from workflow.models.core import Audit, Ticket, Written, WrittenFile
from workflow.models.states import OutboxState
from workflow.permissions import Right
from workflow.tickets import presence
from workflow.tickets.actions import SendMail

ADDRESS = 320  # characters, at most
PATH = "/tickets/<int:number>/answer"

pages = Blueprint("answer", __name__)


@dataclass
class Said:
    """What the page says about a mail besides the mail."""

    faults: Sequence[str] = ()
    changed: Sequence[Audit] = ()
    warned: Sequence[Warned] = ()
    companies: Sequence[str] = ()  # whose people it goes to, where they are of more than one
    preview: bool = False
    code: int = 200
    seen: int = 0  # 0: the version of the ticket that is shown now
    notes: list[str] = field(default_factory=list)


@pages.get(PATH)
@needs(Right.WORK)
def compose(number: int) -> AnyResponse | tuple[str, int]:
    """The form: what was begun before, or a fresh one; `?text=NAME` begins with that text."""
    written = drafts.latest(db(), number, staff())
    if written is None:
        written = answer_presenter.fresh(
            db(), _ticket(db(), number), house().settings, staff(), now()
        )
    if name := request.args.get("text", ""):
        _begin_with(_ticket(db(), number), written, name)
    return _page(number, written, Said())


@pages.post(PATH)
@needs(Right.WORK)
def act(number: int) -> AnyResponse | tuple[str, int]:
    """Do what the button says, having kept what was typed.

    409: sent once somebody has looked at what has changed, at what looks like patient data, or at
    the companies whose people get it, and says so again. 422: it cannot be sent as it stands. In
    both cases nothing was sent, and nothing typed is lost.
    """
    said = Said(seen=_seen())
    with house().store.transaction() as session:
        ticket = _ticket(session, number)
        try:
            written = _kept(session, ticket, said)
        except Missing as missing:
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


@pages.post(f"{PATH}/draft")
@by_script
@needs(Right.WORK)
def draft(number: int) -> Response:
    """Keep what is typed so far; the page does so by itself while somebody types.

    204, or 409 once it is sent.
    """
    with house().store.transaction() as session:
        try:
            written = drafts.keep(
                session, _ticket(session, number), _key(), _typed(), by=staff(), now=now()
            )
        except Missing:
            abort(400)
    return Response(status=204 if written.promised_at is None else 409)


@pages.post(f"{PATH}/<int:written>/take-back")
@needs(Right.WORK)
def take_back(number: int, written: int) -> AnyResponse:
    """Withhold a mail before anybody sends it; its words come back into the form."""
    try:
        with house().store.transaction() as session:
            sent = session.get(Written, written)
            if sent is None or sent.ticket_id != number:
                abort(404)
            mail_answer.take_back(session, sent, by=staff().name, now=now())
    except Missing as missing:
        flash(f"Not taken back: {missing}.", "error")
        return redirect(url_for("ticket.show", number=number))
    flash("Taken back: nobody got it. Here it is again, as a draft.", "success")
    return redirect(url_for("answer.compose", number=number))


@pages.get("/answer-files/<int:number>")
@needs(Right.WORK)
def file(number: int) -> Response:
    """A file of a mail that one is writing, to be sure that it is the right one."""
    found = db().get(WrittenFile, number) or abort(404)
    written = db().get(Written, found.written_id)
    if written is None or written.staff_id != staff().id:
        abort(404)
    answer = Response(
        house().vault.open(found.content, found.blob), mimetype="application/octet-stream"
    )
    answer.headers.set("Content-Disposition", "attachment", filename=found.name)
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return answer


@pages.app_context_processor
def _on_the_ticket() -> dict[str, object]:
    """Return what the ticket page needs to show the mails that can still be taken back."""
    return {
        "on_the_way": lambda ticket: mail_answer.on_the_way(ticket, staff().name),
        "OutboxState": OutboxState,
        "draft_of": lambda ticket: drafts.latest(db(), ticket.id, staff()),
    }


# -- what a form says ----


def _typed() -> Typed:
    form = request.form
    return Typed(
        to=[a[:ADDRESS] for a in form.getlist("to")[:100]],
        cc=mail_answer.addresses(form.get("cc", "")[:5000]),
        subject=form.get("subject", ""),
        text=form.get("text", ""),
        ticks=form.getlist("ticks"),
    )


def _key() -> str:
    return request.form.get("key", "")


def _seen() -> int:
    return number_of(request.form.get("seen")) or 0


def _kept(session: Session, ticket: Ticket, said: Said) -> Written:
    """The mail as the form says it, its new files with it; what cannot be taken is said."""
    written = drafts.keep(session, ticket, _key(), _typed(), by=staff(), now=now())
    faults = []
    for given in request.files.getlist("files"):
        name = filenames.safe(given.filename or "")
        if name and written.promised_at is None:
            mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
            try:
                drafts.enclose(session, house().vault, written, name, mime, given.read())
            except Missing as missing:
                faults.append(str(missing))
        given.close()
    if faults:
        said.faults, said.code = faults, 422
    return written


def _do(
    session: Session, ticket: Ticket, written: Written, what: str, which: str, said: Said
) -> None:
    if what == "send":
        _send(session, ticket, written, said)
    elif what == "discard":
        drafts.discard(session, written)
    elif what == "remove" and (file := number_of(which)):
        drafts.leave_out(session, written, file)
    elif what == "text":
        _begin_with(ticket, written, request.form.get("name", ""))
    elif what == "save":
        said.notes.append("Kept. It is here when you come back.")
    else:
        said.preview = True
        said.faults = [*said.faults, *mail_answer.faults(ticket, written, house().settings)]


def _send(session: Session, ticket: Ticket, written: Written, said: Said) -> None:
    """Promise it, unless something has to be mended, read or confirmed first."""
    if said.faults:  # a file was not taken: it must not go without it
        return
    if faults := mail_answer.faults(ticket, written, house().settings):
        said.faults, said.code = faults, 422
        return
    changed = presence.changes(session, ticket.id, said.seen, staff().name)
    warned = mail_answer.warnings(session, ticket, written)
    agreed = not warned or request.form.get("agreed") == digest(written)
    companies = mail_answer.companies(session, ticket, written)
    across = len(companies) > 1 and request.form.get(ACROSS) == recipients_digest(written)
    if len(companies) > 1 and not across:
        said.companies, said.code = companies, 409
    if changed or not agreed:
        said.changed, said.warned, said.code = changed, [] if agreed else warned, 409
        said.seen = max([said.seen, *(c.id for c in changed)])
        said.preview = agreed  # what was found is shown in the text as it is
    if changed or not agreed or said.companies:
        return
    kinds = sorted({Kind(k).name for w in warned for k in w.kinds})
    command = SendMail(written.id, warned=kinds, across_companies=across)
    actions_of(house()).perform_in(session, ticket, command, actor=actor(), now=now())


def recipients_digest(written: Written) -> str:
    """Return what somebody confirms who sends to people of two companies.

    These addresses, and no others.
    """
    everybody = sorted({*written.to, *written.cc})
    return hashlib.sha256("\0".join(everybody).encode()).hexdigest()[:32]


def digest(written: Written) -> str:
    """Return what somebody agrees to send: these words and files, and no others."""
    said = "\0".join([written.subject, written.text, *(f.name + f.sha256 for f in written.files)])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _begin_with(ticket: Ticket, written: Written, name: str) -> None:
    """Put a text into the form.

    In place of one that nobody has changed, else below what is typed.
    """
    with house().store.reading() as session:
        wording = canned_responses.named(session, name)
        if wording is not None:
            canned_responses.begin_with(
                canned_responses.offered(session),
                ticket,
                written,
                wording,
                settings=house().settings,
                signer=house().signer,
                by=staff().name,
            )


# -- the page ----


def _ticket(session: Session, number: int) -> Ticket:
    return session.get(Ticket, number) or abort(404)


def _page(number: int, written: Written, said: Said) -> tuple[str, int]:
    with house().store.transaction() as session:
        presence.look(session, number, staff(), now())
    ticket = _ticket(db(), number)
    page = answer_presenter.page(db(), ticket, written, house(), me=staff(), now=now())
    return render_template(
        "answer/page.html",
        page=page,
        ticket=ticket,
        written=written,
        said=said,
        now=now(),
        callers=callers(db(), ticket),
        seen=said.seen or page.seen,
        agreed=digest(written),
        across=recipients_digest(written),
        across_field=ACROSS,
        confirmed=request.form,
        watching=presence.WATCHING,
        changes=answer_presenter.told(db(), said.changed),
        most=drafts.MOST_BYTES,
    ), said.code
