"""Main program of a parser process: bytes on standard input, items on standard output.

It is started without our settings and secrets, opens nothing and keeps nothing. A frame is a length
in eight octets, big-endian, and so many octets. A request is two frames: the format, the options
and how many items to leave out, pickled by us; and the bytes to parse. The answer is frames of
items as they are read: the consumer sets the pace, by the pipe. Without a format it is the first
rows of the tables in a file, in plain strings and numbers.
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
ITEMS, PREVIEWS, END = "items", "top", "end"  # kinds of frames in an answer
REFUSED, BROKEN, MEMORY = "refused", "broken", "memory"  # and its errors
READY = b"ready"
MAX_FRAME_ITEMS = 200  # in one frame
# CPU seconds added to a file's limit for each item read: a hundred times what reading one takes
ITEM_SECONDS = 0.01


def main() -> None:
    """Answer requests until standard input ends.

    Arguments: octets of memory, CPU seconds for one item.
    """
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C is for the parent process, which then closes our input
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set_limit(resource.RLIMIT_AS, memory)
    _set_limit(resource.RLIMIT_CORE, 0)  # a core dump would hold a customer's text
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's output must not get between the answers
    _write_frame(answers, READY)  # the limit of the first item must not include our imports
    answers.flush()
    while (request := read_frame(requests.read)) is not None and (
        raw := read_frame(requests.read)
    ) is not None:
        seconds_at_start, item_count = _get_cpu_seconds(), 0
        _set_limit(resource.RLIMIT_CPU, seconds_at_start + seconds)
        # pickled by the parent process
        for kind, content in _iter_answers(raw, *pickle.loads(request)):  # noqa: S301
            item_count += len(content[0]) if kind == ITEMS else 0
            _set_limit(
                resource.RLIMIT_CPU, seconds_at_start + seconds + int(item_count * ITEM_SECONDS)
            )
            _write_frame(answers, pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL))
            if kind != ITEMS or item_count >= MAX_FRAME_ITEMS:
                # a short answer and its end are flushed together
                answers.flush()


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """Return the next frame; None at the end of the stream, also in the middle of a frame."""
    head = read(LENGTH_OCTETS)
    if len(head) < LENGTH_OCTETS:
        return None
    size = int.from_bytes(head)
    body = read(size)
    return body if len(body) == size else None


FrameContent = tuple[list[ParseResult], int, tuple[SheetCounts, ...]]


def parse_frames(form: Format, raw: bytes, options: Options, skip: int) -> Iterator[FrameContent]:
    """Yield the items as they are read, made storable, in batches, without the first `skip`.

    With each batch comes the total number of items, or 0; with the last one the counts of a
    workbook's sheets. That batch may be empty. Raises what `parsers.stream` does.
    """
    stream, item_count, damage = parsers.stream(form, raw, options), skip, None
    remaining = islice(stream, skip, None)
    sheets: tuple[SheetCounts, ...] = ()
    while damage is None and not sheets:
        items: list[ParseResult] = []
        try:
            items.extend(map(make_storable, islice(remaining, MAX_FRAME_ITEMS)))
        except ParseError as error:  # items read before come first
            damage = error
        else:
            # Set at the end of the file: a small workbook is one frame then, as any other item.
            sheets = make_storable(parsers.get_sheet_counts(stream))
        if not (items or sheets):
            break
        item_count += len(items)
        more = length_hint(stream)
        yield items, item_count + more if more else 0, sheets
    if damage is not None:
        raise damage


def _iter_answers(
    raw: bytes, form: Format | None, options: Options, skip: int
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the kind and content of each frame of an answer."""
    try:
        if form is None:
            yield PREVIEWS, tuple(parsers.preview_tables(raw, options))
        else:
            for content in parse_frames(form, raw, options, skip):
                yield ITEMS, content
    except ParseError as error:
        yield REFUSED, (str(error),)
    except MemoryError:
        yield MEMORY, ()
    # top of this process's loop: a parser's bug must affect its item only
    except Exception as error:  # noqa: BLE001
        yield BROKEN, (type(error).__name__, _locate(error))
    else:
        yield END, ()


def _locate(error: BaseException) -> str:
    """Return file and line of an error in our code, never its text."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{at.tb_lineno}" if at else ""


def _write_frame(answers: IO[bytes], body: bytes) -> None:
    """Write a frame."""
    answers.write(len(body).to_bytes(LENGTH_OCTETS) + body)


def _get_cpu_seconds() -> int:
    """Return the CPU seconds used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime)


def _set_limit(resource_kind: int, value: int) -> None:
    """Set a resource limit, within the hard one."""
    _, hard = resource.getrlimit(resource_kind)
    resource.setrlimit(
        resource_kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard)
    )


if __name__ == "__main__":
    main()
