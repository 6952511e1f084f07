"""`intake automated`: list mail that is on no ticket, open a ticket for it, undo that."""

import click

from console import bootstrap
from console.cli.tickets.numbered_group import NumberedGroup
from console.cli.tickets.tickets import open_shell
from console.presenters import terminal


@click.group(cls=NumberedGroup, invoke_without_command=True, subcommand_metavar="[ID ticket|undo]")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest.")
@bootstrap.json_option
@click.pass_context
def automated(ctx: click.Context, *, limit: int, as_json: bool) -> None:
    r"""List mail of programs that is on no ticket: newsletters, notices, reports.

    \b
    Example:  intake automated              list it, and why it is on no ticket
              intake automated 3 ticket     open a ticket for it, as for a person's mail
              intake automated 3 undo       withdraw that ticket; the mail is listed again

    Nothing here has a task or a deadline; everything can be read.
    """
    if ctx.invoked_subcommand is not None:
        return
    from console.presenters.automated import present_automated_mail
    from workflow.filing import automated_mail

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        mails = [
            present_automated_mail(mail)
            for mail in automated_mail.list_automated_mail(session, limit=limit)
        ]
    if as_json:
        for mail in mails:
            terminal.print_json_line(mail)
        return
    for mail in mails:
        click.echo(
            f"{mail['id']} · {mail['at']} · {mail['from'] or 'no sender'} · {mail['subject']}"
        )
        click.echo(
            f"    {mail['reason']} ({', '.join(mail['signs'])}); delivery {mail['delivery']}"
        )
    if not mails:
        click.echo("No automated mail: everything that came in is on a ticket.")


@automated.command("ticket")
@bootstrap.actor_option
@click.pass_obj
def create_ticket(number: int, *, actor: str) -> None:
    r"""Open a ticket for it, as for a person's mail; prints the ticket's number.

    \b
    Example:  intake automated 3 ticket
    """
    from ingest.replay.automated_mail import make_ticket as file_as_ticket

    with open_shell(actor) as shell:
        click.echo(file_as_ticket(shell.context, number, actor=shell.actor))


@automated.command("undo")
@bootstrap.actor_option
@click.pass_obj
def undo(number: int, *, actor: str) -> None:
    r"""Undo that it was made a ticket, within ten minutes; prints the withdrawn ticket's number.

    \b
    Example:  intake automated 3 undo
    """
    from ingest.replay.automated_mail import undo_ticket

    with open_shell(actor) as shell:
        click.echo(undo_ticket(shell.context, number, actor=shell.actor))
