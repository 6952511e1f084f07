"""POST /formstack and GET /health: verify the signature over the raw bytes, store, answer."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from flask import Flask, Request, Response, abort, jsonify, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from ingest.formstack.spool import SPOOL_FOLDER, Spool
from ingest.intake import BATCH, AcceptAll, Arrival, Transport
from parsers.formstack.submission import Envelope
from parsers.item import Format
from webhooks import body
from webhooks.body import Body
from webhooks.signature import SignatureKeys
from workflow.context import AppContext
from workflow.operations import item_faults
from workflow.runtime import log

PATIENCE = 5.0  # seconds the database may take before the form goes into the local spool
AWAY_SECONDS = 10.0  # so long after it did not store one, forms go into the spool at once
STORING = 32  # forms that wait for the database
HEALTH_SECONDS = 2.0


def create_app(context: AppContext, accept: AcceptAll) -> Flask:
    """The public app. It knows no page, sets no cookie and repeats nothing of what it was sent."""
    app = Flask("webhooks", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = context.settings.webhook_limit
    spool = Spool(context.settings.home / SPOOL_FOLDER, context.sealer)
    keeper, pulse, keys = _Keeper(spool, accept), _Pulse(context), SignatureKeys(context.settings)
    if not keys:
        log.webhook_without_key()

    @app.post("/formstack", provide_automatic_options=False)
    def take() -> tuple[Response, int]:
        """202 stored; 401 unsigned or wrongly signed; 413 over the limit.

        415 neither form nor JSON; 503 send it again.

        A signed body that cannot be read is 415 and stored all the same, as failed: staff see it
        and can replay it.
        """
        raw, said = _verified(request, keys)
        if raw:
            keeper.keep(_arrival(request, raw, said, context.clock()))
        if said.unreadable_reason:
            abort(415)
        return jsonify(status="stored"), 202

    @app.get("/health", provide_automatic_options=False)
    def health() -> tuple[Response, int]:
        """200 forms are taken; 503 no key to verify them with, or nowhere to store them."""
        room = spool.has_space(2 * context.settings.webhook_limit)
        state = {"key": bool(keys), "database": pulse.beats(), "spool": room}
        good = state["key"] and (state["database"] or room)
        return jsonify(
            **state, spooled=len(spool.list_waiting()), damaged=spool.count_damaged()
        ), 200 if good else 503

    @app.errorhandler(Exception)
    def answer(error: Exception) -> tuple[Response, int]:
        """Fixed words for every fault: nothing of the inside, nothing of what was sent."""
        if isinstance(error, HTTPException):
            return jsonify(error=error.name), error.code or 500
        item_faults.record_unexpected_fault(
            context.store, context.clock, Transport.FORMSTACK, error
        )
        return jsonify(error="try again later"), 503

    app.after_request(_quiet)
    return app


def _arrival(asked: Request, raw: bytes, said: Body, now: datetime) -> Arrival:
    return Arrival(
        transport=Transport.FORMSTACK,
        format=Format.FORMSTACK,
        unreadable_reason=said.unreadable_reason,
        raw=body.remove_handshake(raw) if said.unreadable_reason or said.envelope.secrets else raw,
        envelope={"form": said.envelope.form, "peer": asked.remote_addr or ""},
        received_at=now,
        reference=said.reference,
    )


class _Form:
    """One that waits to be stored, and whoever brought it for the answer."""

    __slots__ = ("_told", "arrival", "stored")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival, self.stored = arrival, False
        self._told = Lock()
        self._told.acquire()

    def tell(self, *, stored: bool) -> None:
        self.stored = stored
        self._told.release()

    def heard(self) -> bool:
        """Return whether there is an answer within PATIENCE."""
        return self._told.acquire(timeout=PATIENCE)


class _Keeper:
    """Stores a form in the database, or in the synced local spool while the database is away.

    One thread stores for all: what comes while it does shares the next commit, and nobody else
    waits for a database that hangs.
    """

    def __init__(self, spool: Spool, accept: AcceptAll) -> None:
        self._accept = accept
        self._spool = spool
        self._waiting: SimpleQueue[_Form] = SimpleQueue()
        self._away_until = 0.0  # of the steady clock
        Thread(target=self._store_all, name="store", daemon=True).start()

    def keep(self, arrival: Arrival) -> None:
        # Both may succeed when the database wakes up late: the digest makes them one delivery.
        ways = [self._in_database, self._in_spool]
        if time.monotonic() < self._away_until:
            ways.reverse()
        if not any(way(arrival) for way in ways):
            abort(503)

    def _in_spool(self, arrival: Arrival) -> bool:
        try:
            self._spool.store(arrival)
        except OSError as error:
            log.delivery_not_stored(arrival.transport, error)
            return False
        return True

    def _in_database(self, arrival: Arrival) -> bool:
        form = _Form(arrival)
        if self._waiting.qsize() >= STORING:
            log.delivery_not_stored(arrival.transport, BlockingIOError())
        else:
            self._waiting.put(form)
            if not form.heard():
                log.delivery_not_stored(arrival.transport, TimeoutError())
        self._away_until = 0.0 if form.stored else time.monotonic() + AWAY_SECONDS
        return form.stored

    def _store_all(self) -> None:
        while True:
            forms = [self._waiting.get()]
            with suppress(Empty):
                while len(forms) < BATCH:
                    forms.append(self._waiting.get_nowait())
            for form, stored in zip(
                forms, self._stored([form.arrival for form in forms]), strict=True
            ):
                form.tell(stored=stored)

    def _stored(self, arrivals: list[Arrival]) -> list[bool]:
        try:
            return [isinstance(answer, int) for answer in self._accept(arrivals)]
        # the thread's top loop: those who wait then go to the spool
        except Exception as error:  # noqa: BLE001
            log.fault("store", error)
            return [False] * len(arrivals)


class _Pulse:
    """Whether the database answers.

    One thread asks for all: a health check must not hang because the database does.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pulse")
        self._asking = Lock()
        self._asked: Future[bool] | None = None

    def beats(self) -> bool:
        with self._asking:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(_database_answers, self._context)
            asked = self._asked
        try:
            return asked.result(timeout=HEALTH_SECONDS)
        except TimeoutError:
            return False


def _verified(asked: Request, keys: SignatureKeys) -> tuple[bytes, Body]:
    """The raw body and what it says, once signature and HandshakeKey are right.

    Else 401, or 503 without a key.
    """
    raw = asked.get_data(
        cache=True
    )  # before anything touches request.form, which would leave 0 bytes to verify
    if not keys:
        abort(503)
    signed_with = keys.find_signing_keys(asked.headers, raw)
    if not signed_with:
        log.delivery_refused(Transport.FORMSTACK, "signature")
        abort(401)
    said = _read(asked, raw)
    if not keys.may_submit(said.envelope, signed_with):
        log.delivery_refused(Transport.FORMSTACK, "key of this form")
        abort(401)
    return raw, said


def _read(asked: Request, raw: bytes) -> Body:
    if asked.headers.get("Content-Encoding", "identity").lower() != "identity":
        return Body(Envelope(), "the body is compressed: switch that off at the sender")
    return body.parse_body(raw, asked.headers.get("Content-Type", ""))


def _database_answers(context: AppContext) -> bool:
    try:
        with context.store.read_only() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _quiet(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
