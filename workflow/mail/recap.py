"""The recap mail, sent by a command: drafted, checked and queued in one step.

On the answer page a person writes the same mail by hand.
"""

from workflow.errors import ActionNotAllowed
from workflow.mail import answer, canned_responses, compose, drafts
from workflow.mail.drafts import DraftForm
from workflow.models.core import Staff, Ticket, WrittenMail
from workflow.models.states import OutboxState
from workflow.process import Milestone
from workflow.runtime.crypto import hash_secret
from workflow.tickets.actions import (
    Actor,
    CommandContext,
    HandlerResult,
    Handlers,
    SendRecap,
    make_handler,
)

NOBODY = (
    "no contact with a working address: tell the customer otherwise, and tick the box with a"
    " note how"
)


def _send(run: CommandContext, command: SendRecap) -> HandlerResult:
    if run.actor.staff_id is None:
        return _send_as_operator(run, command)
    written_mail = _prepare_draft(run, command, run.session.get_one(Staff, run.actor.staff_id))
    if written_mail.queued_at is None:
        warnings = answer.find_warnings(run.session, run.ticket, written_mail)
        answer.enqueue(
            run.session,
            run.desk,
            run.ticket,
            written_mail,
            by=run.actor.name,
            now=run.now,
            warned_kinds=answer.require_checked(warnings, is_checked=command.checked),
            across_companies=command.across_companies,
        )
        is_changed = True
    elif all(mail.state is OutboxState.WITHHELD for mail in written_mail.mails):
        raise ActionNotAllowed(
            "the recap of this Idempotency-Key was undone: send it under another one"
        )
    else:
        is_changed = False
    everybody = [*written_mail.to, *written_mail.cc]
    return HandlerResult(f"The recap goes to {', '.join(everybody)}", has_changed=is_changed)


def _send_as_operator(run: CommandContext, command: SendRecap) -> HandlerResult:
    """Send the plain recap for somebody who is not on the desk, and so has no drafts."""
    if command.template or command.cc or command.files:
        raise ActionNotAllowed(
            "only somebody on the desk sends a recap with a template, copies or files"
        )
    if not command.text.strip():
        raise ActionNotAllowed("the text is empty: write what the customer should know")
    unsaved = WrittenMail(subject="", text=command.text, to=[], cc=[], files=[])
    warnings = answer.find_warnings(run.session, run.ticket, unsaved)
    answer.require_checked(warnings, is_checked=command.checked)
    mails = run.desk.recap(
        run.session,
        run.ticket,
        command.text,
        by=run.actor.name,
        now=run.now,
        across_companies=command.across_companies,
    )
    return HandlerResult(f"The recap goes to {', '.join(mail.to for mail in mails)}")


def _prepare_draft(run: CommandContext, command: SendRecap, author: Staff) -> WrittenMail:
    """Return the mail of this key: as it was sent, or drafted now to the ticket's contacts."""
    key = _make_key(run.actor, run.ticket, command.key)
    form = _build_form(run, command)
    written_mail = drafts.save_draft(run.session, run.ticket, key, form, by=author, now=run.now)
    if written_mail.queued_at is not None:
        return written_mail
    if command.template:
        _apply_template(run, written_mail, command.template)
    if run.desk.settings.recap_ticks_box:
        written_mail.ticks = [Milestone.RECAP_SENT.name]
    for file in command.files:
        drafts.attach_file(
            run.session, run.desk.blob_store, written_mail, file.name, file.mime, file.content
        )
    return written_mail


def _build_form(run: CommandContext, command: SendRecap) -> DraftForm:
    """Return the recap as a filled form. Raises ActionNotAllowed when nobody can get it."""
    to = _list_addresses(run, command)
    cc = [email for email in map(_normalize_address, command.cc) if email not in to]
    subject, text = canned_responses.make_default_subject(run.ticket), command.text
    if not command.template and text.strip():
        subject, text = compose.render_recap(text.strip(), run.ticket.id, run.desk.settings)
    return DraftForm(to=to, cc=cc, subject=subject, text=text, ticks=[])


def _list_addresses(run: CommandContext, command: SendRecap) -> list[str]:
    """Return the addresses of the ticket's contacts. Raises ActionNotAllowed without any."""
    recipients = answer.list_recipients(run.session, run.ticket, run.desk.settings)
    if command.across_companies:
        to = [one.email for one in recipients if one.is_default or one.is_reachable]
    else:
        to = [one.email for one in recipients if one.is_default]
    if not to:
        raise ActionNotAllowed(NOBODY)
    return to


def _normalize_address(email: str) -> str:
    return email.strip().casefold()


def _make_key(actor: Actor, ticket: Ticket, key: str) -> str:
    """Return the key of the draft: nobody else's and no other ticket's, whatever the caller's."""
    if not key:
        return drafts.make_key()
    return "api-" + hash_secret(f"{actor.staff_id}:{ticket.id}:{key}")[:40]


def _apply_template(run: CommandContext, written_mail: WrittenMail, name: str) -> None:
    wording = canned_responses.find_response(run.session, name)
    responses = canned_responses.list_responses(run.session)
    if wording is None:
        names = ", ".join(one.name for one in responses)
        raise ActionNotAllowed(f"there is no text of this name, but {names}")
    canned_responses.apply_canned_response(
        responses,
        run.ticket,
        written_mail,
        wording,
        settings=run.desk.settings,
        signer=run.desk.signer,
        by=run.actor.name,
    )


HANDLERS: Handlers = dict([make_handler(SendRecap, _send)])
