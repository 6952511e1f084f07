"""Pages for customers behind signed links: the status of a ticket, and the survey."""

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
def show_status(token: str) -> str:
    """Show the number and the stage of a ticket, never its content (45 CFR 164.502(b)).

    404 for a link that we have not signed.
    """
    number = get_context().signer.verify_token(STATUS_PURPOSE, token)
    ticket = get_session().get(Ticket, number) if number is not None else None
    if ticket is None:
        abort(404)
    return render_template(
        "status.html", number=ticket.id, stage=ticket.stage, status=ticket.status
    )


@pages.get("/health")
@public
def check_health() -> tuple[Response, int]:
    """Answer 200 while the database answers, else 503."""
    try:
        get_session().execute(text("SELECT 1"))
    except SQLAlchemyError:
        return jsonify(database=False), 503
    return jsonify(database=True), 200


@pages.get("/survey/<token>")
@public
def show_survey(token: str) -> str:
    """Show the survey of a completed ticket."""
    return render_template(
        "survey.html", number=_find_survey_mail(get_context(), token).ticket_id, scores=SCORES
    )


@pages.post("/survey/<token>")
@public
def save_survey(token: str) -> str:
    """Store the customer's answer. 400 without a score."""
    mail = _find_survey_mail(get_context(), token)
    score = request.form.get("score", "")
    if score not in SCORES:
        abort(400)
    comment = request.form.get("comment", "")[:MAX_COMMENT_LENGTH]
    _store_answer(get_context(), mail, int(score), comment)
    return render_template("thanks.html", number=mail.ticket_id)


@pages.route("/unsubscribe/<token>", methods=["GET", "POST"])
@public
def unsubscribe(token: str) -> str:
    """Stop surveys: by one click of a person, or by one POST of a mail program (RFC 8058)."""
    mail = _find_survey_mail(get_context(), token)
    if request.method == "POST":  # opening the link changes nothing: mail scanners follow links
        _stop_surveys(get_context(), mail)
    return render_template("unsubscribe.html", done=request.method == "POST")


def _find_survey_mail(context: AppContext, token: str) -> OutgoingMail:
    """Return the survey mail whose link has this token; aborts with 404 for any other."""
    number = context.signer.verify_token(SURVEY_PURPOSE, token)
    with context.store.read_only() as session:
        mail = session.get(OutgoingMail, number) if number is not None else None
    if mail is None or mail.template is not Template.SURVEY:
        abort(404)
    return mail


def _store_answer(context: AppContext, mail: OutgoingMail, score: int, comment: str) -> None:
    """Store the answer to a survey mail, unless it has one: a forwarded mail counts once."""
    now = context.clock()
    # Anybody with a forwarded mail can write it: no control characters reach terminals and exports.
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
    except IntegrityError:  # one answer for each mail, by a unique index
        return


def _stop_surveys(context: AppContext, mail: OutgoingMail) -> None:
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
