"""The customers' pages, behind signed links: where a ticket stands, and the survey."""

from flask import Flask, Response, abort, jsonify, render_template, request
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from workflow import audit, journal
from workflow.house import House
from workflow.letter import STATUS, SURVEY
from workflow.models import Answer, Contact, Outgoing, Ticket
from workflow.process import Template

COMMENT_LIMIT = 4000  # characters
SCORES = {"1": "very poor", "2": "poor", "3": "fair", "4": "good", "5": "very good"}
_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


def create(house: House) -> Flask:
    """The app that faces people. Pages show a number and a stage, never what the ticket says."""
    app = Flask("console")
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024

    @app.get("/")
    def welcome() -> str:
        return render_template("welcome.html")

    @app.get("/status/<token>")
    def standing(token: str) -> str:
        number = house.signer.number(STATUS, token)
        with house.store.reading() as session:
            ticket = session.get(Ticket, number) if number is not None else None
        if ticket is None:
            abort(404)
        return render_template("status.html", number=ticket.id, stage=ticket.stage, status=ticket.status)

    @app.get("/health")
    def health() -> tuple[Response, int]:
        """200 the database answers; 503 it does not."""
        try:
            with house.store.reading() as session:
                session.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return jsonify(database=False), 503
        return jsonify(database=True), 200

    _survey_pages(app, house)
    app.register_error_handler(Exception, _answer)
    app.after_request(_guarded)
    return app


def _survey_pages(app: Flask, house: House) -> None:
    @app.get("/survey/<token>")
    def ask(token: str) -> str:
        return render_template("survey.html", number=_survey(house, token).ticket_id, scores=SCORES)

    @app.post("/survey/<token>")
    def answer(token: str) -> str:
        mail = _survey(house, token)
        score = request.form.get("score", "")
        if score not in SCORES:
            abort(400)
        _record(house, mail, int(score), request.form.get("comment", "")[:COMMENT_LIMIT])
        return render_template("thanks.html", number=mail.ticket_id)

    @app.route("/unsubscribe/<token>", methods=["GET", "POST"])
    def unsubscribe(token: str) -> str:
        mail = _survey(house, token)
        if request.method == "POST":  # a link alone changes nothing: mail scanners follow links (RFC 8058)
            _no_more_surveys(house, mail)
        return render_template("unsubscribe.html", done=request.method == "POST")


def _survey(house: House, token: str) -> Outgoing:
    number = house.signer.number(SURVEY, token)
    with house.store.reading() as session:
        mail = session.get(Outgoing, number) if number is not None else None
    if mail is None or mail.template is not Template.SURVEY:
        abort(404)
    return mail


def _record(house: House, mail: Outgoing, score: int, comment: str) -> None:
    """Keep the first answer: a survey mail forwarded or opened twice counts once."""
    now = house.clock()
    clean = "".join(c for c in comment if c.isprintable() or c == "\n")
    try:
        with house.store.transaction() as session:
            session.add(Answer(outbox_id=mail.id, score=score, comment=clean, at=now))
            audit.record(session, "survey answered", by="customer", cause="survey", now=now, ticket=mail.ticket_id)
    except IntegrityError:
        return


def _no_more_surveys(house: House, mail: Outgoing) -> None:
    now = house.clock()
    with house.store.transaction() as session:
        contact = session.get(Contact, mail.contact_id) if mail.contact_id else None
        if contact is not None and not contact.unsubscribed:
            contact.unsubscribed = True
            audit.record(session, "unsubscribed", by="customer", cause="survey", now=now, ticket=mail.ticket_id)


def _answer(error: Exception) -> AnyResponse | tuple[str, int]:
    if isinstance(error, HTTPException):
        return render_template("error.html", text=error.name), error.code or 500
    journal.fault("console", error)
    return render_template("error.html", text="Something went wrong on our side. Please try again later."), 500


def _guarded(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response
