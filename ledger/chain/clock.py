"""The chain's time, heard now and then and carried on in between.

What the chain decides by its clock is decided here by the same one: how wrong this machine's is
does not matter, and a simulated chain may travel in time.
"""

from typing import Final, final

import trio

from ledger.chain.base import Chain, Head

ROUNDING: Final = 1.0
"""seconds that a block may be younger than it says: it says whole ones"""


@final
class ChainClock:
    """Follows the newest block."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._heard, self._heard_at = 0.0, 0.0
        self.head: Head | None = None
        """The newest block heard of."""

    @property
    def now(self) -> float:
        """Unix seconds; infinite until the chain was heard, so that nothing counts as fresh."""
        if self.head is None:
            return float("inf")
        return self._heard + (trio.current_time() - self._heard_at)

    async def hear(self) -> Head:
        """Ask for the newest block. A server that lags does not turn time back.

        Nor does a block's rounding: a look would seem older than the one before it, and be
        ignored. Raises what `Chain.head` does.
        """
        head = await self._chain.head()
        if self.head is None or head.seqno > self.head.seqno:
            carried_on = self.head is not None and head.time <= self.now <= head.time + ROUNDING
            self._heard = self.now if carried_on else float(head.time)
            self.head, self._heard_at = head, trio.current_time()
        return self.head

    async def next_block(self) -> Head:
        """Wait for a block newer than the last one heard of; the caller sets the time limit."""
        seqno = 0 if self.head is None else self.head.seqno + 1
        await self._chain.wait(seqno)
        return await self.hear()
