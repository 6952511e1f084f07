"""Commands for staff and companies: add, change and list them."""

from dataclasses import replace

import click

from console import bootstrap
from console.presenters import terminal

ROLES = ("agent", "lead", "admin", "auditor")


@click.group()
def user() -> None:
    r"""People on the desk, who own tickets and get tasks.

    \b
    Example:  intake user add "Ann Lee" --role agent --email ann@pmb.test
              intake user link "Ann Lee"
              intake user list
    """


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What they may do.")
@click.option(
    "--email", default="", help="Where mail reaches them; mail from it may join any ticket."
)
@bootstrap.actor_option
def user_add(name: str, role: str, email: str, actor: str) -> None:
    r"""Add NAME to the desk, or change their role and address.

    \b
    Example:  intake user add "Ann Lee" --role agent --email ann@pmb.test

    Prints a link by which they create their account, valid for a day. Next: `intake ticket 12
    assign "Ann Lee"`.
    """
    from workflow.accounts import accounts
    from workflow.customers import directory
    from workflow.models.states import Role

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        now, person = context.clock(), directory.find_staff(session, name)
        if person is None:
            person, token = accounts.create_person(
                session, name, email, Role(role), by=actor, now=now
            )
        else:
            accounts.update_person(
                session, person.id, Role(role), email or person.email, by=actor, now=now
            )
            person, token = accounts.create_link(session, person.id, by=actor, now=now)
    click.echo(
        f"{person.name} is on the desk as {role}. To sign in:"
        f" {context.settings.public_url}/join/{token}"
    )


@user.command("link")
@click.argument("name")
@bootstrap.actor_option
def user_link(name: str, actor: str) -> None:
    r"""Create a link by which NAME creates an account, or a new password.

    \b
    Example:  intake user link "Ann Lee"

    It works once, within a day. A new password ends their other sessions and any lock-out.
    """
    from workflow.accounts import accounts
    from workflow.tickets.desk import get_staff

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        person = get_staff(session, name)
        _, token = accounts.create_link(session, person.id, by=actor, now=context.clock())
    click.echo(f"{context.settings.public_url}/join/{token}")


@user.command("hand-over")
@click.argument("name")
@click.argument("to")
@bootstrap.actor_option
def user_hand_over(name: str, to: str, actor: str) -> None:
    r"""Give what NAME has to the colleague TO: open tickets and tasks, and companies.

    \b
    Example:  intake user hand-over "Ann Lee" "Max Berg"

    For somebody who leaves the desk. Until then their deadlines go to the desk lead and the
    fallback supervisor.
    """
    from console.perform import hand_over
    from workflow.customers import directory
    from workflow.errors import ActionNotAllowed
    from workflow.tickets.desk import get_staff

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            person = directory.find_staff(session, name)  # they may have left
            if person is None:
                raise ActionNotAllowed(f"nobody on the desk is called {name}")
            numbers = person.id, get_staff(session, to).id
        leaver, colleague, work = hand_over(context, *numbers, by=actor)
    click.echo(f"{colleague} has taken over from {leaver}: {work}")


@user.command("list")
@bootstrap.json_option
def user_list(*, as_json: bool) -> None:
    r"""List the people on the desk.

    \b
    Example:  intake user list
    """
    from sqlalchemy import select

    from console.presenters import customers
    from workflow.models.core import Staff

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        people = session.scalars(select(Staff).order_by(Staff.name))
        rows = [customers.present_staff(p) for p in people]
    if as_json:
        terminal.print_json(rows)
    elif rows:
        terminal.create_console().print(
            terminal.build_table(
                ("name", "role", "email"), ((p["name"], p["role"], p["email"]) for p in rows)
            )
        )
    else:
        click.echo('Nobody is on the desk yet. Add someone: intake user add "Ann Lee" --role agent')


@click.group()
def company() -> None:
    r"""Practices: who manages them, which mail domains are theirs.

    \b
    Example:  intake company add "Acme Clinic" --domain acme.test --manager "Max Berg"
              intake company list
    """


@company.command("add")
@click.argument("name")
@click.option("--number", default="", help="The practice's number in Kareo.")
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="A mail domain whose senders belong to it; repeat for more.",
)
@click.option("--manager", default="", metavar="USER", help="Who gets its escalated tickets.")
@click.option("--consultant", default="", metavar="USER", help="Its operations consultant.")
@bootstrap.actor_option
def company_add(
    name: str, number: str, domains: tuple[str, ...], manager: str, consultant: str, actor: str
) -> None:
    r"""Add the practice NAME, or add to its record.

    \b
    Example:  intake company add "Acme Clinic" --number 4711 --domain acme.test --manager "Max Berg"

    USERs are people on the desk: `intake user add`. A ticket not resolved in 3 days escalates to
    the manager.
    """
    from workflow.customers import directory, records
    from workflow.customers.records import CompanyData
    from workflow.tickets.desk import get_staff

    with bootstrap.open_app_context() as context, context.store.transaction() as session:
        key = directory.build_company_key(name)
        row = directory.CustomerLookup(session).find_company_by_key(key)
        present = CompanyData(name=name) if row is None else CompanyData.from_company(row)
        data = replace(
            present,
            number=number or present.number,
            domains=[*present.domains, *domains],
            manager=get_staff(session, manager) if manager else present.manager,
            consultant=get_staff(session, consultant) if consultant else present.consultant,
        )
        records.save_company(session, row, data, by=actor, now=context.clock())
    click.echo(f"{name} is on record.")


@company.command("list")
@bootstrap.json_option
def company_list(*, as_json: bool) -> None:
    r"""List the practices.

    \b
    Example:  intake company list --json
    """
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload, selectinload

    from console.presenters import customers
    from workflow.models.core import Company

    people = (
        joinedload(Company.manager),
        joinedload(Company.consultant),
        selectinload(Company.domains),
    )
    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rows = session.scalars(select(Company).options(*people).order_by(Company.name))
        companies = [customers.present_company(c) for c in rows]
    if as_json:
        terminal.print_json(companies)
    elif companies:
        columns = ("name", "number", "manager", "consultant", "domains")
        lines = ((*(c[k] or "–" for k in columns[:-1]), " ".join(c["domains"])) for c in companies)
        terminal.create_console().print(terminal.build_table(columns, lines))
    else:
        click.echo(
            'No practice is on record yet. Add one: intake company add "Acme Clinic" --domain'
            " acme.test"
        )
