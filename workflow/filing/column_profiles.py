"""Saved column profiles: the meaning of the columns of workbooks with certain headings.

They are in the database, so that every host uses the same.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from workflow.audit import record as audit
from workflow.models.base import Base


class ProfileConflictError(ValueError):
    """Raised when the name or the headings belong to another profile; the text says what to do."""


class SavedProfile(Base):
    """A profile saved with `intake map` or on its page; those of `intake.toml` are not in here."""

    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    # Of the headings; None applies to all files.
    fingerprint: Mapped[str | None] = mapped_column(String(64), unique=True)
    columns: Mapped[list[Any]] = mapped_column(default=list)  # [folded heading, our field or ""]
    date_order: Mapped[str] = mapped_column(String(16), default="mdy")
    time_zone: Mapped[str] = mapped_column(String(64), default="")  # "" is that of the settings
    # [our field, its value in rows that have none]
    defaults: Mapped[list[Any]] = mapped_column(default=list)
    saved_by: Mapped[str] = mapped_column(Text)
    saved_at: Mapped[datetime]


def list_profiles(session: Session) -> list[SavedProfile]:
    """List the saved profiles, by name."""
    return list(session.scalars(select(SavedProfile).order_by(SavedProfile.name)))


def save_profile(session: Session, profile: SavedProfile, *, now: datetime) -> SavedProfile:
    """Save a profile, in place of one with the same name and the same headings.

    Raises ProfileConflictError when the name belongs to other headings, or the headings to another
    name, since two profiles for the same headings would contradict each other.
    """
    same = SavedProfile.name == profile.name
    if profile.fingerprint:
        same |= SavedProfile.fingerprint == profile.fingerprint
    for existing in session.scalars(select(SavedProfile).where(same).with_for_update()):
        if existing.name != profile.name:
            raise ProfileConflictError(
                f"these headings belong to the profile {existing.name!r}: save under that name to"
                " change it"
            )
        if existing.fingerprint != profile.fingerprint:
            raise ProfileConflictError(
                f"the profile {existing.name!r} is for other headings: choose another name"
            )
        session.delete(existing)
        session.flush()
    profile.saved_at = now
    try:
        with session.begin_nested():
            session.add(profile)
    except IntegrityError:
        raise ProfileConflictError(
            "somebody has saved such a profile a moment ago: look at `intake profiles`"
        ) from None
    audit.record(
        session, "profile saved", by=profile.saved_by, cause="map", now=now, profile=profile.id
    )
    return profile


def delete_profile(session: Session, name: str, *, by: str, now: datetime) -> bool:
    """Delete a profile; return whether there was one. Deliveries read with it stay as they are."""
    profile = session.scalar(
        select(SavedProfile).where(SavedProfile.name == name).with_for_update()
    )
    if profile is None:
        return False
    audit.record(
        session, "profile forgotten", by=by, cause="profiles forget", now=now, profile=profile.id
    )
    session.delete(profile)
    return True
