"""Counts of the rows of a workbook by what they were read as.

They are stored with the delivery, shown on its page and balanced by the ledger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from parsers.item import SheetCounts
from workflow.models.core import DeliverySheet, Filing

ROW_KINDS = (
    "items",
    "repeated",
    "rejected",
    "continued",
    "headings",
    "titles",
    "footers",
    "blank",
)
_FIELDS = tuple(field.name for field in fields(SheetCounts))


@dataclass(frozen=True, slots=True)
class WorkbookBalance:
    """A workbook in the ledger.

    rows = items + repeated + rejected + continued + headings + titles + footers + blank. `filed` is
    the number of filings of the delivery: never fewer than items and rejected rows, but possibly
    more, when a later reading no longer finds what an earlier one has filed.
    """

    delivery: int
    rows: int
    items: int
    repeated: int
    rejected: int
    continued: int
    headings: int
    titles: int
    footers: int
    blank: int
    filed: int

    @property
    def adds_up(self) -> bool:
        """Return whether every row is accounted for, and everything that was read is filed."""
        accounted = sum(getattr(self, kind) for kind in ROW_KINDS)
        return self.rows == accounted and self.filed >= self.items + self.rejected

    def as_dict(self) -> dict[str, int | bool]:
        """Return every count by its name, and whether they add up."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "adds_up": self.adds_up,
        }


def store_counts(session: Session, delivery: int, counts: Sequence[SheetCounts]) -> None:
    """Store the counts of a delivery's sheets, in order, in place of earlier ones."""
    session.execute(delete(DeliverySheet).where(DeliverySheet.delivery_id == delivery))
    session.add_all(
        DeliverySheet(
            delivery_id=delivery, position=at, **{name: getattr(sheet, name) for name in _FIELDS}
        )
        for at, sheet in enumerate(counts)
    )


def list_counts(session: Session, delivery: int) -> list[SheetCounts]:
    """Return the counts of a delivery's sheets, in order.

    Empty for a delivery that is no workbook, or has not been read yet.
    """
    rows = (
        select(DeliverySheet)
        .where(DeliverySheet.delivery_id == delivery)
        .order_by(DeliverySheet.position)
    )
    return [
        SheetCounts(**{name: getattr(row, name) for name in _FIELDS})
        for row in session.scalars(rows)
    ]


def describe_counts(counts: SheetCounts) -> str:
    """Return the counts of a sheet in words, with the places of rows that are no requests."""
    if counts.hidden:
        return "hidden: not read"
    terms = [
        f"{counts.items} {'item' if counts.items == 1 else 'items'}",
        *_count_others(counts, "repeated", "rejected", "continued"),
    ]
    for kind, count, places in (
        ("heading", counts.headings, counts.heading_places),
        ("title", counts.titles, counts.title_places),
        ("footer", counts.footers, counts.footer_places),
    ):
        if count:
            plural = "" if count == 1 else "s"
            terms.append(f"{count} {kind}{plural} (row{plural} {places})")
    terms += _count_others(counts, "blank")
    hidden = f"; {counts.hidden_rows} of them hidden" if counts.hidden_rows else ""
    return f"{counts.rows} rows = {' + '.join(terms)}{hidden}"


def _count_others(counts: SheetCounts, *kinds: str) -> list[str]:
    """Return the counts of these kinds of rows in words, without those that are 0."""
    return [f"{getattr(counts, kind)} {kind}" for kind in kinds if getattr(counts, kind)]


def list_workbooks(session: Session) -> Iterator[WorkbookBalance]:
    """Yield the balance of each workbook that was read to its end, newest first."""
    sums = [func.sum(getattr(DeliverySheet, name)) for name in ("rows", *ROW_KINDS)]
    filed = (
        select(func.count())
        .select_from(Filing)
        .where(Filing.delivery_id == DeliverySheet.delivery_id)
    )
    query = (
        select(DeliverySheet.delivery_id, *sums, filed.correlate(DeliverySheet).scalar_subquery())
        .group_by(DeliverySheet.delivery_id)
        .order_by(DeliverySheet.delivery_id.desc())
    )
    for numbers in session.execute(query):
        yield WorkbookBalance(*(int(number) for number in numbers))
