"""Data of the operations pages: system status, channels, unfetched files, audit log."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup, escape
from sqlalchemy.orm import Session

from console.presenters.audit import AuditNames, describe_action, describe_actor, load_names
from workflow.filing.linked_files import LinkedFile, list_unfetched
from workflow.models.core import AuditEntry
from workflow.models.states import LinkState
from workflow.operations.status import PUBLIC_CHANNELS
from workflow.settings.settings import Settings

Data = dict[str, Any]
CHANNEL_LABELS = {
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

PAGE_OF_COMMAND = {  # where a person sees what a command shows
    "intake deliveries --state failed": ("Deliveries", "/operations/deliveries?state=failed"),
    "intake hook list": ("Webhooks", "/operations/webhooks"),
    "intake ledger": ("Ledger", "/operations/ledger"),
}
MAX_FILES = 10
_COMMAND = re.compile(r"`(intake [^`]+)`")
DESCRIBED_FIELDS = {
    "milestone",
    "stage",
    "task",
    "owner",
}  # the sentence of the row has them in words


@dataclass(frozen=True)
class ChannelState:
    """A channel, when it last received something, and whether that is too long ago."""

    name: str
    last: datetime
    is_silent: bool


@dataclass(frozen=True)
class UnfetchedFile:
    """A linked file that is not fetched.

    Only the host of its link is shown: the rest may be a secret, and the ticket shows it.
    """

    host: str
    ticket: int
    since: datetime
    link: LinkedFile

    @property
    def next_try(self) -> datetime | None:
        """Return when it is fetched again; None when it is given up."""
        return self.link.not_before if self.link.state is LinkState.WAITING else None


@dataclass(frozen=True)
class AuditRow:
    """A row of the audit log in words."""

    row: AuditEntry
    words: str
    by: str
    detail: str


def list_channels(found: Data, settings: Settings, now: datetime) -> list[ChannelState]:
    """Return the channels that have received anything.

    A channel customers use is marked silent after `stale_door_hours`.
    """
    longest = timedelta(hours=settings.stale_door_hours)
    last = {name: datetime.fromisoformat(one["last"]) for name, one in found["doors"].items()}
    return [
        ChannelState(name, at, name in PUBLIC_CHANNELS and now - at > longest)
        for name, at in last.items()
    ]


def list_unfetched_files(session: Session, backlog: Data) -> list[UnfetchedFile]:
    """Return the newest files that wait or failed; queries only when the backlog has any."""
    there = backlog["files_waiting"] or backlog["files_failed"]
    found = list_unfetched(session, MAX_FILES) if there else []
    return [
        UnfetchedFile(urlsplit(link.url).hostname or "", message.ticket_id, message.at, link)
        for link, message in found
    ]


def link_commands(text: str) -> Markup:
    """Return a text of `intake status` as markup.

    A command that has a page becomes a link to it.
    """
    plain_and_commands = _COMMAND.split(text)
    said = [_page_of(part) if n % 2 else escape(part) for n, part in enumerate(plain_and_commands)]
    return Markup().join(said)


def _page_of(command: str) -> Markup:
    if command not in PAGE_OF_COMMAND:
        return Markup('<code class="text-reset">{}</code>').format(command)
    words, href = PAGE_OF_COMMAND[command]
    return Markup('<a class="alert-link" href="{}">{}</a>').format(href, words)


def present_audit(session: Session, rows: list[AuditEntry]) -> list[AuditRow]:
    """Return the rows in words."""
    known = load_names(session, rows)
    return [
        AuditRow(row, describe_action(row, known), describe_actor(row.actor), _detail(row, known))
        for row in rows
    ]


def _detail(row: AuditEntry, known: AuditNames) -> str:
    """Return the remaining detail of a row, with staff by name."""
    said = {
        k: known.staff.get(v, v) if k == "staff" else v
        for k, v in row.detail.items()
        if k not in DESCRIBED_FIELDS
    }
    return ", ".join(
        f"{name} {value}" for name, value in said.items() if value not in ("", None, [])
    )
