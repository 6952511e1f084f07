"""What is particular about forms: edited submissions that show what changed, and webhook tests."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Format, InboundItem
from workflow.filing import threading
from workflow.models.core import Message

EDITED_CAVEAT = "an edited submission: {count} changed"
CHANGE_LABEL = "Changed: {label}"
NO_ANSWER = "(no answer)"
_SUMMARY = "Changed in this submission:"
_MAX_CHANGES = 100
_MAX_SHOWN = 300  # characters of an answer before and after; the whole one is in the text
# A line of a form's text (`parsers.formstack.submission`); any other line continues the one above.
_LINE = re.compile(r"([^:\n]{1,500}): (.*)")
PING_REASON = "a test of the webhook: there is no answer of a form in it"
_MAX_PING_LINES = 4  # of a test that says more than nothing
_PING_LINE = re.compile(
    r"(?:ping|test|event|event type|type|action|webhook|hook|hook id|challenge|message|status|id)"
    r": (?:(?:webhook|form|submission)?[ ._-]?(?:ping|test)(?:ing|[ ._-]?(?:event|ping))?|true|yes"
    r"|ok|this is a test|hello(?: world)?|[\w-]{0,64}\d[\w-]{0,64})[.!]?",
    re.IGNORECASE,
)


def add_changes(session: Session, item: InboundItem, before: int | None = None) -> InboundItem:
    """Return a form with what changed since the same submission came before.

    The changes are details "Changed: Phone" with both answers, and the newest text. `before` is the
    number of the item's own message, where it is stored already. Any other item is returned as it
    is, and so is a submission that has not come before.
    """
    if item.format is not Format.FORMSTACK or not item.external_id:
        return item
    same = select(Message.text).where(
        Message.format == item.format, Message.message_id == threading.build_message_id(item)
    )
    if before is not None:
        same = same.where(Message.id < before)
    text = session.scalar(same.order_by(Message.id.desc()).limit(1))
    if text is None or text == item.text:
        return item
    changes = list(_list_changes(text, item.text))[:_MAX_CHANGES]
    if not changes:
        return item
    count = "1 answer" if len(changes) == 1 else f"{len(changes)} answers"
    lines = [f"{label}: {change}" for label, change in changes]
    return replace(
        item,
        details=(
            *item.details,
            *((CHANGE_LABEL.format(label=label), change) for label, change in changes),
        ),
        reply_text="\n".join([_SUMMARY, *lines]),
        caveats=(*item.caveats, EDITED_CAVEAT.format(count=count)),
    )


def _list_changes(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield the label of each answer that differs, and both answers."""
    old, new = _parse_answers(before), _parse_answers(after)
    for label in dict.fromkeys([*new, *old]):
        was, is_now = old.get(label, ""), new.get(label, "")
        if was != is_now:
            yield label, f"{_shorten(was) or NO_ANSWER} → {_shorten(is_now) or NO_ANSWER}"


def _parse_answers(text: str) -> dict[str, str]:
    """Return the answers of a form's text by label; those under one label are joined."""
    answers: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        label = match[1] if match else label
        answers.setdefault(label, []).append(match[2] if match else line)
    return {label: "\n".join(lines) for label, lines in answers.items()}


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


# -- tests of the webhook ----


def is_ping(item: InboundItem) -> bool:
    """Return whether a form has no answer of anybody in it.

    It has no number of a submission, no file, and no answer or nothing but words of a test.
    """
    if item.format is not Format.FORMSTACK:
        return False
    if item.submission_id or item.attachments or item.file_urls:
        return False
    lines = item.text.splitlines()
    if not lines:
        return True
    has_test_word = re.search(r"\b(?:ping|test)", item.text, re.IGNORECASE) is not None
    is_short = has_test_word and len(lines) <= _MAX_PING_LINES
    return is_short and all(map(_PING_LINE.fullmatch, lines))
