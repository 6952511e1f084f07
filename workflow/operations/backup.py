"""Backup and restore: database, blobs and settings without secrets, in one tar file.

Never the keys.
"""

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
from pathlib import Path
from typing import Any

from sqlalchemy import URL, func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from workflow.database.engine import Store, migrate
from workflow.models.core import Ticket
from workflow.operations.restored import withhold_mail
from workflow.runtime.clock import make_clock
from workflow.runtime.crypto import KEY_FILE
from workflow.settings.settings import TOML_FILE, Settings

ProgressCallback = Callable[[int, int], None]
FORMAT = 1  # of the tar file; a later program reads it, or says that it cannot
MANIFEST, BLOBS, SETTINGS = "manifest.json", "blobs", "intake.toml"
DATABASES = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
NO_SECRETS = (
    f"Not in it: keys and passwords. Keep {KEY_FILE} of INTAKE_HOME (or INTAKE_SECRET_KEYS) in"
    " another place."
)
_SECRET = re.compile(
    r"(^|_)(keys?|password|secret|handshake|token|relay_url|imap_urls)(_previous)?$"
)
_NO_SECRET = {"tls_key"}  # a path
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class BackupError(Exception):
    """A backup cannot be written or put back; the text says why and what to do."""


def write_backup(settings: Settings, target: Path, step: ProgressCallback) -> int:
    """Write a backup while everything runs; how many blobs are in it.

    Whole or not at all, readable by us alone.

    Blobs are copied after the database: each was on disk before its row, so every row finds its
    blob. Raises BackupError.
    """
    if target.exists():
        raise BackupError(f"{target} exists already: name another file")
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=file, mode="w") as tar:
                count = _fill(settings, tar, Path(folder), step)
            file.flush()
            os.fsync(file.fileno())
        new.rename(target)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        new.unlink(missing_ok=True)
    return count


def _fill(settings: Settings, tar: tarfile.TarFile, folder: Path, step: ProgressCallback) -> int:
    url = make_url(settings.database)
    copy = folder / DATABASES[_kind(url)]
    _dump(url, copy)
    blobs = _blob_files(settings)
    manifest = {"format": FORMAT, "database": copy.name, "blobs": len(blobs)}
    _add(tar, MANIFEST, json.dumps(manifest, indent=2))
    tar.add(copy, copy.name)
    toml = Path(os.environ.get("INTAKE_CONFIG", TOML_FILE))
    if toml.is_file():
        _add(
            tar,
            SETTINGS,
            render_toml(remove_secrets(tomllib.loads(toml.read_text(encoding="utf-8")))),
        )
    for done, (path, name) in enumerate(blobs, 1):
        tar.add(path, f"{BLOBS}/{name}")
        step(done, len(blobs))
    return len(blobs)


def restore_backup(
    settings: Settings, source: Path, step: ProgressCallback, *, force: bool
) -> list[str]:
    """Put a backup back; what was done, a line each.

    Raises BackupError, with nothing overwritten.
    """
    url = make_url(settings.database)
    held = _tickets(settings)
    if held and not force:
        raise BackupError(
            f"the database holds tickets ({held}): restore elsewhere, or overwrite them with"
            " --force"
        )
    with _unpacked(source) as folder:
        manifest = _manifest(folder)
        wanted = DATABASES[_kind(url)]
        if manifest.get("database") != wanted:
            raise BackupError(
                f"the backup holds {manifest.get('database')}, this database needs {wanted}"
            )
        blobs = _put_blobs(settings, folder / BLOBS, step)  # before the rows that name them
        _load(url, folder / wanted)
        said = [f"the database is back, with {blobs} blobs that were not here"]
        said += _put_settings(settings, folder / SETTINGS)
    migrate(settings.database)
    if held := withhold_mail(settings, make_clock(settings.clock_offset)()):
        said.append(
            f"{held} mails that waited were held back, a task each: they may have been sent since"
            " the backup"
        )
    return [
        *said,
        (
            f"Put {KEY_FILE} back into {settings.home} too: without it what customers sent cannot"
            " be opened."
        ),
    ]


def _kind(url: URL) -> str:
    kind = url.get_backend_name()
    if kind not in DATABASES or (kind == "sqlite" and url.database in {None, "", ":memory:"}):
        raise BackupError("only SQLite files and PostgreSQL can be backed up")
    return kind


def _tickets(settings: Settings) -> int:
    url = make_url(settings.database)
    if _kind(url) == "sqlite" and not Path(str(url.database)).exists():
        return 0
    store = Store(settings.database)
    try:
        with store.read_only() as session:
            return session.scalar(select(func.count()).select_from(Ticket)) or 0
    except SQLAlchemyError:  # no tables yet; a server that is away shows when we write
        return 0
    finally:
        store.close()


# -- the database ----


def _dump(url: URL, copy: Path) -> None:
    if _kind(url) == "sqlite":
        with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as source:
            _copy(source, copy)
    else:
        _postgres("pg_dump", url, ["--format=custom", "--no-owner", f"--file={copy}"])


def _copy(source: sqlite3.Connection, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file


def _load(url: URL, copy: Path) -> None:
    if _kind(url) != "sqlite":
        _postgres(
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


def _postgres(tool: str, url: URL, arguments: list[str]) -> None:
    found = shutil.which(tool)
    if found is None:
        raise BackupError(
            f"{tool} is not on PATH: install the PostgreSQL client (Debian: postgresql-client)"
        )
    where = url.set(drivername="postgresql", password=None).render_as_string()
    environment = {
        **os.environ,
        "PGPASSWORD": str(url.password or ""),
    }  # not on the command line, where all can see it
    done = subprocess.run(  # noqa: S603  # a fixed tool, no shell
        [found, f"--dbname={where}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = done.stderr.strip()
        newer = "its version must be the server's or newer: " if "version" in told else ""
        raise BackupError(f"{tool} failed: {newer}{told[-500:]}")


# -- blobs and settings ----


def _blob_files(settings: Settings) -> list[tuple[Path, str]]:
    if "://" in settings.blobs:  # an object store has its own copies
        return []
    root = Path(settings.blobs)
    found = sorted(p for p in root.glob("*/*") if p.is_file() and p.suffix != ".new")
    return [(p, str(p.relative_to(root))) for p in found]


def _put_blobs(settings: Settings, folder: Path, step: ProgressCallback) -> int:
    files = sorted(p for p in folder.glob("*/*") if p.is_file())
    new = 0
    for done, path in enumerate(files, 1):
        target = Path(settings.blobs) / path.relative_to(folder)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = target.with_name(f"{target.name}.new")
            shutil.copyfile(path, part)
            part.replace(target)
            new += 1
        step(done, len(files))
    return new


def _put_settings(settings: Settings, file: Path) -> list[str]:
    if not file.is_file():
        return []
    target = settings.home / "intake.restored.toml"
    shutil.copyfile(file, target)
    return [f"its settings, without secrets, are in {target}"]


def remove_secrets(told: dict[str, Any]) -> dict[str, Any]:
    """A copy of settings without keys, passwords and the user part of URLs."""
    return {k: _redacted(v) for k, v in told.items() if k in _NO_SECRET or not _SECRET.search(k)}


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return remove_secrets(value)
    if isinstance(value, list):
        return [_redacted(v) for v in value]
    return _USERINFO.sub("", value) if isinstance(value, str) else value


def render_toml(told: dict[str, Any]) -> str:
    """Settings as TOML; tables inline, which TOML takes anywhere."""
    return "".join(f"{json.dumps(k)} = {_value(v)}\n" for k, v in told.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- the tar file ----


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    tar.addfile(entry, io.BytesIO(data))


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(source) as tar:
                tar.extractall(folder, filter="data")  # no links out of it, no absolute paths
        except (tarfile.TarError, OSError):
            raise BackupError(f"{source} is not a backup, or is damaged") from None
        yield Path(folder)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        raise BackupError(f"this is no backup of ours: there is no {MANIFEST} in it") from None
    if told.get("format") != FORMAT:
        raise BackupError(
            f"the backup is of format {told.get('format')}, this program reads {FORMAT}"
        )
    return told
