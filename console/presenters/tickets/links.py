"""Links in what customers send: which open at once, and which after a warning page.

A link opens at once if it leads to the sender's own domain. A warning page names where any other
leads. Its address names the link by a digest, among those of the message: so it can lead nowhere
else, and the address of the link, which may be a secret, is in no log.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from html import unescape
from urllib.parse import parse_qsl, urlsplit

from markupsafe import Markup, escape
from publicsuffixlist import PublicSuffixList
from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.text import html as text_html
from workflow.customers.directory import PUBLIC_MAIL_DOMAINS
from workflow.models.core import Message

KEY_LENGTH = 16  # hexadecimal digits of the digest that names a link
MAX_ADDRESS = 4000  # characters of an address in a text; a longer one is no link
MAX_LABEL = 200  # characters of a link's words that are shown
MAX_LABEL_NODES = 1000  # elements and texts within a link that are read for its words
_ADDRESS = re.compile(r"https?://[^\s<>\"\u201c\u201d]+", re.IGNORECASE)
_SENTENCE_MARKS = frozenset(".,;:!?'*_\u2019\u2026")  # of the sentence around an address
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))
_HOST = re.compile(r"(?:https?://)?((?:[\w-]+\.)+[a-z]{2,24})(?:[/:?#]\S*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """A link of a message, with what a warning says about it."""

    address: str
    host: str  # as it is looked up: letters of other scripts are in ASCII; "" if there is none
    label: str  # its words, "" if they are its address
    labelled_host: str  # another host that its words name, else ""
    passes_on_to: tuple[str, ...]  # hosts of addresses within its address


def make_key(address: str) -> str:
    """Return the name of a link in the address of its warning page."""
    return sha256(address.encode(errors="surrogatepass")).hexdigest()[:KEY_LENGTH]


def find_link(message: Message, key: str) -> Link | None:
    """Return the link of a message with this key, None if it has none.

    Of several links with one address it is the one whose words name another host, if any does.
    """
    found = None
    for address, node in _iterate_links(message):
        if make_key(address) == key:
            link = _describe(address, _get_words(node))
            if link.labelled_host:
                return link
            found = found or link
    return found


def is_of_sender(address: str, senders: Iterable[str]) -> bool:
    """Return whether a link leads to the domain of one of these mail addresses.

    Domains match if the same organisation registered them: `portal.clinic.example` matches
    `ann@mail.clinic.example`. A domain where anybody can have mail matches nothing.
    """
    domain = _get_registered_domain(get_host(address))
    if not domain or domain in PUBLIC_MAIL_DOMAINS:
        return False
    return any(
        domain == _get_registered_domain(sender.rpartition("@")[2].casefold())
        for sender in senders
        if "@" in sender
    )


def get_host(address: str) -> str:
    """Return the host of an address as it is looked up, "" if it has none."""
    try:
        # A browser reads \\ as /, so that what stands behind it is no host (WHATWG URL, 4.4).
        host = urlsplit(address.replace("\\", "/")).hostname or ""
        return host.encode("idna").decode() if not host.isascii() else host
    except ValueError:
        return ""


def link_text(text: str, build_href: Callable[[str], str], *, is_cut: bool = False) -> Markup:
    """Return text as HTML in which web addresses are links; `build_href` gives their targets.

    An address at the end of a text that is cut is none: it may be cut, too.
    """
    parts, end = [], 0
    for address, start in _iterate_addresses(text):
        if is_cut and start + len(address) == len(text):
            break
        link = Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">{}</a>')
        parts += [escape(text[end:start]), link.format(build_href(address), address)]
        end = start + len(address)
    return Markup().join([*parts, escape(text[end:])])


def link_html(html: str, build_href: Callable[[str], str]) -> str:
    """Return sanitised HTML whose links open in a new tab; `build_href` gives their targets.

    The title of a link is its own address, which a browser shows under the pointer.
    """
    if "href" not in html:
        return html
    tree = LexborHTMLParser(html)
    for node in tree.css("a[href]"):
        address = (node.attributes.get("href") or "").strip()
        node.attrs["target"] = "_blank"
        if _ADDRESS.match(address):
            node.attrs["title"] = address
            node.attrs["href"] = build_href(address)
    return tree.body.inner_html or "" if tree.body else ""


def _iterate_links(message: Message) -> Iterable[tuple[str, LexborNode | None]]:
    """Yield the links of a message, as the two functions above find them.

    Each is an address with its element, None for an address that stands in text. HTML beyond the
    bounds is shown without links, so it has none here either.
    """
    if message.html and "href" in message.html.lower():
        for node in text_html.parse_tree(message.html).css("a[href]"):
            address = (node.attributes.get("href") or "").strip()
            if _ADDRESS.match(address):
                yield address, node
    for text in (message.text, *(str(value) for _, value in message.details or ())):
        for address, _ in _iterate_addresses(text):
            yield address, None


def _get_words(node: LexborNode | None) -> str:
    """Return the words of a link on one line, as a browser lays them out; "" for no element."""
    return " ".join(text_html.node_to_text(node, limit=MAX_LABEL_NODES).split())


def _iterate_addresses(text: str) -> Iterable[tuple[str, int]]:
    """Yield the web addresses of a text, and where each begins."""
    for match in _ADDRESS.finditer(text):
        address = _cut_sentence_end(match[0])
        if len(address) <= MAX_ADDRESS and get_host(address):
            yield address, match.start()


def _cut_sentence_end(address: str) -> str:
    """Return an address without the punctuation and brackets of the sentence around it.

    Of "(see https://clinic.example/a(b))" the last bracket is the sentence's. Each character is
    looked at once, so that a long row of brackets costs no more than other text.
    """
    unopened = {
        closing: address.count(closing) - address.count(opening) for opening, closing in _BRACKETS
    }
    end = len(address)
    while end:
        last = address[end - 1]
        if unopened.get(last, 0) > 0:
            unopened[last] -= 1
        elif last not in _SENTENCE_MARKS:
            break
        end -= 1
    return address[:end]


def _describe(address: str, label: str) -> Link:
    host = get_host(address)
    named = _HOST.fullmatch(label.strip())
    labelled_host = named[1].casefold() if named else ""
    if _get_registered_domain(labelled_host) == _get_registered_domain(host):
        labelled_host = ""
    return Link(
        address=address,
        host=host,
        label="" if unescape(label).strip() == address else label[:MAX_LABEL],
        labelled_host=labelled_host,
        passes_on_to=_list_hosts_within(address),
    )


def _list_hosts_within(address: str) -> tuple[str, ...]:
    """Return the hosts of addresses in the query of an address, as mail filters write them."""
    try:
        query = parse_qsl(urlsplit(address).query, max_num_fields=100)
    except ValueError:
        return ()
    hosts = (get_host(value) for _, value in query if _ADDRESS.match(value))
    return tuple(dict.fromkeys(filter(None, hosts)))


@lru_cache(maxsize=1)
def _get_suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _get_registered_domain(host: str) -> str:
    """Return the part of a host that an organisation registered, "" for an IP address or none."""
    if not re.search(r"[a-z]", host.rpartition(".")[2]):
        return ""
    return _get_suffixes().privatesuffix(host) or ""
