"""Parser of the dates of mail, by mail-parser: RFC 5322 with its obsolete forms (§3.3, §4.3).

mail-parser reads nested comments, years of two digits, zones by name, leap seconds, and -0000, for
which the standard library gives no instant: 16 of 688 dates of real mails. Dates that it refuses go
to the standard library, which reads a weekday without its comma and digits too many or too few: 3
of the same 688.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mailparser.dates import parse_mail_date

from parsers.mail.syntax.headers import Fields

MAX_DATE = 2000  # bytes of a date with its comments
_MAX_DAMAGED = 200  # characters of a date that mail-parser refuses


def find_date(fields: Fields) -> datetime | None:
    """Return the first Date field of a mail in UTC; None where its instant is not certain.

    A date without a zone has no certain instant: nothing is guessed.
    """
    value = next(iter(fields.find_all("date")), b"")[:MAX_DATE].translate(None, b"\r\n\0")
    try:
        date: datetime | None = parse_mail_date(value.decode("ascii", "surrogateescape")).value
    except (ArithmeticError, LookupError, TypeError, ValueError):
        date = None
    return _parse_damaged(fields) if date is None else date.astimezone(UTC)


def _parse_damaged(fields: Fields) -> datetime | None:
    try:
        date = parsedate_to_datetime(fields.find_text("date")[:_MAX_DAMAGED])
        return date.astimezone(UTC) if date.tzinfo is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
