"""Synced local spool for forms that arrive while the database is away; drained into it later."""

import fcntl
import json
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from socket import gethostname

from sqlalchemy.exc import SQLAlchemyError

from ingest.folder.watcher import get_folder_id
from ingest.intake import Accept, Arrival, Intake, Transport
from parsers.item import Format
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.models.core import SelfCheck
from workflow.runtime import log
from workflow.runtime.blobs import write_synced
from workflow.runtime.crypto import Sealer

SPOOL_FOLDER = "spool"
SEALED_SUFFIX, DAMAGED_SUFFIX, NEW_SUFFIX = ".sealed", ".damaged", ".new"
DRAIN_SECONDS = 5.0
DOES_NOT_OPEN = (
    "{count} forms in the spool of {host} cannot be stored: is a key missing in INTAKE_SECRET_KEYS?"
    " Put it back and restart `intake webhooks` there; if none is missing, report the lines “fault”"
    " of its log"
)
LEFTOVER_SECONDS = 3600.0  # a file left half written for so long is a killed process's


class Spool:
    """A folder of sealed arrivals, one file each."""

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer

    def store(self, arrival: Arrival) -> None:
        """Store an arrival so that it survives a crash of the machine.

        Raises OSError when it cannot.
        """
        name = f"{os.urandom(16).hex()}{SEALED_SUFFIX}"
        write_synced(self._folder / name, self._sealer.seal(_serialize(arrival)))
        log.form_spooled(name)

    def has_space(self, octets: int) -> bool:
        """Return whether `octets` could be stored now: the disk is neither full nor read-only."""
        try:
            folder = self._folder if self._folder.exists() else self._folder.parent
            disk = os.statvfs(folder)
        except OSError:
            return False
        return (
            folder.is_dir()
            and os.access(folder, os.W_OK)
            and disk.f_bavail * disk.f_frsize >= octets
        )

    def list_waiting(self) -> list[Path]:
        """Return the waiting files, oldest first."""
        return [path for _, path in sorted(_iter_files(self._folder, SEALED_SUFFIX))]

    def read(self, path: Path) -> Arrival:
        """Read a file of the spool.

        Raises ValueError when it does not open: damaged, or sealed with a missing key.
        """
        return _deserialize(self._sealer.unseal(path.read_bytes()))

    def set_aside(self, path: Path) -> None:
        """Keep a file that does not open for a person to look at, without blocking the others."""
        path.replace(path.with_suffix(DAMAGED_SUFFIX))

    def count_damaged(self) -> int:
        """Return how many files do not open; each is a customer's form and needs a person."""
        return sum(1 for _ in _iter_files(self._folder, DAMAGED_SUFFIX))

    def retry_damaged(self) -> None:
        """Queue the files set aside that open now, since their key may have been put back."""
        for _, path in sorted(_iter_files(self._folder, DAMAGED_SUFFIX)):
            try:
                self.read(path)
            except ValueError:
                continue
            path.replace(path.with_suffix(SEALED_SUFFIX))

    def remove_leftovers(self) -> None:
        """Remove files that a killed process left half written; none of them was acknowledged."""
        if self._folder.is_dir():
            # by the clock of the disk, as the files' times are
            latest = self._folder.stat().st_mtime
            for at, path in _iter_files(self._folder, NEW_SUFFIX):
                if latest - at > LEFTOVER_SECONDS:
                    path.unlink(missing_ok=True)


def drain(context: AppContext, accept: Accept | None = None) -> int:
    """Move the waiting forms into the database; return how many.

    Stops at the first that cannot be stored now. Does nothing while another process on this host
    drains the spool.
    """
    folder = context.settings.home / SPOOL_FOLDER
    spool, accept, count = Spool(folder, context.sealer), accept or Intake(context).accept, 0
    if not spool.list_waiting() or not os.access(folder, os.W_OK):
        # a file that cannot be removed would be stored again for ever
        return 0
    with _lock_folder(folder) as alone:
        for path in spool.list_waiting() if alone else ():
            try:
                count += _store_and_remove(spool, accept, path)
            except (SQLAlchemyError, OSError):
                break
    return count


def _store_and_remove(spool: Spool, accept: Accept, path: Path) -> bool:
    """Store the arrival in a file and remove the file; return whether it was stored.

    A file that does not open, or whose arrival cannot be stored, is set aside. Raises
    SQLAlchemyError or OSError while the database or the disk is away.
    """
    try:
        arrival = spool.read(path)
    except FileNotFoundError:  # another host drains it too, and was first
        return False
    except ValueError as error:
        log.fault("spool", error)
        spool.set_aside(path)  # it must not block the others
        return False
    try:
        accept(arrival)
    except (*DATABASE_UNAVAILABLE, OSError):
        # the database or the disk is away: every other file would fail, too
        raise
    except Exception as error:  # noqa: BLE001  # a fault of one file must not block the others
        log.fault("spool", error)
        spool.set_aside(path)
        return False
    path.unlink(missing_ok=True)
    return True


class SpoolDrainer:
    """Drains the spool of a host in the process that fills it.

    The clock may run on another host.
    """

    def __init__(self, context: AppContext, accept: Accept) -> None:
        self._context = context
        self._accept = accept
        self._folder = context.settings.home / SPOOL_FOLDER
        self._reported_count: int | None = None  # damaged files reported to `intake status`

    def run(self, stop: threading.Event) -> None:
        """Drain every few seconds until `stop` is set; after a failed round comes the next."""
        spool, is_tidy = Spool(self._folder, self._context.sealer), False
        while not stop.is_set():
            try:
                if not is_tidy:
                    spool.retry_damaged()
                    spool.remove_leftovers()
                    is_tidy = True
                drain(self._context, self._accept)
                self._report(spool.count_damaged())
            except Exception as error:  # noqa: BLE001  # top of a thread: nothing may end it
                log.fault("spool", error)
            stop.wait(DRAIN_SECONDS)

    def _report(self, count: int) -> None:
        """Report the number of damaged files to `intake status` when it changed."""
        if count == self._reported_count or (not count and not self._folder.is_dir()):
            return
        fault = DOES_NOT_OPEN.format(count=count, host=gethostname()) if count else ""
        with self._context.store.transaction() as session:
            name = f"spool {get_folder_id(self._folder)}"
            session.merge(SelfCheck(name=name, at=self._context.clock(), fault=fault))
        self._reported_count = count


@contextmanager
def _lock_folder(folder: Path) -> Iterator[bool]:
    """Yield whether no other process on this host drains the folder.

    Two at once would do no harm but count repeats.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Return whether the lock was taken; True on a share without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a share without locks
        return True
    return True


def _iter_files(folder: Path, ending: str) -> Iterator[tuple[float, Path]]:
    """Yield modification time and path of the files with this suffix."""
    for path in folder.glob(f"*{ending}"):
        try:
            yield path.stat().st_mtime, path
        except FileNotFoundError:  # drained meanwhile
            continue


def _serialize(arrival: Arrival) -> bytes:
    """Return an arrival as JSON."""
    return json.dumps(
        {
            "transport": arrival.transport,
            "format": arrival.format,
            "raw": b64encode(arrival.raw).decode(),
            "envelope": arrival.envelope,
            "unreadable": arrival.unreadable_reason,
            "reference": arrival.reference,
            "received_at": arrival.received_at.isoformat() if arrival.received_at else "",
        }
    ).encode()


def _deserialize(data: bytes) -> Arrival:
    """Parse what `_serialize` wrote. Raises ValueError for anything else."""
    fields = json.loads(data)
    try:
        return Arrival(
            transport=Transport(fields["transport"]),
            format=Format(fields["format"]),
            raw=b64decode(fields["raw"]),
            envelope=fields["envelope"],
            unreadable_reason=fields["unreadable"],
            reference=fields.get("reference", ""),
            received_at=(
                datetime.fromisoformat(fields["received_at"]) if fields.get("received_at") else None
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not as this program writes it") from error
