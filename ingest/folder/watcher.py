"""Watched folder: finished files are stored, processed and moved to done/ or rejected/.

A file that cannot be taken stays where it is, is tried again with backoff and is named by `intake
status` (ItemFaults); the files behind it are taken all the same.
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
UNFINISHED_SECONDS = 30.0  # an incomplete file may still be coming over a slow share
# Between two watches, after one has failed: a growing file whose name is not UTF-8 makes each of
# them fail, and one line in the log a minute is enough.
UNWATCHED_SECONDS = 60.0
NAME_BYTES = 255  # the limit of file systems
STEM_BYTES = 160  # of a file's own name, before our addition
END_BYTES = 20  # of a name's extension; a longer one is none
NOT_A_FILE_REASONS = {
    stat.S_IFLNK: "it is a link: put the file itself here",
    stat.S_IFDIR: "it is a folder: put its files themselves here",
    stat.S_IFIFO: "it is a pipe and no file",
    stat.S_IFSOCK: "it is a socket and no file",
    stat.S_IFCHR: "it is a device and no file",
    stat.S_IFBLK: "it is a device and no file",
}
NOT_A_WORKBOOK = "not an Excel workbook"  # in the reason of a file that is something else
AWAY_CHANNEL = "watched folder"  # of ItemFaults
AWAY_REASON = "the folder is not there: it was moved, deleted, or its share is not mounted"
NO_PERMISSION = "it may not be read or moved: the user of `intake folder` needs the right to"
_IGNORED_STARTS = (".", "~$", "~")  # hidden, Excel's lock, temporary
_IGNORED_ENDS = (".tmp", ".part", ".crdownload", ".partial", ".swp", ".lnk", "~")
_IGNORED_NAMES = frozenset({"desktop.ini", "thumbs.db"})
# A download has lost its temporary name by then. A file that still grows is not reported.
IGNORED_SECONDS = 5 * 60.0
IGNORED_REASON = (
    "its name is that of a file still being written, a hidden one or one of a program: rename it if"
    " it is to be read"
)
# Files that programs and shares keep for themselves hold no request and are never reported.
_SYSTEM_NAMES = _IGNORED_NAMES | {".ds_store", ".localized", ".directory"}
_SYSTEM_STARTS = (ID_FILE, "._", ".nfs", ".fuse_hidden", ".smbdelete", ".syncthing.", ".stfolder")
_LOCKS = ("~$", ".~lock.")  # of Excel and LibreOffice, while a workbook is open
_LOCK_BYTES = 1024  # lock files have about 165


@dataclass(frozen=True, slots=True)
class _FileState:
    """Size and modification time of a file, and since when they have not changed.

    `since` is in monotonic seconds: the clock of a share may be wrong.
    """

    size: int
    mtime_ns: int
    since: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file that could not be taken: its state, the attempts so far, when to retry (monotonic)."""

    state: _FileState
    attempts: int
    again_at: float


class WatchedFolder:
    """A watched folder; `scan` is one round over its files."""

    def __init__(self, context: AppContext, accept: Accept) -> None:
        self.path = context.settings.dropbox
        self._context = context
        self._accept = accept
        self._states: dict[Path, _FileState] = {}
        # accepted, but not yet processed or moved
        self._stored_files: dict[Path, tuple[_FileState, int]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._not_files: dict[Path, str] = {}  # other entries, and why they are not taken
        # files with a temporary or hidden name
        self._ignored_files: dict[Path, _FileState] = {}
        # names recorded for `intake status`; None: not known
        self._recorded_names: set[str] | None = None
        for folder in (self.path, self.path / DONE, self.path / REJECTED):
            folder.mkdir(parents=True, exist_ok=True)
        name = get_folder_id(self.path)
        self._faults = ItemFaults(context.store, context.clock, Transport.FOLDER, name)
        self._away = ItemFaults(context.store, context.clock, AWAY_CHANNEL)
        self._is_away: bool | None = None  # None: not known, as after a start
        self._away_again_at = 0.0  # when the report is due again, monotonic

    def scan(self) -> None:
        """Look at every file once, and take those unchanged for the settling time.

        Nothing is taken while the folder itself cannot be read; `intake status` names it then.
        """
        try:
            paths = sorted(self.path.iterdir())
        except OSError as error:
            self._report_away(error)
            return
        self._report_back()
        before, self._states = self._states, {}
        not_files, self._not_files = self._not_files, {}
        ignored, self._ignored_files = self._ignored_files, {}
        failures: dict[str, str] = {}  # of this round, by name
        for path in paths:
            state = _check_file(path, before.get(path) or ignored.get(path))
            if state is None or _is_ignored(path):
                reason = self._explain_untaken(path, state)
                is_new = reason != not_files.get(path, "")
            else:
                self._states[path] = state
                reason = self._take_if_ready(path, state)
                is_new = True
            if reason and is_new:
                failures[repair_name(path)] = reason
        self._forget_vanished()
        self._record(failures)

    def _report_away(self, error: OSError) -> None:
        """Report to `intake status` that the folder itself cannot be read."""
        if self._is_away and time.monotonic() < self._away_again_at:
            return
        if not self._is_away:
            log.fault("folder", error)
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = AWAY_REASON if is_missing else _explain_error(error)
        try:
            self._away.record(str(self.path), reason)
        except (SQLAlchemyError, OSError) as away:  # the next round tries again
            log.fault("folder", away)
            return
        self._is_away, self._away_again_at = True, time.monotonic() + UNWATCHED_SECONDS

    def _report_back(self) -> None:
        """Take the report back once the folder is there, and make our folders in a new one."""
        if self._is_away is False:
            return
        for folder in (self.path / DONE, self.path / REJECTED):
            folder.mkdir(exist_ok=True)
        try:
            if self._is_away is None:  # also of a folder that was set before
                self._away.delete_others(())
            self._away.delete([str(self.path)])
        except (SQLAlchemyError, OSError) as error:
            log.fault("folder", error)
            return
        self._is_away = False

    def _forget_vanished(self) -> None:
        """Drop what is known of files that are no longer here."""
        self._stored_files = {p: s for p, s in self._stored_files.items() if p in self._states}
        self._failures = {p: f for p, f in self._failures.items() if p in self._states}

    def _record(self, failures: dict[str, str]) -> None:
        """Report the files that cannot be taken to `intake status`, as long as they lie here."""
        # Also ignored files that are not reported yet: those reported before a restart stay so.
        present = {
            repair_name(path) for path in (*self._states, *self._not_files, *self._ignored_files)
        }
        try:
            for name, reason in failures.items():
                self._faults.record(name, reason)
            if present != self._recorded_names:
                self._faults.delete_others(present)
                self._recorded_names = present
        except (SQLAlchemyError, OSError) as error:  # away: the next round tries again
            self._recorded_names = None
            self._not_files = {}
            log.fault("folder", error)

    def _explain_untaken(self, path: Path, state: _FileState | None) -> str:
        """Return why an entry is not to be taken at all, and remember the reason; "" for none."""
        ignored = _is_ignored(path)
        reason = self._explain_ignored(path, state) if ignored else self._explain_no_file(path)
        if reason:
            self._not_files[path] = reason
        return reason

    def _take_if_ready(self, path: Path, state: _FileState) -> str:
        """Take a file that has settled and whose pause is over; return why that failed, or ""."""
        settled = time.monotonic() - state.since >= self._context.settings.folder_settle_seconds
        if settled and self._may_be_tried(path, state):
            return self._take(path, state)
        return ""

    def _explain_no_file(self, path: Path) -> str:
        """Return why something that is no regular file is not taken.

        "" for our own folders and what has vanished.
        """
        if path.name in {DONE, REJECTED}:
            return ""
        try:
            return NOT_A_FILE_REASONS.get(stat.S_IFMT(path.lstat().st_mode), "")
        except FileNotFoundError:
            return ""
        except OSError as error:
            return _explain_error(error)

    def _may_be_tried(self, path: Path, state: _FileState) -> bool:
        """Return whether a file's pause is over; a file that changed is tried at once."""
        failure = self._failures.get(path)
        return failure is None or failure.state != state or time.monotonic() >= failure.again_at

    def _explain_ignored(self, path: Path, state: _FileState | None) -> str:
        """Return why a file whose name marks it as temporary, hidden or a lock is not taken.

        "" while nobody needs to know. Folders and links with such a name are reported like others,
        except hidden ones.
        """
        name = path.name.casefold()
        if name in _SYSTEM_NAMES or name.startswith(_SYSTEM_STARTS):
            return ""
        if state is None:
            return "" if name.startswith(".") else self._explain_no_file(path)
        if name.startswith(_LOCKS) and state.size <= _LOCK_BYTES:
            return ""
        self._ignored_files[path] = state
        return IGNORED_REASON if time.monotonic() - state.since >= IGNORED_SECONDS else ""

    def _take(self, path: Path, state: _FileState) -> str:
        """Take one file; return why it failed, "" when it was taken or nobody needs to know."""
        try:
            number = self._store(path, state)
            if number is not None:
                self._settle(path, state, number)
        except DATABASE_UNAVAILABLE as error:
            # no file can be stored now: the next round tries again
            log.fault("folder", error)
            return ""
        except FileNotFoundError:  # removed meanwhile
            return (
                "" if _check_file(path, state) is None else self._fail(path, state, NO_PERMISSION)
            )
        # a fault of one file must not keep the others from being taken
        except Exception as error:  # noqa: BLE001
            log.fault("folder", error)
            return self._fail(path, state, _explain_error(error))
        self._failures.pop(path, None)
        return ""

    def _fail(self, path: Path, state: _FileState, reason: str) -> str:
        """Record a failed attempt and when to retry; return the reason."""
        before = self._failures.get(path)
        attempts = 1 if before is None or before.state != state else before.attempts + 1
        again_at = time.monotonic() + BACKOFF.seconds(attempts)
        self._failures[path] = _Failure(state, attempts, again_at)
        return reason

    def _store(self, path: Path, state: _FileState) -> int | None:
        """Store the file as a delivery unless it already is one; return the delivery's id.

        None while the file is not to be taken: too large, still being written, or changed
        meanwhile.
        """
        stored = self._stored_files.get(path)
        if stored is not None and stored[0] == state:
            return stored[1]
        limit = self._context.settings.workbook_limit
        if state.size > limit:
            self._reject(path, f"the file is larger than {limit // 2**20} MiB: split the export")
            return None
        raw = _read_file(path, limit)
        if (
            len(raw) > limit
            or _check_file(path, state) != state
            or (_is_incomplete(raw) and time.monotonic() - state.since < UNFINISHED_SECONDS)
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
        self._stored_files[path] = (state, number)
        return number

    def _settle(self, path: Path, state: _FileState, number: int) -> None:
        """Process the delivery and move its file to done/ or rejected/.

        A file that changed meanwhile counts as a new one and stays.
        """
        process_delivery(self._context, number)
        with self._context.store.read_only() as session:
            delivery = session.get_one(Delivery, number)
        if delivery.state is DeliveryState.PENDING or _check_file(path, state) != state:
            return
        if delivery.state is DeliveryState.PROCESSED:
            self._write_rejected_rows(path, number)
            path.rename(_find_free_path(self.path / DONE, repair_name(path)))
        else:
            self._reject(path, delivery.reason, number)

    def _write_rejected_rows(self, path: Path, number: int) -> None:
        """Write the rejected rows of a file into rejected/, to be corrected and dropped again."""
        try:
            rows = list_rejected_rows(self._context, number)
        except UnreadableError:
            # its profiles have changed; `intake delivery` lists the rows all the same
            return
        if rows:
            stem = Path(repair_name(path)).stem.encode()[:STEM_BYTES].decode(errors="ignore")
            name = f"{stem}{REJECTED_ROWS}"
            _write_once(self.path / REJECTED, name, render_workbook(rows))

    def _reject(self, path: Path, reason: str, number: int | None = None) -> None:
        """Move a file to rejected/, beside a text file with the reason."""
        target = _find_free_path(self.path / REJECTED, repair_name(path))
        advice = _give_advice(reason, number)
        reason_file = _find_free_path(self.path / REJECTED, f"{target.name}.txt")
        reason_file.write_text(
            f"This file could not be read.\n\n{reason}\n\n{advice}\n", encoding="utf-8"
        )
        try:
            path.rename(target)
        except OSError:  # it will be tried again, and then the reason is written anew
            reason_file.unlink(missing_ok=True)
            raise


def get_folder_id(folder: Path) -> str:
    """Return the id of a folder, the same for every host that shares it.

    It is kept in a hidden file: a path would not do, since the same path may be a share on one host
    and a local disk on another. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / ID_FILE, uuid4().hex
    if not path.exists():
        new = folder / f"{ID_FILE}.{number}"
        new.write_text(number, encoding="ascii")
        try:
            path.hardlink_to(new)  # atomic, and only for the first: two hosts may be starting
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
    is_assigned: Callable[[], bool] = lambda: True,
    after_round: Callable[[], None] = lambda: None,
) -> None:
    """Watch the folder until `stop` is set.

    By kernel events where there are any, and by polling every few seconds in any case. Several
    hosts may share a folder: it is scanned only while `is_assigned` returns True. `after_round` is
    called after each round.
    """
    folder = WatchedFolder(context, accept)
    log.listener_started("folder", "watched")
    settings = context.settings
    pause = min(settings.folder_poll_seconds, max(settings.folder_settle_seconds, 0.2))
    for _ in _iter_rounds(folder.path, stop, pause):
        try:
            if is_assigned():
                folder.scan()
        except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the process
            log.fault("folder", error)
        after_round()


def _iter_rounds(path: Path, stop: threading.Event, pause: float) -> Iterator[None]:
    """Yield when something changed in the folder, and every `pause` seconds, until `stop`.

    The watcher is only a hint. It raises for a name that is not UTF-8, when the kernel has no more
    watches and when the folder is away: the folder is then polled for a while and watched again
    afterwards.
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
        except Exception as error:  # noqa: BLE001  # the folder is polled then
            log.fault("folder watcher", error)  # only its class: its text has the file's name
        again_at = time.monotonic() + UNWATCHED_SECONDS
        while not stop.is_set() and time.monotonic() < again_at:
            yield
            stop.wait(pause)


def _is_ignored(path: Path) -> bool:
    """Return whether a file's name says that it is not, or not yet, to be read."""
    name = path.name.casefold()
    return (
        name.startswith(_IGNORED_STARTS) or name.endswith(_IGNORED_ENDS) or name in _IGNORED_NAMES
    )


def _check_file(path: Path, before: _FileState | None) -> _FileState | None:
    """Return the present state of a file; the same object while nothing changed.

    None when it is no regular file, or not any more.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if before is not None and (before.size, before.mtime_ns) == (
        status.st_size,
        status.st_mtime_ns,
    ):
        return before
    return _FileState(status.st_size, status.st_mtime_ns, time.monotonic())


def _read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a file, at most one more than the limit.

    It may have become a pipe or a link since it was looked at, and opening a pipe would block for
    ever. Raises OSError, also when it is no regular file any more.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return file.read(limit + 1)


def repair_name(path: Path) -> str:
    """Return a file's name as text; bytes that are not UTF-8 are read as Windows-1252.

    Python represents such a byte as a lone surrogate, U+DC80 to U+DCFF (PEP 383), which neither
    database nor JSON can hold.
    """
    return "".join(map(_repair_character, path.name))


def _repair_character(character: str) -> str:
    """Return a character, decoded as Windows-1252 if it stands for an undecodable byte."""
    if not "\udc80" <= character <= "\udcff":
        return character
    return bytes([ord(character) - 0xDC00]).decode("cp1252", "replace")


def _explain_error(error: Exception) -> str:
    """Return why a file could not be taken, in fixed words."""
    if isinstance(error, PermissionError):
        return NO_PERMISSION
    if isinstance(error, OSError) and error.errno:
        return f"the disk says: {os.strerror(error.errno)}"
    return describe_unexpected_error(error)


def _give_advice(reason: str, number: int | None) -> str:
    """Return what to do about a rejected file.

    A file of another kind, as a PDF, needs no correction: its reason says where to go with it.
    """
    if number is None:
        return "Correct it and drop it again."
    if NOT_A_WORKBOOK in reason:
        return (
            "Nothing of it is a ticket. Once that is done,"
            f" `intake dismiss {number} --reason REASON` takes it off the list of failed"
            " deliveries."
        )
    return (
        f"Correct it and drop it again, or `intake replay {number}` once the program was corrected."
    )


def _is_incomplete(raw: bytes) -> bool:
    """Return whether the file looks incomplete: empty, or a zip without its directory."""
    return not raw or (raw.startswith(b"PK") and not zipfile.is_zipfile(io.BytesIO(raw)))


def _write_once(folder: Path, name: str, data: bytes) -> None:
    """Write a file under a free name, unless an interrupted run has already written it."""
    if any(path.read_bytes() == data for path in _iter_existing_paths(folder, name)):
        return
    write_synced(_find_free_path(folder, name), data)


def _iter_existing_paths(folder: Path, name: str) -> Iterator[Path]:
    """Yield the paths for this name that exist."""
    return takewhile(Path.exists, _iter_candidate_paths(folder, name))


def _find_free_path(folder: Path, name: str) -> Path:
    """Return a path in the folder that does not exist yet."""
    for path in _iter_candidate_paths(folder, name):
        if not path.exists():
            return path
    raise FileExistsError(folder)


def _iter_candidate_paths(folder: Path, name: str) -> Iterator[Path]:
    """Yield paths in the folder for this name, numbered from the second on.

    None of them is longer than file systems allow.
    """
    stem, dot, end = name.rpartition(".")
    stem, end = (stem, dot + end) if stem and len(end.encode()) < END_BYTES else (name, "")
    for n in range(1, 10_000):
        mark = f" ({n})" if n > 1 else ""
        short = stem.encode()[: NAME_BYTES - len((mark + end).encode())].decode(errors="ignore")
        yield folder / f"{short}{mark}{end}"
