"""Links of mails, and notices of secure-message portals: of many programs, and what is none."""

import pytest

from parsers.item import InboundItem
from parsers.mail import message, secure_links
from parsers.text.html import MAX_LINKS, list_links

LINK = "https://portal.payer.example/read?id=1"
ANNOUNCEMENTS = [
    "This is a secure, encrypted message.",
    "You have received an encrypted message from Payer Two.",
    "You have a new secure email from jo@payer.example",
    "Jo Roe has sent you a protected message.",
    "You've been sent a secure message.",
    "New secure message from jo@payer.example",
    "Dr. Lee sent a secure email.",
    "Jo Roe used a portal to send you a secure message.",
    "Sie haben eine verschlüsselte Nachricht erhalten.",
    "Ha recibido un mensaje cifrado.",
    "Vous avez reçu un message sécurisé.",
]
EXPIRIES = {
    "This message expires on Dec 14, 2026.": "Dec 14, 2026",
    "(link good for 7 days)": "7 days",
    "It is available until 2026-12-14 only": "2026-12-14",
    "Valid until 14 December 2026": "14 December 2026",
    "Messages are deleted after 30 days": "30 days",
    "": "",
}
CONVERSATION = [
    "Please send me a secure message about claim 12, I cannot open your portal.",
    "I have sent you the encrypted files by post. Read them when they come.",
    "I have sent you a secure message. Please read it when you can.",
    "We sent a protected file last week, did you open it?",
    "Did you read the encrypted message from the payer? We cannot open it.",
    "We use secure e-mail. Our Facebook page is new: click here.",
    "The payer wrote: the message expires on Dec 14, 2026.",
]


def parse(html: str, subject: str = "Records", files: str = "") -> InboundItem:
    head = f"From: jo@payer.example\nTo: us@desk.example\nSubject: {subject}\nMIME-Version: 1.0\n"
    parts = f"--b\nContent-Type: text/html; charset=utf-8\n\n{html}\n{files}--b--\n"
    (item,) = message.parse(
        f'{head}Content-Type: multipart/mixed; boundary="b"\n\n{parts}'.encode()
    )
    return item


def find_secure_caveats(item: InboundItem) -> list[str]:
    return [caveat for caveat in item.caveats if caveat.startswith("secure message")]


@pytest.mark.parametrize("expiry", EXPIRIES)
@pytest.mark.parametrize("label", ["Open Message", "Click here", "Read the message", "VIEW"])
@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
def test_the_notice_of_a_portal_is_recognised(announcement: str, label: str, expiry: str) -> None:
    html = f'<table><tr><td>{announcement}<tr><td><a href="{LINK}">{label}</a> {expiry}</table>'
    item = parse(html)
    (caveat,) = find_secure_caveats(item)
    assert secure_links.LISTED_LINK in caveat
    assert (f"({EXPIRIES[expiry]})" in caveat) == bool(EXPIRIES[expiry])
    assert item.details == ((label, LINK),)


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
def test_a_notice_in_plain_text_shows_its_link(announcement: str) -> None:
    head = "From: jo@payer.example\nSubject: x\nContent-Type: text/plain; charset=utf-8\n\n"
    (item,) = message.parse(f"{head}{announcement}\n\nTo read it: {LINK}\n".encode())
    (caveat,) = find_secure_caveats(item)
    assert secure_links.SHOWN_LINK in caveat
    assert item.details == ()


@pytest.mark.parametrize(
    "name",
    ["message.rpmsg", "SecureMessageAtt.html", "securedoc_20261130.html", "message_zdm.html"],
)
def test_a_file_that_only_a_portal_opens_is_recognised(name: str) -> None:
    file = (
        "--b\nContent-Type: application/octet-stream\n"
        f'Content-Disposition: attachment; filename="{name}"'
        "\n\nx\n"
    )
    (caveat,) = find_secure_caveats(parse("<p>See the file.</p>", files=file))
    assert secure_links.FILE in caveat


@pytest.mark.parametrize("text", CONVERSATION)
@pytest.mark.parametrize("link", ["", f'<a href="{LINK}">Read more</a>'])
def test_who_only_speaks_of_secure_messages_sends_none(text: str, link: str) -> None:
    assert find_secure_caveats(parse(f"<p>{text}</p>{link}", subject="Re: secure message")) == []


def test_an_announcement_without_a_way_to_open_it_has_no_caveat() -> None:
    assert find_secure_caveats(parse(f"<p>{ANNOUNCEMENTS[0]}</p>")) == []


def test_links_are_listed_once_without_those_the_text_shows() -> None:
    item = parse(
        f'<a href="{LINK}">Open <b>it</b></a> <a href="{LINK}">again</a> <a href="{LINK}&amp;x=2">'
        '<img alt="logo"></a> <a href="https://shown.example/">https://shown.example/</a>'
        '<a href="mailto:jo@payer.example">mail</a> <a href="javascript:alert(1)">no</a>'
        '<a href="/own">no</a>'
    )
    assert item.details == (("Open it", LINK), (f"{LINK}&x=2", f"{LINK}&x=2"))


def test_many_and_long_links_are_bounded() -> None:
    page = "".join(f'<a href="https://a.example/{n}">{n}</a>' for n in range(3 * MAX_LINKS))
    assert len(list_links(page)) == MAX_LINKS
    assert list_links(f'<a href="https://a.example/{"x" * 10_000}">long</a>') == []
    assert list_links("<p>no link</p>") == []
