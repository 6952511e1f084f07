"""Forms that come again edited, and tests of the webhook."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from parsers.formstack import submission
from parsers.item import InboundItem
from tests.support.context import count_rows, deliver
from workflow.context import AppContext
from workflow.filing.forms import EDITED_CAVEAT, NO_ANSWER
from workflow.models.core import AutomatedMail, Message, Ticket
from workflow.models.states import Outcome

FORM: dict[str, Any] = {
    "FormID": "7",
    "UniqueID": "93",
    "Email": "jo@elm.example",
    "Practice": "Elm Dental",
    "Phone": "555-010-1234",
    "Message": "The remittance is missing.\nSince: Monday",
}


def parse(**answers: object) -> InboundItem:
    (item,) = submission.parse(json.dumps({**FORM, **answers}).encode())
    return item


def list_messages(context: AppContext) -> list[Message]:
    with context.store.read_only() as session:
        return list(session.scalars(select(Message).order_by(Message.id)))


@pytest.mark.parametrize(
    ("answers", "changes"),
    [
        ({"Phone": "555-010-9999"}, [["Changed: Phone", "555-010-1234 → 555-010-9999"]]),
        ({"Phone": ""}, [["Changed: Phone", f"555-010-1234 → {NO_ANSWER}"]]),
        ({"Urgent": "yes"}, [["Changed: Urgent", f"{NO_ANSWER} → yes"]]),
        (
            {"Message": "Found.", "Phone": "1"},
            [
                ["Changed: Message", "The remittance is missing. → Found."],
                ["Changed: Phone", "555-010-1234 → 1"],
                ["Changed: Since", f"Monday → {NO_ANSWER}"],
            ],
        ),
    ],
)
def test_an_edited_submission_shows_what_changed(
    any_context: AppContext, answers: dict[str, object], changes: list[list[str]]
) -> None:
    assert deliver(any_context, parse()).outcome is Outcome.OPENED
    assert deliver(any_context, parse()).outcome is Outcome.DUPLICATE
    assert deliver(any_context, parse(**answers)).outcome is Outcome.APPENDED
    first, second = list_messages(any_context)
    assert [d for d in second.details if d[0].startswith("Changed")] == changes
    assert all(f"{label.removeprefix('Changed: ')}: " in second.reply_text for label, _ in changes)
    assert second.text == parse(**answers).text
    count = "1 answer" if len(changes) == 1 else f"{len(changes)} answers"
    assert EDITED_CAVEAT.format(count=count) in second.caveats
    assert not any(caveat.startswith("an edited") for caveat in first.caveats)


def test_each_edit_is_compared_with_the_one_before(context: AppContext) -> None:
    for phone in ("1", "2", "1"):
        deliver(context, parse(Phone=phone))
    details = [m.details for m in list_messages(context)]
    assert [d[-1][1] for d in details[1:2]] == ["1 → 2"]


@pytest.mark.parametrize(
    "body",
    [
        {"FormID": "7"},
        {"FormID": "7", "Message": "", "Email": None},
        {"ping": True},
        {"event": "ping", "id": "42a7"},
        {"test": "this is a test"},
        {"Message": "test"},
    ],
)
def test_a_test_of_the_webhook_opens_nothing(
    any_context: AppContext, body: dict[str, object]
) -> None:
    (item,) = submission.parse(json.dumps(body).encode())
    assert deliver(any_context, item).outcome is Outcome.IGNORED
    assert (count_rows(any_context, Ticket), count_rows(any_context, AutomatedMail)) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"FormID": "7", "UniqueID": "1", "Message": "test"},
        {"FormID": "7", "UniqueID": "1", "Message": "", "Email": None},  # somebody pressed Submit
        {"Message": "Please test the upload again"},
        {"event": "ping", "Message": "The remittance is missing"},
        {"Type": "denial"},
    ],
)
def test_whoever_writes_or_submits_anything_is_a_customer(
    context: AppContext, body: dict[str, object]
) -> None:
    (item,) = submission.parse(json.dumps(body).encode())
    assert deliver(context, item).outcome is Outcome.OPENED
