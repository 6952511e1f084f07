"""Hints on messages that only thank: they reopen a ticket as any other, and ask for nothing."""

import re

from parsers.mail.replies import courtesies

MAX_LINES = 8
MAX_WORDS = 5  # of a line of a greeting or signature
_THANKS_WORDS = (
    r"thank(?:s| you)|thx|ty|much appreciated|appreciate it|danke(?:schön)?|vielen dank|merci"
    r"|(?:muchas )?gracias|grazie|obrigad[oa]|dank u(?: wel)?|tack|takk|tak|kiitos|dziękuję"
    r"|спасибо|teşekkürler"
)
# What people put around thanks, without a request of their own.
_AROUND = (
    r"(?:(?:so |very )?much|a lot|again|all|you|everyone|team|guys|kindly|and|for|your|the|quick"
    r"|fast|prompt|great|kind|help|assistance|support|response|reply|answer|service|work|update|info"
    r"|information|this|that|it|perfect|wonderful|awesome|excellent|ok|okay|got|works?|worked|now"
    r"|looks?|good|is|all set|many|have a|nice|day|weekend|we|i|appreciate|vielmals|für|die|ihre"
    r"|hilfe|pour|votre|aide|por|su|ayuda|beaucoup|schnelle|antwort|bestens)"
)
_ONLY_THANKS = re.compile(
    rf"(?:{_AROUND}[\s,.!–—-]+){{0,12}}(?:{_THANKS_WORDS})(?:[\s,.!–—-]+{_AROUND}){{0,12}}[\s,.!)(:☺🙏-]*",
    re.IGNORECASE,
)
_GREETING = re.compile(courtesies.GREETING_WORD, re.IGNORECASE)
_ASKS = re.compile(r"[?\d]")  # a question, or a number of a claim or account


def is_only_thanks(text: str) -> bool:
    """Return whether a text thanks and does nothing else.

    A greeting before and a few short lines of a signature behind do not matter; a question or a
    number does.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or len(lines) > MAX_LINES or _ASKS.search(text):
        return False
    first, *others = _remove_greeting(lines)
    return _ONLY_THANKS.fullmatch(first) is not None and all(map(_is_short, others))


def _remove_greeting(lines: list[str]) -> list[str]:
    """Return the lines behind a greeting that stands above them."""
    is_greeting = _GREETING.match(lines[0]) is not None and _is_short(lines[0])
    return lines[1:] if is_greeting and len(lines) > 1 else lines


def _is_short(line: str) -> bool:
    return len(line.split()) <= MAX_WORDS and not line.endswith(":")
