"""Rules of the desk for senders: their mail is always a ticket, or never.

A rule is about an address, a domain or a company; the narrowest one that fits decides. It is about
mail that belongs to no ticket: answers join their ticket whatever the rules say.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.customers import directory
from workflow.errors import ActionNotAllowed, NotPermitted
from workflow.models.core import Company, SenderRule
from workflow.models.states import RuleScope, Treatment
from workflow.permissions import Right, describe_missing_right

# Actions in the audit log.
ACTION_SET, ACTION_REMOVED, ACTION_UNDONE = (
    "sender rule",
    "sender rule removed",
    "sender rule undone",
)
RIGHT = Right.LEAD
LABELS = {Treatment.TICKET: "always a ticket", Treatment.NEVER: "never a ticket"}
MAX_RULES = 5000  # all rules that hold are loaded to decide about a mail
_DOMAIN = re.compile(r"(?:[\w-]{1,63}\.){1,10}[\w-]{2,63}")
_CACHE = "sender rules"  # key in `Session.info`


@dataclass(frozen=True)
class Author:
    """The person who changes a rule, and the rights they have."""

    name: str
    rights: frozenset[Right]


@dataclass(frozen=True)
class SenderRules:
    """All rules that hold, by scope and value."""

    treatments: dict[tuple[RuleScope, str], Treatment]

    @classmethod
    def load(cls, session: Session) -> Self:
        """Return the rules; loaded once in a session."""
        rules = session.info.get(_CACHE)
        if isinstance(rules, cls):
            return rules
        held = select(SenderRule.scope, SenderRule.value, SenderRule.treatment).where(
            SenderRule.ended_at.is_(None)
        )
        rows = session.execute(held.limit(MAX_RULES)).all()
        rules = cls({(scope, value): treatment for scope, value, treatment in rows})
        session.info[_CACHE] = rules
        return rules

    def find_treatment(self, email: str, company: Company | None) -> Treatment | None:
        """Return the treatment of mail from this address; None where no rule fits.

        `company` is the company that the address belongs to.
        """
        if not self.treatments:
            return None
        keys: list[tuple[RuleScope, str]] = [(RuleScope.ADDRESS, directory.fold_address(email))]
        keys += [(RuleScope.DOMAIN, name) for name in _list_domains(email)]
        if company is not None:
            keys.append((RuleScope.COMPANY, str(company.id)))
        fitting = (self.treatments[key] for key in keys if key in self.treatments)
        return next(fitting, None)


def _list_domains(email: str) -> Iterable[str]:
    """Yield the domain of an address and those above it, the narrowest first."""
    labels = directory.extract_domain(email.strip().casefold()).split(".")
    return (".".join(labels[n:]) for n in range(len(labels) - 1))


def list_rules(session: Session) -> Sequence[SenderRule]:
    """Return the rules that hold, by scope and value."""
    held = select(SenderRule).where(SenderRule.ended_at.is_(None))
    return session.scalars(held.order_by(SenderRule.scope, SenderRule.value)).all()


def list_ended_rules(session: Session, limit: int = 20) -> Sequence[SenderRule]:
    """Return the newest rule of each sender that has none now, latest first: they can come back."""
    held = select(SenderRule.scope, SenderRule.value).where(SenderRule.ended_at.is_(None))
    present = {(scope, value) for scope, value in session.execute(held)}
    ended = select(SenderRule).where(SenderRule.ended_at.is_not(None))
    newest: dict[tuple[RuleScope, str], SenderRule] = {}
    for rule in session.scalars(ended.order_by(SenderRule.ended_at.desc()).limit(limit * 5)):
        if (rule.scope, rule.value) not in present:
            newest.setdefault((rule.scope, rule.value), rule)
    return list(newest.values())[:limit]


def load_company_names(session: Session, rules: Iterable[SenderRule]) -> dict[str, str]:
    """Return the names of the companies that rules are about, by the value of the rule."""
    ids = [int(rule.value) for rule in rules if rule.scope is RuleScope.COMPANY]
    rows = session.execute(select(Company.id, Company.name).where(Company.id.in_(ids)))
    return {str(number): name for number, name in rows}


def describe_sender(rule: SenderRule, companies: dict[str, str]) -> str:
    """Return whom a rule is about, for people."""
    if rule.scope is RuleScope.COMPANY:
        return companies.get(rule.value, f"company {rule.value}")
    return rule.value if rule.scope is RuleScope.ADDRESS else f"@{rule.value}"


def parse_sender(session: Session, sender: str) -> tuple[RuleScope, str]:
    """Return scope and value of a sender as people write it.

    It is an address, a domain with or without @, or the name of a company, also as `company:NUMBER`
    of our records. Raises ActionNotAllowed where it is none of these.
    """
    text = " ".join(sender.split())
    if text.startswith("company:"):
        return RuleScope.COMPANY, str(_get_company(session, text.removeprefix("company:")).id)
    local, at, domain = text.casefold().rpartition("@")
    if local and directory.is_valid_address(text.casefold()):
        return RuleScope.ADDRESS, directory.fold_address(text)
    if (at or "." in text) and not local and _DOMAIN.fullmatch(domain):
        return RuleScope.DOMAIN, domain
    key = directory.build_company_key(text)
    company = directory.CustomerLookup(session).find_company_by_key(key) if key else None
    if company is None:
        raise ActionNotAllowed(f"“{text[:100]}” is no address, no domain and no company on record")
    return RuleScope.COMPANY, str(company.id)


def _get_company(session: Session, number: str) -> Company:
    is_number = number.isascii() and number.isdigit() and len(number) < 10  # noqa: PLR2004
    company = session.get(Company, int(number)) if is_number else None
    if company is None:
        raise ActionNotAllowed(f"there is no company {number}")
    return company


def set_rule(
    session: Session, sender: str, treatment: Treatment, *, by: Author, now: datetime
) -> SenderRule:
    """Set the rule of a sender (`parse_sender`) in place of the one there is; return it.

    Raises NotPermitted; ActionNotAllowed where it is set already, or would shut out everybody of a
    public mail service.
    """
    _require_right(by)
    scope, value = parse_sender(session, sender)
    if scope is RuleScope.DOMAIN and value in directory.PUBLIC_MAIL_DOMAINS:
        raise ActionNotAllowed(
            f"anybody can have mail at {value}: set the rule for an address instead"
        )
    present = _find_held(session, scope, value)
    if present is not None:
        if present.treatment is treatment:
            raise ActionNotAllowed(f"it is set to “{LABELS[treatment]}” already")
        present.ended_at = now
        session.flush()
    rule = SenderRule(scope=scope, value=value, treatment=treatment, by=by.name, at=now)
    try:
        with session.begin_nested():
            session.add(rule)
    except IntegrityError:
        raise ActionNotAllowed("somebody has just set a rule for it: look again") from None
    _record(session, ACTION_SET, rule, by=by, now=now)
    return rule


def remove_rule(session: Session, number: int, *, by: Author, now: datetime) -> SenderRule:
    """Remove a rule; return it. Raises NotPermitted; ActionNotAllowed where it does not hold."""
    _require_right(by)
    rule = session.get(SenderRule, number, with_for_update=True)
    if rule is None or rule.ended_at is not None:
        raise ActionNotAllowed("there is no such rule")
    rule.ended_at = now
    _record(session, ACTION_REMOVED, rule, by=by, now=now)
    return rule


def undo_last_change(session: Session, number: int, *, by: Author, now: datetime) -> None:
    """Undo the last change of the sender that a rule is about.

    A rule that was removed holds again; one that was set is gone, and the one before it holds
    again. Raises NotPermitted; ActionNotAllowed where there is no such rule, or a later one of that
    sender.
    """
    _require_right(by)
    rule = session.get(SenderRule, number, with_for_update=True)
    if rule is None:
        raise ActionNotAllowed("there is no such rule")
    of_sender = select(SenderRule).where(
        SenderRule.scope == rule.scope, SenderRule.value == rule.value
    )
    newest_first = session.scalars(of_sender.order_by(SenderRule.id.desc())).all()
    if newest_first[0] is not rule:
        raise ActionNotAllowed("the rule was changed since: undo the newer change")
    if rule.ended_at is not None:
        rule.ended_at = None
    else:
        before = newest_first[1] if len(newest_first) > 1 else None
        was_replaced = before is not None and before.ended_at == rule.at
        session.delete(rule)
        session.flush()
        if before is not None and was_replaced:
            before.ended_at = None
    session.flush()
    _record(session, ACTION_UNDONE, rule, by=by, now=now)


def _require_right(by: Author) -> None:
    if RIGHT not in by.rights:
        raise NotPermitted(describe_missing_right(RIGHT))


def _find_held(session: Session, scope: RuleScope, value: str) -> SenderRule | None:
    held = select(SenderRule).where(
        SenderRule.scope == scope, SenderRule.value == value, SenderRule.ended_at.is_(None)
    )
    return session.scalar(held.with_for_update())


def _record(session: Session, action: str, rule: SenderRule, *, by: Author, now: datetime) -> None:
    session.info.pop(_CACHE, None)
    audit.record(
        session,
        action,
        by=by.name,
        cause=str(rule.treatment),
        now=now,
        rule=rule.id,
        scope=str(rule.scope),
    )
