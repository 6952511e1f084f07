"""POST /formstack and GET /health: verify the signature over the raw bytes, store, answer."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
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
from workflow.operations.refusals import Refusal, ignore_refusal
from workflow.runtime import log

STORE_SECONDS = 5.0  # seconds the database may take before the form goes into the local spool
# after a form was not stored, further ones go into the spool at once for so long
AWAY_SECONDS = 10.0
MAX_WAITING = 32  # forms that wait for the database
HEALTH_SECONDS = 2.0


def create_app(
    context: AppContext,
    accept: AcceptAll,
    count_refusal: Callable[[Refusal], None] = ignore_refusal,
) -> Flask:
    """Return the public app.

    It has no pages, sets no cookie and repeats nothing of what it was sent. `count_refusal` is
    called with every form that is refused for good; it must not raise.
    """
    app = Flask("webhooks", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = context.settings.webhook_limit
    spool = Spool(context.settings.home / SPOOL_FOLDER, context.sealer)
    form_store = _FormStore(spool, accept)
    probe = _DatabaseProbe(context)
    keys = SignatureKeys(context.settings)
    if not keys:
        log.webhook_without_key()

    @app.post("/formstack", provide_automatic_options=False)
    def take() -> tuple[Response, int]:
        """Answer 202 once the form is stored, or one of 401, 413, 415 and 503.

        401: unsigned or wrongly signed; 413: over the limit; 415: neither form nor JSON; 503: send
        it again. A signed body that cannot be read is 415 and stored all the same, as failed: staff
        see it and can replay it.
        """
        raw, form_body = _verify(request, keys, count_refusal)
        if raw:
            form_store.store(_make_arrival(request, raw, form_body, context.clock()))
        if form_body.unreadable_reason:
            count_refusal(Refusal.UNREADABLE)
            abort(415)
        return jsonify(status="stored"), 202

    @app.get("/health", provide_automatic_options=False)
    def health() -> tuple[Response, int]:
        """Answer 200 when forms are taken, 503 without a key or without anywhere to store them."""
        has_space = spool.has_space(2 * context.settings.webhook_limit)
        state = {"key": bool(keys), "database": probe.is_alive(), "spool": has_space}
        good = state["key"] and (state["database"] or has_space)
        return jsonify(
            **state, spooled=len(spool.list_waiting()), damaged=spool.count_damaged()
        ), 200 if good else 503

    @app.errorhandler(Exception)
    def answer(error: Exception) -> tuple[Response, int]:
        """Answer fixed words for every fault: nothing of the inside, nothing of what was sent."""
        if isinstance(error, HTTPException):
            if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                count_refusal(Refusal.TOO_LARGE)
            return jsonify(error=error.name), error.code or 500
        item_faults.record_unexpected_fault(
            context.store, context.clock, Transport.FORMSTACK, error
        )
        return jsonify(error="try again later"), 503

    app.after_request(_set_headers)
    return app


def _make_arrival(incoming: Request, raw: bytes, form_body: Body, now: datetime) -> Arrival:
    """Return the form as an arrival, without its HandshakeKey."""
    return Arrival(
        transport=Transport.FORMSTACK,
        format=Format.FORMSTACK,
        unreadable_reason=form_body.unreadable_reason,
        raw=body.remove_handshake(raw)
        if form_body.unreadable_reason or form_body.envelope.secrets
        else raw,
        envelope={"form": form_body.envelope.form, "peer": incoming.remote_addr or ""},
        received_at=now,
        reference=form_body.reference,
    )


class _PendingForm:
    """A form that waits to be stored, and the request that waits for the answer."""

    __slots__ = ("_answer_lock", "arrival", "is_stored")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival, self.is_stored = arrival, False
        self._answer_lock = Lock()
        self._answer_lock.acquire()

    def answer(self, *, is_stored: bool) -> None:
        """Record whether the form is stored, and wake the request that waits."""
        self.is_stored = is_stored
        self._answer_lock.release()

    def wait(self) -> bool:
        """Return whether there is an answer within STORE_SECONDS."""
        return self._answer_lock.acquire(timeout=STORE_SECONDS)


class _FormStore:
    """Stores forms in the database, or in the synced local spool while the database is away.

    One thread stores for all requests: what comes meanwhile shares the next commit, and nobody else
    waits for a database that hangs.
    """

    def __init__(self, spool: Spool, accept: AcceptAll) -> None:
        self._accept = accept
        self._spool = spool
        self._waiting: SimpleQueue[_PendingForm] = SimpleQueue()
        self._away_until = 0.0  # monotonic
        Thread(target=self._store_all, name="store", daemon=True).start()

    def store(self, arrival: Arrival) -> None:
        # Both may succeed when the database answers late: the digest makes them one delivery.
        """Store a form. Aborts with 503 when neither database nor spool could."""
        ways = [self._store_in_database, self._store_in_spool]
        if time.monotonic() < self._away_until:
            ways.reverse()
        if not any(way(arrival) for way in ways):
            abort(503)

    def _store_in_spool(self, arrival: Arrival) -> bool:
        """Store a form in the spool; return whether that worked."""
        try:
            self._spool.store(arrival)
        except OSError as error:
            log.delivery_not_stored(arrival.transport, error)
            return False
        return True

    def _store_in_database(self, arrival: Arrival) -> bool:
        """Store a form in the database; return whether it did in time."""
        form = _PendingForm(arrival)
        if self._waiting.qsize() >= MAX_WAITING:
            log.delivery_not_stored(arrival.transport, BlockingIOError())
        else:
            self._waiting.put(form)
            if not form.wait():
                log.delivery_not_stored(arrival.transport, TimeoutError())
        self._away_until = 0.0 if form.is_stored else time.monotonic() + AWAY_SECONDS
        return form.is_stored

    def _store_all(self) -> None:
        """Store queued forms, for ever; a thread's main function."""
        while True:
            forms = [self._waiting.get()]
            with suppress(Empty):
                while len(forms) < BATCH:
                    forms.append(self._waiting.get_nowait())
            for form, stored in zip(
                forms, self._store_batch([form.arrival for form in forms]), strict=True
            ):
                form.answer(is_stored=stored)

    def _store_batch(self, arrivals: list[Arrival]) -> list[bool]:
        """Store a batch; return for each form whether it is stored."""
        try:
            return [isinstance(answer, int) for answer in self._accept(arrivals)]
        # the thread's top loop: the waiting forms then go to the spool
        except Exception as error:  # noqa: BLE001
            log.fault("store", error)
            return [False] * len(arrivals)


class _DatabaseProbe:
    """Check whether the database answers.

    One thread asks for all requests: a health check must not hang because the database does.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pulse")
        self._lock = Lock()
        self._answer: Future[bool] | None = None

    def is_alive(self) -> bool:
        """Return whether the database answers in time."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = self._thread.submit(_database_answers, self._context)
            answer = self._answer
        try:
            return answer.result(timeout=HEALTH_SECONDS)
        except TimeoutError:
            return False


def _verify(
    incoming: Request, keys: SignatureKeys, count_refusal: Callable[[Refusal], None]
) -> tuple[bytes, Body]:
    """Return the raw body and its envelope, once signature and HandshakeKey are verified.

    Aborts with 401 otherwise, with 503 without a key.
    """
    # read before request.form, which would leave 0 bytes to verify
    raw = incoming.get_data(cache=True)
    if not keys:
        count_refusal(Refusal.NO_KEY)
        abort(503)
    signed_with = keys.find_signing_keys(incoming.headers, raw)
    if not signed_with:
        log.delivery_refused(Transport.FORMSTACK, "signature")
        is_signed = keys.has_signature(incoming.headers)
        count_refusal(Refusal.SIGNATURE if is_signed else Refusal.UNSIGNED)
        abort(401)
    form_body = _read(incoming, raw)
    if not keys.may_submit(form_body.envelope, signed_with):
        log.delivery_refused(Transport.FORMSTACK, "key of this form")
        count_refusal(Refusal.FORM_KEY)
        abort(401)
    return raw, form_body


def _read(incoming: Request, raw: bytes) -> Body:
    """Parse a signed body; a compressed one is unreadable."""
    if incoming.headers.get("Content-Encoding", "identity").lower() != "identity":
        return Body(Envelope(), "the body is compressed: switch that off at the sender")
    return body.parse_body(raw, incoming.headers.get("Content-Type", ""))


def _database_answers(context: AppContext) -> bool:
    """Return whether the database answers a query."""
    try:
        with context.store.read_only() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _set_headers(response: Response) -> Response:
    """Set the headers that every answer has."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
