"""DMARC verdicts on the sender of a mail.

Only the verdict of our own mail server counts (RFC 8601 §5).
"""

import re

from parsers.item import InboundItem

_COMMENT = re.compile(r"\([^()]*\)")
_DMARC = re.compile(r"^\s*dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
FORGED_CAVEAT = (
    "the sender could not be verified (DMARC failed): make sure it is who it says before you answer"
)


def has_failed_dmarc(item: InboundItem, authserv_id: str) -> bool:
    """Return whether the mail server `authserv_id` has found that DMARC fails (RFC 9989).

    Authentication-Results with other names can be written by anybody. Several with our name count
    as none, because one of them must be forged.
    """
    ours = [
        v for v in item.authentication if authserv_id and _extract_id(v) == authserv_id.casefold()
    ]
    if len(ours) != 1:
        return False
    results = (_DMARC.match(part) for part in _COMMENT.sub(" ", ours[0]).split(";")[1:])
    return any(m[1].casefold() == "fail" for m in results if m)


def _extract_id(value: str) -> str:
    """Return the name of the server that wrote an Authentication-Results field."""
    words = _COMMENT.sub(" ", value).partition(";")[0].split()
    return words[0].casefold() if words else ""
