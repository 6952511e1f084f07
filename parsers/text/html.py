"""HTML of strangers: made safe to show, and read as text."""

import re
from html import escape

import nh3
from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.text import charsets, html_bounds

MAX_HTML = 2_000_000  # characters that are laid out; of more, the text between the tags is shown
MAX_NODES = 400_000
MAX_MARKS = 20  # quote marks a line gets, however deep its quotes nest

BLOCKS = frozenset(
    str.split(
        "address article aside blockquote body caption center dd details dialog dir div dl dt"
        " fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main"
        " menu nav ol optgroup option p pre section select summary table tbody tfoot thead tr ul",
    ),
)
SPACED = frozenset(
    str.split(
        "p h1 h2 h3 h4 h5 h6 ul ol dl pre blockquote",
    ),
)  # a blank line before and after
# What stands in `video`, `object` or `noscript` is shown: it is for readers that cannot play or run
# the rest, as we.
HIDDEN = frozenset(
    str.split(
        "head script style title template -comment",
    ),
)
CELLS = frozenset({"td", "th"})

TAGS = frozenset(
    str.split(
        "a abbr address article aside b bdi bdo big blockquote br caption center cite code col"
        " colgroup dd del details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6"
        " header hr i img ins kbd li main mark ol p pre q s samp section small span strike strong"
        " sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr",
    ),
)
DROPPED = frozenset(
    str.split(
        "script style title head template noscript iframe object embed applet svg math"
        " textarea xmp",
    ),
)
STYLES = frozenset(
    str.split(
        "color background-color font-weight font-style font-size text-decoration text-align"
        " vertical-align white- space margin-left padding-left border border-collapse width",
    ),
)
ATTRIBUTES = {
    "*": {"dir", "lang", "title", "style", "align"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height", "data-remote-src"},
    "td": {"colspan", "rowspan", "width", "valign", "bgcolor"},
    "th": {"colspan", "rowspan", "width", "valign", "bgcolor"},
    "table": {"border", "cellpadding", "cellspacing", "width", "bgcolor"},
    "font": {"color", "size"},
    "ol": {"start", "type"},
    "blockquote": {"type"},
}
_LOCAL_IMAGE = re.compile(
    r"cid:(?!.*\.\.)|data:image/(?:png|gif|jpe?g|webp);base64,", re.IGNORECASE
)
_LINK = re.compile(
    r"(?:https?://|mailto:|tel:)", re.IGNORECASE
)  # what is relative would lead into our own pages
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_LOADS = re.compile(
    r"url|image|expression|import|\\|/\*", re.IGNORECASE
)  # style words that fetch, and ways to hide them
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_GAPS = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"\r\n?")
_QUOTED = re.compile(r"(>[> ]*)?(.*)", re.DOTALL)


def sanitise(html: str) -> str:
    """HTML that is safe inside a page.

    No script, no form, and nothing that loads from another server.

    Images of other servers keep their address in `data-remote-src`, so that a click can load them.
    """
    tree = parse_tree(html)
    for image in tree.css("img"):
        source = (image.attributes.get("src") or "").strip()
        if not _LOCAL_IMAGE.match(source):
            image.attrs["src"] = ""
        if _REMOTE.match(source):
            image.attrs["data-remote-src"] = source
    return nh3.clean(
        tree.html or "",
        tags=set(TAGS),
        clean_content_tags=set(DROPPED),
        attributes=ATTRIBUTES,
        attribute_filter=_attribute,
        filter_style_properties=set(STYLES),
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Value an attribute may have, None to drop it."""
    if name == "src":
        return value if tag == "img" and _LOCAL_IMAGE.match(value.strip()) else None
    if name == "data-remote-src":
        return value if _REMOTE.match(value) else None
    if name == "style":
        return None if _LOADS.search(value) else value
    if name == "href":
        return value if _LINK.match(value.strip()) else None
    return value


def html_to_text(html: str) -> str:
    """Visible text of HTML, one line a block, quotes marked `> `, list items `- `.

    "" for HTML without text.
    """
    if is_beyond_bounds(html):
        return strip_tags(html)
    tree = LexborHTMLParser(html)
    shown = charsets.clean(node_to_text(tree.body or tree.root))
    if _may_hide_words(html):
        # A browser shows nothing behind `<style>`, `<!--` or a quote that is never closed; words
        # may stand there.
        plain = strip_tags(html)
        return plain if len(plain.split()) > len(shown.split()) else shown
    return shown if shown.strip() else _words_of_attributes(tree)


def has_hidden_words(html: str) -> bool:
    """Return whether HTML is damaged so that laying it out would lose words.

    Those between its tags are shown.
    """
    return (
        not is_beyond_bounds(html)
        and _may_hide_words(html)
        and html_to_text(html) == strip_tags(html)
    )


def _may_hide_words(html: str) -> bool:
    return html_bounds.has_unclosed_element(html) or html_bounds.has_open_quote(html)


def _words_of_attributes(tree: LexborHTMLParser) -> str:
    """Text of a page without any: what its pictures show, what its fields hold, its title."""
    found = [node.attributes.get("alt") or "" for node in tree.css("img[alt], area[alt]")]
    found += [
        node.attributes.get("value") or "" for node in tree.css("input[value]:not([type=hidden])")
    ]
    found = (
        found if any(map(str.strip, found)) else [node.text() for node in tree.css("head > title")]
    )
    return charsets.clean("\n".join(words.strip() for words in found if words.strip()))


def strip_tags(html: str) -> str:
    """The words between the tags of HTML, without layout."""
    return charsets.clean(html_bounds.extract_text(html))


def is_beyond_bounds(html: str) -> bool:
    """Return whether HTML is too long or too complex to be laid out.

    Then only the text between its tags is shown.
    """
    return len(html) > MAX_HTML or html_bounds.is_too_complex(html)


def parse_tree(html: str) -> LexborHTMLParser:
    """Return the document tree of HTML; of HTML beyond the bounds, a tree of its text alone."""
    if is_beyond_bounds(html):
        html = f"<pre>{escape(html_bounds.extract_text(html)[:MAX_HTML])}</pre>"
    return LexborHTMLParser(html)


def node_to_text(
    node: LexborNode | None,
    *,
    without: frozenset[int] = frozenset(),
    until: frozenset[int] = frozenset(),
    limit: int = MAX_NODES,
) -> str:
    """Visible text of a node and what is in it.

    `without` some nodes, and only `until` one of others (by `mem_id`).
    """
    writer = _Writer()
    open_tags: list[tuple[LexborNode, str]] = []
    current = node
    for _ in range(limit):
        if current is None or (until and current.mem_id in until):
            break
        tag = current.tag or ""
        hidden = tag in HIDDEN or (without and current.mem_id in without)
        child = None if hidden else _entered(writer, current, tag)
        if child is not None:
            open_tags.append((current, tag))
            current = child
            continue
        current = _following(writer, current, open_tags)
    return writer.text()


def _entered(writer: "_Writer", node: LexborNode, tag: str) -> LexborNode | None:
    """Write what a node itself shows, and return its first child."""
    if tag == "-text":
        writer.write(node.text_content or "")
        return None
    writer.open(tag)
    child = node.child
    if child is None:
        writer.close(tag)
    return child


def _following(
    writer: "_Writer", node: LexborNode, open_tags: list[tuple[LexborNode, str]]
) -> LexborNode | None:
    """Node that comes next in the document, closing those that end."""
    current = node
    while open_tags:
        following = current.next
        if following is not None:
            return following
        current, tag = open_tags.pop()
        writer.close(tag)
    return None


class _Writer:
    """Collects text as a browser would lay it out: blanks folded, blocks on their own lines."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []  # pieces: adding to one long string would copy it every time
        self._quote = 0
        self._pre = 0
        self._gap = 0  # line ends owed before the next text: 1 a new line, 2 a blank line

    def open(self, tag: str) -> None:
        """Begin an element."""
        if tag == "br":
            self._break()
        elif tag in BLOCKS:
            self._block(tag)
            self._pre += tag == "pre"
            self._quote += tag == "blockquote"
            if tag == "li":
                self.write("- ")
            elif tag == "hr":
                self.write("---")
                self._block(tag)
        elif tag in CELLS:
            self._begin_cell()

    def close(self, tag: str) -> None:
        """End an element."""
        if tag in BLOCKS:
            self._block(tag)
            self._pre -= tag == "pre"
            self._quote -= tag == "blockquote"

    def write(self, text: str) -> None:
        """Add text."""
        if self._pre:
            for i, line in enumerate(text.split("\n")):
                if i:
                    self._break()
                self._add(line)
            return
        text = _BLANKS.sub(" ", text)
        if not self._line or self._line[-1].endswith(" "):
            text = text.lstrip(" ")
        if text:
            self._add(text)

    def text(self) -> str:
        """Return what was collected."""
        self._end_line()
        return _GAPS.sub("\n\n", "\n".join(self._lines)).strip("\n")

    def _begin_cell(self) -> None:
        """Part a table's cell from the one before it."""
        while self._line and not self._line[-1].strip():
            self._line.pop()
        if self._line:
            self._line[-1] = self._line[-1].rstrip() + "  "

    @property
    def _marks(self) -> str:
        return "> " * min(self._quote, MAX_MARKS)

    def _add(self, text: str) -> None:
        if self._gap > 1 and self._lines:
            self._lines.append(self._marks)
        self._gap = 0
        if text:
            self._line.append(text)

    def _block(self, tag: str) -> None:
        self._end_line()
        self._gap = max(self._gap, 2 if tag in SPACED else 1)

    def _break(self) -> None:
        if self._line:
            self._end_line()
        else:
            self._add("")
            self._lines.append(self._marks.rstrip())
        self._gap = 0

    def _end_line(self) -> None:
        line = "".join(self._line)
        if line.strip():
            self._lines.append(self._marks + line.rstrip())
        self._line = []


def text_to_html(text: str) -> str:
    """Plain text as HTML, lines kept."""
    return f'<div style="white-space: pre-wrap">{escape(text)}</div>'


def normalize_line_ends(text: str) -> str:
    """Text with line feeds as its only line ends."""
    return _LINE_ENDS.sub("\n", text)


def unflow(text: str, *, delete_space: bool) -> str:
    """Undo format=flowed: soft line ends are joined within one quote depth (RFC 3676 §4)."""
    flowed: list[
        list[str]
    ] = []  # pieces of each paragraph: adding to one long string would copy it every time
    depth, soft = 0, False
    for line in text.split("\n"):
        quote, content = _quote_depth(line)
        joined = soft and quote == depth and content != "-- "
        depth, soft = quote, content.endswith(" ") and content != "-- "
        piece = content[:-1] if soft and delete_space else content
        if joined:
            flowed[-1].append(piece)
        else:
            flowed.append([">" * quote + (" " if quote else "") + piece])
    return "\n".join(map("".join, flowed))


def _quote_depth(line: str) -> tuple[int, str]:
    bare = line.lstrip(">")
    depth = len(line) - len(bare)
    return depth, bare.removeprefix(" ")
