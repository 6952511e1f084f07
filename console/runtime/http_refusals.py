"""Requests that waitress refuses before the app sees them."""

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # it ships no types


def find_refused_status(channel: HTTPChannel) -> int | None:
    """Return the status with which the next request of a connection is refused, None if it is not.

    For example 413 for a body over the limit; waitress parses it into an error instead of a
    request.
    """
    refusal = channel.requests[0].error if channel.requests else None
    return int(refusal.code) if refusal is not None else None
