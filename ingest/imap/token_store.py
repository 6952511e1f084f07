"""What we remember of a mailbox's refresh token.

A rotated one sealed, so that a restart goes on with it.
"""

from datetime import timedelta

from workflow.context import House
from workflow.operations.oauth_tokens import MailboxGrant
from workflow.runtime.crypto import digest
from workflow.settings.settings import Mailbox


class StoredGrant:
    """The token of one mailbox in our own database; every method is one transaction."""

    def __init__(self, house: House, box: Mailbox) -> None:
        assert box.oauth2 is not None
        self._house = house
        self._mailbox = box.key
        self._token = box.oauth2.refresh_token.get_secret_value()
        self._given = digest(self._token)

    def load(self) -> str | None:
        """The token that the server gave last instead of that of the settings.

        None where there is none.
        """
        with self._house.store.reading() as session:
            row = session.get(MailboxGrant, self._mailbox)
        if row is None or row.given != self._given or row.sealed is None:
            return None
        try:
            return self._house.sealer.open(row.sealed).decode()
        except ValueError:  # its key is gone: that of the settings may do
            return None

    def refreshed(self, token: str, seconds: float | None) -> None:
        """Put down that a token works; `seconds`: how long it will, where its server says so."""
        now, name = self._house.clock(), digest(token)
        sealed = None if name == self._given else self._house.sealer.seal(token.encode())
        with self._house.store.transaction() as session:
            row = session.get(MailboxGrant, self._mailbox, with_for_update=True) or self._new()
            if row.given != self._given or row.digest != name or row.since is None:
                row.since, row.dies_at = now, None
            row.given, row.digest, row.sealed = self._given, name, sealed
            row.refreshed_at, row.refused_at = now, None
            if seconds is not None:
                row.dies_at = now + timedelta(seconds=seconds)
            session.add(row)

    def refused(self) -> None:
        """Put down that the server will have none of it."""
        with self._house.store.transaction() as session:
            row = session.get(MailboxGrant, self._mailbox, with_for_update=True)
            if row is None or row.given != self._given:
                row = session.merge(self._new())
            row.refused_at = row.refused_at or self._house.clock()

    def _new(self) -> MailboxGrant:
        return MailboxGrant(
            mailbox=self._mailbox,
            given=self._given,
            digest=self._given,
            sealed=None,
            since=None,
            refreshed_at=None,
            dies_at=None,
            refused_at=None,
        )
