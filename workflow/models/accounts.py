"""Tables of people who sign in: accounts, sessions, invitations, API tokens, saved views."""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from workflow.models.base import Base
from workflow.models.core import Staff
from workflow.models.states import Role


class Account(Base):
    """The account with which a person on the desk signs in.

    The password is hashed, the TOTP secret encrypted, both by the sign-in library.
    """

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), unique=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)  # case-folded; entered at sign-in
    password: Mapped[str] = mapped_column(Text, default="")
    active: Mapped[bool] = mapped_column(default=True)
    # A new value ends every session of the account.
    uniquifier: Mapped[str] = mapped_column(String(64), unique=True)
    second_factor: Mapped[str | None] = mapped_column(String(64))
    totp_secret: Mapped[str | None] = mapped_column(Text)
    recovery_codes: Mapped[list[Any]] = mapped_column(default=list)
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    locked_until: Mapped[datetime | None]
    signed_in_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    time_zone: Mapped[str] = mapped_column(String(64), default="")  # "" = INTAKE_TIME_ZONE
    staff: Mapped[Staff] = relationship()


class WebSession(Base):
    """A browser's session, stored here and not in its cookie.

    Signing out therefore ends it for everybody who has a copy of the cookie.
    """

    __tablename__ = "web_sessions"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the cookie's value
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    data: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)


class SavedFormRow(Base):
    """A form submitted after its writer was signed out (accounts/saved_forms.py)."""

    __tablename__ = "kept_forms"
    # Random; part of the page's address.
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted: may hold patient data
    created_at: Mapped[datetime] = mapped_column(index=True)


class Invitation(Base):
    """A link to create an account or set a new password, for one use within a day."""

    __tablename__ = "invitations"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of the link's token
    # None: for whoever uses it first (first run).
    staff_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    role: Mapped[Role]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiToken(Base):
    """A token with which a program acts for a person, within scopes; stored as a digest."""

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
    """A named list of tickets of one person: the query string of the list's address."""

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("staff_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    query: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


def make_uniquifier() -> str:
    """Return a new random uniquifier; giving it to an account ends the account's sessions."""
    return secrets.token_hex(32)
