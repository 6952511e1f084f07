"""Newest text of a reply in HTML: quotes by the marks mail programs put on them, then by their words."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers import charsets, reply, text

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
CUTS = ("#divRplyFwdMsg", "#divTaggedContent", "#appendonsend", "[id$=appendonsend]", "[id$=divRplyFwdMsg]", "#stopSpelling", "[name=replySplit]")
# Outlook draws a line above the quoted header.
BORDERS = ("border-top:solid #b5c4df", "border-top:solid #e1e1e1", "border-top:solid #b5c4df 1.0pt", "border-top: 1px solid rgb(229, 229, 229)")
SIGNATURES = (".gmail_signature", ".moz-signature", "#Signature", "[id$=_Signature]", ".protonmail_signature_block")
FORWARD = ("forwarded message", "begin forwarded message", "weitergeleitete nachricht", "message transféré", "mensaje reenviado")


def newest(html: str) -> str:
    """Return what was newly written, as text; the whole text where nothing else is there."""
    tree = text.parsed(html)
    body = tree.body or tree.root
    if body is None:
        return ""
    whole = charsets.clean(text.of_node(body))
    _drop_quotes(tree, whole)
    left = charsets.clean(text.of_node(tree.body or tree.root))
    if not left.strip():
        return reply.newest(whole)
    return reply.newest(left)


def _drop_quotes(tree: LexborHTMLParser, whole: str) -> None:
    for selector in QUOTES:
        for node in tree.css(selector):
            if not _passed_on(node):
                node.decompose()
    for selector in SIGNATURES:
        for node in tree.css(selector):
            node.decompose()
    for selector in CUTS:
        for node in tree.css(selector):
            _drop_from(node)
    for node in tree.css("div[style]"):
        style = (node.attributes.get("style") or "").lower().replace("  ", " ")
        if any(border in style for border in BORDERS):
            _drop_from(node)
    for node in tree.css("blockquote"):
        if not _passed_on(node):
            node.decompose()


def _passed_on(node: LexborNode) -> bool:
    """Whether a quote is a message passed on, which is news."""
    beginning = (node.text(deep=True) or "")[:200].lower()
    return any(words in beginning for words in FORWARD)


def _drop_from(node: LexborNode) -> None:
    """Drop a node and everything behind it in the document."""
    current: LexborNode | None = node
    while current is not None and current.tag not in {"body", "html"}:
        following = current.next
        while following is not None:
            after = following.next
            following.decompose()
            following = after
        current = current.parent
    node.decompose()
