"""Journal of mails that the relay has taken and that the database does not show as sent yet.

A relay's acceptance and our commit cannot be one act, and several mails share a commit. A line in a
file costs next to nothing and survives the end of its process, so the next worker on this host
records these mails instead of sending them again. Only a crash of the whole machine, or a folder
that cannot be written, still costs a second copy, under the same Message-ID.
"""

import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

from workflow.runtime import log
from workflow.tickets.outbox import SEND

_SUFFIX = ".journal"


class JournalEntry(NamedTuple):
    """A mail that the relay has taken.

    `created_at` tells it from another mail that got its number after a backup was restored.
    """

    number: int
    created_at: datetime


class SentJournal:
    """The journal of one worker: a file, locked until it is closed or its process ends."""

    def __init__(self, folder: Path) -> None:
        """Create the file. Raises OSError when the folder cannot be written."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{uuid4().hex}{_SUFFIX}"
        self._file = _create_locked(self._path)
        self._is_empty = True

    def add(self, number: int, created_at: datetime) -> None:
        """Note that the relay has taken a mail of the outbox.

        It never raises: without the note, as on a full disk, only a crash sends the mail again.
        """
        self._is_empty = False
        try:
            os.write(self._file, f"{number} {created_at.isoformat()}\n".encode("ascii"))
        except OSError as error:
            log.fault(SEND, error)

    def clear(self) -> None:
        """Forget all entries: they are recorded in the database."""
        if not self._is_empty:
            os.ftruncate(self._file, 0)
            self._is_empty = True

    def close(self) -> None:
        """Close the file; it stays behind when it still has entries."""
        if self._is_empty:
            self._path.unlink(missing_ok=True)
        os.close(self._file)  # which gives the lock up


def take_abandoned(folder: Path) -> Iterator[list[JournalEntry]]:
    """Yield the entries of each journal whose process has ended.

    A journal is deleted once the caller asks for the next one; it stays when the caller raises. One
    that cannot be opened, read or deleted is logged and left: it must not stop the sending.
    """
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                if _lock_abandoned(file):
                    yield list(_parse(file.read()))
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # another worker has just taken it
            continue
        except OSError as error:
            log.fault(SEND, error)


def _lock_abandoned(file: IO[str]) -> bool:
    """Lock a journal; return False while its process lives, or when another worker has taken it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file.fileno()).st_nlink > 0


def _create_locked(path: Path) -> int:
    """Create and lock a file; again when another worker took it for an abandoned one meanwhile."""
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def _parse(text: str) -> Iterator[JournalEntry]:
    """Yield the entries of a file; a last line that was cut off is left out."""
    for line in text.splitlines(keepends=True):
        number, _, moment = line.partition(" ")
        try:
            entry = JournalEntry(int(number), datetime.fromisoformat(moment.rstrip("\n")))
        except ValueError:
            continue
        if line.endswith("\n"):
            yield entry
