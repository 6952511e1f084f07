"""API of rules for senders: list, set, remove, undo."""

from flask import Response, jsonify
from marshmallow import Schema, fields, validate

from console.api.endpoint import endpoint
from console.api.fields import StrictSchema, integer_field, text_field, text_input, time_field
from console.api.paging import JsonObject
from console.presenters import sender_rules as presenter
from console.web.request import get_actor, get_context, get_session, now
from workflow.customers import sender_rules
from workflow.customers.sender_rules import RIGHT, Author
from workflow.models.core import SenderRule
from workflow.models.states import Treatment
from workflow.permissions import Right

ABOUT = "automated mail"


class SenderRuleData(Schema):
    """A rule for a sender."""

    id = integer_field()
    scope = text_field(metadata={"description": "address, domain or company"})
    value = text_field(metadata={"description": "An address, a domain, or a company's number."})
    sender = text_field(metadata={"description": "The sender in words."})
    treatment = text_field(metadata={"description": "ticket: always one; never: none"})
    by = text_field()
    at = time_field()
    ended_at = time_field(null=True)


class SenderRuleList(Schema):
    """The rules that hold, then those that have ended and can come back."""

    items = fields.List(fields.Nested(SenderRuleData), required=True)


class NewSenderRule(StrictSchema):
    """A sender, and the treatment of mail of it that belongs to no ticket."""

    sender = text_input(
        400,
        1,
        required=True,
        metadata={"description": "An address, a domain, a company's name, or `company:NUMBER`."},
    )
    treatment = fields.String(required=True, validate=validate.OneOf([str(t) for t in Treatment]))


@endpoint("GET", "/sender-rules", Right.READ, SenderRuleList, about=ABOUT)
def sender_rules_list() -> Response:
    """List the rules for senders."""
    return jsonify(items=presenter.list_rules(get_session()))


@endpoint(
    "POST",
    "/sender-rules",
    RIGHT,
    SenderRuleData,
    about=ABOUT,
    body=NewSenderRule,
    status=201,
    refuses=[409],
)
def sender_rule_new(body: JsonObject) -> Response:
    """Set the rule of a sender in place of the one there is. 409 when it is set already."""
    with get_context().store.transaction() as session:
        treatment = Treatment(body["treatment"])
        rule = sender_rules.set_rule(
            session, body["sender"], treatment, by=_make_author(), now=now()
        )
        session.flush()
        number = rule.id
    response = _respond(number)
    response.status_code = 201
    return response


@endpoint(
    "POST",
    "/sender-rules/<int:number>/remove",
    RIGHT,
    SenderRuleData,
    about=ABOUT,
    refuses=[409],
)
def sender_rule_remove(number: int) -> Response:
    """Remove a rule; it stays listed with when it ended."""
    with get_context().store.transaction() as session:
        sender_rules.remove_rule(session, number, by=_make_author(), now=now())
    return _respond(number)


@endpoint(
    "POST",
    "/sender-rules/<int:number>/undo",
    RIGHT,
    SenderRuleList,
    about=ABOUT,
    refuses=[409],
)
def sender_rule_undo(number: int) -> Response:
    """Undo the last change of the sender that a rule is about; answer with all rules."""
    with get_context().store.transaction() as session:
        sender_rules.undo_last_change(session, number, by=_make_author(), now=now())
    # Read again: the request's session began before the change.
    with get_context().store.read_only() as session:
        return jsonify(items=presenter.list_rules(session))


def _make_author() -> Author:
    actor = get_actor()
    return Author(actor.name, actor.rights)


def _respond(number: int) -> Response:
    with get_context().store.read_only() as session:  # see above
        rule = session.get_one(SenderRule, number)
        names = sender_rules.load_company_names(session, [rule])
        return jsonify(presenter.present_rule(rule, names))
