"""The recap by the API.

Written like a mail of the answer page, with a text of the desk, copies and files.
"""

import base64
import binascii
import mimetypes

from marshmallow import ValidationError, fields, validate

from console.api.endpoint import ConditionalHeaders
from console.api.fields import StrictSchema, text_input
from console.api.paging import JsonObject
from console.presenters import answer as answer_presenter
from console.ticket_actions import Action, Asked
from parsers.text import filenames
from workflow.mail import answer, canned_responses, compose, drafts
from workflow.mail.drafts import DraftForm
from workflow.mail.phi_check import PatientDataKind
from workflow.models.core import WrittenMail
from workflow.models.states import OutboxState
from workflow.process import Milestone
from workflow.runtime.crypto import hash_secret
from workflow.tickets.desk import ActionNotAllowed

MAX_TEXT_LENGTH = 20_000  # characters of a text
NO_REACHABLE_CONTACT = (
    "no contact with a working address: tell the customer otherwise, and tick the box with a"
    " note how"
)


def _decodes(text: str) -> None:
    """Raises ValidationError for what is no base64."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("It is no base64.") from None


class AttachedFile(StrictSchema):
    """A file that goes with it."""

    name = text_input(180, 1, required=True)
    content = fields.String(
        required=True, validate=_decodes, metadata={"contentEncoding": "base64"}
    )


class Recap(StrictSchema):
    """The recap mail, to every contact of the ticket that mail reaches.

    Contacts of another company that a merge has brought get it only with `across_companies`.
    """

    text = text_input(
        MAX_TEXT_LENGTH,
        load_default="",
        metadata={
            "description": (
                "What was done; without `template` the recap's fixed words stand around it."
            )
        },
    )
    template = text_input(
        canned_responses.MAX_NAME_LENGTH,
        load_default="",
        metadata={
            "description": "Name of a text of the desk: its subject, and its words below `text`."
        },
    )
    cc = fields.List(
        fields.Email(), load_default=list, validate=validate.Length(max=answer.MAX_RECIPIENTS)
    )
    attachments = fields.List(
        fields.Nested(AttachedFile),
        load_default=list,
        validate=validate.Length(max=drafts.MAX_FILES),
    )
    across_companies = fields.Boolean(
        load_default=False,
        metadata={
            "description": (
                "Confirms that it goes to people of two companies; without it that is 409."
            )
        },
    )
    checked = fields.Boolean(
        load_default=False,
        metadata={"description": "Somebody has looked: what seems to be patient data is none."},
    )


class RecapHeaders(ConditionalHeaders):
    """Headers of what is sent once, however often it is asked for, and only for what was seen."""

    key = fields.String(
        data_key="Idempotency-Key",
        load_default="",
        validate=validate.Length(max=200),
        metadata={"description": "Sent again under the same key it is the same mail."},
    )


def build_recap_action(seen: JsonObject, told: JsonObject) -> Action:
    """Return what sends the recap that a call tells of."""
    return Action("send the recap", lambda asked: _send(asked, told, seen["key"]))


def _send(asked: Asked, told: JsonObject, once: str) -> str:
    written = _written(asked, told, once)
    if written.promised_at is None:
        warned = _looked_at(asked, written, checked=told["checked"])
        desk, by = asked.context.desk, asked.me.name
        answer.enqueue(
            asked.session,
            desk,
            asked.ticket,
            written,
            by=by,
            now=asked.now,
            warned=warned,
            across_companies=told["across_companies"],
        )
    elif all(mail.state is OutboxState.WITHHELD for mail in written.mails):
        raise ActionNotAllowed(
            "the recap of this Idempotency-Key was taken back: send it under another one"
        )
    return f"The recap goes to {len(written.to) + len(written.cc)}"


def _written(asked: Asked, told: JsonObject, once: str) -> WrittenMail:
    settings, session, ticket = asked.context.settings, asked.session, asked.ticket
    across = told["across_companies"]
    found = answer.list_recipients(session, ticket, settings)
    to = [r.email for r in found if r.is_default or (across and r.is_reachable)]
    if not to:
        raise ActionNotAllowed(NO_REACHABLE_CONTACT)
    cc = [email.strip().casefold() for email in told["cc"]]
    subject, text = answer_presenter.make_default_subject(ticket), told["text"]
    if not told["template"] and text.strip():
        subject, text = compose.render_recap(text.strip(), ticket.id, settings)
    typed = DraftForm(
        to=to, cc=[a for a in cc if a not in to], subject=subject, text=text, ticks=[]
    )
    written = drafts.save_draft(
        session, ticket, _key(asked, once), typed, by=asked.me, now=asked.now
    )
    if written.promised_at is None:
        if told["template"]:
            _begin_with(asked, written, told["template"])
        written.ticks = [Milestone.RECAP_SENT.name] * settings.recap_ticks_box
        for one in told["attachments"]:
            _enclose(asked, written, one["name"], base64.b64decode(one["content"]))
    return written


def _key(asked: Asked, once: str) -> str:
    """Return what the mail is known by.

    Nobody else's, and no other ticket's, whatever the caller's own key is.
    """
    if not once:
        return drafts.make_key()
    return "api-" + hash_secret(f"{asked.me.id}:{asked.ticket.id}:{once}")[:40]


def _begin_with(asked: Asked, written: WrittenMail, name: str) -> None:
    wording = canned_responses.find_response(asked.session, name)
    offers = canned_responses.list_responses(asked.session)
    if wording is None:
        raise ActionNotAllowed(
            f"there is no text of this name, but {', '.join(w.name for w in offers)}"
        )
    answer_presenter.apply_canned_response(
        offers, asked.ticket, written, wording, asked.context, asked.me
    )


def _enclose(asked: Asked, written: WrittenMail, name: str, content: bytes) -> None:
    safe = filenames.make_safe(name)
    if not safe:
        raise ActionNotAllowed("a file needs a name")
    mime = mimetypes.guess_type(safe)[0] or "application/octet-stream"
    drafts.attach_file(asked.session, asked.context.blob_store, written, safe, mime, content)


def _looked_at(asked: Asked, written: WrittenMail, *, checked: bool) -> list[str]:
    """The kinds of what looks like patient data, once somebody has looked.

    Raises ActionNotAllowed while nobody has.
    """
    warned = answer_presenter.find_warnings(asked.session, asked.ticket, written)
    kinds = sorted({str(kind) for one in warned for kind in one.kinds})
    if kinds and not checked:
        where = ", ".join(one.where for one in warned)
        said = f"{where} {'seem' if len(warned) > 1 else 'seems'} to hold {', '.join(kinds)}"
        raise ActionNotAllowed(
            f"{said}: leave it out, or have somebody look and send checked = true"
        )
    return [PatientDataKind(kind).name for kind in kinds]
