"""Outgoing webhooks, delivered to a real HTTP server.

Events are stored with the change, signed, retried, given up, and never sent into the inner network.
"""

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from tests.support.context import (
    HandClock,
    RecordingNotifier,
    complete,
    create_staff,
    deliver,
    make_mail,
    make_row,
    run_in_threads,
)
from workflow.audit.webhook_events import EVENT_OF_ACTION, EventType
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.filing import bulk
from workflow.models.core import Delivery, Ticket
from workflow.models.states import Status, WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent
from workflow.operations.backup import withhold_mail
from workflow.operations.status import collect_status
from workflow.operations.sweep import sweep
from workflow.process import STEPS
from workflow.settings.settings import Settings
from workflow.webhooks import deliver as webhooks_deliver
from workflow.webhooks.deliver import GIVE_UP_AFTER, MIN_ATTEMPTS, deliver_due

WORDS = "Jane Doe, born 1970"


class Receiver:
    """A receiver of webhooks, by http on 127.0.0.1.

    Stores the requests, and answers with the codes of `answers`, then 204.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests.append(
                    (dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
                )
                code = outer.answers.pop(0) if outer.answers else 204
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815  # the name the library calls

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.place}/hook"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def _receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.stop()


@pytest.fixture
def receiver(_receiver: Receiver) -> Receiver:
    _receiver.requests.clear()
    _receiver.answers.clear()
    return _receiver


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver) -> Settings:
    return Settings(home=tmp_path / "home", hook_hosts=(receiver.place,))


def add_webhook(context: AppContext, url: str, *events: EventType) -> tuple[int, str]:
    with context.store.transaction() as session:
        hook, secret = webhooks_deliver.create_webhook(
            context, session, url, events or list(EventType), by="Ada", now=context.clock()
        )
        return hook.id, secret


def list_events(context: AppContext) -> list[WebhookEvent]:
    with context.store.read_only() as session:
        return list(session.scalars(select(WebhookEvent).order_by(WebhookEvent.id)))


def list_event_names(context: AppContext) -> list[str]:
    return [one.event for one in list_events(context)]


def get_webhook(context: AppContext) -> Webhook:
    with context.store.read_only() as session:
        return session.scalars(select(Webhook).order_by(Webhook.id.desc())).first() or pytest.fail(
            "no hook"
        )


def test_changes_of_a_ticket_are_delivered_signed_and_in_numbers_only(
    any_context: AppContext, receiver: Receiver, notified_queues: RecordingNotifier
) -> None:
    _, secret = add_webhook(any_context, receiver.url)
    deliver(any_context, make_mail(WORDS, subject=WORDS))
    assert "hook" in notified_queues
    with any_context.store.transaction() as session:
        olga = create_staff(session, "Olga")
        any_context.desk.assign(
            session, session.get_one(Ticket, 1), olga, by="Olga", now=any_context.clock()
        )
    complete(any_context, 1)
    while deliver_due(any_context):
        pass
    bodies = receiver.bodies()
    assert {one["event"] for one in bodies} >= {
        EventType.OPENED,
        EventType.ASSIGNED,
        EventType.STAGE,
        EventType.COMPLETED,
    }
    assert [one["stage"] for one in bodies if one["event"] == EventType.COMPLETED] == [
        STEPS[-1].stage
    ]
    assert next(one["owner"] for one in bodies if one["event"] == "ticket.assigned") == olga.id
    assert {one["ticket"] for one in bodies} == {1}
    assert WORDS not in str(receiver.requests)
    assert "Olga" not in str(receiver.requests)
    for head, body in receiver.requests:
        time, signed = (part.partition("=")[2] for part in head["X-Intake-Signature"].split(","))
        assert (
            signed
            == hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
        )
        assert int(time) == int(any_context.clock().timestamp())
        assert (head["X-Intake-Id"], head["X-Intake-Event"]) == (
            json.loads(body)["id"],
            json.loads(body)["event"],
        )
    assert len({one["id"] for one in bodies}) == len(bodies)
    assert {one.state for one in list_events(any_context)} == {WebhookEventState.DELIVERED}


def test_only_subscribed_events_are_delivered_and_only_from_then_on(
    context: AppContext, receiver: Receiver
) -> None:
    deliver(context, make_mail())
    add_webhook(context, receiver.url, EventType.COMPLETED)
    deliver(context, make_mail())
    complete(context, 2)
    assert list_event_names(context) == ["ticket.completed"]


def test_an_event_is_there_exactly_if_its_change_is(
    context: AppContext, receiver: Receiver
) -> None:
    add_webhook(context, receiver.url)
    # one transaction
    with pytest.raises(RuntimeError), context.store.transaction() as session:  # noqa: PT012
        ticket = Ticket(
            name="x",
            subject="",
            pipeline="",
            type="",
            stage=STEPS[0].stage,
            status=Status.OPEN,
            transport="smtp",
            format="mail",
            created_at=context.clock(),
            period_started_at=context.clock(),
            caveats=[],
            period=1,
        )
        session.add(ticket)
        context.desk.open(session, ticket, cause="test", now=context.clock())
        raise RuntimeError
    assert not list_events(context)


def test_items_filed_in_bulk_have_the_events_of_single_ones(
    any_context: AppContext, receiver: Receiver
) -> None:
    add_webhook(any_context, receiver.url)
    items = [make_row(external_id=f"a{n}", company=f"Practice {n}") for n in range(3)]
    for n, one in enumerate(items):
        deliver(any_context, replace(one, external_id=f"b{n}"))
    single = Counter(list_event_names(any_context))
    with any_context.store.transaction() as session:
        session.execute(delete(WebhookEvent))
        delivery = session.scalars(select(Delivery)).first()
        assert delivery is not None
        bulk.file_items(any_context.desk, session, items, delivery, 1, any_context.clock())
    assert Counter(list_event_names(any_context)) == single
    assert {one.body["ticket"] for one in list_events(any_context)} == {4, 5, 6}


def test_an_address_that_fails_pauses_and_is_retried(
    context: AppContext, receiver: Receiver, clock: HandClock
) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    receiver.answers[:] = [500]
    deliver(context, make_mail())
    assert deliver_due(context) == 1
    deliver(context, make_mail())
    assert deliver_due(context) == 0, "it has just failed"
    assert get_webhook(context).reason == "it answered 500"
    clock.turn(seconds=31)
    assert deliver_due(context) == 2
    assert len(receiver.requests) == 3
    assert receiver.bodies()[0] in receiver.bodies()[1:], "the same event, under the same id"
    assert (get_webhook(context).failures, get_webhook(context).reason) == (0, "")


def test_redirects_are_not_followed(context: AppContext, receiver: Receiver) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    receiver.answers[:] = [302]
    deliver(context, make_mail())
    deliver_due(context)
    assert len(receiver.requests) == 1
    assert get_webhook(context).reason == "it answered with a redirect"


def test_after_two_days_it_is_given_up_shown_and_can_be_tried_again(
    context: AppContext, receiver: Receiver, clock: HandClock
) -> None:
    number, _ = add_webhook(context, receiver.url, EventType.OPENED)
    deliver(context, make_mail())
    receiver.answers[:] = [503] * 200
    until = clock.now + GIVE_UP_AFTER + timedelta(hours=1)
    while clock.now < until:
        deliver_due(context)
        clock.turn(minutes=61)
    assert [one.state for one in list_events(context)] == [WebhookEventState.GIVEN_UP]
    assert MIN_ATTEMPTS < len(receiver.requests) < 60
    assert any("given up" in need for need in collect_status(context).needs)
    receiver.answers.clear()
    with context.store.transaction() as session:
        assert webhooks_deliver.retry_webhook(session, number, by="Ada", now=clock.now) == 1
    assert deliver_due(context) == 1
    assert not any("given up" in need for need in collect_status(context).needs)


def test_time_in_which_nothing_ran_is_no_try(
    context: AppContext, receiver: Receiver, clock: HandClock
) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    deliver(context, make_mail())
    clock.turn(days=3)
    receiver.answers[:] = [500]
    deliver_due(context)
    assert [one.state for one in list_events(context)] == [WebhookEventState.WAITING]


def test_one_that_is_refused_for_itself_holds_up_no_other(
    context: AppContext, receiver: Receiver, clock: HandClock
) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    deliver(context, make_mail())
    deliver(context, make_mail())
    receiver.answers[:] = [400]
    assert deliver_due(context) == 2
    assert sorted(one.state for one in list_events(context)) == [
        WebhookEventState.DELIVERED,
        WebhookEventState.WAITING,
    ]
    clock.turn(seconds=31)
    assert deliver_due(context) == 1


def test_a_deleted_webhook_gets_nothing_more(context: AppContext, receiver: Receiver) -> None:
    number, _ = add_webhook(context, receiver.url)
    deliver(context, make_mail())
    with context.store.transaction() as session:
        webhooks_deliver.delete_webhook(session, number, by="Ada", now=context.clock())
    deliver(context, make_mail())
    assert deliver_due(context) == 0
    assert not receiver.requests
    with pytest.raises(ActionNotAllowed), context.store.transaction() as session:
        webhooks_deliver.delete_webhook(session, number, by="Ada", now=context.clock())


def test_the_clock_delivers_what_no_worker_has(
    context: AppContext, receiver: Receiver, clock: HandClock
) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    deliver(context, make_mail())
    clock.turn(minutes=1)
    sweep(context, redis_away=lambda: False)
    assert len(receiver.requests) == 1


def test_two_workers_deliver_an_event_once(
    postgres_context: AppContext, receiver: Receiver
) -> None:
    add_webhook(postgres_context, receiver.url, EventType.OPENED)
    for _ in range(12):
        deliver(postgres_context, make_mail())
    assert not run_in_threads(*[lambda: deliver_due(postgres_context)] * 3)
    assert len(receiver.requests) == 12


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "http://a.example/",
        "https://user:pw@a.example/",
        "https://",
        "//a.example",
        "x",
        "https://a:b",
    ],
)
def test_addresses_that_cannot_be_are_refused(context: AppContext, url: str) -> None:
    with pytest.raises(ActionNotAllowed):
        add_webhook(context, url)


def test_a_name_of_the_inner_network_is_not_asked(context: AppContext, receiver: Receiver) -> None:
    port = receiver.place.partition(":")[2]
    add_webhook(context, f"https://localhost:{port}/", EventType.OPENED)
    deliver(context, make_mail())
    deliver_due(context)
    assert get_webhook(context).reason.startswith("its host is one of an inner network")
    assert not receiver.requests


def test_an_inner_host_of_the_settings_still_needs_tls_that_is_believed(
    context: AppContext, receiver: Receiver
) -> None:
    add_webhook(context, f"https://{receiver.place}/", EventType.OPENED)
    deliver(context, make_mail())
    deliver_due(context)
    assert get_webhook(context).reason == "no connection, or it broke off"


def test_a_secret_whose_key_is_gone_is_reported(context: AppContext, receiver: Receiver) -> None:
    add_webhook(context, receiver.url, EventType.OPENED)
    deliver(context, make_mail())
    with context.store.transaction() as session:
        session.execute(update(Webhook).values(secret=b"other"))
    deliver_due(context)
    assert "INTAKE_SECRET_KEYS" in get_webhook(context).reason


def test_the_events_are_of_actions_that_there_are() -> None:
    assert set(EVENT_OF_ACTION.values()) | {EventType.COMPLETED} == set(EventType)


def test_the_events_are_those_of_the_docs_and_so_is_the_signature(
    context: AppContext, receiver: Receiver
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    table = page.partition("| event |")[2].partition("\n\n")[0]
    firsts = "\n".join(line.partition(" | ")[0] for line in table.splitlines())
    named = re.findall(r"`([a-z]+\.[a-z]+)`", firsts)
    assert sorted(named) == sorted(EventType)
    _, secret = add_webhook(context, receiver.url)
    deliver(context, make_mail())
    deliver_due(context)
    namespace: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib}
    # the example is ours
    exec(page.partition("```python\n")[2].partition("```")[0], namespace)  # noqa: S102
    head, body = receiver.requests[0]
    now = context.clock().timestamp()
    assert namespace["is_ours"](secret, head["X-Intake-Signature"], body, now)
    assert not namespace["is_ours"](secret, head["X-Intake-Signature"], body + b" ", now)


def test_a_restored_system_delivers_nothing_again(context: AppContext, receiver: Receiver) -> None:
    add_webhook(context, receiver.url)
    deliver(context, make_mail())
    withhold_mail(context.settings, context.clock())
    assert deliver_due(context) == 0
