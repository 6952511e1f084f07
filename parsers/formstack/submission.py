"""Parser of a Formstack webhook's body, JSON or urlencoded, in every shape of its settings."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from parsers.formstack.field_labels import (
    ENVELOPE_FIELDS,
    FIELDS_BY_TYPE,
    HIDDEN_FIELDS,
    NAME_FIELDS,
    clean_label,
    find_field,
    find_field_by_words,
    is_about_others,
)
from parsers.formstack.files import AnswerFiles, find_files
from parsers.formstack.values import Answer, parse_answer
from parsers.item import Attachment, Format, InboundItem, ParseError
from parsers.options import DEFAULT_OPTIONS, FormMap, Options
from parsers.text import json, normalize
from parsers.text.json import Json

NO_FILES = AnswerFiles()
# A field type may be that of somebody else's address: it stands in for these only where the label
# does not say so.
_PERSONAL_FIELDS = {"email", "phone", "name"}
OTHER_EMAIL = "no e-mail address of the sender given: one stands among the answers"
GUESSED_EMAIL = "the e-mail address answers another question: check that it is the sender's"
GUESSED_PHONE = "the phone number answers another question: check that it is the sender's"
NO_PHONE = "no phone number given"
OTHER_PHONE = "no phone number of the sender given: perhaps one stands among the answers"
_PHONE = re.compile(r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_FAX = re.compile(r"\b(?:fax|claim|id|ein|npi|tax)\b", re.IGNORECASE)

_ID = re.compile(r"\w{1,64}", re.ASCII)
_NO = {"", "no", "n", "false", "0", "none", "off", "unchecked"}
_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json")
_FORM_TYPE = "application/x-www-form-urlencoded"
_MAX_ENVELOPE_VALUE = 200  # characters of a form's number, a submission's and a key

# Our field, "" where the label means nothing to us, and the answer.
FieldAnswers = list[tuple[str, Answer]]
RawFields = list[tuple[str, Json]]  # label and value of every field of a body, in order


@dataclass(frozen=True, slots=True)
class Envelope:
    """Formstack's own fields of a submission; "" for one that is missing."""

    form: str = ""
    submission: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each HandshakeKey in the body


def parse_fields(raw: bytes) -> RawFields:
    """Return the fields of a body, JSON or urlencoded; the first byte shows which it is.

    Raises ParseError when it is neither, has no field, or is larger than any form.
    """
    fields = list(json.parse_object(raw)) if is_json(raw) else _parse_urlencoded(raw)
    if not fields:
        raise ParseError("no field in it: an empty body is not a form")
    return fields


def is_json(raw: bytes) -> bool:
    """Return whether a body begins as JSON does, in whatever Unicode encoding."""
    return raw[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1] in {b"{", b"["}


def check_content_type(raw: bytes, content_type: str) -> None:
    """Raise ParseError unless a body is of its content type (RFC 9110 §8.3)."""
    mime = content_type.partition(";")[0].strip().casefold()
    if _JSON_TYPE.fullmatch(mime):
        if not is_json(raw):
            json.parse_object(raw)  # raises an error that names the fault in it as JSON
    elif mime != _FORM_TYPE:
        raise ParseError(
            "neither JSON nor an urlencoded form: set the webhook's content type to one of them"
        )


def find_envelope(fields: RawFields) -> Envelope:
    """Return Formstack's own fields of a body, as text of at most 200 characters each."""
    values: dict[str, list[str]] = {name: [] for name in ENVELOPE_FIELDS}
    for label, value in fields:
        name = find_field(label)
        if name in ENVELOPE_FIELDS:
            is_secret_text = name == "secret" and isinstance(value, str)
            text = str(value) if is_secret_text else parse_answer(label, value).text
            values[name].append(text[:_MAX_ENVELOPE_VALUE])
    return Envelope(
        form=next(filter(None, values["form"]), ""),
        submission=next(filter(None, values["submission"]), ""),
        secrets=tuple(values["secret"]),
    )


def parse(raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Parse a JSON object or an urlencoded form into a list of exactly one item.

    `external_id` is "FormID/UniqueID", or empty where either is missing or odd; the ticket's text
    has a line "Label: value" for every answered field, the description first; the HandshakeKey is
    in none of it. The form's settings in `options` count more than what its labels seem to mean.
    Raises ParseError when the bytes are neither, or larger than any form. Source: Formstack's
    webhook documentation.
    """
    fields = parse_fields(raw)
    envelope = find_envelope(fields)
    form = next((one for one in options.forms if one.form == envelope.form), None)
    answers = _assign_fields(fields, form)
    email, phone, guess_caveats = _find_ways_to_reach(answers)
    sender, sender_caveats = normalize.parse_sender(_find_name(answers), email)
    files, answers = _take_files(answers)
    has_form_id = _ID.fullmatch(envelope.form) is not None
    submission_id = envelope.submission if _ID.fullmatch(envelope.submission) else ""
    item = InboundItem(
        format=Format.FORMSTACK,
        external_id=f"{envelope.form}/{submission_id}" if has_form_id and submission_id else "",
        submission_id=submission_id,
        sender=sender,
        company=normalize.to_one_line(_find_first(answers, "company")),
        company_number=normalize.to_one_line(_find_first(answers, "company_number")),
        phone=normalize.to_one_line(phone),
        category=normalize.to_one_line(_find_first(answers, "category")),
        subject=normalize.to_one_line(_find_first(answers, "subject")),
        text="\n".join(f"{answer.label}: {answer.text}" for answer in _list_shown_answers(answers)),
        details=tuple(
            (answer.label, answer.text)
            for name, answer in answers
            if name in {"", "file"} and answer.text
        ),
        telemedicine=_is_telemedicine(answers),
        file_urls=files.links,
        attachments=files.attachments,
    )
    item = _add_defaults(item, answers, form)
    is_known = form is not None or not options.forms
    caveats = (
        *_list_envelope_caveats(item, envelope.form, is_known=is_known),
        *_correct_caveats(sender_caveats, answers),
        *guess_caveats,
        *_list_caveats(item, answers),
    )
    return [replace(item, caveats=caveats)]


def _parse_urlencoded(raw: bytes) -> RawFields:
    """Return names and values; a bad percent sign or bad UTF-8 costs a character, not the form."""
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


# -- meaning of a field ----


@dataclass(frozen=True, slots=True)
class _Reading:
    """A field with its answer, and the field of ours it is taken for."""

    answer: Answer
    name: str  # our field, "" for none
    by_settings: str  # the field that the settings of the form name, "" for none
    by_words: str = ""  # the field that the words of a sentence mean, "" for none

    @property
    def is_answered(self) -> bool:
        """True where the answer has a text."""
        return self.answer.text != ""

    @property
    def is_by_settings(self) -> bool:
        """True where the field is the one of the settings, or both are none."""
        return self.name == self.by_settings


def _assign_fields(fields: RawFields, form: FormMap | None) -> FieldAnswers:
    """Return each answer with the field of ours that it is for.

    The settings of the form count most, then the label, then its words where it is a sentence, then
    the field type. Where a field that the settings name is answered, nothing else that looks like
    it counts as that field.
    """
    settings = dict(form.fields) if form else {}
    readings = [_read_field(label, value, settings) for label, value in fields]
    readings = _add_fields_by_words(_prefer_settings(readings))
    fields_by_type = _list_fields_by_type({one.name for one in readings if one.is_answered})
    return [_name_by_field(_choose_field(one, fields_by_type), one.answer) for one in readings]


def _choose_field(reading: _Reading, fields_by_type: dict[str, str]) -> str:
    by_type = fields_by_type.get(reading.answer.field_type, "")
    if by_type in _PERSONAL_FIELDS and is_about_others(reading.answer.label):
        by_type = ""
    return reading.name or by_type


def _add_fields_by_words(readings: list[_Reading]) -> list[_Reading]:
    """Return the fields with those whose label is a sentence, unless a plain label has the answer.

    Of a person's address, say, the plain label is theirs; a sentence may ask for another.
    """
    answered = {one.name for one in readings if one.name and one.is_answered} - {"description"}
    if not answered.isdisjoint(NAME_FIELDS):
        answered |= NAME_FIELDS
    return [
        replace(one, name=one.by_words)
        if not one.name and not one.by_settings and one.by_words not in answered
        else one
        for one in readings
    ]


def _prefer_settings(readings: list[_Reading]) -> list[_Reading]:
    """Return the fields without those that only look like one the settings name, and answered."""
    settled_fields = {one.by_settings for one in readings if one.by_settings and one.is_answered}
    if not settled_fields.isdisjoint(NAME_FIELDS):
        settled_fields |= NAME_FIELDS
    return [
        replace(one, name="") if one.name in settled_fields and not one.is_by_settings else one
        for one in readings
    ]


def _read_field(label: str, value: Json, settings: dict[str, str]) -> _Reading:
    """Return a field as the settings or else its label have it; an envelope is never reassigned."""
    by_settings = settings.get(normalize.fold_label(label, settings), "")
    label = clean_label(label)
    by_settings = by_settings or settings.get(normalize.fold_label(label, settings), "")
    by_label = find_field(label)
    name = by_label if by_label in ENVELOPE_FIELDS else by_settings or by_label
    by_words = "" if name else find_field_by_words(label)
    answer = parse_answer(label, value, means_name="name" in {name, by_words})
    return _Reading(answer, name, by_settings, by_words)


def _list_fields_by_type(answered_fields: set[str]) -> dict[str, str]:
    """Return the field that a field type stands for, without those that are answered already.

    Files are never answered: there may be several.
    """
    if not answered_fields.isdisjoint(NAME_FIELDS):
        answered_fields = answered_fields | {"name"}
    return {
        field_type: name
        for field_type, name in FIELDS_BY_TYPE.items()
        if name == "file" or name not in answered_fields
    }


def _name_by_field(name: str, answer: Answer) -> tuple[str, Answer]:
    """Return the answer under our word for it where the form sends a number for a label."""
    if name and name not in ENVELOPE_FIELDS and answer.label.isdecimal():
        answer = replace(answer, label=name.replace("_", " ").capitalize())
    return name, answer


# -- content of the item ----


def _find_first(answers: FieldAnswers, field_name: str) -> str:
    """Return the first answer for a field of ours, "" where there is none."""
    return next((answer.text for name, answer in answers if name == field_name and answer.text), "")


def _join(answers: FieldAnswers, field_name: str) -> str:
    return " ".join(answer.text for name, answer in answers if name == field_name)


def _find_ways_to_reach(answers: FieldAnswers) -> tuple[str, str, list[str]]:
    """Return e-mail address and phone number of the sender, "" for none, and caveats.

    Where no label asks for one, the only answer that is nothing but an address or a number is
    taken, with a caveat: a label may ask "Where shall we send it?".
    """
    email, phone, caveats = _join(answers, "email"), _find_first(answers, "phone"), []
    others = [
        answer
        for name, answer in answers
        if name not in HIDDEN_FIELDS and name != "description" and not is_about_others(answer.label)
    ]
    if not email.strip() and not normalize.find_emails(_find_name(answers)):
        found = [one.text for one in others if _is_only_address(one.text)]
        if len(found) == 1:
            email = found[0]
            caveats.append(GUESSED_EMAIL)
    if not phone:
        unnamed = {id(answer) for name, answer in answers if not name}
        found = [
            one.text
            for one in others
            if id(one) in unnamed and _PHONE.fullmatch(one.text) and not _FAX.search(one.label)
        ]
        if len(found) == 1:
            phone = found[0]
            caveats.append(GUESSED_PHONE)
    return email, phone, caveats


def _is_only_address(text: str) -> bool:
    return normalize.find_emails(text) == (text.strip(),)


def _list_shown_texts(answers: FieldAnswers) -> list[str]:
    return [answer.text for name, answer in answers if name not in HIDDEN_FIELDS]


def _correct_caveats(caveats: tuple[str, ...], answers: FieldAnswers) -> tuple[str, ...]:
    """Return the caveats on the sender, corrected where an address stands in another answer."""
    has_address = any(map(normalize.find_emails, _list_shown_texts(answers)))
    return tuple(
        OTHER_EMAIL if caveat == normalize.NO_EMAIL and has_address else caveat
        for caveat in caveats
    )


def _find_name(answers: FieldAnswers) -> str:
    first, last = _find_first(answers, "first_name"), _find_first(answers, "last_name")
    return _find_first(answers, "name") or f"{first} {last}".strip()


def _take_files(answers: FieldAnswers) -> tuple[AnswerFiles, FieldAnswers]:
    """Return the files of all answers, and the answers without them.

    Where an answer is the file itself, the name of the file is the answer instead.
    """
    links: list[str] = []
    attachments: list[Attachment] = []
    remaining: FieldAnswers = []
    for name, answer in answers:
        if name in HIDDEN_FIELDS:
            files = NO_FILES
        else:
            files = find_files(
                answer.text, is_file_field=name == "file", number=len(attachments) + 1
            )
        links += files.links
        attachments += files.attachments
        file_names = ", ".join(file.name for file in files.attachments)
        remaining.append((name, replace(answer, text=file_names) if file_names else answer))
    return AnswerFiles(tuple(dict.fromkeys(links)), tuple(attachments)), remaining


def _list_shown_answers(answers: FieldAnswers) -> list[Answer]:
    """Return every answered field of the customer, the description before the others."""
    description = [answer for name, answer in answers if name == "description"]
    others = [
        answer for name, answer in answers if name != "description" and name not in HIDDEN_FIELDS
    ]
    return [answer for answer in (*description, *others) if answer.text]


def _is_telemedicine(answers: FieldAnswers) -> bool:
    if _find_first(answers, "telemedicine").casefold() not in _NO:
        return True
    words = f"{_join(answers, 'category')} {_join(answers, 'subject')}"
    return normalize.TELEMEDICINE.search(words) is not None


def _add_defaults(item: InboundItem, answers: FieldAnswers, form: FormMap | None) -> InboundItem:
    """Return the item with the defaults of its form's settings where the form has no answer."""
    defaults = dict(form.defaults) if form else {}
    telemedicine = defaults.pop("telemedicine", "").casefold() not in _NO
    is_answered = _find_first(answers, "telemedicine") != ""
    missing = {
        name: normalize.to_one_line(value)
        for name, value in defaults.items()
        if not getattr(item, name)
    }
    return replace(
        item,
        telemedicine=item.telemedicine or (telemedicine and not is_answered),
        **missing,  # type: ignore[arg-type]  # all of them text
    )


def _list_envelope_caveats(item: InboundItem, form: str, *, is_known: bool) -> list[str]:
    caveats = {
        "the form does not say which form it is (FormID)": not _ID.fullmatch(form),
        "the form is not known: it has no [form.ID] in the settings": bool(form) and not is_known,
        "no link to the submission: its UniqueID is missing or odd": not item.submission_id,
    }
    return [caveat for caveat, applies in caveats.items() if applies]


def _list_caveats(item: InboundItem, answers: FieldAnswers) -> list[str]:
    labels = [answer.label for _, answer in answers]
    has_phone = any(map(_PHONE.search, _list_shown_texts(answers)))
    has_bare_numbers = any(
        answer.label.isdecimal() and answer.text for name, answer in answers if not name
    )
    caveats = {
        NO_PHONE: not item.phone and not has_phone,
        OTHER_PHONE: not item.phone and has_phone,
        "practice not given": not (item.company or item.company_number),
        "several fields of the form have the same label: all their values are kept": (
            len(set(labels)) < len(labels)
        ),
        "fields come by number: name them under [form.ID] in the settings": has_bare_numbers,
    }
    return [caveat for caveat, applies in caveats.items() if applies]
