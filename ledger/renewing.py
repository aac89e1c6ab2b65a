"""New credits for old ones: swapped before they are too old to be spent, and after a loss.

A mint's keys of a week can be spent for four, and swapped for eight. What is left in the fourth is
swapped at a random moment. Credits that were found again after a loss may have been spent before:
a swap is what tells. Each goes over a circuit of its own, is written down before it leaves, and is
sent again byte for byte until it is answered, as a purchase is.
"""

from collections.abc import Sequence
from typing import Final, final

import structlog
import trio

from ledger import coins, pins, wire
from ledger.credit import MAX_COINS, MOST, Credit, Keyset
from ledger.line import Line, Refused, opened
from ledger.messages import Code, Err, Sigs
from ledger.mints import Mints
from ledger.policy import Policy
from ledger.store import Connection, Store
from p2p.drive import Clock
from p2p.entropy import Entropy
from p2p.errors import BadSignature, TussahError
from p2p.identity import AdnlId
from p2p.node import Node

LOOK_WITHIN: Final = 6 * 3_600.0
"""seconds: uniform, until the next look for old credits; there is a week for it"""

AGAIN: Final = 60.0
"""seconds until a mint that did not answer is asked again, at the least"""

MOST_WORTH: Final = 1 << MOST
"""nano in one swap; a spend takes less than twice as much"""

log = structlog.get_logger()


@final
class Renewing:
    """See the module. `run` does the work, until nothing is left to be swapped, again and again."""

    def __init__(
        self,
        node: Node,
        store: Store,
        seed: bytes,
        policy: Policy,
        mints: Mints,
        clock: Clock,
        *,
        entropy: Entropy,
        relays: int,
    ) -> None:
        self._node = node
        self._store = store
        self._seed = seed
        self._policy = policy
        self._mints = mints
        self._clock = clock
        self._entropy = entropy
        self._relays = relays
        self._more = trio.Event()
        self._size = MAX_COINS
        """credits of the next swap: fewer after one that was refused"""

    def wake(self) -> None:
        """Credits have been found."""
        self._more.set()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self._more = trio.Event()
            wait = LOOK_WITHIN * self._entropy.uniform()
            for mint in self._mints.usable():
                wait = min(wait, await self._renew(mint))
            with trio.move_on_after(wait):
                await self._more.wait()

    async def _renew(self, mint: AdnlId) -> float:
        """Swap what should be; how soon to look again."""
        try:
            while await self._one(mint):  # noqa: ASYNC110 - a pause between two circuits
                await trio.sleep(self._between(*self._policy.change_pause))
        except (TussahError, Refused) as error:
            log.info("swap.postponed", reason=str(error))
            return AGAIN * (1 + self._entropy.uniform())
        return LOOK_WITHIN

    async def _one(self, mint: AdnlId) -> bool:
        """One swap over one circuit; False if there is none to make."""
        now = self._clock.now()
        waiting, old = await self._store.read(
            lambda c: (coins.swaps(c, mint), coins.to_swap(c, mint, now))
        )
        if not waiting and not old:
            return False
        async with opened(self._node, mint, relays=self._relays) as line:
            if waiting:
                rid, epoch, body = waiting[0]
                await self._again(line, mint, rid, epoch, body)
            else:
                await self._swap(line, mint, old)
        return True

    async def _swap(self, line: Line, mint: AdnlId, old: Sequence[Credit]) -> None:
        keyset = await self._mints.on_sale(line, mint)
        batch, rid = _batch(old, self._size), self._entropy.token(16)

        def work(connection: Connection) -> bytes | None:
            if not pins.pin(connection, keyset):
                return None
            return wire.encode(coins.swap(connection, self._seed, batch, keyset, rid))

        body = await self._store.write(work)
        if body is None:  # and that is kept, as proof
            self._accused(mint)
            raise BadSignature("the mint has signed two keysets for one week")
        await self._send(line, keyset, rid, body, len(batch))

    async def _again(self, line: Line, mint: AdnlId, rid: bytes, epoch: int, body: bytes) -> None:
        public = self._mints.listed(mint).public
        keyset = await self._store.read(lambda c: pins.pinned(c, mint, epoch, public))
        assert keyset is not None, "it was pinned when the swap was written down"
        await self._send(line, keyset, rid, body, 1)

    async def _send(self, line: Line, keyset: Keyset, rid: bytes, body: bytes, size: int) -> None:
        answer = await line.call(body)
        reply = wire.answer(answer, Sigs)
        if isinstance(reply, Err):
            await self._refused(rid, reply, size)
            return
        try:
            value = await self._store.write(lambda c: coins.sold(c, self._seed, keyset, rid, reply))
        except BadSignature:
            self._accused(keyset.mint)
            await self._store.write(lambda c: _cheated(c, keyset.mint, rid, answer))
            raise
        self._size = min(MAX_COINS, 2 * self._size)
        log.info("credits.swapped", nano=value.value)

    async def _refused(self, rid: bytes, err: Err, size: int) -> None:
        """One bad credit refuses all: halves tell which, as the mint does not."""
        if err.code is Code.BUSY:
            raise Refused(err)
        if err.code is not Code.STALE_KEYSET:
            self._size = max(1, size // 2)
        if size > 1 or err.code is Code.STALE_KEYSET:
            await self._store.write(lambda c: coins.refused(c, rid))
            return
        if err.code not in (Code.SPENT, Code.EXPIRED):
            log.warning("swap.refused", code=err.code.value)
        await self._store.write(lambda c: coins.worthless(c, rid))

    def _accused(self, mint: AdnlId) -> None:
        self._mints.accused |= {mint}
        log.warning("mint.accused")

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * self._entropy.uniform()


def _batch(old: Sequence[Credit], most: int) -> Sequence[Credit]:
    """As many of the first as one swap takes."""
    batch: list[Credit] = []
    value = 0
    for coin in old[:most]:
        value += coin.value.value
        if batch and value > MOST_WORTH:
            break
        batch.append(coin)
    return batch


def _cheated(connection: Connection, mint: AdnlId, rid: bytes, answer: bytes) -> None:
    coins.spoilt(connection, rid)
    pins.accuse(connection, mint, rid, answer)
