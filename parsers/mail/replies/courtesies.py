"""Lines without a message of their own: greetings, closing phrases, signatures.

Also the words that point to answers below. All of them guard what is folded: a rule or a mark in
HTML is a signature's only where the lines behind it look like one, and a message that passes on
words below a greeting alone is shown whole. In doubt a line is somebody's words.
"""

import re

MAX_LINES = 12  # lines of a greeting and a signature together
MAX_NAME = 5  # words
FEW = 2  # words that may be a name in any case
MAX_WORDS = 8  # in a line of a signature

GREETING_WORD = (
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day)|greetings"
    r"|hallo|liebe[rs]?|guten (?:tag|morgen|abend)|sehr geehrte[rs]?"
    r"|bonjour|bonsoir|ch[eè]re?"
    r"|hola|buen(?:os|as) (?:d[ií]as|tardes|noches)|estimad[oa]"
    r"|ciao|buongiorno|ol[áa]|beste|hej|hei)\b"
)
_GREETING = re.compile(
    rf"{GREETING_WORD}"
    r"(?:[ ,]+(?!(?:i|we|you|is|are|can|please)\b)[^\s,.?!]{1,30}\.?){1,4}"  # up to four names
    r"\s*[,.!:–-]?",
    re.IGNORECASE,
)
_THANKS = re.compile(r"(?:many )?(?:thank|thx|danke|merci|gracias|grazie|obrigad)", re.IGNORECASE)
_CLOSING = re.compile(
    r"(?:"
    r"(?:many |kind |best |warm |with "
    r"|mit |viele |liebe |beste |freundliche |freundlichen |bien |un )*"
    r"(?:thanks|thank you|thx|regards|wishes|best|sincerely|cheers|respectfully|yours"
    r"|danke|gr[uü](?:ß|ss)en?|mfg|lg|merci|cordialement|salutations"
    r"|gracias|saludos|grazie|saluti|obrigad[oa]|groeten?)"
    r")"
    r"(?: (?:again|so much|very much|a lot|in advance|and regards|and best regards"
    r"|truly|sincerely|you|all|im voraus|beaucoup|d'avance))*"
    r"\s*[,.!–-]*",
    re.IGNORECASE,
)
_CONTACT = re.compile(
    r"[^\s@]+@[^\s@]+\.\w"
    r"|https?://|\bwww\."
    r"|\+\d[\d ().-]{7,}|\(\d{3}\) ?\d{3}|\b(?:\d{3}[-. ])?\d{3}[-.]\d{4}\b"
    r"|\b(?:phone|tel|telefon|fax|mobile|mobil|cell|direct|office|ext)\b\.?\s*:?\s*\+?\(?\d",
    re.IGNORECASE,
)
_FINE_PRINT = re.compile(
    r"confidential|intended (?:only |solely )?(?:for|recipient)|privileged"
    r"|unsubscribe|disclaimer|mailing list|to post"
    r"|vertraulich|confidentiel|confidencial"
    r"|reply above|sent (?:from|via|with)|get outlook|to view",
    re.IGNORECASE,
)
_ANSWERS_BELOW = re.compile(
    r"\b(?:answers?|answered|responses?|responded|comments?|commented|repl(?:y|ies|ied)|notes?)\b"
    r"[^.?!\n]{0,40}"
    r"\b(?:below|in-?line|in (?:caps|capitals|red|blue|green|bold|colou?r|the text)"
    r"|between the lines|underneath)\b"
    r"|\b(?:see|find)\b[^.?!\n]{0,20}\b(?:in-?line|in (?:caps|capitals|red|blue|green|bold))\b"
    r"|\bsee (?:my )?(?:below|inline) in\b"
    r"|\bbelow in (?:caps|capitals|red|blue|green|bold)\b"
    r"|\b(?:antworten?|kommentare?|anmerkungen)\b[^.?!\n]{0,40}"
    r"\b(?:unten|im text|in rot|in blau|zwischen den zeilen)\b"
    r"|\br[ée]ponses?\b[^.?!\n]{0,40}\b(?:ci-dessous|en rouge|dans le texte)\b"
    r"|\brespuestas?\b[^.?!\n]{0,40}\b(?:abajo|en rojo|en el texto)\b",
    re.IGNORECASE,
)
_SMALL_WORDS = frozenset(str.split("a and at by de del der for in la of on the und van von y et &"))


def has_pointer_to_answers(text: str) -> bool:
    """Return whether a text points to answers in the older text below it ("see below in red")."""
    return _ANSWERS_BELOW.search(text) is not None


def is_signature(text: str) -> bool:
    """Return whether lines look like a signature, or hold no words.

    A signature begins with a name or a closing phrase, or holds an address, a telephone number or
    fine print. It asks nothing.
    """
    lines = _split_lines(text)
    if not lines or _FINE_PRINT.search(text):
        return True
    if any(line.endswith("?") for line in lines):
        return False
    is_short_name = len(lines[0].split()) <= FEW and not any(map(str.isdigit, lines[0]))
    if is_short_name or _is_name(lines[0]) or _CLOSING.match(lines[0]):
        return True
    return any(map(_is_contact, lines))


def is_only_courtesies(text: str) -> bool:
    """Return whether a text has nothing but a greeting, a closing phrase with names, a signature.

    One of these is enough. False for a text without words.
    """
    lines = _split_lines(text)
    if not lines or len(lines) > MAX_LINES:
        return False
    has_greeting = _GREETING.fullmatch(lines[0]) is not None
    rest = lines[1:] if has_greeting else lines
    if not rest:
        return True
    if _CLOSING.fullmatch(rest[0]):
        is_thanks_alone = not has_greeting and _THANKS.match(rest[0])  # that is an answer, too
        return not is_thanks_alone and all(map(_is_short, rest[1:]))
    return _is_signature_block(rest)


def _is_signature_block(lines: list[str]) -> bool:
    """Return whether lines are a full name with more names, or with a contact and short lines."""
    if len(lines) <= 1 or not _is_name(lines[0]) or " " not in lines[0]:
        return False
    has_contact = any(map(_is_contact, lines)) and all(map(_is_short, lines))
    return has_contact or all(map(_is_name, lines))


def _split_lines(text: str) -> list[str]:
    """Return the lines with any words or numbers, without blanks and marks around them."""
    stripped = (line.strip(" \t\u00a0*_|>") for line in text.split("\n"))
    return [line for line in stripped if any(map(str.isalnum, line))]


def _is_short(line: str) -> bool:
    return len(line.split()) <= MAX_WORDS and not line.endswith((".", "?", "!", ":"))


def _is_contact(line: str) -> bool:
    return len(line.split()) <= 2 * MAX_WORDS and _CONTACT.search(line) is not None


def _is_name(line: str) -> bool:
    """Return whether a line can be a name, a title or a company.

    It has few words, none of them begins in lower case, and there are no digits.
    """
    words = [word for word in line.split() if word.lower() not in _SMALL_WORDS]
    if any(map(str.isdigit, line)) or line.endswith(("?", ":")) or len(words) > MAX_NAME:
        return False
    return all(not word[0].islower() for word in words)
