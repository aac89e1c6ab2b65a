"""Watching lanes for a friend: what it was promised is claimed for it, with no key of its.

Anybody who has the newest voucher of a lane may post it, and bring the gas; the contract pays the
payee alone. A friend whose node sleeps when its payer begins to close would lose what it did not
claim. So once a close is near its end, and the friend has not answered, its claim is posted from
our wallet. That takes 0.02 TON from it and the fees of a transfer; what the contract does not burn
goes to the friend.
"""

from dataclasses import dataclass
from typing import Final, final

import structlog
import trio

from ledger import voucher
from ledger.chain.base import Chain, Contract, Status
from ledger.contracts import cells
from ledger.lane import RESERVE, Account, LaneConfig
from ledger.lanes import Lanes
from ledger.money import Nano
from ledger.policy import Policy
from ledger.settle import LAST_HOURS
from ledger.store import Connection, Row, Store, blob, integer, nano, one
from ledger.voucher import Voucher
from p2p.errors import LocalError, NoCapacity, Rejected, TussahError

MOST: Final = 1_024
"""lanes watched for friends: each costs a query a round"""

AGAIN: Final = 600.0
"""seconds until a claim that did not raise the total is posted again"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A friend's lane and the best voucher that it gave us."""

    config: LaneConfig
    voucher: Voucher

    def check(self, network: int) -> None:
        """Raise `RemoteError` unless the payer signed it, for this lane and chain."""
        if self.config.network != network:
            raise Rejected(f"the lane is of network {self.config.network}, this is {network}")
        if cells.lane_address(self.config) != self.voucher.lane:
            raise Rejected("the voucher is of another lane")
        voucher.verify(self.config.payer_key, self.voucher)


def keep(connection: Connection, watched: Watched) -> None:
    """Watch a lane from now on; a lower voucher replaces none. Raises `NoCapacity`: undo it."""
    held = watched.voucher
    connection.execute(
        "INSERT INTO guarded VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " cumulative = excluded.cumulative, sig = excluded.sig"
        " WHERE excluded.cumulative > cumulative",
        (held.lane, watched.config.pack(), held.cumulative.value, held.sig),
    )
    if integer(one(connection, "SELECT count(*) FROM guarded")[0]) > MOST:
        raise NoCapacity(f"{MOST} lanes of friends are watched already")


def every(connection: Connection) -> list[Watched]:
    """All that are watched."""
    rows = connection.execute("SELECT lane, config, cumulative, sig FROM guarded ORDER BY lane")
    return [_watched(row) for row in rows]


def is_due(watched: Watched, contract: Contract, now: float) -> bool:
    """Whether the friend would lose coins soon, and has not answered."""
    assert contract.data is not None, "an active account has data"
    data = cells.read_data(contract.data)
    if not data.close_at or now < data.close_at - LAST_HOURS:
        return False
    return watched.voucher.cumulative > data.claimed and contract.balance > RESERVE


def _watched(row: Row) -> Watched:
    lane, config, cumulative, sig = row
    held = Voucher(lane=blob(lane), cumulative=nano(cumulative), sig=blob(sig))
    return Watched(config=LaneConfig.parse(blob(config)), voucher=held)


@final
class Guarding:
    """See the module. `run` watches; the rest may be called while it runs."""

    def __init__(self, chain: Chain, store: Store, lanes: Lanes, policy: Policy) -> None:
        self._chain = chain
        self._store = store
        self._lanes = lanes
        self._every = policy.watch_every
        self._posted: dict[bytes, float] = {}

    async def run(self) -> None:
        """Watch until cancelled; what does not answer is looked at again."""
        while True:
            try:
                for watched in await self._store.read(every):
                    await self._mind_safely(watched)
            except LocalError as error:  # the disk, which the store has logged
                log.info("guard.waits", reason=str(error))
            await trio.sleep(self._every)

    async def watch(self, lanes: list[Watched]) -> None:
        """Watch these, too. Raises `RemoteError` for one that is no lane, then none is watched."""
        for watched in lanes:
            watched.check(self._chain.network)

        def work(connection: Connection) -> None:
            for watched in lanes:
                keep(connection, watched)

        await self._store.write(work)

    async def watched(self) -> tuple[Nano, int]:
        """What friends were promised on lanes that are watched, and how many these are."""
        lanes = await self._store.read(every)
        return sum((one.voucher.cumulative for one in lanes), Nano(0)), len(lanes)

    async def _mind_safely(self, watched: Watched) -> None:
        try:
            await self._mind(watched)
        except TussahError as error:
            name = watched.voucher.lane.hex()[:8]
            log.info("guard.postponed", lane=name, reason=str(error))

    async def _mind(self, watched: Watched) -> None:
        lane = watched.voucher.lane
        contract = await self._chain.account(Account(lane))
        if contract is None or contract.status is not Status.ACTIVE:
            return  # over, or not seen yet: a query a round is cheap, a lane forgotten is not
        await self._lanes.costs()  # which hears what time it is on the chain
        if contract.code_hash != cells.CODE_HASH or not is_due(watched, contract, self._lanes.now):
            return
        if trio.current_time() - self._posted.get(lane, -AGAIN) >= AGAIN:
            self._posted[lane] = trio.current_time()
            await self._lanes.rescue(Account(lane), watched.voucher)
            log.info("guard.claimed", lane=lane.hex()[:8])
