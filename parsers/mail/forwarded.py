"""Headers of messages that a mail passes on, in its text or attached (RFC 5322 §2.2, §3.4).

Mail programs put a few lines of the header above the text they pass on: Outlook `From: Sent: To:
Subject:`, Gmail `From: Date: Subject: To:`, Apple Mail `Von: Betreff: Datum: An:`, Thunderbird
`Subject: Date: From: To:`, each in the language of its user. An answer quotes the message it
answers in the same form, so `passes_on` says whether a mail passes on a message.
"""

# ruff: noqa: RUF001 - colons of Chinese and Japanese look like ours

import re
from collections.abc import Iterable, Sequence

from parsers.item import Address, Attachment, ForwardedHeader
from parsers.mail import outlook_file
from parsers.mail.replies import quote_markers
from parsers.mail.syntax import addresses, mime
from parsers.mail.syntax.headers import Fields, to_one_line

MESSAGE_TYPES = frozenset({"message/rfc822", "message/global", "application/vnd.ms-outlook"})
MAX_TEXT = 60_000  # characters searched: the message that is passed on begins near the top
MAX_HEADERS = 5  # of one mail
MAX_ATTACHED = 5  # attached messages that are looked into
MAX_HEADER_BYTES = 65_536  # of an attached message
MAX_VALUE = 500  # characters of a field's value
MAX_GAP = 2  # lines without a field's name between two fields: a long list of recipients, or blanks

# Name of the subject field, which differs most from language to language -> the language.
_LANGUAGES = {
    "en": "subject",
    "de": "betreff|betrifft",
    "fr": "objet|sujet",
    "es": "asunto",
    "pt": "assunto",
    "it": "oggetto",
    "nl": "onderwerp",
    "sv": "ämne",
    "da": "emne",
    "fi": "aihe",
    "pl": "temat",
    "cs": "předmět",
    "sk": "predmet",
    "ru": "тема",
    "tr": "konu",
    "hu": "tárgy",
    "el": "θέμα",
    "he": "נושא",
    "ar": "الموضوع",
    "vi": "chủ đề",
    "id": "perihal|subjek",
    "ro": "subiect",
    "sl": "zadeva",
    "et": "teema",
    "zh": "主题|主題|主旨",
    "ja": "件名",
    "ko": "제목",
}
_LANGUAGE_BY_WORD = {word: code for code, words in _LANGUAGES.items() for word in words.split("|")}
_SUBJECT_WORDS = quote_markers.FIELDS["subject"]
# A text without such a line has no forwarded header; most mails end here.
_SUBJECT_LINE = re.compile(
    rf"^[> \t\u00a0*_|]{{0,40}}(?:{_SUBJECT_WORDS})[ \t\u00a0*_]{{0,10}}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD_NAME = re.compile(r"[>\s*_|]{0,40}([^:：]{1,40}?)[\s*_]{0,10}[:：][\s*_]*")
_ADDRESS_BELOW = re.compile(r"[>\s*_|]*[<\[(]?(?:mailto:)?[^\s@<>]{1,80}@[^\s@<>]{1,120}")
# Outlook's `jane@clinic.example<mailto:jane@clinic.example>`, a link made text again.
_REPEATED_LINK = re.compile(r"[<\[(]\s*mailto:[^>\])]{1,320}[>\])]", re.IGNORECASE)
_FORM_MAILERS = re.compile(
    r"phpmailer|wordpress|wpforms|contact form|formmail|gravity ?forms|ninja ?forms|drupal|joomla"
    r"|typo3|squarespace|wix|jotform|formstack|swift ?mailer|cgi",
    re.IGNORECASE,
)


def find_headers(text: str, attachments: Iterable[Attachment]) -> tuple[ForwardedHeader, ...]:
    """Return the headers of messages that a mail passes on or quotes, the outermost first.

    Those of attached messages come before those in the text. Empty for most mails.
    """
    attached = _find_attached(attachments)
    text = text[:MAX_TEXT]
    if _SUBJECT_LINE.search(text) is None:
        return attached
    return (*attached, *_find_in_text(text.split("\n")))[:MAX_HEADERS]


def passes_on(subject: str, headers: Sequence[ForwardedHeader]) -> bool:
    """Return whether a mail passes on a message, and does not only quote one that it answers."""
    if quote_markers.FORWARD_SUBJECT.match(subject):
        return True
    return any(header.is_announced or header.is_attached for header in headers)


def is_form_mail(fields: Fields) -> bool:
    """Return whether a mail was made by a program that mails what is typed into a web form."""
    if fields.find_first("x-php-originating-script").strip():
        return True
    mailer = f"{fields.find_text('x-mailer')} {fields.find_text('user-agent')}"
    return _FORM_MAILERS.search(mailer) is not None


# -- in the text ----


def _find_in_text(lines: list[str]) -> list[ForwardedHeader]:
    headers: list[ForwardedHeader] = []
    index = 0
    while index < len(lines) and len(headers) < MAX_HEADERS:
        values, end, language = _read_fields(lines, index)
        is_header = "from" in values and len(values.keys() & {"date", "to", "subject"}) > 1
        if not is_header:
            index += 1
            continue
        headers.append(
            ForwardedHeader(
                sender=_parse_sender(values["from"]),
                subject=values.get("subject", ""),
                date=values.get("date", ""),
                language=language,
                is_announced=_is_announced(lines, index),
            )
        )
        index = end
    return headers


def _read_fields(lines: list[str], start: int) -> tuple[dict[str, str], int, str]:
    """Return the fields of a header that begins on this line, where it ends, and its language.

    The first field of a kind counts: the second begins another header. Empty where the line is no
    field.
    """
    values: dict[str, str] = {}
    language, gap, index, last = "", 0, start, start
    while index < len(lines):
        line = lines[index][: quote_markers.MAX_LINE]
        role = _get_role(line)
        if role is None:
            gap += 1
            if not values or gap > MAX_GAP:
                break
            if _takes_line(values, line, is_next=last == index - 1):
                role = next(reversed(values))
                values[role] = f"{values[role]} {line.strip(' >*_|')}".strip()[:MAX_VALUE]
                gap = 0
            index += 1
            continue
        name = _FIELD_NAME.match(line)
        if name is None or (role in {"from", "subject", "date"} and role in values):
            break
        values.setdefault(role, to_one_line(line[name.end() :]).strip(" *_")[:MAX_VALUE])
        language = language or _LANGUAGE_BY_WORD.get(name[1].strip(" >*_|").casefold(), "")
        gap, last = 0, index
        index += 1
    return values, last + 1, language


def _get_role(line: str) -> str | None:
    """Return the kind of header field a line is (`quote_markers.FIELDS`); None for other lines."""
    field = quote_markers.HEADER_FIELD.match(line)
    return field.lastgroup if field is not None else None


def _takes_line(values: dict[str, str], line: str, *, is_next: bool) -> bool:
    """Return whether a line goes on with the last field.

    A table made text again has the value below the name; a long sender's address is wrapped.
    """
    role = next(reversed(values), "")
    if not role or not line.strip(" >*_|"):
        return False
    if not values[role]:
        return True
    return (
        is_next and role == "from" and "@" not in values[role] and bool(_ADDRESS_BELOW.match(line))
    )


def _parse_sender(value: str) -> Address:
    """Return the sender; an unquoted comma in front of the address belongs to the name."""
    shortened = _REPEATED_LINK.sub(" ", value)
    text = shortened if "@" in shortened else value
    people = addresses.parse(text.encode("utf-8"), "utf-8")
    person = next((one for one in people if one.email), None)
    if person is None:
        return Address(name=value)
    before = text[: text.casefold().find(person.email.casefold())]
    name = to_one_line(re.sub(r"mailto:", " ", before, flags=re.IGNORECASE))
    name = name.strip(" '\"*_[]<>").rstrip(" (") or person.name.strip(" '\"*_[]<>")
    return Address("" if name.casefold() == person.email.casefold() else name, person.email)


def _is_announced(lines: list[str], index: int) -> bool:
    """Return whether words such as "Forwarded message" stand up to three lines above."""
    above = lines[max(0, index - 3) : index]
    return any(quote_markers.FORWARDED_MESSAGE.match(line.lstrip("> ")) for line in above)


# -- attached ----


def _find_attached(attachments: Iterable[Attachment]) -> tuple[ForwardedHeader, ...]:
    messages = [a for a in attachments if is_message(a.name, a.mime)][:MAX_ATTACHED]
    headers = (_read_attached(message.content) for message in messages)
    return tuple(header for header in headers if header.sender.email)


def is_message(name: str, mime: str) -> bool:
    """Return whether a file is a message, of RFC 5322 or of Outlook, by its name and type."""
    return mime in MESSAGE_TYPES or name.lower().endswith((".eml", ".msg"))


def _read_attached(content: bytes) -> ForwardedHeader:
    mail = outlook_file.to_mail(content) or content
    fields = mime.parse(mail[:MAX_HEADER_BYTES]).fields
    values = fields.find_all("from")
    people = [person for value in values for person in addresses.parse(value)]
    sender = next((person for person in people if person.email), Address())
    return ForwardedHeader(
        sender=sender,
        subject=fields.find_text("subject")[:MAX_VALUE],
        date=to_one_line(fields.find_text("date"))[:MAX_VALUE],
        is_attached=True,
    )
