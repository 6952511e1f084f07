"""Measure filing beside django-helpdesk: bytes of mails of 2 KB to committed tickets.

    python benchmarks/peers.py [MAILS]

The same mails, in turn. django-helpdesk runs in an environment of its own (`.venv-peers/`, made at
the first run), on SQLite tuned as ours; it sends no notice, and ours queues one for each ticket.
Ours accepts each mail with a synced commit of its own, and then files all that wait.
"""

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.support.results import Figure, record
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_waiting
from parsers.item import Format
from workflow.context import open_context
from workflow.database.engine import migrate
from workflow.runtime import log
from workflow.settings.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
MAILS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
PEER = ROOT / ".venv-peers" / "django-helpdesk"
LINE = "please look at the claim that was denied, resubmit it, and tell us the balance\r\n"


def make_mail(number: int) -> str:
    """Return a mail of 2 KB."""
    sender = f"p{number}@practice{number % 80}.example"
    head = f"From: Pat <{sender}>\r\nTo: support@localhost\r\nSubject: question {number}\r\n"
    return f"{head}Message-ID: <{number}@clinic.example>\r\n\r\n{LINE * 22}"


def install_peer() -> Path | None:
    """Return the peer's Python, installed at the first call; None where that is not possible."""
    python = PEER / "bin" / "python"
    if not python.exists():
        Console().print(f"installing django-helpdesk into {PEER.relative_to(ROOT)} …")
        venv.create(PEER, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "django-helpdesk"], check=False
        )
        if done.returncode:
            return None
    return python


def measure_peer(python: Path, mails: list[str]) -> float:
    """Return the mails a second that django-helpdesk files."""
    with tempfile.TemporaryDirectory() as folder:
        for number, mail in enumerate(mails):
            Path(folder, f"{number:06}.eml").write_text(mail, newline="")
        script = ROOT / "benchmarks" / "support" / "django_helpdesk.py"
        done = subprocess.run(
            [python, script, folder], check=True, stdout=subprocess.PIPE, text=True
        )
        return float(json.loads(done.stdout)["rate"])


def measure_ours(mails: list[str]) -> tuple[float, float]:
    """Return the mails a second that we file, without and with accepting them."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/intake.db"
        migrate(url)
        settings = Settings(home=Path(folder), database_url=url)
        context = open_context(settings)
        intake = Intake(context)
        began = time.perf_counter()
        for mail in mails:
            arrival = Arrival(
                transport=Transport.SMTP, format=Format.MAIL, raw=mail.encode(), envelope={}
            )
            intake.accept(arrival)
        accepted = time.perf_counter()
        with use_parser_pool(settings):
            while process_waiting(context):
                pass
        ended = time.perf_counter()
        context.close()
    return len(mails) / (ended - accepted), len(mails) / (ended - began)


def main() -> None:
    """Print the table and record the ratio."""
    log.disable()
    mails = [make_mail(number) for number in range(MAILS)]
    python = install_peer()
    if python is None:
        Console().print("django-helpdesk is left out: it could not be installed")
        return
    theirs = measure_peer(python, mails)
    filing, whole = measure_ours(mails)
    table = Table("what", "mails/s", "ratio")
    table.add_row("django-helpdesk, bytes to ticket", f"{theirs:.0f}", "1.0")
    table.add_row("ours, backlog to tickets", f"{filing:.0f}", f"{filing / theirs:.1f}")
    table.add_row("ours, accepting included", f"{whole:.0f}", f"{whole / theirs:.1f}")
    Console().print(table)
    work = "2 KB mails to committed tickets, backlog, SQLite"
    record("peers", [Figure(work, "django-helpdesk", filing / theirs, goal=8)])


if __name__ == "__main__":
    main()
