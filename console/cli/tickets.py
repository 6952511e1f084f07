"""Commands on tickets: the lists, one ticket, and what its buttons do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.cli.numbered_group import Numbered
from console.presenters import terminal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from workflow.context import House
    from workflow.models.core import Ticket

ACROSS = "--across-companies"
RECAP = "We have dealt with the billing issue you reported."  # unless --text says more


class OneTicket(Numbered):
    """A number alone shows the ticket; a call is written down without one."""

    alone = "show"
    unnumbered = ("new",)


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

    house: "House"
    session: "Session"
    ticket: "Ticket"
    now: datetime
    actor: str

    def require_open_or_completed(self) -> None:
        """Raise Missing when the ticket has come to a side end.

        Nothing moves it on until it is reopened.
        """
        from workflow.errors import Missing
        from workflow.models.states import Status

        if self.ticket.status not in {Status.OPEN, Status.COMPLETED}:
            number = self.ticket.id
            raise Missing(
                f"ticket {number} is {self.ticket.status}: first `intake ticket {number} reopen`"
            )


@contextmanager
def working(number: int, actor: str, *, json_wanted: bool) -> Iterator[Work]:
    """Open a ticket for a change, and print how it stands once that is committed."""
    from workflow.tickets.desk import ticket_or_missing

    with bootstrap.house() as house:
        with house.store.transaction() as session:
            yield Work(house, session, ticket_or_missing(session, number), house.clock(), actor)
        _print(house, number, json_wanted=json_wanted, whole=False)


def _print(house: "House", number: int, *, json_wanted: bool, whole: bool) -> None:
    from console.presenters import ticket as ticket_presenter

    with house.store.reading() as session:
        found = ticket_presenter.full(session, number, house.settings)
    if json_wanted:
        terminal.json_object(found)
    elif whole:
        terminal.ticket(found, f"What can be done with it: intake ticket {number} --help")
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
@bootstrap.as_json
@click.pass_obj
def show_ticket(number: int, *, json_wanted: bool) -> None:
    """Show everything about it, as `intake ticket ID`."""
    with bootstrap.house() as house:
        _print(house, number, json_wanted=json_wanted, whole=True)


@ticket.command()
@click.argument("user")
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def assign(number: int, user: str, *, actor: str, json_wanted: bool) -> None:
    r"""Give the ticket to USER, who owns it through completion.

    \b
    Example:  intake ticket 12 assign "Ann Lee"

    It leaves the unassigned queue; open tasks of the owner move with it. Next: `intake ticket 12
    follow-up`.
    """
    from workflow.tickets.assignment import can_own
    from workflow.tickets.desk import owner_or_missing

    with working(number, actor, json_wanted=json_wanted) as work:
        owner = can_own(owner_or_missing(work.session, user))
        work.house.desk.assign(work.session, work.ticket, owner, by=actor, now=work.now)


@ticket.command("follow-up")
@click.option("--note", default="", help="How, for the record: phone, e-mail.")
@bootstrap.acting
@bootstrap.as_json
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
        desk, kind = work.house.desk, Milestone(milestone)
        if not desk.reach(
            work.session, work.ticket, kind, by=actor, now=work.now, note=note, cause=note
        ):
            click.echo(f"{kind} was recorded before; nothing changed.", err=True)


@ticket.command()
@click.argument("answer", type=click.Choice(["yes", "no"]))
@bootstrap.acting
@bootstrap.as_json
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
        work.house.desk.resolve(
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
@bootstrap.acting
@bootstrap.as_json
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
        mails = work.house.desk.recap(
            work.session, work.ticket, text, by=actor, now=work.now, across_companies=across
        )
        click.echo(
            f"The recap goes to {', '.join(m.to for m in mails)}; the box is ticked once it is"
            " sent.",
            err=True,
        )


@ticket.command()
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def reopen(number: int, *, actor: str, json_wanted: bool) -> None:
    r"""Take the ticket up again.

    A completed one goes back to 4-In Progress with new deadlines; spam, merge and withdraw are
    undone.

    \b
    Example:  intake ticket 12 reopen
    """
    with working(number, actor, json_wanted=json_wanted) as work:
        work.house.desk.reopen(
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
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def merge(number: int, other: int, *, across: bool, actor: str, json_wanted: bool) -> None:
    r"""End this ticket as a duplicate of OTHER.

    Answers to it then go there. A completed OTHER is reopened where this ticket was open.

    \b
    Example:  intake ticket 12 merge 7       12 ends, 7 goes on
    """
    from workflow.tickets.desk import ticket_or_missing

    with _naming_the_option(), working(number, actor, json_wanted=json_wanted) as work:
        into = ticket_or_missing(work.session, other)
        work.house.desk.merge(
            work.session, work.ticket, into, by=actor, now=work.now, across_companies=across
        )


@contextmanager
def _naming_the_option() -> Iterator[None]:
    """Have a refusal to bring two companies together name the option that confirms it."""
    from workflow.errors import AcrossCompanies, Missing

    try:
        yield
    except AcrossCompanies as both:
        raise Missing(f"{both} ({ACROSS})") from None


@ticket.command()
@click.option("--reason", default="spam", show_default=True, help="For the record.")
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def spam(number: int, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Close the ticket as spam.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 spam
    """
    from workflow.models.states import Status

    with working(number, actor, json_wanted=json_wanted) as work:
        work.house.desk.end(
            work.session, work.ticket, Status.SPAM, by=actor, reason=reason, now=work.now
        )


@ticket.command()
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def withdraw(number: int, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Close the ticket as withdrawn by the customer.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 withdraw --reason "customer found the payment"
    """
    from workflow.models.states import Status

    with working(number, actor, json_wanted=json_wanted) as work:
        work.house.desk.end(
            work.session, work.ticket, Status.WITHDRAWN, by=actor, reason=reason, now=work.now
        )


@ticket.command()
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def telemedicine(number: int, *, actor: str, json_wanted: bool) -> None:
    r"""Task the telemedicine specialist or group; the owner stays owner.

    Who that is stands in INTAKE_TELEMEDICINE.

    \b
    Example:  intake ticket 12 telemedicine
    """
    with working(number, actor, json_wanted=json_wanted) as work:
        if (
            work.house.desk.task_telemedicine(work.session, work.ticket, by=actor, now=work.now)
            is None
        ):
            click.echo("They have that task already; nothing changed.", err=True)


@ticket.command("task-done")
@click.argument("task", type=int)
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def task_done(number: int, task: int, *, actor: str, json_wanted: bool) -> None:
    r"""Close a task of the ticket.

    `intake ticket ID` lists them with their numbers.

    \b
    Example:  intake ticket 12 task-done 3
    """
    from workflow.errors import Missing

    with working(number, actor, json_wanted=json_wanted) as work:
        chosen = next((t for t in work.ticket.tasks if t.id == task), None)
        if chosen is None:
            listed = ", ".join(str(t.id) for t in work.ticket.tasks) or "none"
            raise Missing(f"ticket {number} has no task {task}; its tasks: {listed}")
        work.house.desk.finish_task(work.session, chosen, by=actor, now=work.now)


@ticket.command("not-automatic")
@click.argument("message", type=int, required=False)
@bootstrap.acting
@bootstrap.as_json
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
        judged = corrections.judged_message(work.session, work.ticket, message or 0)
        corrections.correct(
            work.house.desk, work.session, work.ticket, judged, by=actor, now=work.now
        )


@ticket.command()
@click.argument("message", type=int, required=False)
@bootstrap.acting
@bootstrap.as_json
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
@bootstrap.acting
@click.pass_obj
def not_duplicate(number: int, delivery: int | None, *, actor: str) -> None:
    r"""Make a ticket of what came again and was taken for the same message.

    DELIVERY is its number in `intake ticket ID`; the newest one where it is left out. Prints the
    new ticket's number.

    \b
    Example:  intake ticket 12 not-duplicate
    """
    from ingest.replay.duplicates import file_separately

    with bootstrap.house() as house:
        click.echo(file_separately(house, number, delivery or 0, by=actor))


@ticket.command("move-back")
@click.argument("stage")
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.acting
@bootstrap.as_json
@click.pass_obj
def move_back(number: int, stage: str, *, reason: str, actor: str, json_wanted: bool) -> None:
    r"""Move the ticket back to an earlier STAGE.

    STAGE is 1, 4 or 5; what is waited for from there on is open again.

    \b
    Example:  intake ticket 12 move-back 4 --reason "the follow up went to the wrong person"
    """
    from workflow.errors import Missing
    from workflow.process import Stage

    chosen = next((s for s in Stage if stage in {str(s), s.partition("-")[0]}), None)
    if chosen is None:
        raise Missing(f"no stage is called {stage}; the stages: {', '.join(Stage)}")
    with working(number, actor, json_wanted=json_wanted) as work:
        work.house.desk.move_back(
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

    with bootstrap.house() as house:
        # click's options
        click.echo(write_down(house, actor=actor, contacts=(*contacts, *more_contacts), **told))  # type: ignore[arg-type]
