"""The OAuth tokens that mailboxes are read with.

Since when each is in use, and how long it will live.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import LargeBinary, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from workflow.models.base import Base
from workflow.runtime.crypto import hash_secret
from workflow.settings.settings import OAuth2, Settings

ALARM_DAYS = 14  # days: enough for whoever has to consent to be back from a holiday


class MailboxToken(Base):
    """The refresh token that a mailbox is read with now.

    A copy of the database opens no mailbox.
    """

    __tablename__ = "mailbox_grants"
    mailbox: Mapped[str] = mapped_column(String(600), primary_key=True)
    given: Mapped[str] = mapped_column(
        String(64)
    )  # digest of the one in the settings: another one begins anew
    digest: Mapped[str] = mapped_column(String(64))  # of the one in use
    sealed: Mapped[bytes | None] = mapped_column(
        LargeBinary
    )  # the one in use, where it is not that of the settings
    since: Mapped[datetime | None]  # when it was used or given to us first; None: it never worked
    refreshed_at: Mapped[datetime | None]  # when it was good for an access token last
    dies_at: Mapped[datetime | None]  # where its server has said so
    refused_at: Mapped[datetime | None]  # since when its server wants to know nothing of it


@dataclass(frozen=True)
class TokenStatus:
    """What is known of a mailbox's token."""

    mailbox: str
    since: datetime | None = None
    refreshed_at: datetime | None = None
    refused_at: datetime | None = None
    dies_at: datetime | None = None  # None: not by its age, or it was never used

    def count_days_left(self, now: datetime) -> int | None:
        """Whole days left, 0 on the last and after it.

        None where it does not die of age, or was never used.
        """
        return max((self.dies_at - now).days, 0) if self.dies_at else None


def list_token_status(session: Session, settings: Settings) -> list[TokenStatus]:
    """Every mailbox with OAuth, in the order of the settings.

    The database is asked only where there is one.
    """
    boxes = {box.key: box.oauth2 for box in settings.mailbox if box.oauth2}
    found = select(MailboxToken).where(MailboxToken.mailbox.in_(boxes))
    rows = {row.mailbox: row for row in session.scalars(found)} if boxes else {}
    return [_left(key, rows.get(key), grant, settings) for key, grant in boxes.items()]


def _left(mailbox: str, row: MailboxToken | None, grant: OAuth2, settings: Settings) -> TokenStatus:
    if row is None or row.given != hash_secret(grant.refresh_token.get_secret_value()):
        return TokenStatus(mailbox)
    days = settings.oauth_days if grant.token_days is None else grant.token_days
    of_age = row.since + timedelta(days=days) if row.since and days else None
    return TokenStatus(mailbox, row.since, row.refreshed_at, row.refused_at, row.dies_at or of_age)


def describe_needs(found: list[TokenStatus], now: datetime) -> list[str]:
    """Return whose token a person has to look after, in words."""
    told = "consent again, and put the new refresh_token into intake.toml"
    said = []
    for one in found:
        days = one.count_days_left(now)
        if one.refused_at:
            said.append(
                f"{one.mailbox}: its OAuth token is refused since {one.refused_at:%Y-%m-%d %H:%M}"
                f" UTC: {told}"
            )
        elif days is not None and days < ALARM_DAYS:
            said.append(f"{one.mailbox}: its OAuth token has {days} days left: {told}")
    return said
