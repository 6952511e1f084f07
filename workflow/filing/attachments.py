"""Storage of the files that come with messages.

A file is stored once. What lies within a stored original, such as an attachment of a mail, is kept
as its place there; any other file has bytes of its own, in its row or in the blob store.
"""

import hashlib
from typing import Any

from sqlalchemy.orm import Session

from parsers.item import Attachment, Span
from workflow.models.core import Delivery, StoredAttachment
from workflow.runtime.blobs import BlobStore


def store_attachment(
    blob_store: BlobStore, attachment: Attachment, delivery: Delivery | None
) -> StoredAttachment:
    """Store an attachment and return its row, without the message.

    `delivery` is the original it came in; None where it came by itself, as a downloaded file.
    Raises OSError when the blob store cannot take it.
    """
    return StoredAttachment(
        **build_attachment_row(attachment), **store_content(blob_store, attachment, delivery)
    )


def build_attachment_row(attachment: Attachment) -> dict[str, Any]:
    """Return the row of an attachment, by column, without its message and its bytes."""
    return {
        "name": attachment.name,
        "mime": attachment.mime[:255],  # the length of the column
        "size": attachment.size,
        "sha256": attachment.sha256,
        "inline": attachment.inline,
        "content_id": attachment.content_id,
    }


def store_content(
    blob_store: BlobStore, attachment: Attachment, delivery: Delivery | None
) -> dict[str, Any]:
    """Store the bytes of an attachment and return the columns that say where they are.

    Raises OSError when the blob store cannot take them.
    """
    span = attachment.span
    # Anything outside of the original comes from no parser that works.
    if delivery is None or span is None or not 0 <= span.start <= span.end <= delivery.size:
        content, blob = blob_store.store(attachment.content)
        return {**_NOWHERE, "content": content, "blob": blob}
    return {
        **_NOWHERE,
        "source_id": delivery.id,
        "span_start": span.start,
        "span_end": span.end,
        "encoding": span.encoding,
    }


# Every row names all columns: rows of one INSERT must.
_NOWHERE: dict[str, Any] = {
    "content": None,
    "blob": None,
    "source_id": None,
    "span_start": None,
    "span_end": None,
    "encoding": None,
}


class AttachmentReader:
    """Reads stored attachments; an original is opened once for those of one mail."""

    def __init__(self, blob_store: BlobStore, session: Session) -> None:
        self._blob_store = blob_store
        self._session = session
        self._source_id = 0
        self._source = b""  # the original that was opened last

    def read(self, file: StoredAttachment) -> bytes:
        """Return the bytes of an attachment.

        Raises OSError when they are gone, ValueError when they cannot be decrypted or are not the
        ones that were received.
        """
        if file.encoding is None:
            return self._blob_store.read(file.content, file.blob)
        assert file.source_id is not None
        assert file.span_start is not None
        assert file.span_end is not None
        span = Span(file.span_start, file.span_end, file.encoding)
        content = span.decode(self._open_source(file.source_id))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError("the original does not hold the attachment where it should")
        return content

    def _open_source(self, number: int) -> bytes:
        """Return the bytes of a delivery as they came."""
        if number != self._source_id:
            self._source = b""  # never two of them in memory
            delivery = self._session.get_one(Delivery, number)
            self._source = self._blob_store.read(delivery.content, delivery.blob)
            self._source_id = number
        return self._source
