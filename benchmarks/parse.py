"""Benchmark of the mail parser.

Ours beside the standard library, mail-parser alone and a parser in Rust, in one run.

    python benchmarks/parse.py [ROUNDS]

The mix: of 100 mails 60 of 2 KB plain text, 25 of 20 KB in two alternatives, 10 with a 200 KB PDF,
5 with a 5 MB file. Every contender gives subject, people, date, texts and the bytes of every file;
ours also the newest text of the reply, what kind of automatic mail it is, and everything else an
item has. Ratios are what counts; absolute figures drift.
"""

import base64
import importlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import mailparser
from rich.console import Console
from rich.table import Table

from benchmarks.support.results import Figure, record
from parsers.mail import message as mail_message

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdecimal() else 3
FLOOR = 4  # times mail-parser alone, on the mix; below it the benchmark fails
GOALS = {"2 KB plain": 1.5, "20 KB alternative": 1.0}  # ratios to mail-parser alone
KINDS = {"2 KB plain": 60, "20 KB alternative": 25, "200 KB PDF": 10, "5 MB file": 5}
LARGE = 25_000_000  # bytes of the mail memory is measured with, as it is sent
WORDS = str.split(
    "the claim was denied because payer needs a new authorisation code for visits after March and"
    " we cannot post payment until übernächste Woche; please call Dr. Müller's office about invoice"
    " 4711 café naïve façade",
)
Contender = Callable[[bytes], int]


def text(dice: random.Random, size: int) -> str:
    """Lines of words, as long as those of a mail, of about this size."""
    lines, length = [], 0
    while length < size:
        line = " ".join(dice.choices(WORDS, k=dice.randint(6, 12)))
        lines.append(line if dice.random() < 0.9 else "")
        length += len(lines[-1].encode()) + 2
    return "\n".join(lines) + "\n"


def build_header(dice: random.Random) -> EmailMessage:
    """The header of an ordinary mail that came over two relays."""
    message, number = EmailMessage(policy=policy.SMTP), dice.getrandbits(64)
    for hop in ("mx1.billing.example", "out7.provider.example"):
        message["Received"] = (
            f"from relay{dice.randint(1, 99)}.example (relay.example"
            f" [192.0.2.{dice.randint(1, 254)}]) by {hop} with ESMTPS id {number:x}; Tue, 4 Mar"
            f" 2025 10:{dice.randint(10, 59)}:07 -0600"
        )
    message["From"] = f"Zoë Müller <zoe.mueller{dice.randint(1, 999)}@clinic.example>"
    message["To"] = "Support <support@billing.example>, billing@clinic.example"
    message["Subject"] = f"Re: Prior authorisation für Praxis {number % 9973} – second request"
    message["Date"] = f"Tue, 4 Mar 2025 10:{dice.randint(10, 59)}:00 -0600"
    message["Message-ID"] = f"<{number:x}@clinic.example>"
    message["In-Reply-To"] = f"<{number % 99991}@billing.example>"
    message["References"] = f"<{number % 7919}@billing.example> <{number % 99991}@billing.example>"
    message["X-Mailer"] = "Example Mail 16.0"
    return message


def plain(dice: random.Random) -> EmailMessage:
    """A question with a quote below."""
    message = build_header(dice)
    asked, quoted = text(dice, 700), text(dice, 300)
    quote = "".join(f"> {line}\n" for line in quoted.splitlines())
    message.set_content(
        f"{asked}\nOn Mon, Mar 3, 2025 at 9:00 AM Support <support@billing.example> wrote:\n{quote}"
    )
    return message


def alternative(dice: random.Random) -> EmailMessage:
    """The same in text and HTML, with the mark-up mail programs make."""
    message = build_header(dice)
    body = text(dice, 6000)
    rows = "".join(
        f'<p class="MsoNormal" style="margin:0"><span lang="EN-US">{line}</span></p>\n'
        for line in body.splitlines()
    )
    message.set_content(body)
    message.add_alternative(
        f"<html><head><style>p{{margin:0}}</style></head><body>{rows}</body></html>", "html"
    )
    return message


def with_file(dice: random.Random, size: int, kind: str, name: str) -> EmailMessage:
    """A short text and a file."""
    message = build_header(dice)
    message.set_content(text(dice, 800))
    message.add_attachment(dice.randbytes(size), "application", kind, filename=name)
    return message


def large(dice: random.Random) -> bytes:
    """The mail memory is measured with; base64 makes 78 bytes of 57."""
    return with_file(dice, LARGE * 57 // 78, "zip", "export.zip").as_bytes()


MAKERS: dict[str, Callable[[random.Random], EmailMessage]] = {
    "2 KB plain": plain,
    "20 KB alternative": alternative,
    "200 KB PDF": lambda dice: with_file(dice, 200_000, "pdf", "Überweisung März.pdf"),
    "5 MB file": lambda dice: with_file(dice, 5_000_000, "zip", "export.zip"),
}


def standard_library(raw: bytes) -> int:
    message = message_from_bytes(raw, policy=policy.default)
    fields = [str(value) for value in message.values()]
    parts = [part for part in message.walk() if not part.is_multipart()]
    return len(fields) + sum(
        len(part.get_content()) + len(part.get_filename() or "") for part in parts
    )


def mail_parser(raw: bytes) -> int:
    read = mailparser.parse_from_bytes(raw)
    fields = (
        read.subject,
        read.from_,
        read.to,
        read.date,
        read.message_id,
        read.text_plain,
        read.text_html,
    )
    files = [
        base64.b64decode(a["payload"]) if a["binary"] else a["payload"].encode()
        for a in read.attachments
    ]
    return len(fields) + sum(map(len, files))


def ours(raw: bytes) -> int:
    return sum(attachment.size for attachment in mail_message.parse(raw)[0].attachments)


def rust(raw: bytes) -> int:
    """fast-mail-parser: parses on its first line, decodes files as they are asked for."""
    read = importlib.import_module("fast_mail_parser").parse_email(raw)
    fields = (read.subject, read.date, read.headers, read.text_plain, read.text_html)
    return len(fields) + sum(len(attachment.content) for attachment in read.attachments)


CONTENDERS: dict[str, Contender] = {
    "mail-parser alone": mail_parser,
    "standard library": standard_library,
    "fast-mail-parser": rust,
    "ours": ours,
}


def installed(name: str) -> bool:
    return name != "fast-mail-parser" or importlib.util.find_spec("fast_mail_parser") is not None


def seconds(work: Contender, mails: list[bytes]) -> float:
    """Processor seconds for all of them once."""
    started = time.process_time()
    for raw in mails:
        work(raw)
    return time.process_time() - started


def rates(mails: dict[str, list[bytes]]) -> dict[str, dict[str, float]]:
    """Seconds a mail of each contender and kind.

    The best of some rounds in which they take turns.
    """
    best: dict[str, dict[str, float]] = {name: {} for name in CONTENDERS if installed(name)}
    for _ in range(ROUNDS):
        for kind, made in mails.items():
            for name, found in best.items():
                found[kind] = min(found.get(kind, 1e9), seconds(CONTENDERS[name], made) / len(made))
    return best


def memory(name: str, path: Path) -> float:
    """Megabytes the peak of a fresh process lies above what it held before.

    The message among it.
    """
    done = subprocess.run(
        [sys.executable, __file__, name, str(path)], capture_output=True, text=True, check=False
    )
    return float(done.stdout) if done.returncode == 0 else float("nan")


def peak(name: str, path: Path) -> None:
    """Print the memory that the large mail takes, in the child.

    A small mail is read before, so that no import counts.
    """
    work = CONTENDERS[name]
    work(b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n")
    raw = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins here (Linux)
    before = resident("VmRSS")
    work(raw)
    print((resident("VmHWM") - before) / 1000)


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    dice = random.Random(4711)
    mails = {
        kind: [MAKERS[kind](dice).as_bytes() for _ in range(share)] for kind, share in KINDS.items()
    }
    found = rates(mails)
    mixed = {
        name: sum(by[kind] * share for kind, share in KINDS.items()) / 100
        for name, by in found.items()
    }
    with tempfile.NamedTemporaryFile(suffix=".eml") as file:
        file.write(large(dice))
        file.flush()
        peaks = {name: memory(name, Path(file.name)) for name in found}
    table = Table("mails a second of processor time", *CONTENDERS)
    for kind in KINDS:
        row = [
            f"{1 / found[name][kind]:,.0f}" if name in found else "not installed"
            for name in CONTENDERS
        ]
        table.add_row(f"{kind} ({len(mails[kind][0]):,} bytes)", *row)
    base = mixed["mail-parser alone"]
    table.add_row(
        "the mix", *[f"{1 / mixed[name]:,.0f}" if name in found else "" for name in CONTENDERS]
    )
    table.add_row(
        "ratio", *[f"{base / mixed[name]:.2f}" if name in found else "" for name in CONTENDERS]
    )
    table.add_row(
        "MB above a 25 MB mail",
        *[f"{peaks[name]:.0f}" if name in found else "" for name in CONTENDERS],
    )
    Console().print(table)
    record(
        "parse",
        [
            *(
                Figure(
                    f"parse {kind}",
                    "mail-parser alone",
                    found["mail-parser alone"][kind] / found["ours"][kind],
                    goal=GOALS.get(kind),
                )
                for kind in KINDS
            ),
            Figure("parse the mix", "mail-parser alone", base / mixed["ours"], goal=8),
        ],
    )
    if base / mixed["ours"] < FLOOR:
        sys.exit(f"the mix is read less than {FLOOR} times as fast as by mail-parser alone")


if __name__ == "__main__":
    if len(sys.argv) > 2:  # a contender and a file: the child that is measured
        peak(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
