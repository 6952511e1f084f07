"""The watched folder.

Finished files are stored, read and moved to done/, or to rejected/ beside the reason.

Whatever one file does stays with that file: it is left where it is, tried again with backoff and
named by `intake status` (ItemFaults), and the files behind it are taken.
"""

import errno
import hashlib
import io
import os
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from watchfiles import watch

from ingest.folder.rejected_rows import list_rejected_rows, render_workbook
from ingest.intake import Accept, Arrival, Transport
from ingest.processing.process import process_delivery
from ingest.replay.reprocess import UnreadableError
from parsers.item import Format
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.operations.item_faults import BACKOFF, ItemFaults, describe_unexpected_error
from workflow.runtime import log
from workflow.runtime.blobs import write_synced

DONE, REJECTED = "done", "rejected"
REJECTED_ROWS = " - rejected rows.xlsx"
ID_FILE = ".intake-folder"
UNFINISHED_SECONDS = 30.0  # a file that looks cut short may still be coming over a slow share
# Between two watches, after one has failed: a file with such a name that grows fails each of them,
# and a line of the log a minute is enough.
UNWATCHED_SECONDS = 60.0
NAME_BYTES = 255  # what file systems take
STEM_BYTES = 160  # of a file's own name, before what is added to it
END_BYTES = 20  # of a name's ending; a longer one is no ending
NOT_A_FILE_REASONS = {
    stat.S_IFLNK: "it is a link: put the file itself here",
    stat.S_IFDIR: "it is a folder: put its files themselves here",
    stat.S_IFIFO: "it is a pipe and no file",
    stat.S_IFSOCK: "it is a socket and no file",
    stat.S_IFCHR: "it is a device and no file",
    stat.S_IFBLK: "it is a device and no file",
}
NO_PERMISSION = "it may not be read or moved: the user of `intake folder` needs the right to"
_LEFT_ALONE = (".", "~$", "~")  # hidden, Excel's lock, temporary
_LEFT_ALONE_ENDS = (".tmp", ".part", ".crdownload", ".partial", ".swp", ".lnk", "~")
_LEFT_ALONE_NAMES = frozenset({"desktop.ini", "thumbs.db"})
# A download under its interim name is renamed by then. One that still grows is not named.
IGNORED_SECONDS = 15 * 60.0
IGNORED_REASON = (
    "its name is that of a file still being written, a hidden one or one of a program: rename it if"
    " it is to be read"
)
# What programs and shares leave behind for themselves holds no request and is never named.
_PROGRAMS_OWN_NAMES = _LEFT_ALONE_NAMES | {".ds_store", ".localized", ".directory"}
_PROGRAMS_OWN = (ID_FILE, "._", ".nfs", ".fuse_hidden", ".smbdelete", ".syncthing.", ".stfolder")
_LOCKS = ("~$", ".~lock.")  # of Excel and LibreOffice, while somebody has the workbook open
_LOCK_BYTES = 1024  # theirs have about 165


@dataclass(frozen=True, slots=True)
class _Look:
    """A file as one look found it.

    And since when it has been so (monotonic seconds: a share's clock may be wrong).
    """

    size: int
    mtime_ns: int
    since: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file that could not be taken as it stood at that look, how often.

    And when it is tried again (monotonic).
    """

    look: _Look
    attempts: int
    again_at: float


class WatchedFolder:
    """One watched folder.

    `scan` is one round: everything that has been finished for a while is taken.
    """

    def __init__(self, context: AppContext, accept: Accept) -> None:
        self.path = context.settings.dropbox
        self._context = context
        self._accept = accept
        self._looks: dict[Path, _Look] = {}
        self._stored: dict[Path, tuple[_Look, int]] = {}  # taken, but not yet read or moved
        self._failed: dict[Path, _Failure] = {}
        self._not_files: dict[Path, str] = {}  # what else lies here, and why it is not taken
        self._left_alone: dict[
            Path, _Look
        ] = {}  # files whose names say that they are not to be read
        self._recorded: set[str] | None = (
            None  # names that `intake status` may know of; None: not asked yet
        )
        for folder in (self.path, self.path / DONE, self.path / REJECTED):
            folder.mkdir(parents=True, exist_ok=True)
        name = get_folder_id(self.path)
        self._faults = ItemFaults(context.store, context.clock, Transport.FOLDER, name)

    def scan(self) -> None:
        """Look at every file once; take those that have not changed for the settling time.

        Raises OSError when the folder itself cannot be looked at.
        """
        before, self._looks = self._looks, {}
        not_files, self._not_files = self._not_files, {}
        left_alone, self._left_alone = self._left_alone, {}
        failures: dict[str, str] = {}  # of this round: name and reason
        for path in sorted(self.path.iterdir()):
            look = _look(path, before.get(path) or left_alone.get(path))
            is_left_alone = _is_left_alone(path)
            if look is None or is_left_alone:
                reason = (
                    self._why_left_alone(path, look) if is_left_alone else self._why_no_file(path)
                )
                if reason:
                    self._not_files[path] = reason
                    if not_files.get(path) != reason:
                        failures[repair_name(path)] = reason
                continue
            self._looks[path] = look
            rested = time.monotonic() - look.since >= self._context.settings.folder_settle_seconds
            if rested and self._may_be_tried(path, look) and (reason := self._take(path, look)):
                failures[repair_name(path)] = reason
        self._stored = {p: s for p, s in self._stored.items() if p in self._looks}
        self._failed = {p: f for p, f in self._failed.items() if p in self._looks}
        self._record(failures)

    def _record(self, failures: dict[str, str]) -> None:
        """Have `intake status` name the files that cannot be taken, as long as they lie here."""
        # Also those left alone that are not to be named yet: over a restart they stay named.
        present = {
            repair_name(path) for path in (*self._looks, *self._not_files, *self._left_alone)
        }
        try:
            for name, reason in failures.items():
                self._faults.record(name, reason)
            if present != self._recorded:
                self._faults.delete_others(present)
                self._recorded = present
        except (SQLAlchemyError, OSError) as error:  # away: the next round knows of them still
            self._recorded = None
            self._not_files = {}
            log.fault("folder", error)

    def _why_no_file(self, path: Path) -> str:
        """Return why something in the folder is not taken.

        "" for our own folders and what has vanished.
        """
        if path.name in {DONE, REJECTED}:
            return ""
        try:
            return NOT_A_FILE_REASONS.get(stat.S_IFMT(path.lstat().st_mode), "")
        except FileNotFoundError:
            return ""
        except OSError as error:
            return _reason(error)

    def _may_be_tried(self, path: Path, look: _Look) -> bool:
        """Return whether a file's pause is over; a file that was changed is another one."""
        failure = self._failed.get(path)
        return failure is None or failure.look != look or time.monotonic() >= failure.again_at

    def _why_left_alone(self, path: Path, look: _Look | None) -> str:
        """Return why something is not taken whose name says that it is not to be.

        "" while nobody needs to know.

        Folders and links under such a name are named like others, but for hidden ones.
        """
        name = path.name.casefold()
        if name in _PROGRAMS_OWN_NAMES or name.startswith(_PROGRAMS_OWN):
            return ""
        if look is None:
            return "" if name.startswith(".") else self._why_no_file(path)
        if name.startswith(_LOCKS) and look.size <= _LOCK_BYTES:
            return ""
        self._left_alone[path] = look
        return IGNORED_REASON if time.monotonic() - look.since >= IGNORED_SECONDS else ""

    def _take(self, path: Path, look: _Look) -> str:
        """Take one file; return why that did not work, "" if it did or is nobody's concern."""
        try:
            number = self._store(path, look)
            if number is not None:
                self._settle(path, look, number)
        except (
            DATABASE_UNAVAILABLE
        ) as error:  # no file can be stored now: the next round tries again
            log.fault("folder", error)
            return ""
        except FileNotFoundError:  # taken away while we looked at it
            return "" if _look(path, look) is None else self._fail(path, look, NO_PERMISSION)
        # whatever one file does, those behind it are taken
        except Exception as error:  # noqa: BLE001
            log.fault("folder", error)
            return self._fail(path, look, _reason(error))
        self._failed.pop(path, None)
        return ""

    def _fail(self, path: Path, look: _Look, reason: str) -> str:
        before = self._failed.get(path)
        attempts = 1 if before is None or before.look != look else before.attempts + 1
        again_at = time.monotonic() + BACKOFF.seconds(attempts)
        self._failed[path] = _Failure(look, attempts, again_at)
        return reason

    def _store(self, path: Path, look: _Look) -> int | None:
        """The delivery of this file as it stands, stored if it is not yet.

        None while it is not to be taken.
        """
        kept = self._stored.get(path)
        if kept is not None and kept[0] == look:
            return kept[1]
        limit = self._context.settings.workbook_limit
        if look.size > limit:
            self._reject(path, f"the file is larger than {limit // 2**20} MiB: split the export")
            return None
        raw = _read(path, limit)
        if (
            len(raw) > limit
            or _look(path, look) != look
            or (_cut_short(raw) and time.monotonic() - look.since < UNFINISHED_SECONDS)
        ):
            return None
        name = "".join(c if c.isprintable() else "?" for c in repair_name(path))
        arrival = Arrival(
            transport=Transport.FOLDER,
            format=Format.SECURE_MESSAGE,
            raw=raw,
            envelope={"name": name},
            reference=f"sha256:{hashlib.sha256(raw).hexdigest()}",
        )
        number = self._accept(arrival)
        self._stored[path] = (look, number)
        return number

    def _settle(self, path: Path, look: _Look, number: int) -> None:
        """Read the delivery and move its file to where it now belongs.

        A file changed meanwhile is another one.
        """
        process_delivery(self._context, number)
        with self._context.store.read_only() as session:
            delivery = session.get_one(Delivery, number)
        if delivery.state is DeliveryState.PENDING or _look(path, look) != look:
            return
        if delivery.state is DeliveryState.PROCESSED:
            self._put_rejected(path, number)
            path.rename(_free(self.path / DONE, repair_name(path)))
        else:
            self._reject(path, delivery.reason, number)

    def _put_rejected(self, path: Path, number: int) -> None:
        """Write the rejected rows of a processed file into rejected/.

        They are to be corrected there and dropped again.
        """
        try:
            rows = list_rejected_rows(self._context, number)
        except (
            UnreadableError
        ):  # read by now with other profiles: `intake delivery` lists the rows all the same
            return
        if rows:
            stem = Path(repair_name(path)).stem.encode()[:STEM_BYTES].decode(errors="ignore")
            name = f"{stem}{REJECTED_ROWS}"
            _put(self.path / REJECTED, name, render_workbook(rows))

    def _reject(self, path: Path, reason: str, number: int | None = None) -> None:
        moved = _free(self.path / REJECTED, repair_name(path))
        again = (
            "Mend it and drop it again."
            if number is None
            else (
                f"Mend it and drop it again, or `intake replay {number}` once the program was"
                " mended."
            )
        )
        why = _free(self.path / REJECTED, f"{moved.name}.txt")
        why.write_text(f"This file could not be read.\n\n{reason}\n\n{again}\n", encoding="utf-8")
        try:
            path.rename(moved)
        except OSError:  # tried again: the reason is written once, beside the file
            why.unlink(missing_ok=True)
            raise


def get_folder_id(folder: Path) -> str:
    """What tells this folder from others, the same for every host that shares it.

    A number kept in a hidden file.

    Paths would not do: the same one may be a share here and a disk of its own there. Raises
    OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / ID_FILE, uuid4().hex
    if not path.exists():
        new = folder / f"{ID_FILE}.{number}"
        new.write_text(number, encoding="ascii")
        try:
            path.hardlink_to(new)  # whole, and the first one's: two hosts may be starting
        except FileExistsError:
            pass
        except OSError:  # a share without hard links
            new.replace(path)
        new.unlink(missing_ok=True)
    return path.read_text(encoding="ascii").strip()


def serve(
    context: AppContext,
    accept: Accept,
    stop: threading.Event,
    mine: Callable[[], bool] = lambda: True,
    round_done: Callable[[], None] = lambda: None,
) -> None:
    """Watch until told to stop.

    By events where the kernel gives them, and by looking every few seconds anyway.

    Looks only while the folder is `mine`: several hosts may share one. `round_done` hears of each
    round.
    """
    folder = WatchedFolder(context, accept)
    log.listener_started("folder", "watched")
    settings = context.settings
    pause = min(settings.folder_poll_seconds, max(settings.folder_settle_seconds, 0.2))
    for _ in _rounds(folder.path, stop, pause):
        try:
            if mine():
                folder.scan()
        except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the process
            log.fault("folder", error)
        round_done()


def _rounds(path: Path, stop: threading.Event, pause: float) -> Iterator[None]:
    """Yield when something has changed in the folder, and every `pause` seconds, until `stop`.

    The watcher is a hint only. It raises for one name that is not UTF-8, when the kernel has no
    more watches and when the folder is away: the folder is polled for a while then, and watched
    anew afterwards.
    """
    while not stop.is_set():
        try:
            for _ in watch(
                path,
                stop_event=stop,
                rust_timeout=int(1000 * pause),
                yield_on_timeout=True,
                recursive=False,
                debounce=200,
            ):
                yield
        except Exception as error:  # noqa: BLE001  # whatever it raises, files are taken
            log.fault("folder watcher", error)  # its text has the name of the file
        again_at = time.monotonic() + UNWATCHED_SECONDS
        while not stop.is_set() and time.monotonic() < again_at:
            yield
            stop.wait(pause)


def _is_left_alone(path: Path) -> bool:
    """Return whether the name of a file says that it is not, or not yet, to be read."""
    name = path.name.casefold()
    return (
        name.startswith(_LEFT_ALONE) or name.endswith(_LEFT_ALONE_ENDS) or name in _LEFT_ALONE_NAMES
    )


def _look(path: Path, before: _Look | None) -> _Look | None:
    """Return how the file stands now.

    The same look while nothing changed, None if it is no regular file (any more).
    """
    try:
        found = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    if before is not None and (before.size, before.mtime_ns) == (found.st_size, found.st_mtime_ns):
        return before
    return _Look(found.st_size, found.st_mtime_ns, time.monotonic())


def _read(path: Path, limit: int) -> bytes:
    """Return the bytes of a file, one more than the limit at most.

    Raises OSError, also if it is no file any more.

    It may have become a pipe or a link since it was looked at: opening a pipe would wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return file.read(limit + 1)


def repair_name(path: Path) -> str:
    """Return the name of a file as text; bytes in it that are not UTF-8 are read as Windows-1252.

    Python names such a byte by a lone surrogate, U+DC80 to U+DCFF (PEP 383), which nothing can
    store.
    """
    return "".join(map(_repaired, path.name))


def _repaired(letter: str) -> str:
    if not "\udc80" <= letter <= "\udcff":
        return letter
    return bytes([ord(letter) - 0xDC00]).decode("cp1252", "replace")


def _reason(error: Exception) -> str:
    """Return why a file could not be taken, in fixed words."""
    if isinstance(error, PermissionError):
        return NO_PERMISSION
    if isinstance(error, OSError) and error.errno:
        return f"the disk says: {os.strerror(error.errno)}"
    return describe_unexpected_error(error)


def _cut_short(raw: bytes) -> bool:
    """Return whether the file looks as if more of it were to come.

    Empty, or a zip without its closing directory.
    """
    return not raw or (raw.startswith(b"PK") and not zipfile.is_zipfile(io.BytesIO(raw)))


def _put(folder: Path, name: str, data: bytes) -> None:
    """Write a file whole, under a name that is free; none where it lies there already.

    We were interrupted then.
    """
    if any(path.read_bytes() == data for path in _taken(folder, name)):
        return
    write_synced(_free(folder, name), data)


def _taken(folder: Path, name: str) -> Iterator[Path]:
    return takewhile(Path.exists, _names(folder, name))


def _free(folder: Path, name: str) -> Path:
    """A path in the folder that nothing stands on yet."""
    for path in _names(folder, name):
        if not path.exists():
            return path
    raise FileExistsError(folder)


def _names(folder: Path, name: str) -> Iterator[Path]:
    """Yield paths in the folder for this name, numbered from the second on.

    None is longer than file systems take.
    """
    stem, dot, end = name.rpartition(".")
    stem, end = (stem, dot + end) if stem and len(end.encode()) < END_BYTES else (name, "")
    for n in range(1, 10_000):
        mark = f" ({n})" if n > 1 else ""
        short = stem.encode()[: NAME_BYTES - len((mark + end).encode())].decode(errors="ignore")
        yield folder / f"{short}{mark}{end}"
