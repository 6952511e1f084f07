"""The state of the house as plain data, for `intake status` and whoever else asks."""

from typing import Any

from console.presenters.times import format_iso
from ingest.formstack.spool import SPOOL_FOLDER, Spool
from workflow.context import AppContext
from workflow.operations import status
from workflow.operations.item_faults import ChannelFault

ALIVE_SECONDS = 60  # a process says it is alive every 20 seconds


def present_status(context: AppContext) -> dict[str, Any]:
    """Return channels, processes, backlog and `needs`; `ok` is True when nobody has to act."""
    found = status.collect_status(context)
    now = context.clock()
    spool = Spool(context.settings.home / SPOOL_FOLDER, context.sealer)
    spooled = len(spool.list_waiting())
    if damaged := spool.count_damaged():
        found.needs.append(
            f"{damaged} forms in the spool do not open: is their key in INTAKE_SECRET_KEYS?"
        )
    looping = {loop.process for loop in found.crash_loops}
    ages = {name: (now - at).total_seconds() for name, at in found.last_seen.items()}
    return {
        "ok": not found.needs,
        "needs": found.needs,
        "at": format_iso(now),
        "doors": {name: {"last": format_iso(at)} for name, at in found.channels.items()},
        "processes": {
            name: {
                "seen": format_iso(at),
                "seconds_ago": round(ages[name], 1),
                # It says so whenever it starts: one that ends again and again is none the less not
                # alive.
                "alive": ages[name] < ALIVE_SECONDS and name.partition(" ")[0] not in looping,
                "crash_loop": name.partition(" ")[0] in looping,
            }
            for name, at in found.last_seen.items()
        },
        "checks": {
            one.name: {"at": format_iso(one.at), "fault": one.fault} for one in found.checks
        },
        "troubles": [_trouble(one) for one in found.channel_faults],
        "backfill": {
            row.form or "all": {
                "seen_until": format_iso(row.seen_until),
                "looked_at": format_iso(row.looked_at),
                "fault": row.fault,
                "failing_since": format_iso(row.failing_since),
            }
            for row in found.forms
        },
        "oauth": {
            one.mailbox: {
                "since": format_iso(one.since),
                "refreshed_at": format_iso(one.refreshed_at),
                "refused_at": format_iso(one.refused_at),
                "days_left": one.count_days_left(now),
            }
            for one in found.tokens
        },
        "workers": sum(
            name.partition(" ")[0] == "worker" and age < ALIVE_SECONDS for name, age in ages.items()
        ),
        "backlog": {**_backlog(found), "spooled": spooled},
    }


def _trouble(one: ChannelFault) -> dict[str, Any]:
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


def _backlog(found: status.SystemStatus) -> dict[str, Any]:
    promised = found.backlog
    return {
        "pending": found.pending,
        "oldest_pending": format_iso(found.oldest_pending),
        "failed": found.failed,
        "rejected": found.with_rejected_rows,
        "reading": [
            {"delivery": p.delivery, "rows": p.filed, "of": p.total} for p in found.progress
        ],
        "mails_waiting": promised.mails.waiting,
        "mails_refused": promised.mails.failed,
        "events_waiting": promised.events.waiting,
        "events_given_up": promised.events.failed,
        "files_waiting": promised.files.waiting,
        "files_failed": promised.files.failed,
    }
