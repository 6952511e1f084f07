"""identity of practices: normal forms of names and numbers; merged records; near companies."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypedDict

import sqlalchemy as sa
from alembic import op

from workflow.customers import company_names, company_numbers

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

CHUNK = 5_000  # companies written with one statement
COMPANIES = sa.table(
    "companies", sa.column("id"), sa.column("name"), sa.column("key"), sa.column("number")
)


class Company(NamedTuple):
    """A row of the companies, as far as its key depends on it."""

    id: int
    name: str
    key: str
    number: str | None


class Change(TypedDict):
    """A new key or number (`to`) of the company with an id (`of`)."""

    of: int
    to: str | None


def upgrade() -> None:
    for table in ("companies", "contacts"):
        op.add_column(table, sa.Column("merged_into_id", sa.Integer(), nullable=True))
        op.create_index(op.f(f"ix_{table}_merged_into_id"), table, ["merged_into_id"])
    op.add_column(
        "tickets", sa.Column("named_company", sa.Text(), nullable=False, server_default="")
    )
    op.add_column(
        "tickets",
        sa.Column("named_number", sa.String(length=64), nullable=False, server_default=""),
    )
    op.add_column(
        "tickets", sa.Column("near_companies", sa.JSON(), nullable=False, server_default="[]")
    )
    op.create_table(
        "customer_merges",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("moved", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer_merges")),
    )
    for column in ("source_id", "target_id"):
        op.create_index(op.f(f"ix_customer_merges_{column}"), "customer_merges", [column])
    namesakes = sa.text("key LIKE '% #%'")
    op.create_index(
        "ix_companies_namesakes",
        "companies",
        ["key"],
        sqlite_where=namesakes,
        postgresql_where=namesakes,
    )
    rewrite_numbers(op.get_bind())
    rewrite_keys(op.get_bind(), company_names.normalize)


def downgrade() -> None:
    rewrite_keys(op.get_bind(), company_names.fold)
    op.drop_index("ix_companies_namesakes", "companies")
    op.drop_table("customer_merges")
    op.drop_column("tickets", "near_companies")
    op.drop_column("tickets", "named_number")
    op.drop_column("tickets", "named_company")
    for table in ("companies", "contacts"):
        op.drop_index(op.f(f"ix_{table}_merged_into_id"), table)
        op.drop_column(table, "merged_into_id")


def rewrite_numbers(connection: sa.Connection) -> None:
    """Write numbers such as `="00471"`, `471.0` or `N/A` as they are compared from now on.

    A number that another company has then stays as it is: a person merges the two.
    """
    rows = connection.execute(
        sa.text("SELECT id, number FROM companies WHERE number IS NOT NULL ORDER BY id")
    )
    numbers = {row[0]: row[1] for row in rows}
    taken = set(numbers.values())
    changes: list[Change] = []
    for company, number in numbers.items():
        normal = company_numbers.normalize(number)
        if normal != number and normal not in taken:
            changes.append({"of": company, "to": normal or None})
            if normal:
                taken.add(normal)
    write = sa.update(COMPANIES).where(COMPANIES.c.id == sa.bindparam("of"))
    for chunk in in_chunks(changes):
        connection.execute(write.values(number=sa.bindparam("to")), chunk)


def rewrite_keys(connection: sa.Connection, build: Callable[[str], str]) -> None:
    """Write the key of each company anew; each stays unique.

    Where two get the same key, the one that has it already keeps it, else the older one. The other
    is a namesake, whose key ends with its number, or its id where it has none.
    """
    rows = connection.execute(sa.text("SELECT id, name, key, number FROM companies ORDER BY id"))
    companies = [Company(*row) for row in rows]
    built = {company.id: build(company.name) or company.key for company in companies}
    taken = {c.key for c in companies if c.key == built[c.id]}
    changes: list[Change] = []
    for company in companies:
        key = built[company.id]
        if key == company.key:
            continue
        if key in taken:
            base, key = key[:300], f"{key[:300]} #{company.number or f'id {company.id}'}"
            if key in taken:
                key = f"{base} #id {company.id}"
        taken.add(key)
        if key != company.key:
            changes.append({"of": company.id, "to": key})
    write = sa.update(COMPANIES).where(COMPANIES.c.id == sa.bindparam("of"))
    write = write.values(key=sa.bindparam("to"))
    # First out of each other's way: a new key may be the old one of another company.
    new_keys = {change["to"] for change in changes}
    old_keys = {company.id: company.key for company in companies}
    aside: list[Change] = [
        {"of": change["of"], "to": f"#{change['of']}"}
        for change in changes
        if old_keys[change["of"]] in new_keys
    ]
    for group in (aside, changes):
        for chunk in in_chunks(group):
            connection.execute(write, chunk)


def in_chunks(rows: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield rows in groups of at most `CHUNK`."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
