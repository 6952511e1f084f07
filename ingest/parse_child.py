"""The process that parses for another: bytes on standard input, items on standard output, within limits.

It is started without our settings and secrets, opens nothing and keeps nothing. A frame is a length in eight bytes,
big-endian, and so many bytes. A request is two: the format and the options, pickled by us, and the bytes to parse.
"""

import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import IO

import parsers
from parsers.item import Format, InboundItem, ParseError
from parsers.options import Options

LENGTH = 8
ITEMS, END, REFUSED, BROKEN, MEMORY = "items", "end", "refused", "broken", "memory"  # what an answer begins with
READY = b"ready"
MOST_ITEMS = 200  # in one frame


def main() -> None:
    """Answer requests until standard input ends. Arguments: bytes of memory, CPU seconds for one item."""
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one we work for; it then closes our input
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)  # a dump would be a customer's text on the disk
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    _write(answers, READY)  # the time an item may take does not begin while we import
    answers.flush()
    while (how := read_frame(requests.read)) is not None and (raw := read_frame(requests.read)) is not None:
        _limit(resource.RLIMIT_CPU, _used() + seconds)
        form, options = pickle.loads(how)  # noqa: S301  # from the process that started this one
        for answer in _answers(form, raw, options):
            _write(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        answers.flush()


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next frame; None at the end of the stream, also in the middle of a frame."""
    head = read(LENGTH)
    if len(head) < LENGTH:
        return None
    size = int.from_bytes(head)
    body = read(size)
    return body if len(body) == size else None


def _answers(form: Format, raw: bytes, options: Options) -> Iterator[tuple[str, object]]:
    try:
        items: list[InboundItem] = parsers.parse(form, raw, options)
    except ParseError as error:
        yield REFUSED, str(error)
    except MemoryError:
        yield MEMORY, ""
    except Exception as error:  # noqa: BLE001  # top of this process's loop: a bug of a parser costs its item only
        yield BROKEN, (type(error).__name__, _place(error))
    else:
        for at in range(0, len(items), MOST_ITEMS):
            yield ITEMS, items[at : at + MOST_ITEMS]
        yield END, ""


def _place(error: BaseException) -> str:
    """Where in the code it happened: names of our files and lines, never the text of the error."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{at.tb_lineno}" if at else ""


def _write(answers: IO[bytes], body: bytes) -> None:
    answers.write(len(body).to_bytes(LENGTH) + body)


def _used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    main()
