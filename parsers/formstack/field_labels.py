"""Labels of Formstack fields and the fields of ours that they mean: a new label goes in here."""

import re
from functools import lru_cache

from parsers.text import normalize

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
# With "include field type" a form has the type of a field whose label means nothing ("Q3", a bare
# field id).
FIELDS_BY_TYPE = {"email": "email", "phone": "phone", "name": "name", "file": "file"}
# Formstack's own, not the customer's: never part of the text.
ENVELOPE_FIELDS = {"form", "submission", "secret"}
HIDDEN_FIELDS = {*ENVELOPE_FIELDS, "ignore"}  # and those that our settings leave out
NAME_FIELDS = {"name", "first_name", "last_name"}

_LEADING_WORDS = re.compile(r"^(?:(?:your|my|our|the|please|enter|provide|select|choose|best) )+")


def find_field(label: str) -> str:
    """Return our field for a label, "" if the label means nothing to us."""
    return _find_field(label[: normalize.MAX_LINE_LENGTH])


@lru_cache(maxsize=1024)  # the same few forms, again and again
def _find_field(label: str) -> str:
    folded = normalize.fold_label(label, FIELDS_BY_LABEL)
    return FIELDS_BY_LABEL.get(folded) or FIELDS_BY_LABEL.get(_LEADING_WORDS.sub("", folded), "")
