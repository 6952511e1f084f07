"""What customers sent, as they sent it: the HTML of a mail, and files.

Nothing of it can act in our pages.

HTML is shown in a frame without rights on an address of its own. Its pictures are written into it
as data: a frame without rights sends no cookie, so it could not fetch them behind the sign-in, and
this way it cannot name the picture of another ticket either.
"""

import base64
import re
from io import BytesIO
from urllib.parse import unquote

from flask import Blueprint, Response, abort, render_template, request, send_file
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import func, select

from console.web.request import get_context, get_session, get_staff, now, requires
from parsers.text import filenames
from parsers.text import html as text_html
from workflow.audit import record as audit
from workflow.models.core import Message, StoredAttachment
from workflow.permissions import Right

MAX_PICTURE_BYTES = 8_000_000  # bytes of the pictures in one mail
MAX_HTML_LENGTH = 4_000_000  # characters of HTML; beyond, the text has to do
SANDBOX_POLICY = (
    "sandbox; default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HTML_POLICY = f"{SANDBOX_POLICY}; img-src data:; style-src 'unsafe-inline'"  # the sender's cleaned style attributes
# the browser's own page around picture or PDF
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
def html(number: int) -> Response:
    """The HTML of a mail, cleaned, for a frame without rights.

    404 without such a message or without HTML.
    """
    message = get_session().get(Message, number)
    if message is None or not message.html:
        abort(404)
    _opened(message, message=message.id)
    cleaned = _with_pictures(text_html.sanitise(message.html[:MAX_HTML_LENGTH]), message)
    left_out = cleaned.count("data-remote-src=")
    page = Response(render_template("ticket/mail.html", body=cleaned, left_out=left_out))
    page.headers["Content-Security-Policy"] = HTML_POLICY
    return page


@pages.get("/messages/<int:number>/text")
@requires(Right.READ)
def whole(number: int) -> str:
    """The whole text of a message and every detail of its form.

    For those too long for the timeline.
    """
    message = get_session().get(Message, number) or abort(404)
    _opened(message, message=message.id)
    return render_template("ticket/whole.html", message=message)


@pages.get("/attachments/<int:number>")
@requires(Right.READ)
def download(number: int) -> Response:
    """A file to be saved, never opened in the browser, whatever it is."""
    file, content = _file(number)
    return _answer(content, "application/octet-stream", file.name, policy=SANDBOX_POLICY, save=True)


@pages.get("/attachments/<int:number>/view")
@requires(Right.READ)
def view(number: int) -> Response:
    """A picture or PDF to look at: what its first bytes say it is, whatever it is called.

    404 for everything else.
    """
    file, content = _file(number)
    kind = detect_media_type(content)
    if not kind:
        abort(404)
    return _answer(content, kind, file.name, policy=FILE_POLICY, save=False)


def detect_media_type(content: bytes) -> str:
    """Return what a file we show is, by its first bytes.

    "" for everything else, SVG and HTML with it.
    """
    return next((kind for signature, kind in SIGNATURES if signature.match(content)), "")


def _file(number: int) -> tuple[StoredAttachment, bytes]:
    file = get_session().get(StoredAttachment, number) or abort(404)
    message = get_session().get(Message, file.message_id)
    if message is None:
        abort(404)
    _opened(message, attachment=file.id)
    return file, get_context().blob_store.read(file.content, file.blob)


def _answer(content: bytes, kind: str, name: str, *, policy: str, save: bool) -> Response:
    safe = (
        filenames.make_safe(name).replace('"', "'") or "attachment"
    )  # clients differ in how they read a marked quote
    answer = send_file(
        BytesIO(content), mimetype=kind, as_attachment=save, download_name=safe, conditional=False
    )
    answer.headers["Content-Security-Policy"] = policy
    answer.headers["Cache-Control"] = "no-store"  # send_file would have it kept
    return answer


def _opened(of: Message, **what: int) -> None:
    """Put on record who has looked at what, by number (45 CFR 164.312(b))."""
    cause = "API" if request.path.startswith("/api/") else "ticket page"
    with get_context().store.transaction() as session:
        audit.record(
            session,
            "file opened",
            by=get_staff().name,
            cause=cause,
            now=now(),
            ticket=of.ticket_id,
            **what,
        )


# -- pictures inside a mail ----


def _with_pictures(cleaned: str, message: Message) -> str:
    """The HTML with the pictures it shows of its own message written into it.

    The others stay empty.
    """
    tree = LexborHTMLParser(cleaned)
    wanted: dict[str, str] = {}
    for image in tree.css("img"):
        source = (image.attributes.get("src") or "").strip()
        if source.lower().startswith("cid:"):
            name = unquote(source[4:]).strip("<>")
            if name not in wanted:
                wanted[name] = _picture(message, name, sum(map(len, wanted.values())))
            image.attrs["src"] = wanted[name]
    return tree.body.inner_html or "" if tree.body else ""


def _picture(message: Message, name: str, used: int) -> str:
    rows = select(StoredAttachment).where(
        StoredAttachment.message_id == message.id,
        func.lower(StoredAttachment.content_id) == name.lower(),
        StoredAttachment.size < MAX_PICTURE_BYTES,
    )
    file = get_session().scalar(rows.limit(1))
    if file is None:
        return ""
    content = get_context().blob_store.read(file.content, file.blob)
    kind = detect_media_type(content)
    if not kind.startswith("image/") or used + len(content) > MAX_PICTURE_BYTES:
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
