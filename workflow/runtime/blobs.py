"""Storage of encrypted bytes.

Small content goes into the database row itself, large content into a folder or an object store.
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
DELETING_SUFFIX = ".going"  # of a blob that `delete_blob` has moved away before it deletes it
LEFTOVER_AGE = timedelta(days=1)  # files of unfinished writes and deletions go after this time


class BlobStore:
    """Encrypted content, in the row it belongs to or as a blob named by a SHA-256 of it.

    When `store` returns, a blob is on stable storage; content for a row gets there with the row.
    """

    def __init__(self, url: str, sealer: Sealer, inline_limit: int) -> None:
        self._sealer = sealer
        self._inline_limit = inline_limit
        self._files, self._root = fsspec.url_to_fs(url)
        self._local = "file" in self._files.protocol

    def store(self, plain: bytes, digest: str = "") -> tuple[bytes | None, str | None]:
        """Encrypt bytes and store those that are too large for a row.

        `digest` names the blob, where the caller has computed a SHA-256 over all of the bytes
        already: hashing large mail twice would cost as much as encrypting it ten times. Returns
        (encrypted content for the row, None), or (None, digest of the blob). Raises OSError when
        the blob cannot be written.
        """
        if len(plain) <= self._inline_limit:
            return self._sealer.seal(plain), None
        digest = digest or hashlib.sha256(plain).hexdigest()
        path = self._get_path(digest)
        if not self._refresh(path):
            self._write(path, self._sealer.seal(plain))
        return None, digest

    def read(self, content: bytes | None, blob: str | None) -> bytes:
        """Return the plain bytes of a row's `content`, or of the blob with the digest `blob`.

        Raises OSError when the blob is gone, ValueError when it cannot be decrypted.
        """
        if content is not None:
            return self._sealer.unseal(content)
        if blob is None:
            raise ValueError("neither content nor blob")
        sealed_content: bytes = self._files.cat_file(self._get_path(blob))
        return self._sealer.unseal(sealed_content)

    def list_shard(self, shard: str) -> Iterator[tuple[str, datetime]]:
        """Yield digest and time of storing of each blob whose digest begins with `shard`.

        `shard` is two hexadecimal digits. Also deletes what killed processes left behind. Raises
        OSError.
        """
        try:
            entries = self._files.ls(f"{self._root}/{shard}", detail=True)
        except FileNotFoundError:
            return
        for entry in entries:
            path = str(entry["name"])
            digest = shard + path.rpartition("/")[2]
            if not re.fullmatch(DIGEST_PATTERN, digest) and not digest.endswith(
                (".new", DELETING_SUFFIX)
            ):
                continue
            try:
                modified_at = self._files.modified(path)
            except FileNotFoundError:  # deleted since it was listed
                continue
            if re.fullmatch(DIGEST_PATTERN, digest):
                yield digest, modified_at
            elif self.get_time() - modified_at > LEFTOVER_AGE:  # of a process that was killed
                self._files.rm_file(path)

    def has_blob(self, digest: str) -> bool:
        """Return whether a blob with this digest is stored."""
        return bool(self._files.exists(self._get_path(digest)))

    def get_time(self) -> datetime:
        """Return the time to compare the times of `list_shard` with.

        Files carry the system's time, so INTAKE_CLOCK_OFFSET does not count here.
        """
        return make_clock()()

    def delete_blob(self, digest: str, *, unless_since: datetime) -> None:
        """Delete a blob that no row refers to, unless it was stored again since `unless_since`."""
        path = self._get_path(digest)
        if not self._local:
            if self._files.modified(path) < unless_since:
                self._files.rm_file(path)
            return
        # Move the file away first, then check its time once more: whoever stores the same bytes
        # meanwhile has either touched the file before the move, which shows in its time, or does
        # not find it any more and writes a new one.
        moved_path = Path(f"{path}{DELETING_SUFFIX}")
        try:
            Path(path).rename(moved_path)
            if datetime.fromtimestamp(moved_path.stat().st_mtime, UTC) >= unless_since:
                moved_path.rename(path)
            else:
                moved_path.unlink()
        except FileNotFoundError:  # the clock of another host has deleted it
            return

    def _refresh(self, path: str) -> bool:
        """Set the time of an existing blob to now; return False when it has to be written.

        On True its name is on stable storage.
        """
        if not self._local:  # an object store sets the time only when the object is put again
            return False
        try:
            os.utime(path)
            # A file that `delete_blob` moved away between the two calls is about to be deleted.
            Path(path).stat()
        except FileNotFoundError:
            return False
        _sync_name(Path(path))
        return True

    def _get_path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _write(self, path: str, sealed_content: bytes) -> None:
        if self._local:
            write_synced(Path(path), sealed_content)
        else:  # an object store's put is atomic and durable, or fails
            self._files.pipe_file(path, sealed_content)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file completely or not at all; content and name are on stable storage on return.

    Raises OSError.
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
    # A name is durable only once its folder is synced, and a new folder once its parent is.
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
