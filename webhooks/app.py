"""POST /formstack and GET /health: verify the signature over the raw bytes, store, answer."""

import hmac
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Slow
from hashlib import sha256

from flask import Flask, Request, Response, abort, jsonify, request
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from ingest.intake import Accept, Arrival, Transport
from ingest.spool import SPOOL, Spool
from parsers import formstack
from parsers.item import Format, ParseError
from webhooks.body import form_id, handshake_of, without_handshake
from workflow import journal
from workflow.house import House
from workflow.settings import Form, Settings

PATIENCE = 5.0  # seconds the database may take before the form goes into the local spool


def create(house: House, accept: Accept) -> Flask:
    """The public app. It knows no page, sets no cookie and repeats nothing of what it was sent."""
    app = Flask("webhooks", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = house.settings.webhook_limit
    keeper = _Keeper(house, accept)
    if not _keys(house.settings):
        journal.webhook_without_key()

    @app.post("/formstack", provide_automatic_options=False)
    def take() -> tuple[Response, int]:
        """202 stored; 401 unsigned or wrongly signed; 413 over the limit; 415 neither form nor JSON; 503 send it again.

        A signed body that cannot be read is 415 and stored all the same, as failed: staff see it and can replay it.
        """
        raw = _verified(request, house.settings)
        envelope: dict[str, object] = {"form": form_id(raw), "peer": request.remote_addr or ""}
        unreadable = _unreadable(request, raw)
        if raw:
            kept = without_handshake(raw)
            keeper.keep(
                Arrival(
                    transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=kept, envelope=envelope,
                    unreadable=unreadable,
                    received_at=house.clock(),
                )
            )  # fmt: skip
        if unreadable:
            abort(415)
        return jsonify(status="stored"), 202

    @app.get("/health", provide_automatic_options=False)
    def health() -> tuple[Response, int]:
        """200 everything needed is there; 503 no key to verify with, or nowhere to store."""
        state = {"database": _database_answers(house), "key": bool(_keys(house.settings))}
        return jsonify(state), 200 if all(state.values()) else 503

    app.register_error_handler(Exception, _answer)
    app.after_request(_quiet)
    return app


class _Keeper:
    """Stores a form in the database, or in the synced local spool while the database is away."""

    def __init__(self, house: House, accept: Accept) -> None:
        self._accept = accept
        self._spool = Spool(house.settings.home / SPOOL, house.sealer)
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="store")

    def keep(self, arrival: Arrival) -> None:
        # Both may succeed when the database wakes up late: the digest makes them one delivery.
        try:
            storing: Future[int] = self._threads.submit(self._accept, arrival)
            storing.result(timeout=PATIENCE)
        except (SQLAlchemyError, OSError, Slow):
            try:
                self._spool.put(arrival)
            except OSError as error:
                journal.not_stored(arrival.transport, error)
                abort(503)


def _verified(asked: Request, settings: Settings) -> bytes:
    """The raw body, once signature and (where one is set) HandshakeKey are right; else 401, or 503 without a key."""
    raw = asked.get_data(cache=True)  # before anything touches request.form, which would leave 0 bytes to verify
    keys = _keys(settings)
    if not keys:
        abort(503)
    forms = {name: settings.form_of(name) for name in settings.form}
    headers = {"X-FS-Signature", *(f.header for f in forms.values())}
    given = [value for name in headers if (value := asked.headers.get(name))]
    signed_with = [k for k in keys if any(_matches(raw, k, value) for value in given)]
    if not signed_with:
        journal.refused(Transport.FORMSTACK, "signature")
        abort(401)
    form = forms.get(form_id(raw))
    if form is not None and not _form_agrees(form, raw, signed_with):
        journal.refused(Transport.FORMSTACK, "key of this form")
        abort(401)
    return raw


def _form_agrees(form: Form, raw: bytes, signed_with: Iterable[str]) -> bool:
    """Whether a form with a key or HandshakeKey of its own was signed with that, not with another form's."""
    shake = form.handshake.get_secret_value()
    agreed = not shake or hmac.compare_digest(handshake_of(raw).encode(), shake.encode())
    return agreed and form.key.get_secret_value() in signed_with


def _keys(settings: Settings) -> list[str]:
    every: list[SecretStr] = [settings.formstack_key, *(f.key for f in settings.form.values())]
    return [key for s in every if (key := s.get_secret_value())]


def _matches(raw: bytes, key: str, given: str) -> bool:
    """Compare in constant time, as bytes: text would raise on non-ASCII. The prefix may be left out."""
    expected = hmac.new(key.encode(), raw, sha256).hexdigest()
    said = given.strip().lower().removeprefix("sha256=")
    return hmac.compare_digest(expected.encode(), said.encode(errors="replace"))


def _unreadable(asked: Request, raw: bytes) -> str:
    """Why the body is not what its content type says; "" if it is."""
    if asked.headers.get("Content-Encoding", "identity").lower() != "identity":
        return "the body is compressed: switch that off at the sender"
    try:
        formstack.check(raw, asked.headers.get("Content-Type", ""))
    except ParseError as error:
        return str(error)
    return ""


def _database_answers(house: House) -> bool:
    try:
        with house.store.reading() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _answer(error: Exception) -> tuple[Response, int]:
    """Fixed words for every fault: nothing of the inside, nothing of what was sent."""
    if isinstance(error, HTTPException):
        return jsonify(error=error.name), error.code or 500
    journal.fault("webhook", error)
    return jsonify(error="try again later"), 503


def _quiet(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
