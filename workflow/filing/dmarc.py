"""Whether a mail is from whom it says.

The verdict of our own mail edge, and of nobody else (RFC 8601 §5).
"""

import re

from parsers.item import InboundItem

_COMMENT = re.compile(r"\([^()]*\)")
_DMARC = re.compile(r"^\s*dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
FORGED_CAVEAT = (
    "the sender could not be verified (DMARC failed): make sure it is who it says before you answer"
)


def has_failed_dmarc(item: InboundItem, authserv_id: str) -> bool:
    """Return whether the sender's domain disowns the mail.

    Found by the mail server of this name at our edge (RFC 9989).

    Headers in other names are anybody's claim. Several in ours are as good as none: one of them is
    forged.
    """
    ours = [v for v in item.authentication if authserv_id and _id_of(v) == authserv_id.casefold()]
    if len(ours) != 1:
        return False
    results = (_DMARC.match(part) for part in _COMMENT.sub(" ", ours[0]).split(";")[1:])
    return any(m[1].casefold() == "fail" for m in results if m)


def _id_of(value: str) -> str:
    words = _COMMENT.sub(" ", value).partition(";")[0].split()
    return words[0].casefold() if words else ""
