"""Content that customers sent, as it was sent: the HTML of a mail, and files.

None of it can act in our pages. HTML is shown in a sandboxed frame with an address of its own. Its
pictures are embedded as data: a sandboxed frame sends no cookie, so it could not load them from
behind the sign-in, and this way it cannot name the picture of another ticket either. Its links open
in a new tab, those that lead away from the sender's domain after a warning page.
"""

import base64
import re
from io import BytesIO
from urllib.parse import unquote

from flask import Blueprint, Response, abort, render_template, request, send_file
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import func, select

from console.pages.tickets.links import make_href_builder
from console.presenters.tickets.links import link_html
from console.web.request import get_context, get_session, get_staff, now, requires
from parsers.text import filenames
from parsers.text import html as text_html
from workflow.audit import record as audit
from workflow.filing.attachments import AttachmentReader
from workflow.models.core import Message, StoredAttachment
from workflow.permissions import Right

MAX_PICTURE_BYTES = 8_000_000  # bytes of the pictures in one mail
MAX_HTML_LENGTH = 4_000_000  # characters of HTML that are shown; the message's text has no limit
SANDBOX_POLICY = (
    "sandbox; default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# Inline styles: the sender's style attributes, which are sanitised.
# A link opens in a new tab, which is free of the sandbox: else no site would work in it.
HTML_POLICY = (
    SANDBOX_POLICY.replace("sandbox", "sandbox allow-popups allow-popups-to-escape-sandbox")
    + "; img-src data:; style-src 'unsafe-inline'"
)
# The browser shows a picture or PDF inside a page of its own, which has styles.
FILE_POLICY = f"{SANDBOX_POLICY}; img-src 'self'; style-src 'unsafe-inline'"
SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"%PDF-[12]\."), "application/pdf"),
)

pages = Blueprint("files", __name__)


@pages.get("/messages/<int:number>/html")
@requires(Right.READ)
def show_html(number: int) -> Response:
    """Show the sanitised HTML of a mail, for a sandboxed frame. 404 without HTML."""
    message = get_session().get(Message, number)
    if message is None or not message.html:
        abort(404)
    _record_access(message, message=message.id)
    # Sanitised when shown, not when stored: a hole found later is closed for old mails, too.
    cleaned = _embed_pictures(text_html.sanitise(message.html[:MAX_HTML_LENGTH]), message)
    left_out = cleaned.count("data-remote-src=")
    cleaned = link_html(cleaned, make_href_builder(message))
    page = Response(render_template("ticket/mail.html", body=cleaned, left_out=left_out))
    page.headers["Content-Security-Policy"] = HTML_POLICY
    return page


@pages.get("/messages/<int:number>/text")
@requires(Right.READ)
def show_text(number: int) -> str:
    """Show the whole text and all form details of a message that is too long for the timeline."""
    message = get_session().get(Message, number) or abort(404)
    _record_access(message, message=message.id)
    return render_template(
        "ticket/whole.html", message=message, build_href=make_href_builder(message)
    )


@pages.get("/attachments/<int:number>")
@requires(Right.READ)
def download(number: int) -> Response:
    """Send an attachment as a file to save, which no browser opens, whatever it is."""
    file, content = _read_attachment(number)
    return _send(content, "application/octet-stream", file.name, policy=SANDBOX_POLICY, save=True)


@pages.get("/attachments/<int:number>/view")
@requires(Right.READ)
def view(number: int) -> Response:
    """Show a picture or PDF, which only its first bytes decide, not its name. 404 for others."""
    file, content = _read_attachment(number)
    media_type = detect_media_type(content)
    if not media_type:
        abort(404)
    return _send(content, media_type, file.name, policy=FILE_POLICY, save=False)


def detect_media_type(content: bytes) -> str:
    """Return the media type of a picture or PDF by its first bytes.

    "" for everything else, also for SVG and HTML: both can hold scripts.
    """
    return next((kind for signature, kind in SIGNATURES if signature.match(content)), "")


def _read_attachment(number: int) -> tuple[StoredAttachment, bytes]:
    file = get_session().get(StoredAttachment, number) or abort(404)
    message = get_session().get(Message, file.message_id)
    if message is None:
        abort(404)
    _record_access(message, attachment=file.id)
    return file, _make_reader().read(file)


def _make_reader() -> AttachmentReader:
    return AttachmentReader(get_context().blob_store, get_session())


def send_to_save(content: bytes, name: str) -> Response:
    """Send a file to save, which no browser opens, whatever it is."""
    return _send(content, "application/octet-stream", name, policy=SANDBOX_POLICY, save=True)


def _send(content: bytes, media_type: str, name: str, *, policy: str, save: bool) -> Response:
    # Browsers differ in how they read an escaped quote in a file name.
    safe_name = filenames.make_safe(name).replace('"', "'") or "attachment"
    response = send_file(
        BytesIO(content),
        mimetype=media_type,
        as_attachment=save,
        download_name=safe_name,
        conditional=False,
    )
    response.headers["Content-Security-Policy"] = policy
    response.headers["Cache-Control"] = "no-store"  # send_file lets browsers cache
    return response


def record_attachment_access(number: int) -> int:
    """Record in the audit log who opened an attachment; return its ticket. Aborts with 404."""
    file = get_session().get(StoredAttachment, number) or abort(404)
    message = get_session().get_one(Message, file.message_id)
    _record_access(message, attachment=number)
    return message.ticket_id


def _record_access(message: Message, /, **numbers: int) -> None:
    """Record in the audit log, by numbers, who opened what (45 CFR 164.312(b))."""
    cause = "API" if request.path.startswith("/api/") else "ticket page"
    with get_context().store.transaction() as session:
        audit.record(
            session,
            "file opened",
            by=get_staff().name,
            cause=cause,
            now=now(),
            ticket=message.ticket_id,
            **numbers,
        )


# -- pictures inside a mail ----


def _embed_pictures(html: str, message: Message) -> str:
    """Return the HTML with the pictures of its own message embedded as data.

    A picture that is missing, too large or no picture stays empty.
    """
    tree, reader = LexborHTMLParser(html), _make_reader()
    data_urls: dict[str, str] = {}  # by content id
    for image in tree.css("img"):
        source = (image.attributes.get("src") or "").strip()
        if not source.lower().startswith("cid:"):
            continue
        content_id = unquote(source[4:]).strip("<>")
        if content_id not in data_urls:
            used_bytes = sum(map(len, data_urls.values()))
            data_urls[content_id] = _make_data_url(reader, message, content_id, used_bytes)
        image.attrs["src"] = data_urls[content_id]
    return tree.body.inner_html or "" if tree.body else ""


def _make_data_url(
    reader: AttachmentReader, message: Message, content_id: str, used_bytes: int
) -> str:
    """Return a picture of the message as a data URL; `used_bytes` of the limit are taken."""
    rows = select(StoredAttachment).where(
        StoredAttachment.message_id == message.id,
        func.lower(StoredAttachment.content_id) == content_id.lower(),
        StoredAttachment.size < MAX_PICTURE_BYTES,
    )
    file = get_session().scalar(rows.limit(1))
    if file is None:
        return ""
    content = reader.read(file)
    media_type = detect_media_type(content)
    if not media_type.startswith("image/") or used_bytes + len(content) > MAX_PICTURE_BYTES:
        return ""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
