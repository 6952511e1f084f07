"""Memory budget of messages being received and stored: large ones wait for one another."""

import asyncio
from itertools import islice

# octets that any message may hold: their number is bounded by that of the connections
SMALL_OCTETS = 256 * 1024
# times the size limit that all messages may hold together before the larger ones have to wait
SHARED_FACTOR = 4
# the messages that have been large for longest never wait: whatever the others hold, one after the
# other is completed
UNLIMITED_MESSAGES = 2
PATIENCE_SECONDS = 20.0  # total wait of one message


class MemoryBudget:
    """Memory of one process for messages.

    (SHARED_FACTOR + UNLIMITED_MESSAGES) times the limit, and the small ones.
    """

    def __init__(self, limit: int) -> None:
        """Create a budget; `limit` is the size of the largest message, in octets."""
        self.held_octets = 0
        self._shared_limit = SHARED_FACTOR * limit
        # an ordered set: the message that grew large first comes first
        self._large: dict[MemoryShare, None] = {}
        self._release_event = asyncio.Event()

    def may_hold(self, share: "MemoryShare", octets: int) -> bool:
        """Return whether a message may hold so many octets more."""
        if share.octets + octets <= SMALL_OCTETS:
            return True
        self._large.setdefault(share)
        return self.held_octets + octets <= self._shared_limit or share in islice(
            self._large, UNLIMITED_MESSAGES
        )

    def release(self, share: "MemoryShare") -> None:
        """Release the memory of a message, and let the others try again."""
        if not share.octets and share not in self._large:
            return
        self.held_octets -= share.octets
        share.octets = 0
        self._large.pop(share, None)
        self._release_event.set()
        self._release_event = asyncio.Event()

    async def wait_for_release(self) -> None:
        """Return once some memory was released."""
        await self._release_event.wait()


class MemoryShare:
    """The memory of one message, until it is released."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.octets = 0
        self._budget = budget
        self._seconds_left = PATIENCE_SECONDS

    async def grow(self, octets: int) -> bool:
        """Wait for so many octets more and take them; False when that takes too long."""
        clock = asyncio.get_running_loop().time
        while not self._budget.may_hold(self, octets):
            began = clock()
            try:
                async with asyncio.timeout(self._seconds_left):
                    await self._budget.wait_for_release()
            except TimeoutError:
                return False
            self._seconds_left -= clock() - began
        self.octets += octets
        self._budget.held_octets += octets
        return True

    def release(self) -> None:
        """Release everything; doing so again does nothing."""
        self._budget.release(self)
