"""Commands for staff, companies and contacts: add, change, list and merge them."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.presenters import terminal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

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
        lookup = directory.CustomerLookup(session)
        row = lookup.find_company_by_key(directory.build_company_key(name))
        row = lookup.follow_merge(row) if row is not None else None
        present = CompanyData(name=name) if row is None else CompanyData.from_company(row)
        data = replace(
            present,
            number=number or present.number,
            domains=[*present.domains, *domains],
            manager=get_staff(session, manager) if manager else present.manager,
            consultant=get_staff(session, consultant) if consultant else present.consultant,
        )
        saved = records.save_company(session, row, data, by=actor, now=context.clock())
        near = directory.list_near_records(lookup, saved)
        hints = [
            f"It is perhaps {directory.describe_company(one)}. If so: intake company merge"
            f' "{saved.name}" "{one.name}"'
            for one in near
        ]
    click.echo(f"{name} is on record.")
    for hint in hints:
        click.echo(hint)


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
        separate = select(Company).where(Company.merged_into_id.is_(None)).options(*people)
        rows = session.scalars(separate.order_by(Company.name))
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


@company.command("merge")
@click.argument("name")
@click.argument("into")
@bootstrap.actor_option
def company_merge(name: str, into: str, actor: str) -> None:
    r"""Merge the practice NAME into the practice INTO; both by name or number.

    \b
    Example:  intake company merge "Quill Kids" "Quillfield Pediatrics"
              intake company merge 00471 00472

    Its tickets, contacts and mail domains move, and what comes with its name or number lands on
    INTO from now on. `intake company unmerge NAME` undoes it.
    """
    from console.perform import merge_customers

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            numbers = _find_company(session, name), _find_company(session, into)
        click.echo(merge_customers(context, "company", *numbers, by=actor))


@company.command("unmerge")
@click.argument("name")
@bootstrap.actor_option
def company_unmerge(name: str, actor: str) -> None:
    r"""Undo the merge of the practice NAME: what was moved goes back.

    \b
    Example:  intake company unmerge "Quill Kids"
    """
    from console.perform import unmerge_customers

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            number = _find_company(session, name)
        click.echo(unmerge_customers(context, "company", number, by=actor))


def _find_company(session: "Session", name: str) -> int:
    """Return the id of the company with this number or name, merged or not.

    Raises ActionNotAllowed where there is none.
    """
    from workflow.customers import company_numbers, directory
    from workflow.errors import ActionNotAllowed

    lookup = directory.CustomerLookup(session)
    row = lookup.find_company_by_number(company_numbers.normalize(name))
    row = row or lookup.find_company_by_key(directory.build_company_key(name))
    if row is None:
        raise ActionNotAllowed(f"no practice has the name or number {name}")
    return row.id


@click.group()
def contact() -> None:
    r"""Contacts: people who write with several addresses.

    \b
    Example:  intake contact merge nora@gmail.example nora@quillfield.example
    """


@contact.command("merge")
@click.argument("email")
@click.argument("into")
@bootstrap.actor_option
def contact_merge(email: str, into: str, actor: str) -> None:
    r"""Merge the contact EMAIL into the contact INTO, who is the same person.

    \b
    Example:  intake contact merge nora@gmail.example nora@quillfield.example

    Their tickets move, and mail from EMAIL is that of INTO from now on. `intake contact unmerge
    EMAIL` undoes it.
    """
    from console.perform import merge_customers

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            numbers = _find_contact(session, email), _find_contact(session, into)
        click.echo(merge_customers(context, "contact", *numbers, by=actor))


@contact.command("unmerge")
@click.argument("email")
@bootstrap.actor_option
def contact_unmerge(email: str, actor: str) -> None:
    r"""Undo the merge of the contact EMAIL: their tickets go back.

    \b
    Example:  intake contact unmerge nora@gmail.example
    """
    from console.perform import unmerge_customers

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            number = _find_contact(session, email)
        click.echo(unmerge_customers(context, "contact", number, by=actor))


def _find_contact(session: "Session", email: str) -> int:
    """Return the id of the contact with this address, merged or not.

    Raises ActionNotAllowed where there is none.
    """
    from sqlalchemy import select

    from workflow.errors import ActionNotAllowed
    from workflow.models.core import Contact

    number = session.scalar(select(Contact.id).where(Contact.email == email.strip().casefold()))
    if number is None:
        raise ActionNotAllowed(f"no contact has the address {email}")
    return number
