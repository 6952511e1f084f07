"""Database store of mailboxes' refresh tokens; rotated ones are sealed."""

from datetime import timedelta

from workflow.context import AppContext
from workflow.operations.oauth_tokens import MailboxToken
from workflow.runtime.crypto import hash_secret
from workflow.settings.settings import Mailbox


class DatabaseTokenStore:
    """The refresh token of one mailbox; every method is one transaction.

    A rotated token is kept sealed, so that it survives a restart.
    """

    def __init__(self, context: AppContext, box: Mailbox) -> None:
        assert box.oauth2 is not None
        self._context = context
        self._mailbox = box.key
        self._token = box.oauth2.refresh_token.get_secret_value()
        self._configured_digest = hash_secret(self._token)

    def load(self) -> str | None:
        """Return the rotated token that replaces the one of the settings, or None."""
        with self._context.store.read_only() as session:
            row = session.get(MailboxToken, self._mailbox)
        if row is None or row.given != self._configured_digest or row.sealed is None:
            return None
        try:
            return self._context.sealer.unseal(row.sealed).decode()
        except ValueError:  # its key is gone: the token of the settings may still work
            return None

    def record_refresh(self, token: str, seconds: float | None) -> None:
        """Record that a token works; `seconds`: how long it will, where its server says so."""
        now, token_digest = self._context.clock(), hash_secret(token)
        sealed_token = (
            None
            if token_digest == self._configured_digest
            else self._context.sealer.seal(token.encode())
        )
        with self._context.store.transaction() as session:
            row = session.get(MailboxToken, self._mailbox, with_for_update=True) or self._make_row()
            if (
                row.given != self._configured_digest
                or row.digest != token_digest
                or row.since is None
            ):
                row.since, row.dies_at = now, None
            row.given, row.digest, row.sealed = self._configured_digest, token_digest, sealed_token
            row.refreshed_at, row.refused_at = now, None
            if seconds is not None:
                row.dies_at = now + timedelta(seconds=seconds)
            session.add(row)

    def record_refusal(self) -> None:
        """Record that the server refuses the token."""
        with self._context.store.transaction() as session:
            row = session.get(MailboxToken, self._mailbox, with_for_update=True)
            if row is None or row.given != self._configured_digest:
                row = session.merge(self._make_row())
            row.refused_at = row.refused_at or self._context.clock()

    def _make_row(self) -> MailboxToken:
        """Return an empty row for the token of the settings."""
        return MailboxToken(
            mailbox=self._mailbox,
            given=self._configured_digest,
            digest=self._configured_digest,
            sealed=None,
            since=None,
            refreshed_at=None,
            dies_at=None,
            refused_at=None,
        )
