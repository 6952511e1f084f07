"""DMARC verdicts on the sender of a mail.

Only the verdict of our own mail server counts (RFC 8601 §5).
"""

import re

from parsers.item import InboundItem

_COMMENT = re.compile(r"\([^()]*\)")
# A signature or an envelope that passed, and the domain it is of (RFC 8601 §2.7).
_PASSED = re.compile(
    r"^\s*(?:dkim|spf)\s*=\s*pass\b.*?\b(?:header\.[di]|smtp\.mailfrom)\s*=\s*"
    r"(?:[^\s;@]*@)?([^\s;]+)",
    re.IGNORECASE | re.DOTALL,
)
_DMARC = re.compile(r"^\s*dmarc\s*=\s*([a-z]+)", re.IGNORECASE)
FORGED_CAVEAT = (
    "the sender could not be verified (DMARC failed): make sure it is who it says before you answer"
)


def has_failed_dmarc(item: InboundItem, authserv_id: str) -> bool:
    """Return whether the mail server `authserv_id` has found that DMARC fails (RFC 9989).

    Authentication-Results with other names can be written by anybody. Several with our name count
    as none, because one of them must be forged.
    """
    ours = _list_ours(item, authserv_id)
    return len(ours) == 1 and "fail" in _list_verdicts(ours[0])


def is_authenticated(item: InboundItem, authserv_id: str) -> bool:
    """Return whether the sender is who it says, as far as our mail server has looked.

    True where no server is named in the settings, or it has not looked at this mail: mail
    within an organisation often passes no check. With a result of ours, DMARC must have passed or,
    for a domain without a policy, a signature or envelope of its own domain.
    """
    ours = _list_ours(item, authserv_id)
    if not ours:
        return True
    if len(ours) > 1:  # one of them must be forged
        return False
    verdicts = _list_verdicts(ours[0])
    if "fail" in verdicts or "pass" in verdicts:
        return "fail" not in verdicts
    domain = item.sender.key.rpartition("@")[2]
    passed = (_PASSED.match(part) for part in _split_results(ours[0]))
    return any(m[1].casefold().strip('."') == domain for m in passed if m)


def _list_ours(item: InboundItem, authserv_id: str) -> list[str]:
    name = authserv_id.casefold()
    return [v for v in item.authentication if name and _extract_id(v) == name]


def _list_verdicts(value: str) -> set[str]:
    """Return the results of DMARC in an Authentication-Results field, in lower case."""
    results = (_DMARC.match(part) for part in _split_results(value))
    return {m[1].casefold() for m in results if m}


def _split_results(value: str) -> list[str]:
    return _COMMENT.sub(" ", value).split(";")[1:]


def _extract_id(value: str) -> str:
    """Return the name of the server that wrote an Authentication-Results field."""
    words = _COMMENT.sub(" ", value).partition(";")[0].split()
    return words[0].casefold() if words else ""
