"""Hints on messages that only thank: they reopen a ticket as any other, and ask for nothing."""

import re

ONLY_THANKS_CAVEAT = "only thanks, as it seems: perhaps nothing is left to do"
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
_GREETING = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening)|hallo|guten tag|bonjour|hola|ciao)\b",
    re.IGNORECASE,
)


def is_only_thanks(text: str) -> bool:
    """Return whether a text thanks and does nothing else.

    A greeting before and a few short lines of a signature behind do not matter; a question or a
    number does.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or len(lines) > MAX_LINES or "?" in text or re.search(r"\d", text):
        return False
    if _GREETING.match(lines[0]) and len(lines) > 1 and _is_short(lines[0]):
        lines = lines[1:]
    return _ONLY_THANKS.fullmatch(lines[0]) is not None and all(map(_is_short, lines[1:]))


def _is_short(line: str) -> bool:
    return len(line.split()) <= MAX_WORDS and not line.endswith(":")
