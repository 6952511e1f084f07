"""Rules for senders as plain data: the JSON shape of command, API and page."""

from typing import Any

from sqlalchemy.orm import Session

from console.presenters.times import format_iso
from workflow.customers import sender_rules
from workflow.models.core import SenderRule

Data = dict[str, Any]


def list_rules(session: Session) -> list[Data]:
    """Return the rules that hold, then those that have ended and can come back."""
    rules = [*sender_rules.list_rules(session), *sender_rules.list_ended_rules(session)]
    names = sender_rules.load_company_names(session, rules)
    return [present_rule(rule, names) for rule in rules]


def present_rule(rule: SenderRule, companies: dict[str, str]) -> Data:
    """Return a rule; `companies` are the names of companies by the value of their rule."""
    return {
        "id": rule.id,
        "scope": rule.scope,
        "value": rule.value,
        "sender": sender_rules.describe_sender(rule, companies),
        "treatment": rule.treatment,
        "by": rule.by,
        "at": format_iso(rule.at),
        "ended_at": format_iso(rule.ended_at) if rule.ended_at else None,
    }
