"""A synced local spool for forms that arrive while the database is away; drained into it later."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from workflow import journal
from workflow.blobs import write_synced
from workflow.house import House
from workflow.keys import Sealer

SPOOL = "spool"


class Spool:
    """A folder of sealed arrivals, one file each."""

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer

    def put(self, arrival: Arrival) -> None:
        """Store an arrival so that it survives a crash of the machine. Raises OSError when it cannot."""
        name = f"{os.urandom(16).hex()}.sealed"
        write_synced(self._folder / name, self._sealer.seal(_dump(arrival)))
        journal.spooled(name)

    def waiting(self) -> list[Path]:
        """The files that wait, oldest first."""
        if not self._folder.is_dir():
            return []
        return [path for _, path in sorted(_dated(self._folder))]

    def take(self, path: Path) -> Arrival:
        """Read a file of the spool. Raises ValueError when it does not open: damaged, or sealed with another key."""
        return _load(self._sealer.open(path.read_bytes()))

    def set_aside(self, path: Path) -> None:
        """Keep a file that does not open out of the way of the others, for a person to look at."""
        path.replace(path.with_suffix(".damaged"))


def drain(house: House) -> int:
    """Move what waits in the spool into the database; how many. Stops at the first that cannot be stored.

    A file that does not open is set aside: it must not keep the others waiting.
    """
    spool = Spool(house.settings.home / SPOOL, house.sealer)
    intake = Intake(house)
    done = 0
    for path in spool.waiting():
        try:
            intake.accept(spool.take(path))
        except ValueError as error:
            journal.fault("spool", error)
            spool.set_aside(path)
            continue
        except FileNotFoundError:  # another process drains too, and was first
            continue
        except (SQLAlchemyError, OSError):
            break
        path.unlink(missing_ok=True)
        done += 1
    return done


def _dated(folder: Path) -> Iterator[tuple[float, Path]]:
    for path in folder.glob("*.sealed"):
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
            "unreadable": arrival.unreadable,
            "received_at": arrival.received_at.isoformat() if arrival.received_at else "",
        }
    ).encode()


def _load(data: bytes) -> Arrival:
    told = json.loads(data)
    return Arrival(
        transport=Transport(told["transport"]), format=Format(told["format"]), raw=b64decode(told["raw"]),
        envelope=told["envelope"], unreadable=told["unreadable"],
        received_at=datetime.fromisoformat(told["received_at"]) if told.get("received_at") else None,
    )  # fmt: skip
