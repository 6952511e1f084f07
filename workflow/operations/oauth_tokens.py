"""OAuth refresh tokens of mailboxes: since when each is in use, and when it expires."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import LargeBinary, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from workflow.models.base import Base
from workflow.runtime.crypto import hash_secret
from workflow.settings.settings import OAuth2, Settings

ALARM_DAYS = 14  # enough for the person who has to consent to be back from a holiday


class MailboxToken(Base):
    """The refresh token in use for a mailbox, sealed: a copy of the database opens no mailbox."""

    __tablename__ = "mailbox_grants"
    mailbox: Mapped[str] = mapped_column(String(600), primary_key=True)
    # Digest of the token in the settings: when that one changes, this row starts afresh.
    given: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))  # of the token in use
    # The token in use; None while it is the one in the settings.
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    since: Mapped[datetime | None]  # first used or issued; None: it has never worked
    refreshed_at: Mapped[datetime | None]  # last exchanged for an access token
    dies_at: Mapped[datetime | None]  # expiry, where the server has named one
    refused_at: Mapped[datetime | None]  # since when the server refuses it


@dataclass(frozen=True)
class TokenStatus:
    """State of a mailbox's token.

    `dies_at` is None for a token that does not expire by age, or was never used.
    """

    mailbox: str
    since: datetime | None = None
    refreshed_at: datetime | None = None
    refused_at: datetime | None = None
    dies_at: datetime | None = None

    def count_days_left(self, now: datetime) -> int | None:
        """Return the whole days left: 0 on the last day and after it, None without an expiry."""
        return max((self.dies_at - now).days, 0) if self.dies_at else None


def list_token_status(session: Session, settings: Settings) -> list[TokenStatus]:
    """Return the state of every mailbox with OAuth, in the order of the settings.

    Without such a mailbox the database is not asked.
    """
    boxes = {box.key: box.oauth2 for box in settings.mailbox if box.oauth2}
    if not boxes:
        return []
    tokens = session.scalars(select(MailboxToken).where(MailboxToken.mailbox.in_(boxes)))
    rows = {row.mailbox: row for row in tokens}
    return [_build_status(key, rows.get(key), oauth, settings) for key, oauth in boxes.items()]


def _build_status(
    mailbox: str, row: MailboxToken | None, oauth: OAuth2, settings: Settings
) -> TokenStatus:
    if row is None or row.given != hash_secret(oauth.refresh_token.get_secret_value()):
        return TokenStatus(mailbox)
    days = settings.oauth_days if oauth.token_days is None else oauth.token_days
    by_age = row.since + timedelta(days=days) if row.since and days else None
    return TokenStatus(mailbox, row.since, row.refreshed_at, row.refused_at, row.dies_at or by_age)


def describe_needs(tokens: list[TokenStatus], now: datetime) -> list[str]:
    """Return a line for every token that needs a person: refused, or about to expire."""
    advice = "consent again, and put the new refresh_token into intake.toml"
    needs = []
    for token in tokens:
        days = token.count_days_left(now)
        if token.refused_at:
            since = f"{token.refused_at:%Y-%m-%d %H:%M} UTC"
            needs.append(f"{token.mailbox}: its OAuth token is refused since {since}: {advice}")
        elif days is not None and days < ALARM_DAYS:
            needs.append(f"{token.mailbox}: its OAuth token has {days} days left: {advice}")
    return needs
