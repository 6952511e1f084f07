"""The customers' pages, behind signed links: where a ticket stands, and the survey."""

from flask import Blueprint, Response, abort, jsonify, render_template, request
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from console.web.request import get_context, get_session, public
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.mail.compose import STATUS_PURPOSE, SURVEY_PURPOSE
from workflow.models.core import Contact, OutgoingMail, SurveyAnswer, Ticket
from workflow.process import Template

MAX_COMMENT_LENGTH = 4000  # characters
SCORES = {"1": "very poor", "2": "poor", "3": "fair", "4": "good", "5": "very good"}


pages = Blueprint("customers", __name__)


@pages.get("/status/<token>")
@public
def standing(token: str) -> str:
    """Return where a ticket stands: number and stage, never what it says."""
    number = get_context().signer.verify_token(STATUS_PURPOSE, token)
    ticket = get_session().get(Ticket, number) if number is not None else None
    if ticket is None:
        abort(404)
    return render_template(
        "status.html", number=ticket.id, stage=ticket.stage, status=ticket.status
    )


@pages.get("/health")
@public
def health() -> tuple[Response, int]:
    """200 the database answers; 503 it does not."""
    try:
        get_session().execute(text("SELECT 1"))
    except SQLAlchemyError:
        return jsonify(database=False), 503
    return jsonify(database=True), 200


@pages.get("/survey/<token>")
@public
def ask(token: str) -> str:
    """The survey of a completed ticket."""
    return render_template(
        "survey.html", number=_survey(get_context(), token).ticket_id, scores=SCORES
    )


@pages.post("/survey/<token>")
@public
def answer(token: str) -> str:
    """Keep the customer's answer."""
    mail = _survey(get_context(), token)
    score = request.form.get("score", "")
    if score not in SCORES:
        abort(400)
    _record(get_context(), mail, int(score), request.form.get("comment", "")[:MAX_COMMENT_LENGTH])
    return render_template("thanks.html", number=mail.ticket_id)


@pages.route("/unsubscribe/<token>", methods=["GET", "POST"])
@public
def unsubscribe(token: str) -> str:
    """No more surveys, by one click of a person or one POST of a mail program (RFC 8058)."""
    mail = _survey(get_context(), token)
    if request.method == "POST":  # a link alone changes nothing: mail scanners follow links
        _no_more_surveys(get_context(), mail)
    return render_template("unsubscribe.html", done=request.method == "POST")


def _survey(context: AppContext, token: str) -> OutgoingMail:
    number = context.signer.verify_token(SURVEY_PURPOSE, token)
    with context.store.read_only() as session:
        mail = session.get(OutgoingMail, number) if number is not None else None
    if mail is None or mail.template is not Template.SURVEY:
        abort(404)
    return mail


def _record(context: AppContext, mail: OutgoingMail, score: int, comment: str) -> None:
    """Keep the first answer: a survey mail forwarded or opened twice counts once."""
    now = context.clock()
    clean = "".join(c for c in comment if c.isprintable() or c == "\n")
    try:
        with context.store.transaction() as session:
            session.add(SurveyAnswer(outbox_id=mail.id, score=score, comment=clean, at=now))
            audit.record(
                session,
                "survey answered",
                by="customer",
                cause="survey",
                now=now,
                ticket=mail.ticket_id,
            )
    except IntegrityError:
        return


def _no_more_surveys(context: AppContext, mail: OutgoingMail) -> None:
    now = context.clock()
    with context.store.transaction() as session:
        contact = session.get(Contact, mail.contact_id) if mail.contact_id else None
        if contact is not None and not contact.unsubscribed:
            contact.unsubscribed = True
            audit.record(
                session,
                "unsubscribed",
                by="customer",
                cause="survey",
                now=now,
                ticket=mail.ticket_id,
            )
