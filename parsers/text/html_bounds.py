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
FEW_TAGS = 200  # fewer cannot reach a limit, whatever they are
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
# Elements whose text is not shown, and those in whose text there are no tags. One that is opened
# and never closed swallows the rest of the document.
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
# Elements that begin and end a line of text.
LINES = frozenset(
    str.split(
        "address article aside blockquote body br caption center dd details dialog dir div dl dt"
        " fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main"
        " menu nav ol optgroup option p pre section select summary table tbody tfoot thead tr ul",
    ),
)

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/<>]{0,30})")
_LONG = re.compile(rf"<[a-zA-Z][^<>]{{{LONG_TAG},}}")
_OPENING = re.compile(r"<(/?)([a-zA-Z][^\s/<>]{0,30})|<!--|<[!?/]")
_ANY_TAG = re.compile(r"<[^<>]*>")
_OPEN_QUOTE = re.compile(
    r"""<[a-zA-Z](?:[^<>"']|"[^"<>]*+"|'[^'<>]*+')*+(?<==)(?:"[^"<>]*+>[^"<]*+(?:<|\Z)|'[^'<>]*+>[^'<]*+(?:<|\Z))"""
)
_COMMENT_END = re.compile(r"--!?>")
_TAG_END = re.compile(r">")
_GAPS = re.compile(r"\n\s*\n\s*")
_BLANKS = re.compile(r"[ \t\f\r\n]+")
_HIDDEN = frozenset(["script", "style", "title", "template"])


def is_too_complex(html: str) -> bool:
    """Return whether building the tree of HTML would cost too much.

    More time or memory than a mail deserves.
    """
    few = html.count("<") < FEW_TAGS
    if few and len(html) < LONG_TAG:
        return False
    attributes = _long_tags_cost(html)
    return attributes > MAX_STEPS or (not few and _tags_cost_too_much(html))


def _long_tags_cost(html: str) -> int:
    """Steps that the attributes of long tags cost.

    Each is compared with all before it on its element.
    """
    steps, of_single = 0, 0
    for tag in _LONG.finditer(html):
        count = len(tag[0].split())
        steps += count * count
        if tag[0][1:5].lower() in SINGLE:
            of_single += count
    return steps + of_single * of_single


def _tags_cost_too_much(html: str) -> bool:
    """Add up what each tag costs, as the parser would meet them."""
    open_elements: dict[str, int] = {}
    depth = active = steps = copies = single = 0
    foreign = re.search(r"<(?:svg|math)\b", html, re.IGNORECASE) is not None
    for tags, tag in enumerate(_TAG.finditer(html)):
        name = tag[2].lower()
        closing = tag[1] != ""
        if name in VOID or (name in CLOSED_BY_SIBLINGS and not foreign):
            copies += active
        elif closing:
            if open_elements.get(name, 0):
                open_elements[name] -= 1
                depth -= 1
                active -= name in FORMATTING
        else:
            open_elements[name] = open_elements.get(name, 0) + 1
            depth += 1
            copies += active
            active += name in FORMATTING
        if name in SINGLE:
            single += 1 + len(html[tag.end() : tag.end() + LONG_TAG].partition(">")[0].split())
            steps += single
        steps += depth
        if depth > MAX_DEPTH or steps > MAX_STEPS or copies > MAX_COPIES or tags > MAX_TAGS:
            return True
    return False


def find_all_words(html: str) -> str:
    """Everything between the tags of HTML, styles and scripts too.

    At least the words that are shown, found quickly.
    """
    between = _ANY_TAG.sub(" ", html)
    return unescape(between) if "&" in between else between


def has_unclosed_element(html: str) -> bool:
    """Whether an element or comment that hides its content is opened and never closed.

    And so hides all the rest.
    """
    lower = html.lower()
    if lower.rfind("<!--") > lower.rfind("-->"):
        return True
    return any(
        lower.rfind(f"<{name}") > lower.rfind(f"</{name}")
        for name in SWALLOWING
        if f"<{name}" in lower
    )


def has_open_quote(html: str) -> bool:
    """Whether the quote of an attribute seems never closed, or closed behind other tags.

    It hides what is in it.
    """
    return _OPEN_QUOTE.search(html) is not None


def extract_text(html: str) -> str:
    """Text between the tags of HTML, a line a block, without layout.

    In linear time whatever the HTML is.

    Comments, scripts and styles are left out where they are closed; what follows one that never is,
    is shown.
    """
    html = html.replace(_LINE_END, "")
    pieces: list[str] = []
    ends = _Ends(html)
    position = 0
    for opening in _OPENING.finditer(html):
        start = opening.start()
        if start < position:
            continue
        end, piece = _behind(ends, opening)
        pieces += (html[position:start], piece)
        position = end
    pieces.append(html[position:])
    text = _BLANKS.sub(" ", "".join(pieces).replace("\r", " ").replace("\n", " ")).replace(
        _LINE_END, "\n"
    )
    lines = (line.strip() for line in unescape(text).split("\n"))
    return _GAPS.sub("\n", "\n".join(lines)).strip()


_LINE_END = "\x00"  # stands for the end of a line while blanks are folded; text has no NUL


class _Ends:
    """The next end of a comment, a tag or an element behind a position.

    No stretch is searched twice for one kind.
    """

    def __init__(self, html: str) -> None:
        self.html = html
        self._found: dict[str, int] = {}

    def behind(self, what: str, position: int, pattern: re.Pattern[str]) -> int:
        """Position behind the next match at or after `position`, -1 if there is none."""
        known = self._found.get(what, 0)
        if known >= 0 and known <= position:
            found = pattern.search(self.html, position)
            known = self._found[what] = found.end() if found is not None else -1
        return known


_END_OF = {name: re.compile(rf"</{name}\b[^<>]{{0,200}}>?", re.IGNORECASE) for name in _HIDDEN}


def _behind(ends: _Ends, opening: re.Match[str]) -> tuple[int, str]:
    """Position behind what an opening mark begins, and what stands for it in the text."""
    if opening[0] == "<!--":
        end = ends.behind("comment", opening.end(), _COMMENT_END)
        return (end, "") if end >= 0 else (opening.end(), " ")
    name = (opening[2] or "").lower()
    if name in _HIDDEN and not opening[1]:
        end = ends.behind(name, opening.end(), _END_OF[name])
        if end >= 0:
            return end, ""
    end = ends.behind("tag", opening.end(), _TAG_END)
    mark = _LINE_END if name in LINES else " " if name in {"td", "th"} else ""
    return (end if end >= 0 else opening.end()), mark
