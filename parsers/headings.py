"""Which column of a table holds what, told by its headings alone: never by what the rows look like."""

from collections.abc import Sequence
from dataclasses import dataclass

from parsers import fields

# Our field -> headings it goes by, as `fields.label` folds them, the most telling first.
FIELDS: dict[str, list[str]] = {
    "body": ["message", "message body", "message text", "message content", "body", "text", "message details", "content",
             "details", "description", "comments", "comment", "notes", "note", "question"],
    "company": ["practice name", "practice", "company name", "company", "client name", "client", "customer name",
                "customer", "clinic name", "clinic", "account name", "organization", "facility", "facility name"],
    "company_number": ["practice id", "practice number", "practice no", "kareo practice id", "kareo id", "company id",
                       "client id", "customer id", "customer number", "account id", "account number", "account no",
                       "account"],
    "sender": ["from", "sender", "sender name", "from name", "sent by", "submitted by", "created by", "author",
               "contact", "contact name", "contact person", "user", "user name", "name", "full name"],
    "email": ["from email", "sender email", "from e mail", "contact email", "email address", "email", "e mail",
              "e mail address", "user email", "reply to"],
    "external_id": ["message id", "msg id", "message number", "message no", "msg no", "id", "message guid"],
    "thread_id": ["thread id", "conversation id", "thread", "conversation"],
    "sent_at": ["date received", "received date", "date time received", "received", "received at", "received on",
                "date sent", "sent date", "sent", "sent on", "sent at", "message date", "date", "date time",
                "created date", "date created", "created", "created on", "created at", "timestamp"],
    "clock": ["time received", "received time", "time sent", "sent time", "message time", "time"],
    "to": ["to", "recipient", "recipients", "sent to"],
    "subject": ["subject", "message subject", "title", "re", "issue", "topic"],
    "phone": ["phone", "phone number", "contact phone", "callback", "callback number", "call back number", "telephone",
              "telephone number", "mobile", "cell phone"],
    "category": ["category", "issue type", "message type", "request type", "type"],
    "link": ["link", "url", "message link", "message url"],
    "provider": ["provider", "provider name", "rendering provider", "rendering provider name", "doctor", "physician"],
    "attachments": ["attachments", "attachment", "files", "file", "attached files", "documents", "attachment links"],
    "status": ["status", "message status", "read unread", "read", "state"],
    "flagged": ["flagged", "flag", "is flagged", "starred", "important"],
    "patient": ["patient name", "patient", "patient full name"],
    "patient_id": ["patient id", "mrn", "medical record number", "patient number", "patient no", "chart number",
                   "chart no", "chart", "chart id", "patient mrn"],
    "birth_date": ["dob", "date of birth", "birth date", "birthdate", "patient dob", "patient date of birth"],
    "patient_data": ["patient reference", "ssn", "social security number", "encounter id", "encounter",
                     "date of service", "dos", "diagnosis", "insurance id", "member id", "subscriber id",
                     "policy number"],
}  # fmt: skip
_RANKS = {synonym: (field, rank) for field, listed in FIELDS.items() for rank, synonym in enumerate(listed)}
PATIENT_FIELDS = ("patient", "patient_id", "birth_date", "patient_data")  # shown among a ticket's details, nowhere else
KEPT_FIELDS = ("provider", "attachments", "status", "flagged", *PATIENT_FIELDS)  # an item has no place of their own
SENDER_FIELDS = ("company", "company_number", "sender", "email")
_LONGEST_HEADING = 60
SEARCHED = 30  # rows: titles and filters above a table are fewer


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading found: the columns of each field, best first; labels as written and as folded, by column."""

    columns: dict[str, list[int]]
    labels: dict[int, str]
    keys: dict[int, str]
    rows: int  # how many rows of the table are above its first message, titles included

    @property
    def missing(self) -> list[str]:
        """What has to be there and is not, in words for staff."""
        found = self.columns.keys()
        who = [] if found & set(SENDER_FIELDS) else ["the practice or the sender"]
        return [*([] if "body" in found else ["the message text"]), *who]

    def repeats(self, row: dict[int, str]) -> bool:
        """Tell a heading row repeated among the messages, as on every page of a printed report."""
        if not row or max(map(len, row.values())) > _LONGEST_HEADING:
            return False
        return all(self.keys.get(column) == fields.label(text, _RANKS) for column, text in row.items())


def find(rows: Sequence[dict[int, str]]) -> Heading | None:
    """Find the heading among a sheet's first rows (texts by column); None where no row has a heading of ours.

    What comes back may lack required fields: ask `missing`. A heading may be one row, or two, the upper one merged.
    """
    candidates = [
        heading for at in range(min(len(rows), SEARCHED)) for heading in _readings(rows, at) if heading.columns
    ]
    return min(candidates, key=lambda one: (len(one.missing), -len(one.columns)), default=None)


def _readings(rows: Sequence[dict[int, str]], at: int) -> list[Heading]:
    """The row as a heading by itself, and together with the next where all of that one's texts are headings too."""
    alone = _heading(rows[at], {}, at + 1)
    if at + 1 == len(rows):
        return [alone]
    both = _heading(_spread(rows[at], rows[at + 1]), rows[at + 1], at + 2)
    known = {column for columns in both.columns.values() for column in columns}
    is_heading = bool(rows[at + 1]) and rows[at + 1].keys() <= known and not alone.repeats(rows[at + 1])
    return [both, alone] if is_heading else [alone]


def _spread(upper: dict[int, str], lower: dict[int, str]) -> dict[int, str]:
    """Carry a merged upper heading over the columns it covers: Excel keeps its text in the first of them."""
    spread, last = dict(upper), ""
    for column in sorted(upper.keys() | lower.keys()):
        last = upper.get(column) or last
        spread[column] = last
    return spread


def _heading(upper: dict[int, str], lower: dict[int, str], rows: int) -> Heading:
    labels = {column: _label(upper.get(column, ""), lower.get(column, "")) for column in sorted(upper.keys() | lower)}
    keys = {column: fields.label(text, _RANKS) for column, text in labels.items() if text}
    ranked: dict[str, list[tuple[int, int]]] = {}
    for column, key in keys.items():
        if key in _RANKS and len(labels[column]) <= _LONGEST_HEADING:
            field, rank = _RANKS[key]
            ranked.setdefault(field, []).append((rank, column))
    return Heading(
        {field: [column for _, column in sorted(found)] for field, found in ranked.items()}, labels, keys, rows
    )


def _label(upper: str, lower: str) -> str:
    """The heading of a column under two rows: both together where we know that, else the lower, else the upper."""
    both = f"{upper} {lower}".strip()
    return both if not lower or fields.label(both, _RANKS) in _RANKS else lower
