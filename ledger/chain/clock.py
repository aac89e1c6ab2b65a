"""The chain's time, heard now and then and carried on in between.

What the chain decides by its clock is decided here by the same one: how wrong this machine's is
does not matter, and a simulated chain may travel in time.
"""

from typing import final

import trio

from ledger.chain.base import Chain, Head


@final
class ChainClock:
    """Follows the newest block."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._heard_at = 0.0
        self.head: Head | None = None
        """The newest block heard of."""

    @property
    def now(self) -> float:
        """Unix seconds; infinite until the chain was heard, so that nothing counts as fresh."""
        if self.head is None:
            return float("inf")
        return self.head.time + (trio.current_time() - self._heard_at)

    async def hear(self) -> Head:
        """Ask for the newest block. A server that lags does not turn time back.

        Raises what `Chain.head` does.
        """
        head = await self._chain.head()
        if self.head is None or head.seqno > self.head.seqno:
            self.head, self._heard_at = head, trio.current_time()
        return self.head

    async def next_block(self) -> Head:
        """Wait for a block newer than the last one heard of; the caller sets the time limit."""
        seqno = 0 if self.head is None else self.head.seqno + 1
        await self._chain.wait(seqno)
        return await self.hear()
