"""What we remember of a mailbox's refresh token.

A rotated one sealed, so that a restart goes on with it.
"""

from datetime import timedelta

from workflow.context import AppContext
from workflow.operations.oauth_tokens import MailboxToken
from workflow.runtime.crypto import hash_secret
from workflow.settings.settings import Mailbox


class DatabaseTokenStore:
    """The token of one mailbox in our own database; every method is one transaction."""

    def __init__(self, context: AppContext, box: Mailbox) -> None:
        assert box.oauth2 is not None
        self._context = context
        self._mailbox = box.key
        self._token = box.oauth2.refresh_token.get_secret_value()
        self._given = hash_secret(self._token)

    def load(self) -> str | None:
        """The token that the server gave last instead of that of the settings.

        None where there is none.
        """
        with self._context.store.read_only() as session:
            row = session.get(MailboxToken, self._mailbox)
        if row is None or row.given != self._given or row.sealed is None:
            return None
        try:
            return self._context.sealer.unseal(row.sealed).decode()
        except ValueError:  # its key is gone: that of the settings may do
            return None

    def record_refresh(self, token: str, seconds: float | None) -> None:
        """Put down that a token works; `seconds`: how long it will, where its server says so."""
        now, name = self._context.clock(), hash_secret(token)
        sealed = None if name == self._given else self._context.sealer.seal(token.encode())
        with self._context.store.transaction() as session:
            row = session.get(MailboxToken, self._mailbox, with_for_update=True) or self._new()
            if row.given != self._given or row.digest != name or row.since is None:
                row.since, row.dies_at = now, None
            row.given, row.digest, row.sealed = self._given, name, sealed
            row.refreshed_at, row.refused_at = now, None
            if seconds is not None:
                row.dies_at = now + timedelta(seconds=seconds)
            session.add(row)

    def record_refusal(self) -> None:
        """Put down that the server will have none of it."""
        with self._context.store.transaction() as session:
            row = session.get(MailboxToken, self._mailbox, with_for_update=True)
            if row is None or row.given != self._given:
                row = session.merge(self._new())
            row.refused_at = row.refused_at or self._context.clock()

    def _new(self) -> MailboxToken:
        return MailboxToken(
            mailbox=self._mailbox,
            given=self._given,
            digest=self._given,
            sealed=None,
            since=None,
            refreshed_at=None,
            dies_at=None,
            refused_at=None,
        )
