"""Newest text of a reply: what is quoted, and the signature, are folded away.

In doubt they are shown.

One rule guards all others (`_or_all`): what is shown is never empty, nor a quote or a signature
alone, while other words are folded. Whatever the other rules make of a message, its words are then
shown whole.
"""

import re
from enum import Enum
from itertools import islice

from parsers.mail.replies import courtesies, quote_markers
from parsers.mail.replies import html as replies_html
from parsers.text import html as text_html

MAX_LINES = (
    3000  # lines that are judged; where they hold nothing old, all further lines are shown as well
)
MAX_CHARACTERS = 300_000
SHORT = 12  # lines of text behind a rule that may still be a signature
LEAST_UNDERLINE = 8  # characters; shorter rules part a name from a text
LOOKED_AT_FIRST = 40  # lines
LONGEST_BLOCK = (
    12  # lines of an announcement or a quoted header: what they are is seen at their end
)
BLOCK = 3  # fields that make a quoted header

_PASSED_ON_BELOW = re.compile(r"[^boH]*f")  # below a signature: what is passed on is no part of it
_UNMARKED_ALONE = re.compile(r"[esd]*b+e*t")
_MARKS = dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\ufeff\u2060", "") | {"\u00a0": " "}
_GLUED = re.compile(r"(?<=\S)(-{2,5} ?On [^\n]{5,200} wrote:)$", re.MULTILINE)


class ThreadRole(Enum):
    """How a message hangs together with others, by its header.

    What a quoted header in it can be.
    """

    REPLY = "reply"  # it answers: what stands below a quoted header is old
    NEW = "new"  # it answers nothing: what stands below a quoted header is passed on, and news
    FORWARD = "forward"  # its subject says it passes a message on: all of it is news


def extract_newest(
    body: str, thread: ThreadRole = ThreadRole.REPLY, *, quotes_are_own: bool = False
) -> str:
    """Return what was newly written in a reply's text, line ends as LF.

    The whole text where no quote is found.

    `quotes_are_own` says that what programs quote is gone already: quotes that nothing announces
    are the writer's.
    """
    whole = text_html.normalize_line_ends(body)
    if thread is ThreadRole.FORWARD:
        return whole.strip()
    plain = head = whole[:MAX_CHARACTERS]
    for mark, meant in _MARKS.items() if not head.isascii() else ():
        plain = plain.replace(mark, meant)
    every = (_GLUED.sub(r"\n\1", plain) if "-- On " in plain else plain).split("\n")
    lines = quote_markers.split_glued_answers(every[:MAX_LINES])
    kept = _kept(lines, thread, quotes_are_own=quotes_are_own)
    if len(kept) == len(lines):
        return (
            whole.strip("\n ")
            if len(every) > MAX_LINES or len(head) < len(whole)
            else _or_all(kept, head)
        )
    return _or_all(kept, whole)


def _or_all(kept: list[str], whole: str) -> str:
    """The lines that are kept; all of the text where they say nothing and others do."""
    shown = "\n".join(kept).strip("\n ")
    return shown if has_own_words(shown) else whole.strip()


def has_own_words(shown: str) -> bool:
    """Return whether a text has words of its writer.

    Not only quotes, announcements, quoted headers or a signature.
    """
    lines = shown.split("\n")[:MAX_LINES]
    if len(lines) > LOOKED_AT_FIRST:  # nearly every text says something in its first lines
        at_once = _first_words(lines[:LOOKED_AT_FIRST], LOOKED_AT_FIRST - LONGEST_BLOCK)
        if at_once is not None:
            return at_once
    return _first_words(lines, len(lines)) or False


def _first_words(lines: list[str], most: int) -> bool | None:
    """Return whether words of the writer come before a signature.

    None where neither is in the first `most` lines.
    """
    for line, kind in islice(zip(*_with_kinds(lines), strict=True), most):
        if quote_markers.SIGNATURE_LINE.match(line):
            return False
        if kind in {quote_markers.LineKind.TEXT, quote_markers.LineKind.FORWARD} and any(
            map(str.isalnum, line)
        ):
            return True
    return None


def _with_kinds(lines: list[str]) -> tuple[list[str], str]:
    return lines, _headers_as_block(lines, "".join(quote_markers.classify_lines(lines)))


def _kept(lines: list[str], thread: ThreadRole, *, quotes_are_own: bool) -> list[str]:
    _, pattern = _with_kinds(lines)
    if thread is ThreadRole.NEW:
        pattern = re.sub("[oH]", "f", pattern, count=1)
    if "f" in pattern and "t" not in pattern[: pattern.index("f")].replace("h", "t"):
        return lines  # a message passed on without a word: all of it is news
    if _UNMARKED_ALONE.match(pattern):
        # an announcement, and below it words that may be a quote or an answer: nobody can tell
        return lines
    end = _end(pattern, lines)
    if "t" in pattern[end:] and _points_below(_text_of(lines[:end], pattern)):
        # what stands below is not marked as old, line for line: it may be what the mail is about
        return lines
    chosen = _without_old(pattern[:end], quotes_are_own=quotes_are_own)
    return [line for line, use in zip(lines, chosen, strict=False) if use]


def _text_of(lines: list[str], pattern: str) -> str:
    return "\n".join(line for line, kind in zip(lines, pattern, strict=False) if kind == "t")


def _points_below(shown: str) -> bool:
    """Return whether a text says nothing by itself, or says that answers stand in what follows."""
    return courtesies.is_only_courtesies(shown) or courtesies.has_pointer_to_answers(shown)


def _headers_as_block(lines: list[str], pattern: str) -> str:
    """Single lines like `To: Jane` are text; several of them may be a quoted header (`H`)."""
    marks = list(pattern)
    for block in re.finditer(r"h(?:[e]?[ht]{0,2}?h)*", pattern):
        start, end = block.span()
        whole = _is_quoted_header(lines, pattern, start, end)
        for i in range(start, end):
            marks[i] = "H" if whole else marks[i].replace("h", "t")
    return "".join(marks)


def _is_quoted_header(lines: list[str], pattern: str, start: int, end: int) -> bool:
    """Return whether lines of fields are the header of an older message.

    And not somebody's own `From:` and `To:`.

    A mail program writes the sender and two more of date, recipient and subject; and it writes what
    people do not: an address, the time of day, a field `Sent:`, or a rule above. Sender and date
    alone need both an address and a time.
    """
    roles = _roles(lines[start:end])
    if "from" not in roles or not roles & {"date", "subject", "to"}:
        return False
    block = "\n".join(line[: quote_markers.MAX_LINE] for line in lines[start:end])
    ruled = bool(set(pattern[max(0, start - 2) : start]) & {"d", "o"})
    addressed = quote_markers.ADDRESS.search(block) is not None
    timed = quote_markers.CLOCK_TIME.search(block) is not None
    if len(roles) >= BLOCK:
        return ruled or addressed or timed or quote_markers.SENT_FIELD.search(block) is not None
    return (len(roles) == BLOCK - 1 and ruled) or (
        addressed and timed and "date" in roles and pattern[end : end + 1] == "e"
    )


def _roles(lines: list[str]) -> set[str]:
    found = (quote_markers.header.match(line) for line in lines)
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
        if found.start() > text_before
        and not _passed_on(pattern, found.start())
        and _rest_is_old(pattern, found.end())
    ]
    ends += [
        found.start()
        for found in re.finditer("d", pattern)
        if found.start() > text_before
        and not _passed_on(pattern, found.start())
        and not _PASSED_ON_BELOW.match(pattern, found.start())
        and _is_signature(pattern, lines, found.start())
    ]
    return min(ends)


def _passed_on(pattern: str, index: int) -> bool:
    """Return whether a header belongs to a message passed on."""
    return "f" in pattern[:index]


def _rest_is_old(pattern: str, index: int) -> bool:
    """Return whether no new text stands behind an announcement.

    The quote is not marked, or runs to the end.
    """
    rest = re.sub(r"(?<=q)t{1,2}(?=q)", "q", pattern[index:])
    return re.match(r"e*q", rest) is None or "t" not in rest


def _is_signature(pattern: str, lines: list[str], index: int) -> bool:
    """Return whether a rule begins a signature, or parts what is old.

    The usual two dashes, or few lines behind it.
    """
    rest = pattern[index + 1 :]
    below = re.match(r"e*(t?)e*[Hbo]", rest)
    if below is not None and (
        not below[1] or quote_markers.CLOCK_TIME.search(lines[index + 1 + below.start(1)])
    ):
        return True  # what is old begins here; programs put its date above its header
    if _underlines(pattern, lines, index):
        return False
    usual = quote_markers.SIGNATURE_LINE.match(lines[index]) is not None
    if not usual and rest.count("t") > SHORT:
        return False
    if usual and "b" in pattern:
        return True
    # A rule alone proves nothing: people part their cases by rules, too.
    old = re.search("[boHq]", rest)
    behind = lines[index + 1 : index + 1 + (old.start() if old is not None else len(rest))]
    return courtesies.is_signature("\n".join(behind))


def _underlines(pattern: str, lines: list[str], index: int) -> bool:
    """Whether a rule stands under the heading of a table or a list.

    Text close above and below, and as long as it.
    """
    close = pattern[max(0, index - 1) : index + 2] == "tdt"
    return close and len(lines[index].strip()) >= max(
        LEAST_UNDERLINE, len(lines[index - 1].strip())
    )


def _without_old(pattern: str, *, quotes_are_own: bool) -> list[bool]:
    """Return which lines are new.

    Quotes go where they are announced or end the text, else they are shown.
    """
    has_text, announced = "t" in pattern, "b" in pattern
    passed_on = pattern.find("f") if "f" in pattern else len(pattern)
    tail = _tail(pattern, quotes_are_own=quotes_are_own)
    within_quotes = _lines_wrapped_in_quotes(pattern) if announced else set()

    def is_old(index: int, kind: str) -> bool:
        match kind:
            case "q":
                quoted = announced or (index >= tail and not _continues(pattern, index))
                return quoted and has_text
            case "b":
                return True
            case "s":
                return _ends_what_is_said(pattern, index)
            case "H":
                return has_text
            case "d":
                return index >= tail
            case _:
                return index in within_quotes

    return [index >= passed_on or not is_old(index, kind) for index, kind in enumerate(pattern)]


def _tail(pattern: str, *, quotes_are_own: bool) -> int:
    """Return the index behind the last line of text.

    From there on quotes and rules say nothing new.
    """
    if quotes_are_own:
        return len(pattern.rstrip("esbd"))
    return len(pattern.rstrip("eqsbd")) if "t" in pattern else len(pattern)


def _lines_wrapped_in_quotes(pattern: str) -> set[int]:
    """Return lines between quoted ones that a program has wrapped without marking them."""
    wrapped = re.finditer(r"(?<=q)t{1,2}(?=q)", pattern)
    return {index for found in wrapped for index in range(*found.span())}


def _continues(pattern: str, index: int) -> bool:
    """Return whether quoted lines stand close below a line of text.

    As people quote within what they write.
    """
    return re.search(r"tq*\Z", pattern[:index]) is not None


def _ends_what_is_said(pattern: str, index: int) -> bool:
    """Return whether a device's line stands where a signature does.

    No text follows before what is old.
    """
    return re.match(r"[esd]*(?:[qboHf]|\Z)", pattern[index:]) is not None


def extract_newest_from_html(html: str, thread: ThreadRole = ThreadRole.REPLY) -> str:
    """Return what was newly written in a reply's HTML, as text.

    Quotes go by their marks, then by their words.
    """
    whole = text_html.html_to_text(html).strip("\n ")
    if thread is ThreadRole.FORWARD:
        return whole
    if text_html.has_hidden_words(html):
        return extract_newest(whole, thread)
    answers = thread is ThreadRole.REPLY
    # In a message that answers none a mark alone proves nothing: people quote, and paste, in their
    # own words.
    marked = (
        answers or re.search("[boH]", _with_kinds(whole.split("\n")[:MAX_LINES])[1]) is not None
    )
    left = replies_html.remove_quotes(html, headers_are_old=answers, marks_are_proof=marked)
    found = extract_newest(left, thread, quotes_are_own=True) if left.strip() else ""
    if len(left) < len(whole) and _points_below(found):
        return whole
    return found if has_own_words(found) else whole
