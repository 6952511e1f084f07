"""The body of a Formstack webhook, JSON or urlencoded, in every shape its settings can give it.

One item.
"""

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import parse_qsl

from parsers.formstack import files as formstack_files
from parsers.formstack import values
from parsers.formstack.files import AnswerFiles
from parsers.formstack.values import Answer
from parsers.item import Attachment, Format, InboundItem, ParseError
from parsers.options import DEFAULT_OPTIONS, FormMap, Options
from parsers.text import json, normalize
from parsers.text.json import Json

# A form's label, as `fields.label` folds it -> our field. What is not here is kept in `details`.
LABELS = {
    synonym: ours
    for ours, synonyms in {
        "form": ["form id", "formid"],
        "submission": ["unique id", "uniqueid"],
        "secret": ["handshake key", "handshakekey"],
        "name": [
            "name",
            "full name",
            "contact",
            "contact name",
            "contact person",
            "submitted by",
            "requester",
            "requested by",
            "caller",
            "from",
            "sender",
        ],
        "first_name": ["first name", "firstname", "given name"],
        "last_name": ["last name", "lastname", "surname", "family name"],
        "email": [
            "email",
            "e mail",
            "email address",
            "e mail address",
            "contact email",
            "contact email address",
            "work email",
            "business email",
            "reply email",
        ],
        "phone": [
            "phone",
            "phone number",
            "telephone",
            "telephone number",
            "contact phone",
            "contact phone number",
            "callback",
            "callback number",
            "call back number",
            "best phone number",
            "mobile",
            "cell phone",
            "work phone",
            "office phone",
            "daytime phone",
        ],
        "company": [
            "practice",
            "practice name",
            "company",
            "company name",
            "clinic",
            "clinic name",
            "organization",
            "organisation",
            "account name",
            "client",
            "client name",
            "customer",
            "customer name",
            "office",
            "office name",
            "business name",
            "facility",
            "facility name",
        ],
        "company_number": [
            "practice id",
            "practice number",
            "practice no",
            "kareo practice id",
            "kareo id",
            "company id",
            "company number",
            "customer id",
            "account",
            "account id",
            "account number",
            "client id",
        ],
        "subject": ["subject", "title", "topic", "re", "summary"],
        "description": [
            "message",
            "description",
            "question",
            "questions",
            "details",
            "issue",
            "problem",
            "comments",
            "comment",
            "notes",
            "body",
            "request",
            "inquiry",
            "billing issue",
            "billing question",
            "issue description",
            "description of issue",
            "description of the issue",
            "message body",
            "describe issue",
            "describe the issue",
            "describe problem",
            "additional information",
            "how can we help",
            "how can we help you",
            "what can we help you with",
        ],
        "category": [
            "category",
            "issue type",
            "type of issue",
            "type of request",
            "request type",
            "ticket type",
            "reason",
            "reason for request",
            "department",
        ],
        "telemedicine": [
            "telemedicine",
            "telehealth",
            "is this about telemedicine",
            "telemedicine issue",
            "telehealth issue",
        ],
    }.items()
    for synonym in synonyms
}
# With "include field type" a form says what a field is whose label says nothing ("Q3", a bare field
# id).
FIELDS_BY_TYPE = {"email": "email", "phone": "phone", "name": "name", "file": "file"}
ENVELOPE_FIELDS = {
    "form",
    "submission",
    "secret",
}  # Formstack's own, not the customer's: never part of the text
HIDDEN_FIELDS = {*ENVELOPE_FIELDS, "ignore"}  # and what the house's own settings leave out
NAME_FIELDS = {"name", "first_name", "last_name"}
NO_FILES = AnswerFiles()

_LEADING = re.compile(r"^(?:(?:your|my|our|the|please|enter|provide|select|choose|best) )+")
_ID = re.compile(r"\w{1,64}", re.ASCII)
_NO = {"", "no", "n", "false", "0", "none", "off", "unchecked"}
_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json")
_FORM_TYPE = "application/x-www-form-urlencoded"
_SHORT = 200  # characters of a label worth remembering, of a form's number and of a key

FieldAnswers = list[
    tuple[str, Answer]
]  # our field, "" where the label says nothing to us, and the answer
RawFields = list[tuple[str, Json]]  # every field of a body, in order


@dataclass(frozen=True, slots=True)
class Envelope:
    """What Formstack itself says of a submission; "" where it does not."""

    form: str = ""
    submission: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each HandshakeKey in the body


def parse_fields(raw: bytes) -> RawFields:
    """Read the fields of a body, JSON or urlencoded, told apart by the first byte.

    Raises ParseError when it is neither, has no field, or is larger than any form.
    """
    found = list(json.parse_object(raw)) if is_json(raw) else _urlencoded(raw)
    if not found:
        raise ParseError("no field in it: an empty body is not a form")
    return found


def is_json(raw: bytes) -> bool:
    """Return whether a body begins as JSON does, in whatever Unicode encoding."""
    return raw[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1] in {b"{", b"["}


def check_content_type(raw: bytes, content_type: str) -> None:
    """Raise ParseError unless a body is of the kind that its content type says (RFC 9110 §8.3)."""
    kind = content_type.partition(";")[0].strip().casefold()
    if _JSON_TYPE.fullmatch(kind):
        if not is_json(raw):
            json.parse_object(raw)  # says what is wrong with it as JSON
    elif kind != _FORM_TYPE:
        raise ParseError(
            "neither JSON nor an urlencoded form: set the webhook's content type to one of them"
        )


def find_envelope(found: RawFields) -> Envelope:
    """Return Formstack's own fields of a body, as text.

    Each is at most 200 characters long.
    """
    told: dict[str, list[str]] = {ours: [] for ours in ENVELOPE_FIELDS}
    for name, value in found:
        if (ours := find_field(name)) in ENVELOPE_FIELDS:
            text = (
                value
                if ours == "secret" and isinstance(value, str)
                else values.parse_answer(name, value).text
            )
            told[ours].append(text[:_SHORT])
    form, submission = (next(filter(None, told[ours]), "") for ours in ("form", "submission"))
    return Envelope(form, submission, tuple(told["secret"]))


def parse(raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Read one item from a JSON object or an urlencoded form, told apart by the first byte.

    `external_id` is "FormID/UniqueID", or empty where either is missing or odd; the ticket's text
    has a line "Label: value" for every answered field, the description first; the HandshakeKey is
    in none of it. What the house says of the form in `options` counts more than what its labels
    seem to say. Raises ParseError when it is neither, or larger than any form. Source: Formstack's
    webhook documentation.
    """
    found = parse_fields(raw)
    said = find_envelope(found)
    told = next((one for one in options.forms if one.form == said.form), None)
    meant = _meant(found, told)
    sender, sender_caveats = normalize.parse_sender(_name(meant), _joined(meant, "email"))
    files, meant = _files(meant)
    item = InboundItem(
        format=Format.FORMSTACK,
        external_id=(
            f"{said.form}/{said.submission}"
            if _ID.fullmatch(said.form) and _ID.fullmatch(said.submission)
            else ""
        ),
        submission_id=said.submission if _ID.fullmatch(said.submission) else "",
        sender=sender,
        company=normalize.to_one_line(_first(meant, "company")),
        company_number=normalize.to_one_line(_first(meant, "company_number")),
        phone=normalize.to_one_line(_first(meant, "phone")),
        category=normalize.to_one_line(_first(meant, "category")),
        subject=normalize.to_one_line(_first(meant, "subject")),
        text="\n".join(f"{answer.label}: {answer.text}" for answer in _told(meant)),
        details=tuple(
            (answer.label, answer.text)
            for ours, answer in meant
            if ours in {"", "file"} and answer.text
        ),
        telemedicine=_is_telemedicine(meant),
        file_urls=files.links,
        attachments=files.attachments,
    )
    item = _with_defaults(item, meant, told)
    odd = _envelope_caveats(item, said.form, known=told is not None or not options.forms)
    return [replace(item, caveats=(*odd, *sender_caveats, *_caveats(item, meant)))]


def _urlencoded(raw: bytes) -> RawFields:
    """Names and values; a bad percent sign or bad UTF-8 costs the character, not the form."""
    if b"=" not in raw:
        raise ParseError("neither JSON nor an urlencoded form: there is no field in it")
    text = raw.decode("utf-8-sig", errors="replace")
    try:
        return list(
            parse_qsl(
                text, keep_blank_values=True, errors="replace", max_num_fields=json.MAX_FIELDS
            )
        )
    except ValueError as error:
        raise ParseError(
            f"more than {json.MAX_FIELDS} fields: no form of ours is that large"
        ) from error


# -- what a field means ----


def _meant(found: RawFields, told: FormMap | None) -> FieldAnswers:
    """Return what each field means to us.

    As the settings say, else by its label, else by its field type.

    Where a field that the settings name is answered, nothing else that looks like it counts as
    that.
    """
    said = dict(told.fields) if told else {}
    named = [said.get(normalize.fold_label(name, said), "") for name, _ in found]
    guessed = [find_field(name) for name, _ in found]
    ours = [g if g in ENVELOPE_FIELDS else n or g for n, g in zip(named, guessed, strict=True)]
    answers = [
        values.parse_answer(*one, means_name=o == "name")
        for one, o in zip(found, ours, strict=True)
    ]
    settled = {n for n, answer in zip(named, answers, strict=True) if n and answer.text}
    settled |= NAME_FIELDS if settled & NAME_FIELDS else set()
    ours = [o if o == n or o not in settled else "" for n, o in zip(named, ours, strict=True)]
    known = {o for o, answer in zip(ours, answers, strict=True) if answer.text}
    open_kinds = {
        kind: o
        for kind, o in FIELDS_BY_TYPE.items()
        if o == "file" or not known & ({o, *NAME_FIELDS} if o == "name" else {o})
    }
    return [
        _labelled(o or open_kinds.get(a.field_type, ""), a)
        for o, a in zip(ours, answers, strict=True)
    ]


def _labelled(ours: str, answer: Answer) -> tuple[str, Answer]:
    """The answer under our word for it, where the form sends a number for a label."""
    if ours and ours not in ENVELOPE_FIELDS and answer.label.isdecimal():
        answer = replace(answer, label=ours.replace("_", " ").capitalize())
    return ours, answer


def find_field(label: str) -> str:
    """Our field for a label, "" if it says nothing to us."""
    return _meaning(label[: normalize.MAX_LINE_LENGTH])


@lru_cache(maxsize=1024)  # the same few forms, again and again
def _meaning(label: str) -> str:
    folded = normalize.fold_label(label, LABELS)
    return LABELS.get(folded) or LABELS.get(_LEADING.sub("", folded), "")


# -- what the item says of it ----


def _first(meant: FieldAnswers, wanted: str) -> str:
    return next((answer.text for ours, answer in meant if ours == wanted and answer.text), "")


def _joined(meant: FieldAnswers, wanted: str) -> str:
    return " ".join(answer.text for ours, answer in meant if ours == wanted)


def _name(meant: FieldAnswers) -> str:
    return (
        _first(meant, "name")
        or f"{_first(meant, 'first_name')} {_first(meant, 'last_name')}".strip()
    )


def _files(meant: FieldAnswers) -> tuple[AnswerFiles, FieldAnswers]:
    """The files of all answers.

    Where an answer is the file itself, its name stands in the text instead.
    """
    links: list[str] = []
    attachments: list[Attachment] = []
    shown: FieldAnswers = []
    for ours, answer in meant:
        asked, number = ours == "file", len(attachments) + 1
        found = (
            NO_FILES
            if ours in HIDDEN_FIELDS
            else formstack_files.find_files(answer.text, asked=asked, number=number)
        )
        links += found.links
        attachments += found.attachments
        names = ", ".join(one.name for one in found.attachments)
        shown.append((ours, replace(answer, text=names) if names else answer))
    return AnswerFiles(tuple(dict.fromkeys(links)), tuple(attachments)), shown


def _told(meant: FieldAnswers) -> list[Answer]:
    """Every answered field of the customer's, the description before the others."""
    described = [answer for ours, answer in meant if ours == "description"]
    others = [
        answer for ours, answer in meant if ours != "description" and ours not in HIDDEN_FIELDS
    ]
    return [answer for answer in (*described, *others) if answer.text]


def _is_telemedicine(meant: FieldAnswers) -> bool:
    said = _first(meant, "telemedicine").casefold() not in _NO
    return said or bool(
        normalize.TELEMEDICINE.search(f"{_joined(meant, 'category')} {_joined(meant, 'subject')}")
    )


def _with_defaults(item: InboundItem, meant: FieldAnswers, told: FormMap | None) -> InboundItem:
    """The item with what the settings say for its form, where the form itself says nothing."""
    said = dict(told.defaults) if told else {}
    telemedicine = item.telemedicine or (
        not _first(meant, "telemedicine") and said.pop("telemedicine", "").casefold() not in _NO
    )
    said.pop("telemedicine", None)
    missing = {
        ours: normalize.to_one_line(value)
        for ours, value in said.items()
        if not getattr(item, ours)
    }
    # all of them text
    return replace(item, telemedicine=telemedicine, **missing)  # type: ignore[arg-type]


def _envelope_caveats(item: InboundItem, form: str, *, known: bool) -> list[str]:
    odd = {
        "the form does not say which form it is (FormID)": not _ID.fullmatch(form),
        "the form is not known: it has no [form.ID] in the settings": bool(form) and not known,
        "no link to the submission: its UniqueID is missing or odd": not item.submission_id,
    }
    return [caveat for caveat, is_so in odd.items() if is_so]


def _caveats(item: InboundItem, meant: FieldAnswers) -> list[str]:
    labels = [answer.label for _, answer in meant]
    bare = any(answer.label.isdecimal() and answer.text for ours, answer in meant if not ours)
    odd = {
        "no phone number given": not item.phone,
        "practice not given": not (item.company or item.company_number),
        "several fields of the form have the same label: all their values are kept": (
            len(set(labels)) < len(labels)
        ),
        "fields come by number: what they are called can be said under [form.ID] in the settings": (
            bare
        ),
    }
    return [caveat for caveat, is_so in odd.items() if is_so]
