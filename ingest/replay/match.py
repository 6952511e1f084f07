"""Which item of a second reading is which filing of the first one.

A mended parser may find more, fewer or others.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import NamedTuple

from parsers.item import InboundItem
from workflow.filing import threading
from workflow.models.core import Filing, Message, Ticket


class FiledItem(NamedTuple):
    """An item as it was filed: the filing, the message it is on the timeline, the ticket."""

    filing: Filing
    message: Message | None
    ticket: Ticket | None


class Pairs(NamedTuple):
    """What belongs together, in the order of filing, and what is left on either side."""

    matched: list[tuple[FiledItem, InboundItem]]
    gone: list[FiledItem]
    new: list[InboundItem]


class _Looks(NamedTuple):
    key: str | None
    name: str
    sender: tuple[str, str]
    sent_at: datetime | None
    subject: str
    text: str


MatchKey = Callable[[_Looks], Hashable]  # what is empty or None is no sign

# What two are told to be one by, the surest first. Equal ids are paired in order. Signs of content
# must be unique on both sides: to put one customer's text on another's ticket is worse than to call
# both of them new.
ID_KEYS: tuple[MatchKey, ...] = (lambda x: x.key, lambda x: x.name)
CONTENT_KEYS: tuple[MatchKey, ...] = (
    lambda x: x.text and (x.text, x.sent_at, x.sender),
    lambda x: x.text and x.sent_at and (x.text, x.sent_at),
    lambda x: x.text and any(x.sender) and (x.text, x.sender),
    lambda x: x.sent_at and any(x.sender) and (x.sent_at, x.sender, x.subject),
)


MayPair = Callable[[FiledItem, InboundItem], bool]


def pair_items(
    filed: Sequence[FiledItem],
    items: Sequence[InboundItem],
    fits: MayPair = lambda _filed, _item: True,
) -> Pairs:
    """Put items to their filings.

    By id, else by what of their content is unique, a lone item to a lone filing.

    `fits` says whether a filing's ticket may have an item of another text: what is read otherwise
    replaces the text on the ticket, and an id that several practices have, or a sender and a time,
    are no proof whose it is.
    """
    if (
        len(filed) == len(items) == 1
    ):  # the same bytes: whatever reads otherwise now, it is the one that is in them
        return Pairs([(filed[0], items[0])], [], [])
    old = {at: _of_message(f.message) for at, f in enumerate(filed) if f.message is not None}
    new = {at: _of_item(item) for at, item in enumerate(items)}
    found: dict[int, int] = {}

    def may_pair(at: int, other: int) -> bool:
        return old[at].text == new[other].text or fits(filed[at], items[other])

    for sign in ID_KEYS:
        _match(found, old, new, sign, may_pair)
    for sign in CONTENT_KEYS:
        _match(found, old, new, sign, may_pair, unique=True)
    for at, one in enumerate(filed):
        if one.message is None and at in new:  # nothing tells what it was but where it stood
            found[at] = at
            del new[at]
    both = [(filed[at], items[found[at]]) for at in sorted(found)]
    return Pairs(
        both, [f for at, f in enumerate(filed) if at not in found], [items[at] for at in new]
    )


def _match(
    found: dict[int, int],
    old: dict[int, _Looks],
    new: dict[int, _Looks],
    sign: MatchKey,
    may_pair: Callable[[int, int], bool],
    *,
    unique: bool = False,
) -> None:
    """Pair what bears the same sign, and take it out of both sides."""
    there = _by_sign(new, sign)
    for value, olds in _by_sign(old, sign).items():
        news = there.get(value, [])
        if unique and not len(olds) == len(news) == 1:
            continue
        for at in olds:
            other = next((n for n in news if n in new and may_pair(at, n)), None)
            if other is not None:
                found[at] = other
                del old[at], new[other]


def _by_sign(side: dict[int, _Looks], sign: MatchKey) -> dict[Hashable, list[int]]:
    signs: dict[Hashable, list[int]] = defaultdict(list)
    for at, looks in side.items():
        if value := sign(looks):
            signs[value].append(at)
    return signs


def _of_message(m: Message) -> _Looks:
    return _Looks(
        threading.build_stored_key(m),
        m.message_id,
        (m.from_name, m.from_email),
        m.sent_at,
        m.subject,
        m.text,
    )


def _of_item(i: InboundItem) -> _Looks:
    sender = (i.sender.name, i.contact.email)
    return _Looks(
        threading.build_message_key(i),
        threading.build_message_id(i),
        sender,
        i.sent_at,
        i.subject,
        i.text,
    )
