"""Main program of a parser process: bytes on standard input, items on standard output.

It is started without our settings and secrets, opens nothing and keeps nothing. Requests and
answers are those of `frames`: items are written as they are read, and the consumer sets the pace,
by the pipe.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from operator import length_hint

import parsers
from ingest.processing import frames
from ingest.processing.frames import MAX_FRAME_ITEMS, Answer, Items
from parsers.item import Format, ParseError, ParseResult, SheetCounts
from parsers.options import Options
from workflow.database.text_safety import make_json_storable, make_storable

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
    # The limit of the first item must not include our imports.
    frames.write_frame(answers, frames.READY)
    answers.flush()
    while (head := frames.read_frame(requests.read)) is not None and (
        raw := frames.read_frame(requests.read)
    ) is not None:
        request = frames.decode_request(head)
        seconds_at_start, item_count = _get_cpu_seconds(), 0
        _set_limit(resource.RLIMIT_CPU, seconds_at_start + seconds)
        for answer in _iter_answers(raw, request):
            if isinstance(answer, Items):
                item_count += len(answer.requests) + len(answer.rejected)
            _set_limit(
                resource.RLIMIT_CPU, seconds_at_start + seconds + int(item_count * ITEM_SECONDS)
            )
            frames.write_frame(answers, frames.encode_answer(answer))
            if not isinstance(answer, Items) or item_count >= MAX_FRAME_ITEMS:
                # a short answer and its end are flushed together
                answers.flush()


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


def _iter_answers(raw: bytes, request: frames.Request) -> Iterator[Answer]:
    """Yield the frames of an answer."""
    try:
        if request.format is None:
            tables = parsers.preview_tables(raw, request.options)
            yield frames.Previews(make_json_storable(tables))
        else:
            for content in parse_frames(request.format, raw, request.options, request.skip):
                yield Items.build(*content)
    except ParseError as error:
        yield frames.Refused(make_storable(str(error)))
    except MemoryError:
        yield frames.OutOfMemory()
    # top of this process's loop: a parser's bug must affect its item only
    except Exception as error:  # noqa: BLE001
        yield frames.Broken(type(error).__name__, _locate(error))
    else:
        yield frames.End()


def _locate(error: BaseException) -> str:
    """Return file and line of an error in our code, never its text."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{at.tb_lineno}" if at else ""


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
