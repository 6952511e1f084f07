"""States of deliveries, items, tickets, mails, linked files and webhooks, and roles of staff.

The values are stored in the database.
"""

from enum import StrEnum


class DeliveryState(StrEnum):
    """State of a delivery."""

    PENDING = "pending"  # stored, not yet read
    PROCESSED = "processed"  # every item in it is filed
    FAILED = "failed"  # not readable; shown to staff, can be replayed
    DISMISSED = "dismissed"  # dismissed by a person, with a reason


class Outcome(StrEnum):
    """Outcome of filing one item of a delivery."""

    OPENED = "opened"  # a new ticket
    APPENDED = "appended"  # on the ticket it belongs to
    DUPLICATE = "duplicate"  # received before
    IGNORED = "ignored"  # no ticket: a bounce, a report, automated mail, our own mail
    # A row that is not a usable request; shown to staff until it is corrected or dismissed.
    REJECTED = "rejected"
    DISMISSED = "dismissed"  # a rejected row dismissed by a person, with a reason


class Judgement(StrEnum):
    """Classification of a message as automatic mail; a person can correct it."""

    NONE = ""  # a person's message
    AUTOMATIC = "automatic"  # sent by a program, or looks like it; on its ticket like any message
    ANSWER = "automatic answer"  # about a mail of ours, as a note
    BOUNCED = "bounced"  # a mail of ours did not arrive
    DELAYED = "delayed"  # a mail of ours may still arrive
    COMPLAINT = "complaint"  # about a mail of ours (RFC 5965)
    RETURNED = "our own mail"  # a mail of ours that came back to us


class RuleScope(StrEnum):
    """Kind of senders that a rule is about."""

    ADDRESS = "address"
    DOMAIN = "domain"  # with the domains below it
    COMPANY = "company"


class Treatment(StrEnum):
    """Treatment of mail that belongs to no ticket, by a rule of its sender."""

    TICKET = "ticket"  # always a ticket, also what a program sends
    NEVER = "never"  # under "Automated", whoever has written it


class RowOutcome(StrEnum):
    """Outcome of importing one row of a file."""

    ADDED = "added"  # a new ticket, company or contact
    CHANGED = "changed"  # the row filled a gap in an existing record
    KNOWN = "known"  # imported before, nothing new
    REFUSED = "refused"  # it cannot be imported; the row's reason says why


class Status(StrEnum):
    """Status of a ticket: open, or how it was closed."""

    OPEN = "open"
    COMPLETED = "completed"
    SPAM = "spam"
    MERGED = "merged"
    WITHDRAWN = "withdrawn"


class OutboxState(StrEnum):
    """State of a mail in the outbox."""

    WAITING = "waiting"  # to be sent, or retried
    SENT = "sent"  # accepted by the relay
    REFUSED = "refused"  # refused permanently; a person was given a task
    WITHHELD = "withheld"  # not to be sent: suppressed, undone, or over the rate limit
    BOUNCED = "bounced"  # sent, and came back


class LinkState(StrEnum):
    """State of a file that a message links to."""

    WAITING = "waiting"  # to be fetched, or retried
    FETCHED = "fetched"  # an attachment of the message
    FAILED = "failed"  # cannot be fetched; the ticket shows the link and says so


class WebhookEventState(StrEnum):
    """State of an event that goes to a webhook."""

    WAITING = "waiting"  # to be sent, or retried
    DELIVERED = "told"  # the webhook answered 2xx; the value is that of schema 0012
    GIVEN_UP = "given up"  # failed for two days; shown to staff, can be retried


class Role(StrEnum):
    """Role of a person on the desk; it decides what they may do (permissions.py)."""

    AGENT = "agent"
    LEAD = "lead"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Verdict(StrEnum):
    """A person's decision about two tickets that may belong together."""

    OPEN = ""  # not decided
    LINKED = "linked"
    UNRELATED = "not related"
