"""Lines that say nothing by themselves: greetings, closing phrases, signatures.

And words that point to answers below.

They guard what is folded: a rule or a mark in HTML is a signature's only where the lines behind it
look like one, and a message that passes on words below a greeting alone is shown whole. In doubt a
line is somebody's words.
"""

import re

MAX_LINES = 12  # lines of a greeting and a signature together
MAX_NAME = 5  # words
FEW = 2  # words that may be a name in any case
MAX_WORDS = 8  # in a line of a signature

_GREETING = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day)|greetings|hallo|liebe[rs]?|guten"
    r" (?:tag|morgen|abend)"
    r"|sehr geehrte[rs]?|bonjour|bonsoir|ch[eè]re?|hola|buen(?:os|as)"
    r" (?:d[ií]as|tardes|noches)|estimad[oa]|ciao"
    r"|buongiorno|ol[áa]|beste|hej|hei)\b"
    r"(?:[ ,]+(?!(?:i|we|you|is|are|can|please)\b)[^\s,.?!]{1,30}\.?){1,4}\s*[,.!:–-]?",
    re.IGNORECASE,
)
_THANKS = re.compile(r"(?:many )?(?:thank|thx|danke|merci|gracias|grazie|obrigad)", re.IGNORECASE)
_CLOSING = re.compile(
    r"(?:(?:many |kind |best |warm |with |mit |viele |liebe |beste |freundliche |freundlichen |bien"
    r" |un )*"
    r"(?:thanks|thank"
    r" you|thx|regards|wishes|best|sincerely|cheers|respectfully|yours|danke|gr[uü](?:ß|ss)en?|mfg|lg"
    r"|merci|cordialement|salutations|gracias|saludos|grazie|saluti|obrigad[oa]|groeten?))"
    r"(?: (?:again|so much|very much|a lot|in advance|and regards|and best"
    r" regards|truly|sincerely|you|all|im voraus"
    r"|beaucoup|d'avance))*\s*[,.!–-]*",
    re.IGNORECASE,
)
_CONTACT = re.compile(
    r"[^\s@]+@[^\s@]+\.\w|https?://|\bwww\.|\+\d[\d ().-]{7,}|\(\d{3}\) ?\d{3}|\b(?:\d{3}[-."
    r" ])?\d{3}[-.]\d{4}\b"
    r"|\b(?:phone|tel|telefon|fax|mobile|mobil|cell|direct|office|ext)\b\.?\s*:?\s*\+?\(?\d",
    re.IGNORECASE,
)
_FINE_PRINT = re.compile(
    r"confidential|intended (?:only |solely"
    r" )?(?:for|recipient)|privileged|unsubscribe|disclaimer|mailing list|to post"
    r"|vertraulich|confidentiel|confidencial|reply above|sent (?:from|via|with)|get outlook|to"
    r" view",
    re.IGNORECASE,
)
_ANSWERS_BELOW = re.compile(
    r"\b(?:answers?|answered|responses?|responded|comments?|commented|repl(?:y|ies|ied)|notes?)\b[^.?!\n]{0,40}"
    r"\b(?:below|in-?line|in (?:caps|capitals|red|blue|green|bold|colou?r|the text)|between the"
    r" lines|underneath)\b"
    r"|\b(?:see|find)\b[^.?!\n]{0,20}\b(?:in-?line|in (?:caps|capitals|red|blue|green|bold))\b"
    r"|\bsee (?:my )?(?:below|inline) in\b|\bbelow in (?:caps|capitals|red|blue|green|bold)\b"
    r"|\b(?:antworten?|kommentare?|anmerkungen)\b[^.?!\n]{0,40}\b(?:unten|im text|in rot|in"
    r" blau|zwischen den zeilen)\b"
    r"|\br[ée]ponses?\b[^.?!\n]{0,40}\b(?:ci-dessous|en rouge|dans le texte)\b"
    r"|\brespuestas?\b[^.?!\n]{0,40}\b(?:abajo|en rojo|en el texto)\b",
    re.IGNORECASE,
)
_SMALL_WORDS = frozenset(str.split("a and at by de del der for in la of on the und van von y et &"))


def has_pointer_to_answers(text: str) -> bool:
    """Return whether a text says that answers stand in the older text below it."""
    return _ANSWERS_BELOW.search(text) is not None


def is_signature(text: str) -> bool:
    """Return whether lines look like a signature.

    A name, an address, a telephone number, fine print.
    """
    lines = _lines(text)
    if not lines or _FINE_PRINT.search(text):
        return True
    if any(line.endswith("?") for line in lines):
        return False
    few = len(lines[0].split()) <= FEW and not any(map(str.isdigit, lines[0]))
    return (
        few
        or _is_name(lines[0])
        or _CLOSING.match(lines[0]) is not None
        or any(map(_is_contact, lines))
    )


def is_only_courtesies(text: str) -> bool:
    """Whether a text is a greeting, a closing phrase with names, a signature, or these together.

    And nothing else.
    """
    lines = _lines(text)
    if not lines or len(lines) > MAX_LINES:
        return False
    rest = lines[1:] if _GREETING.fullmatch(lines[0]) else lines
    if not rest:
        return True
    if _CLOSING.fullmatch(rest[0]):
        thanks_only = rest is lines and _THANKS.match(rest[0]) is not None  # that is an answer, too
        return not thanks_only and all(map(_is_short, rest[1:]))
    named = len(rest) > 1 and _is_name(rest[0]) and " " in rest[0]
    contact = any(map(_is_contact, rest)) and all(map(_is_short, rest))
    return named and (contact or all(map(_is_name, rest)))


def _lines(text: str) -> list[str]:
    stripped = (line.strip(" \t\u00a0*_|>") for line in text.split("\n"))
    return [line for line in stripped if any(map(str.isalnum, line))]


def _is_short(line: str) -> bool:
    return len(line.split()) <= MAX_WORDS and not line.endswith((".", "?", "!", ":"))


def _is_contact(line: str) -> bool:
    return len(line.split()) <= 2 * MAX_WORDS and _CONTACT.search(line) is not None


def _is_name(line: str) -> bool:
    """Return whether a line can be a name, a title or a company.

    Few words, none of them small, no digits.
    """
    words = [word for word in line.split() if word.lower() not in _SMALL_WORDS]
    if any(map(str.isdigit, line)) or line.endswith(("?", ":")) or len(words) > MAX_NAME:
        return False
    return all(not word[0].islower() for word in words)
