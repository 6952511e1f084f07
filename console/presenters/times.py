"""Times as text: ISO 8601 for scripts, short forms for people."""

from datetime import datetime


def format_iso(moment: datetime | None) -> str | None:
    """Return ISO 8601 in UTC, or None."""
    return moment.isoformat() if moment else None


def format_time(moment: str | None) -> str:
    """Return an ISO time in this machine's time zone, as `05 Mar 14:30`; a dash for none."""
    return datetime.fromisoformat(moment).astimezone().strftime("%d %b %H:%M") if moment else "–"


def format_ago(moment: str | None, at: str) -> str:
    """Return roughly how long `moment` was before `at`, as `3 h ago`; a dash for none."""
    if not moment:
        return "–"
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(moment)).total_seconds()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{max(0, int(seconds))} s ago"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, as `2 h 5 min`."""
    rest, parts = int(seconds), list[str]()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, unit)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"
