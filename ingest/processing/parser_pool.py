"""Pool of parser processes: a hostile item can harm its own parser only."""

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import parsers
from ingest.processing import frames
from ingest.processing.frames import (
    MAX_FRAME_BYTES,
    READY,
    Broken,
    End,
    Items,
    MalformedFrameError,
    OutOfMemory,
    Previews,
    Refused,
    Request,
    TablePreview,
)
from ingest.processing.parser_process import ITEM_SECONDS, parse_frames
from parsers.item import Format, ParseError, ParseResult, SheetCounts
from parsers.options import DEFAULT_OPTIONS, Options
from workflow.settings.settings import Settings

POOL_SIZE = 3  # parsers at once; one busy with a slow item leaves the others free
CHILD_COMMAND = ("-m", "ingest.processing.parser_process")
PIPE_BYTES = 1024 * 1024
START_SECONDS = 60.0  # for the imports of a parser, on a busy machine
SLOW_SECONDS = 0.5  # an item that takes longer gets a lower priority
# added to the niceness of its process, which ends with the item: niceness cannot be lowered again
SLOW_NICENESS = 10
STARVED_SECONDS = 1.0  # between two looks at a process that waits for a processor
RUNNABLE_STATES = frozenset("RD")  # running or waiting for a processor; waiting for a disk
SETTINGS_PREFIX = "INTAKE_"  # settings, keys among them, must not reach a parser


class ParserEndedError(Exception):
    """The parser timed out, crashed or did not start. The text is safe to show."""


class ParserBugError(Exception):
    """A bug in a parser: class and place of the error.

    Never its text, which may hold a customer's words.
    """

    def __init__(self, kind: str, place: str) -> None:
        super().__init__(f"{kind} at {place}")
        self.kind, self.place = kind, place


class Frame(NamedTuple):
    """Some items in a row, and how many there are in all; 0 if that is not known.

    The last frame of a workbook has the counts of its sheets.
    """

    items: list[ParseResult]
    total: int = 0
    sheets: tuple[SheetCounts, ...] = ()
    # instead of items: the first rows of the tables in a file
    previews: Sequence[TablePreview] = ()


class ParserAnswer:
    """The result of parsing, frame by frame; the consumer sets the pace.

    For one thread, once, to its end or closed. Raises ParseError, ParserEndedError or
    ParserBugError on the way. `has_more`: taking all frames may take long.
    """

    def __init__(self, first: list[Frame], rest: Iterator[Frame], *, has_more: bool) -> None:
        self.has_more = has_more  # whether taking all of them may take long
        self._rest = rest
        self._frames = chain(first, rest)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; there is at least one."""
        return self._frames

    def close(self) -> None:
        """Release the parser, wherever it is."""
        if isinstance(self._rest, Generator):
            self._rest.close()


class ParserPool:
    """Pool of parser processes, started when needed and again after one ended."""

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
        """Begin to parse, or to read previews without a format; wait for a process to start.

        The future raises ParseError, ParserEndedError or ParserBugError. Raises OSError if no
        process can be had.
        """
        child = self._take()
        with self._lock:
            self._busy += 1
        return self._threads.submit(self._begin, child, Request(form, options, skip), raw)

    def run_in_background(self, work: Callable[[], None]) -> None:
        """Run the work in one of the pool's threads."""
        self._threads.submit(work)

    def close(self) -> None:
        """End every parser; requests under way raise BlockingIOError."""
        with self._lock:
            self._closing = True
            for child in self._all:
                child.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._idle:
            child.kill()

    def _begin(self, child: "_Child", request: Request, raw: bytes) -> ParserAnswer:
        """Send the request and wait for its end or a second frame, which shows a long answer."""
        answer = self._iter_frames(child, request, raw)
        first = list(islice(answer, 2))
        return ParserAnswer(first, answer if len(first) > 1 else iter(()), has_more=len(first) > 1)

    def _iter_frames(self, child: "_Child", request: Request, raw: bytes) -> Iterator[Frame]:
        """Yield the frames of a child's answer, and release the child at the end."""
        alive = False
        try:
            yield from child.parse(request, raw, self._seconds)
            alive = not child.slow
        except (ParseError, ParserBugError):
            alive = not child.slow
            raise
        except ParserEndedError:
            if self._closing:  # closed by us, not the item's fault
                raise BlockingIOError from None
            raise
        finally:  # also when the consumer stops early
            self._give_back(child, alive=alive)

    def _take(self) -> "_Child":
        """Return an idle child, or a new one once it is ready."""
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
        """Return a child to the pool, or end it when it can no longer be used."""
        with self._lock:
            self._busy -= 1
            if alive:
                self._idle.append(child)
            else:
                child.kill()
                self._all.discard(child)


class _Child:
    """A parser process and the pipes to it."""

    def __init__(self, memory: int, cpu_seconds: int) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS_PREFIX)}
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, *CHILD_COMMAND, str(memory), str(cpu_seconds)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a warning's text may be a customer's
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        with suppress(OSError):  # so that it parses on while its answer is filed
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.slow = False
        self._seconds = 0.0  # of processor time that an item may take
        self._cpu_before = 0.0  # seconds of processor time used before this item
        self._seconds_left = 0.0  # until it is ended
        self._seconds_until_slow = float("inf")  # until its priority is lowered

    def begin(self) -> None:
        """Wait until it can parse. Raises OSError, the process then being gone."""
        self._seconds_left = START_SECONDS
        try:
            ready = frames.read_frame(self._read, MAX_FRAME_BYTES)
        except (TimeoutError, MalformedFrameError):
            ready = None
        if ready != READY:
            self.kill()
            raise ChildProcessError("a parser does not start")

    def parse(self, request: Request, raw: bytes, seconds: float) -> Iterator[Frame]:
        """Send a request and yield the answer.

        The time limit counts while we wait for the process, not while its answer is filed, nor
        while a busy machine lets it wait for a processor; each item read adds a little. Raises
        ParserEndedError, the process then being gone, or ParseError or ParserBugError.
        """
        self._seconds, self._cpu_before = seconds, self._read_state()[1]
        self._seconds_left, self._seconds_until_slow, item_count = (
            seconds,
            min(SLOW_SECONDS, seconds),
            0,
        )
        try:
            body = frames.encode_request(request)
            self._send(frames.build_head(body) + body + frames.build_head(raw))
            self._send(raw)  # not joined with the rest: it may be large
            while (frame := self._read_next_frame()) is not None:
                yield frame
                item_count += len(frame.items)
                self._seconds_left = min(
                    seconds, self._seconds_left + ITEM_SECONDS * len(frame.items)
                )
            if not item_count:
                yield Frame([])
        except TimeoutError:
            self.kill()
            raise ParserEndedError(self._describe_timeout()) from None
        except MalformedFrameError:
            self.kill()
            raise ParserEndedError("its parser gave an answer that cannot be read") from None
        except (OSError, EOFError):
            self.kill()
            raise ParserEndedError(self._describe_end()) from None

    def end(self) -> None:
        """End the process now; whoever waits for its answer notices."""
        self._process.kill()

    def kill(self) -> None:
        """End the process now and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _lower_priority(self) -> None:
        """Lower the priority of a slow process."""
        self.slow = True
        with suppress(OSError):  # it has just ended
            os.setpriority(
                os.PRIO_PROCESS,
                self._process.pid,
                os.getpriority(os.PRIO_PROCESS, 0) + SLOW_NICENESS,
            )

    def _describe_end(self) -> str:
        """Return how the process ended, in words for staff."""
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return self._describe_timeout()
        return f"its parser was ended by signal {-code}" if code < 0 else "its parser ended"

    def _describe_timeout(self) -> str:
        return f"reading it took more than {self._seconds:.0f} seconds"

    def _send(self, data: bytes) -> None:
        """Write all of the bytes to the process."""
        left = memoryview(data)
        while left:
            self._wait(writing=True)
            left = left[os.write(self._in, left[:PIPE_BYTES]) :]

    def _read_next_frame(self) -> Frame | None:
        """Return the next frame; None at the end of the answer.

        Raises MalformedFrameError, EOFError, TimeoutError or what the answer says.
        """
        body = frames.read_frame(self._read, MAX_FRAME_BYTES)
        if body is None:
            raise EOFError
        match frames.decode_answer(body):
            case Items() as answer:
                return Frame(answer.list_all(), answer.total, answer.sheets)
            case Previews(tables):
                return Frame([], previews=tables)
            case End():
                return None
            case Refused(message):
                raise ParseError(message)
            case Broken(kind, place):
                raise ParserBugError(kind, place)
            case OutOfMemory():
                self.kill()  # it may hold all of the memory
                raise ParserEndedError("reading it takes more memory than one item may have")

    def _read(self, size: int) -> bytes:
        """Read `size` octets; fewer at the end of the stream."""
        parts, octets_left = [], size
        while octets_left:
            self._wait()
            part = os.read(self._out, min(octets_left, PIPE_BYTES))
            if not part:
                break
            parts.append(part)
            octets_left -= len(part)
        return b"".join(parts)

    def _wait(self, *, writing: bool = False) -> None:
        """Wait for a pipe; lower the priority of a process that keeps us waiting.

        Raises TimeoutError.
        """
        began = time.monotonic()
        ready = self._is_ready(min(self._seconds_until_slow, self._seconds_left), writing=writing)
        if not ready and self._seconds_until_slow < self._seconds_left:
            self._lower_priority()
            ready = self._is_ready(self._seconds_left - self._seconds_until_slow, writing=writing)
        waited = time.monotonic() - began
        self._seconds_left = max(0.0, self._seconds_left - waited)
        self._seconds_until_slow = (
            float("inf") if self.slow else max(0.0, self._seconds_until_slow - waited)
        )
        while not ready and self._is_starved():
            ready = self._is_ready(STARVED_SECONDS, writing=writing)
        if not ready:
            raise TimeoutError

    def _is_starved(self) -> bool:
        """Return whether the process wants to run, and has not had the time that an item may take.

        On a busy machine a process of low priority may wait for a processor for most of the time.
        One that sleeps, or has had its time, is at fault itself.
        """
        state, cpu = self._read_state()
        return state in RUNNABLE_STATES and cpu - self._cpu_before < self._seconds

    def _read_state(self) -> tuple[str, float]:
        """Return the state of the process and its seconds of processor time (proc(5)).

        ("", 0.0) where the process is gone or the system has no such file.
        """
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        except (OSError, ValueError):
            return "", 0.0
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        ticks = int(fields[11]) + int(fields[12])  # in the process itself and in the kernel
        return fields[0], ticks / os.sysconf("SC_CLK_TCK")

    def _is_ready(self, seconds: float, *, writing: bool) -> bool:
        """Return whether the pipe is ready within so many seconds."""
        wanted = ([], [self._in]) if writing else ([self._out], [])
        return any(select.select(*wanted, [], seconds))


# -- the pool of this process ----

_pool: ParserPool | None = None


@contextmanager
def use_parser_pool(settings: Settings) -> Iterator[None]:
    """Parse everything in processes of their own while the block lasts.

    Without it, parsing happens in this process.
    """
    global _pool  # noqa: PLW0603  # chosen once, at the start of a process
    before, pool = _pool, ParserPool(settings.parse_seconds, settings.parse_memory)
    _pool = pool
    try:
        yield
    finally:
        _pool = before
        pool.close()


def count_free_parsers() -> int:
    """Return how many items can be begun now."""
    return 1 if _pool is None else _pool.free_parsers


def has_spare_parser() -> bool:
    """Return whether one that may never end can be begun while others still find a parser."""
    return _pool is None or _pool.free_parsers > 1


def start_parsing(
    form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS, skip: int = 0
) -> Future[ParserAnswer]:
    """Begin to parse, leaving out the first `skip` items.

    The future, or its answer, raises ParseError, ParserEndedError or ParserBugError, or what a
    parser raised in this process. A phone call is what we wrote ourselves: it is parsed here.
    """
    future: Future[ParserAnswer] = Future()
    try:
        if _pool is not None and form is not Format.PHONE:
            return _pool.start(form, raw, options, skip)
        batches = parse_frames(form, raw, options, skip)
        first = Frame(*next(batches, ([], 0, ())))
        future.set_result(
            ParserAnswer([first], (Frame(*content) for content in batches), has_more=False)
        )
    except Exception as error:  # noqa: BLE001  # raised where the result is used
        future.set_exception(error)
    return future


def run_in_background(work: Callable[[], None]) -> None:
    """Run the work beside this thread if there is a pool, else here."""
    if _pool is None:
        work()
    else:
        _pool.run_in_background(work)


def parse(form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[ParseResult]:
    """Parse completely; rejected rows are among the items. Raises as `start_parsing`."""
    return parse_whole(form, raw, options).items


def parse_whole(form: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> Frame:
    """Parse completely into one frame; rejected rows are among the items.

    Raises as `start_parsing`.
    """
    items: list[ParseResult] = []
    sheets: tuple[SheetCounts, ...] = ()
    for frame in start_parsing(form, raw, options).result():
        items += frame.items
        sheets = frame.sheets or sheets
    return Frame(items, len(items), sheets)


def read_previews(raw: bytes, options: Options) -> list[TablePreview]:
    """Return the first rows of the tables in a file. Raises as `start_parsing`."""
    if _pool is None:
        return parsers.preview_tables(raw, options)
    return [one for frame in _pool.start(None, raw, options, 0).result() for one in frame.previews]
