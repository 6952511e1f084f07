"""Data of the operations pages: system status, channels, unfetched files, audit log."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup, escape
from sqlalchemy.orm import Session

from console.presenters.audit import AuditNames, describe_action, describe_actor, load_names
from console.presenters.times import format_iso
from ingest.formstack.spool import SPOOL_FOLDER, Spool
from workflow.context import AppContext
from workflow.filing.linked_files import LinkedFile, list_unfetched
from workflow.models.core import AuditEntry
from workflow.models.states import LinkState
from workflow.operations.item_faults import ChannelFault
from workflow.operations.status import PUBLIC_CHANNELS, SystemStatus, collect_status
from workflow.settings.settings import Settings

Data = dict[str, Any]
ALIVE_SECONDS = 60  # a process sends a heartbeat every 20 seconds
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
# The names of checks are stored and public (JSON, metrics); these have plainer labels on the page.
CHECK_LABELS = {"dues": "deadlines", "kept forms": "saved forms"}
PAGE_OF_COMMAND = {  # the page that shows the same as a command
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
}  # shown by the action's own words


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


def list_channels(status: Data, settings: Settings, now: datetime) -> list[ChannelState]:
    """Return the channels that have received anything.

    A channel customers use is marked silent after `stale_door_hours`.
    """
    longest = timedelta(hours=settings.stale_door_hours)
    last = {name: datetime.fromisoformat(one["last"]) for name, one in status["doors"].items()}
    return [
        ChannelState(name, at, name in PUBLIC_CHANNELS and now - at > longest)
        for name, at in last.items()
    ]


def list_unfetched_files(session: Session, backlog: Data) -> list[UnfetchedFile]:
    """Return the newest files that wait or failed; queries only when the backlog has any."""
    has_unfetched = backlog["files_waiting"] or backlog["files_failed"]
    files = list_unfetched(session, MAX_FILES) if has_unfetched else []
    return [
        UnfetchedFile(urlsplit(link.url).hostname or "", message.ticket_id, message.at, link)
        for link, message in files
    ]


def link_commands(text: str) -> Markup:
    """Return a text of `intake status` as markup.

    A command that has a page becomes a link to it.
    """
    # `split` with a group: every second part is a command.
    plain_and_commands = _COMMAND.split(text)
    parts = [
        _link_page(part) if n % 2 else escape(part) for n, part in enumerate(plain_and_commands)
    ]
    return Markup().join(parts)


def _link_page(command: str) -> Markup:
    if command not in PAGE_OF_COMMAND:
        return Markup('<code class="text-reset">{}</code>').format(command)
    words, href = PAGE_OF_COMMAND[command]
    return Markup('<a class="alert-link" href="{}">{}</a>').format(href, words)


def present_audit(session: Session, rows: list[AuditEntry]) -> list[AuditRow]:
    """Return the rows in words."""
    names = load_names(session, rows)
    return [
        AuditRow(
            row,
            describe_action(row, names),
            describe_actor(row.actor),
            _describe_detail(row, names),
        )
        for row in rows
    ]


def _describe_detail(row: AuditEntry, names: AuditNames) -> str:
    """Return the remaining detail of a row, with staff by name."""
    remaining = {
        k: names.staff.get(v, v) if k == "staff" else v
        for k, v in row.detail.items()
        if k not in DESCRIBED_FIELDS
    }
    return ", ".join(
        f"{name} {value}" for name, value in remaining.items() if value not in ("", None, [])
    )


def present_status(context: AppContext) -> dict[str, Any]:
    """Return channels, processes, backlog and `needs`; `ok` is True when nobody has to act."""
    status = collect_status(context)
    now = context.clock()
    spool = Spool(context.settings.home / SPOOL_FOLDER, context.sealer)
    spooled_count = len(spool.list_waiting())
    if damaged_count := spool.count_damaged():
        status.needs.append(
            f"{damaged_count} forms in the spool do not open: is their key in INTAKE_SECRET_KEYS?"
        )
    crashing_processes = {loop.process for loop in status.crash_loops}
    ages = {name: (now - at).total_seconds() for name, at in status.last_seen.items()}
    return {
        "ok": not status.needs,
        "needs": status.needs,
        "at": format_iso(now),
        "doors": {name: {"last": format_iso(at)} for name, at in status.channels.items()},
        "processes": {
            name: {
                "seen": format_iso(at),
                "seconds_ago": round(ages[name], 1),
                # It sends a heartbeat whenever it starts: one that crashes in a loop is still not
                # alive.
                "alive": ages[name] < ALIVE_SECONDS
                and name.partition(" ")[0] not in crashing_processes,
                "crash_loop": name.partition(" ")[0] in crashing_processes,
            }
            for name, at in status.last_seen.items()
        },
        "checks": {
            one.name: {"at": format_iso(one.at), "fault": one.fault} for one in status.checks
        },
        "troubles": [_present_fault(one) for one in status.channel_faults],
        "backfill": {
            row.form or "all": {
                "seen_until": format_iso(row.seen_until),
                "looked_at": format_iso(row.looked_at),
                "fault": row.fault,
                "failing_since": format_iso(row.failing_since),
            }
            for row in status.forms
        },
        "older_mails": {
            mailbox: {"count": count, "words": describe_older_mails(mailbox, count)}
            for mailbox, count in status.older_mails.items()
        },
        "oauth": {
            one.mailbox: {
                "since": format_iso(one.since),
                "refreshed_at": format_iso(one.refreshed_at),
                "refused_at": format_iso(one.refused_at),
                "days_left": one.count_days_left(now),
            }
            for one in status.tokens
        },
        "workers": sum(
            name.partition(" ")[0] == "worker" and age < ALIVE_SECONDS for name, age in ages.items()
        ),
        "backlog": {**_present_backlog(status), "spooled": spooled_count},
    }


def describe_older_mails(mailbox: str, count: int) -> str:
    """Return how many mails the first look left in a mailbox, and how to import them."""
    mails = "1 older mail was" if count == 1 else f"{count:,} older mails were"
    return (
        f"mailbox {mailbox}: {mails} left there at the first look. `intake import mail` shows what"
        " an import would bring"
    )


def _present_fault(one: ChannelFault) -> dict[str, Any]:
    """Return the items that one source of a channel cannot deliver at the moment."""
    return {
        "channel": one.channel,
        "place": one.display_place,
        "count": one.count,
        "since": format_iso(one.since),
        "reason": one.reason,
        "items": [{"name": item.name, "reason": item.reason} for item in one.items],
        "next_attempt": format_iso(one.next_attempt),
        "needs_person": one.needs_person,
        "words": one.description,
    }


def _present_backlog(status: SystemStatus) -> dict[str, Any]:
    queues = status.backlog
    return {
        "pending": status.pending,
        "oldest_pending": format_iso(status.oldest_pending),
        "failed": status.failed,
        "rejected": status.with_rejected_rows,
        "reading": [
            {"delivery": p.delivery, "rows": p.filed, "of": p.total} for p in status.progress
        ],
        "mails_waiting": queues.mails.waiting,
        "mails_refused": queues.mails.failed,
        "events_waiting": queues.events.waiting,
        "events_given_up": queues.events.failed,
        "files_waiting": queues.files.waiting,
        "files_failed": queues.files.failed,
    }
