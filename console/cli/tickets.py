"""Commands on tickets: the lists, one ticket, and what its buttons do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.cli.numbered_group import NumberedGroup
from console.presenters import terminal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from workflow.context import AppContext
    from workflow.models.core import Ticket

ACROSS = "--across-companies"
RECAP = "We have dealt with the billing issue you reported."  # unless --text says more


class OneTicket(NumberedGroup):
    """A number alone shows the ticket; a call is written down without one."""

    default_command = "show"
    unnumbered_commands = ("new",)


@click.group(cls=OneTicket, subcommand_metavar="[ID] COMMAND [ARGS]...")
def ticket() -> None:
    r"""Show or change a ticket, or write a call down as one.

    \b
    Example:  intake ticket 12                     show it
              intake ticket 12 assign "Ann Lee"    give it to its owner
              intake ticket 12 follow-up           tick 4-Support Follow Up Sent
              intake ticket 12 resolve yes         set Resolution
              intake ticket 12 recap --text "…"    send the recap, which ticks its box
              intake ticket new --company "Acme Clinic" --contact jo@acme.test --text "…"
    """


@dataclass
class Work:
    """A ticket being worked on, in a transaction that ends with the block."""

    context: "AppContext"
    session: "Session"
    ticket: "Ticket"
    now: datetime
    actor: str

    def require_open_or_completed(self) -> None:
        """Raise ActionNotAllowed when the ticket has come to a side end.

        Nothing moves it on until it is reopened.
        """
        from workflow.models.states import Status
        from workflow.tickets.desk import ActionNotAllowed

        if self.ticket.status not in {Status.OPEN, Status.COMPLETED}:
            number = self.ticket.id
            raise ActionNotAllowed(
                f"ticket {number} is {self.ticket.status}: first `intake ticket {number} reopen`"
            )


@contextmanager
def working(number: int, actor: str, *, json_wanted: bool) -> Iterator[Work]:
    """Open a ticket for a change, and print how it stands once that is committed."""
    from workflow.tickets.desk import get_ticket

    with bootstrap.open_app_context() as context:
        with context.store.transaction() as session:
            yield Work(context, session, get_ticket(session, number), context.clock(), actor)
        _print(context, number, json_wanted=json_wanted, whole=False)


def _print(context: "AppContext", number: int, *, json_wanted: bool, whole: bool) -> None:
    from console.presenters import ticket as ticket_presenter

    with context.store.read_only() as session:
        found = ticket_presenter.present_ticket(session, number, context.settings)
    if json_wanted:
        terminal.print_json(found)
    elif whole:
        terminal.print_ticket(found, f"What can be done with it: intake ticket {number} --help")
    else:
        waits = (
            f" · waits for: {', '.join(found['missing'])}"
            if found["missing"] and found["status"] == "open"
            else ""
        )
        click.echo(
            f"#{number} · {found['stage']} · {found['status']} · owner:"
            f" {found['owner'] or 'none yet'}{waits}"
        )


@ticket.command("show")
@bootstrap.json_option
@click.pass_obj
def show_ticket(number: int, *, json_wanted: bool) -> None:
    """Show everything about it, as `intake ticket ID`."""
    with bootstrap.open_app_context() as context:
        _print(context, number, json_wanted=json_wanted, whole=True)


@ticket.command()
@click.argument("user")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def assign(number: int, user: str, *, actor: str, json_wanted: bool) -> None:
    r"""Give the ticket to USER, who owns it through completion.

    \b
    Example:  intake ticket 12 assign "Ann Lee"

    It leaves the unassigned queue; open tasks of the owner move with it. Next: `intake ticket 12
    follow-up`.
    """
    from workflow.tickets.assignment import can_own
    from workflow.tickets.desk import get_staff

    with working(number, actor, json_wanted=json_wanted) as work:
        owner = can_own(get_staff(work.session, user))
        work.context.desk.assign(work.session, work.ticket, owner, by=actor, now=work.now)


@ticket.command("follow-up")
@click.option("--note", default="", help="How, for the record: phone, e-mail.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def follow_up(number: int, *, note: str, actor: str, json_wanted: bool) -> None:
    r"""Tick the box 4-Support Follow Up Sent.

    \b
    Example:  intake ticket 12 follow-up --note "called, left a message"

    Takes the ticket from 4-In Progress to 5-Audit. Next: `resolve yes` and `recap`, in any order.
    """
    from workflow.process import Milestone

    _tick(number, Milestone.FOLLOW_UP_SENT, note, actor, json_wanted=json_wanted)


def _tick(number: int, milestone: str, note: str, actor: str, *, json_wanted: bool) -> None:
    from workflow.process import Milestone

    with working(number, actor, json_wanted=json_wanted) as work:
        work.require_open_or_completed()
        desk, kind = work.context.desk, Milestone(milestone)
        if not desk.record_milestone(
            work.session, work.ticket, kind, by=actor, now=work.now, note=note, cause=note
        ):
            click.echo(f"{kind} was recorded before; nothing changed.", err=True)


@ticket.command()
@click.argument("answer", type=click.Choice(["yes", "no"]))
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def resolve(number: int, answer: str, *, actor: str, json_wanted: bool) -> None:
    r"""Set the property Resolution to yes or no.

    \b
    Example:  intake ticket 12 resolve yes

    Yes, with the recap sent, takes the ticket from 5-Audit to 6-Completed. No takes an earlier Yes
    back.
    """
    with working(number, actor, json_wanted=json_wanted) as work:
        work.require_open_or_completed()
        work.context.desk.resolve(
            work.session, work.ticket, yes=answer == "yes", by=actor, now=work.now
        )


@ticket.command()
@click.option(
    "--text", default=RECAP, help="What was done, in your words: the middle of the recap mail."
)
@click.option(
    "--note",
    default="",
    help="Send nothing; tick the box with a note how it was sent (phone, letter).",
)
@click.option(
    ACROSS,
    "across",
    is_flag=True,
    help="Send it to contacts of another company too, which a merge brought.",
)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def recap(
    number: int, *, text: str, note: str, across: bool, actor: str, json_wanted: bool
) -> None:
    r"""Send the recap, which ticks its box.

    The mail is Billing Support Recap of Resolution; 5-Recap of Resolution Sent is ticked once it is
    sent.

    \b
    Example:  intake ticket 12 recap --text "The claim of 3 May was filed again."
              intake ticket 12 recap --note "told her on the phone"

    The mail goes to every contact of the ticket; to those of another company, whom a merge brought, only with
    --across-companies. Patient names do not belong in it.
    """
    from workflow.process import Milestone

    if note:
        _tick(number, Milestone.RECAP_SENT, note, actor, json_wanted=json_wanted)
        return
    with _naming_the_option(), working(number, actor, json_wanted=json_wanted) as work:
        work.require_open_or_completed()
        mails = work.context.desk.recap(
            work.session, work.ticket, text, by=actor, now=work.now, across_companies=across
        )
        click.echo(
            f"The recap goes to {', '.join(m.to for m in mails)}; the box is ticked once it is"
            " sent.",
            err=True,
        )


@ticket.command()
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def reopen(number: int, *, actor: str, json_wanted: bool) -> None:
    r"""Take the ticket up again.

    A completed one goes back to 4-In Progress with new deadlines; spam, merge and withdraw are
    undone.

    \b
    Example:  intake ticket 12 reopen
    """
    with working(number, actor, json_wanted=json_wanted) as work:
        work.context.desk.reopen(
            work.session, work.ticket, by=actor, cause="reopened by hand", now=work.now
        )


@ticket.command()
@click.argument("other", type=int)
@click.option(
    ACROSS,
    "across",
    is_flag=True,
    help="The tickets are of two companies, and still belong together.",
)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def merge(number: int, other: int, *, across: bool, actor: str, json_wanted: bool) -> None:
    r"""End this ticket as a duplicate of OTHER.

    Answers to it then go there. A completed OTHER is reopened where this ticket was open.

    \b
    Example:  intake ticket 12 merge 7       12 ends, 7 goes on
    """
    from workflow.tickets.desk import get_ticket

    with _naming_the_option(), working(number, actor, json_wanted=json_wanted) as work:
        into = get_ticket(work.session, other)
        work.context.desk.merge(
            work.session, work.ticket, into, by=actor, now=work.now, across_companies=across
        )


@contextmanager
def _naming_the_option() -> Iterator[None]:
    """Have a refusal to bring two companies together name the option that confirms it."""
    from workflow.tickets.desk import AcrossCompanies, ActionNotAllowed

    try:
        yield
    except AcrossCompanies as both:
        raise ActionNotAllowed(f"{both} ({ACROSS})") from None


@ticket.command()
@click.option("--reason", default="spam", show_default=True, help="For the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def spam(number: int, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Close the ticket as spam.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 spam
    """
    from workflow.models.states import Status

    with working(number, actor, json_wanted=json_wanted) as work:
        work.context.desk.close(
            work.session, work.ticket, Status.SPAM, by=actor, reason=reason, now=work.now
        )


@ticket.command()
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def withdraw(number: int, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Close the ticket as withdrawn by the customer.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 withdraw --reason "customer found the payment"
    """
    from workflow.models.states import Status

    with working(number, actor, json_wanted=json_wanted) as work:
        work.context.desk.close(
            work.session, work.ticket, Status.WITHDRAWN, by=actor, reason=reason, now=work.now
        )


@ticket.command()
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def telemedicine(number: int, *, actor: str, json_wanted: bool) -> None:
    r"""Task the telemedicine specialist or group; the owner stays owner.

    Who that is stands in INTAKE_TELEMEDICINE.

    \b
    Example:  intake ticket 12 telemedicine
    """
    with working(number, actor, json_wanted=json_wanted) as work:
        if (
            work.context.desk.create_telemedicine_task(
                work.session, work.ticket, by=actor, now=work.now
            )
            is None
        ):
            click.echo("They have that task already; nothing changed.", err=True)


@ticket.command("task-done")
@click.argument("task", type=int)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def task_done(number: int, task: int, *, actor: str, json_wanted: bool) -> None:
    r"""Close a task of the ticket.

    `intake ticket ID` lists them with their numbers.

    \b
    Example:  intake ticket 12 task-done 3
    """
    from workflow.tickets.desk import ActionNotAllowed

    with working(number, actor, json_wanted=json_wanted) as work:
        chosen = next((t for t in work.ticket.tasks if t.id == task), None)
        if chosen is None:
            listed = ", ".join(str(t.id) for t in work.ticket.tasks) or "none"
            raise ActionNotAllowed(f"ticket {number} has no task {task}; its tasks: {listed}")
        work.context.desk.finish_task(work.session, chosen, by=actor, now=work.now)


@ticket.command("not-automatic")
@click.argument("message", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def not_automatic(number: int, message: int | None, *, actor: str, json_wanted: bool) -> None:
    r"""Say that a person wrote a message that was taken for an automatic one.

    MESSAGE is its number in `intake ticket ID --json`; the newest such message where it is left
    out. What the judgement did is taken back: a notice that was held back goes out, a mail of ours
    is no longer bounced, a completed ticket is open again.

    \b
    Example:  intake ticket 12 not-automatic
    """
    from workflow.filing import corrections

    with working(number, actor, json_wanted=json_wanted) as work:
        judged = corrections.get_automatic_message(work.session, work.ticket, message or 0)
        corrections.mark_not_automatic(
            work.context.desk, work.session, work.ticket, judged, by=actor, now=work.now
        )


@ticket.command()
@click.argument("message", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def automatic(number: int, message: int | None, *, actor: str, json_wanted: bool) -> None:
    r"""Say that a message was sent by a program: no automatic mail goes out about it.

    MESSAGE is its number in `intake ticket ID --json`; the customer's newest where it is left out.

    \b
    Example:  intake ticket 12 automatic
    """
    from workflow.filing import corrections

    with working(number, actor, json_wanted=json_wanted) as work:
        corrections.mark_automatic(work.session, work.ticket, message or 0, by=actor, now=work.now)


@ticket.command("not-duplicate")
@click.argument("delivery", type=int, required=False)
@bootstrap.actor_option
@click.pass_obj
def not_duplicate(number: int, delivery: int | None, *, actor: str) -> None:
    r"""Make a ticket of what came again and was taken for the same message.

    DELIVERY is its number in `intake ticket ID`; the newest one where it is left out. Prints the
    new ticket's number.

    \b
    Example:  intake ticket 12 not-duplicate
    """
    from ingest.replay.duplicates import file_separately

    with bootstrap.open_app_context() as context:
        click.echo(file_separately(context, number, delivery or 0, by=actor))


@ticket.command("move-back")
@click.argument("stage")
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def move_back(number: int, stage: str, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Move the ticket back to an earlier STAGE.

    STAGE is 1, 4 or 5; what is waited for from there on is open again.

    \b
    Example:  intake ticket 12 move-back 4 --reason "the follow up went to the wrong person"
    """
    from workflow.process import Stage
    from workflow.tickets.desk import ActionNotAllowed

    chosen = next((s for s in Stage if stage in {str(s), s.partition("-")[0]}), None)
    if chosen is None:
        raise ActionNotAllowed(f"no stage is called {stage}; the stages: {', '.join(Stage)}")
    with working(number, actor, json_wanted=json_wanted) as work:
        work.context.desk.move_back(
            work.session, work.ticket, chosen, by=actor, reason=reason, now=work.now
        )


@ticket.command()
@click.option("--company", default="", help="The practice's name; put on record if it is new.")
@click.option(
    "--contact",
    "contacts",
    metavar="EMAIL",
    multiple=True,
    help="Whom to notify; the first is the caller.",
)
@click.argument("more_contacts", metavar="[EMAIL]...", nargs=-1)
@click.option("--text", required=True, help="What they called about.")
@click.option("--name", default="", help="The caller's name.")
@click.option("--phone", default="", help="Where to call back.")
@click.option("--subject", default="", help="A few words for lists.")
@click.option("--telemedicine", is_flag=True, help="It is about telemedicine.")
@click.option(
    "--as", "actor", metavar="USER", envvar="INTAKE_USER", default="", help="Who took the call."
)
def new(
    *, actor: str, contacts: tuple[str, ...], more_contacts: tuple[str, ...], **told: str | bool
) -> None:
    r"""Write a call down: makes a ticket and prints its number.

    \b
    Example:  intake ticket new --company "Acme Clinic" --contact jo@acme.test --text "Claim 7 was denied."

    If USER (--as, or INTAKE_USER) is a person on the desk, the ticket is theirs; else it waits in
    the unassigned queue. Its contacts are notified as for any other ticket. Next: `intake ticket
    ID`.
    """
    from console.cli.phone_call import write_down

    with bootstrap.open_app_context() as context:
        # click's options
        click.echo(write_down(context, actor=actor, contacts=(*contacts, *more_contacts), **told))  # type: ignore[arg-type]
