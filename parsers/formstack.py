"""The body of a Formstack webhook, JSON or urlencoded, in every shape its settings can give it: one item."""

import re
from dataclasses import replace
from urllib.parse import parse_qsl

from parsers import fields, form_values, json_body
from parsers.form_values import Answer
from parsers.item import Format, InboundItem, ParseError
from parsers.options import PLAIN, Options

# A form's label, as `fields.label` folds it -> our field. What is not here is kept in `details`.
LABELS = {
    synonym: ours
    for ours, synonyms in {
        "form": ["form id", "formid"],
        "submission": ["unique id", "uniqueid"],
        "secret": ["handshake key", "handshakekey"],
        "name": ["name", "full name", "contact", "contact name", "contact person", "submitted by", "requester",
                 "requested by", "caller", "from", "sender"],
        "first name": ["first name", "firstname", "given name"],
        "last name": ["last name", "lastname", "surname", "family name"],
        "email": ["email", "e mail", "email address", "e mail address", "contact email", "contact email address",
                  "work email", "business email", "reply email"],
        "phone": ["phone", "phone number", "telephone", "telephone number", "contact phone", "contact phone number",
                  "callback", "callback number", "call back number", "best phone number", "mobile", "cell phone",
                  "work phone", "office phone", "daytime phone"],
        "company": ["practice", "practice name", "company", "company name", "clinic", "clinic name", "organization",
                    "organisation", "account name", "client", "client name", "customer", "customer name", "office",
                    "office name", "business name", "facility", "facility name"],
        "company number": ["practice id", "practice number", "practice no", "kareo practice id", "kareo id",
                           "company id", "company number", "customer id", "account", "account id", "account number",
                           "client id"],
        "subject": ["subject", "title", "topic", "re", "summary"],
        "description": ["message", "description", "question", "questions", "details", "issue", "problem", "comments",
                        "comment", "notes", "body", "request", "inquiry", "billing issue", "billing question",
                        "issue description", "description of issue", "description of the issue", "message body",
                        "describe issue", "describe the issue", "describe problem", "additional information",
                        "how can we help", "how can we help you", "what can we help you with"],
        "category": ["category", "issue type", "type of issue", "type of request", "request type", "ticket type",
                     "reason", "reason for request", "department"],
        "telemedicine": ["telemedicine", "telehealth", "is this about telemedicine", "telemedicine issue",
                         "telehealth issue"],
    }.items()
    for synonym in synonyms
}  # fmt: skip
# With "include field type" a form says what a field is whose label says nothing ("Q3", a bare field id).
TYPES = {"email": "email", "phone": "phone", "name": "name"}
ENVELOPE = {"form", "submission", "secret"}  # Formstack's own, not the customer's: never part of the text

_LEADING = re.compile(r"^(?:(?:your|my|our|the|please|enter|provide|select|choose|best) )+")
_ID = re.compile(r"\w{1,64}", re.ASCII)
_NO = {"", "no", "n", "false", "0", "none", "off", "unchecked"}
_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json")
_FORM_TYPE = "application/x-www-form-urlencoded"

Meant = list[tuple[str, Answer]]  # our field, "" where the label says nothing to us, and the answer


def check(raw: bytes, content_type: str) -> None:
    """Raise ParseError unless the body can be read as the content type it is declared as (RFC 9110 §8.3)."""
    declared = content_type.partition(";")[0].strip().casefold()
    if _JSON_TYPE.fullmatch(declared):
        json_body.pairs(raw)
    elif declared != _FORM_TYPE:
        raise ParseError("neither JSON nor an urlencoded form: set the webhook's content type to one of them")
    _answers(raw)


def parse(raw: bytes, _: Options = PLAIN) -> list[InboundItem]:
    """Read one item from a JSON object or an urlencoded form, told apart by the first byte.

    `external_id` is "FormID/UniqueID", or empty where either is missing or odd; the ticket's text has a line
    "Label: value" for every answered field, the description first; the HandshakeKey is in none of it.
    Raises ParseError when it is neither, or larger than any form. Source: Formstack's webhook documentation.
    """
    answers = _answers(raw)
    meant = _meant(answers)
    form, submission = _first(meant, "form"), _first(meant, "submission")
    usable = bool(_ID.fullmatch(form) and _ID.fullmatch(submission))
    sender, sender_caveats = fields.sender(_name(meant), _joined(meant, "email"))
    item = InboundItem(
        format=Format.FORMSTACK,
        external_id=f"{form}/{submission}" if usable else "",
        submission_id=submission if _ID.fullmatch(submission) else "",
        sender=sender,
        company=fields.one_line(_first(meant, "company")),
        company_number=fields.one_line(_first(meant, "company number")),
        phone=fields.one_line(_first(meant, "phone")),
        category=fields.one_line(_first(meant, "category")),
        subject=fields.one_line(_first(meant, "subject")),
        text="\n".join(f"{answer.label}: {answer.text}" for answer in _told(meant)),
        details=tuple((answer.label, answer.text) for ours, answer in meant if not ours and answer.text),
        telemedicine=_is_telemedicine(meant),
    )
    return [replace(item, caveats=(*_envelope_caveats(item, form), *sender_caveats, *_caveats(item, answers)))]


def _answers(raw: bytes) -> list[Answer]:
    """Every field of the body, answered or not, in order; raises ParseError when there is none."""
    start = raw[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
    found = json_body.pairs(raw) if start in (b"{", b"[") else _urlencoded(raw)
    answers = [form_values.answer(name, value) for name, value in found]
    if not answers:
        raise ParseError("no field in it: an empty body is not a form")
    return answers


def _urlencoded(raw: bytes) -> list[tuple[str, str]]:
    """Names and values; a bad percent sign or bad UTF-8 costs the character, not the form."""
    if b"=" not in raw:
        raise ParseError("neither JSON nor an urlencoded form: there is no field in it")
    text = raw.decode("utf-8-sig", errors="replace")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=json_body.MAX_FIELDS)
    except ValueError as error:
        raise ParseError(f"more than {json_body.MAX_FIELDS} fields: no form of ours is that large") from error


def _meant(answers: list[Answer]) -> Meant:
    """What each field means to us: by its label; where no label names an e-mail, phone or name, by its field type."""
    by_label = [_by_label(answer.label) for answer in answers]
    named = {ours for ours, answer in zip(by_label, answers, strict=True) if answer.text}
    unnamed = {kind: ours for kind, ours in TYPES.items() if not named & {ours, f"first {ours}"}}
    return [(ours or unnamed.get(answer.kind, ""), answer) for ours, answer in zip(by_label, answers, strict=True)]


def _by_label(label: str) -> str:
    folded = fields.label(label, LABELS)
    return LABELS.get(folded) or LABELS.get(_LEADING.sub("", folded), "")


def _first(meant: Meant, field: str) -> str:
    return next((answer.text for ours, answer in meant if ours == field and answer.text), "")


def _joined(meant: Meant, field: str) -> str:
    return " ".join(answer.text for ours, answer in meant if ours == field)


def _name(meant: Meant) -> str:
    return _first(meant, "name") or f"{_first(meant, 'first name')} {_first(meant, 'last name')}".strip()


def _told(meant: Meant) -> list[Answer]:
    """Every answered field of the customer's, the description before the others."""
    described = [answer for ours, answer in meant if ours == "description"]
    others = [answer for ours, answer in meant if ours != "description" and ours not in ENVELOPE]
    return [answer for answer in (*described, *others) if answer.text]


def _is_telemedicine(meant: Meant) -> bool:
    said = _first(meant, "telemedicine").casefold() not in _NO
    return said or bool(fields.TELEMEDICINE.search(f"{_joined(meant, 'category')} {_joined(meant, 'subject')}"))


def _envelope_caveats(item: InboundItem, form: str) -> list[str]:
    odd = {
        "the form does not say which form it is (FormID)": not _ID.fullmatch(form),
        "no link to the submission: its UniqueID is missing or odd": not item.submission_id,
    }
    return [caveat for caveat, is_so in odd.items() if is_so]


def _caveats(item: InboundItem, answers: list[Answer]) -> list[str]:
    labels = [answer.label for answer in answers]
    odd = {
        "no phone number given": not item.phone,
        "practice not given": not (item.company or item.company_number),
        "several fields of the form have the same label: all their values are kept": len(set(labels)) < len(labels),
    }
    return [caveat for caveat, is_so in odd.items() if is_so]
