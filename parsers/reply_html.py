"""Quotes in the HTML of a reply, by the marks mail programs put on them."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers import charsets, text

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
SIGNATURES = (".gmail_signature", ".moz-signature", "#Signature", "[id$=_Signature]", ".protonmail_signature_block")
FORWARD = (
    "forwarded message",
    "begin forwarded message",
    "weitergeleitete nachricht",
    "message transféré",
    "mensaje reenviado",
)


NODES_OF_A_BEGINNING = 40
_SKIPPED = ", ".join((*QUOTES, *SIGNATURES, "blockquote"))
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


def has_marks(html: str) -> bool:
    """Whether HTML has any of the marks mail programs put on quotes."""
    lower = html.lower()
    return any(mark in lower for mark in _MARKS)


def without_quotes(html: str) -> str:
    """Return the text of a reply without the quotes that are marked; the whole text where nothing else is there."""
    tree = text.parsed(html)
    body = tree.body or tree.root
    without = frozenset(node.mem_id for node in tree.css(_SKIPPED) if not _passed_on(node))
    left = text.of_node(body, without=without, until=_first_of_old(tree))
    if not left.strip():
        left = text.of_node(body)
    return charsets.clean(left)


def _first_of_old(tree: LexborHTMLParser) -> frozenset[int]:
    """Nodes from the first of which on all is quoted."""
    bordered = (node for node in tree.css("div[style]") if _has_border(node.attributes.get("style") or ""))
    return frozenset(node.mem_id for node in (*tree.css(", ".join(CUTS)), *bordered))


def _has_border(style: str) -> bool:
    plain = style.lower().replace("  ", " ")
    return any(border in plain for border in BORDERS)


def _passed_on(node: LexborNode) -> bool:
    """Whether a quote is a message passed on, which is news."""
    beginning = text.of_node(node, limit=NODES_OF_A_BEGINNING)[:200].lower()
    return any(words in beginning for words in FORWARD)
