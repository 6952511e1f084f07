"""Parsing in processes of their own.

What a hostile item does to its parser, it does to nobody else.
"""

import fcntl
import io
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import parsers
from ingest.processing.parser_process import (
    BROKEN,
    END,
    ITEM_SECONDS,
    ITEMS,
    LENGTH_OCTETS,
    MEMORY,
    PREVIEWS,
    READY,
    REFUSED,
    parse_frames,
    read_frame,
)
from parsers.item import Format, ParseError, ParseResult, SheetCounts
from parsers.options import DEFAULT_OPTIONS, Options
from workflow.settings.settings import Settings

if TYPE_CHECKING:
    from parsers.secure_message.preview import TablePreview

POOL_SIZE = 3  # parsers at once; those that wait in one leave the others to everybody else
CHILD = ("-m", "ingest.processing.parser_process")
PIPE_BYTES = 1024 * 1024
START_SECONDS = 60.0  # for a parser to import what it needs, on a machine that has much else to do
SLOW_SECONDS = 0.5  # an item that takes longer yields the processor to the others'
# added to the niceness of its process, which then ends with the item: it cannot be taken back
SLOW_NICENESS = 10
SETTINGS_PREFIX = "INTAKE_"  # settings, keys among them, are no business of a parser's
# what an answer may be made of: its process has read hostile bytes, and pickle could call anything
ALLOWED_CLASSES = {
    "parsers.item": {
        "InboundItem",
        "Address",
        "Attachment",
        "Format",
        "Bounce",
        "RejectedRow",
        "SheetCounts",
    },
    "datetime": {"datetime", "timezone", "timedelta"},
}


_How = tuple[Format | None, Options, int]  # what is asked of a parser


class ParserEndedError(Exception):
    """Reading the item came to no end, or to no beginning; the text says how, in our own words."""


class ParserBugError(Exception):
    """A bug of a parser: the class of its fault, and the place.

    Never the text, which may be a customer's.
    """

    def __init__(self, kind: str, place: str) -> None:
        super().__init__(f"{kind} at {place}")
        self.kind, self.place = kind, place


class Frame(NamedTuple):
    """Some items in a row, and how many there are in all; 0 if that is not known.

    The last frame of a workbook says what its sheets were read as.
    """

    items: list[ParseResult]
    total: int = 0
    sheets: tuple[SheetCounts, ...] = ()
    previews: Sequence[
        "TablePreview"
    ] = ()  # instead of items: the first rows of the tables in a file


class ParserAnswer:
    """What reading an item gives, frame by frame as its parser gets on.

    Whoever takes them sets the pace.

    To be taken by one thread, once, to its end or closed. Raises ParseError, ParserEndedError or
    ParserBugError on the way.
    """

    def __init__(self, first: list[Frame], rest: Iterator[Frame], *, more: bool) -> None:
        self.more = more  # is to come: taking them all may last
        self._rest = rest
        self._frames = chain(first, rest)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; there is always one."""
        return self._frames

    def close(self) -> None:
        """Let go of the parser, wherever it is."""
        if isinstance(self._rest, Generator):
            self._rest.close()


class ParserPool:
    """Pool of parsers, each a process of its own.

    Started when needed, and again after one ended.
    """

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._memory = memory
        self._threads = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="parse")
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._busy = 0
        self._closing = False

    @property
    def free_parsers(self) -> int:
        """Return how many more items can be parsed at once."""
        return POOL_SIZE - self._busy

    def start(
        self, form: Format | None, raw: bytes, options: Options, skip: int
    ) -> Future[ParserAnswer]:
        """Begin to parse, or without a format to read the first rows.

        Waits for a process that has to be started first.

        The future raises ParseError, ParserEndedError or ParserBugError. Raises OSError if no process can be
        had.
        """
        child = self._take()
        with self._lock:
            self._busy += 1
        return self._threads.submit(self._begin, child, (form, options, skip), raw)

    def run_in_background(self, work: Callable[[], None]) -> None:
        """Have a thread of a parser's do the work."""
        self._threads.submit(work)

    def close(self) -> None:
        """End every parser, whatever it does; what it was asked for raises BlockingIOError."""
        with self._lock:
            self._closing = True
            for child in self._all:
                child.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._idle:
            child.kill()

    def _begin(self, child: "_Child", how: _How, raw: bytes) -> ParserAnswer:
        """Ask, and wait for what shows whether it is a long answer: its end, or a second frame."""
        answer = self._frames(child, how, raw)
        first = list(islice(answer, 2))
        return ParserAnswer(first, answer if len(first) > 1 else iter(()), more=len(first) > 1)

    def _frames(self, child: "_Child", how: _How, raw: bytes) -> Iterator[Frame]:
        alive = False
        try:
            yield from child.parse(how, raw, self._seconds)
            alive = not child.slow
        except (ParseError, ParserBugError):
            alive = not child.slow
            raise
        except ParserEndedError:
            if self._closing:  # our doing, not the item's
                raise BlockingIOError from None
            raise
        finally:  # also where whoever takes the frames has had enough of them
            self._give_back(child, alive=alive)

    def _take(self) -> "_Child":
        with self._lock:
            if self._idle:
                return self._idle.pop()
            child = _Child(self._memory, int(self._seconds) + 1)
            self._all.add(child)
        try:
            child.begin()
        except OSError:
            with self._lock:
                self._all.discard(child)
            raise
        return child

    def _give_back(self, child: "_Child", *, alive: bool) -> None:
        with self._lock:
            self._busy -= 1
            if alive:
                self._idle.append(child)
            else:
                child.kill()
                self._all.discard(child)


class _Child:
    """One parser process and the pipes to it."""

    def __init__(self, memory: int, cpu_seconds: int) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIX)}
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, *CHILD, str(memory), str(cpu_seconds)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a warning's text may be a customer's
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        with suppress(OSError):  # so that it reads on while what it has told is filed
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.slow = False
        self._left = 0.0  # seconds that it may still keep us waiting
        self._before_slow = float("inf")  # and until it is called slow

    def begin(self) -> None:
        """Wait until it can parse. Raises OSError, the process then being gone."""
        self._left = START_SECONDS
        try:
            ready = read_frame(self._read)
        except TimeoutError:
            ready = None
        if ready != READY:
            self.kill()
            raise ChildProcessError("a parser does not start")

    def parse(self, how: _How, raw: bytes, seconds: float) -> Iterator[Frame]:
        """Ask, and yield the answer.

        Raises ParserEndedError, the process then being gone, or ParseError or ParserBugError.

        The time counts while we wait for it, not while what it has told is filed; each item told
        adds a little.
        """
        self._left, self._before_slow, read = seconds, min(SLOW_SECONDS, seconds), 0
        try:
            for part in (pickle.dumps(how), raw):
                self._ask(part)
            while (frame := self._frame()) is not None:
                yield frame
                read += len(frame.items)
                self._left = min(seconds, self._left + ITEM_SECONDS * len(frame.items))
            if not read:
                yield Frame([])
        except TimeoutError:
            self.kill()
            raise ParserEndedError(f"reading it took more than {seconds:.0f} seconds") from None
        except (OSError, EOFError, pickle.UnpicklingError):
            self.kill()
            raise ParserEndedError(self._how()) from None

    def end(self) -> None:
        """Have it end now; whoever waits for its answer sees that it did."""
        self._process.kill()

    def kill(self) -> None:
        """End it now, and let go of its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _yield(self) -> None:
        self.slow = True
        with suppress(OSError):  # it has just ended
            os.setpriority(
                os.PRIO_PROCESS,
                self._process.pid,
                os.getpriority(os.PRIO_PROCESS, 0) + SLOW_NICENESS,
            )

    def _how(self) -> str:
        return (
            f"its parser was ended by signal {-code}"
            if (code := self._process.returncode) < 0
            else "its parser ended"
        )

    def _ask(self, body: bytes) -> None:
        left = memoryview(len(body).to_bytes(LENGTH_OCTETS) + body)
        while left:
            self._wait(writing=True)
            left = left[os.write(self._in, left[:PIPE_BYTES]) :]

    def _frame(self) -> Frame | None:
        """The next frame; None at the end of the answer."""
        body = read_frame(self._read)
        if body is None:
            raise EOFError
        kind, told = _Unpickler(io.BytesIO(body)).load()
        if kind == ITEMS:
            return Frame(*told)
        if kind == PREVIEWS:
            return Frame([], previews=told)
        if kind == END:
            return None
        raise self._refusal(kind, told)

    def _refusal(self, kind: str, told: tuple[str, ...]) -> Exception:
        if kind == REFUSED:
            return ParseError(*told)
        if kind == BROKEN:
            return ParserBugError(*told)
        assert kind == MEMORY
        self.kill()  # what it holds may be all there is
        return ParserEndedError("reading it takes more memory than one item may have")

    def _read(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            self._wait()
            part = os.read(self._out, min(left, PIPE_BYTES))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _wait(self, *, writing: bool = False) -> None:
        """Wait for a pipe, having it yield to others once it has kept us waiting.

        Raises TimeoutError.
        """
        began = time.monotonic()
        ready = self._is_ready(min(self._before_slow, self._left), writing=writing)
        if not ready and self._before_slow < self._left:
            self._yield()
            ready = self._is_ready(self._left - self._before_slow, writing=writing)
        waited = time.monotonic() - began
        self._left = max(0.0, self._left - waited)
        self._before_slow = float("inf") if self.slow else max(0.0, self._before_slow - waited)
        if not ready:
            raise TimeoutError

    def _is_ready(self, seconds: float, *, writing: bool) -> bool:
        wanted = ([], [self._in]) if writing else ([self._out], [])
        return any(select.select(*wanted, [], seconds))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if name not in ALLOWED_CLASSES.get(module, ()):
            raise pickle.UnpicklingError("an answer holds what no item is made of")
        return super().find_class(module, name)


# -- what this process uses ----

_lanes: ParserPool | None = None


@contextmanager
def use_parser_pool(settings: Settings) -> Iterator[None]:
    """Have everything parsed in processes of their own while the block lasts.

    Without it, parsing is done here.
    """
    global _lanes  # noqa: PLW0603  # the one decision of a process at its start
    before, mine = _lanes, ParserPool(settings.parse_seconds, settings.parse_memory)
    _lanes = mine
    try:
        yield
    finally:
        _lanes = before
        mine.close()


def count_free_parsers() -> int:
    """Return how many items can be begun now."""
    return 1 if _lanes is None else _lanes.free_parsers


def has_spare_parser() -> bool:
    """Return whether one that may never end can be begun and leaves room for others."""
    return _lanes is None or _lanes.free_parsers > 1


def start_parsing(
    form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS, skip: int = 0
) -> Future[ParserAnswer]:
    """Begin to parse, leaving out the first items.

    The future, or its answer, raises ParseError, ParserEndedError or ParserBugError, or what a parser raised
    in this process. A call is what we wrote ourselves: it is parsed here.
    """
    done: Future[ParserAnswer] = Future()
    try:
        if _lanes is not None and form is not Format.PHONE:
            return _lanes.start(form, raw, options, skip)
        read = parse_frames(form, raw, options, skip)
        first = Frame(*next(read, ([], 0, ())))
        done.set_result(ParserAnswer([first], (Frame(*told) for told in read), more=False))
    except Exception as error:  # noqa: BLE001  # handed to whoever asks for the result
        done.set_exception(error)
    return done


def run_in_background(work: Callable[[], None]) -> None:
    """Have it done beside what this thread does, if there are parsers beside it."""
    if _lanes is None:
        work()
    else:
        _lanes.run_in_background(work)


def parse(form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[ParseResult]:
    """Parse and wait for all of it, rejected rows among the items. Raises as `start_parsing`."""
    return parse_whole(form, raw, options).items


def parse_whole(form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> Frame:
    """Parse and wait for all of it, as one frame; rejected rows are among the items.

    Raises as `start_parsing`.
    """
    items: list[ParseResult] = []
    sheets: tuple[SheetCounts, ...] = ()
    for frame in start_parsing(form, raw, options).result():
        items += frame.items
        sheets = frame.sheets or sheets
    return Frame(items, len(items), sheets)


def read_previews(raw: bytes, options: Options) -> "list[TablePreview]":
    """The first rows of the tables in a file. Raises as `start_parsing`."""
    if _lanes is None:
        return parsers.preview_tables(raw, options)
    return [one for frame in _lanes.start(None, raw, options, 0).result() for one in frame.previews]
