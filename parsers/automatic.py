"""Mail nobody wrote: automatic answers, bounces, reports, lists (RFC 3834, RFC 3464, RFC 5965)."""

from dataclasses import dataclass

from parsers.headers import Fields
from parsers.item import Address
from parsers.mime import Part


@dataclass(frozen=True, slots=True)
class Verdict:
    """What kind of automatic mail a message is; all false for a person's."""

    is_auto_reply: bool = False
    is_bounce: bool = False
    is_automated: bool = False


def judge(fields: Fields, subject: str, sender: Address, root: Part, shown: str) -> Verdict:
    """Tell."""
    return Verdict()
