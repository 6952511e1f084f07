"""Changes that mean nothing change nothing in what is read of the public corpora.

A reader that has learnt its examples fails here: the cases get other names, domains, times, header
orders, line ends, and announcements of quotes in other forms and languages. What is compared is
what we made of the original case, right or wrong.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from parsers.item import InboundItem
from parsers.mail import message
from parsers.mail.replies import extract
from tests.parsers.mail.test_fidelity import (
    CONTRAST,
    CORPORA,
    REPLY,
    ROOT,
    WHOLE,
    load_module,
    needs_corpora,
)

LONGEST = 400_000  # bytes of a case: large ones cost time and show nothing else
ADDRESS = re.compile(rb"([\w.+=-]+)@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,10})\b")
YEAR = re.compile(rb"(?<![\d.:/-])(?:19[89]\d|20[012]\d)(?![\d.:/-]|\w)")
TIME = re.compile(rb"(?<![\d.:])(1[01]|0?[1-9]):([0-5]\d)(?![\d.])")
RELAY_FIELDS = (
    b"Received: from mx.other.example (mx.other.example [192.0.2.7])",
    b"\tby in.other.example with ESMTPS id 4711; Mon, 2 Mar 2026 10:00:00 +0000",
    b"X-Spam-Status: No, score=-1.2 required=5",
)


# -- whole messages ----


def split_header(raw: bytes) -> tuple[list[bytes], bytes] | None:
    """Return the fields of a header, and the rest; None for a header that is damaged."""
    found = re.search(rb"\r?\n\r?\n", raw)
    if found is None:
        return None
    fields: list[bytes] = []
    for line in raw[: found.start()].splitlines():
        if line[:1] in {b" ", b"\t"} and fields:
            if not line.strip():
                return None
            fields[-1] += b"\n" + line
        elif re.match(rb"[!-9;-~]+[ \t]*:", line):
            fields.append(line)
        else:
            return None
    return fields, raw[found.start() :]


def change_order(raw: bytes, chance: random.Random) -> bytes:
    """Put the fields of the header in another order; those of one name keep theirs."""
    if (parts := split_header(raw)) is None:
        return raw
    fields, rest = parts
    names = [field.partition(b":")[0].strip().lower() for field in fields]
    by_name: dict[bytes, list[bytes]] = defaultdict(list)
    for name, field in zip(names, fields, strict=True):
        by_name[name].append(field)
    chance.shuffle(names)
    return b"\n".join(by_name[name].pop(0) for name in names) + rest


def change_line_ends(raw: bytes, _: random.Random) -> bytes:
    return raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw.replace(b"\n", b"\r\n")


def add_fields(raw: bytes, _: random.Random) -> bytes:
    """Add what a relay adds."""
    if split_header(raw) is None:
        return raw
    return b"\n".join([*RELAY_FIELDS, raw])


def change_domains(raw: bytes, _: random.Random) -> bytes:
    """Give each mail domain another name."""
    names: dict[bytes, bytes] = {}

    def rename(found: re.Match[bytes]) -> bytes:
        domain = found[2].lower()
        names.setdefault(domain, b"k%03d.%s" % (len(names), domain.rpartition(b".")[2]))
        return found[1] + b"@" + names[domain]

    return ADDRESS.sub(rename, raw)


def change_times(raw: bytes, _: random.Random) -> bytes:
    """Move years and minutes."""
    raw = YEAR.sub(lambda y: b"%d" % (int(y[0]) + (1 if int(y[0]) < 2024 else -1)), raw)
    return TIME.sub(lambda t: b"%s:%02d" % (t[1], (int(t[2]) + 7) % 60), raw)


Change = Callable[[bytes, random.Random], bytes]
SYNTAX = (change_order, change_line_ends, add_fields)  # everything stays as it is
WORDS = (change_domains, change_times)  # the verdicts stay, and which words are new


def summarize(item: InboundItem) -> object:
    files = [(file.name, file.mime, file.sha256_nl) for file in item.attachments]
    people = (item.sender, item.to, item.cc)
    return *judge(item), item.subject, *people, item.text, item.reply_text, files


def judge(item: InboundItem) -> tuple[object, ...]:
    action = item.bounce.action if item.bounce else None
    return item.is_bounce, item.is_auto_reply, item.is_automated, action


def mask(text: str) -> str:
    """Return a text without what `WORDS` change."""
    return re.sub(r"\d", "0", re.sub(r"[\w.+=-]+@[\w.-]+", "A", text))


def iterate_mails() -> Iterator[tuple[Path, bytes]]:
    for corpus in (*WHOLE, "sisimai", "autoheaders"):
        for path in sorted((CORPORA / corpus / "raw").rglob("*")):
            if path.is_file() and 0 < path.stat().st_size < LONGEST:
                yield path, path.read_bytes()


@needs_corpora
def test_other_names_times_and_headers_change_no_verdict() -> None:
    """Each case is changed in one way; which one is another in each run."""
    compared, different = 0, []
    for path, raw in iterate_mails():
        change: Change = random.choice((*SYNTAX, *WORDS))  # noqa: S311  # no secret
        changed = change(raw, random.Random(random.random()))  # noqa: S311
        if changed == raw:
            continue
        [item], [other] = message.parse(raw), message.parse(changed)
        compared += 1
        if change in SYNTAX:
            is_same = summarize(item) == summarize(other)
        else:
            same_words = mask(item.reply_text) == mask(other.reply_text)
            is_same = judge(item) == judge(other) and same_words
        if not is_same:
            different.append(f"{path.relative_to(CORPORA)}: {change.__name__}")
    assert compared > 500
    # The date of an attached message may stand in the text, in another form.
    assert len(different) <= compared * 0.005, different


# -- answers ----

# The line above a quote, by the languages and programs that write it.
ANNOUNCEMENTS = (
    "On {date}, {name} wrote:",
    "On {date}, at 2:15 PM, {name} wrote:",
    "Am {date} schrieb {name}:",
    "Le {date}, {name} a écrit :",
    "El {date}, {name} escribió:",
    "Il {date}, {name} ha scritto:",
    "Op {date} schreef {name}:",
    "Em {date}, {name} escreveu:",
    "Den {date} skrev {name}:",
    "{date}, {name} пишет:",
    "W dniu {date} użytkownik {name} napisał:",
    "Dne {date} {name} napsal(a):",
    "{date} tarihinde {name} şunu yazdı:",  # noqa: RUF001  # Turkish
    "Pada {date}, {name} menulis:",
    "{date} に {name} さんは書きました:",
)
DATES = (
    *("Tue, Mar 3, 2026 at 2:34 PM", "3 March 2026 14:34", "03/03/2026 14:34", "Mar 3, 2026"),
    *("2026-03-03 14:34 GMT+01:00", "Tuesday, 3 March 2026"),
)
NAMES = (
    *("Maria del Carmen Ruiz", "Nguyễn Văn An <an@khach.example>", "bob@x.example"),
    *("J. P. O'Neill via Support <s@x.example>", "Ruiz, Maria (Billing) <m.ruiz@x.example>"),
)
DEVICES = (
    *("Sent from my Galaxy Tab S9", "Von meinem iPhone gesendet", "Envoyé de mon iPad"),
    *("Enviado desde mi iPhone", "Get Outlook for Android", "Sent from Proton Mail for iOS"),
    *("Inviato da iPhone", "Verstuurd vanaf mijn iPad", "Wysłane z iPhone'a"),
)
_ANNOUNCED = re.compile(
    r"""^On\ [^\n>]{6,90}?,?\ (?:"?[A-Z][\w.'-]+"?(?:\ [A-Z][\w.'-]*){0,3}|[\w.]+@[\w.]+)
    (?:\ ?[<\[][^\n>\]]+[>\]])?\ wrote:""",
    re.MULTILINE | re.VERBOSE,
)
_DEVICE = re.compile(
    r"^Sent from my (?:iPhone|iPad|BlackBerry|Windows Phone|Verizon[^\n]*)\.?[ ]*$", re.MULTILINE
)
_SENDER_FIELD = re.compile(r"^(From|Von|De):( ?)[A-Z][^\n]*$", re.MULTILINE)
_DATE_FIELD = re.compile(r"^(Sent|Date): [^\n]*\d[^\n]*$", re.MULTILINE)


def change_announcement(text: str) -> str:
    form = random.choice(ANNOUNCEMENTS)  # noqa: S311
    line = form.format(date=random.choice(DATES), name=random.choice(NAMES))  # noqa: S311
    return _ANNOUNCED.sub(lambda _: line, text)


def change_device(text: str) -> str:
    line = random.choice(DEVICES)  # noqa: S311
    return _DEVICE.sub(lambda _: line, text)


def change_quoted_header(text: str) -> str:
    text = _SENDER_FIELD.sub(lambda f: f"{f[1]}:{f[2]}Maria Ruiz [mailto:m@ruiz.example]", text)
    return _DATE_FIELD.sub(lambda f: f"{f[1]}: Dienstag, 3. März 2026 14:34", text)


def add_blanks(text: str) -> str:
    """Put blanks at the ends of lines, but not behind the mark of a signature."""
    lines = text.split("\n")
    return "\n".join(f"{line}  " if line.strip(" -") else line for line in lines)


def change_marks(text: str) -> str:
    tight = re.sub(r"(?m)^> ", ">", text)
    return re.sub(r"(?m)^>(?=[^ >])", "> ", text) if tight == text else tight


ANSWERS = (
    *(change_announcement, change_device, change_quoted_header, add_blanks, change_marks),
    lambda text: text.replace("\n", "\r\n"),
)


@needs_corpora
def test_answers_in_other_programs_and_languages_are_told_apart_alike() -> None:
    score = load_module(CORPORA / "score.py")
    compared, different = 0, []
    for corpus in dict.fromkeys((*REPLY, *CONTRAST)):
        for case in score.load(CORPORA / corpus / "expected.jsonl"):
            if case.get("input") not in {"plain", "text"}:
                continue
            text = (CORPORA / corpus / case["file"]).read_text("utf-8-sig", "replace")
            newest = extract.extract_newest(text)
            for change in ANSWERS:
                changed = change(text)
                if changed == text:
                    continue
                compared += 1
                wanted = (newest.split(), change(newest).split())
                if extract.extract_newest(changed).split() not in wanted:
                    different.append(f"{corpus}/{case['file']}: {change.__name__}")
    assert compared > 200
    assert len(different) <= compared * 0.01, different


def test_the_changes_change_something() -> None:
    raw = b"From: a@b.example\nTo: c@d.example\nDate: 3 Mar 2023 10:00:00 +0000\n\nOn 3 March"
    for change in (*SYNTAX, *WORDS):
        assert any(change(raw, random.Random(seed)) != raw for seed in range(9))  # noqa: S311
    text = "Yes.\nSent from my iPhone\n\nOn Tue, Mar 3, 2020, Ann Lee wrote:\n> Really?\nFrom: Ann"
    for changed in (change(text) for change in ANSWERS):
        assert changed != text
    assert (ROOT / "parsers").is_dir()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("form", ANNOUNCEMENTS)
def test_each_announcement_is_known(form: str, date: str, name: str) -> None:
    text = f"Claim 4711, please.\n\n{form.format(date=date, name=name)}\n> Which claim?\n"
    assert extract.extract_newest(text) == "Claim 4711, please."
