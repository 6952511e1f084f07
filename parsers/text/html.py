"""HTML of strangers: sanitised to be shown in a page, and converted to text."""

import re
from html import escape

import nh3
from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.text import charsets, html_bounds, legible

MAX_HTML = 2_000_000  # characters that are laid out; of more, the text between the tags is shown
MAX_NODES = 400_000  # elements and texts that are walked; what follows is left out
MAX_LINKS = 40  # of a page whose addresses are listed
MAX_ADDRESS = 4000  # characters of one that is listed
MAX_LABEL = 200  # characters of the words of a link
MAX_MARKS = 20  # quote marks a line gets, however deep its quotes nest

BLOCKS = html_bounds.LINES - {"br"}
# A blank line stands before and after these.
SPACED = frozenset(str.split("p h1 h2 h3 h4 h5 h6 ul ol dl pre blockquote"))
# The content of `video`, `object` or `noscript` is shown: it is for readers that cannot play or run
# the rest, as ours cannot.
HIDDEN = frozenset(str.split("head script style title template -comment"))
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
        " vertical-align white-space margin-left padding-left border border-collapse width",
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
# A relative link would lead into our own pages.
_LINK = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
# Words of a style that load something, and ways to hide them.
_LOADS = re.compile(r"url|image|expression|import|\\|/\*", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_GAPS = re.compile(r"\n{3,}")
_QUOTED = re.compile(r"(>[> ]*)?(.*)", re.DOTALL)


def sanitise(html: str) -> str:
    """Return HTML that is safe inside a page.

    It has no script, no form, and nothing that loads from another server. Images of other servers
    keep their address in `data-remote-src`, so that a click can load them. All words can be seen.
    """
    tree = parse_tree(html)
    for image in tree.css("img"):
        source = (image.attributes.get("src") or "").strip()
        if not _LOCAL_IMAGE.match(source):
            image.attrs["src"] = ""
        if _REMOTE.match(source):
            image.attrs["data-remote-src"] = source
    style = legible.make_legible(tree, TAGS)
    page = tree.html or ""
    if style and tree.body is not None:  # the body is dropped; this takes its place
        page = f'<div style="{escape(style)}">{tree.body.inner_html}</div>'
    return nh3.clean(
        page,
        tags=set(TAGS),
        clean_content_tags=set(DROPPED),
        attributes=ATTRIBUTES,
        attribute_filter=_filter_attribute,
        filter_style_properties=set(STYLES),
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )


def _filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value an attribute may have, None to drop it."""
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
    """Return the visible text of HTML: one line a block, quotes marked `> `, list items `- `.

    Without any, the words of its attributes; "" for HTML without those too.
    """
    return strip_tags(html) if is_beyond_bounds(html) else lay_out(html)


def lay_out(html: str) -> str:
    """Return the visible text of HTML within the bounds, as `html_to_text` does."""
    tree = LexborHTMLParser(html)
    text = charsets.clean(node_to_text(tree.body or tree.root))
    if _may_hide_words(html):
        # A browser shows nothing behind `<style>`, `<!--` or a quote that is never closed; words
        # may stand there.
        plain = strip_tags(html)
        return plain if len(plain.split()) > len(text.split()) else text
    return text if text.strip() else _find_words_of_attributes(tree)


def has_hidden_words(html: str) -> bool:
    """Return whether HTML is so damaged that laying it out would lose words.

    `html_to_text` returns all words between its tags then.
    """
    return (
        _may_hide_words(html) and not is_beyond_bounds(html) and lay_out(html) == strip_tags(html)
    )


def _may_hide_words(html: str) -> bool:
    return html_bounds.has_unclosed_element(html) or html_bounds.has_open_quote(html)


def _find_words_of_attributes(tree: LexborHTMLParser) -> str:
    """Return words for a page without text: of its pictures and input fields, else its title."""
    pictures = tree.css("img[alt], area[alt]")
    inputs = tree.css("input[value]:not([type=hidden])")
    words = [node.attributes.get("alt") or "" for node in pictures]
    words += [node.attributes.get("value") or "" for node in inputs]
    if not any(map(str.strip, words)):
        words = [node.text() for node in tree.css("head > title")]
    return charsets.clean("\n".join(word.strip() for word in words if word.strip()))


def list_links(html: str) -> list[tuple[str, str]]:
    """Return the words and the address of each link of HTML that leads to a web page.

    In the order of the page, each address once, MAX_LINKS at most; words are on one line, "" for a
    link without any. Returns [] for HTML beyond the bounds.
    """
    if "href" not in html.lower() or is_beyond_bounds(html):
        return []
    labels: dict[str, str] = {}  # by address
    for node in LexborHTMLParser(html).css("a[href], area[href]"):
        address = charsets.clean((node.attributes.get("href") or "").strip())
        if len(address) <= MAX_ADDRESS and _WEB_ADDRESS.fullmatch(address):
            labels[address] = labels.get(address) or _find_label(node)
        if len(labels) == MAX_LINKS:
            break
    return [(label, address) for address, label in labels.items()]


def _find_label(link: LexborNode) -> str:
    """Return the words of a link on one line, "" for none."""
    words = link.text(deep=True, separator=" ") or link.attributes.get("alt") or ""
    return " ".join(charsets.clean(words).split())[:MAX_LABEL]


def strip_tags(html: str) -> str:
    """Return the words between the tags of HTML, without layout."""
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
    """Return the visible text of a node and the nodes in it.

    Nodes in `without` are left out, and nothing is taken from the first of those in `until` on;
    both hold `mem_id`s. At most `limit` nodes are walked. "" for None.
    """
    writer = _Writer()
    open_tags: list[tuple[LexborNode, str]] = []
    current = node
    for _ in range(limit):
        if current is None or (until and current.mem_id in until):
            break
        tag = current.tag or ""
        is_hidden = tag in HIDDEN or (without and current.mem_id in without)
        child = None if is_hidden else _enter(writer, current, tag)
        if child is not None:
            open_tags.append((current, tag))
            current = child
            continue
        current = _leave(writer, current, open_tags)
    return writer.get_text()


def _enter(writer: "_Writer", node: LexborNode, tag: str) -> LexborNode | None:
    """Write the text of a node itself, and return its first child, None without any."""
    if tag == "-text":
        writer.write(node.text_content or "")
        return None
    writer.open(tag)
    child = node.child
    if child is None:
        writer.close(tag)
    return child


def _leave(
    writer: "_Writer", node: LexborNode, open_tags: list[tuple[LexborNode, str]]
) -> LexborNode | None:
    """Close the nodes that end, and return the next one in the document, None at its end."""
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
        self._quote = 0  # depth of quotes
        self._pre = 0  # depth of preformatted elements
        self._gap = 0  # line ends that are due before the next text: 1 a new line, 2 a blank line

    def open(self, tag: str) -> None:
        """Begin an element."""
        if tag == "br":
            self._break()
        elif tag in BLOCKS:
            self._begin_block(tag)
            self._pre += tag == "pre"
            self._quote += tag == "blockquote"
            if tag == "li":
                self.write("- ")
            elif tag == "hr":
                self.write("---")
                self._begin_block(tag)
        elif tag in CELLS:
            self._begin_cell()

    def close(self, tag: str) -> None:
        """End an element."""
        if tag in BLOCKS:
            self._begin_block(tag)
            self._pre -= tag == "pre"
            self._quote -= tag == "blockquote"

    def write(self, text: str) -> None:
        """Add text."""
        if self._pre:
            for number, line in enumerate(text.split("\n")):
                if number:
                    self._break()
                self._add(line)
            return
        text = _BLANKS.sub(" ", text)
        if not self._line or self._line[-1].endswith(" "):
            text = text.lstrip(" ")
        if text:
            self._add(text)

    def get_text(self) -> str:
        """Return the text collected so far."""
        self._end_line()
        return _GAPS.sub("\n\n", "\n".join(self._lines)).strip("\n")

    def _begin_cell(self) -> None:
        """Put two blanks between a table's cell and the one before it."""
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

    def _begin_block(self, tag: str) -> None:
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
    """Return plain text as HTML that keeps its lines."""
    return f'<div style="white-space: pre-wrap">{escape(text)}</div>'


def normalize_line_ends(text: str) -> str:
    """Return a text with line feeds as its only line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def unflow(text: str, *, delete_space: bool) -> str:
    """Undo format=flowed: soft line ends are joined within one quote depth (RFC 3676 §4)."""
    # Pieces of each paragraph: adding to one long string would copy it every time.
    paragraphs: list[list[str]] = []
    last_depth, is_soft = 0, False
    for line in text.split("\n"):
        depth, content = _split_quote_marks(line)
        is_signature = content == "-- "
        continues = is_soft and depth == last_depth and not is_signature
        last_depth, is_soft = depth, content.endswith(" ") and not is_signature
        piece = content[:-1] if is_soft and delete_space else content
        if continues:
            paragraphs[-1].append(piece)
        else:
            paragraphs.append([">" * depth + (" " if depth else "") + piece])
    return "\n".join(map("".join, paragraphs))


def _split_quote_marks(line: str) -> tuple[int, str]:
    """Return the depth of quotes and the content of a line (RFC 3676 §4.5)."""
    bare = line.lstrip(">")
    depth = len(line) - len(bare)
    return depth, bare.removeprefix(" ")
