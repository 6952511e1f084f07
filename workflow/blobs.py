"""Sealed bytes: small ones for the row itself, large ones content-addressed in a folder or object store."""

import hashlib
import os
from pathlib import Path

import fsspec

from workflow.keys import Sealer


class Vault:
    """Keeps bytes sealed; what `keep` returned is on stable storage, or goes there with the row it belongs to."""

    def __init__(self, url: str, sealer: Sealer, inline_limit: int) -> None:
        self._sealer = sealer
        self._inline_limit = inline_limit
        self._files, self._root = fsspec.url_to_fs(url)
        self._local = "file" in self._files.protocol

    def keep(self, plain: bytes) -> tuple[bytes | None, str | None]:
        """Seal bytes: (content for the row, None), or (None, digest of the blob). Raises OSError when it cannot."""
        sealed = self._sealer.seal(plain)
        if len(plain) <= self._inline_limit:
            return sealed, None
        digest = hashlib.sha256(plain).hexdigest()
        path = self._path(digest)
        if not self._files.exists(path):
            self._write(path, sealed)
        return None, digest

    def open(self, content: bytes | None, blob: str | None) -> bytes:
        """Give back what was kept. Raises OSError when a blob is gone, ValueError when it does not open."""
        if content is not None:
            return self._sealer.open(content)
        if blob is None:
            raise ValueError("neither content nor blob")
        sealed: bytes = self._files.cat_file(self._path(blob))
        return self._sealer.open(sealed)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _write(self, path: str, sealed: bytes) -> None:
        if self._local:
            write_synced(Path(path), sealed)
        else:  # an object store's put is whole and durable, or fails
            self._files.pipe_file(path, sealed)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, name and all on stable storage on return. Raises OSError when it cannot."""
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
    for folder in (path.parent, path.parent.parent):  # the name is durable only once its folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
