"""Tables of those who sign in: accounts, sessions, invitations, API tokens, saved views."""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from workflow.models.base import Base
from workflow.models.core import Staff
from workflow.models.states import Role


class Account(Base):
    """How a person on the desk signs in.

    Secrets are hashed (password) or sealed by the sign-in library (TOTP).
    """

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), unique=True)
    email: Mapped[str] = mapped_column(
        String(320), unique=True
    )  # case folded; what is typed at sign-in
    password: Mapped[str] = mapped_column(Text, default="")
    active: Mapped[bool] = mapped_column(default=True)
    uniquifier: Mapped[str] = mapped_column(
        String(64), unique=True
    )  # a new one ends every session of the account
    second_factor: Mapped[str | None] = mapped_column(String(64))
    totp_secret: Mapped[str | None] = mapped_column(Text)
    recovery_codes: Mapped[list[Any]] = mapped_column(default=list)
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    locked_until: Mapped[datetime | None]
    signed_in_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    time_zone: Mapped[str] = mapped_column(String(64), default="")  # "" is the desk's
    staff: Mapped[Staff] = relationship()


class WebSession(Base):
    """A browser's session, kept here and not in its cookie.

    Signing out ends it, whoever has a copy of the cookie.
    """

    __tablename__ = "web_sessions"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the cookie's value
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    data: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)


class SavedFormRow(Base):
    """Form that was sent after its writer had been signed out.

    Shown to that account only (accounts/saved_forms.py).
    """

    __tablename__ = "kept_forms"
    key: Mapped[str] = mapped_column(
        String(64), primary_key=True
    )  # random; in the address of the page that shows it
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)  # sealed: may be patient data
    created_at: Mapped[datetime] = mapped_column(index=True)


class Invitation(Base):
    """A link by which a person makes an account, or a new password: once, and within a day."""

    __tablename__ = "invitations"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the link's token
    staff_id: Mapped[int | None] = mapped_column(
        ForeignKey("staff.id")
    )  # None: whoever comes first (first run)
    role: Mapped[Role]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiToken(Base):
    """A program's way in: what it may do, and for whom; kept as a digest."""

    __tablename__ = "api_tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of the token
    scopes: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    staff: Mapped[Staff] = relationship()


class SavedView(Base):
    """A list of tickets as somebody likes to see it.

    The query of its address, under a name of its own.
    """

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("staff_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    query: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


def make_uniquifier() -> str:
    """A new name for an account's sessions: those under the old one are over."""
    return secrets.token_hex(32)
