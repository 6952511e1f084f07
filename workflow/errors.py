"""Errors that people read: an action was refused, and the text says why or what to do first."""

from collections.abc import Sequence
from dataclasses import dataclass, field


# Named after the answer: the request is refused, the program is not at fault.
class ActionNotAllowed(Exception):  # noqa: N818
    """The action cannot be carried out; the text says why, for whoever asked for it."""


class NoSuchTicket(ActionNotAllowed):
    """There is no ticket with this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no ticket {number}")
        self.number = number


class NoSuchMail(ActionNotAllowed):
    """There is no such mail that a person wrote, or it is of another ticket."""

    def __init__(self) -> None:
        super().__init__("there is no such mail on this ticket")


class NotPermitted(ActionNotAllowed):
    """Whoever asks lacks the right that the action takes."""


class WrongStatus(ActionNotAllowed):
    """The action is not for a ticket in this status; `ended` says whether reopening would help."""

    def __init__(self, text: str, *, has_ended: bool) -> None:
        super().__init__(text)
        self.has_ended = has_ended


class ChangedSinceSeen(ActionNotAllowed):
    """Others changed the ticket since it was seen; `changes` are their audit rows, if known."""

    def __init__(self, changes: Sequence[int]) -> None:
        super().__init__("somebody has changed what you saw")
        self.changes = list(changes)


class VersionMismatch(ActionNotAllowed):
    """The ticket is not at the version that the caller insists on."""

    def __init__(self) -> None:
        super().__init__("the ticket has changed since you looked")


@dataclass(frozen=True)
class PatientDataWarning:
    """A part of a mail that may contain patient data."""

    where: str  # subject, text or a file's name
    # (piece, what it looks like); not in the repr, which a log may have
    pieces: Sequence[tuple[str, str]] = field(repr=False)

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of data it looks like, each once."""
        return list(dict.fromkeys(kind for _, kind in self.pieces if kind))


class SeemsPatientData(ActionNotAllowed):
    """A mail seems to hold patient data, which somebody has to look at and confirm.

    `warnings` are the parts in question. The text names parts and kinds, never the data.
    """

    def __init__(self, warnings: Sequence[PatientDataWarning]) -> None:
        kinds = sorted({kind for warning in warnings for kind in warning.kinds})
        where = ", ".join(warning.where for warning in warnings)
        verb = "seem" if len(warnings) > 1 else "seems"
        super().__init__(
            f"{where} {verb} to hold {', '.join(kinds)}: leave it out, or have somebody look and"
            " confirm that it is none"
        )
        self.warnings = list(warnings)


class AcrossCompanies(ActionNotAllowed):
    """The action would bring two companies together, which a person has to confirm.

    The text names both companies.
    """
