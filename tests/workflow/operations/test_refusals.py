"""Counts of what channels refused, as `intake status` and Operations show them."""

import threading
from datetime import timedelta

import pytest

from console.presenters.operations import present_status
from tests.support.context import HandClock
from workflow.context import AppContext
from workflow.operations.refusals import REASONS, Refusal, RefusalCounter


def list_needs(context: AppContext) -> list[str]:
    return [need for need in present_status(context)["needs"] if "refused" in need]


def test_each_kind_is_one_line_with_count_since_and_remedy(any_context: AppContext) -> None:
    with RefusalCounter(any_context) as refusals:
        for _ in range(31):
            refusals.count_form(Refusal.SIGNATURE)
        refusals.count_form(Refusal.TOO_LARGE)
        refusals.count_mail("smtp", "550 5.1.1 no such recipient here")
        refusals.count_mail("smtp", "550 5.7.1 we relay for nobody")
    needs = list_needs(any_context)
    since = f"since {any_context.clock():%Y-%m-%d %H:%M} UTC"
    assert len(needs) == 4
    assert all(since in need for need in needs)
    [signature] = [need for need in needs if "31 were refused" in need]
    assert REASONS[Refusal.SIGNATURE] in signature
    assert "INTAKE_FORMSTACK_KEY" in signature
    assert "intake backfill" in signature
    assert [need for need in needs if "1 was refused" in need and "INTAKE_WEBHOOK_LIMIT" in need]
    assert len([need for need in needs if "INTAKE_ADDRESSES" in need]) == 2


@pytest.mark.parametrize("refusal", [*Refusal])
def test_every_kind_says_why_and_what_to_do(context: AppContext, refusal: Refusal) -> None:
    with RefusalCounter(context) as refusals:
        refusals.count_form(refusal)
    [need] = list_needs(context)
    assert REASONS[refusal] in need
    assert "). ." not in need


def test_counts_add_up_over_writes_and_threads(any_context: AppContext) -> None:
    counters = [RefusalCounter(any_context) for _ in range(2)]  # as of two processes

    def count(counter: RefusalCounter) -> None:
        with counter:
            for _ in range(50):
                counter.count_form(Refusal.SIGNATURE)

    for counter in counters:
        thread = threading.Thread(target=count, args=(counter,))
        thread.start()
        thread.join()
    assert "100 were refused" in list_needs(any_context)[0]


def test_they_end_by_themselves_and_are_counted_anew(context: AppContext, clock: HandClock) -> None:
    with RefusalCounter(context) as refusals:
        refusals.count_form(Refusal.SIGNATURE)
        refusals.count_form(Refusal.SIGNATURE)
    clock.now += timedelta(days=3)
    assert list_needs(context) == []
    with RefusalCounter(context) as refusals:
        refusals.count_form(Refusal.SIGNATURE)
    [need] = list_needs(context)
    assert "1 was refused" in need
    assert f"since {clock():%Y-%m-%d}" in need
