"""Visibility timeout: when a row of waiting work may be taken up by a worker."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

# A delivery that is being read is left alone for this time, then another worker takes it up.
DELIVERY_VISIBILITY_TIMEOUT = timedelta(seconds=60)
# The clocks of two hosts differ a little, and a worker may have read its own before another one
# wrote the row.
CLOCK_TOLERANCE = timedelta(minutes=5)


def is_visible(
    not_before: InstrumentedAttribute[datetime], now: datetime, longest: timedelta
) -> ColumnElement[bool]:
    """Return the condition that a row may be taken up now.

    `longest` is the longest wait that is ever written into `not_before`. A row that claims to wait
    longer was written while the clock was wrong, far ahead: it may be taken up at once, or it would
    wait until the clock gets there again.
    """
    return or_(not_before <= now, not_before > now + longest + CLOCK_TOLERANCE)
