"""When waiting work may be taken up.

Once its time has come, and also after the clock has jumped back.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

DELIVERY_VISIBILITY_TIMEOUT = timedelta(
    seconds=60
)  # a delivery being read is left alone this long, then taken up again
# The clocks of two hosts differ a little, and whoever asks may have looked at its own before
# another wrote the row.
CLOCK_TOLERANCE = timedelta(minutes=5)


def is_visible(
    not_before: InstrumentedAttribute[datetime], now: datetime, longest: timedelta
) -> ColumnElement[bool]:
    """Return whether a row may be taken up now.

    `longest` is the longest wait anybody ever writes into it.

    What claims to wait longer was written while the clock was ahead, and would wait for it to come
    there again.
    """
    return or_(not_before <= now, not_before > now + longest + CLOCK_TOLERANCE)
