"""The recap by the API.

Written like a mail of the answer page, with a text of the desk, copies and files.
"""

import base64
import binascii
import mimetypes

from marshmallow import ValidationError, fields, validate

from console.api.endpoint import Conditional
from console.api.fields import Strict, words
from console.api.paging import Data
from console.presenters import answer as answer_presenter
from console.ticket_actions import Action, Asked
from parsers.text import filenames
from workflow.errors import Missing
from workflow.mail import answer, canned_responses, compose, drafts
from workflow.mail.drafts import Typed
from workflow.mail.phi_check import Kind
from workflow.models.core import Written
from workflow.models.states import OutboxState
from workflow.process import Milestone
from workflow.runtime.crypto import digest

LONGEST = 20_000  # characters of a text
NOBODY = (
    "no contact with a working address: tell the customer otherwise, and tick the box with a"
    " note how"
)


def _decodes(text: str) -> None:
    """Raises ValidationError for what is no base64."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("It is no base64.") from None


class Enclosure(Strict):
    """A file that goes with it."""

    name = words(180, 1, required=True)
    content = fields.String(
        required=True, validate=_decodes, metadata={"contentEncoding": "base64"}
    )


class Recap(Strict):
    """The recap mail, to every contact of the ticket that mail reaches.

    Contacts of another company that a merge has brought get it only with `across_companies`.
    """

    text = words(
        LONGEST,
        load_default="",
        metadata={
            "description": (
                "What was done; without `template` the recap's fixed words stand around it."
            )
        },
    )
    template = words(
        canned_responses.LONGEST_NAME,
        load_default="",
        metadata={
            "description": "Name of a text of the desk: its subject, and its words below `text`."
        },
    )
    cc = fields.List(
        fields.Email(), load_default=list, validate=validate.Length(max=answer.MOST_RECIPIENTS)
    )
    attachments = fields.List(
        fields.Nested(Enclosure), load_default=list, validate=validate.Length(max=drafts.MOST_FILES)
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


class OnceIfUnchanged(Conditional):
    """Headers of what is sent once, however often it is asked for, and only for what was seen."""

    key = fields.String(
        data_key="Idempotency-Key",
        load_default="",
        validate=validate.Length(max=200),
        metadata={"description": "Sent again under the same key it is the same mail."},
    )


def sending(seen: Data, told: Data) -> Action:
    """Return what sends the recap that a call tells of."""
    return Action("send the recap", lambda asked: _send(asked, told, seen["key"]))


def _send(asked: Asked, told: Data, once: str) -> str:
    written = _written(asked, told, once)
    if written.promised_at is None:
        warned = _looked_at(asked, written, checked=told["checked"])
        desk, by = asked.house.desk, asked.me.name
        answer.promise(
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
        raise Missing("the recap of this Idempotency-Key was taken back: send it under another one")
    return f"The recap goes to {len(written.to) + len(written.cc)}"


def _written(asked: Asked, told: Data, once: str) -> Written:
    settings, session, ticket = asked.house.settings, asked.session, asked.ticket
    across = told["across_companies"]
    found = answer.recipients(session, ticket, settings)
    to = [r.email for r in found if r.usual or (across and r.reachable)]
    if not to:
        raise Missing(NOBODY)
    cc = [email.strip().casefold() for email in told["cc"]]
    subject, text = answer_presenter.usual_subject(ticket), told["text"]
    if not told["template"] and text.strip():
        subject, text = compose.recap_around(text.strip(), ticket.id, settings)
    typed = Typed(to=to, cc=[a for a in cc if a not in to], subject=subject, text=text, ticks=[])
    written = drafts.keep(session, ticket, _key(asked, once), typed, by=asked.me, now=asked.now)
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
        return drafts.new_key()
    return "api-" + digest(f"{asked.me.id}:{asked.ticket.id}:{once}")[:40]


def _begin_with(asked: Asked, written: Written, name: str) -> None:
    wording = canned_responses.named(asked.session, name)
    offers = canned_responses.offered(asked.session)
    if wording is None:
        raise Missing(f"there is no text of this name, but {', '.join(w.name for w in offers)}")
    answer_presenter.begin_with(offers, asked.ticket, written, wording, asked.house, asked.me)


def _enclose(asked: Asked, written: Written, name: str, content: bytes) -> None:
    safe = filenames.safe(name)
    if not safe:
        raise Missing("a file needs a name")
    mime = mimetypes.guess_type(safe)[0] or "application/octet-stream"
    drafts.enclose(asked.session, asked.house.vault, written, safe, mime, content)


def _looked_at(asked: Asked, written: Written, *, checked: bool) -> list[str]:
    """The kinds of what looks like patient data, once somebody has looked.

    Raises Missing while nobody has.
    """
    warned = answer_presenter.warnings(asked.session, asked.ticket, written)
    kinds = sorted({str(kind) for one in warned for kind in one.kinds})
    if kinds and not checked:
        where = ", ".join(one.where for one in warned)
        said = f"{where} {'seem' if len(warned) > 1 else 'seems'} to hold {', '.join(kinds)}"
        raise Missing(f"{said}: leave it out, or have somebody look and send checked = true")
    return [Kind(kind).name for kind in kinds]
