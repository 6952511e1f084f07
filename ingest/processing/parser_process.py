"""The process that parses for another.

Bytes on standard input, items on standard output, within limits.

It is started without our settings and secrets, opens nothing and keeps nothing. A frame is a length
in eight bytes, big-endian, and so many bytes. A request is two: the format, the options and how
many items to leave out, pickled by us; and the bytes to parse. The answer is frames of items as
they are read: whoever takes them sets the pace, by the pipe. Without a format it is the first rows
of the tables in a file, in plain words and numbers.
"""

import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from operator import length_hint
from typing import IO, Any

import parsers
from parsers.item import Format, ParseError, ParseResult, SheetCounts
from parsers.options import Options
from workflow.database.text_safety import make_storable

LENGTH_OCTETS = 8
ITEMS, PREVIEWS, END = "items", "top", "end"  # what an answer begins with
REFUSED, BROKEN, MEMORY = "refused", "broken", "memory"  # or a no
READY = b"ready"
MAX_FRAME_ITEMS = 200  # in one frame
# that each item read adds to the time its file may take: a hundredth of what reading one costs
ITEM_SECONDS = 0.01


def main() -> None:
    """Answer requests until standard input ends.

    Arguments: bytes of memory, CPU seconds for one item.
    """
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the one we work for; it then closes our input
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)  # a dump would be a customer's text on the disk
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    _write(answers, READY)  # the time an item may take does not begin while we import
    answers.flush()
    while (how := read_frame(requests.read)) is not None and (
        raw := read_frame(requests.read)
    ) is not None:
        began, read = _used(), 0
        _limit(resource.RLIMIT_CPU, began + seconds)
        # from the process that started this one
        for kind, told in _answers(raw, *pickle.loads(how)):  # noqa: S301
            read += len(told[0]) if kind == ITEMS else 0
            _limit(resource.RLIMIT_CPU, began + seconds + int(read * ITEM_SECONDS))
            _write(answers, pickle.dumps((kind, told), pickle.HIGHEST_PROTOCOL))
            if kind != ITEMS or read >= MAX_FRAME_ITEMS:  # of a few, the end comes at once
                answers.flush()


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next frame; None at the end of the stream, also in the middle of a frame."""
    head = read(LENGTH_OCTETS)
    if len(head) < LENGTH_OCTETS:
        return None
    size = int.from_bytes(head)
    body = read(size)
    return body if len(body) == size else None


FrameContent = tuple[list[ParseResult], int, tuple[SheetCounts, ...]]


def parse_frames(form: Format, raw: bytes, options: Options, skip: int) -> Iterator[FrameContent]:
    """Yield the items as they are read, storable, some at a time, the first ones left out.

    With each lot comes how many there are in all, or 0; with the last one what the sheets of a
    workbook were read as. That lot may be empty. Raises what `parsers.stream` does.
    """
    stream, read, damage = parsers.stream(form, raw, options), skip, None
    left = islice(stream, skip, None)
    sheets: tuple[SheetCounts, ...] = ()
    while damage is None and not sheets:
        items: list[ParseResult] = []
        try:
            items.extend(map(make_storable, islice(left, MAX_FRAME_ITEMS)))
        except ParseError as error:  # what was read before goes first
            damage = error
        else:
            # Counted at the end of the file: so a small workbook is one frame, as any other item
            # is.
            sheets = make_storable(parsers.get_sheet_counts(stream))
        if not (items or sheets):
            break
        read += len(items)
        more = length_hint(stream)
        yield items, read + more if more else 0, sheets
    if damage is not None:
        raise damage


def _answers(
    raw: bytes, form: Format | None, options: Options, skip: int
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    try:
        if form is None:
            yield PREVIEWS, tuple(parsers.preview_tables(raw, options))
        else:
            for told in parse_frames(form, raw, options, skip):
                yield ITEMS, told
    except ParseError as error:
        yield REFUSED, (str(error),)
    except MemoryError:
        yield MEMORY, ()
    # top of this process's loop: a bug of a parser costs its item only
    except Exception as error:  # noqa: BLE001
        yield BROKEN, (type(error).__name__, _place(error))
    else:
        yield END, ()


def _place(error: BaseException) -> str:
    """Return where in the code it happened.

    Names of our files and lines, never the text of the error.
    """
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{at.tb_lineno}" if at else ""


def _write(answers: IO[bytes], body: bytes) -> None:
    answers.write(len(body).to_bytes(LENGTH_OCTETS) + body)


def _used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    main()
