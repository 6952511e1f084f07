"""What the rows of a workbook's sheets were read as.

Kept with its delivery, shown, and balanced by the ledger.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from parsers.item import SheetCounts
from workflow.models.core import DeliverySheet, Filing

ROW_KINDS = ("items", "repeated", "rejected", "headings", "titles", "footers", "blank")
_FIELDS = tuple(field.name for field in fields(SheetCounts))


@dataclass(frozen=True, slots=True)
class WorkbookBalance:
    """One workbook in the ledger.

    Rows = items + repeated + rejected + headings + titles + footers + blank.

    `filed` are the filings of its delivery. There may be more of them than items and rejected rows,
    when a later reading no longer finds what an earlier one filed; there must never be fewer.
    """

    delivery: int
    rows: int
    items: int
    repeated: int
    rejected: int
    headings: int
    titles: int
    footers: int
    blank: int
    filed: int

    @property
    def adds_up(self) -> bool:
        """Tell whether every row is accounted for, and everything that was read is filed."""
        return (
            self.rows == sum(getattr(self, kind) for kind in ROW_KINDS)
            and self.filed >= self.items + self.rejected
        )

    def as_dict(self) -> dict[str, int | bool]:
        """Return every count by its name, and whether they add up."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "adds_up": self.adds_up,
        }


def store_counts(session: Session, delivery: int, counts: Sequence[SheetCounts]) -> None:
    """Keep what the sheets of a delivery were read as, in place of what was kept before."""
    session.execute(delete(DeliverySheet).where(DeliverySheet.delivery_id == delivery))
    session.add_all(
        DeliverySheet(
            delivery_id=delivery, position=at, **{name: getattr(one, name) for name in _FIELDS}
        )
        for at, one in enumerate(counts)
    )


def list_counts(session: Session, delivery: int) -> list[SheetCounts]:
    """Return what the sheets of a delivery were read as, in their order.

    [] for what is no workbook or not read yet.
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
    """Say what the rows of a sheet were read as, with the places of what is no request."""
    if counts.hidden:
        return "hidden: not read"
    words = [f"{counts.items} {'item' if counts.items == 1 else 'items'}"]
    words += [f"{counts.repeated} repeated"] if counts.repeated else []
    words += [f"{counts.rejected} rejected"] if counts.rejected else []
    for kind, count, places in (
        ("heading", counts.headings, counts.heading_places),
        ("title", counts.titles, counts.title_places),
        ("footer", counts.footers, counts.footer_places),
    ):
        if count:
            words.append(
                f"{count} {kind} (row {places})"
                if count == 1
                else f"{count} {kind}s (rows {places})"
            )
    words += [f"{counts.blank} blank"] if counts.blank else []
    hidden = f"; {counts.hidden_rows} of them hidden" if counts.hidden_rows else ""
    return f"{counts.rows} rows = {' + '.join(words)}{hidden}"


def list_workbooks(session: Session) -> Iterator[WorkbookBalance]:
    """Yield a line for each workbook that was read to its end, newest first."""
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
