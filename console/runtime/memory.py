"""When a process of ours gives memory back.

And how often Python looks for what only holds itself.
"""

import ctypes
import gc

MMAP_THRESHOLD = 256 * 1024  # octets; what is larger than this lies apart and is given back at once
_M_MMAP_THRESHOLD = -3  # mallopt(3)


def return_large_blocks() -> None:
    """Have glibc return what a large message took as soon as it is stored; nothing to do elsewhere.

    Left alone it learns from the first large mail to keep room for more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)


def collect_garbage_less_often() -> None:
    """For whoever files many small items.

    To look for cycles after every 700 of them took a quarter of its time.
    """
    gc.set_threshold(15_000)
