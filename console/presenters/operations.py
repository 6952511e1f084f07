"""Shapes for the operations pages: doors as a list, rows of the audit trail in words."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup, escape
from sqlalchemy.orm import Session

from console.presenters.audit import Known, actor, known_to, sentence
from workflow.filing.linked_files import LinkedFile, unsettled
from workflow.models.core import Audit
from workflow.models.states import LinkState
from workflow.operations.status import PUBLIC_DOORS
from workflow.settings.settings import Settings

Data = dict[str, Any]
DOOR_WORDS = {
    "smtp": "mail (SMTP)",
    "lmtp": "mail (LMTP)",
    "imap": "mail (mailbox)",
    "formstack": "forms (webhook)",
    "backfill": "forms (pulled)",
    "folder": "Excel folder",
    "console": "written down",
    "pipe": "command",
    "import": "moved in",
}

PAGES = {  # where a person sees what a command shows
    "intake deliveries --state failed": ("Deliveries", "/operations/deliveries?state=failed"),
    "intake hook list": ("Webhooks", "/operations/webhooks"),
    "intake ledger": ("Ledger", "/operations/ledger"),
}
MOST_FILES = 10
_COMMAND = re.compile(r"`(intake [^`]+)`")
SAID = {"milestone", "stage", "task", "owner"}  # the sentence of the row has them in words


@dataclass(frozen=True)
class Door:
    """A way in: when something came last, and whether that is too long ago."""

    name: str
    last: datetime
    silent: bool


@dataclass(frozen=True)
class File:
    """A file that a message links to.

    Of its link only the host: the rest may be a key to it, and its ticket has it.
    """

    host: str
    ticket: int
    since: datetime
    link: LinkedFile

    @property
    def next_try(self) -> datetime | None:
        """Return when it is fetched again; None: not any more."""
        return self.link.not_before if self.link.state is LinkState.WAITING else None


@dataclass(frozen=True)
class Told:
    """A row of the audit trail as a person reads it."""

    row: Audit
    words: str
    by: str
    detail: str


def doors(found: Data, settings: Settings, now: datetime) -> list[Door]:
    """The doors that anything has come by.

    Silence is an alarm where customers never keep it for so long.
    """
    longest = timedelta(hours=settings.stale_door_hours)
    last = {name: datetime.fromisoformat(one["last"]) for name, one in found["doors"].items()}
    return [
        Door(name, at, name in PUBLIC_DOORS and now - at > longest) for name, at in last.items()
    ]


def files(session: Session, backlog: Data) -> list[File]:
    """The newest files that wait or could not be had.

    The database is asked only where there are any.
    """
    there = backlog["files_waiting"] or backlog["files_failed"]
    found = unsettled(session, MOST_FILES) if there else []
    return [
        File(urlsplit(link.url).hostname or "", message.ticket_id, message.at, link)
        for link, message in found
    ]


def with_links(text: str) -> Markup:
    """Words of `intake status` for a page.

    A command that a page stands for becomes a link to it.
    """
    plain_and_commands = _COMMAND.split(text)
    said = [_page_of(part) if n % 2 else escape(part) for n, part in enumerate(plain_and_commands)]
    return Markup().join(said)


def _page_of(command: str) -> Markup:
    if command not in PAGES:
        return Markup('<code class="text-reset">{}</code>').format(command)
    words, href = PAGES[command]
    return Markup('<a class="alert-link" href="{}">{}</a>').format(href, words)


def trail_data(session: Session, rows: list[Audit]) -> list[Told]:
    """The rows in words."""
    known = known_to(session, rows)
    return [Told(row, sentence(row, known), actor(row.actor), _detail(row, known)) for row in rows]


def _detail(row: Audit, known: Known) -> str:
    """Return what else a row says, with the name of a person beside theirs."""
    said = {
        k: known.staff.get(v, v) if k == "staff" else v
        for k, v in row.detail.items()
        if k not in SAID
    }
    return ", ".join(
        f"{name} {value}" for name, value in said.items() if value not in ("", None, [])
    )
