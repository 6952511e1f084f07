"""A synced local spool for forms that arrive while the database is away; drained into it later."""

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
LEFTOVER_SECONDS = 3600.0  # a file half written for so long is one of a process that was killed


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
        write_synced(self._folder / name, self._sealer.seal(_dump(arrival)))
        log.form_spooled(name)

    def has_space(self, octets: int) -> bool:
        """Return whether so much could be put now, as far as the disk tells.

        It is neither full nor read-only.
        """
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
        """The files that wait, oldest first."""
        return [path for _, path in sorted(_dated(self._folder, SEALED_SUFFIX))]

    def read(self, path: Path) -> Arrival:
        """Read a file of the spool.

        Raises ValueError when it does not open: damaged, or sealed with another key.
        """
        return _load(self._sealer.unseal(path.read_bytes()))

    def set_aside(self, path: Path) -> None:
        """Keep a file that does not open out of the way of the others, for a person to look at."""
        path.replace(path.with_suffix(DAMAGED_SUFFIX))

    def count_damaged(self) -> int:
        """Return how many files do not open: each is a customer's form, and needs a person."""
        return sum(1 for _ in _dated(self._folder, DAMAGED_SUFFIX))

    def retry_damaged(self) -> None:
        """Let those set aside wait again that open now.

        The key they were sealed with may have been put back.
        """
        for _, path in sorted(_dated(self._folder, DAMAGED_SUFFIX)):
            try:
                self.read(path)
            except ValueError:
                continue
            path.replace(path.with_suffix(SEALED_SUFFIX))

    def remove_leftovers(self) -> None:
        """Remove what a killed process has left half written: nobody was told yes for it."""
        if self._folder.is_dir():
            latest = self._folder.stat().st_mtime  # by the disk's own clock, as the files are
            for at, path in _dated(self._folder, NEW_SUFFIX):
                if latest - at > LEFTOVER_SECONDS:
                    path.unlink(missing_ok=True)


def drain(context: AppContext, accept: Accept | None = None) -> int:
    """Move what waits in the spool into the database; how many.

    Stops at the first that cannot be stored now.

    Where somebody else on this host drains it at this moment, nothing is left to do.
    """
    folder = context.settings.home / SPOOL_FOLDER
    spool, accept, done = Spool(folder, context.sealer), accept or Intake(context).accept, 0
    if not spool.list_waiting() or not os.access(
        folder, os.W_OK
    ):  # what cannot be removed would be stored again for ever
        return 0
    with _alone(folder) as alone:
        for path in spool.list_waiting() if alone else ():
            try:
                done += _take_home(spool, accept, path)
            except (SQLAlchemyError, OSError):
                break
    return done


def _take_home(spool: Spool, accept: Accept, path: Path) -> bool:
    """Store one file's arrival and remove it.

    What does not open or cannot be stored is set aside.
    """
    try:
        arrival = spool.read(path)
    except FileNotFoundError:  # another host drains it too, and was first
        return False
    except ValueError as error:
        log.fault("spool", error)
        spool.set_aside(path)  # it must not keep the others waiting
        return False
    try:
        accept(arrival)
    except (
        *DATABASE_UNAVAILABLE,
        OSError,
    ):  # the database or the disk: every other one would fail like this
        raise
    except Exception as error:  # noqa: BLE001  # whatever this one does, those behind it are stored
        log.fault("spool", error)
        spool.set_aside(path)
        return False
    path.unlink(missing_ok=True)
    return True


class SpoolDrainer:
    """Drains the spool of one host beside the door that fills it.

    The clock may run on another host.
    """

    def __init__(self, context: AppContext, accept: Accept) -> None:
        self._context = context
        self._accept = accept
        self._folder = context.settings.home / SPOOL_FOLDER
        self._told: int | None = None  # how many damaged files `intake status` knows of

    def run(self, stop: threading.Event) -> None:
        """Drain every few seconds until told to stop.

        A round that fails is followed by the next.
        """
        spool, tidied = Spool(self._folder, self._context.sealer), False
        while not stop.is_set():
            try:
                if not tidied:
                    spool.retry_damaged()
                    spool.remove_leftovers()
                    tidied = True
                drain(self._context, self._accept)
                self._tell(spool.count_damaged())
            except Exception as error:  # noqa: BLE001  # top of a thread: nothing may end it
                log.fault("spool", error)
            stop.wait(DRAIN_SECONDS)

    def _tell(self, count: int) -> None:
        if count == self._told or (not count and not self._folder.is_dir()):
            return
        fault = DOES_NOT_OPEN.format(count=count, host=gethostname()) if count else ""
        with self._context.store.transaction() as session:
            name = f"spool {get_folder_id(self._folder)}"
            session.merge(SelfCheck(name=name, at=self._context.clock(), fault=fault))
        self._told = count


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield whether nobody else on this host drains the folder.

    Two at once would do no harm but count repeats.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a share without locks
        return True
    return True


def _dated(folder: Path, ending: str) -> Iterator[tuple[float, Path]]:
    for path in folder.glob(f"*{ending}"):
        try:
            yield path.stat().st_mtime, path
        except FileNotFoundError:  # drained meanwhile
            continue


def _dump(arrival: Arrival) -> bytes:
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


def _load(data: bytes) -> Arrival:
    told = json.loads(data)
    try:
        return Arrival(
            transport=Transport(told["transport"]),
            format=Format(told["format"]),
            raw=b64decode(told["raw"]),
            envelope=told["envelope"],
            unreadable_reason=told["unreadable"],
            reference=told.get("reference", ""),
            received_at=(
                datetime.fromisoformat(told["received_at"]) if told.get("received_at") else None
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not as this program writes it") from error
