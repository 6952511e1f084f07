"""`intake sender`: senders whose mail is always a ticket, or never."""

from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.cli.tickets.tickets import open_shell
from console.presenters import terminal

if TYPE_CHECKING:  # as in `tickets`: a command imports what it needs
    from workflow.customers.sender_rules import Author
    from workflow.tickets.actions import Actor


@click.group()
def sender() -> None:
    r"""Senders whose mail is always a ticket, or never.

    \b
    Example:  intake sender set notices@payer.example always
              intake sender set @newsletter.example never
              intake sender set "Acme Clinic" always
              intake sender list

    A sender is an address, a domain with all below it, or a company; the narrowest rule decides. It
    is about mail that belongs to no ticket: answers join theirs. "never" puts it under *Automated*
    (`intake automated`), where it stays and can be made a ticket.
    """


@sender.command("list")
@bootstrap.json_option
def list_senders(*, as_json: bool) -> None:
    r"""List the rules, and those that have ended and can come back.

    \b
    Example:  intake sender list --json
    """
    from console.presenters.sender_rules import list_rules

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rules = list_rules(session)
    if as_json:
        terminal.print_json(rules)
        return
    for rule in rules:
        ended = f", ended {rule['ended_at']}" if rule["ended_at"] else ""
        click.echo(
            f"{rule['id']} · {rule['sender']} · {rule['treatment']} · {rule['by']}, {rule['at']}"
            f"{ended}"
        )
    if not rules:
        click.echo("No sender has a rule: what a mail shows decides about it.")


@sender.command("set")
@click.argument("who", metavar="SENDER")
@click.argument("treatment", type=click.Choice(["always", "never"]))
@bootstrap.actor_option
def set_sender(*, who: str, treatment: str, actor: str) -> None:
    r"""Set the rule of SENDER: an address, a domain, or the name of a company.

    \b
    Example:  intake sender set notices@payer.example always

    Prints the number of the rule.
    """
    from workflow.customers import sender_rules
    from workflow.models.states import Treatment

    chosen = Treatment.TICKET if treatment == "always" else Treatment.NEVER
    with open_shell(actor) as shell, shell.context.store.transaction() as session:
        author, now = make_author(shell.actor), shell.context.clock()
        rule = sender_rules.set_rule(session, who, chosen, by=author, now=now)
        session.flush()
        click.echo(rule.id)


@sender.command("remove")
@click.argument("number", metavar="ID", type=int)
@bootstrap.actor_option
def remove_sender(*, number: int, actor: str) -> None:
    r"""Remove the rule with this number; it stays in the list and can come back.

    \b
    Example:  intake sender remove 3
    """
    from workflow.customers import sender_rules

    with open_shell(actor) as shell, shell.context.store.transaction() as session:
        author, now = make_author(shell.actor), shell.context.clock()
        sender_rules.remove_rule(session, number, by=author, now=now)
    click.echo(f"Rule {number} is removed. Undo: intake sender undo {number}")


@sender.command("undo")
@click.argument("number", metavar="ID", type=int)
@bootstrap.actor_option
def undo_sender(*, number: int, actor: str) -> None:
    r"""Undo the last change of the sender that a rule is about.

    \b
    Example:  intake sender undo 3

    A rule that was removed holds again; of one that was set, the rule before it.
    """
    from workflow.customers import sender_rules

    with open_shell(actor) as shell, shell.context.store.transaction() as session:
        author, now = make_author(shell.actor), shell.context.clock()
        sender_rules.undo_last_change(session, number, by=author, now=now)
    click.echo("Undone.")


def make_author(actor: "Actor") -> "Author":
    """Return who acts, for a change of a rule."""
    from workflow.customers.sender_rules import Author

    return Author(actor.name, actor.rights)
