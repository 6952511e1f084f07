"""Newest text of a reply: what is quoted, and the signature, are folded away; in doubt they are shown."""

import re

from parsers import quoting, reply_html, text

MAX_LINES = 3000  # lines that are judged; of a longer text the rest is old or an attachment pasted in
MAX_CHARACTERS = 300_000
SHORT = 12  # lines of text behind a rule that may still be a signature
LEAST_UNDERLINE = 8  # characters; shorter rules part a name from a text
BLOCK = 3  # fields that make a quoted header

_MARKS = dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\ufeff\u2060", "") | {"\u00a0": " "}
_GLUED = re.compile(r"(?<=\S)(-{2,5} ?On [^\n]{5,200} wrote:)$", re.MULTILINE)


def newest(body: str) -> str:
    """Return what was newly written in a reply's text, line ends as LF; the whole text where no quote is found."""
    whole = text.lines(body)[:MAX_CHARACTERS]
    plain = whole
    for mark, meant in _MARKS.items() if not whole.isascii() else ():
        plain = plain.replace(mark, meant)
    lines = (_GLUED.sub(r"\n\1", plain) if "-- On " in plain else plain).split("\n")[:MAX_LINES]
    kept = _kept(lines)
    return "\n".join(kept).strip("\n ") or whole.strip()


def _kept(lines: list[str]) -> list[str]:
    kinds = quoting.kinds(lines)
    pattern = "".join(kinds)
    pattern = _headers_as_block(lines, pattern)
    if "f" in pattern and "t" not in pattern[: pattern.index("f")].replace("h", "t"):
        return lines  # a message passed on without a word: all of it is news
    end = _end(pattern, lines)
    chosen = _without_old(pattern[:end])
    return [line for line, use in zip(lines, chosen, strict=False) if use]


def _headers_as_block(lines: list[str], pattern: str) -> str:
    """Single lines like `To: Jane` are text; three with a sender among them are a quoted header (`H`)."""
    marks = list(pattern)
    for block in re.finditer(r"h(?:[e]?[ht]{0,2}?h)*", pattern):
        names = _roles(lines[block.start() : block.end()])
        enough = len(names) >= BLOCK or (
            len(names) == BLOCK - 1 and "d" in pattern[max(0, block.start() - 2) : block.start()]
        )
        whole = "from" in names and names & {"date", "subject", "to"} and enough
        for i in range(block.start(), block.end()):
            marks[i] = "H" if whole else marks[i].replace("h", "t")
    return "".join(marks)


def _roles(lines: list[str]) -> set[str]:
    found = (quoting.header.match(line) for line in lines)
    return {match.lastgroup for match in found if match is not None and match.lastgroup} - {"other"}


def _end(pattern: str, lines: list[str]) -> int:
    """Index of the line where what is old begins and goes on to the end."""
    ends = [len(pattern)]
    text_before = pattern.find("t")
    if text_before < 0:
        return len(pattern)
    ends += [
        found.start()
        for found in re.finditer("[oH]", pattern)
        if found.start() > text_before and not _passed_on(pattern, found.start())
    ]
    ends += [
        found.start()
        for found in re.finditer("b+", pattern)
        if found.start() > text_before and _rest_is_old(pattern, found.end())
    ]
    ends += [
        i
        for i in (found.start() for found in re.finditer("d", pattern))
        if i > text_before and _is_signature(pattern, lines, i)
    ]
    return min(ends)


def _passed_on(pattern: str, index: int) -> bool:
    """Whether a header belongs to a message passed on."""
    return "f" in pattern[:index]


def _rest_is_old(pattern: str, index: int) -> bool:
    """Whether no new text stands behind an announcement: the quote is not marked, or runs to the end."""
    rest = re.sub(r"(?<=q)t{1,2}(?=q)", "q", pattern[index:])
    return re.match(r"e*q", rest) is None or "t" not in rest


def _is_signature(pattern: str, lines: list[str], index: int) -> bool:
    """Whether a rule begins a signature, or parts what is old: the usual two dashes, or few lines behind it."""
    rest = pattern[index + 1 :]
    if quoting.signature.match(lines[index]):
        return True
    if _underlines(pattern, lines, index):
        return False
    return rest.count("t") <= SHORT or re.match(r"e*[Hbo]", rest) is not None


def _underlines(pattern: str, lines: list[str], index: int) -> bool:
    """Whether a rule stands under the heading of a table or a list: text close above and below, and as long as it."""
    close = pattern[max(0, index - 1) : index + 2] == "tdt"
    return close and len(lines[index].strip()) >= max(LEAST_UNDERLINE, len(lines[index - 1].strip()))


def _without_old(pattern: str) -> list[bool]:
    """Which lines are new: quotes go where they are announced or end the text, else they are shown."""
    use = [kind not in "bs" for kind in pattern]
    announced = "b" in pattern
    tail = len(pattern.rstrip("eqsbd")) if "t" in pattern else len(pattern)
    wrapped = {i for found in re.finditer(r"(?<=q)t{1,2}(?=q)", pattern) for i in range(*found.span())}
    for i, kind in enumerate(pattern):
        if kind == "q" and (announced or i >= tail):
            use[i] = "t" not in pattern
        elif (
            (kind == "H" and "t" in pattern and "f" not in pattern)
            or (announced and i in wrapped)
            or (kind == "d" and i >= tail)
        ):
            use[i] = False
    return use


def newest_html(html: str) -> str:
    """Return what was newly written in a reply's HTML, as text: quotes go by their marks, then by their words."""
    return newest(reply_html.without_quotes(html))
