"""Storage of sealed bytes.

Small ones go into the row itself, large ones into a folder or an object store.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec

from workflow.runtime.clock import make_clock
from workflow.runtime.crypto import Sealer

DIGEST_PATTERN = r"[0-9a-f]{64}"
DELETING_SUFFIX = ".going"  # a blob on its way out
LEFTOVER_AGE = timedelta(days=1)


class BlobStore:
    """Keeps bytes sealed.

    What `keep` returned is on stable storage, or goes there with the row it belongs to.
    """

    def __init__(self, url: str, sealer: Sealer, inline_limit: int) -> None:
        self._sealer = sealer
        self._inline_limit = inline_limit
        self._files, self._root = fsspec.url_to_fs(url)
        self._local = "file" in self._files.protocol

    def store(self, plain: bytes) -> tuple[bytes | None, str | None]:
        """Seal bytes: (content for the row, None), or (None, digest of the blob).

        Raises OSError when it cannot.
        """
        sealed = self._sealer.seal(plain)
        if len(plain) <= self._inline_limit:
            return sealed, None
        digest = hashlib.sha256(plain).hexdigest()
        path = self._path(digest)
        if not self._reused(path):
            self._write(path, sealed)
        return None, digest

    def read(self, content: bytes | None, blob: str | None) -> bytes:
        """Give back what was kept.

        Raises OSError when a blob is gone, ValueError when it does not open.
        """
        if content is not None:
            return self._sealer.unseal(content)
        if blob is None:
            raise ValueError("neither content nor blob")
        sealed: bytes = self._files.cat_file(self._path(blob))
        return self._sealer.unseal(sealed)

    def list_shard(self, shard: str) -> Iterator[tuple[str, datetime]]:
        """Digests that begin with these two letters, and when each was last kept.

        Raises OSError.
        """
        try:
            found = self._files.ls(f"{self._root}/{shard}", detail=True)
        except FileNotFoundError:
            return
        for entry in found:
            path = str(entry["name"])
            digest = shard + path.rpartition("/")[2]
            if not re.fullmatch(DIGEST_PATTERN, digest) and not digest.endswith(
                (".new", DELETING_SUFFIX)
            ):
                continue
            try:
                at = self._files.modified(path)
            except FileNotFoundError:  # gone meanwhile
                continue
            if re.fullmatch(DIGEST_PATTERN, digest):
                yield digest, at
            elif self.get_time() - at > LEFTOVER_AGE:  # of a process that was killed
                self._files.rm_file(path)

    def has_blob(self, digest: str) -> bool:
        """Return whether the blob is there."""
        return bool(self._files.exists(self._path(digest)))

    def get_time(self) -> datetime:
        """The time by which `blobs` tells when each was kept."""
        return make_clock()()

    def delete_blob(self, digest: str, *, unless_since: datetime) -> None:
        """Remove a blob that no row owns.

        Unless somebody has kept the same bytes again since then.
        """
        path = self._path(digest)
        if not self._local:
            if self._files.modified(path) < unless_since:
                self._files.rm_file(path)
            return
        # Out of the way first, then looked at once more: whoever keeps these bytes now either
        # touched the file before it was moved, which shows here, or does not find it any more and
        # writes its own.
        going = Path(f"{path}{DELETING_SUFFIX}")
        try:
            Path(path).rename(going)
            if datetime.fromtimestamp(going.stat().st_mtime, UTC) >= unless_since:
                going.rename(path)
            else:
                going.unlink()
        except FileNotFoundError:  # another clock was faster
            return

    def _reused(self, path: str) -> bool:
        """Return whether the blob is there already, from now on as one kept now.

        Its name is on stable storage.
        """
        if not self._local:  # put again: that is how an object store knows it was kept now
            return False
        try:
            os.utime(path)
            Path(
                path
            ).stat()  # still: what was moved away between finding and touching it is on its way out
        except FileNotFoundError:
            return False
        _sync_name(Path(path))
        return True

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _write(self, path: str, sealed: bytes) -> None:
        if self._local:
            write_synced(Path(path), sealed)
        else:  # an object store's put is whole and durable, or fails
            self._files.pipe_file(path, sealed)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, name and all on stable storage on return.

    Raises OSError when it cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}.new")
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    _sync_name(path)


def _sync_name(path: Path) -> None:
    for folder in (path.parent, path.parent.parent):  # the name is durable only once its folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
