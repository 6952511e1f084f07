"""Finds patient data (PHI) in a mail before it is sent.

Pure functions with few false alarms: a warning that comes with every mail is dismissed unread. So a
number counts only beside a word that says what it is (or in a format nothing else has), a date only
as a date of birth, a name only where it is known from the ticket or introduced by a word.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class PatientDataKind(StrEnum):
    """Kind of patient data, in words for people; the audit log gets these and no more."""

    BIRTH = "a date of birth"
    SSN = "a Social Security number"
    RECORD = "a patient's or medical record number"
    MEMBER = "a member or policy number"
    DIAGNOSIS = "a diagnosis code"
    NAME = "a patient's name"
    SUBJECT = "the customer's own subject"


@dataclass(frozen=True)
class Finding:
    """A place in a text that looks like patient data: `text[start:end]`."""

    kind: PatientDataKind
    start: int
    end: int


@dataclass(frozen=True)
class KnownPatientData:
    """Patient data known from a ticket, to be found literally in a mail.

    `subjects` are those of the customer's messages, which may name a patient.
    """

    names: frozenset[str] = field(default=frozenset())
    values: frozenset[tuple[PatientDataKind, str]] = field(default=frozenset())
    subjects: frozenset[str] = field(default=frozenset())


_APOSTROPHE = "'\u2019"  # as typed, and as word processors replace it
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = (
    rf"(?:\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{2,4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH},?\s+\d{{2,4}})"
)
# Between the word for a number and the number itself.
_IS = r"(?:\s*(?:is|was|of|on|no\.?|number|nr\.?|id)\b|\s*[.#:=()-])*\s*"
_NO_DATE = r"(?!\d{4}-\d\d?-\d\d?\b|\d\d?-\d\d?-\d{4}\b)"
# Four digits or more; A to Z may stand among them.
_NUMBER = rf"{_NO_DATE}(?=(?:[A-Z-]*\d){{4}})[A-Z0-9][A-Z0-9-]{{3,19}}\b"
# After words that are followed by years and counts as well.
_LONG_NUMBER = rf"(?=(?:[A-Z-]*\d){{6}}){_NUMBER}"
_CALLED = r"(?:'s)? ?(?:id|number|no\b|nr\b|#|account)"
_L, _LN = (
    "[AC-HJKMNP-RT-Y]",
    "[AC-HJKMNP-RT-Y0-9]",
)  # of Medicare's identifier: none of B, I, L, O, S, Z
_PAYER = "member|subscriber|policy|insured|insurance|medicare|medicaid"
_RULES: tuple[tuple[PatientDataKind, str], ...] = (
    (
        PatientDataKind.BIRTH,
        rf"\b(?:d\.?o\.?b\b\.?|date of birth|birth ?date|birthday|born){_IS}{_DATE}",
    ),
    (PatientDataKind.SSN, r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    (
        PatientDataKind.SSN,
        rf"\b(?:ssn|social security|soc\.? sec\.?){_IS}(?:\d{{3}}[- ]?\d{{2}}[- ]?)?\d{{4}}\b",
    ),
    (PatientDataKind.RECORD, rf"\bmrn{_IS}{_NUMBER}"),
    (
        PatientDataKind.RECORD,
        rf"\b(?:emr|medical record|chart|patient|pt\.?){_CALLED}{_IS}{_NUMBER}",
    ),
    (PatientDataKind.MEMBER, rf"\b(?:{_PAYER}|beneficiary|mbi|hicn){_CALLED}{_IS}{_NUMBER}"),
    (PatientDataKind.MEMBER, rf"\b(?:mbi|hicn|policy|subscriber){_IS}{_LONG_NUMBER}"),
    (PatientDataKind.MEMBER, rf"\b[1-9]{_L}{_LN}\d-?{_L}{_LN}\d-?{_L}{{2}}\d\d\b"),
    (
        PatientDataKind.DIAGNOSIS,
        r"\b(?:icd|diagnos\w*|dx|ddx)\b[^\n]{0,60}?\b[A-TV-Z]\d[0-9AB](?:\.[0-9A-Z]{1,4})?\b",
    ),
)
_PATTERNS = tuple((kind, re.compile(rule, re.IGNORECASE)) for kind, rule in _RULES)
# Capitalised words after "Patient" that are not a name: "Patient Portal", "Patient Responsibility".
_NO_NAME = (
    "Access|Account|Advocate|Aid|Balance|Benefit|Bill|Billing|Call|Care|Center|"
    "Charges?|Collections?|Communication|Complaint|Consent|Copay|Credit|Data|"
    "Demographics|Eligibility|Encounter|Estimate|File|Financial|Form|Forms|First|"
    "Group|Id|Patient|Patients|Information|Insurance|Intake|Invoice|Last|Ledger|List|"
    "Log|Media|Messages?|Name|Number|Payments?|Phone|Pay|Portal|Protection|Question|"
    "Receipt|Record|Records|Refund|Registration|Reminder|Report|Request|Responsibility|"
    "Safety|Satisfaction|Services?|Statement|Statements|Support|Survey|Transactions?|"
    "Visit"
)
_CAPITALISED = rf"(?!(?:{_NO_NAME})\b)[A-Z][a-z{_APOSTROPHE}-]+[A-Za-z]*"
_INTRODUCED = re.compile(
    rf"\b[Pp]atient(?:[{_APOSTROPHE}]s)?(?: [Nn]ame)?(?:\s*[:=]\s*|\s+(?:is\s+|was\s+|named?\s+)?)"
    rf"(?:M(?:r|rs|s|iss)\.?\s+)?"
    rf"{_CAPITALISED}(?:,?\s+(?:[A-Z]\.\s+)?{_CAPITALISED})"
)
_REPLY_PREFIX = re.compile(r"^(?:(?:re|fwd?|aw)\s*:\s*)+", re.IGNORECASE)
_WORDS = 2  # a name or a subject of one word is a word like any other
_LONG = 4  # words of a subject that ordinary text does not have by chance


def find_patient_data(text: str, known_data: KnownPatientData | None = None) -> list[Finding]:
    """Return what looks like patient data, in the order of the text, without overlaps."""
    known_data = known_data or KnownPatientData()
    findings = [
        *_find_by_rules(text),
        *_find_names(text, known_data.names),
        *_find_values(text, known_data.values),
    ]
    for subject in known_data.subjects:
        if _count_words(subject) >= _LONG:
            findings += _find_literally(text, subject, PatientDataKind.SUBJECT)
    return _drop_overlaps(findings)


def find_patient_data_in_subject(subject: str, known_data: KnownPatientData) -> list[Finding]:
    """Return what looks like patient data in the subject of a mail.

    Two words of a customer's subject are enough there, because nobody reads a subject twice.
    """
    quotations = (
        f
        for s in known_data.subjects
        if _count_words(s) >= _WORDS
        for f in _find_literally(subject, s, PatientDataKind.SUBJECT)
    )
    return _drop_overlaps([*find_patient_data(subject, known_data), *quotations])


def collect_known_data(
    details: Iterable[tuple[str, str]], subjects: Iterable[str], other_names: Iterable[str] = ()
) -> KnownPatientData:
    """Return the patient data in the fields of a ticket's forms and exports.

    `details` are (label, value); `other_names` are names of contacts and companies, which are not
    patients.
    """
    others = {_normalize_name(name) for name in other_names}
    names, values = set(), set()
    for label, raw_value in details:
        value = " ".join(raw_value.split())
        kind = _get_kind_of_field(label)
        if kind is PatientDataKind.NAME:
            if _is_full_name(value) and _normalize_name(value) not in others:
                names.add(value)
        elif kind is not None and _is_number(value):
            values.add((kind, value))
    plain_subjects = {_REPLY_PREFIX.sub("", subject.strip()) for subject in subjects} - {""}
    return KnownPatientData(frozenset(names), frozenset(values), frozenset(plain_subjects))


def _get_kind_of_field(label: str) -> PatientDataKind | None:
    return next((kind for kind, pattern in _LABELS if pattern.search(label)), None)


def _is_full_name(value: str) -> bool:
    return _count_words(value) >= _WORDS and not re.search(r"[\d@_]|.{80}", value)


def _is_number(value: str) -> bool:
    # Four digits, as in _NUMBER; a longer value is a sentence that contains a number.
    return sum(c.isdigit() for c in value) >= 4 and len(value) <= 40  # noqa: PLR2004


_LABELS = tuple(
    (kind, re.compile(rule, re.IGNORECASE))
    for kind, rule in (
        (PatientDataKind.BIRTH, r"\b(?:dob|d\.o\.b|birth)"),
        (PatientDataKind.SSN, r"\b(?:ssn|social security)"),
        (PatientDataKind.MEMBER, rf"\b(?:{_PAYER})\b.*(?:\bid\b|\bn[or]\b|number|#)"),
        (
            PatientDataKind.RECORD,
            r"\bmrn\b|\b(?:patient|chart|record)\b.*(?:\bid\b|\bn[or]\b|number|#|account)",
        ),
        (
            PatientDataKind.NAME,
            (
                r"\b(?:patient|insured|subscriber|guarantor)s?(?:'s)?\b(?:.*\bname)?\s*[:?]?$"
                r"|\bname of (?:the )?patient"
            ),
        ),
    )
)


def split_by_finding(text: str, findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Split a text into (piece, kind of patient data); the kind is "" between the findings."""
    end = 0
    for finding in findings:
        yield text[end : finding.start], ""
        yield text[finding.start : finding.end], str(finding.kind)
        end = finding.end
    yield text[end:], ""


def _find_by_rules(text: str) -> Iterator[Finding]:
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield Finding(kind, *match.span())
    for match in _INTRODUCED.finditer(text):
        yield Finding(PatientDataKind.NAME, *match.span())


def _find_names(text: str, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        words = [w for w in re.split(r"[\s,]+", name) if len(w.strip(".")) > 1]
        if len(words) < _WORDS:
            continue
        first, last = re.escape(words[0]), re.escape(words[-1])
        if "," in name:  # "Last, First"
            first, last = last, first
        between = rf"(?:\s+[\w.{_APOSTROPHE}-]{{1,20}}){{0,2}}?\s+"
        titled = rf"\b(?:patient|mrs?|ms|miss)\.?\s+{last}\b|\b{last}[{_APOSTROPHE}]s\b"
        pattern = rf"\b{first}{between}{last}\b|\b{last},\s*{first}\b|{titled}"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield Finding(PatientDataKind.NAME, *match.span())


def _find_values(text: str, values: Iterable[tuple[PatientDataKind, str]]) -> Iterator[Finding]:
    for kind, value in values:
        yield from _find_literally(text, value, kind)


def _find_literally(text: str, words: str, kind: PatientDataKind) -> Iterator[Finding]:
    pattern = r"\s+".join(re.escape(w) for w in words.split())
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE):
        yield Finding(kind, *match.span())


def _drop_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in the order of the text; of two that overlap, the first or longer."""
    result: list[Finding] = []
    for finding in sorted(findings, key=lambda f: (f.start, -f.end)):
        if not result or finding.start >= result[-1].end:
            result.append(finding)
    return result


def _normalize_name(name: str) -> str:
    """Return a name for comparison: case-folded words in alphabetical order."""
    return " ".join(sorted(re.split(r"[\s,.]+", name.casefold()))).strip()


def _count_words(text: str) -> int:
    return len(text.split())
