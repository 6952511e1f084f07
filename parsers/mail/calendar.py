"""Calendar parts of mail (RFC 5545, RFC 5546): invitations, cancellations and answers to them."""

import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass

from parsers.text import charsets
from parsers.text import html as text_html

MAX_BYTES = 200_000  # of one part that are read; its pictures and files stand behind the words
MAX_EVENTS = 20  # of one part that are shown
MAX_VALUE = 20_000  # characters of one value
MAX_ANSWERS = 20
MAX_DEPTH = 10
TYPES = frozenset(
    str.split("text/calendar text/x-calendar text/x-vcalendar application/ics"),
)
_COMPONENTS = frozenset({"VEVENT", "VTODO", "VJOURNAL"})
_TITLES = {
    "REQUEST": "Invitation",
    "ADD": "Invitation",
    "CANCEL": "Cancelled",
    "REPLY": "Answer to an invitation",
    "COUNTER": "Another time is proposed",
    "DECLINECOUNTER": "The proposed time is declined",
}
_ANSWERS = {
    "ACCEPTED": "accepted",
    "DECLINED": "declined",
    "TENTATIVE": "accepted tentatively",
    "DELEGATED": "delegated",
}
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d{0,2}(Z?))?")
_ESCAPED = re.compile(r"\\([nN,;:\"\\])")


@dataclass(frozen=True, slots=True)
class CalendarText:
    """A calendar part as text: all of it, and the notes that people wrote in it ("" for none)."""

    text: str
    note: str


@dataclass(frozen=True, slots=True)
class _Property:
    """A property: its name and those of its parameters in capitals, its value still escaped."""

    name: str
    parameters: dict[str, str]
    value: str


def parse(content: bytes, charset: str = "", method: str = "") -> CalendarText | None:
    """Return a calendar part as text, None where it has no event.

    `charset` and `method` are those of the Content-Type. Alarms and time zones have no words of a
    person and are passed over.
    """
    text = charsets.decode(content[:MAX_BYTES], charset or "utf-8")
    events: list[list[_Property]] = []
    depth: list[str] = []
    for entry in _list_properties(text):
        name = entry.value.strip().upper()
        if entry.name == "BEGIN" and len(depth) < MAX_DEPTH:
            depth.append(name)
            if name in _COMPONENTS and len(events) < MAX_EVENTS:
                events.append([])
        elif entry.name == "END":
            if name in depth:
                del depth[len(depth) - 1 - depth[::-1].index(name) :]
        elif depth and depth[-1] in _COMPONENTS and events:
            events[-1].append(entry)
        elif entry.name == "METHOD" and depth == ["VCALENDAR"]:
            method = name
    described = [_describe(event, method.upper()) for event in events]
    blocks = list(dict.fromkeys(block for block, _ in described if block))
    if not blocks:
        return None
    notes = dict.fromkeys(note for _, note in described if note)
    return CalendarText("\n\n".join(blocks), "\n\n".join(notes))


def _list_properties(text: str) -> Iterator[_Property]:
    """Yield the properties of a calendar, their folded lines put together (RFC 5545 §3.1)."""
    line = ""
    for next_line in [*text_html.normalize_line_ends(text).split("\n"), ""]:
        # vCalendar 1.0 goes on behind a soft line break of quoted-printable.
        if line.endswith("=") and "QUOTED-PRINTABLE" in line[:200].upper():
            line += "\n" + next_line
            continue
        if next_line[:1] in {" ", "\t"}:
            line += next_line[1:]
            continue
        if line and (entry := _split_property(line)) is not None:
            yield entry
        line = next_line


def _split_property(line: str) -> _Property | None:
    """Return the property of a line: `NAME;PARAMETER="a:b":value`; None where it is none."""
    fields, start, is_quoted = [], 0, False
    for position, character in enumerate(line):
        if character == '"':
            is_quoted = not is_quoted
        elif character in ";:" and not is_quoted:
            fields.append(line[start:position])
            start = position + 1
            if character == ":":
                break
    else:
        return None
    pairs = [field.partition("=") for field in fields[1:]]
    parameters = {name.strip().upper(): value.strip('" ') for name, _, value in pairs}
    return _Property(fields[0].strip().upper(), parameters, line[start:])


def _describe(event: list[_Property], method: str) -> tuple[str, str]:
    """Return an event as text, and the notes in it."""
    first: dict[str, _Property] = {}
    for entry in event:
        first.setdefault(entry.name, entry)
    is_cancelled = "STATUS" in first and first["STATUS"].value.strip().upper() == "CANCELLED"
    title = _TITLES["CANCEL"] if is_cancelled else _TITLES.get(method, "Calendar entry")
    answers = _list_answers(event) if method in {"REPLY", "COUNTER"} else []
    note = _find_note(event)
    lines = {
        title: _read_line(first.get("SUMMARY")),
        "Time": _describe_time(first),
        "Place": _read_line(first.get("LOCATION")),
        "Answer": ", ".join(answers),
    }
    block = "\n".join(f"{label}: {value}" for label, value in lines.items() if value)
    return "\n\n".join(filter(None, [block, note])), note


def _find_note(event: list[_Property]) -> str:
    """Return the description and the comments; the HTML form stands in for a lacking one."""
    notes = [_read_text(entry) for entry in event if entry.name in {"DESCRIPTION", "COMMENT"}]
    if not any(entry.name == "DESCRIPTION" and entry.value.strip() for entry in event):
        pages = [_read_text(entry) for entry in event if entry.name == "X-ALT-DESC"][:1]
        notes += [text_html.html_to_text(page) for page in pages]
    return "\n\n".join(dict.fromkeys(filter(None, (note.strip() for note in notes))))


def _read_text(entry: _Property) -> str:
    value = entry.value[:MAX_VALUE]
    if entry.parameters.get("ENCODING", "").upper() == "QUOTED-PRINTABLE":
        decoded = quopri.decodestring(value.encode("utf-8", "replace"))
        value = charsets.decode(decoded, entry.parameters.get("CHARSET", "utf-8"))
    value = _ESCAPED.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)
    return text_html.normalize_line_ends(value)


def _read_line(entry: _Property | None) -> str:
    return " ".join(_read_text(entry).split()) if entry is not None else ""


def _list_answers(event: list[_Property]) -> list[str]:
    """Return who answered how, in an answer: `ATTENDEE;PARTSTAT=DECLINED;CN=Ann:mailto:…`."""
    found = []
    for entry in event:
        answer = _ANSWERS.get(entry.parameters.get("PARTSTAT", "").upper(), "")
        if entry.name == "ATTENDEE" and answer:
            address = re.sub(r"(?i)^\s*mailto:", "", entry.value[:320]).strip()
            found.append(f"{entry.parameters.get('CN') or address} {answer}")
    return found[:MAX_ANSWERS]


def _describe_time(first: dict[str, _Property]) -> str:
    """Return when an event begins and ends: `2026-12-05 16:00 to 17:00 UTC`."""
    start, zone = _read_time(first.get("DTSTART"))
    end, end_zone = _read_time(first.get("DTEND") or first.get("DUE"))
    if not start:
        return f"{end} {end_zone}".strip()
    if end in {"", start}:
        return f"{start} {zone or end_zone}".strip()
    if zone != end_zone:
        return f"{start} {zone}".strip() + f" to {end} {end_zone}".rstrip()
    if start[:10] == end[:10]:
        end = end[11:]
    return f"{start} to {end} {zone}".strip()


def _read_time(entry: _Property | None) -> tuple[str, str]:
    """Return a time, as written where it is none, and its zone ("" for the reader's own)."""
    if entry is None:
        return "", ""
    match = _TIME.fullmatch(entry.value.strip())
    if match is None:
        return entry.value.strip()[:100], ""
    date = "-".join(match.group(1, 2, 3))
    if match[4] is None:
        return date, ""
    zone = "UTC" if match[6] else entry.parameters.get("TZID", "")[:100]
    return f"{date} {match[4]}:{match[5]}", zone
