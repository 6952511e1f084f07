"""Match items of a second reading with filings: no text may go to another customer's ticket."""

from dataclasses import replace
from datetime import timedelta

from ingest.replay.match import FiledItem, Pairs, pair_items
from parsers.item import Format, InboundItem
from tests.support.context import START, make_row
from workflow.filing import threading
from workflow.filing.file_item import build_content_row
from workflow.models.core import Filing, Message
from workflow.models.states import Outcome


def make_filings(*items: InboundItem | None) -> list[FiledItem]:
    """Return the filings of these items; None stands for one that was ignored."""
    return [
        FiledItem(Filing(position=at, outcome=Outcome.OPENED), make_message(item), None)
        for at, item in enumerate(items)
    ]


def make_message(item: InboundItem | None) -> Message | None:
    if item is None:
        return None
    key = threading.build_message_key(item)
    return Message(
        format=item.format,
        external_id=key,
        message_id=threading.build_message_id(item),
        **build_content_row(item),
    )


def list_matches(pairs: Pairs) -> list[tuple[int, str]]:
    return [(f.filing.position, item.text) for f, item in pairs.matched]


def test_a_lone_item_is_the_lone_filing_whatever_it_reads_like_now() -> None:
    old, new = (
        make_row("a", subject="x"),
        InboundItem(format=Format.SECURE_MESSAGE, external_id="other", text="b"),
    )
    assert list_matches(pair_items(make_filings(old), [new])) == [(0, "b")]


def test_items_are_told_by_their_ids_wherever_they_stand_now() -> None:
    old = [make_row(t) for t in "abc"]
    new = [make_row("found now"), replace(old[2], text="C"), replace(old[0], text="A")]
    found = pair_items(make_filings(*old), new)
    assert list_matches(found) == [(0, "A"), (2, "C")]
    assert [f.filing.position for f in found.gone] == [1]
    assert [i.text for i in found.new] == ["found now"]


def test_the_very_same_message_goes_before_one_with_the_same_id() -> None:
    first, second = make_row("a", external_id="7"), make_row("b", external_id="7")
    found = pair_items(make_filings(first, second), [second, first])
    assert list_matches(found) == [(0, "a"), (1, "b")]


def test_where_ids_are_read_otherwise_the_content_tells() -> None:
    old = [make_row(t, external_id=f"wrong{t}", sent_at=START) for t in "abc"]
    new = [replace(o, external_id=f"right{o.text}") for o in reversed(old)]
    assert list_matches(pair_items(make_filings(*old), new)) == [(0, "a"), (1, "b"), (2, "c")]


def test_a_text_that_was_not_read_then_is_told_by_sender_and_date() -> None:
    old = [
        make_row("", external_id=f"row-{n}", sent_at=START + timedelta(hours=n)) for n in range(3)
    ]
    old = [replace(o, sender=replace(o.sender, name="Jo")) for o in old]
    new = [replace(o, external_id=f"row-x{n}", text=str(n)) for n, o in enumerate(old)]
    assert list_matches(pair_items(make_filings(*old), new)) == [(0, "0"), (1, "1"), (2, "2")]


def test_what_is_not_certain_is_new_on_one_side_and_gone_on_the_other() -> None:
    """Two rows, of which another one is read now than then.

    One's words must not come to stand on the other's.
    """
    old = [
        make_row("a", external_id="1"),
        make_row("call me", external_id="2"),
        make_row("z", external_id="9"),
    ]
    new = [old[0], make_row("no money came", external_id="3"), old[2]]
    found = pair_items(make_filings(*old), new)
    assert list_matches(found) == [(0, "a"), (2, "z")]
    assert [i.text for i in found.new] == ["no money came"]
    assert [f.filing.position for f in found.gone] == [1]


def test_content_that_stands_there_twice_tells_nothing() -> None:
    old = [make_row("call me", external_id=f"wrong{n}") for n in range(2)]
    new = [make_row("call me", external_id=f"right{n}") for n in range(2)]
    found = pair_items(make_filings(*old), new)
    assert (found.matched, len(found.gone), len(found.new)) == ([], 2, 2)


def test_an_ignored_one_is_the_item_where_it_stood_unless_another_is_that() -> None:
    old = [make_row("a"), make_row("c")]
    pairs = pair_items(make_filings(old[0], None, old[1]), [old[0], make_row("b"), old[1]])
    assert list_matches(pairs) == [(0, "a"), (1, "b"), (2, "c")]
    pairs = pair_items(make_filings(old[0], None), [make_row("new"), old[0]])
    assert list_matches(pairs) == [(0, "a")]
    assert len(pairs.gone) == len(pairs.new) == 1
