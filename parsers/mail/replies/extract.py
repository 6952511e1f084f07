"""Newest text of a reply: quotes and the signature are folded away, and shown in doubt.

The kinds of a text's lines (`quote_markers.LineKind`) make up a *pattern*, a character a line,
which regular expressions search: `tteqq` is two lines of text, an empty one and two of a quote. A
block of fields that is the header of an older message is marked `H`.

One rule guards all others (`_choose_newest_or_whole`): the text that is shown is never empty, nor a
quote or a signature alone, while other words are folded. Whatever the other rules make of a
message, its words are then shown whole.
"""

import re
from enum import Enum
from itertools import islice

from parsers.mail.replies import courtesies, quote_markers
from parsers.mail.replies import html as replies_html
from parsers.text import html as text_html

# Lines that are classified; where they hold nothing old, all further lines are shown as well.
MAX_LINES = 3000
MAX_CHARACTERS = 300_000
MAX_SIGNATURE_LINES = 12  # lines of text behind a rule that may still be a signature
MIN_UNDERLINE = 8  # characters; shorter rules part a name from a text
FIRST_LINES = 16  # that are looked at before all others
# Lines of an announcement or a quoted header: their kind is known only at their end.
LONGEST_BLOCK = 12
HEADER_FIELDS = 3  # that make a quoted header

# Below a signature: a message that is passed on is no part of it.
_PASSED_ON_BELOW = re.compile(r"[^boH]*f")
_UNMARKED_ALONE = re.compile(r"[esd]*b+e*t")
_OLD_BELOW_RULE = re.compile(r"e*(t?)e*[Hbo]")
_INVISIBLE = dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\ufeff\u2060", "") | {"\u00a0": " "}
_GLUED = re.compile(r"(?<=\S)(-{2,5} ?On [^\n]{5,200} wrote:)$", re.MULTILINE)
# Lines between quoted ones that a program has wrapped without marking them.
_WRAPPED_IN_QUOTE = re.compile(r"(?<=q)t{1,2}(?=q)")


class ThreadRole(Enum):
    """Relation of a message to others, by its header; it decides how quoted headers are read."""

    REPLY = "reply"  # it answers: the text below a quoted header is old
    NEW = "new"  # it answers nothing: the text below a quoted header is passed on, and news
    FORWARD = "forward"  # its subject is that of a message passed on: all of it is news


def extract_newest(
    body: str, role: ThreadRole = ThreadRole.REPLY, *, quotes_are_own: bool = False
) -> str:
    """Return the newly written part of a reply's text, line ends as LF.

    The whole text where no quote is found. `quotes_are_own` is true where quotes that programs
    mark are gone already: then quotes that nothing announces are the writer's.
    """
    whole = text_html.normalize_line_ends(body)
    if role is ThreadRole.FORWARD:
        return whole.strip()
    beginning = whole[:MAX_CHARACTERS]
    every = _split_lines(beginning)
    lines = quote_markers.split_glued_answers(every[:MAX_LINES])
    newest = _select_newest(lines, role, quotes_are_own=quotes_are_own)
    if len(newest) < len(lines):
        return _choose_newest_or_whole(newest, whole)
    if len(every) > MAX_LINES or len(beginning) < len(whole):
        return whole.strip("\n ")
    return _choose_newest_or_whole(newest, beginning)


def _split_lines(text: str) -> list[str]:
    """Return the lines of a text without invisible characters."""
    if not text.isascii():
        for character, replacement in _INVISIBLE.items():
            text = text.replace(character, replacement)
    if "-- On " in text:
        text = _GLUED.sub(r"\n\1", text)
    return text.split("\n")


def _choose_newest_or_whole(newest: list[str], whole: str) -> str:
    """Return the newest lines; all of the text where they hold no words of the writer."""
    shown = "\n".join(newest).strip("\n ")
    return shown if has_own_words(shown) else whole.strip()


def has_own_words(text: str) -> bool:
    """Return whether a text has words of its writer.

    Quotes, announcements, quoted headers and a signature are none.
    """
    lines = text.split("\n")[:MAX_LINES]
    # Nearly every text has some in its first lines. Code may go on to a fence far below them.
    if len(lines) > FIRST_LINES and quote_markers.FENCE not in text:
        result = _has_words_before_signature(lines[:FIRST_LINES], limit=FIRST_LINES - LONGEST_BLOCK)
        if result is not None:
            return result
    return _has_words_before_signature(lines, limit=len(lines)) or False


def _has_words_before_signature(lines: list[str], *, limit: int) -> bool | None:
    """Return whether words of the writer come before a signature.

    None where neither is in the first `limit` lines.
    """
    own = {quote_markers.LineKind.TEXT, quote_markers.LineKind.FORWARD}
    for line, kind in islice(zip(lines, _make_pattern(lines), strict=True), limit):
        if quote_markers.SIGNATURE_LINE.match(line):
            return False
        if kind in own and any(map(str.isalnum, line)):
            return True
    return None


def _select_newest(lines: list[str], role: ThreadRole, *, quotes_are_own: bool) -> list[str]:
    """Return the lines that are new; all of them where it is not certain which are old."""
    pattern = _make_pattern(lines)
    if role is ThreadRole.NEW:
        pattern = re.sub("[oH]", "f", pattern, count=1)
    before_forward, forward, _ = pattern.partition("f")
    if forward and "t" not in before_forward and "h" not in before_forward:
        return lines  # a message passed on without a word: all of it is news
    if _UNMARKED_ALONE.match(pattern):
        # An announcement, and below it words that may be a quote or an answer: nobody can tell.
        return lines
    end = _find_end(pattern, lines)
    if "t" in pattern[end:] and _needs_rest(_join_text(lines[:end], pattern)):
        # The lines below are not marked as old one by one: the mail may be about them.
        return lines
    is_new = _mark_new(pattern[:end], quotes_are_own=quotes_are_own)
    return [line for line, new in zip(lines, is_new, strict=False) if new]


def _join_text(lines: list[str], pattern: str) -> str:
    return "\n".join(line for line, kind in zip(lines, pattern, strict=False) if kind == "t")


def _needs_rest(text: str) -> bool:
    """Return whether a text has no message of its own, or points to answers in the rest below."""
    return courtesies.is_only_courtesies(text) or courtesies.has_pointer_to_answers(text)


def _make_pattern(lines: list[str]) -> str:
    """Return the kinds of lines, a character each.

    Single lines like `To: Jane` are text; several of them may be a quoted header (`H`).
    """
    pattern = "".join(quote_markers.classify_lines(lines))
    kinds = list(pattern)
    for block in re.finditer(r"h(?:[e]?[ht]{0,2}?h)*", pattern):
        start, end = block.span()
        is_header = _is_quoted_header(lines, pattern, start, end)
        for index in range(start, end):
            kinds[index] = "H" if is_header else kinds[index].replace("h", "t")
    return "".join(kinds)


def _is_quoted_header(lines: list[str], pattern: str, start: int, end: int) -> bool:
    """Return whether lines of fields are the header of an older message.

    A mail program writes the sender and two more of date, recipient and subject; and with them
    things that people leave out of their own `From:` and `To:`: an address, the time of day, a
    field `Sent:`, or a rule above. Sender and date alone need both an address and a time.
    """
    names = _find_field_names(lines[start:end])
    if "from" not in names or len(names) <= len({"from"}):
        return False
    has_rule_above = not {"d", "o"}.isdisjoint(pattern[max(0, start - 2) : start])
    if has_rule_above:
        return len(names) >= HEADER_FIELDS - 1
    signs = _find_header_signs(lines[start:end])
    if len(names) >= HEADER_FIELDS:
        return len(signs) > 0
    is_before_blank = pattern[end : end + 1] == "e"
    return is_before_blank and "date" in names and signs >= {"address", "time"}


def _find_header_signs(lines: list[str]) -> set[str]:
    """Return which of address, time and sent stand in a block of fields.

    People leave all of them out of fields that they write themselves.
    """
    block = "\n".join(line[: quote_markers.MAX_LINE] for line in lines)
    patterns = {
        "address": quote_markers.ADDRESS,
        "time": quote_markers.CLOCK_TIME,
        "sent": quote_markers.SENT_FIELD,
    }
    return {name for name, pattern in patterns.items() if pattern.search(block)}


def _find_field_names(lines: list[str]) -> set[str]:
    """Return which of from, date, to and subject stand in a block of fields."""
    fields = (quote_markers.HEADER_FIELD.match(line) for line in lines)
    names = {field.lastgroup for field in fields if field is not None and field.lastgroup}
    return names - {"other"}


def _find_end(pattern: str, lines: list[str]) -> int:
    """Return the index of the line from which on everything is old.

    It is the first of: an original message or quoted header, an announcement whose rest is old, a
    rule above a signature. None of them counts above the first text, or in a message passed on.
    """
    first_text = pattern.find("t")
    if first_text < 0:
        return len(pattern)
    for block in re.finditer("[oH]|b+|d", pattern):
        start = block.start()
        if start <= first_text:
            continue
        if "f" in pattern[:start]:
            break
        if _begins_old(pattern, lines, block):
            return start
    return len(pattern)


def _begins_old(pattern: str, lines: list[str], block: re.Match[str]) -> bool:
    start, end = block.span()
    match pattern[start]:
        case "b":
            return _is_rest_old(pattern, end)
        case "d":
            is_forward_below = _PASSED_ON_BELOW.match(pattern, start) is not None
            return not is_forward_below and _begins_signature(pattern, lines, start)
        case _:
            return True


def _is_rest_old(pattern: str, index: int) -> bool:
    """Return whether no new text stands behind an announcement.

    Its quote is not marked, or runs to the end.
    """
    rest = _WRAPPED_IN_QUOTE.sub("q", pattern[index:])
    return re.match(r"e*q", rest) is None or "t" not in rest


def _begins_signature(pattern: str, lines: list[str], index: int) -> bool:
    """Return whether a rule begins a signature, or stands above older text.

    A rule alone proves nothing: people part their cases by rules, too. The lines behind it have to
    look like a signature, unless it is the usual two dashes in a text that announces a quote.
    """
    rest = pattern[index + 1 :]
    old = _OLD_BELOW_RULE.match(rest)
    if old is not None:
        line_before_old = lines[index + 1 + old.start(1)]
        # Programs put the date of the older text above its header.
        if not old[1] or quote_markers.CLOCK_TIME.search(line_before_old):
            return True
    if _is_underline(pattern, lines, index):
        return False
    is_usual = quote_markers.SIGNATURE_LINE.match(lines[index]) is not None
    if is_usual and "b" in pattern:
        return True
    if not is_usual and rest.count("t") > MAX_SIGNATURE_LINES:
        return False
    old_below = re.search("[boHq]", rest)
    length = old_below.start() if old_below is not None else len(rest)
    return courtesies.is_signature("\n".join(lines[index + 1 : index + 1 + length]))


def _is_underline(pattern: str, lines: list[str], index: int) -> bool:
    """Return whether a rule stands under the heading of a table or a list.

    Text stands close above and below it, and it is as long as the heading.
    """
    if pattern[max(0, index - 1) : index + 2] != "tdt":
        return False
    heading = len(lines[index - 1].strip())
    return len(lines[index].strip()) >= max(MIN_UNDERLINE, heading)


def _mark_new(pattern: str, *, quotes_are_own: bool) -> list[bool]:
    """Return for each line whether it is new.

    Quotes are old where they are announced or end the text; others are the writer's. Everything
    from a message passed on is new.
    """
    has_text, is_announced = "t" in pattern, "b" in pattern
    forward = pattern.find("f") if "f" in pattern else len(pattern)
    tail = _find_tail(pattern, quotes_are_own=quotes_are_own)
    wrapped_lines = _find_wrapped(pattern) if is_announced else set()

    def is_old(index: int, kind: str) -> bool:
        """Return whether the line of this kind is older text."""
        match kind:
            case "q":
                closes_text = index >= tail and not _is_close_below_text(pattern, index)
                return has_text and (is_announced or closes_text)
            case "b":
                return True
            case "s":
                return _stands_as_signature(pattern, index)
            case "H":
                return has_text
            case "d":
                return index >= tail
            case _:
                return index in wrapped_lines

    return [index >= forward or not is_old(index, kind) for index, kind in enumerate(pattern)]


def _find_tail(pattern: str, *, quotes_are_own: bool) -> int:
    """Return the index behind the last line of text; quotes and rules from there on are old."""
    if quotes_are_own:
        return len(pattern.rstrip("esbd"))
    return len(pattern.rstrip("eqsbd")) if "t" in pattern else len(pattern)


def _find_wrapped(pattern: str) -> set[int]:
    """Return the lines between quoted ones that a program has wrapped without marking them."""
    lines = _WRAPPED_IN_QUOTE.finditer(pattern)
    return {index for wrapped in lines for index in range(*wrapped.span())}


def _is_close_below_text(pattern: str, index: int) -> bool:
    """Return whether quoted lines stand close below a line of text.

    People put them there when they quote within their own text.
    """
    return re.search(r"tq*\Z", pattern[:index]) is not None


def _stands_as_signature(pattern: str, index: int) -> bool:
    """Return whether a device's line stands where a signature does: no text follows before a quote.

    "Sent from my iPhone" in the middle of a text is the writer's.
    """
    return re.match(r"[esd]*(?:[qboHf]|\Z)", pattern[index:]) is not None


def extract_newest_from_html(html: str, role: ThreadRole = ThreadRole.REPLY) -> str:
    """Return the newly written part of a reply's HTML, as text.

    Quotes are recognised by the marks of mail programs first, then by their words. The whole text
    where nothing but quotes would be left out of it.
    """
    whole = text_html.html_to_text(html).strip("\n ")
    if role is ThreadRole.FORWARD:
        return whole
    if text_html.has_hidden_words(html):
        return extract_newest(whole, role)
    is_reply = role is ThreadRole.REPLY
    # In a message that answers none a mark alone proves nothing: people quote, and paste, within
    # their own text.
    marks_are_proof = is_reply or _has_old_text(whole)
    unquoted_text = replies_html.remove_quotes(
        html, headers_are_old=is_reply, marks_are_proof=marks_are_proof
    )
    newest = (
        extract_newest(unquoted_text, role, quotes_are_own=True) if unquoted_text.strip() else ""
    )
    if len(unquoted_text) < len(whole) and _needs_rest(newest):
        return whole
    return newest if has_own_words(newest) else whole


def _has_old_text(text: str) -> bool:
    """Return whether anything announces older text, or a quoted header stands in a text."""
    return re.search("[boH]", _make_pattern(text.split("\n")[:MAX_LINES])) is not None
