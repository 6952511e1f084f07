"""Alembic's entry: our metadata against the URL that `database.engine.migrate` hands over."""

from typing import Literal

from alembic import context
from sqlalchemy import Enum

from workflow.database.engine import Store
from workflow.filing.column_profiles import SavedProfile
from workflow.filing.linked_files import LinkedFile
from workflow.mail.canned_responses import CannedResponseVersion
from workflow.models.accounts import Account
from workflow.models.base import UtcDateTime
from workflow.models.core import Ticket
from workflow.models.imports import Import
from workflow.models.presence import UndoRecord
from workflow.models.webhooks import Webhook
from workflow.operations.oauth_tokens import MailboxToken
from workflow.tickets import search

# One of each module of tables.
TABLES = (
    Ticket,
    Account,
    SavedProfile,
    Import,
    LinkedFile,
    UndoRecord,
    Webhook,
    CannedResponseVersion,
    MailboxToken,
)
(EVERY_TABLE,) = {model.metadata for model in TABLES}


def render_plain_type(kind: str, thing: object, autogen: object) -> str | Literal[False]:
    """Render the types of times and enums as plain ones; False leaves a type to Alembic.

    A migration must not change when our classes do.
    """
    del autogen
    if kind == "type" and isinstance(thing, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(thing, Enum):
        return f"sa.String(length={thing.length})"
    return False


def is_defined_by_model(name: str | None, kind: str, parents: object) -> bool:
    """Return whether a model defines the object: the tables of the search index have none."""
    del parents
    return kind != "table" or not search.is_index_table(name or "")


store = Store(context.config.attributes["url"])
patient = store.engine.execution_options(statement_seconds=None)  # a large table takes its time
with patient.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=EVERY_TABLE,
        render_as_batch=True,
        compare_type=True,
        render_item=render_plain_type,
        include_name=is_defined_by_model,
    )
    with context.begin_transaction():
        context.run_migrations()
store.close()
