"""What this house tells its parsers beside the bytes, from the settings."""

from parsers.options import Options
from workflow.settings import Settings


def options(settings: Settings) -> Options:
    """How the house's own sources are meant. Holds passwords: hand it on by memory or pipe, never by a command line."""
    return Options(time_zone=settings.time_zone)
