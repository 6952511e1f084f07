"""Looks for patient data in a mail before it leaves.

Pure, and shy of false alarms in ordinary billing words.

A warning that comes with every mail is clicked away unread. So numbers count only beside a word
that says what they are (or in a form nothing else has), a date only as a date of birth, a name only
where it is known or introduced.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class PatientDataKind(StrEnum):
    """What was found, in words for people; the audit trail gets no more than these."""

    BIRTH = "a date of birth"
    SSN = "a Social Security number"
    RECORD = "a patient's or medical record number"
    MEMBER = "a member or policy number"
    DIAGNOSIS = "a diagnosis code"
    NAME = "a patient's name"
    SUBJECT = "the customer's own subject"


@dataclass(frozen=True)
class Finding:
    """Where in the text something lies: `text[start:end]`."""

    kind: PatientDataKind
    start: int
    end: int


@dataclass(frozen=True)
class KnownPatientData:
    """What a ticket says of its patients, to be looked for word for word."""

    names: frozenset[str] = field(default=frozenset())
    values: frozenset[tuple[PatientDataKind, str]] = field(default=frozenset())
    subjects: frozenset[str] = field(default=frozenset())


_APOSTROPHE = "'\u2019"  # typed, and as word processors make it
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = (
    rf"(?:\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{2,4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH},?\s+\d{{2,4}})"
)
# between what a number is and the number
_IS = r"(?:\s*(?:is|was|of|on|no\.?|number|nr\.?|id)\b|\s*[.#:=()-])*\s*"
_NO_DATE = r"(?!\d{4}-\d\d?-\d\d?\b|\d\d?-\d\d?-\d{4}\b)"
# four digits or more, letters among them
_NUMBER = rf"{_NO_DATE}(?=(?:[A-Z-]*\d){{4}})[A-Z0-9][A-Z0-9-]{{3,19}}\b"
_LONG_NUMBER = rf"(?=(?:[A-Z-]*\d){{6}}){_NUMBER}"  # after a word that years and counts follow, too
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
# Words in capitals that follow "Patient" without being a name: "Patient Portal", "Patient
# Responsibility".
_NO_NAME = (
    "Access|Account|Advocate|Aid|Balance|Benefit|Bill|Billing|Call|Care|Center|Charges?|Collections?|Communication|"
    "Complaint|Consent|Copay|Credit|Data|Demographics|Eligibility|Encounter|Estimate|File|Financial|Form|Forms|First|"
    "Group|Id|Patient|Patients|Information|Insurance|Intake|Invoice|Last|Ledger|List|Log|Media|Messages?|Name|Number|Payments?|Phone|"
    "Pay|Portal|Protection|Question|Receipt|Record|Records|Refund|Registration|Reminder|Report|Request|"
    "Responsibility|Safety|Satisfaction|Services?|Statement|Statements|Support|Survey|Transactions?|Visit"
)
_CAPITALISED = rf"(?!(?:{_NO_NAME})\b)[A-Z][a-z{_APOSTROPHE}-]+[A-Za-z]*"
_INTRODUCED = re.compile(
    rf"\b[Pp]atient(?:[{_APOSTROPHE}]s)?(?: [Nn]ame)?(?:\s*[:=]\s*|\s+(?:is\s+|was\s+|named?\s+)?)"
    rf"(?:M(?:r|rs|s|iss)\.?\s+)?"
    rf"{_CAPITALISED}(?:,?\s+(?:[A-Z]\.\s+)?{_CAPITALISED})"
)
_WORDS = 2  # a name or a subject of one word is a word like any other
_LONG = 4  # words of a subject that ordinary text does not have by chance


def find_patient_data(text: str, known: KnownPatientData | None = None) -> list[Finding]:
    """Return what looks like patient data, in the order of the text, none overlapping another."""
    known = known or KnownPatientData()
    found = [*_by_rule(text), *_by_name(text, known.names), *_by_value(text, known.values)]
    for subject in known.subjects:
        if _length(subject) >= _LONG:
            found += _word_for_word(text, subject, PatientDataKind.SUBJECT)
    return _apart(found)


def find_patient_data_in_subject(subject: str, known: KnownPatientData) -> list[Finding]:
    """The same for the subject of a mail, which nobody reads twice.

    Two words of the customer's are enough there.
    """
    theirs = (
        f
        for s in known.subjects
        if _length(s) >= _WORDS
        for f in _word_for_word(subject, s, PatientDataKind.SUBJECT)
    )
    return _apart([*find_patient_data(subject, known), *theirs])


def collect_known(
    details: Iterable[tuple[str, str]], subjects: Iterable[str], besides: Iterable[str] = ()
) -> KnownPatientData:
    """What the fields of a ticket's forms and exports say of patients.

    `besides` are names of others: the contacts.
    """
    others = {_folded(name) for name in besides}
    names, values = set(), set()
    for label, value in details:
        said = " ".join(value.split())
        kind = next((kind for kind, pattern in _LABELS if pattern.search(label)), None)
        if kind is PatientDataKind.NAME:
            if (
                _length(said) >= _WORDS
                and not re.search(r"[\d@_]|.{80}", said)
                and _folded(said) not in others
            ):
                names.add(said)
        # as _NUMBER
        elif kind is not None and sum(c.isdigit() for c in said) >= 4 and len(said) <= 40:  # noqa: PLR2004
            values.add((kind, said))
    plain = (
        re.sub(r"^(?:(?:re|fwd?|aw)\s*:\s*)+", "", s.strip(), flags=re.IGNORECASE) for s in subjects
    )
    return KnownPatientData(frozenset(names), frozenset(values), frozenset(s for s in plain if s))


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
                r"\b(?:patient|insured|subscriber|guarantor)s?(?:'s)?\b(?:.*\bname)?\s*[:?]?$|\bname"
                r" of (?:the )?patient"
            ),
        ),
    )
)


def split_by_finding(text: str, found: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """The text in pieces: (piece, what it looks like), "" for what is nothing."""
    at = 0
    for one in found:
        yield text[at : one.start], ""
        yield text[one.start : one.end], str(one.kind)
        at = one.end
    yield text[at:], ""


# -- one kind each ----


def _by_rule(text: str) -> Iterator[Finding]:
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield Finding(kind, *match.span())
    for match in _INTRODUCED.finditer(text):
        yield Finding(PatientDataKind.NAME, *match.span())


def _by_name(text: str, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        words = [w for w in re.split(r"[\s,]+", name) if len(w.strip(".")) > 1]
        if len(words) < _WORDS:
            continue
        first, last = (words[-1], words[0]) if "," in name else (words[0], words[-1])
        a, b = re.escape(first), re.escape(last)
        middle = rf"(?:\s+[\w.{_APOSTROPHE}-]{{1,20}}){{0,2}}?\s+"
        titled = rf"\b(?:patient|mrs?|ms|miss)\.?\s+{b}\b|\b{b}[{_APOSTROPHE}]s\b"
        for match in re.finditer(
            rf"\b{a}{middle}{b}\b|\b{b},\s*{a}\b|{titled}", text, re.IGNORECASE
        ):
            yield Finding(PatientDataKind.NAME, *match.span())


def _by_value(text: str, values: Iterable[tuple[PatientDataKind, str]]) -> Iterator[Finding]:
    for kind, value in values:
        yield from _word_for_word(text, value, kind)


def _word_for_word(text: str, words: str, kind: PatientDataKind) -> Iterator[Finding]:
    pattern = r"\s+".join(re.escape(w) for w in words.split())
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE):
        yield Finding(kind, *match.span())


def _apart(found: Iterable[Finding]) -> list[Finding]:
    """In order; of two that overlap the longer one."""
    kept: list[Finding] = []
    for one in sorted(found, key=lambda f: (f.start, -f.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def _folded(name: str) -> str:
    return " ".join(sorted(re.split(r"[\s,.]+", name.casefold()))).strip()


def _length(words: str) -> int:
    return len(words.split())
