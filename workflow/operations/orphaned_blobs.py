"""Comparison of the blob store with the database.

A blob that no row owns is deleted within a day; a blob that a row owns must exist.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from sqlalchemy import Select, select

from workflow.context import AppContext
from workflow.models.core import Delivery, StoredAttachment, WrittenFile

# A blob is written before its row commits, so a young one may still get an owner. Checked each
# hour, an orphan is deleted within a day.
MIN_BLOB_AGE = timedelta(hours=22)
# Also measured by the monotonic clock, because the wall clock can jump ahead.
MIN_UNOWNED_SECONDS = 1800.0
SHARDS = [f"{n:02x}" for n in range(256)]  # of digests: one shard at a time is held in memory
MISSING_BLOBS_FAULT = (
    "{} stored originals or attachments are gone from the blobs: is INTAKE_BLOBS_URL right? Restore"
    " a backup"
)


class OrphanedBlobs:
    """Garbage collector of the blob store.

    It remembers, from one run to the next, which blobs had no owner and since when.
    """

    def __init__(
        self, context: AppContext, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._context = context
        self._monotonic = monotonic
        # digest -> monotonic time when first seen unowned
        self._unowned_since: dict[str, float] = {}

    def collect(self) -> str:
        """Delete the blobs that have had no owner for long enough.

        Returns a fault when blobs that rows own are missing, else "". Raises OSError or
        SQLAlchemyError when blob store or database are away.
        """
        missing, unowned_since = 0, dict[str, float]()
        for shard in SHARDS:
            blobs = dict(self._context.blob_store.list_shard(shard))
            owned = set(self._list_owned_digests(shard))
            # Looked up once more, because one may have been written since the shard was listed.
            missing += sum(not self._context.blob_store.has_blob(d) for d in owned - blobs.keys())
            unowned_since |= self._delete_old({d: at for d, at in blobs.items() if d not in owned})
        self._unowned_since = unowned_since
        return MISSING_BLOBS_FAULT.format(missing) if missing else ""

    def _delete_old(self, unowned_blobs: dict[str, datetime]) -> dict[str, float]:
        """Delete the old ones of these blobs; return since when the others have had no owner."""
        now, latest = self._monotonic(), self._context.blob_store.get_time() - MIN_BLOB_AGE
        since = {digest: self._unowned_since.get(digest, now) for digest in unowned_blobs}
        old = {
            digest
            for digest, at in unowned_blobs.items()
            if at < latest and now - since[digest] >= MIN_UNOWNED_SECONDS
        }
        for digest in old:
            self._context.blob_store.delete_blob(digest, unless_since=latest)
        return {digest: at for digest, at in since.items() if digest not in old}

    def _list_owned_digests(self, shard: str) -> Iterator[str]:
        with self._context.store.read_only() as session:
            for table in (Delivery, StoredAttachment, WrittenFile):
                digests = session.scalars(_select_blobs(table, shard))
                yield from (digest for digest in digests if digest)


def _select_blobs(
    table: type[Delivery | StoredAttachment | WrittenFile], shard: str
) -> Select[str | None]:
    # As a range, so that the index serves it. Digests are hexadecimal, which sorts before "z".
    in_shard = (table.blob >= shard, table.blob < shard + "z")
    return select(table.blob).where(table.blob.is_not(None), *in_shard).distinct()
