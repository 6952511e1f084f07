"""Backfill against a Formstack of our own.

Submissions that no webhook brought are found, once, whatever fails.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from flask import Response
from pydantic import SecretStr, ValidationError
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from console.presenters.operations import present_status
from ingest.formstack.api import (
    CREDENTIALS_REFUSED,
    NOT_DECRYPTED,
    RATE_LIMITED,
    REDIRECTED,
    REFUSALS,
    SERVER_FAULT,
    SUBMISSION_WITHOUT_NUMBER,
    TIMED_OUT,
    TOO_LARGE,
    UNEXPECTED_ANSWER,
    UNREACHABLE,
    ApiError,
    ApiLimits,
    FormstackApi,
    StoppedError,
)
from ingest.formstack.backfill import NO_FORM, Backfill
from ingest.formstack.checkpoints import FormCheckpoints
from ingest.formstack.submission import (
    Submission,
    SubmissionField,
    format_wall_time_before,
    parse_moment,
    parse_submission,
    render_webhook_body,
)
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.formstack import submission as parser
from parsers.item import Address, Format, InboundItem
from tests.support.context import START, HandClock, Steady, count_rows, run_in_threads
from tests.support.formstack_server import (
    Formstack,
    build_webhook_body,
    compare_as_text,
    compare_with_first,
    compare_with_second,
    make_json_answer,
    make_utc,
    run_formstack,
)
from webhooks.body import parse_body
from workflow.context import AppContext
from workflow.filing.threading import build_origin
from workflow.models.core import Delivery, FormCheckpoint, Message, Receipt, Ticket
from workflow.operations import status
from workflow.operations.ledger import compute_balance
from workflow.settings.forms import Form, FormField
from workflow.settings.settings import Settings

JSON = "application/json"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def formstack() -> Iterator[Formstack]:
    with run_formstack() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, formstack: Formstack) -> Settings:
    return Settings(
        home=tmp_path / "home",
        formstack_token=SecretStr("right"),
        formstack_api=formstack.url,
        form={"77": Form()},
    )


class Pull:
    """A backfill reader under test; it notes how long it was made to wait and waits for nothing."""

    def __init__(
        self, context: AppContext, accept: Callable[[Arrival], int] | None = None, **pace: Any
    ) -> None:
        self.waits: list[float] = []
        self.steady = Steady()
        self.stop = False
        api = FormstackApi(
            context.settings, context.clock, self.rest, ApiLimits(**pace), self.steady
        )
        self.context, self.api = context, api
        self.reader = Backfill(context, accept or Intake(context).accept, api)

    def rest(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.steady.now += seconds
        return self.stop

    def __call__(self, form: str = "77", since: datetime | None = None) -> tuple[int, int]:
        found = self.reader.pull_form(form, since)
        return found.seen, found.new


@pytest.fixture
def pull(context: AppContext) -> Iterator[Pull]:
    made = Pull(context)
    with made.api:
        yield made


def accept_from_webhook(context: AppContext, body: bytes) -> None:
    """A form as the webhook hands it over."""
    Intake(context).accept(
        Arrival(
            transport=Transport.FORMSTACK,
            format=Format.FORMSTACK,
            raw=body,
            reference=parse_body(body, JSON).reference,
        )
    )


def load_checkpoint(context: AppContext, form: str = "77") -> FormCheckpoint:
    with context.store.read_only() as session:
        return session.get_one(FormCheckpoint, form)


def list_needs(context: AppContext) -> list[str]:
    return [need for need in status.collect_status(context).needs if need.startswith("backfill")]


# -- one submission, by either way ----


def test_a_submission_whose_webhook_never_came_becomes_a_ticket(
    context: AppContext, formstack: Formstack, pull: Pull
) -> None:
    formstack.send("9001", START - 3 * MINUTE, "Nobody called me")
    assert pull() == (1, 1)
    process_waiting(context)
    with context.store.read_only() as session:
        ticket = session.scalars(select(Ticket)).one()
        delivery, receipt = (
            session.scalars(select(Delivery)).one(),
            session.scalars(select(Receipt)).one(),
        )
    assert (ticket.transport, ticket.format, ticket.link.endswith("/9001")) == (
        "backfill",
        Format.FORMSTACK,
        True,
    )
    assert (delivery.transport, receipt.reference) == ("backfill", "77/9001")
    assert delivery.envelope["submitted_at"] == (START - 3 * MINUTE).isoformat()
    assert pull() == (1, 0)
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up


@pytest.mark.parametrize("order", ["webhook first", "backfill first", "before either is read"])
@pytest.mark.parametrize("variant", ["the same", "otherwise"])
def test_by_both_ways_it_is_one_ticket(
    any_context: AppContext, formstack: Formstack, order: str, variant: str
) -> None:
    context, sent = any_context, formstack.send("9001", START - MINUTE)
    by_ids = b'{"FormID": "77", "UniqueID": "9001", "field12": "not the same at all"}'
    body = build_webhook_body(sent) if variant == "the same" else by_ids
    made = Pull(context)
    with made.api:
        ways = [lambda: accept_from_webhook(context, body), lambda: made() and None]
        for way in ways if order == "webhook first" else ways[::-1]:
            way()
            if order != "before either is read":
                process_waiting(context)
    process_waiting(context)
    assert count_rows(context, Ticket) == 1
    assert count_rows(context, Message) == (
        2 if variant == "otherwise" and order != "webhook first" else 1
    )
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up


def test_by_both_ways_at_once_it_is_one_ticket(
    any_context: AppContext, formstack: Formstack
) -> None:
    context = any_context
    submissions = [formstack.send(str(n), START - MINUTE, f"message {n}") for n in range(20)]
    made = Pull(context)
    with made.api:
        work = [
            made,
            *[lambda s=s: accept_from_webhook(context, build_webhook_body(s)) for s in submissions],
        ]
        assert (
            run_in_threads(
                *work,
                lambda: process_waiting(context) and None,
                lambda: process_waiting(context) and None,
            )
            == []
        )
    process_waiting(context)
    assert (count_rows(context, Ticket), count_rows(context, Message)) == (20, 20)
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up


def test_by_both_ways_at_once_and_read_otherwise_it_is_one_ticket(
    any_context: AppContext, formstack: Formstack
) -> None:
    context = any_context
    for n in range(20):
        formstack.send(str(n), START - MINUTE)
        accept_from_webhook(
            context,
            json.dumps(
                {"FormID": "77", "UniqueID": str(n), "Email": f"other{n}@clinic.example"}
            ).encode(),
        )
        with (
            context.store.transaction() as session
        ):  # as if the webhook's had not been there when backfill looked
            session.execute(update(Receipt).values(reference=""))
    made = Pull(context)
    with made.api:
        assert made() == (20, 20)
    assert run_in_threads(*[lambda: process_waiting(context) and None] * 4) == []
    process_waiting(context)
    assert (count_rows(context, Ticket), count_rows(context, Message)) == (20, 40)


def test_two_readings_of_one_submission_are_of_one_origin() -> None:
    one, other = (
        InboundItem(format=Format.FORMSTACK, external_id="77/1", sender=Address("", email))
        for email in ("a@b.example", "c@d.example")
    )
    assert build_origin(one) == build_origin(other)
    assert build_origin(one) != build_origin(replace(one, external_id="77/2"))


def test_a_ticket_of_an_older_version_is_found_by_its_submission(
    context: AppContext, formstack: Formstack, pull: Pull
) -> None:
    accept_from_webhook(
        context, b'{"FormID": "77", "UniqueID": "9001", "Email": "other@clinic.example"}'
    )
    process_waiting(context)
    with context.store.transaction() as session:
        session.execute(update(Ticket).values(origin="formstack:77/9001:other@clinic.example"))
        session.execute(update(Receipt).values(reference=""))
    formstack.send("9001", START)
    assert pull() == (1, 0), "it stands on a ticket"
    raw = build_webhook_body(formstack.forms["77"][0])
    accept_from_webhook(context, raw)
    process_waiting(context)
    assert count_rows(context, Ticket) == 1


@pytest.mark.parametrize("base", ["/api/v2", "/api/v2025"])
@pytest.mark.parametrize("labels", [True, False])
def test_it_reads_as_the_webhook_would_have_sent_it(
    context: AppContext, base: str, *, labels: bool
) -> None:
    with run_formstack(base) as formstack:
        formstack.labels = labels
        submission = formstack.send(
            "9001", START, "The claim was denied.\nx = y\n\nfirst = second thoughts"
        )
        made = Pull(_change_settings(context, formstack_api=formstack.url))
        with made.api:
            assert made() == (1, 1)
    with context.store.read_only() as session:
        delivery = session.scalars(select(Delivery)).one()
    raw = context.blob_store.read(delivery.content, delivery.blob)
    assert parser.parse(raw) == parser.parse(build_webhook_body(submission))
    assert parse_body(raw, JSON).reference == "77/9001"
    assert [a["path"].endswith("field.json") for a in formstack.asked].count(True) == (
        not labels and base == "/api/v2"
    )


@pytest.mark.parametrize("named", ["14", "Issue Type"])
def test_fields_count_as_the_settings_say_by_number_or_by_label(
    context: AppContext, formstack: Formstack, named: str
) -> None:
    formstack.send("9001", START)
    form = Form(fields={named: FormField.SUBJECT})
    made = Pull(_change_settings(context, form={"77": form}))
    with made.api:
        made()
    process_waiting(made.context)
    with context.store.read_only() as session:
        assert session.scalars(select(Ticket)).one().subject == "Denial, Other"


def test_a_list_without_answers_is_asked_for_one_by_one(
    context: AppContext, formstack: Formstack, pull: Pull
) -> None:
    formstack.data = False
    formstack.send("9001", START, "alone")
    assert pull() == (1, 1)
    process_waiting(context)
    with context.store.read_only() as session:
        assert "alone" in session.scalars(select(Message)).one().text


def test_both_of_two_fields_with_one_label_are_kept() -> None:
    answers = tuple(
        (SubmissionField(n, "Claim", "text"), {"value": f"claim {n}"}) for n in ("1", "2")
    )
    raw = render_webhook_body("77", Submission("9", None, answers), {})
    (item,) = parser.parse(raw)
    assert "claim 1" in item.text
    assert "claim 2" in item.text


@pytest.mark.parametrize(
    ("kind", "variant", "reads"),
    [
        ("name", {"value": "first = John\nlast = Smith"}, "John Smith"),
        ("name", {"value": "John Smith"}, "John Smith"),
        ("name", {"parsedValue": None, "displayValue": "John Smith"}, "John Smith"),
        ("checkbox", {"value": "A\nB"}, "A, B"),
        (
            "checkbox",
            {"parsedValue": {"subvalues": [{"subvalue": "A"}, {"subvalue": "B"}]}},
            "A, B",
        ),
        ("text", {"flat_value": "flat"}, "flat"),
        ("text", {"value": True}, "yes"),
        ("", {"value": "no type"}, "no type"),
        ("textarea", {"value": "city = Boston\nand more"}, "city = Boston\nand more"),
    ],
)
def test_the_shapes_of_values(kind: str, variant: dict[str, Any], reads: str) -> None:
    submission = parse_submission(
        {"id": "9", "data": {"5": {"field": "5", "label": "What", "type": kind, **variant}}}
    )
    assert submission is not None
    (item,) = parser.parse(render_webhook_body("77", submission, {}))
    assert item.text == f"What: {reads}"


@pytest.mark.parametrize(
    "odd", [None, [], "text", {"id": None}, {"id": "../7"}, {"id": "x" * 65}, {"no": "id"}]
)
def test_what_has_no_number_is_no_submission(odd: object) -> None:
    assert parse_submission(odd) is None


# -- how far it has been pulled ----


def test_the_first_look_goes_back_a_day_and_since_goes_further(
    context: AppContext, formstack: Formstack, pull: Pull
) -> None:
    formstack.send("1", START - 5 * DAY)
    formstack.send("2", START - DAY + MINUTE)
    assert pull() == (1, 1)
    assert pull(since=START - 6 * DAY) == (2, 1)
    assert load_checkpoint(context).seen_until == START, "the checkpoint does not move back"


def test_after_a_long_stop_everything_since_the_last_one_seen_is_pulled(
    context: AppContext, clock: HandClock, formstack: Formstack, pull: Pull
) -> None:
    formstack.send("1", START - MINUTE)
    assert pull() == (1, 1)
    for n in range(250):
        formstack.send(str(100 + n), START + n * timedelta(hours=1))
    clock.turn(days=12)
    assert pull() == (251, 250)
    assert load_checkpoint(context).seen_until == START + 249 * timedelta(hours=1)
    assert load_checkpoint(context).looked_at == clock.now


def test_a_quiet_form_keeps_its_place(clock: HandClock, formstack: Formstack, pull: Pull) -> None:
    formstack.forms["77"] = []
    assert pull() == (0, 0)
    clock.turn(days=9)
    formstack.send("1", START + MINUTE)
    assert pull() == (1, 1), "sent just after the first look, and nobody looked for nine days"


def test_since_a_later_day_leaves_no_gap_behind(
    context: AppContext, clock: HandClock, formstack: Formstack, pull: Pull
) -> None:
    formstack.forms["77"] = []
    pull()
    clock.turn(days=9)
    formstack.send("1", START + DAY)
    formstack.send("2", START + 8 * DAY)
    assert pull(since=START + 7 * DAY) == (1, 1)
    assert load_checkpoint(context).seen_until == START
    assert pull() == (2, 1)


def test_a_time_in_the_future_does_not_carry_the_checkpoint_along(
    clock: HandClock, formstack: Formstack, pull: Pull
) -> None:
    formstack.send("1", START + 400 * DAY)
    assert pull() == (1, 1)
    clock.turn(days=3)
    formstack.send("2", clock.now - MINUTE)
    assert pull() == (2, 1)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_what_is_killed_at_any_call_loses_nothing(
    context: AppContext, formstack: Formstack, clock: HandClock, at: int, *, newest_first: bool
) -> None:
    formstack.newest_first = newest_first
    formstack.forms["77"] = []
    first = Pull(context)
    with first.api:
        first()
    for n in range(350):
        formstack.send(str(n), START + n * timedelta(minutes=30))
    clock.turn(days=8)
    formstack.answers = [*[None] * (at - 1), make_json_answer({}, 500)]
    broken = Pull(context)
    with broken.api, pytest.raises(ApiError):
        broken()
    clock.turn(days=5)
    again = Pull(context)
    with again.api:
        again()
    assert count_rows(context, Receipt) == count_rows(context, Delivery) == 350


def test_what_cannot_be_stored_is_pulled_again(
    context: AppContext, formstack: Formstack, clock: HandClock
) -> None:
    for n in range(5):
        formstack.send(str(n), START - DAY / 2 + n * MINUTE)
    arrivals: list[Arrival] = []

    def accept(arrival: Arrival) -> int:
        if len(arrivals) == 3:
            raise OperationalError("INSERT", {}, Exception("disk full"))
        arrivals.append(arrival)
        return Intake(context).accept(arrival)

    made = Pull(context, accept)
    with made.api, pytest.raises(OperationalError):
        made()
    clock.turn(days=30)
    again = Pull(context)
    with again.api:
        assert again() == (5, 2)


@pytest.mark.parametrize("fault", [KeyError("words"), UnicodeError("words"), MemoryError()])
def test_a_fault_nobody_foresaw_stays_with_its_submission(
    context: AppContext, formstack: Formstack, clock: HandClock, fault: Exception
) -> None:
    """Arms a fault in our own code for one submission.

    Those behind it come, it is named, and it comes once corrected.
    """
    intake, fault_switch = Intake(context), [True]

    def accept(arrival: Arrival) -> int:
        if fault_switch and arrival.reference.endswith("/11"):
            raise fault
        return intake.accept(arrival)

    for number in ("10", "11", "12"):
        formstack.send(number, START - MINUTE)
    pull = Pull(context, accept)
    with pull.api:
        assert pull() == (3, 2)
        process_waiting(context)
        assert count_rows(context, Ticket) == 2
        (trouble,) = present_status(context)["troubles"]
        assert (trouble["place"], [item["name"] for item in trouble["items"]]) == ("77", ["11"])
        assert "words" not in trouble["words"]
        clock.turn(days=3)
        assert pull()[1] == 0
        assert [n for n in status.collect_status(context).needs if "submission" in n] == [
            trouble["words"]
        ]
        fault_switch.clear()
        assert pull()[1] == 1, "it was not passed by, however late"
        process_waiting(context)
    assert count_rows(context, Ticket) == 3
    assert present_status(context)["troubles"] == []


def test_a_form_that_breaks_us_holds_up_no_other(
    context: AppContext, formstack: Formstack, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = context.settings.model_copy(update={"form": {"76": Form(), "77": Form()}})
    context = replace(context, settings=variant)
    formstack.send("1", START - MINUTE, form="76")
    formstack.send("2", START - MINUTE)
    pull, whole = Pull(context), Backfill._read_list

    def look(reader: Backfill, one: Any) -> None:
        if one.form == "76":
            raise KeyError
        whole(reader, one)

    monkeypatch.setattr(Backfill, "_read_list", look)
    with pull.api:
        assert pull.reader.pull_all() is False
    assert count_rows(context, Delivery) == 1
    assert "KeyError" in load_checkpoint(context, "76").fault


def test_a_list_that_shrinks_while_it_is_read_is_read_again(
    formstack: Formstack, pull: Pull
) -> None:
    for n in range(201):
        formstack.send(str(n), START - DAY + (n + 1) * MINUTE)

    def delete_submission() -> None:
        if formstack.pages[-1] == "2":
            del formstack.forms["77"][0]
            formstack.before = lambda: None

    formstack.before = delete_submission
    assert pull() == (201, 201), "the hundredth slipped to the page that was read already"


def test_a_list_that_ignores_the_page_number_ends(formstack: Formstack, pull: Pull) -> None:
    listed = {"submissions": [{"id": "1", "timestamp": "2026-03-02 09:00:00", "data": []}]}
    formstack.answers = [make_json_answer(listed) for _ in range(2)]
    assert pull() == (1, 1)
    assert formstack.pages == ["1", "2"]


# -- Eastern time ----

FALL = make_utc(2026, 11, 1, 6, 0)  # 2:00 EDT becomes 1:00 EST
SPRING = make_utc(2026, 3, 8, 7, 0)  # 2:00 EST becomes 3:00 EDT


@pytest.mark.parametrize("later", [compare_as_text, compare_with_first, compare_with_second])
@pytest.mark.parametrize("edge", [FALL, SPRING], ids=["fall", "spring"])
@pytest.mark.parametrize("since", range(-120, 121, 10))
def test_nothing_sent_after_a_moment_is_left_out_of_what_is_asked(
    later: Callable[[str, datetime], bool], edge: datetime, since: int
) -> None:
    begin = edge + since * MINUTE
    for minutes in range(0, 300, 5):
        assert later(format_wall_time_before(begin), begin + minutes * MINUTE), minutes


@pytest.mark.parametrize(
    ("variant", "moment"),
    [
        ("2026-11-01 01:30:00", make_utc(2026, 11, 1, 5, 30)),  # comes twice: the first
        ("2026-11-01 00:59:59", make_utc(2026, 11, 1, 4, 59, 59)),
        ("2026-11-01 02:00:00", make_utc(2026, 11, 1, 7, 0)),
        (
            "2026-03-08 02:30:00",
            make_utc(2026, 3, 8, 6, 30),
        ),  # never comes: the earlier of what may be meant
        ("2026-03-08 01:59:59", make_utc(2026, 3, 8, 6, 59, 59)),
        ("2026-03-08 03:00:00", make_utc(2026, 3, 8, 7, 0)),
        ("2026-07-01T12:00:00Z", make_utc(2026, 7, 1, 12, 0)),
        ("2026-07-01T12:00:00-04:00", make_utc(2026, 7, 1, 16, 0)),
        ("9999-12-31 23:59:59", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_wall_time_is_read_as_the_earliest_it_may_mean(
    variant: str, moment: datetime | None
) -> None:
    found = parse_moment(variant)
    assert found == moment


@pytest.mark.parametrize("later", [compare_as_text, compare_with_first, compare_with_second])
@pytest.mark.parametrize("edge", [FALL, SPRING], ids=["fall", "spring"])
def test_over_both_edges_of_summer_time_nothing_is_missed_or_doubled(
    context: AppContext,
    clock: HandClock,
    formstack: Formstack,
    later: Callable[[str, datetime], bool],
    edge: datetime,
) -> None:
    """Look every 15 minutes, from two days before to two days after.

    A submission comes each minute and a half.
    """
    formstack.later, formstack.forms["77"] = later, []
    clock.now = edge - timedelta(hours=4)
    new_pull = Pull(context)
    with new_pull.api:
        new_pull()
        for n in range(96):
            clock.turn(minutes=5)
            formstack.send(str(n), clock.now - timedelta(seconds=1))
            if n % 9 == 8 and n < 40:
                new_pull()
            if n == 70:
                clock.turn(days=3)  # and a stop that is longer than the overlap
        new_pull()
    assert count_rows(context, Receipt) == count_rows(context, Delivery) == 96


def test_a_look_that_ends_within_the_hour_that_comes_twice_goes_on_early_enough(
    context: AppContext, clock: HandClock, formstack: Formstack, pull: Pull
) -> None:
    clock.now, formstack.forms["77"] = FALL - 300 * MINUTE, []
    pull()
    clock.now = FALL + 40 * MINUTE
    formstack.send("1", FALL + 10 * MINUTE)  # 1:10 EST, which may as well be 1:10 EDT
    pull()
    assert load_checkpoint(context).seen_until == FALL - 50 * MINUTE


# -- what may go wrong ----


@pytest.mark.parametrize(
    ("answer", "words", "lasting"),
    [
        (make_json_answer({}, 401), CREDENTIALS_REFUSED, True),
        (make_json_answer({}, 403), REFUSALS[403], True),
        (make_json_answer({}, 404), REFUSALS[404], True),
        (make_json_answer({}, 418), UNEXPECTED_ANSWER, True),
        (make_json_answer({}, 500), SERVER_FAULT, False),
        (make_json_answer({}, 503), SERVER_FAULT, False),
        (make_json_answer({}, 302, Location="https://elsewhere.example/"), REDIRECTED, True),
        (
            make_json_answer({"error": "An error occurred while decrypting the submissions"}),
            NOT_DECRYPTED,
            True,
        ),
        (make_json_answer({"error": "Incorrect password"}, 400), NOT_DECRYPTED, True),
        (make_json_answer({"error": "something else"}), UNEXPECTED_ANSWER, True),
        (Response("<html>a proxy's page</html>"), UNEXPECTED_ANSWER, False),
        (Response("[" * 100_000), UNEXPECTED_ANSWER, False),
        (Response(b"\xff\xfe\x00"), UNEXPECTED_ANSWER, False),
        (make_json_answer([]), UNEXPECTED_ANSWER, True),
        (make_json_answer({"submissions": {}}), UNEXPECTED_ANSWER, True),
        (Response("x", headers={"Content-Encoding": "gzip"}), UNEXPECTED_ANSWER, False),
    ],
)
def test_each_refusal_has_words_of_ours_and_stands_in_the_status(
    context: AppContext,
    clock: HandClock,
    formstack: Formstack,
    pull: Pull,
    answer: Response,
    words: str,
    *,
    lasting: bool,
) -> None:
    formstack.send("1", START - MINUTE)
    formstack.answers = [answer]
    with pytest.raises(ApiError) as raised:
        pull()
    assert (raised.value.message, raised.value.is_permanent) == (words, lasting)
    assert "right" not in words
    said_now = [f"backfill of form 77: {words}"]
    assert list_needs(context) == (said_now if lasting else [])
    clock.turn(hours=2)
    assert list_needs(context) == said_now
    pull()
    assert list_needs(context) == []
    assert load_checkpoint(context).looked_at == clock.now


def test_a_token_goes_nowhere_else(formstack: Formstack, pull: Pull) -> None:
    formstack.forms["77"] = []
    with run_formstack() as other:
        formstack.answers = [
            make_json_answer({}, 302, Location=f"{other.url}/form/77/submission.json")
        ]
        with pytest.raises(ApiError, match="elsewhere"):
            pull()
        assert other.asked == []


def test_neither_token_nor_answers_reach_the_log(
    formstack: Formstack, pull: Pull, capsys: pytest.CaptureFixture[str]
) -> None:
    formstack.token = "another"
    formstack.send("1", START, "Jane Roe, born 1 May")
    with pytest.raises(ApiError):
        pull()
    formstack.token = "right"
    pull()
    output = "".join(capsys.readouterr())
    assert "backfill failed" in output
    assert "backfilled" in output
    assert "right" not in output.replace("rights", "")
    assert "Roe" not in output


def test_an_encrypted_form_is_asked_for_with_its_password(
    context: AppContext, formstack: Formstack
) -> None:
    formstack.password = "open sesame"
    formstack.send("1", START)
    wrong = Pull(context)
    with wrong.api, pytest.raises(ApiError, match="decrypt"):
        wrong()
    form = {"77": Form(encryption_password=SecretStr("open sesame"))}
    right = Pull(_change_settings(context, form=form))
    with right.api:
        assert right() == (1, 1)


def test_a_submission_without_a_number_is_reported_and_delays_no_other(
    context: AppContext, formstack: Formstack, pull: Pull
) -> None:
    submissions = [
        {"timestamp": "2026-03-02 09:00:00"},
        {"id": 7, "timestamp": "2026-03-02 09:30:00", "data": []},
    ]
    formstack.answers = [make_json_answer({"submissions": submissions, "pages": 1})]
    with pytest.raises(ApiError, match=SUBMISSION_WITHOUT_NUMBER):
        pull()
    assert count_rows(context, Receipt, Receipt.reference == "77/7") == 1


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    context: AppContext, formstack: Formstack
) -> None:
    for n in range(25):
        formstack.send(str(n), START - DAY + (n + 1) * MINUTE, "long " * 400)
    made = Pull(context, max_octets=40_000)
    with made.api:
        assert made() == (25, 25)
    assert {a["per_page"] for a in formstack.asked} == {"100", "10"}
    tiny = Pull(context, max_octets=500)
    with tiny.api, pytest.raises(ApiError, match=TOO_LARGE):
        tiny()


def test_no_answer_and_no_server_are_distinguished(
    context: AppContext, formstack: Formstack
) -> None:
    formstack.forms["77"] = []
    hang = Event()
    formstack.before = lambda: hang.wait(5) and None
    slow = Pull(context, silence_seconds=0.2)
    with slow.api, pytest.raises(ApiError, match=TIMED_OUT):
        slow()
    hang.set()
    nowhere = Pull(_change_settings(context, formstack_api="http://127.0.0.1:9/api/v2"))
    with nowhere.api, pytest.raises(ApiError, match=UNREACHABLE):
        nowhere()


# -- limits ----


@pytest.mark.parametrize(
    ("header", "waits"),
    [
        ({"Retry-After": "17"}, [17.0]),
        ({"Retry-After": "Mon, 02 Mar 2026 15:00:30 GMT"}, [30.0]),
        ({}, [5.0]),
        ({"Retry-After": "soon"}, [5.0]),
    ],
)
def test_a_429_is_waited_out_as_long_as_it_says(
    formstack: Formstack, pull: Pull, header: dict[str, str], waits: list[float]
) -> None:
    formstack.send("1", START)
    formstack.answers = [make_json_answer({}, 429, **header)]
    assert pull() == (1, 1)
    assert pull.waits == waits


def test_a_429_that_does_not_end_is_left_for_the_next_look(
    formstack: Formstack, pull: Pull
) -> None:
    formstack.forms["77"] = []
    formstack.answers = [make_json_answer({}, 429) for _ in range(6)]
    with pytest.raises(ApiError, match=RATE_LIMITED):
        pull()
    assert pull.waits == [5.0, 10.0, 20.0, 40.0, 80.0]
    formstack.answers = [make_json_answer({}, 429, **{"Retry-After": "86400"})]
    with pytest.raises(ApiError, match=RATE_LIMITED):
        pull()
    assert len(pull.waits) == 5, "a day is not waited out within one call"


def test_whoever_waits_for_formstack_stops_at_once(formstack: Formstack, pull: Pull) -> None:
    formstack.answers = [make_json_answer({}, 429)]
    pull.stop = True
    with pytest.raises(StoppedError):
        pull()


def test_a_day_of_calls_stays_within_what_a_token_may(
    context: AppContext, formstack: Formstack
) -> None:
    formstack.forms["77"] = []
    new_pull = Pull(context, burst=5, seconds_per_call=8.0)
    with new_pull.api:
        for _ in range(12):
            new_pull()
    assert sum(new_pull.waits) == pytest.approx(7 * 8.0)
    pace = ApiLimits()
    assert pace.burst + 86_400 / pace.seconds_per_call < 14_400


# -- which forms, which process ----


def test_pulled_are_the_forms_of_the_settings_and_of_the_webhook(
    context: AppContext, formstack: Formstack
) -> None:
    accept_from_webhook(context, b'{"FormID": "88", "UniqueID": "1", "Email": "a@b.example"}')
    accept_from_webhook(context, b'{"FormID": "99", "UniqueID": "1", "Email": "a@b.example"}')
    formstack.send("1", START, form="another desk's")
    new_pull = Pull(_change_settings(context, form={"77": Form(), "99": Form(backfill=False)}))
    with new_pull.api:
        assert new_pull.reader.list_forms() == ["77", "88"]
        accept_from_webhook(context, b'{"FormID": "66", "UniqueID": "1", "Email": "a@b.example"}')
        assert new_pull.reader.list_forms() == ["66", "77", "88"]


def test_a_form_that_cannot_be_pulled_holds_up_no_other(
    context: AppContext, formstack: Formstack
) -> None:
    formstack.forbidden = {"66"}
    formstack.send("1", START, form="66")
    formstack.send("2", START, form="77")
    new_pull = Pull(_change_settings(context, form={"66": Form(), "77": Form()}))
    with new_pull.api:
        assert new_pull.reader.pull_all(), "a person has to correct it: asking sooner does not"
        assert count_rows(context, Receipt) == 1
        assert [n.partition(":")[0] for n in list_needs(context)] == ["backfill of form 66"]
        formstack.answers = [make_json_answer({}, 500)]
        assert not new_pull.reader.pull_all()
    gone = Pull(_change_settings(context, form={"77": Form()}))
    with gone.api:
        gone.reader.pull_all()
    assert list_needs(context) == [], "nobody pulls form 66 any more"


def test_a_token_without_any_form_says_so(context: AppContext, formstack: Formstack) -> None:
    new_pull = Pull(_change_settings(context, form={}))
    with new_pull.api:
        new_pull.reader.pull_all()
        assert list_needs(context) == [f"backfill: {NO_FORM}"]
        accept_from_webhook(context, b'{"FormID": "77", "UniqueID": "1", "Email": "a@b.example"}')
        formstack.forms["77"] = []
        new_pull.reader.pull_all()
    assert list_needs(context) == []


def test_without_a_token_old_faults_are_no_concern(context: AppContext) -> None:
    FormCheckpoints(context.store).record_failure("77", CREDENTIALS_REFUSED, START, lasting=True)
    assert len(list_needs(context)) == 1
    assert list_needs(_change_settings(context, formstack_token=SecretStr(""))) == []


def test_one_of_several_pulls_and_another_takes_over(
    any_context: AppContext, formstack: Formstack
) -> None:
    formstack.send("1", START)
    mine = {"a": False, "b": False}
    stop, threads = Event(), []
    for name in ("a", "b"):
        api = FormstackApi(any_context.settings, any_context.clock, stop.wait)
        reader = Backfill(
            any_context, Intake(any_context).accept, api, partial(mine.__getitem__, name)
        )
        threads.append(Thread(target=reader.run, args=(stop,)))
    for thread in threads:
        thread.start()
    try:
        assert formstack.asked == []
        mine["a"] = True
        _until(lambda: count_rows(any_context, Receipt) == 1)
        mine["a"] = False
        formstack.send("2", START)
        mine["b"] = True
        _until(lambda: count_rows(any_context, Receipt) == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert formstack.pages == ["1", "1"]


def test_two_that_pull_at_once_make_one_ticket_of_each(
    any_context: AppContext, formstack: Formstack
) -> None:
    for n in range(30):
        formstack.send(str(n), START - MINUTE)
    readers = [Pull(any_context), Pull(any_context)]
    assert run_in_threads(*readers) == []
    while process_waiting(
        any_context
    ):  # it ends after some seconds, which a busy machine spends on fewer than all
        pass
    assert count_rows(any_context, Ticket) == 30
    for reader in readers:
        reader.api.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("wrong", "said_of"),
    [
        ({"formstack_api": "http://www.formstack.com/api/v2"}, "clear"),
        ({"formstack_api": "formstack"}, "https"),
        ({"formstack_token": "two\nlines"}, "token"),
        ({"backfill_seconds": 0}, "greater"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], said_of: str) -> None:
    with pytest.raises(ValidationError, match=said_of):
        Settings(**wrong)


def _change_settings(context: AppContext, **changed: Any) -> AppContext:
    return replace(context, settings=context.settings.model_copy(update=changed))


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    waiting = Event()
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        waiting.wait(0.05)
    raise AssertionError("not in time")
