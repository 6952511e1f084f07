"""Blobs and rows held against each other.

What no row owns goes within a day, what a row owns must be there.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from sqlalchemy import Select, select

from workflow.context import AppContext
from workflow.models.core import Delivery, StoredAttachment, WrittenFile

MIN_BLOB_AGE = timedelta(
    hours=22
)  # a blob lies there before its row commits; looked at each hour, it is gone within a day
MIN_UNOWNED_SECONDS = (
    1800.0  # and it was seen without an owner so long ago, by a clock that does not jump
)
SHARDS = [f"{n:02x}" for n in range(256)]  # of digests: so many at a time are held in memory
MISSING_BLOBS_FAULT = (
    "{} stored originals or attachments are gone from the blobs: is INTAKE_BLOBS_URL right? Restore"
    " a backup"
)


class OrphanedBlobs:
    """Looks through the blobs again and again, remembering what had no owner at an earlier look."""

    def __init__(self, context: AppContext, steady: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._steady = steady
        self._unowned: dict[str, float] = {}  # digests, and since when

    def collect(self) -> str:
        """Remove what has had no owner for long enough.

        What is wrong with the rest, "" if nothing is.

        Raises OSError or SQLAlchemyError when it could not look.
        """
        missing, unowned = 0, dict[str, float]()
        for shard in SHARDS:
            there = dict(self._context.blob_store.list_shard(shard))
            owned = set(self._owned(shard))
            missing += sum(not self._context.blob_store.has_blob(d) for d in owned - there.keys())
            unowned |= self._without_owner({d: at for d, at in there.items() if d not in owned})
        self._unowned = unowned
        return MISSING_BLOBS_FAULT.format(missing) if missing else ""

    def _without_owner(self, found: dict[str, datetime]) -> dict[str, float]:
        """Discard the old ones of these; since when the others are known to have no owner."""
        now, latest = self._steady(), self._context.blob_store.get_time() - MIN_BLOB_AGE
        since = {digest: self._unowned.get(digest, now) for digest in found}
        old = {
            d for d, at in found.items() if at < latest and now - since[d] >= MIN_UNOWNED_SECONDS
        }
        for digest in old:
            self._context.blob_store.delete_blob(digest, unless_since=latest)
        return {digest: at for digest, at in since.items() if digest not in old}

    def _owned(self, shard: str) -> Iterator[str]:
        with self._context.store.read_only() as session:
            for query in [
                _blobs(table, shard) for table in (Delivery, StoredAttachment, WrittenFile)
            ]:
                yield from (digest for digest in session.scalars(query) if digest)


def _blobs(
    table: type[Delivery | StoredAttachment | WrittenFile], shard: str
) -> Select[str | None]:
    # A range, which finds them by the index; no digest is as long as the shard and 64 z's.
    return (
        select(table.blob)
        .where(table.blob.is_not(None), table.blob >= shard, table.blob < shard + "z")
        .distinct()
    )
