"""Memory that a large message took goes back to the system when the message is stored."""

import ctypes

LARGE = 256 * 1024  # octets; what is larger than this lies apart and is given back at once
_M_MMAP_THRESHOLD = -3  # mallopt(3)


def give_back() -> None:
    """Ask glibc so; nothing to do elsewhere. Left alone it learns from the first large mail to keep room for more."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
