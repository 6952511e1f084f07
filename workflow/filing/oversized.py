"""What a ticket says of a mail that was larger than the limit, and so came in part only."""

from collections.abc import Mapping
from typing import Any

KIB = 1024
LARGER = "this mail is larger than what is taken here: {size}, the limit is {limit}"
LARGER_THAN_UNKNOWN = "this mail is larger than what is taken here: {size}"
HEADER_ONLY = "only its header was taken"
BEGINNING_ONLY = "only its beginning was taken, a file in it may be cut"
MISSING = "missing here: {parts}"
ORIGINAL = "the whole mail lies in the mailbox {original}"


def is_oversized(envelope: Mapping[str, Any]) -> bool:
    """Return whether a delivery is a mail larger than the limit."""
    return "oversized" in envelope


def build_caveat(envelope: Mapping[str, Any]) -> str:
    """Return what is missing of a delivery and where the original lies; "" for one that came whole.

    Earlier versions took the header only and wrote down nothing but the size.
    """
    if not is_oversized(envelope):
        return ""
    octets, told = envelope["oversized"], envelope.get("left_out")
    if not isinstance(told, dict):
        return f"{LARGER_THAN_UNKNOWN.format(size=_size(octets))}; {HEADER_ONLY}"
    says = [LARGER.format(size=_size(octets), limit=_size(told.get("limit")))]
    if told.get("beginning_only"):
        says.append(BEGINNING_ONLY)
    if parts := [f"{part['name']} ({_size(part['octets'])})" for part in told.get("parts", ())]:
        more = [f"and {told['more']} more"] if told.get("more") else []
        says.append(MISSING.format(parts=", ".join([*parts, *more])))
    says.append(ORIGINAL.format(original=told.get("original", "")))
    return "; ".join(says)


def _size(octets: object) -> str:
    """Return a size for people: 41.3 MiB, 12 KiB."""
    number = octets if isinstance(octets, int) else 0
    if number >= KIB * KIB:
        return f"{number / KIB / KIB:.1f} MiB"
    return f"{max(1, round(number / KIB))} KiB"
