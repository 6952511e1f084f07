"""Backup and restore: database, blobs and settings in one tar file, without keys and secrets."""

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import URL, delete, func, make_url, select, update
from sqlalchemy.exc import SQLAlchemyError

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.database.engine import Store, migrate
from workflow.models.accounts import WebSession
from workflow.models.core import Heartbeat, Lease, OutgoingMail, Ticket
from workflow.models.states import OutboxState, WebhookEventState
from workflow.models.webhooks import WebhookEvent
from workflow.runtime.blobs import BlobStore
from workflow.runtime.clock import make_clock
from workflow.runtime.crypto import KEY_FILE, Sealer, Signer
from workflow.settings.settings import TOML_FILE, Settings
from workflow.tickets.desk import Desk

ProgressCallback = Callable[[int, int], None]  # blobs copied so far, and in all
FORMAT = 1  # of the tar file; a program that does not know it refuses to restore
RESTORED_REASON = "restored from a backup: perhaps sent before"
MANIFEST, BLOBS, SETTINGS = "manifest.json", "blobs", "intake.toml"
DATABASES = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
NO_SECRETS = (
    f"Not in it: keys and passwords. Keep {KEY_FILE} of INTAKE_HOME (or INTAKE_SECRET_KEYS) in"
    " another place."
)
_SECRET = re.compile(
    r"(^|_)(keys?|password|secret|handshake|token|relay_url|imap_urls)(_previous)?$"
)
_NO_SECRET = {"tls_key"}  # the path of a file, not the key itself
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class BackupError(Exception):
    """Raised when a backup cannot be written or restored; the text says why and what to do."""


def write_backup(settings: Settings, target: Path, step: ProgressCallback) -> int:
    """Write a backup while the system runs; return how many blobs are in it.

    The file appears whole or not at all, readable by our user alone. Blobs are copied after the
    database: each was on disk before its row, so every row finds its blob. Raises BackupError when
    the file exists or cannot be written.
    """
    if target.exists():
        raise BackupError(f"{target} exists already: name another file")
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=file, mode="w") as tar:
                count = _fill_tar(settings, tar, Path(folder), step)
            file.flush()
            os.fsync(file.fileno())
        new.rename(target)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        new.unlink(missing_ok=True)
    return count


def _fill_tar(
    settings: Settings, tar: tarfile.TarFile, folder: Path, step: ProgressCallback
) -> int:
    url = make_url(settings.database)
    copy = folder / DATABASES[_get_kind(url)]
    _dump(url, copy)
    blobs = _list_blob_files(settings)
    manifest = {"format": FORMAT, "database": copy.name, "blobs": len(blobs)}
    _add_text(tar, MANIFEST, json.dumps(manifest, indent=2))
    tar.add(copy, copy.name)
    toml = Path(os.environ.get("INTAKE_CONFIG", TOML_FILE))
    if toml.is_file():
        values = tomllib.loads(toml.read_text(encoding="utf-8"))
        _add_text(tar, SETTINGS, render_toml(remove_secrets(values)))
    for done, (path, name) in enumerate(blobs, 1):
        tar.add(path, f"{BLOBS}/{name}")
        step(done, len(blobs))
    return len(blobs)


def restore_backup(
    settings: Settings, source: Path, step: ProgressCallback, *, force: bool
) -> list[str]:
    """Restore a backup; return a line for each thing that was done.

    Raises BackupError, with nothing overwritten, when the file is no backup for this database, or
    the database holds tickets and `force` is not given.
    """
    url = make_url(settings.database)
    tickets = _count_tickets(settings)
    if tickets and not force:
        raise BackupError(
            f"the database holds tickets ({tickets}): restore elsewhere, or overwrite them with"
            " --force"
        )
    with _unpack(source) as folder:
        manifest = _read_manifest(folder)
        dump = DATABASES[_get_kind(url)]
        if manifest.get("database") != dump:
            raise BackupError(
                f"the backup holds {manifest.get('database')}, this database needs {dump}"
            )
        blobs = _restore_blobs(settings, folder / BLOBS, step)  # before the rows that name them
        _load(url, folder / dump)
        report = [f"the database is back, with {blobs} blobs that were not here"]
        report += _restore_settings(settings, folder / SETTINGS)
    migrate(settings.database)
    if withheld := withhold_mail(settings, make_clock(settings.clock_offset)()):
        report.append(
            f"{withheld} mails that waited were held back, a task each: they may have been sent"
            " since the backup"
        )
    report.append(
        f"Put {KEY_FILE} back into {settings.home} too: without it what customers sent cannot"
        " be opened."
    )
    return report


def _get_kind(url: URL) -> str:
    kind = url.get_backend_name()
    if kind not in DATABASES or (kind == "sqlite" and url.database in {None, "", ":memory:"}):
        raise BackupError("only SQLite files and PostgreSQL can be backed up")
    return kind


def _count_tickets(settings: Settings) -> int:
    url = make_url(settings.database)
    if _get_kind(url) == "sqlite" and not Path(str(url.database)).exists():
        return 0
    store = Store(settings.database)
    try:
        with store.read_only() as session:
            return session.scalar(select(func.count()).select_from(Ticket)) or 0
    except SQLAlchemyError:  # no tables yet; that a server is away shows when we write
        return 0
    finally:
        store.close()


# -- the database ----


def _dump(url: URL, copy: Path) -> None:
    if _get_kind(url) == "sqlite":
        with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as source:
            _copy_sqlite(source, copy)
    else:
        _run_postgres_tool("pg_dump", url, ["--format=custom", "--no-owner", f"--file={copy}"])


def _copy_sqlite(source: sqlite3.Connection, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # so that it is one file, without a WAL


def _load(url: URL, copy: Path) -> None:
    if _get_kind(url) != "sqlite":
        _run_postgres_tool(
            "pg_restore",
            url,
            ["--clean", "--if-exists", "--no-owner", "--single-transaction", str(copy)],
        )
        return
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            closing(sqlite3.connect(copy)) as source,
            closing(sqlite3.connect(path, timeout=10)) as target,
        ):
            source.backup(target)  # one transaction: the old content or the new, nothing in between
    except sqlite3.Error as error:
        raise BackupError(
            f"the database cannot be written ({error}): stop the processes first"
        ) from None


def _run_postgres_tool(tool: str, url: URL, arguments: list[str]) -> None:
    path = shutil.which(tool)
    if path is None:
        raise BackupError(
            f"{tool} is not on PATH: install the PostgreSQL client (Debian: postgresql-client)"
        )
    database = url.set(drivername="postgresql", password=None).render_as_string()
    # The password is not on the command line, which every user of the host can read.
    environment = {**os.environ, "PGPASSWORD": str(url.password or "")}
    result = subprocess.run(  # noqa: S603  # a fixed tool, no shell
        [path, f"--dbname={database}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        output = result.stderr.strip()
        advice = "its version must be the server's or newer: " if "version" in output else ""
        raise BackupError(f"{tool} failed: {advice}{output[-500:]}")


# -- blobs and settings ----


def _list_blob_files(settings: Settings) -> list[tuple[Path, str]]:
    """List the blobs as (path, name in the tar file); none of an object store."""
    if "://" in settings.blobs:  # an object store has its own copies
        return []
    root = Path(settings.blobs)
    paths = sorted(p for p in root.glob("*/*") if p.is_file() and p.suffix != ".new")
    return [(p, str(p.relative_to(root))) for p in paths]


def _restore_blobs(settings: Settings, folder: Path, step: ProgressCallback) -> int:
    """Copy the blobs that are not here yet; return how many there were."""
    files = sorted(p for p in folder.glob("*/*") if p.is_file())
    new = 0
    for number, path in enumerate(files, 1):
        target = Path(settings.blobs) / path.relative_to(folder)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = target.with_name(f"{target.name}.new")
            shutil.copyfile(path, part)
            part.replace(target)
            new += 1
        step(number, len(files))
    return new


def _restore_settings(settings: Settings, file: Path) -> list[str]:
    """Put the settings beside those in use, which stay; return a line about it."""
    if not file.is_file():
        return []
    target = settings.home / "intake.restored.toml"
    shutil.copyfile(file, target)
    return [f"its settings, without secrets, are in {target}"]


def remove_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of settings without keys, passwords and the user part of URLs."""
    return {
        name: _redact(value)
        for name, value in values.items()
        if name in _NO_SECRET or not _SECRET.search(name)
    }


def _redact(value: Any) -> Any:
    if isinstance(value, dict):
        return remove_secrets(value)
    if isinstance(value, list):
        return [_redact(v) for v in value]
    return _USERINFO.sub("", value) if isinstance(value, str) else value


def render_toml(values: dict[str, Any]) -> str:
    """Render settings as TOML, tables inline."""
    return "".join(f"{json.dumps(k)} = {_render_value(v)}\n" for k, v in values.items())


def _render_value(value: Any) -> str:
    match value:
        case dict():
            entries = (f"{json.dumps(k)} = {_render_value(v)}" for k, v in value.items())
            return "{ " + ", ".join(entries) + " }"
        case list():
            return "[" + ", ".join(map(_render_value, value)) + "]"
        case str():
            # JSON leaves DEL as it is, TOML forbids it.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case _:
            return str(value)


# -- the tar file ----


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def _unpack(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(source) as tar:
                tar.extractall(folder, filter="data")  # no links out of it, no absolute paths
        except (tarfile.TarError, OSError):
            raise BackupError(f"{source} is not a backup, or is damaged") from None
        yield Path(folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        raise BackupError(f"this is no backup of ours: there is no {MANIFEST} in it") from None
    if manifest.get("format") != FORMAT:
        raise BackupError(
            f"the backup is of format {manifest.get('format')}, this program reads {FORMAT}"
        )
    return manifest


# -- what a restored system must not do: send what the original may have sent since ----


def withhold_mail(settings: Settings, now: datetime) -> int:
    """Take every mail that waited in the backup out of the outbox, and raise a task for it.

    Returns how many there were. Safe to repeat. A withheld notice counts as "not possible", so that
    its ticket goes on. Waiting webhook events are given up; `intake hook again` delivers them, if
    that is wanted. Leases, heartbeats and sign-ins of the backed-up system are deleted. Its
    checkpoints, digests and claimed surveys stay, so that nothing is fetched or asked for twice.
    """
    store = Store(settings.database)
    try:
        with store.transaction() as session:
            for table in (Lease, Heartbeat, WebSession):
                session.execute(delete(table))
            waiting = select(OutgoingMail).where(OutgoingMail.state == OutboxState.WAITING)
            mails = list(session.scalars(waiting))
            # All of them first: a failed mail must not have another one queued that waits here.
            for mail in mails:
                mail.state, mail.reason = OutboxState.WITHHELD, RESTORED_REASON
            for mail in mails:
                audit.record(
                    session,
                    "mail withheld",
                    by=RULE,
                    cause=RESTORED_REASON,
                    now=now,
                    ticket=mail.ticket_id,
                    mail=mail.id,
                )
                _make_desk(settings).record_mail_failed(
                    session, mail, RESTORED_REASON, now=now, unreachable=False
                )
            session.flush()  # so that the events of these very changes are given up too
            events = update(WebhookEvent).where(WebhookEvent.state == WebhookEventState.WAITING)
            session.execute(events.values(state=WebhookEventState.GIVEN_UP, reason=RESTORED_REASON))
    finally:
        store.close()
    return len(mails)


def _make_desk(settings: Settings) -> Desk:
    # Nothing is sealed or signed here, and the real keys may not be restored yet: any key will do.
    key = [Fernet.generate_key()]
    return Desk(
        settings, Signer(key), BlobStore(settings.blobs, Sealer(key), settings.inline_limit)
    )
