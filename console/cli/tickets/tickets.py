"""Commands on tickets: the lists, one ticket, and every action on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from console import bootstrap
from console.cli.tickets.numbered_group import NumberedGroup
from console.presenters import terminal

if TYPE_CHECKING:  # `intake --help` answers at once: each command imports what it needs
    from workflow.context import AppContext
    from workflow.tickets.actions import Actor, Command, Result

ACROSS = "--across-companies"
RECAP = "We have dealt with the billing issue you reported."  # unless --text texts more
VIEWS = (  # as views.VIEWS has them, without loading it
    "unassigned",
    "mine",
    "open",
    "overdue",
    "escalated",
    "1-submitted",
    "4-in-progress",
    "5-audit",
    "completed",
    "spam",
    "merged",
    "withdrawn",
    "all",
)
RELATIONS = ("linked", "not-related", "open")


# -- lists ----


@click.command()
@click.option(
    "--view",
    type=click.Choice(VIEWS),
    default="unassigned",
    show_default=True,
    help="Which tickets.",
)
@bootstrap.actor_option
@bootstrap.json_option
def tickets(*, view: str, actor: str, as_json: bool) -> None:
    r"""List tickets: the unassigned queue, or another view.

    \b
    Example:  intake tickets
              intake tickets --view overdue --json

    unassigned  the queue "PMB Support Unassigned/Open Tickets": open, no owner
    mine        open tickets of USER (--as)          open       every open ticket
    overdue     a deadline passed                    escalated  given to the manager, still open
    completed   at 6-Completed                       5-audit …  open tickets of that stage
    spam, merged, withdrawn: the other ends          all        every ticket

    Next: `intake ticket ID`, `intake ticket ID assign USER`.
    """
    from console.presenters.tickets import ticket

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        matches = ticket.list_view(session, view, actor=actor, now=context.clock())
        rows = [ticket.present_ticket_row(t) for t in matches]
    if as_json:
        terminal.print_json(rows)
    elif rows:
        terminal.create_console().print(
            terminal.build_ticket_table(rows, f"{len(rows)} · {_describe_view(view, actor)}")
        )
    else:
        click.echo(_describe_empty_view(view, actor))


def _describe_view(view: str, actor: str) -> str:
    from workflow.process import QUEUE_NAME

    return {"unassigned": QUEUE_NAME, "mine": f"open tickets of {actor}"}.get(
        view, f"{view} tickets"
    )


def _describe_empty_view(view: str, actor: str) -> str:
    others = "Others: intake tickets --view open"
    texts = {
        "unassigned": (
            f'No ticket waits in "{_describe_view(view, actor)}". Send one: intake demo. {others}'
        ),
        "mine": f"{actor} owns no open ticket. The queue: intake tickets",
        "open": (
            "No ticket is open. Send one: intake demo. Those that are done: intake tickets --view"
            " completed"
        ),
        "overdue": f"No deadline has passed. {others}",
        "escalated": f"No ticket is escalated. {others}",
        "completed": f"No ticket is completed yet. {others}",
    }
    return texts.get(view, f"No ticket is there. {others}")


# -- one ticket ----


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
              intake ticket 12 undo                undo what you did last, within ten minutes
              intake ticket new --company "Acme Clinic" --contact jo@acme.test --text "…"

    With --as USER you act with the rights of that person; without it, as an administrator.
    """


@dataclass(frozen=True)
class Shell:
    """The database and who acts on it, while one command runs."""

    context: "AppContext"
    actor: "Actor"

    def perform(self, number: int, command: "Command") -> "Result":
        """Carry out a command. Raises ActionNotAllowed, with the option or command that helps."""
        from console.perform import get_actions
        from workflow.errors import AcrossCompanies, ActionNotAllowed, SeemsPatientData, WrongStatus

        actions, now = get_actions(self.context), self.context.clock()
        try:
            return actions.perform(number, command, actor=self.actor, now=now)
        except AcrossCompanies as both:
            raise ActionNotAllowed(f"{both} ({ACROSS})") from None
        except SeemsPatientData as warning:
            raise ActionNotAllowed(f"{warning} (--checked)") from None
        except WrongStatus as refusal:
            if not refusal.has_ended:
                raise
            raise ActionNotAllowed(f"{refusal} (`intake ticket {number} reopen`)") from None


@contextmanager
def open_shell(actor_name: str) -> Iterator[Shell]:
    """Open the database for whoever acts."""
    with bootstrap.open_app_context() as context:
        yield Shell(context, find_actor(context, actor_name))


def find_actor(context: "AppContext", name: str) -> "Actor":
    """Return who acts: the person on the desk that --as or INTAKE_USER names, else an operator.

    An operator at the shell has an administrator's rights, also under a name that is nobody's on
    the desk.
    """
    from workflow.customers.directory import find_staff
    from workflow.tickets.actions import Actor

    source = click.get_current_context().get_parameter_source("actor")
    with context.store.read_only() as session:
        staff = find_staff(session, name)
        # Not by the login name: it may by chance be that of somebody on the desk with fewer rights.
        if staff is not None and source is not ParameterSource.DEFAULT:
            return Actor.person(staff)
        return Actor.operator(name, staff)


def change(number: int, command: "Command", actor: str, *, as_json: bool) -> None:
    """Carry out a command and print how the ticket stands then."""
    with open_shell(actor) as shell:
        change_in(shell, number, command, as_json=as_json)


def change_in(shell: Shell, number: int, command: "Command", *, as_json: bool) -> "Result":
    """Carry out a command in an opened database, and print how the ticket stands then."""
    result = shell.perform(number, command)
    if not result.has_changed:
        click.echo(f"{result.words}; nothing changed.", err=True)
    _print(shell.context, number, as_json=as_json, whole=False)
    return result


def _print(context: "AppContext", number: int, *, as_json: bool, whole: bool) -> None:
    from console.presenters.tickets import ticket as ticket_presenter

    with context.store.read_only() as session:
        data = ticket_presenter.present_ticket(session, number, context.settings)
    if as_json:
        terminal.print_json(data)
    elif whole:
        terminal.print_ticket(data, f"What can be done with it: intake ticket {number} --help")
    else:
        waits = (
            f" · waits for: {', '.join(data['missing'])}"
            if data["missing"] and data["status"] == "open"
            else ""
        )
        click.echo(
            f"#{number} · {data['stage']} · {data['status']} · owner:"
            f" {data['owner'] or 'none yet'}{waits}"
        )


@ticket.command("show")
@bootstrap.json_option
@click.pass_obj
def show_ticket(number: int, *, as_json: bool) -> None:
    """Show everything about it, as `intake ticket ID`."""
    with bootstrap.open_app_context() as context:
        _print(context, number, as_json=as_json, whole=True)


@ticket.command()
@click.argument("user")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def assign(number: int, user: str, *, actor: str, as_json: bool) -> None:
    r"""Give the ticket to USER, who owns it through completion.

    \b
    Example:  intake ticket 12 assign "Ann Lee"

    It leaves the unassigned queue; open tasks of the owner move with it. Next: `intake ticket 12
    follow-up`.
    """
    from workflow.tickets.actions import Assign
    from workflow.tickets.desk import get_staff

    with open_shell(actor) as shell:
        with shell.context.store.read_only() as session:
            command = Assign(get_staff(session, user).id)
        change_in(shell, number, command, as_json=as_json)


@ticket.command("follow-up")
@click.option("--note", default="", help="How, for the record: phone, e-mail.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def follow_up(number: int, *, note: str, actor: str, as_json: bool) -> None:
    r"""Tick the box 4-Support Follow Up Sent.

    \b
    Example:  intake ticket 12 follow-up --note "called, left a message"

    Takes the ticket from 4-In Progress to 5-Audit. Next: `resolve yes` and `recap`, in any order.
    """
    from workflow.tickets.actions import FollowUp

    change(number, FollowUp(note=note), actor, as_json=as_json)


@ticket.command()
@click.argument("box")
@click.option("--note", default="", help="How, for the record: phone, e-mail.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def tick(number: int, box: str, *, note: str, actor: str, as_json: bool) -> None:
    r"""Tick BOX, as the manual calls it.

    \b
    Example:  intake ticket 12 tick "5-Recap of Resolution Sent" --note "by telephone"
    """
    from workflow.tickets.actions import Tick, find_box

    change(number, Tick(find_box(box), note), actor, as_json=as_json)


@ticket.command()
@click.argument("box")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def untick(number: int, box: str, *, actor: str, as_json: bool) -> None:
    r"""Take the tick of BOX back; the ticket stays at its stage.

    \b
    Example:  intake ticket 12 untick "4-Support Follow Up Sent"
    """
    from workflow.tickets.actions import Untick, find_box

    change(number, Untick(find_box(box)), actor, as_json=as_json)


@ticket.command()
@click.argument("answer", type=click.Choice(["yes", "no"]))
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def resolve(number: int, answer: str, *, actor: str, as_json: bool) -> None:
    r"""Set the property Resolution to yes or no.

    \b
    Example:  intake ticket 12 resolve yes

    Yes, with the recap sent, takes the ticket from 5-Audit to 6-Completed. No takes an earlier Yes
    back.
    """
    from workflow.tickets.actions import Resolve

    change(number, Resolve(yes=answer == "yes"), actor, as_json=as_json)


@ticket.command()
@click.option(
    "--text", default=RECAP, help="What was done, in your words: the middle of the recap mail."
)
@click.option(
    "--note",
    default="",
    help="Send nothing; tick the box with a note how it was sent (telephone, post).",
)
@click.option(
    ACROSS,
    "across",
    is_flag=True,
    help="Send it to contacts of another company too, which a merge brought.",
)
@click.option(
    "--checked", "is_checked", is_flag=True, help="You have looked: it holds no patient data."
)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def recap(
    number: int,
    *,
    text: str,
    note: str,
    across: bool,
    is_checked: bool,
    actor: str,
    as_json: bool,
) -> None:
    r"""Send the recap, which ticks its box.

    The mail is Billing Support Recap of Resolution; 5-Recap of Resolution Sent is ticked once it is
    sent.

    \b
    Example:  intake ticket 12 recap --text "The claim of 3 May was filed again."
              intake ticket 12 recap --note "by telephone"

    The mail goes to every contact of the ticket; to those of another company, whom a merge brought,
    only with --across-companies. Patient names do not belong in it: what looks like patient data is
    sent only with --checked. It waits ten seconds, in which `intake ticket 12 undo` stops it.
    """
    from workflow.process import Milestone
    from workflow.tickets.actions import SendRecap, Tick

    if note:
        change(number, Tick(Milestone.RECAP_SENT, note), actor, as_json=as_json)
        return
    command = SendRecap(text=text, across_companies=across, checked=is_checked)
    with open_shell(actor) as shell:
        result = change_in(shell, number, command, as_json=as_json)
        click.echo(f"{result.words}; the box is ticked once it is sent.", err=True)


@ticket.command()
@click.option("--reason", default="reopened by hand", show_default=True, help="For the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def reopen(number: int, *, reason: str, actor: str, as_json: bool) -> None:
    r"""Take the ticket up again.

    A completed one goes back to 4-In Progress with new deadlines; spam, merge and withdraw are
    undone.

    \b
    Example:  intake ticket 12 reopen
    """
    from workflow.tickets.actions import Reopen

    change(number, Reopen(reason), actor, as_json=as_json)


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
def merge(number: int, other: int, *, across: bool, actor: str, as_json: bool) -> None:
    r"""End this ticket as a duplicate of OTHER.

    Answers to it then go there. A completed OTHER is reopened where this ticket was open.

    \b
    Example:  intake ticket 12 merge 7       12 ends, 7 goes on
    """
    from workflow.tickets.actions import Merge

    change(number, Merge(other, across), actor, as_json=as_json)


@ticket.command()
@click.option("--reason", default="spam", show_default=True, help="For the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def spam(number: int, *, reason: str, actor: str, as_json: bool) -> None:
    r"""Close the ticket as spam.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 spam
    """
    from workflow.tickets.actions import CloseAsSpam

    change(number, CloseAsSpam(reason), actor, as_json=as_json)


@ticket.command()
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def withdraw(number: int, *, reason: str, actor: str, as_json: bool) -> None:
    r"""Close the ticket as withdrawn by the customer.

    No deadlines, no survey; `reopen` undoes it.

    \b
    Example:  intake ticket 12 withdraw --reason "customer found the payment"
    """
    from workflow.tickets.actions import Withdraw

    change(number, Withdraw(reason), actor, as_json=as_json)


@ticket.command()
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def telemedicine(number: int, *, actor: str, as_json: bool) -> None:
    r"""Task the telemedicine specialist or group; the owner stays owner.

    Who that is stands in INTAKE_TELEMEDICINE.

    \b
    Example:  intake ticket 12 telemedicine
    """
    from workflow.tickets.actions import HandToTelemedicine

    change(number, HandToTelemedicine(), actor, as_json=as_json)


@ticket.command("task-done")
@click.argument("task", type=int)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def task_done(number: int, task: int, *, actor: str, as_json: bool) -> None:
    r"""Close a task of the ticket.

    `intake ticket ID` lists them with their numbers.

    \b
    Example:  intake ticket 12 task-done 3
    """
    from workflow.tickets.actions import FinishTask

    change(number, FinishTask(task), actor, as_json=as_json)


@ticket.command("task-open")
@click.argument("task", type=int)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def task_open(number: int, task: int, *, actor: str, as_json: bool) -> None:
    r"""Open a task again that was closed too soon.

    \b
    Example:  intake ticket 12 task-open 3
    """
    from workflow.tickets.actions import ReopenTask

    change(number, ReopenTask(task), actor, as_json=as_json)


@ticket.command()
@click.argument("text")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def note(number: int, text: str, *, actor: str, as_json: bool) -> None:
    r"""Put a note on the timeline that only the desk sees.

    \b
    Example:  intake ticket 12 note "she calls back on Monday"
    """
    from workflow.tickets.actions import AddNote

    change(number, AddNote(text), actor, as_json=as_json)


@ticket.command()
@click.argument("caveat")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def settle(number: int, caveat: str, *, actor: str, as_json: bool) -> None:
    r"""Say that CAVEAT was asked about; `intake ticket ID` lists them.

    \b
    Example:  intake ticket 12 settle "no phone number given"
    """
    from workflow.tickets.actions import Settle

    change(number, Settle(caveat), actor, as_json=as_json)


@ticket.command()
@click.argument("other", type=int)
@click.argument("verdict", type=click.Choice(RELATIONS), default=RELATIONS[0])
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def relate(number: int, other: int, verdict: str, *, actor: str, as_json: bool) -> None:
    r"""Say that ticket OTHER belongs to this one, does not, or that it is open again.

    \b
    Example:  intake ticket 12 relate 7                 they belong together
              intake ticket 12 relate 7 not-related
    """
    from workflow.models.states import Verdict
    from workflow.tickets.actions import Relate

    verdicts = dict(zip(RELATIONS, (Verdict.LINKED, Verdict.UNRELATED, Verdict.OPEN), strict=True))
    change(number, Relate(other, verdicts[verdict]), actor, as_json=as_json)


@ticket.command("not-automatic")
@click.argument("message", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def not_automatic(number: int, message: int | None, *, actor: str, as_json: bool) -> None:
    r"""Say that a person wrote a message that was taken for an automatic one.

    MESSAGE is its number in `intake ticket ID --json`; the newest such message where it is left
    out. What the judgement did is undone: a notice that was held back goes out, a mail of ours
    is no longer bounced, a completed ticket is open again.

    \b
    Example:  intake ticket 12 not-automatic
    """
    from workflow.tickets.actions import MarkWrittenByPerson

    change(number, MarkWrittenByPerson(message or 0), actor, as_json=as_json)


@ticket.command()
@click.argument("message", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def automatic(number: int, message: int | None, *, actor: str, as_json: bool) -> None:
    r"""Say that a message was sent by a program: no automatic mail goes out about it.

    MESSAGE is its number in `intake ticket ID --json`; the customer's newest where it is left out.

    \b
    Example:  intake ticket 12 automatic
    """
    from workflow.tickets.actions import MarkAutomatic

    change(number, MarkAutomatic(message or 0), actor, as_json=as_json)


@ticket.command("use-sender")
@click.argument("message", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def use_sender(number: int, message: int | None, *, actor: str, as_json: bool) -> None:
    r"""Make the sender of a message the contact, in place of the customer it was taken for.

    The customer may stand elsewhere than in From: in a message that a colleague forwards, or in
    Reply-To of a web form. MESSAGE is its number in `intake ticket ID --json`; the newest such
    message where it is left out.

    \b
    Example:  intake ticket 12 use-sender
    """
    from workflow.tickets.actions import UseSender

    change(number, UseSender(message or 0), actor, as_json=as_json)


@ticket.command("use-company")
@click.argument("company", type=int, required=False)
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def use_company(number: int, company: int | None, *, actor: str, as_json: bool) -> None:
    r"""Take the company that the practice of the ticket perhaps is.

    COMPANY is its number in `near_companies` of `intake ticket ID --json`; the nearest where it is
    left out.

    \b
    Example:  intake ticket 12 use-company
    """
    from workflow.tickets.actions import UseNearCompany

    change(number, UseNearCompany(company or 0), actor, as_json=as_json)


@ticket.command("new-company")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def new_company(number: int, *, actor: str, as_json: bool) -> None:
    r"""Put the practice of the ticket on record: it is none of those with a near name.

    \b
    Example:  intake ticket 12 new-company
    """
    from workflow.tickets.actions import CreateNamedCompany

    change(number, CreateNamedCompany(), actor, as_json=as_json)


@ticket.command("split")
@click.argument("message", type=int, required=False)
@click.option("--notify", is_flag=True, help="Send the customer the notice of a new ticket.")
@bootstrap.actor_option
@click.pass_obj
def split(number: int, message: int | None, *, notify: bool, actor: str) -> None:
    r"""Make a customer's message, with its files, a ticket of its own.

    For another request that came on this ticket, such as a second matter in an answer. MESSAGE is
    its number in `intake ticket ID --json`; the newest where it is left out. The new ticket has the
    contact and the company of the message, and later answers to it go there. Nobody is mailed
    without --notify. Prints the new ticket's number.

    \b
    Example:  intake ticket 12 split 40
              intake ticket 12 undo          within ten minutes
    """
    from workflow.tickets.actions import SplitMessage

    with open_shell(actor) as shell:
        click.echo(shell.perform(number, SplitMessage(message or 0, notify)).opened_ticket)


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
    from workflow.tickets.actions import FileSeparately

    with open_shell(actor) as shell:
        click.echo(shell.perform(number, FileSeparately(delivery or 0)).opened_ticket)


@ticket.command()
@click.argument("attachment", type=int, required=False)
@bootstrap.actor_option
@click.pass_obj
def rows(number: int, attachment: int | None, *, actor: str) -> None:
    r"""Make tickets of the rows of a workbook that came attached.

    ATTACHMENT is its number in `intake ticket ID --json`; the newest workbook where it is left
    out. Rows that have come before are not filed again. Prints the delivery that files them.

    \b
    Example:  intake ticket 12 rows
              intake delivery 31
    """
    from ingest import attached_files
    from ingest.replay.reprocess import UnreadableError

    with open_shell(actor) as shell:
        try:
            file = attached_files.find_workbook(shell.context, number, attachment or 0)
            delivery = attached_files.file_rows(shell.context, file, actor=shell.actor)
        except LookupError:
            raise click.ClickException(f"ticket {number} has no such workbook") from None
        except UnreadableError as error:
            raise click.ClickException(f"no tickets can be made of its rows: {error}") from None
    click.echo(delivery)


@ticket.command("move-back")
@click.argument("stage")
@click.option("--reason", required=True, help="Why, for the record.")
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def move_back(number: int, stage: str, *, reason: str, actor: str, as_json: bool) -> None:
    r"""Move the ticket back to an earlier STAGE.

    STAGE is 1, 4 or 5; what is waited for from there on is open again.

    \b
    Example:  intake ticket 12 move-back 4 --reason "the follow up went to the wrong person"
    """
    from workflow.tickets.actions import MoveBack, find_stage

    change(number, MoveBack(find_stage(stage), reason), actor, as_json=as_json)


@ticket.command()
@bootstrap.actor_option
@bootstrap.json_option
@click.pass_obj
def undo(number: int, *, actor: str, as_json: bool) -> None:
    r"""Undo what you did to the ticket last, within ten minutes.

    By page, API and command alike, as long as nobody has changed the ticket since.

    \b
    Example:  intake ticket 12 undo
    """
    from workflow.tickets.actions import Undo

    change(number, Undo(), actor, as_json=as_json)


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
def new(  # noqa: PLR0913  # click's options, all named
    *,
    actor: str,
    contacts: tuple[str, ...],
    more_contacts: tuple[str, ...],
    company: str,
    text: str,
    name: str,
    phone: str,
    subject: str,
    telemedicine: bool,
) -> None:
    r"""Write a call down: makes a ticket and prints its number.

    \b
    Example:  intake ticket new --company "Acme Clinic" --contact jo@acme.test \
                  --text "Claim 7 was denied."

    If USER (--as, or INTAKE_USER) is a person on the desk, the ticket is theirs; else it waits in
    the unassigned queue. Its contacts are notified as for any other ticket. Next: `intake ticket
    ID`.
    """
    from console.errors import CommandError
    from ingest.phone_call import InvalidAddress, PhoneCall, write_down
    from parsers.phone_call import Contact

    emails = [e for one in (*contacts, *more_contacts) for e in one.replace(",", " ").split()]
    call = PhoneCall(
        text=text,
        contacts=[Contact(email=email) for email in emails],
        company=company,
        name=name,
        email=emails[0] if emails else "",
        phone=phone,
        subject=subject,
        telemedicine=telemedicine,
    )
    with open_shell(actor or bootstrap.get_login_name()) as shell:
        take = bool(actor) and shell.actor.staff_id is not None
        if actor and not take:
            click.echo(
                f"Nobody on the desk is called {actor}: the ticket waits in the unassigned queue.",
                err=True,
            )
        try:
            click.echo(write_down(shell.context, call, actor=shell.actor, take=take).ticket)
        except InvalidAddress as fault:
            raise CommandError(str(fault), 2) from None  # as click ends on an option it cannot use
