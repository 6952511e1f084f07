"""What an item costs the database when many wait: counts, which no busy machine changes.

A figure that grows means that work is done one by one again. `benchmarks/` measures the time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.outgoing_mail import send_through
from tests.support.servers import Relay
from workflow.context import AppContext
from workflow.mail import sender

MAILS = 200


@contextmanager
def count_costs(context: AppContext) -> Iterator[Counter[str]]:
    """Count the statements and commits of a block."""
    counts: Counter[str] = Counter()
    engine = context.store.engine

    def count_statement(*_: Any) -> None:
        counts["statements"] += 1

    def count_commit(*_: Any) -> None:
        counts["commits"] += 1

    event.listen(engine, "before_cursor_execute", count_statement)
    event.listen(engine, "commit", count_commit)
    yield counts
    event.remove(engine, "before_cursor_execute", count_statement)
    event.remove(engine, "commit", count_commit)


def accept_mails(context: AppContext, first: int) -> None:
    intake = Intake(context)
    for number in range(first, first + MAILS):
        address = f"p{number}@practice{number % 50}.example"
        raw = (
            f"From: {address}\r\nSubject: question {number}\r\nMessage-ID: <{number}@x.example>\r\n"
            "\r\nplease help\r\n"
        ).encode()
        envelope = {"mail_from": address}
        intake.accept(
            Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw, envelope=envelope)
        )


def test_costs_of_accepting_filing_and_sending(
    any_context: AppContext, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "GROUP_SECONDS", 60.0)  # a slow machine would end groups early
    monkeypatch.setattr(sender, "SLICE_SECONDS", 60.0)
    with send_through(any_context, relay.url) as context:
        with count_costs(context) as accepting:
            accept_mails(context, 0)
        with count_costs(context) as filing:
            process_waiting(context)
        with count_costs(context) as sending:
            while sender.send_waiting(context):
                pass
    assert len(relay.taken) == MAILS
    assert accepting["statements"] / MAILS <= 4
    assert accepting["commits"] / MAILS <= 1
    assert filing["statements"] / MAILS <= 3
    assert filing["commits"] / MAILS <= 0.3
    assert sending["statements"] / MAILS <= 2.5
    assert sending["commits"] / MAILS <= 0.2


def test_costs_do_not_grow_with_what_is_stored(any_context: AppContext) -> None:
    costs = []
    for first in (0, MAILS, 2 * MAILS):
        accept_mails(any_context, first)
        with count_costs(any_context) as filing:
            process_waiting(any_context)
        costs.append(filing["statements"])
    assert costs[-1] <= 1.1 * costs[0]
