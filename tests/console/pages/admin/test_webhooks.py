"""The pages of webhooks: how each answers, what waits or was given up, sending it again.

And the counts.
"""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from console.presenters import webhooks
from console.presenters.operations import present_status
from console.web import metrics
from tests.support.command import Intake
from tests.support.context import HandClock, RecordingNotifier, deliver, make_mail
from tests.support.signed_in_client import sign_in_at_desk
from workflow.audit.webhook_events import EventType
from workflow.context import AppContext
from workflow.models.core import AuditEntry
from workflow.models.states import Role, WebhookEventState
from workflow.models.webhooks import WebhookEvent
from workflow.settings.settings import Settings
from workflow.webhooks import deliver as webhooks_deliver
from workflow.webhooks.deliver import GIVE_UP_AFTER, LEASE, deliver_due

PAGE, AGAIN = "/operations/webhooks", "/operations/webhooks/1/again"


@pytest.fixture(scope="module")
def deaf() -> Iterator[str]:
    """host:port that nobody listens at, and that nobody else is given meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def settings(tmp_path: Path, deaf: str) -> Settings:
    return Settings(home=tmp_path / "home", hook_hosts=(deaf,))


def create_webhook(context: AppContext, url: str, *events: EventType) -> int:
    with context.store.transaction() as session:
        hook, _ = webhooks_deliver.create_webhook(
            context, session, url, events or list(EventType), by="Ada", now=context.clock()
        )
        return hook.id


def change(context: AppContext, **values: object) -> None:
    with context.store.transaction() as session:
        session.execute(update(WebhookEvent).values(**values))


def list_states(context: AppContext) -> list[tuple[WebhookEventState, int]]:
    with context.store.read_only() as session:
        return [
            (e.state, e.attempts)
            for e in session.scalars(select(WebhookEvent).order_by(WebhookEvent.id))
        ]


def test_a_webhook_that_fails_is_shown_with_what_waits_for_it(
    any_context: AppContext, deaf: str, clock: HandClock
) -> None:
    create_webhook(any_context, f"http://{deaf}/hook?key=geheim", EventType.OPENED)
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    assert "No events are waiting." in desk.get(PAGE).text
    deliver(any_context, make_mail())
    deliver_due(any_context)
    clock.turn(minutes=10)
    page = desk.get(PAGE).text
    assert page.count("no connection, or it broke off") == 2, "of the webhook, and of its event"
    assert "<strong>failing</strong>" in page
    assert "<dt>Waiting</dt><dd>1</dd>" in page
    assert "ticket.opened" in page
    assert '<a href="/tickets/1">#1</a>' in page
    assert 'data-label="Attempts">1<' in page
    assert 'data-label="Next attempt">now<' in page


def test_only_who_may_act_sees_all_of_the_address_and_the_button(
    any_context: AppContext, deaf: str
) -> None:
    url = f"http://{deaf}/hook?key=geheim"
    create_webhook(any_context, url, EventType.OPENED)
    deliver(any_context, make_mail())
    for role, name in ((Role.AUDITOR, "Ann Lee"), (Role.LEAD, "Bea Lee")):
        desk = sign_in_at_desk(any_context, role, name)
        page = desk.get(PAGE).text
        assert f"http://{deaf}/…" in page
        assert "geheim" not in page
        assert AGAIN not in page
        assert desk.post(AGAIN).status_code == 403
    page = sign_in_at_desk(any_context, Role.ADMIN, "Cid Lee").get(PAGE).text
    assert url in page
    assert AGAIN in page
    assert sign_in_at_desk(any_context, Role.AGENT, "Dan Lee").get(PAGE).status_code == 403


def test_again_tells_what_was_given_up_and_what_pauses_but_takes_nothing_out_of_a_hand(
    any_context: AppContext, deaf: str, clock: HandClock, notified_queues: RecordingNotifier
) -> None:
    create_webhook(any_context, f"http://{deaf}", EventType.OPENED)
    deliver(any_context, make_mail())
    desk = sign_in_at_desk(any_context, Role.ADMIN)
    desk.get(PAGE)
    now = clock()
    change(any_context, attempts=3, not_before=now + LEASE)  # somebody may just be telling it
    desk.post(AGAIN)
    assert "No event waits" in desk.get(PAGE).text
    change(any_context, attempts=7, not_before=now + timedelta(minutes=40))
    assert "in 40 min" in desk.get(PAGE).text
    notified_queues.clear()
    desk.post(AGAIN)
    assert "1 events are being sent again." in desk.get(PAGE).text
    assert list_states(any_context) == [(WebhookEventState.WAITING, 7)]
    assert notified_queues == ["hook"]
    change(any_context, state=WebhookEventState.GIVEN_UP, attempts=60, reason="it answered 500")
    assert "<strong>given up</strong>" in desk.get(PAGE).text
    desk.post(AGAIN)
    assert list_states(any_context) == [(WebhookEventState.WAITING, 0)]
    with any_context.store.read_only() as session:
        rows = select(AuditEntry.actor).where(AuditEntry.action == "webhook tried again")
        assert set(session.scalars(rows)) == {"Ann Lee"}


def test_a_removed_one_is_off_and_is_not_told_again(context: AppContext, deaf: str) -> None:
    create_webhook(context, f"http://{deaf}")
    desk = sign_in_at_desk(context, Role.ADMIN)
    desk.get(PAGE)
    with context.store.transaction() as session:
        webhooks_deliver.delete_webhook(session, 1, by="Ada", now=context.clock())
    page = desk.get(PAGE).text
    assert f"http://{deaf} <span" in page.partition("Removed</h2>")[2]
    desk.post(AGAIN)
    assert "There is no such webhook" in desk.get(PAGE).text


def test_of_very_many_events_a_few_are_shown_for_each_webhook_and_all_are_counted(
    any_context: AppContext, deaf: str
) -> None:
    for path in ("a", "b"):
        create_webhook(any_context, f"http://{deaf}/{path}", EventType.OPENED)
    for n in range(webhooks.MAX_EVENTS + 2):
        deliver(any_context, make_mail(f"claim {n}"))
    with any_context.store.transaction() as session:
        last = (
            select(WebhookEvent.id)
            .where(WebhookEvent.hook_id == 1)
            .order_by(WebhookEvent.id.desc())
            .limit(1)
        )
        given_up = (
            update(WebhookEvent)
            .where(WebhookEvent.id.in_(last))
            .values(state=WebhookEventState.GIVEN_UP)
        )
        session.execute(given_up)
    with any_context.store.read_only() as session:
        first, second = webhooks.list_webhooks(session, whole=True)
    assert [len(one.events) for one in (first, second)] == [webhooks.MAX_EVENTS] * 2
    assert (first.events[0].state, first.given_up, first.waiting, first.more) == (
        WebhookEventState.GIVEN_UP,
        1,
        11,
        2,
    )
    assert [e.id for e in second.events] == sorted(e.id for e in second.events)
    assert "… and 2 more." in sign_in_at_desk(any_context, Role.AUDITOR).get(PAGE).text


def test_waiting_and_given_up_ones_are_counted_in_status_and_metrics(
    any_context: AppContext, deaf: str, clock: HandClock
) -> None:
    def count_events() -> tuple[int, int]:
        backlog = present_status(any_context)["backlog"]
        return backlog["events_waiting"], backlog["events_given_up"]

    create_webhook(any_context, f"http://{deaf}", EventType.OPENED)
    removed_webhook = create_webhook(any_context, f"http://{deaf}/gone", EventType.OPENED)
    for n in range(3):
        deliver(any_context, make_mail(f"claim {n}"))
    with any_context.store.transaction() as session:
        session.execute(
            update(WebhookEvent)
            .where(WebhookEvent.id == 1)
            .values(state=WebhookEventState.GIVEN_UP)
        )
        webhooks_deliver.get_webhook(
            session, removed_webhook
        ).removed_at = clock()  # its events have not been swept out yet
    assert count_events() == (2, 1)
    assert not any("more than an hour" in need for need in present_status(any_context)["needs"])
    clock.turn(minutes=61)
    needs = present_status(any_context)["needs"]
    assert (
        "an event has waited for its webhook for more than an hour: see `intake hook list`" in needs
    )
    lines = metrics.render_metrics(any_context).decode().splitlines()
    assert 'intake_hook_events{state="waiting"} 2.0' in lines
    assert 'intake_hook_events{state="given up"} 1.0' in lines
    assert "intake_oldest_waiting_hook_event_seconds 3660.0" in lines
    assert timedelta(minutes=61) < GIVE_UP_AFTER, "or they would not wait any more"
    page = sign_in_at_desk(any_context, Role.AUDITOR).get("/operations").text
    assert '<a href="/operations/webhooks">2</a>, given up: 1' in page
    assert (
        page.count('see <a class="alert-link" href="/operations/webhooks">Webhooks</a></li>') == 2
    )


def test_the_status_command_tells_them(intake: Intake) -> None:
    intake("migrate")
    output = intake("status", code=1).stdout
    assert "webhook events waiting: 0 · given up: 0" in output
    assert "linked files to fetch: 0 · failed: 0" in output
