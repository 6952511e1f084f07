"""The words for where a delivery, an item, a ticket, a mail and a person stand."""

from enum import StrEnum


class DeliveryState(StrEnum):
    """What has become of the bytes a door handed over."""

    PENDING = "pending"  # stored, not yet read
    PROCESSED = "processed"  # every item in it is filed
    FAILED = "failed"  # not readable; shown to staff, can be replayed
    DISMISSED = "dismissed"  # a person said, with a reason, that nothing is to come of it


class Outcome(StrEnum):
    """What has become of one item of a delivery."""

    OPENED = "opened"  # a new ticket
    APPENDED = "appended"  # on the ticket it belongs to
    DUPLICATE = "duplicate"  # it was here before
    IGNORED = "ignored"  # never a ticket: a bounce, a report, our own mail coming back
    # a row that is no request as it stands; shown to staff until it is mended or dismissed
    REJECTED = "rejected"
    # a rejected row of which a person said, with a reason, that nothing is to come of it
    DISMISSED = "dismissed"


class Judgement(StrEnum):
    """What a message was taken for that nobody wrote by hand; a person can correct it."""

    NONE = ""  # a person's message
    AUTOMATIC = "automatic"  # looks or is sent by a program; on its ticket like any message
    ANSWER = "automatic answer"  # about a mail of ours, as a note
    BOUNCED = "bounced"  # a mail of ours did not arrive
    DELAYED = "delayed"  # a mail of ours may still arrive
    COMPLAINT = "complaint"  # about a mail of ours (RFC 5965)
    RETURNED = "our own mail"  # a mail of ours that came back to us


class RowOutcome(StrEnum):
    """What has become of one row of an imported file."""

    ADDED = "added"  # a new ticket, company or contact
    CHANGED = "changed"  # what was on record had a gap that the row fills
    KNOWN = "known"  # it was here before
    REFUSED = "refused"  # it cannot be imported, for the reason that stands beside


class Status(StrEnum):
    """Open, or which of the ends a ticket has come to."""

    OPEN = "open"
    COMPLETED = "completed"
    SPAM = "spam"
    MERGED = "merged"
    WITHDRAWN = "withdrawn"


class OutboxState(StrEnum):
    """How far a promised mail has come."""

    WAITING = "waiting"  # to be sent, or sent again
    SENT = "sent"  # accepted by the relay
    REFUSED = "refused"  # refused for good; a person has been given a task
    WITHHELD = "withheld"  # not to be sent: suppressed or over the sender's budget
    BOUNCED = "bounced"  # sent, and came back


class LinkState(StrEnum):
    """How far a file has come that a message links to."""

    WAITING = "waiting"  # to be fetched, or fetched again
    FETCHED = "fetched"  # an attachment of the message
    FAILED = "failed"  # not to be had; its link stays on the ticket, which says so


class WebhookEventState(StrEnum):
    """How far an event has come that a webhook is to be told."""

    WAITING = "waiting"  # to be told, or told again
    DELIVERED = "told"  # the webhook said yes
    GIVEN_UP = "given up"  # it did not, for two days; shown to staff, can be tried again


class Role(StrEnum):
    """What a person on the desk may do."""

    AGENT = "agent"
    LEAD = "lead"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Verdict(StrEnum):
    """What a person said of two tickets that may belong together."""

    OPEN = ""  # nothing yet
    LINKED = "linked"
    UNRELATED = "not related"
