"""Removal of quotes from the HTML of a reply, by the marks mail programs put on them."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.mail.replies import courtesies
from parsers.text import charsets
from parsers.text import html as text_html

# Elements that hold what is quoted, whole.
QUOTES = (
    ".gmail_quote_container",
    ".gmail_quote",
    ".gmail_extra > blockquote",
    "blockquote[type=cite]",
    "blockquote.gmail_quote",
    ".moz-cite-prefix",
    ".moz-email-headers-table",
    ".yahoo_quoted",
    "#yahoo_quoted",
    ".yahoo-quoted-begin",
    ".protonmail_quote",
    ".tutanota_quote",
    ".zmail_extra",
    ".zmail_extra_hr",
    "#OLK_SRC_BODY_SECTION",
    "[id$=OLK_SRC_BODY_SECTION]",
    ".ms-outlook-mobile-reference-message",
    "#mail-editor-reference-message-container",
    ".OutlookMessageHeader",
    ".quoted-message",
    ".front-blockquote",
    ".hubspot-reply-quote",
    "#reply-intro",
    ".AOLMsgPart_quote",
    ".mailspring-quote",
    ".freescout-reply",
)
# Elements from which on everything is quoted.
CUTS = (
    "#divRplyFwdMsg",
    "#divTaggedContent",
    "#appendonsend",
    "[id$=appendonsend]",
    "[id$=divRplyFwdMsg]",
    "#stopSpelling",
    "[name=replySplit]",
)
# Outlook draws a line above the quoted header.
BORDERS = (
    "border-top:solid #b5c4df",
    "border-top:solid #e1e1e1",
    "border-top:solid #b5c4df 1.0pt",
    "border-top: 1px solid rgb(229, 229, 229)",
)
SIGNATURES = (
    ".gmail_signature",
    ".moz-signature",
    "#Signature",
    "[id$=_Signature]",
    ".protonmail_signature_block",
)
# Words at the beginning of a message that is passed on.
FORWARD = (
    "forwarded message",
    "begin forwarded message",
    "weitergeleitete nachricht",
    "message transféré",
    "mensaje reenviado",
)


MAX_BEGINNING_NODES = 40
MAX_SIBLINGS = 20  # elements behind a quote that are searched for words
# A blockquote without a program's mark may be the writer's own.
_QUOTES_AND_SIGNATURES = ", ".join((*QUOTES, *SIGNATURES))
_SIGNATURES = ", ".join(SIGNATURES)
_MARKS = (
    "gmail_quote",
    "<blockquote",
    "moz-cite",
    "yahoo_quoted",
    "protonmail_quote",
    "divrplyfwdmsg",
    "appendonsend",
    "olk_src",
    "border-top:solid",
    "quoted",
    "stopspelling",
)


def has_quote_marks(html: str) -> bool:
    """Return whether HTML has any of the marks mail programs put on quotes."""
    lower = html.lower()
    return any(mark in lower for mark in _MARKS)


def remove_quotes(html: str, *, headers_are_old: bool = True, marks_are_proof: bool = True) -> str:
    """Return the text of a reply without the quotes and signatures that are marked.

    "" where there is nothing else. `headers_are_old` is false for a message that answers none: the
    text below a header in it is passed on. `marks_are_proof` is false where nothing announces a
    quote: then only signatures are left out.
    """
    tree = text_html.parse_tree(html)
    removed_nodes = _find_marked(tree, _QUOTES_AND_SIGNATURES if marks_are_proof else _SIGNATURES)
    if marks_are_proof:
        removed_nodes |= _find_unmarked(tree)
    until = _find_cuts(tree) if headers_are_old else frozenset()
    body = tree.body or tree.root
    return charsets.clean(text_html.node_to_text(body, without=removed_nodes, until=until))


def _find_marked(tree: LexborHTMLParser, selector: str) -> frozenset[int]:
    """Return the quotes and signatures with a mark."""
    nodes = tree.css(selector)
    return frozenset(
        node.mem_id for node in nodes if not _is_forward(node) and not _is_typed_into(node)
    )


def _find_unmarked(tree: LexborHTMLParser) -> frozenset[int]:
    """Return the quotes without a mark that stand where programs put them."""
    nodes = tree.css("blockquote")
    return frozenset(node.mem_id for node in nodes if _ends_block(node) and not _is_forward(node))


def _is_typed_into(node: LexborNode) -> bool:
    """Return whether words stand where Outlook puts a signature: people type on in it."""
    if node.attributes.get("id") != "Signature":
        return False
    return not courtesies.is_signature(text_html.node_to_text(node))


def _ends_block(quote: LexborNode) -> bool:
    """Return whether a quote without a mark stands last in a block, as programs put it.

    Between its writer's words, behind a colon, or on the page itself it is something the writer
    quotes.
    """
    parent, before = quote.parent, quote.prev
    if parent is None or parent.tag in {"body", "html", "-document"} or _has_text_behind(quote):
        return False
    while before is not None and before.tag != "-text" and not before.text().strip():
        before = before.prev
    return before is None or not before.text().rstrip().endswith(":")


def _has_text_behind(node: LexborNode) -> bool:
    """Return whether text stands behind a node; also true where too many elements follow it."""
    following = node.next
    for _ in range(MAX_SIBLINGS):
        if following is None:
            return False
        if text_html.node_to_text(following, limit=MAX_BEGINNING_NODES).strip():
            return True
        following = following.next
    return True


def _find_cuts(tree: LexborHTMLParser) -> frozenset[int]:
    """Return the nodes from the first of which on everything is quoted."""
    bordered = (
        node for node in tree.css("div[style]") if _has_border(node.attributes.get("style") or "")
    )
    return frozenset(node.mem_id for node in (*tree.css(", ".join(CUTS)), *bordered))


def _has_border(style: str) -> bool:
    plain = style.lower().replace("  ", " ")
    return any(border in plain for border in BORDERS)


def _is_forward(node: LexborNode) -> bool:
    """Return whether a quote is a message passed on, which is news."""
    beginning = text_html.node_to_text(node, limit=MAX_BEGINNING_NODES)[:200].lower()
    return any(words in beginning for words in FORWARD)
