"""The base class of all tables: how times, enums and JSON are stored, how constraints are named."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Enum, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from parsers.item import Encoding, Format
from workflow.models.states import (
    DeliveryState,
    Judgement,
    LinkState,
    OutboxState,
    Outcome,
    Role,
    RowOutcome,
    RuleScope,
    Status,
    Treatment,
    Verdict,
    WebhookEventState,
)
from workflow.process import Milestone, Stage, Template


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time.

    SQLite stores no time zone, so UTC is added again on reading.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC before storing.

        Raises ValueError for a naive time.
        """
        del dialect
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive time cannot be stored")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        del dialect
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


def _make_string_enum(kind: type[StrEnum]) -> Enum:
    # The values are stored, not the member names, so that the database reads like the operations
    # manual; as plain strings, so that a new stage needs no ALTER TYPE.
    return Enum(kind, native_enum=False, values_callable=lambda e: [m.value for m in e], length=64)


def make_blob_index(table: str) -> Index:
    """Return the index that finds the row of a blob.

    It is partial because most rows hold their bytes themselves.
    """
    where = text("blob IS NOT NULL")
    return Index(f"ix_{table}_blob", "blob", sqlite_where=where, postgresql_where=where)


class Base(DeclarativeBase):
    """Base of all models; constraints have fixed names, so that migrations can refer to them."""

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
        Format: _make_string_enum(Format),
        Encoding: _make_string_enum(Encoding),
        Stage: _make_string_enum(Stage),
        Milestone: _make_string_enum(Milestone),
        Template: _make_string_enum(Template),
        DeliveryState: _make_string_enum(DeliveryState),
        Outcome: _make_string_enum(Outcome),
        RowOutcome: _make_string_enum(RowOutcome),
        Judgement: _make_string_enum(Judgement),
        Status: _make_string_enum(Status),
        LinkState: _make_string_enum(LinkState),
        OutboxState: _make_string_enum(OutboxState),
        Role: _make_string_enum(Role),
        WebhookEventState: _make_string_enum(WebhookEventState),
        Verdict: _make_string_enum(Verdict),
        RuleScope: _make_string_enum(RuleScope),
        Treatment: _make_string_enum(Treatment),
    }
