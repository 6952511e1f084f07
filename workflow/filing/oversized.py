"""Caveat of a mail that was larger than the limit, and of which only a part was stored."""

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
    """Return what a delivery lacks and where the original is; "" for one that is complete.

    Earlier versions stored the header only, and nothing but the size about the rest.
    """
    if not is_oversized(envelope):
        return ""
    size, left_out = _format_size(envelope["oversized"]), envelope.get("left_out")
    if not isinstance(left_out, dict):
        return f"{LARGER_THAN_UNKNOWN.format(size=size)}; {HEADER_ONLY}"
    sentences = [LARGER.format(size=size, limit=_format_size(left_out.get("limit")))]
    if left_out.get("beginning_only"):
        sentences.append(BEGINNING_ONLY)
    parts = [f"{p['name']} ({_format_size(p['octets'])})" for p in left_out.get("parts", ())]
    if parts:
        more = [f"and {left_out['more']} more"] if left_out.get("more") else []
        sentences.append(MISSING.format(parts=", ".join([*parts, *more])))
    sentences.append(ORIGINAL.format(original=left_out.get("original", "")))
    return "; ".join(sentences)


def _format_size(octets: object) -> str:
    """Return a size for people: 41.3 MiB, 12 KiB."""
    number = octets if isinstance(octets, int) else 0
    if number >= KIB * KIB:
        return f"{number / KIB / KIB:.1f} MiB"
    return f"{max(1, round(number / KIB))} KiB"
