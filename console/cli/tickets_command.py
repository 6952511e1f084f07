"""`intake tickets`: the queue, and the other lists a desk works by."""

import click

from console import bootstrap
from console.presenters import terminal

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
def tickets(*, view: str, actor: str, json_wanted: bool) -> None:
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
    from console.presenters import ticket

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        listed = ticket.list_view(session, view, actor=actor, now=context.clock())
        found = [ticket.present_ticket_row(t) for t in listed]
    if json_wanted:
        terminal.print_json(found)
    elif found:
        terminal.create_console().print(
            terminal.build_ticket_table(found, f"{len(found)} · {_view_name(view, actor)}")
        )
    else:
        click.echo(_empty(view, actor))


def _view_name(view: str, actor: str) -> str:
    from workflow.process import QUEUE_NAME

    return {"unassigned": QUEUE_NAME, "mine": f"open tickets of {actor}"}.get(
        view, f"{view} tickets"
    )


def _empty(view: str, actor: str) -> str:
    others = "Others: intake tickets --view open"
    says = {
        "unassigned": (
            f'No ticket waits in "{_view_name(view, actor)}". Send one: intake demo. {others}'
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
    return says.get(view, f"No ticket is there. {others}")
