"""Limits on the HTML of strangers, counted before any tree of it is built.

A parser of HTML does work that grows with the square of its input when elements nest deep, when one
tag has thousands of attributes, or when formatting elements stay open while blocks begin (each
block gets copies of all of them). The costs are added up here in one pass over the tags; HTML that
would cost too much is never parsed: its text is taken from between the tags (`extract_text`), in
linear time, and nothing of it is lost.
"""

import re
from html import unescape

MAX_TAGS = 100_000  # a tree of more nodes takes Python seconds to walk
MAX_DEPTH = 1000  # elements in elements
MAX_STEPS = 30_000_000  # of the parser along its stack or through attributes; some 3 ns each
MAX_COPIES = 20_000  # formatting elements that blocks get copies of; each is a node more
FEW_TAGS = 200  # a page with fewer cannot reach a limit, whatever they are
LONG_TAG = 1000  # characters; only longer tags can have attributes enough to matter

# Elements that never nest in themselves: without content, or closed by their next sibling (HTML
# §13.1.2).
VOID = frozenset(
    str.split("area base br col embed hr img input link meta param source track wbr"),
)
CLOSED_BY_SIBLINGS = frozenset(str.split("dd dt option p td th tr tbody thead tfoot colgroup"))
# Elements that a parser opens again in every block while they are open (HTML §13.2.4.3).
FORMATTING = frozenset(str.split("a b big code em font i nobr s small strike strong tt u"))
# Repeated tags of these add their attributes to one element.
SINGLE = frozenset(["html", "body"])
# Elements whose text is not shown, and those in whose text there are no tags. If one is opened and
# never closed, it swallows the rest of the document.
SWALLOWING = (
    "script",
    "style",
    "title",
    "textarea",
    "template",
    "noscript",
    "xmp",
    "plaintext",
    "iframe",
    "noembed",
    "noframes",
    "object",
    "applet",
    "audio",
    "video",
    "canvas",
    "svg",
    "math",
)
SHORTEST_NAME = min(map(len, SWALLOWING))
# Elements that begin and end a line of text.
LINES = frozenset(
    str.split(
        "address article aside blockquote body br caption center dd details dialog dir div dl dt"
        " fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main"
        " menu nav ol optgroup option p pre section select summary table tbody tfoot thead tr ul",
    ),
)

_COUNTED_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/<>]{0,30})")
_LONG = re.compile(rf"<[a-zA-Z][^<>]{{{LONG_TAG},}}")
_TAG_NAME = re.compile(r"<(?:/?([a-zA-Z][^\s/<>]{0,30})|[!?/])")
_TAG = re.compile(rf"{_TAG_NAME.pattern}[^>]*>")
_HIDDEN = ("script", "style", "title", "template")
# What opens a comment or an element whose text is not shown.
_HIDING = re.compile(rf"<(?:!--|(?ai:({'|'.join(_HIDDEN)}))(?![^\s/<>]))")
_ANY_TAG = re.compile(r"<[^<>]*>")
_OPEN_QUOTE = re.compile(
    r"""<[a-zA-Z](?:[^<>"']|"[^"<>]*+"|'[^'<>]*+')*+"""  # a tag up to the value of an attribute
    r"""(?<==)"""
    r"""(?:"[^"<>]*+>[^"<]*+(?:<|\Z)|'[^'<>]*+>[^'<]*+(?:<|\Z))"""
)
# The part of it that is found fast, and that few pages have.
_QUOTED_TAG_END = re.compile(r"""="[^"<>]*+>|='[^'<>]*+>""")
# Elements that show their content without reading tags in it (HTML §13.2.6).
_RAW_TEXT = re.compile(
    r"<(?:textarea|xmp|plaintext|iframe|noembed|noframes|noscript|listing|svg|math|select)",
    re.IGNORECASE,
)
_COMMENT_END = re.compile(r"--!?>")
_TAG_END = re.compile(r">")


def is_too_complex(html: str) -> bool:
    """Return whether building the tree of HTML would cost more time or memory than a mail may."""
    has_few_tags = html.count("<") < FEW_TAGS
    if has_few_tags and len(html) < LONG_TAG:
        return False
    if _count_attribute_steps(html) > MAX_STEPS:
        return True
    return not has_few_tags and _costs_too_much(html)


def _count_attribute_steps(html: str) -> int:
    """Return the steps that the attributes of long tags cost.

    Each attribute is compared with all before it on its element.
    """
    steps, of_single = 0, 0
    for tag in _LONG.finditer(html):
        count = len(tag[0].split())
        steps += count * count
        if tag[0][1:5].lower() in SINGLE:
            of_single += count
    return steps + of_single * of_single


def _costs_too_much(html: str) -> bool:
    """Return whether the tags of HTML together cost more than a limit."""
    # In SVG and MathML elements nest that are closed by their siblings in HTML.
    has_foreign = re.search(r"<(?:svg|math)\b", html, re.IGNORECASE) is not None
    never_nesting = VOID if has_foreign else VOID | CLOSED_BY_SIBLINGS
    cost = _Cost()
    for number, tag in enumerate(_COUNTED_TAG.finditer(html)):
        name = tag[2].lower()
        if name in never_nesting:
            cost.copies += cost.formatting
        elif tag[1]:
            cost.close(name)
        else:
            cost.open(name)
        if name in SINGLE:
            attributes = html[tag.end() : tag.end() + LONG_TAG].partition(">")[0].split()
            cost.single += 1 + len(attributes)
            cost.steps += cost.single
        cost.steps += cost.depth
        if number > MAX_TAGS or cost.is_too_high():
            return True
    return False


class _Cost:
    """Work of an HTML parser, added up tag by tag as it would meet them."""

    def __init__(self) -> None:
        self.depth = 0  # of elements in elements
        self.formatting = 0  # formatting elements that are open
        self.copies = 0  # formatting elements opened again in blocks
        self.single = 0  # attributes of the elements there is one of
        self.steps = 0
        self._open: dict[str, int] = {}  # how many elements of a name are open

    def open(self, name: str) -> None:
        """Add an opening tag."""
        self._open[name] = self._open.get(name, 0) + 1
        self.depth += 1
        self.copies += self.formatting
        self.formatting += name in FORMATTING

    def close(self, name: str) -> None:
        """Add a closing tag; one that closes nothing costs nothing."""
        if self._open.get(name, 0):
            self._open[name] -= 1
            self.depth -= 1
            self.formatting -= name in FORMATTING

    def is_too_high(self) -> bool:
        """Return whether a limit is passed."""
        return self.depth > MAX_DEPTH or self.steps > MAX_STEPS or self.copies > MAX_COPIES


def find_all_words(html: str) -> str:
    """Return everything between the tags of HTML, styles and scripts too.

    Fast, and never less than the words that are shown.
    """
    between = _ANY_TAG.sub(" ", html)
    return unescape(between) if "&" in between else between


def is_extract_complete(html: str) -> bool:
    """Return whether `extract_text` and `find_all_words` have all words that are shown of HTML.

    Within some elements what looks like a style or a comment is text.
    """
    return _RAW_TEXT.search(html) is None


def has_unclosed_element(html: str) -> bool:
    """Return whether an element or comment that hides its content is never closed.

    It hides all the rest of the page then.
    """
    lower = html.lower()
    if "<!--" in lower and lower.rfind("<!--") > lower.rfind("-->"):
        return True
    # A page has few different tags: one pass over their beginnings spares one for each name.
    beginnings = {piece[:SHORTEST_NAME] for piece in lower.split("<")}
    return any(
        lower.rfind(f"<{name}") > lower.rfind(f"</{name}")
        for name in SWALLOWING
        if name[:SHORTEST_NAME] in beginnings
    )


def has_open_quote(html: str) -> bool:
    """Return whether the quote of an attribute seems never closed, or closed behind other tags.

    It hides the text within it then.
    """
    return _QUOTED_TAG_END.search(html) is not None and _OPEN_QUOTE.search(html) is not None


def extract_text(html: str) -> str:
    """Return the text between the tags of HTML, a line a block, without layout.

    It takes linear time whatever the HTML is. Comments, scripts and styles are left out where they
    are closed; the text behind one that never is, is shown.
    """
    html = html.replace(_LINE_END, "")
    pieces: list[str] = []
    position, ends = 0, _Ends(html)
    for hiding in _HIDING.finditer(html):
        start = hiding.start()
        if start < position:
            continue
        end = _find_end_of_tag_around(ends, position, start)
        if end >= 0:  # it stands in a tag, as in the value of an attribute
            pieces.append(_remove_tags(html[position:end]))
        else:
            end, replacement = _skip(ends, hiding)
            pieces += (_remove_tags(html[position:start]), replacement)
        position = end
    pieces.append(_remove_tags(html[position:]))
    text = _fold_blanks("".join(pieces)).replace(_LINE_END, "\n")
    return "\n".join(filter(None, map(str.strip, unescape(text).split("\n"))))


_LINE_END = "\x00"  # stands for the end of a line while blanks are folded; text has no NUL
# Name of an element -> what parts the texts before and behind its tags.
_SEPARATORS = {**dict.fromkeys(LINES, _LINE_END), "td": " ", "th": " "}


class _Ends:
    """Search for the end of a comment, a tag or an element, no stretch twice for one kind."""

    def __init__(self, html: str) -> None:
        self.html = html
        self._last: dict[str, int] = {}  # position of the last end of each kind, -1 without any

    def find(self, kind: str, position: int, pattern: re.Pattern[str]) -> int:
        """Return the position behind the next match at or after `position`, -1 without any."""
        last = self._last.get(kind, 0)
        if 0 <= last <= position:
            end = pattern.search(self.html, position)
            last = self._last[kind] = end.end() if end is not None else -1
        return last


_END_TAGS = {name: re.compile(rf"</{name}\b[^<>]{{0,200}}>?", re.IGNORECASE) for name in _HIDDEN}


def _find_end_of_tag_around(ends: _Ends, position: int, start: int) -> int:
    """Return the position behind the tag that opens between two positions, -1 where none is open.

    A tag ends with the first `>`; one without any is no more than its name.
    """
    last_end = ends.html.rfind(">", position, start) + 1
    if _TAG_NAME.search(ends.html, max(position, last_end), start) is None:
        return -1
    return ends.find("tag", start, _TAG_END)


def _skip(ends: _Ends, hiding: re.Match[str]) -> tuple[int, str]:
    """Return the position behind a comment or a hidden element, and the text in its place.

    Where it never ends, behind its opening alone.
    """
    if hiding[1] is None:
        end = ends.find("comment", hiding.end(), _COMMENT_END)
        return (end, "") if end >= 0 else (hiding.end(), " ")
    name = hiding[1].lower()
    end = ends.find(name, hiding.end(), _END_TAGS[name])
    if end < 0:
        end = ends.find("tag", hiding.end(), _TAG_END)
    return (end if end >= 0 else hiding.end()), ""


def _remove_tags(html: str) -> str:
    """Return HTML without its tags; `_LINE_END` or a blank is where they part two texts.

    Behind the last `>` a tag has no end: there its name alone is removed.
    """
    last_end = html.rfind(">") + 1
    pieces = [*_TAG.split(html[:last_end]), "", *_TAG_NAME.split(html[last_end:])]
    # The texts are at the even places, the names of the tags between them; None without a name.
    pieces[1::2] = [_SEPARATORS.get(name.lower(), "") if name else "" for name in pieces[1::2]]
    return "".join(pieces)


def _fold_blanks(text: str) -> str:
    """Return a text with blanks as its only white space in ASCII, and never two of them."""
    for blank in "\t\f\r\n":
        text = text.replace(blank, " ")
    while "  " in text:  # halves each run of blanks: a few passes, whatever the text is
        text = text.replace("  ", " ")
    return text
