"""What each role may do: one table, for pages and API alike."""

from enum import StrEnum

from workflow.models.states import Role


class Right(StrEnum):
    """A kind of thing to do; every page, button and API call needs one."""

    READ = "read"  # see tickets, contacts, companies, tasks
    WORK = "work"  # change them, write to customers
    LEAD = "lead"  # failed deliveries, imports, exports
    AUDIT = "audit"  # the audit log, operations, settings as they are
    ADMIN = "admin"  # accounts, tokens of others, outgoing webhooks


RIGHTS_BY_ROLE: dict[Role, frozenset[Right]] = {
    Role.AGENT: frozenset({Right.READ, Right.WORK}),
    Role.LEAD: frozenset({Right.READ, Right.WORK, Right.LEAD, Right.AUDIT}),
    Role.ADMIN: frozenset(Right),
    Role.AUDITOR: frozenset({Right.READ, Right.AUDIT}),
}


def lacking(right: Right) -> str:
    """Return the refusal for somebody who does not have a right."""
    return f"that needs the right “{right}”"


def may(role: Role, right: Right) -> bool:
    """Return whether somebody of this role may do this kind of thing."""
    return right in RIGHTS_BY_ROLE[role]
