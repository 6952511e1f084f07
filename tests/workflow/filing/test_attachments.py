"""Files are stored once: as a place in the stored mail, or as bytes of their own."""

import base64
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_delivery
from ingest.replay.reprocess import apply_replay, preview_replay
from parsers.item import Attachment, Encoding, Format, Span
from tests.support.context import make_mail, open_ticket
from workflow.context import AppContext
from workflow.filing.attachments import AttachmentReader, build_attachment_row, store_attachment
from workflow.models.core import Delivery, StoredAttachment
from workflow.operations.orphaned_blobs import OrphanedBlobs
from workflow.runtime.blobs import BlobStore

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 1600  # above INTAKE_INLINE_LIMIT
CSV = "claim,Müller\r\n4711,=denied\r\n".encode()
NOTE = b"as it is\r\nin two lines"
UUENCODED = b"begin 644 u.bin\r\n#0V%T\r\n`\r\nend"  # Cat
FILES = {"a.pdf": PDF, "b.csv": CSV, "c.txt": NOTE, "u.bin": b"Cat"}


def build_mail() -> bytes:
    """Return a mail with a file in each encoding."""
    csv = b"claim,M=C3=BCller=0D=0A4711,=\r\n=3Ddenied=0D=0A="
    parts = (
        (b"text/plain", b"8bit", "", b"see the files"),
        (b"application/pdf", b"base64", "a.pdf", base64.encodebytes(PDF)),
        (b"text/csv", b"quoted-printable", "b.csv", csv),
        (b"text/plain", b"7bit", "c.txt", NOTE),
        (b"application/octet-stream", b"x-uuencode", "u.bin", UUENCODED),
    )
    body = b"".join(
        b"--x\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n" % (kind, encoding)
        + (f'Content-Disposition: attachment; filename="{name}"\r\n' if name else "").encode()
        + b"\r\n%s\r\n" % content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for kind, encoding, name, content in parts
    )
    header = (
        f"From: ann@practice.example\r\nMessage-ID: <{uuid.uuid4()}@x.example>\r\n"
        "Subject: files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    )
    return header.encode() + body + b"--x--\r\n"


def receive(context: AppContext, raw: bytes) -> int:
    arrival = Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw)
    number = Intake(context).accept(arrival)
    process_delivery(context, number)
    return number


def load_files(context: AppContext) -> dict[str, StoredAttachment]:
    with context.store.read_only() as session:
        return {file.name: file for file in session.scalars(select(StoredAttachment))}


def read_files(context: AppContext) -> dict[str, bytes]:
    with context.store.read_only() as session:
        reader = AttachmentReader(context.blob_store, session)
        files = session.scalars(select(StoredAttachment).order_by(StoredAttachment.id))
        return {file.name: reader.read(file) for file in files}


def list_blobs(context: AppContext) -> list[str]:
    folder = context.settings.home / "blobs"
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_attachments_of_a_mail_are_places_in_its_original(any_context: AppContext) -> None:
    number = receive(any_context, build_mail())
    files = load_files(any_context)
    assert {name: file.encoding for name, file in files.items()} == {
        "a.pdf": Encoding.BASE64,
        "b.csv": Encoding.QUOTED_PRINTABLE,
        "c.txt": Encoding.IDENTITY,
        "u.bin": None,  # nothing but our parser reads it
    }
    assert {f.source_id for f in files.values() if f.encoding} == {number}
    assert [n for n, f in files.items() if f.content or f.blob] == ["u.bin"]
    assert len(list_blobs(any_context)) == 1  # the mail itself
    assert read_files(any_context) == FILES
    assert OrphanedBlobs(any_context).collect() == ""


def test_a_mail_in_its_row_serves_its_attachments_too(context: AppContext) -> None:
    receive(context, build_mail().replace(base64.encodebytes(PDF).replace(b"\n", b"\r\n"), b"JVBE"))
    assert list_blobs(context) == []
    assert read_files(context) == {**FILES, "a.pdf": b"%PD"}


def test_processing_again_finds_the_same_files(any_context: AppContext) -> None:
    number = receive(any_context, build_mail())
    assert not preview_replay(any_context, number).has_changes
    with any_context.store.transaction() as session:
        file = session.scalars(select(StoredAttachment).where(StoredAttachment.name == "a.pdf"))
        session.delete(file.one())
    apply_replay(any_context, preview_replay(any_context, number), by="Ann")
    assert read_files(any_context) == FILES
    assert len(list_blobs(any_context)) == 1


def test_the_same_mail_again_restores_a_lost_blob(any_context: AppContext) -> None:
    raw = build_mail()
    number = receive(any_context, raw)
    with any_context.store.transaction() as session:
        # As 0.1.0 stored it: the blob is named by other bytes.
        session.get_one(Delivery, number).blob = "0" * 64
    with pytest.raises(OSError, match="0000"):
        read_files(any_context)
    assert receive(any_context, raw) == number
    assert read_files(any_context) == FILES


def test_files_with_bytes_of_their_own_open_as_before(context: AppContext) -> None:
    """Rows of earlier releases, and of files that came by themselves."""
    files = tuple(Attachment(name, "text/plain", content) for name, content in FILES.items())
    open_ticket(context, make_mail(attachments=files))
    assert {file.encoding for file in load_files(context).values()} == {None}
    assert read_files(context) == FILES


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 2), (0, 2**70)])
def test_a_span_outside_of_the_original_is_not_stored(
    context: AppContext, start: int, end: int
) -> None:
    with context.store.transaction() as session:
        number = receive(context, build_mail())
        file = Attachment("a", "b", b"c", span=Span(start, end, Encoding.IDENTITY))
        delivery = session.get_one(Delivery, number)
        row = store_attachment(context.blob_store, file, delivery)
        assert (row.encoding, AttachmentReader(context.blob_store, session).read(row)) == (
            None,
            b"c",
        )


@pytest.mark.parametrize("shift", [1, 2])
def test_other_bytes_than_were_received_are_never_handed_out(
    context: AppContext, shift: int
) -> None:
    receive(context, build_mail())
    with context.store.transaction() as session:
        for file in session.scalars(
            select(StoredAttachment).where(StoredAttachment.encoding != "")
        ):
            assert file.span_start is not None
            file.span_start += shift
            with pytest.raises(ValueError, match=r"."):
                AttachmentReader(context.blob_store, session).read(file)


def test_an_original_is_opened_once_for_all_of_its_files(context: AppContext) -> None:
    receive(context, build_mail())
    opened: list[str | None] = []

    class CountingBlobStore(BlobStore):
        def read(self, content: bytes | None, blob: str | None) -> bytes:
            opened.append(blob)
            return super().read(content, blob)

    settings = context.settings
    blob_store = CountingBlobStore(settings.blobs, context.sealer, settings.inline_limit)
    with context.store.read_only() as session:
        reader = AttachmentReader(blob_store, session)
        for file in session.scalars(select(StoredAttachment).order_by(StoredAttachment.id)):
            reader.read(file)
    assert len([blob for blob in opened if blob]) == 1


def test_no_original_is_deleted_while_a_message_shows_its_files(any_context: AppContext) -> None:
    number = receive(any_context, build_mail())
    with pytest.raises(IntegrityError), any_context.store.transaction() as session:
        session.execute(delete(Delivery).where(Delivery.id == number))
    assert read_files(any_context) == FILES


def test_the_row_says_nothing_of_the_place() -> None:
    """Comparing a file with what is parsed now must not depend on where its bytes are."""
    file = Attachment("a", "b", b"c")
    place = replace(file, span=Span(0, 1, Encoding.IDENTITY))
    assert build_attachment_row(file) == build_attachment_row(place)
