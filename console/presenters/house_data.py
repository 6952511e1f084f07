"""The state of the house as plain data, for `intake status` and whoever else asks."""

from typing import Any

from console.presenters.times import iso
from ingest.formstack.spool import SPOOL, Spool
from workflow.context import House
from workflow.operations import status
from workflow.operations.item_faults import Trouble

STALE_SECONDS = 60  # a process says it is alive every 20 seconds


def status_data(house: House) -> dict[str, Any]:
    """Doors, processes, backlog and what needs a person; `ok` is true when nothing does."""
    found = status.report(house)
    now = house.clock()
    spool = Spool(house.settings.home / SPOOL, house.sealer)
    spooled = len(spool.waiting())
    if damaged := spool.damaged():
        found.needs.append(
            f"{damaged} forms in the spool do not open: is their key in INTAKE_SECRET_KEYS?"
        )
    looping = {loop.process for loop in found.crash_loops}
    ages = {name: (now - at).total_seconds() for name, at in found.seen.items()}
    return {
        "ok": not found.needs,
        "needs": found.needs,
        "at": iso(now),
        "doors": {name: {"last": iso(at)} for name, at in found.doors.items()},
        "processes": {
            name: {
                "seen": iso(at),
                "seconds_ago": round(ages[name], 1),
                # It says so whenever it starts: one that ends again and again is none the less not
                # alive.
                "alive": ages[name] < STALE_SECONDS and name.partition(" ")[0] not in looping,
                "crash_loop": name.partition(" ")[0] in looping,
            }
            for name, at in found.seen.items()
        },
        "checks": {one.name: {"at": iso(one.at), "fault": one.fault} for one in found.checks},
        "troubles": [_trouble(one) for one in found.troubles],
        "backfill": {
            row.form or "all": {
                "seen_until": iso(row.seen_until),
                "looked_at": iso(row.looked_at),
                "fault": row.fault,
                "failing_since": iso(row.failing_since),
            }
            for row in found.forms
        },
        "oauth": {
            one.mailbox: {
                "since": iso(one.since),
                "refreshed_at": iso(one.refreshed_at),
                "refused_at": iso(one.refused_at),
                "days_left": one.days(now),
            }
            for one in found.grants
        },
        "workers": sum(
            name.partition(" ")[0] == "worker" and age < STALE_SECONDS for name, age in ages.items()
        ),
        "backlog": {**_backlog(found), "spooled": spooled},
    }


def _trouble(one: Trouble) -> dict[str, Any]:
    """Return what a place of a channel cannot take now."""
    return {
        "channel": one.channel,
        "place": one.shown_place,
        "count": one.count,
        "since": iso(one.since),
        "reason": one.reason,
        "items": [{"name": item.name, "reason": item.reason} for item in one.items],
        "next_attempt": iso(one.next_attempt),
        "needs_person": one.needs_person,
        "words": one.words,
    }


def _backlog(found: status.Report) -> dict[str, Any]:
    promised = found.backlog
    return {
        "pending": found.pending,
        "oldest_pending": iso(found.oldest_pending),
        "failed": found.failed,
        "rejected": found.rejected,
        "reading": [{"delivery": p.delivery, "rows": p.filed, "of": p.of} for p in found.reading],
        "mails_waiting": promised.mails.waiting,
        "mails_refused": promised.mails.failed,
        "events_waiting": promised.events.waiting,
        "events_given_up": promised.events.failed,
        "files_waiting": promised.files.waiting,
        "files_failed": promised.files.failed,
    }
