"""Commands for other programs: API tokens and webhooks."""

import click

from console import bootstrap
from console.presenters import terminal

SCOPES = ("read", "work", "lead", "audit", "admin")


@click.group()
def token() -> None:
    r"""Tokens by which programs use the API, each for a person on the desk.

    \b
    Example:  intake token add "phone system" --for "Ann Lee" --scope read --scope work
              intake token list
    """


@token.command("add")
@click.argument("name")
@click.option(
    "--for",
    "person",
    metavar="USER",
    required=True,
    help="The person whose rights and name it has.",
)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="Repeat for more.",
)
@bootstrap.actor_option
def token_add(name: str, person: str, scopes: tuple[str, ...], actor: str) -> None:
    r"""Create a token for the program NAME, and print it: it is not shown again.

    \b
    Example:  intake token add "phone system" --for "Ann Lee" --scope read --scope work

    It may do no more than its person at the time of each call, and ends with their account. Next:
    docs/api.md.
    """
    from workflow.accounts import api_tokens
    from workflow.tickets.desk import get_staff

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        owner = get_staff(session, person)
        _, secret = api_tokens.create_token(
            session, owner, name, scopes, by=actor, now=context.clock()
        )
    click.echo(secret)


@token.command("list")
@bootstrap.json_option
def token_list(*, as_json: bool) -> None:
    r"""List the valid tokens, by name: nobody can see the tokens themselves again.

    \b
    Example:  intake token list
    """
    from console.presenters.times import format_time
    from console.presenters.webhooks import present_token as as_data
    from workflow.accounts import api_tokens

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rows = [as_data(one) for one in api_tokens.list_tokens(session)]
    if as_json:
        terminal.print_json(rows)
    elif rows:
        lines = (
            (t["id"], t["name"], t["person"], " ".join(t["scopes"]), format_time(t["used_at"]))
            for t in rows
        )
        terminal.create_console().print(
            terminal.build_table(("id", "program", "person", "scopes", "used"), lines)
        )
    else:
        click.echo(
            'No program has a token. Make one: intake token add "phone system" --for "Ann Lee"'
            " --scope read"
        )


@token.command("revoke")
@click.argument("number", metavar="ID", type=int)
@bootstrap.actor_option
def token_revoke(number: int, actor: str) -> None:
    r"""Revoke the token with this number, at once and for good.

    \b
    Example:  intake token revoke 3
    """
    from workflow.accounts import api_tokens

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        row = api_tokens.revoke_token(session, number, by=actor, now=context.clock())
    click.echo(f"{row.name}: revoked")


@click.group()
def hook() -> None:
    r"""Webhooks: notify other systems of ticket events, by ids only.

    \b
    Example:  intake hook add https://crm.example/intake --event ticket.opened
              intake hook list
    """


@hook.command("add")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    help="The event to send; repeat for more. Default: every event.",
)
@bootstrap.actor_option
def hook_add(url: str, events: tuple[str, ...], actor: str) -> None:
    r"""Send events to URL from now on, and print the signing secret: it is not shown again.

    \b
    Example:  intake hook add https://crm.example/intake --event ticket.opened
              intake hook add https://crm.example/all

    By https only. How to check the signature, and which events there are: docs/api.md.
    """
    from workflow.audit.webhook_events import EventType
    from workflow.webhooks import deliver

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        webhook, secret = deliver.create_webhook(
            context, session, url, events or list(EventType), by=actor, now=context.clock()
        )
    click.echo(f"{url} is webhook {webhook.id}. Its secret:", err=True)
    click.echo(secret)


@hook.command("list")
@bootstrap.json_option
def hook_list(*, as_json: bool) -> None:
    r"""List the webhooks: waiting events, those given up after two days, and the last error.

    \b
    Example:  intake hook list
    """
    from console.presenters.times import format_time
    from console.presenters.webhooks import present_hook as as_data
    from workflow.webhooks import deliver

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rows = [as_data(one, counts) for one, counts in deliver.list_webhooks(session)]
    if as_json:
        terminal.print_json(rows)
    elif rows:
        lines = (
            (h["id"], h["url"], h["waiting"], h["given_up"], format_time(h["told_at"]), h["fault"])
            for h in rows
        )
        terminal.create_console().print(
            terminal.build_table(
                ("id", "address", "waiting", "given up", "last yes", "fault"), lines
            )
        )
    else:
        click.echo("No webhook is registered. Add one: intake hook add https://crm.example/intake")


@hook.command("again")
@click.argument("number", metavar="ID", type=int)
@bootstrap.actor_option
def hook_again(number: int, actor: str) -> None:
    r"""Send waiting and given-up events of the webhook now.

    \b
    Example:  intake hook again 2
    """
    from workflow.webhooks import deliver

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        count = deliver.retry_webhook(session, number, by=actor, now=context.clock())
    click.echo(f"{count} events will be sent again")


@hook.command("remove")
@click.argument("number", metavar="ID", type=int)
@bootstrap.actor_option
def hook_remove(number: int, actor: str) -> None:
    r"""Delete the webhook, with its undelivered events.

    \b
    Example:  intake hook remove 2
    """
    from workflow.webhooks import deliver

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        deliver.delete_webhook(session, number, by=actor, now=context.clock())
    click.echo("deleted")
