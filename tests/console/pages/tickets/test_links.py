"""Links of customers' mails open; those that lead away from the sender only after a warning."""

import re
import time

import pytest
from selectolax.lexbor import LexborHTMLParser

from console.presenters.tickets import links
from console.presenters.tickets.links import (
    get_host,
    is_of_sender,
    link_html,
    link_text,
    make_key,
)
from parsers.item import Address, Attachment
from tests.support.context import make_mail, open_ticket
from tests.support.signed_in_client import sign_in_at_desk
from workflow.context import AppContext
from workflow.models.core import Message
from workflow.models.states import Judgement

ANN = "ann@mail.clinic.example"
SENDER = Address("Ann", ANN)
EVIL = "https://evil.example/a"


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("https://clinic.example/a", ANN),
        ("https://portal.clinic.example:8443/a?b=c", ANN),
        ("https://CLINIC.example.", "ann@clinic.example."),
        ("http://www.praxis.co.uk", "ann@praxis.co.uk"),
        ("https://müller.example", "ann@xn--mller-kva.example"),
    ],
)
def test_a_link_to_the_domain_of_its_sender(address: str, sender: str) -> None:
    assert is_of_sender(address.rstrip("."), [sender.rstrip(".")])


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("https://clinic.example.evil.example/a", ANN),
        ("https://clinic.example@evil.example/a", ANN),
        ("https://evil.example/?clinic.example", ANN),
        ("https://evil.example\\@clinic.example/", ANN),  # a browser reads \\ as /
        ("https://evil.example\\.clinic.example/", ANN),
        ("https://clinic-example.com", ANN),
        ("https://c1inic.example", ANN),
        ("https://clіnic.example", ANN),  # noqa: RUF001  # with a Cyrillic letter
        ("https://other.co.uk", "ann@praxis.co.uk"),
        ("https://co.uk", "ann@co.uk"),
        ("https://mail.gmail.com", "ann@gmail.com"),
        ("http://127.0.0.1/a", "ann@127.0.0.1"),
        ("http://[::1]/a", "ann@[::1]"),
        ("https://[", ANN),
        ("https://clinic.example", ""),
        ("https://clinic.example", "clinic.example"),
    ],
)
def test_a_link_to_somewhere_else(address: str, sender: str) -> None:
    assert not is_of_sender(address, [sender])


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("see https://x.example/a.", ["https://x.example/a"]),
        ("(see https://x.example/a(b))", ["https://x.example/a(b)"]),
        ("<https://x.example/a>, https://x.example/b!", ["https://x.example/a", "https://x.example/b"]),
        ('"HTTPS://x.example"', ["HTTPS://x.example"]),
        ("https://x.example/?q=a&b=<c>", ["https://x.example/?q=a&b="]),
        ("javascript:alert(1) ftp://x.example https:// www.x.example", []),
        ("", []),
    ],
)  # fmt: skip
def test_web_addresses_of_a_text_are_links(text: str, addresses: list[str]) -> None:
    page = link_text(text, lambda address: address)
    nodes = LexborHTMLParser(page)
    assert [node.attributes["href"] for node in nodes.css("a")] == addresses
    assert nodes.body is not None
    assert nodes.body.text() == text


@pytest.mark.parametrize("end", [")", ".)", "]", "}.", "'"])
def test_endless_brackets_cost_no_time(end: str) -> None:
    text = "https://x.example/" + end * 100_000
    started = time.process_time()
    assert LexborHTMLParser(link_text(text, str)).css_first("a").text() == "https://x.example/"
    assert time.process_time() - started < 2
    assert "<a" not in link_text("https://x.example/" + "a" * 5000, str)  # no address is so long


def test_html_beyond_the_bounds_has_no_links(context: AppContext) -> None:
    html = '<a href="https://else.example/x">' + "<div>" * 50_000 + "words"
    open_ticket(context, make_mail(html=html))
    desk = sign_in_at_desk(context)
    assert "/links/" not in desk.get("/messages/1/html").text
    assert desk.get(f"/messages/1/links/{make_key('https://else.example/x')}").status_code == 404


def test_an_address_that_may_be_cut_is_no_link() -> None:
    assert "<a" not in link_text("https://x.example/abc", str, is_cut=True)
    assert "<a" in link_text("https://x.example/abc and so on", str, is_cut=True)


def test_links_of_html_open_in_a_new_tab_and_show_their_address() -> None:
    page = link_html('<a href="https://x.example/1">x</a><a href="mailto:a@b">y</a>', make_key)
    first, second = LexborHTMLParser(page).css("a")
    assert first.attributes["title"] == "https://x.example/1"
    assert first.attributes["href"] == make_key("https://x.example/1")
    assert second.attributes["href"] == "mailto:a@b"
    assert {first.attributes["target"], second.attributes["target"]} == {"_blank"}


def test_a_host_in_another_script_is_named_as_it_is_looked_up() -> None:
    assert get_host("https://clіnic.example") == "xn--clnic-o2e.example"  # noqa: RUF001


HTML = """<p><a href="https://clinic.example/own">ours</a>
<a href="https://evil.example/pay?u=https%3A%2F%2Flast.example%2F&token=s3cret">clinic.example/pay</a>
<a href="https://evil.example/plain">click <b>here</b></a></p>"""


def test_a_link_away_from_the_sender_shows_where_it_leads(context: AppContext) -> None:
    number = open_ticket(
        context, make_mail("see https://else.example/t.", html=HTML, sender=SENDER)
    )
    desk = sign_in_at_desk(context)
    frame = desk.get("/messages/1/html").text
    hrefs = [node.attributes["href"] for node in LexborHTMLParser(frame).css("a")]
    assert hrefs[0] == "https://clinic.example/own"
    assert all(re.fullmatch(r"/messages/1/links/[0-9a-f]{16}", href or "") for href in hrefs[1:])
    page = desk.get(hrefs[1]).text
    assert "This link leads to evil.example" in page
    assert "<code>https://evil.example/pay?u=https%3A%2F%2Flast.example%2F&amp;token=s3cret" in page
    assert "Its words name another host: <strong>clinic.example</strong>" in page
    assert "last.example" in page
    page = desk.get(hrefs[2]).text
    assert "click here" in page
    assert "another host" not in page
    text_links = LexborHTMLParser(desk.get(f"/tickets/{number}").text).css(".plain-text a")
    [href] = [node.attributes["href"] for node in text_links]
    assert "This link leads to else.example" in desk.get(href).text


def test_no_address_leads_anywhere_but_where_the_message_does(context: AppContext) -> None:
    open_ticket(context, make_mail("https://else.example/t", html=HTML))
    open_ticket(context, make_mail("https://other.example/t"))
    desk = sign_in_at_desk(context)
    for key in (make_key("https://other.example/t"), "0" * 16, "https:%2F%2Fevil.example", "-"):
        assert desk.get(f"/messages/1/links/{key}").status_code == 404
    assert desk.get(f"/messages/999/links/{make_key('x')}").status_code == 404


def test_links_of_a_form_and_of_a_long_message_are_warned_of(context: AppContext) -> None:
    details = (("Website", "https://else.example/form"),)
    open_ticket(context, make_mail("word " * 20_000 + "https://else.example/end", details=details))
    desk = sign_in_at_desk(context)
    whole = LexborHTMLParser(desk.get("/messages/1/text").text).css("a[href*='/links/']")
    assert [node.text() for node in whole] == [
        "https://else.example/end",
        "https://else.example/form",
    ]
    for node in whole:
        assert node.text() in desk.get(node.attributes["href"]).text


def test_a_message_with_files_only_has_no_links(context: AppContext) -> None:
    open_ticket(context, make_mail("", attachments=(Attachment("a.txt", "text/plain", b"x"),)))
    assert "/links/" not in sign_in_at_desk(context).get("/tickets/1").text


@pytest.mark.parametrize(("judgement", "is_warned_of"), [(Judgement.ANSWER, True), ("", False)])
def test_a_note_that_a_program_wrote_is_warned_of(
    context: AppContext, judgement: str, *, is_warned_of: bool
) -> None:
    open_ticket(context, make_mail("https://else.example/t"))
    with context.store.transaction() as session:
        message = session.get_one(Message, 1)
        message.direction, message.judgement = "note", judgement
    page = sign_in_at_desk(context).get("/tickets/1").text
    assert ("/messages/1/links/" in page) is is_warned_of


@pytest.mark.parametrize("row", [")", ".", "])", "x)."])
def test_a_long_row_of_brackets_and_full_stops_holds_nothing_up(row: str) -> None:
    text = "https://clinic.example/a" + row * 400_000 + "x"
    before = time.process_time()
    link_text(text, str)
    assert time.process_time() - before < 5  # it took hours


def test_links_in_links_without_end_hold_nothing_up() -> None:
    html = f'<a href="{EVIL}"><table><tr><td>' * 20_000
    before = time.process_time()
    assert links.find_link(Message(html=html, text=EVIL), make_key("https://other.example")) is None
    assert time.process_time() - before < 5


@pytest.mark.parametrize("words", ["bank.example", "<b>bank</b><i>.example</i>"])
def test_the_words_of_each_link_with_an_address_are_looked_at(words: str) -> None:
    html = f'<a href="{EVIL}">{EVIL}</a> <a href="{EVIL}">{words}</a>'
    link = links.find_link(Message(html=html, text=EVIL), make_key(EVIL))
    assert link is not None
    assert link.labelled_host == "bank.example"
