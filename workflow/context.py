"""The application context: what every process needs, opened once from the settings."""

from dataclasses import dataclass
from functools import cached_property

from workflow.database.engine import Store, WorkerNotifier
from workflow.runtime import crypto
from workflow.runtime.blobs import BlobStore
from workflow.runtime.clock import Clock, make_clock
from workflow.settings.settings import Settings
from workflow.tickets.desk import Desk


@dataclass(frozen=True)
class AppContext:
    """Settings, database, encryption, blobs, signatures and clock of a process.

    A process opens it when it starts and passes it on; nothing below asks for globals.
    """

    settings: Settings
    store: Store
    sealer: crypto.Sealer
    blob_store: BlobStore
    signer: crypto.Signer
    clock: Clock

    @cached_property
    def desk(self) -> Desk:
        """The actions on tickets, under these settings."""
        return Desk(self.settings, self.signer, self.blob_store)

    def close(self) -> None:
        """Close the connections to the database."""
        self.store.close()


def open_context(
    settings: Settings, notifier: WorkerNotifier | None = None, clock: Clock | None = None
) -> AppContext:
    """Open everything a process needs.

    `notifier` sends wake-ups to workers, `clock` is the system clock unless given. Raises
    SettingsError when a key is unusable. The database is not contacted yet.
    """
    keys = crypto.load_keys(settings)
    sealer = crypto.Sealer(keys)
    return AppContext(
        settings=settings,
        store=Store(settings.database) if notifier is None else Store(settings.database, notifier),
        sealer=sealer,
        blob_store=BlobStore(settings.blobs, sealer, settings.inline_limit),
        signer=crypto.Signer(keys),
        clock=clock or make_clock(settings.clock_offset),
    )
