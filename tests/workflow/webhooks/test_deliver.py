"""Outgoing webhooks, told to a real HTTP server.

Kept with the change, signed, told again, given up, never inside.
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

from tests.support.context import HandClock, Woken, complete, deliver, mail, row, staff, together
from workflow.audit.webhook_events import OF_ACTION, Event
from workflow.context import House
from workflow.errors import Missing
from workflow.filing import bulk
from workflow.models.core import Delivery, Ticket
from workflow.models.states import Status, TellState
from workflow.models.webhooks import Hook, HookEvent
from workflow.operations.restored import hold_back
from workflow.operations.status import report
from workflow.operations.sweep import sweep
from workflow.process import STEPS
from workflow.settings.settings import Settings
from workflow.webhooks import deliver as webhooks_deliver
from workflow.webhooks.deliver import GIVE_UP, TRIES, tell_waiting

WORDS = "Jane Doe, born 1970"


class Receiver:
    """Somebody else's server, by http on 127.0.0.1.

    Keeps what it is told and answers as it is told to, else 204.
    """

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.told.append(
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
        return [json.loads(body) for _, body in self.told]

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
    _receiver.told.clear()
    _receiver.answers.clear()
    return _receiver


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver) -> Settings:
    return Settings(home=tmp_path / "home", hook_hosts=(receiver.place,))


def hooked(house: House, url: str, *events: Event) -> tuple[int, str]:
    with house.store.transaction() as session:
        hook, secret = webhooks_deliver.add(
            house, session, url, events or list(Event), by="Ada", now=house.clock()
        )
        return hook.id, secret


def events(house: House) -> list[HookEvent]:
    with house.store.reading() as session:
        return list(session.scalars(select(HookEvent).order_by(HookEvent.id)))


def happened(house: House) -> list[str]:
    return [one.event for one in events(house)]


def hook(house: House) -> Hook:
    with house.store.reading() as session:
        return session.scalars(select(Hook).order_by(Hook.id.desc())).first() or pytest.fail(
            "no hook"
        )


def test_what_happens_to_a_ticket_is_told_signed_and_in_numbers_only(
    any_house: House, receiver: Receiver, woken: Woken
) -> None:
    _, secret = hooked(any_house, receiver.url)
    deliver(any_house, mail(WORDS, subject=WORDS))
    assert "hook" in woken
    with any_house.store.transaction() as session:
        olga = staff(session, "Olga")
        any_house.desk.assign(
            session, session.get_one(Ticket, 1), olga, by="Olga", now=any_house.clock()
        )
    complete(any_house, 1)
    while tell_waiting(any_house):
        pass
    told = receiver.bodies()
    assert {one["event"] for one in told} >= {
        Event.OPENED,
        Event.ASSIGNED,
        Event.STAGE,
        Event.COMPLETED,
    }
    assert [one["stage"] for one in told if one["event"] == Event.COMPLETED] == [STEPS[-1].stage]
    assert next(one["owner"] for one in told if one["event"] == "ticket.assigned") == olga.id
    assert {one["ticket"] for one in told} == {1}
    assert WORDS not in str(receiver.told)
    assert "Olga" not in str(receiver.told)
    for head, body in receiver.told:
        time, signed = (part.partition("=")[2] for part in head["X-Intake-Signature"].split(","))
        assert (
            signed
            == hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
        )
        assert int(time) == int(any_house.clock().timestamp())
        assert (head["X-Intake-Id"], head["X-Intake-Event"]) == (
            json.loads(body)["id"],
            json.loads(body)["event"],
        )
    assert len({one["id"] for one in told}) == len(told)
    assert {one.state for one in events(any_house)} == {TellState.TOLD}


def test_only_what_was_asked_for_is_told_and_only_from_then_on(
    house: House, receiver: Receiver
) -> None:
    deliver(house, mail())
    hooked(house, receiver.url, Event.COMPLETED)
    deliver(house, mail())
    complete(house, 2)
    assert happened(house) == ["ticket.completed"]


def test_an_event_is_there_exactly_if_its_change_is(house: House, receiver: Receiver) -> None:
    hooked(house, receiver.url)
    # one transaction
    with pytest.raises(RuntimeError), house.store.transaction() as session:  # noqa: PT012
        ticket = Ticket(
            name="x",
            subject="",
            pipeline="",
            type="",
            stage=STEPS[0].stage,
            status=Status.OPEN,
            transport="smtp",
            format="mail",
            created_at=house.clock(),
            period_started_at=house.clock(),
            caveats=[],
            period=1,
        )
        session.add(ticket)
        house.desk.open(session, ticket, cause="test", now=house.clock())
        raise RuntimeError
    assert not events(house)


def test_items_filed_many_at_once_are_told_like_single_ones(
    any_house: House, receiver: Receiver
) -> None:
    hooked(any_house, receiver.url)
    items = [row(external_id=f"a{n}", company=f"Practice {n}") for n in range(3)]
    for n, one in enumerate(items):
        deliver(any_house, replace(one, external_id=f"b{n}"))
    single = Counter(happened(any_house))
    with any_house.store.transaction() as session:
        session.execute(delete(HookEvent))
        delivery = session.scalars(select(Delivery)).first()
        assert delivery is not None
        bulk.receive_all(any_house.desk, session, items, delivery, 1, any_house.clock())
    assert Counter(happened(any_house)) == single
    assert {one.body["ticket"] for one in events(any_house)} == {4, 5, 6}


def test_an_address_that_fails_is_left_alone_for_a_while_then_told_again(
    house: House, receiver: Receiver, clock: HandClock
) -> None:
    hooked(house, receiver.url, Event.OPENED)
    receiver.answers[:] = [500]
    deliver(house, mail())
    assert tell_waiting(house) == 1
    deliver(house, mail())
    assert tell_waiting(house) == 0, "it has just failed"
    assert hook(house).reason == "it answered 500"
    clock.turn(seconds=31)
    assert tell_waiting(house) == 2
    assert len(receiver.told) == 3
    assert receiver.bodies()[0] in receiver.bodies()[1:], "the same event, under the same id"
    assert (hook(house).failures, hook(house).reason) == (0, "")


def test_redirects_are_not_followed(house: House, receiver: Receiver) -> None:
    hooked(house, receiver.url, Event.OPENED)
    receiver.answers[:] = [302]
    deliver(house, mail())
    tell_waiting(house)
    assert len(receiver.told) == 1
    assert hook(house).reason == "it answered with a redirect"


def test_after_two_days_it_is_given_up_shown_and_can_be_tried_again(
    house: House, receiver: Receiver, clock: HandClock
) -> None:
    number, _ = hooked(house, receiver.url, Event.OPENED)
    deliver(house, mail())
    receiver.answers[:] = [503] * 200
    until = clock.now + GIVE_UP + timedelta(hours=1)
    while clock.now < until:
        tell_waiting(house)
        clock.turn(minutes=61)
    assert [one.state for one in events(house)] == [TellState.GIVEN_UP]
    assert TRIES < len(receiver.told) < 60
    assert any("given up" in need for need in report(house).needs)
    receiver.answers.clear()
    with house.store.transaction() as session:
        assert webhooks_deliver.again(session, number, by="Ada", now=clock.now) == 1
    assert tell_waiting(house) == 1
    assert not any("given up" in need for need in report(house).needs)


def test_time_in_which_nothing_ran_is_no_try(
    house: House, receiver: Receiver, clock: HandClock
) -> None:
    hooked(house, receiver.url, Event.OPENED)
    deliver(house, mail())
    clock.turn(days=3)
    receiver.answers[:] = [500]
    tell_waiting(house)
    assert [one.state for one in events(house)] == [TellState.WAITING]


def test_one_that_is_refused_for_itself_holds_up_no_other(
    house: House, receiver: Receiver, clock: HandClock
) -> None:
    hooked(house, receiver.url, Event.OPENED)
    deliver(house, mail())
    deliver(house, mail())
    receiver.answers[:] = [400]
    assert tell_waiting(house) == 2
    assert sorted(one.state for one in events(house)) == [TellState.TOLD, TellState.WAITING]
    clock.turn(seconds=31)
    assert tell_waiting(house) == 1


def test_a_removed_one_is_told_nothing_more(house: House, receiver: Receiver) -> None:
    number, _ = hooked(house, receiver.url)
    deliver(house, mail())
    with house.store.transaction() as session:
        webhooks_deliver.remove(session, number, by="Ada", now=house.clock())
    deliver(house, mail())
    assert tell_waiting(house) == 0
    assert not receiver.told
    with pytest.raises(Missing), house.store.transaction() as session:
        webhooks_deliver.remove(session, number, by="Ada", now=house.clock())


def test_the_clock_tells_what_no_worker_has(
    house: House, receiver: Receiver, clock: HandClock
) -> None:
    hooked(house, receiver.url, Event.OPENED)
    deliver(house, mail())
    clock.turn(minutes=1)
    sweep(house, redis_away=lambda: False)
    assert len(receiver.told) == 1


def test_two_workers_tell_an_event_once(postgres_house: House, receiver: Receiver) -> None:
    hooked(postgres_house, receiver.url, Event.OPENED)
    for _ in range(12):
        deliver(postgres_house, mail())
    assert not together(*[lambda: tell_waiting(postgres_house)] * 3)
    assert len(receiver.told) == 12


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
def test_addresses_that_cannot_be_are_refused(house: House, url: str) -> None:
    with pytest.raises(Missing):
        hooked(house, url)


def test_a_name_of_the_inner_network_is_not_asked(house: House, receiver: Receiver) -> None:
    port = receiver.place.partition(":")[2]
    hooked(house, f"https://localhost:{port}/", Event.OPENED)
    deliver(house, mail())
    tell_waiting(house)
    assert hook(house).reason.startswith("its host is one of an inner network")
    assert not receiver.told


def test_an_inner_host_of_the_settings_still_needs_tls_that_is_believed(
    house: House, receiver: Receiver
) -> None:
    hooked(house, f"https://{receiver.place}/", Event.OPENED)
    deliver(house, mail())
    tell_waiting(house)
    assert hook(house).reason == "no connection, or it broke off"


def test_a_secret_whose_key_is_gone_is_said_to_be(house: House, receiver: Receiver) -> None:
    hooked(house, receiver.url, Event.OPENED)
    deliver(house, mail())
    with house.store.transaction() as session:
        session.execute(update(Hook).values(secret=b"other"))
    tell_waiting(house)
    assert "INTAKE_SECRET_KEYS" in hook(house).reason


def test_the_events_are_of_actions_that_there_are() -> None:
    assert set(OF_ACTION.values()) | {Event.COMPLETED} == set(Event)


def test_the_events_are_those_of_the_docs_and_so_is_the_signature(
    house: House, receiver: Receiver
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    table = page.partition("| event |")[2].partition("\n\n")[0]
    firsts = "\n".join(line.partition(" | ")[0] for line in table.splitlines())
    named = re.findall(r"`([a-z]+\.[a-z]+)`", firsts)
    assert sorted(named) == sorted(Event)
    _, secret = hooked(house, receiver.url)
    deliver(house, mail())
    tell_waiting(house)
    known: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib}
    # the example is ours
    exec(page.partition("```python\n")[2].partition("```")[0], known)  # noqa: S102
    head, body = receiver.told[0]
    now = house.clock().timestamp()
    assert known["is_ours"](secret, head["X-Intake-Signature"], body, now)
    assert not known["is_ours"](secret, head["X-Intake-Signature"], body + b" ", now)


def test_a_restored_system_tells_nothing_again(house: House, receiver: Receiver) -> None:
    hooked(house, receiver.url)
    deliver(house, mail())
    hold_back(house.settings, house.clock())
    assert tell_waiting(house) == 0
