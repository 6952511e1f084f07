"""Profiles that staff have saved.

How the workbooks with certain headings are meant, for every host at once.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from workflow.audit import record as audit
from workflow.models.base import Base


class ProfileConflictError(ValueError):
    """The name, or the headings, belong to another profile.

    The text says to which, and what to do.
    """


class SavedProfile(Base):
    """A mapping made with `intake map`; those of `intake.toml` are not in here."""

    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    fingerprint: Mapped[str | None] = mapped_column(
        String(64), unique=True
    )  # of the headings; None serves all files
    columns: Mapped[list[Any]] = mapped_column(default=list)  # [heading as folded, our field or ""]
    date_order: Mapped[str] = mapped_column(String(16), default="mdy")
    time_zone: Mapped[str] = mapped_column(String(64), default="")  # "" is the house's
    defaults: Mapped[list[Any]] = mapped_column(
        default=list
    )  # [our field, what a row says that says none]
    saved_by: Mapped[str] = mapped_column(Text)
    saved_at: Mapped[datetime]


def list_profiles(session: Session) -> list[SavedProfile]:
    """Every saved profile, by name."""
    return list(session.scalars(select(SavedProfile).order_by(SavedProfile.name)))


def save_profile(session: Session, given: SavedProfile, *, now: datetime) -> SavedProfile:
    """Keep a profile; one of the same name for the same headings is replaced.

    Raises ProfileConflictError when the name is another one's, or another profile is for these headings: two
    would contradict.
    """
    same = SavedProfile.name == given.name
    if given.fingerprint:
        same |= SavedProfile.fingerprint == given.fingerprint
    for known in session.scalars(select(SavedProfile).where(same).with_for_update()):
        if known.name != given.name:
            raise ProfileConflictError(
                f"these headings belong to the profile {known.name!r}: save under that name to"
                " change it"
            )
        if known.fingerprint != given.fingerprint:
            raise ProfileConflictError(
                f"the profile {known.name!r} is for other headings: choose another name"
            )
        session.delete(known)
        session.flush()
    given.saved_at = now
    try:
        with session.begin_nested():
            session.add(given)
    except IntegrityError:
        raise ProfileConflictError(
            "somebody has saved such a profile a moment ago: look at `intake profiles`"
        ) from None
    audit.record(
        session, "profile saved", by=given.saved_by, cause="map", now=now, profile=given.id
    )
    return given


def delete_profile(session: Session, name: str, *, by: str, now: datetime) -> bool:
    """Take a profile away; whether there was one. What was read by it stays as it is."""
    known = session.scalar(select(SavedProfile).where(SavedProfile.name == name).with_for_update())
    if known is None:
        return False
    audit.record(
        session, "profile forgotten", by=by, cause="profiles forget", now=now, profile=known.id
    )
    session.delete(known)
    return True
