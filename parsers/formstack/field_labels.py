"""Labels of Formstack fields and the fields of ours that they mean: a new label goes in here."""

import html
import re
from functools import lru_cache

from parsers.text import normalize, vocabulary

# A form's label, folded by `normalize.fold_label` -> our field. Others are kept in `details`.
FIELDS_BY_LABEL = {
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
        "email": [*vocabulary.EMAIL, "work email", "business email", "reply email"],
        "phone": [
            *vocabulary.PHONE,
            "best phone number",
            "work phone",
            "office phone",
            "daytime phone",
        ],
        "company": [*vocabulary.COMPANY],
        "company_number": [*vocabulary.COMPANY_NUMBER],
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
# With "include field type" a form has the type of a field whose label means nothing ("Q3", a bare
# field id).
FIELDS_BY_TYPE = {
    "email": "email",
    "phone": "phone",
    "name": "name",
    "file": "file",
    "textarea": "description",
}
# Formstack's own, not the customer's: never part of the text.
ENVELOPE_FIELDS = {"form", "submission", "secret"}
HIDDEN_FIELDS = {*ENVELOPE_FIELDS, "ignore"}  # and those that our settings leave out
NAME_FIELDS = {"name", "first_name", "last_name"}

_LEADING_WORDS = re.compile(r"^(?:(?:your|my|our|the|please|enter|provide|select|choose|best) )+")


def find_field(label: str) -> str:
    """Return our field for a label that is one of our words, "" for any other."""
    return _find_field(label[: normalize.MAX_LINE_LENGTH])


@lru_cache(maxsize=1024)  # the same few forms, again and again
def _find_field(label: str) -> str:
    folded = normalize.fold_label(label, FIELDS_BY_LABEL)
    return FIELDS_BY_LABEL.get(folded) or FIELDS_BY_LABEL.get(_LEADING_WORDS.sub("", folded), "")


# -- labels that are sentences ----

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>")
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_NO_WORD = re.compile(r"[^\w]+")
# Somebody else's, or another thing's: not the person who fills in the form.
_OTHERS = frozenset(
    """
    patient patients payer payers insurer insurance insured member subscriber guarantor
    provider providers doctor physician supervisor emergency spouse alternate alternative
    secondary second other another additional cc npi tin ein tax taxonomy user username login
    product file website pharmacy lab laboratory vendor clearinghouse
    """.split()  # noqa: SIM905  # a list to be read
)
# A question that begins with one of these is answered by yes or no, or by a time, place or reason.
_NO_VALUE = frozenset(
    """
    do does did is are was were should may can could would will have has shall how when where
    why if
    """.split()  # noqa: SIM905  # a list to be read
)
_ASK_FOR = re.compile(
    r"(?:can|could|would|will|may) (?:you|we|i) (?:please |kindly )?"
    r"(?:have|get|ask|give|tell|provide|describe|explain|share|know)\b"
)
_DESCRIBE = re.compile(
    r"\b(?:describe|explain|elaborate|tell us|let us know|in detail|give details|provide details"
    r"|share details|details (?:of|about|on|regarding)|what happened|what is wrong|what s wrong"
    r"|what s going on|what is going on|how (?:can|may) (?:we|i) help|what can we do for you"
    r"|what do you need|what would you like|what can we help|summari[sz]e)\b"
)
_MATTER = re.compile(
    r"\b(?:issue|problem|question|concern|request|inquiry|enquiry|message|matter|comments?"
    r"|situation)s?\b"
)
_KIND = re.compile(r"\b(?:type|kind|category|categories|nature|area|department|priority|urgency)\b")
_ABOUT = re.compile(r"\b(?:about|regarding|concerning|subject|topic)\b")
_EMAIL = re.compile(r"\be ?mails?\b|\bmail address\b")
_PHONE = re.compile(
    r"\b(?:tele)?phones?\b|\bcell\b|\bmobile\b|\bcall ?back\b"
    r"|\b(?:what|which|best|good|direct) (?:\w+ )?number\b.*\b(?:reach|call|contact|text)\b"
    r"|\bnumber (?:to|where|at which|on which|can|we can)\b.*\b(?:reach|call|contact)\b"
)
_PREFERENCE = re.compile(r"\b(?:prefer\w*|method|way)\b")
_NAMES_VALUE = re.compile(r"\b(?:address|number)\b")
_PRACTICE = re.compile(
    r"\b(?:practice|clinic|company|office|organi[sz]ation|facility|business|hospital"
    r"|medical group|group practice|employer)s?\b"
)
# Small practices go by the name of their provider: "Provider / practice name".
_PROVIDER_OR_PRACTICE = re.compile(
    r"\b(?:provider|doctor|physician) (?:or |and )?(?:practice|clinic|group|facility) name\b"
    r"|\bname of (?:the |your )?(?:provider|doctor|physician) (?:or |and )?(?:practice|clinic)\b"
)
_NUMBER = re.compile(r"\b(?:id|ids|number|no|nr|num|identifier|code)\b")
_NUMBERED = re.compile(r"\b(?:kareo|tebra|account|customer|client)\b")
_COUNTED = re.compile(r"\b(?:number|how many|amount|count) of\b|\bhow many\b")
# What a practice has, beside its name and number.
_OF_PRACTICE = re.compile(
    r"\b(?:address|street|city|state|zip|county|country|location|type|kind|size|specialty|hours"
    r"|software|system|manager|administrator|owner|staff|ein|website|url|fax|date|years?|role|title"
    r"|position|department|closed|open)\b"
)
_WHO = re.compile(
    r"\bwho (?:is|are|s|was|will|should|can|do|submitted|sent|reported|completed|filled)\b"
    r"|\b(?:submitted|completed|reported|requested|prepared|filled (?:in|out)|sent) by\b"
    r"|\b(?:person|individual|employee|contact) (?:submitting|completing|reporting|requesting"
    r"|filling|making|sending|to contact|for)\b|\bcontact person\b"
    r"|\b(?:identify|introduce) yourself\b"
)
_NAME_WORDS = frozenset(
    """
    what is s your my our the a of please enter provide type full complete legal name names
    person contact submitter requester requestor caller customer client sender staff employee
    individual first last and here in print who are you we i with whom am to title role position
    """.split()  # noqa: SIM905  # a list to be read
)


def clean_label(label: str) -> str:
    """Return a label as people read it: without the HTML that a form's author put into it."""
    if "<" not in label and "&" not in label:
        return label
    plain = html.unescape(_TAG.sub(" ", label[: 4 * normalize.MAX_LINE_LENGTH]))
    return " ".join(plain.split())


def find_field_by_words(label: str) -> str:
    """Return our field for a label that is a sentence of the form's author, "" for none.

    For example "email" for "What is your email address?", "company" for "Which clinic are you
    with?" and "" for "Should we answer by email?", which asks for no address.
    """
    return _find_field_by_words(label[: normalize.MAX_LINE_LENGTH])


def is_about_others(label: str) -> bool:
    """Return whether a label asks about somebody other than who fills in the form."""
    words = _fold_words(label)
    if _PROVIDER_OR_PRACTICE.search(words):
        return False
    return not _OTHERS.isdisjoint(words.split())


def _fold_words(label: str) -> str:
    folded = normalize.fold_label(_ASIDE.sub(" ", label))
    return " ".join(_NO_WORD.sub(" ", folded.replace("_", " ")).split())


@lru_cache(maxsize=1024)
def _find_field_by_words(label: str) -> str:
    words = _fold_words(label)
    if not words:
        return ""
    if _DESCRIBE.search(words):
        return "description"
    first = words.partition(" ")[0]
    if first in _NO_VALUE and not _ASK_FOR.match(words):
        return _find_only_way_to_reach(words) if first in {"how", "where"} else ""
    return "" if is_about_others(label) else _find_asked(words, first)


def _find_asked(words: str, first: str) -> str:
    """Return the field that words ask for; `first` is the first of them."""
    if _EMAIL.search(words) or _PHONE.search(words):
        return _find_way_to_reach(words)
    if _WHO.search(words) and first not in {"what", "which"}:
        return "name"
    return _find_matter(words) or _find_practice(words) or _find_name(words)


def _find_only_way_to_reach(words: str) -> str:
    """Return "email" or "phone" for words that name one of them; "" for neither, or for both."""
    has_email, has_phone = bool(_EMAIL.search(words)), bool(_PHONE.search(words))
    if has_email == has_phone:
        return ""
    return "email" if has_email else "phone"


def _find_way_to_reach(words: str) -> str:
    """Return "email" or "phone" for words that name one; "" where they ask which is preferred."""
    only = _find_only_way_to_reach(words)
    if _NAMES_VALUE.search(words):
        return only or "email"
    return "" if _PREFERENCE.search(words) else only


def _find_matter(words: str) -> str:
    """Return the field for a question about the request itself, "" for any other."""
    if _PRACTICE.search(words) and not _MATTER.search(words):
        return ""
    if words.startswith(("subject ", "topic ")):
        return "subject"
    if _MATTER.search(words):
        return "category" if _KIND.search(words) else "description"
    return "subject" if _ABOUT.search(words) and words.startswith("what") else ""


def _find_practice(words: str) -> str:
    """Return the field for a question about the practice, "" for any other."""
    if _COUNTED.search(words) or _OF_PRACTICE.search(words):
        return ""
    is_practice = bool(_PRACTICE.search(words))
    if (is_practice or _NUMBERED.search(words)) and _NUMBER.search(words):
        return "company_number"
    return "company" if is_practice else ""


def _find_name(words: str) -> str:
    """Return the field for a question about who fills in the form, "" for any other."""
    parts = set(words.split())
    if _WHO.search(words):
        return "name"
    if parts & {"name", "names"} and parts <= _NAME_WORDS:
        has_first, has_last = "first" in parts, "last" in parts
        if has_first != has_last:
            return "first_name" if has_first else "last_name"
        return "name"
    return "name" if words in {"who are you", "your name"} else ""
