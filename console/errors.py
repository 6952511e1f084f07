"""Error messages and exit codes of the command (sysexits.h), as mail servers understand them."""

import errno

import click

EXIT_UNREADABLE = 65  # EX_DATAERR
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL
EXIT_UNUSABLE = 78  # EX_CONFIG


class CommandError(click.ClickException):
    """A message on standard error and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        # click declares it on the class and reads it here
        self.exit_code = exit_code  # type: ignore[misc]


def to_command_error(error: Exception) -> CommandError | None:
    """Translate an exception into a message; None for a bug, or for click's own errors."""
    from sqlalchemy.exc import SQLAlchemyError

    from workflow.errors import ActionNotAllowed
    from workflow.settings.settings import SettingsError

    if isinstance(error, SettingsError):
        return CommandError(f"these settings cannot be used:\n{error}", EXIT_UNUSABLE)
    if isinstance(error, ActionNotAllowed):
        return CommandError(str(error), 1)
    if isinstance(error, SQLAlchemyError):
        return CommandError(describe_database_error(error), EXIT_TRY_AGAIN)
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return CommandError(
            f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}",
            EXIT_TRY_AGAIN,
        )
    return None


def describe_database_error(error: Exception) -> str:
    """Return one line about a database that does not answer.

    Never the error's own text, which may hold a password or parameters.
    """
    cause = type(getattr(error, "orig", None) or error).__name__
    return (
        f"the database cannot be used just now ({cause}): is it running, and INTAKE_DATABASE_URL"
        " right? Try again."
    )
