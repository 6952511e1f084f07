"""Match the items of a second parse with the filings of the first.

A corrected parser may find more, fewer or other items.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import NamedTuple

from parsers.item import InboundItem
from workflow.filing import threading
from workflow.models.core import Filing, Message, Ticket


class FiledItem(NamedTuple):
    """An item as it was filed: the filing, its message on the timeline, the ticket."""

    filing: Filing
    message: Message | None
    ticket: Ticket | None


class Pairs(NamedTuple):
    """Matched items in the order of filing, and the unmatched ones of either side."""

    matched: list[tuple[FiledItem, InboundItem]]
    gone: list[FiledItem]
    new: list[InboundItem]


class _Traits(NamedTuple):
    """The properties of an item that it is matched by."""

    key: str | None
    name: str
    sender: tuple[str, str]
    sent_at: datetime | None
    subject: str
    text: str


MatchKey = Callable[[_Traits], Hashable]  # an empty key or None matches nothing

# Keys of two items that are the same, the surest first. Equal ids are paired in order. Keys of
# content must be unique on both sides: a customer's text on another's ticket would be worse than
# two items that count as new.
ID_KEYS: tuple[MatchKey, ...] = (lambda x: x.key, lambda x: x.name)
CONTENT_KEYS: tuple[MatchKey, ...] = (
    lambda x: x.text and (x.text, x.sent_at, x.sender),
    lambda x: x.text and x.sent_at and (x.text, x.sent_at),
    lambda x: x.text and any(x.sender) and (x.text, x.sender),
    lambda x: x.sent_at and any(x.sender) and (x.sent_at, x.sender, x.subject),
)


MayPair = Callable[[FiledItem, InboundItem], bool]


def pair_items(
    filed_items: Sequence[FiledItem],
    items: Sequence[InboundItem],
    fits: MayPair = lambda _filed, _item: True,
) -> Pairs:
    """Match items with filings: by id, else by content unique on both sides, else by being alone.

    `fits` returns whether a filing's ticket may get an item of another text: what is parsed
    differently replaces the text on the ticket, and an id that several practices share, or a sender
    and a time, do not prove whose it is.
    """
    if len(filed_items) == len(items) == 1:
        # the same bytes hold one item, whatever is parsed differently
        return Pairs([(filed_items[0], items[0])], [], [])
    old = {
        at: _get_message_traits(f.message)
        for at, f in enumerate(filed_items)
        if f.message is not None
    }
    new = {at: _get_item_traits(item) for at, item in enumerate(items)}
    matches: dict[int, int] = {}

    def may_pair(at: int, other: int) -> bool:
        return old[at].text == new[other].text or fits(filed_items[at], items[other])

    for match_key in ID_KEYS:
        _match(matches, old, new, match_key, may_pair)
    for match_key in CONTENT_KEYS:
        _match(matches, old, new, match_key, may_pair, unique=True)
    _match_by_position(matches, filed_items, new)
    return Pairs(
        matched=[(filed_items[at], items[matches[at]]) for at in sorted(matches)],
        gone=[one for at, one in enumerate(filed_items) if at not in matches],
        new=[items[at] for at in new],
    )


def _match_by_position(
    matches: dict[int, int], filed: Sequence[FiledItem], new: dict[int, _Traits]
) -> None:
    """Match filings without a message, of which only the position is known."""
    for at, one in enumerate(filed):
        if one.message is None and at in new:
            matches[at] = at
            del new[at]


def _match(
    matches: dict[int, int],
    old: dict[int, _Traits],
    new: dict[int, _Traits],
    match_key: MatchKey,
    may_pair: Callable[[int, int], bool],
    *,
    unique: bool = False,
) -> None:
    """Match items with the same key, and remove them from both sides."""
    new_by_key = _group_by_key(new, match_key)
    for value, olds in _group_by_key(old, match_key).items():
        news = new_by_key.get(value, [])
        if unique and not len(olds) == len(news) == 1:
            continue
        for at in olds:
            other = next((n for n in news if n in new and may_pair(at, n)), None)
            if other is not None:
                matches[at] = other
                del old[at], new[other]


def _group_by_key(side: dict[int, _Traits], match_key: MatchKey) -> dict[Hashable, list[int]]:
    """Return the positions by key, without empty keys."""
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for at, traits in side.items():
        if value := match_key(traits):
            positions[value].append(at)
    return positions


def _get_message_traits(m: Message) -> _Traits:
    """Return the properties of a filed message."""
    return _Traits(
        threading.build_stored_key(m),
        m.message_id,
        (m.from_name, m.from_email),
        m.sent_at,
        m.subject,
        m.text,
    )


def _get_item_traits(i: InboundItem) -> _Traits:
    """Return the properties of a parsed item."""
    sender = (i.sender.name, i.contact.email)
    return _Traits(
        threading.build_message_key(i),
        threading.build_message_id(i),
        sender,
        i.sent_at,
        i.subject,
        i.text,
    )
