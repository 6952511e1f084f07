"""Parsing in processes of their own: what a hostile item does to its parser, it does to nobody else."""

import io
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import parsers
from ingest.parse_child import BROKEN, END, ITEMS, LENGTH, MEMORY, READY, REFUSED, read_frame
from parsers.item import Format, InboundItem, ParseError
from parsers.options import PLAIN, Options
from workflow.settings import Settings

LANES = 3  # parsers at once; those that wait in one leave the others to everybody else
CHILD = ("-m", "ingest.parse_child")
PIECE = 1024 * 1024
START_SECONDS = 60.0  # for a parser to import what it needs, on a machine that has much else to do
SLOW_SECONDS = 0.5  # an item that takes longer yields the processor to the others'
YIELDING = 10  # added to the niceness of its process, which then ends with the item: it cannot be taken back
OURS = "INTAKE_"  # settings, keys among them, are no business of a parser's
SAFE = {  # what an answer may be made of: its process has read hostile bytes, and pickle could call anything
    "parsers.item": {"InboundItem", "Address", "Attachment", "Format", "Bounce"},
    "datetime": {"datetime", "timezone", "timedelta"},
}


class EndedError(Exception):
    """Reading the item came to no end, or to no beginning; the text says how, in our own words."""


class BrokenError(Exception):
    """A bug of a parser: the class of its fault, and the place. Never the text, which may be a customer's."""

    def __init__(self, kind: str, place: str) -> None:
        super().__init__(f"{kind} at {place}")
        self.kind, self.place = kind, place


class Lanes:
    """A few parsers, each a process of its own, started when they are needed and started again when they end."""

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._memory = memory
        self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="parse")
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._busy = 0
        self._closing = False

    @property
    def room(self) -> int:
        """How many more items can be parsed at once."""
        return LANES - self._busy

    def start(self, form: Format, raw: bytes, options: Options) -> Future[list[InboundItem]]:
        """Begin to parse; waits for a process that has to be started first.

        The future raises ParseError, EndedError or BrokenError. Raises OSError if no process can be had.
        """
        child = self._take()
        with self._lock:
            self._busy += 1
        return self._threads.submit(self._parse, child, form, raw, options)

    def close(self) -> None:
        """End every parser, whatever it does; what it was asked for raises BlockingIOError."""
        with self._lock:
            self._closing = True
            for child in self._all:
                child.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._idle:
            child.kill()

    def _parse(self, child: "_Child", form: Format, raw: bytes, options: Options) -> list[InboundItem]:
        alive = False
        try:
            items = child.parse(form, raw, options, self._seconds)
            alive = not child.slow
        except (ParseError, BrokenError):
            alive = not child.slow
            raise
        except EndedError:
            if self._closing:  # our doing, not the item's
                raise BlockingIOError from None
            raise
        finally:
            self._give_back(child, alive=alive)
        return items

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
        environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
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
        self.slow = False

    def begin(self) -> None:
        """Wait until it can parse. Raises OSError, the process then being gone."""
        try:
            ready = read_frame(lambda size: self._read(size, time.monotonic() + START_SECONDS))
        except TimeoutError:
            ready = None
        if ready != READY:
            self.kill()
            raise ChildProcessError("a parser does not start")

    def parse(self, form: Format, raw: bytes, options: Options, seconds: float) -> list[InboundItem]:
        """Ask and wait. Raises EndedError, the process then being gone, or ParseError or BrokenError as told."""
        until = time.monotonic() + seconds
        try:
            self._ask(pickle.dumps((form, options)), until)
            self._ask(raw, until)
            if not _readable(self._out, min(SLOW_SECONDS, seconds)):
                self._yield()
            return self._items(until)
        except TimeoutError:
            self.kill()
            raise EndedError(f"reading it took more than {seconds:.0f} seconds") from None
        except (OSError, EOFError, pickle.UnpicklingError):
            self.kill()
            raise EndedError(self._how()) from None

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
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + YIELDING)

    def _how(self) -> str:
        return (
            f"its parser was ended by signal {-code}" if (code := self._process.returncode) < 0 else "its parser ended"
        )

    def _ask(self, body: bytes, until: float) -> None:
        left = memoryview(len(body).to_bytes(LENGTH) + body)
        while left:
            _ready(until, writing=self._in)
            left = left[os.write(self._in, left[:PIECE]) :]

    def _items(self, until: float) -> list[InboundItem]:
        items: list[InboundItem] = []
        while True:
            frame = read_frame(lambda size: self._read(size, until))
            if frame is None:
                raise EOFError
            kind, told = _Unpickler(io.BytesIO(frame)).load()
            if kind == ITEMS:
                items += told
            elif kind == END:
                return items
            else:
                raise self._refusal(kind, told)

    def _refusal(self, kind: str, told: tuple[str, str]) -> Exception:
        if kind == REFUSED:
            return ParseError(told)
        if kind == BROKEN:
            return BrokenError(*told)
        assert kind == MEMORY
        self.kill()  # what it holds may be all there is
        return EndedError("reading it takes more memory than one item may have")

    def _read(self, size: int, until: float) -> bytes:
        parts, left = [], size
        while left:
            _ready(until, reading=self._out)
            part = os.read(self._out, min(left, PIECE))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if name not in SAFE.get(module, ()):
            raise pickle.UnpicklingError("an answer holds what no item is made of")
        return super().find_class(module, name)


def _readable(pipe: int, seconds: float) -> bool:
    return bool(select.select([pipe], [], [], seconds)[0])


def _ready(until: float, *, reading: int | None = None, writing: int | None = None) -> None:
    """Wait for a pipe. Raises TimeoutError."""
    left = max(0.0, until - time.monotonic())
    wanted = ([reading] if reading is not None else [], [writing] if writing is not None else [])
    if not any(select.select(*wanted, [], left)):
        raise TimeoutError


# -- what this process uses -----------------------------------------------------------------------------------------

_lanes: Lanes | None = None


@contextmanager
def isolated(settings: Settings) -> Iterator[None]:
    """Have everything parsed in processes of their own while the block lasts; without it, parsing is done here."""
    global _lanes  # noqa: PLW0603  # the one decision of a process at its start
    before, mine = _lanes, Lanes(settings.parse_seconds, settings.parse_memory)
    _lanes = mine
    try:
        yield
    finally:
        _lanes = before
        mine.close()


def room() -> int:
    """How many items can be begun now."""
    return 1 if _lanes is None else _lanes.room


def spare() -> bool:
    """Whether one that may never end can be begun and leaves room for others."""
    return _lanes is None or _lanes.room > 1


def start(form: Format, raw: bytes, options: Options = PLAIN) -> Future[list[InboundItem]]:
    """Begin to parse; the future raises ParseError, EndedError or BrokenError, or what a parser raised in this process.

    A call is what we wrote ourselves: it is parsed here.
    """
    done: Future[list[InboundItem]] = Future()
    try:
        if _lanes is not None and form is not Format.PHONE:
            return _lanes.start(form, raw, options)
        done.set_result(parsers.parse(form, raw, options))
    except Exception as error:  # noqa: BLE001  # handed to whoever asks for the result
        done.set_exception(error)
    return done


def parse(form: Format, raw: bytes, options: Options = PLAIN) -> list[InboundItem]:
    """Parse and wait for it. Raises as `start`."""
    return start(form, raw, options).result()
