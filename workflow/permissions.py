"""Permissions: one table of the rights of each role, for pages, API and command line."""

from enum import StrEnum

from workflow.models.states import Role


class Right(StrEnum):
    """A kind of action; every page, button and API call needs one right."""

    READ = "read"  # see tickets, contacts, companies, tasks
    WORK = "work"  # change them, write to customers
    LEAD = "lead"  # failed deliveries, imports, exports, rules for senders
    AUDIT = "audit"  # the audit log, operations, current settings
    ADMIN = "admin"  # accounts, tokens of others, outgoing webhooks


RIGHTS_BY_ROLE: dict[Role, frozenset[Right]] = {
    Role.AGENT: frozenset({Right.READ, Right.WORK}),
    Role.LEAD: frozenset({Right.READ, Right.WORK, Right.LEAD, Right.AUDIT}),
    Role.ADMIN: frozenset(Right),
    Role.AUDITOR: frozenset({Right.READ, Right.AUDIT}),
}


def describe_missing_right(right: Right) -> str:
    """Return the refusal for somebody who does not have a right."""
    return f"that needs the right “{right}”"


def may(role: Role, right: Right) -> bool:
    """Return whether a role has a right."""
    return right in RIGHTS_BY_ROLE[role]
