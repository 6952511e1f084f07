"""What every process needs, opened once from the settings."""

from dataclasses import dataclass
from functools import cached_property

from workflow.database.engine import Store, Waker
from workflow.runtime import crypto
from workflow.runtime.blobs import Vault
from workflow.runtime.clock import Clock, wall
from workflow.settings.settings import Settings
from workflow.tickets.desk import Desk


@dataclass(frozen=True)
class House:
    """Settings, database, sealed bytes, signatures.

    The desk and the clock, handed down by the process that starts.
    """

    settings: Settings
    store: Store
    sealer: crypto.Sealer
    vault: Vault
    signer: crypto.Signer
    clock: Clock

    @cached_property
    def desk(self) -> Desk:
        """Return what can happen to a ticket, under these settings."""
        return Desk(self.settings, self.signer, self.vault)

    def close(self) -> None:
        """Let go of the database."""
        self.store.close()


def open_house(settings: Settings, waker: Waker | None = None, clock: Clock | None = None) -> House:
    """Open everything a process needs.

    Raises SettingsError when a key is unusable; a database that is away shows at the first
    transaction.
    """
    secret = crypto.load(settings)
    sealer = crypto.Sealer(secret)
    return House(
        settings=settings,
        store=Store(settings.database) if waker is None else Store(settings.database, waker),
        sealer=sealer,
        vault=Vault(settings.blobs, sealer, settings.inline_limit),
        signer=crypto.Signer(secret),
        clock=clock or wall(settings.clock_offset),
    )
