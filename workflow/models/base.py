"""What every table stands on.

How a moment, a word and a JSON value are stored, and how constraints are named.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Enum, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from parsers.item import Format
from workflow.models.states import (
    DeliveryState,
    Judgement,
    LinkState,
    OutboxState,
    Outcome,
    Role,
    RowOutcome,
    Status,
    Verdict,
    WebhookEventState,
)
from workflow.process import Milestone, Stage, Template


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; refuses a naive one.

    SQLite keeps no zone, so it is put back on reading.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC on the way in. Raises ValueError for a naive time."""
        del dialect
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive time cannot be stored")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back aware UTC."""
        del dialect
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _words(kind: type[StrEnum]) -> Enum:
    # Values, not member names, so that the database reads as the manual does; plain strings, so
    # that a new stage needs no ALTER TYPE.
    return Enum(kind, native_enum=False, values_callable=lambda e: [m.value for m in e], length=64)


def make_blob_index(table: str) -> Index:
    """Finds whose a blob is; partial, because most rows hold their bytes themselves."""
    where = text("blob IS NOT NULL")
    return Index(f"ix_{table}_blob", "blob", sqlite_where=where, postgresql_where=where)


class Base(DeclarativeBase):
    """Naming convention for constraints, so that migrations can name what they change."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own declarative configuration
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        Format: _words(Format),
        Stage: _words(Stage),
        Milestone: _words(Milestone),
        Template: _words(Template),
        DeliveryState: _words(DeliveryState),
        Outcome: _words(Outcome),
        RowOutcome: _words(RowOutcome),
        Judgement: _words(Judgement),
        Status: _words(Status),
        LinkState: _words(LinkState),
        OutboxState: _words(OutboxState),
        Role: _words(Role),
        WebhookEventState: _words(WebhookEventState),
        Verdict: _words(Verdict),
    }
