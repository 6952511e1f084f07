"""The memory that messages take while they are received and stored.

Bounded, and large ones wait for one another.
"""

import asyncio
from itertools import islice

SMALL = (
    256 * 1024
)  # octets that any message may hold: there are not many more of them than connections
# times the size limit that all messages may hold together, before the larger of them have to wait
SHARED_FACTOR = 4
# of those, the longest there, go on all the same: so whatever the others hold, one after the other
# ends
UNLIMITED_MESSAGES = 2
PATIENCE_SECONDS = 20.0  # that a message waits in all


class MemoryBudget:
    """The memory of one process for messages.

    (SHARED + FIRST) times the limit, and the small ones.
    """

    def __init__(self, limit: int) -> None:
        """`limit` is the size of the largest message, in octets."""
        self.held_octets = 0
        self._shared = SHARED_FACTOR * limit
        self._large: dict[
            MemoryShare, None
        ] = {}  # a set in order: the one that grew large first stands first
        self._less = asyncio.Event()

    def may_hold(self, share: "MemoryShare", octets: int) -> bool:
        """Return whether a message may hold so many octets more."""
        if share.octets + octets <= SMALL:
            return True
        self._large.setdefault(share)
        return self.held_octets + octets <= self._shared or share in islice(
            self._large, UNLIMITED_MESSAGES
        )

    def release(self, share: "MemoryShare") -> None:
        """Take back what a message held, and let the others look again."""
        if not share.octets and share not in self._large:
            return
        self.held_octets -= share.octets
        share.octets = 0
        self._large.pop(share, None)
        self._less.set()
        self._less = asyncio.Event()

    async def wait_for_release(self) -> None:
        """Return once something was given back."""
        await self._less.wait()


class MemoryShare:
    """What one message holds, until it is closed."""

    def __init__(self, room: MemoryBudget) -> None:
        self.octets = 0
        self._room = room
        self._patience = PATIENCE_SECONDS

    async def grow(self, octets: int) -> bool:
        """Wait until there is room for so many more and take it; False when that takes too long."""
        clock = asyncio.get_running_loop().time
        while not self._room.may_hold(self, octets):
            began = clock()
            try:
                async with asyncio.timeout(self._patience):
                    await self._room.wait_for_release()
            except TimeoutError:
                return False
            self._patience -= clock() - began
        self.octets += octets
        self._room.held_octets += octets
        return True

    def release(self) -> None:
        """Give everything back; doing so again does nothing."""
        self._room.release(self)
