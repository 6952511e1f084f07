"""Recognition of webhook tests: a signed body by which somebody tries whether forms arrive."""

import re

from parsers.item import Format, InboundItem

PING_REASON = "a test of the webhook: there is no answer of a form in it"
_MAX_LINES = 4  # of a test that says more than nothing
_LINE = re.compile(
    r"(?:ping|test|event|event type|type|action|webhook|hook|hook id|challenge|message|status|id)"
    r": (?:(?:webhook|form|submission)?[ ._-]?(?:ping|test)(?:ing|[ ._-]?(?:event|ping))?|true|yes"
    r"|ok|this is a test|hello(?: world)?|[\w-]{0,64}\d[\w-]{0,64})[.!]?",
    re.IGNORECASE,
)


def is_ping(item: InboundItem) -> bool:
    """Return whether a form has no answer of anybody in it.

    It has none at all, or no number of a submission and nothing but words of a test.
    """
    if item.format is not Format.FORMSTACK or item.attachments or item.file_urls:
        return False
    lines = item.text.splitlines()
    if not lines:
        return True
    has_test_word = re.search(r"\b(?:ping|test)", item.text, re.IGNORECASE) is not None
    is_short = has_test_word and len(lines) <= _MAX_LINES
    return is_short and not item.submission_id and all(map(_LINE.fullmatch, lines))
