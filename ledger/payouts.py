"""A mint's lanes to workers: opened when one wants a lane and is worth it, proposed until taken.

What is under way is kept nowhere but in the lane's row: a worker asks until it has its lane, and
each time the next step is taken, so a mint that stopped anywhere goes on.
"""

from typing import Final, Protocol, TypeVar, final

import structlog
import trio

from ledger import lane_rows, wire
from ledger.book import LaneOut
from ledger.lane import LaneRow, Phase, Role
from ledger.lanes import Lanes
from ledger.messages import (
    Code,
    Err,
    LaneAccept,
    LaneOffer,
    LaneProgress,
    LaneTerms,
    Message,
    Progress,
    Reply,
)
from ledger.mint import MintCore
from ledger.policy import Policy
from ledger.sqlbook import SqlBook
from ledger.store import Connection, Store, integer, one
from p2p.errors import Insufficient, Rejected, TussahError
from p2p.identity import AdnlId

OPENING: Final = 8
"""lanes opened at once: one wallet sends them, one transfer at a time"""

MOST: Final = 1_024
"""lanes to workers: each holds a deposit of ours"""

PROPOSALS: Final = 5
PROPOSE_EVERY: Final = 2.0
"""Times that a lane is proposed, and seconds between: the worker's view of the chain may lag."""

R = TypeVar("R", bound=Reply)

log = structlog.get_logger()


class Caller(Protocol):
    """What a node does."""

    async def query(self, peer: AdnlId, body: bytes) -> bytes:
        """As `Node.query`."""


async def call(caller: Caller, peer: AdnlId, request: Message, kind: type[R]) -> R | Err:
    """Ask a peer, and read its reply. Raises what `Node.query` does, `CodecError` among it."""
    return wire.answer(await caller.query(peer, wire.encode(request)), kind)


@final
class Payouts:
    """See the module. Its tasks run in `nursery`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        caller: Caller,
        lanes: Lanes,
        store: Store,
        core: MintCore,
        policy: Policy,
    ) -> None:
        self._nursery = nursery
        self._caller = caller
        self._lanes = lanes
        self._store = store
        self._core = core
        self._policy = policy
        self._busy: set[AdnlId] = set()

    async def want(self, worker: AdnlId) -> LaneProgress:
        """Take the next step towards a lane to this worker, and say how far it is."""
        if worker in self._busy:
            return LaneProgress(Progress.OPENING)
        row = await self._store.read(lambda c: _newest(c, worker))
        if row is None and not await self._store.read(lambda c: self._grants(c, worker)):
            return LaneProgress(Progress.LIMIT)
        if row is None or row.phase is Phase.OPEN:
            self._busy.add(worker)
            self._nursery.start_soon(self._advance, worker, row)
        is_open = row is not None and row.phase is Phase.OPEN
        return LaneProgress(Progress.OPEN if is_open else Progress.OPENING)

    def _grants(self, connection: Connection, worker: AdnlId) -> bool:
        """A stranger could have us lock up coins: first it earns half of what we may owe it."""
        (count,) = one(
            connection,
            "SELECT count(*) FROM lane_out JOIN lane USING (id) WHERE phase != ?",
            Phase.CLOSED.value,
        )
        if len(self._busy) >= OPENING or integer(count) >= MOST:
            return False
        return SqlBook(connection).owed(worker) * 2 >= self._policy.iou_limit

    async def _advance(self, worker: AdnlId, row: LaneRow | None) -> None:
        try:
            if row is None:
                row = await self._open(worker)
            await self._propose(worker, row.lane)
        except (TussahError, KeyError) as error:
            log.info("payout.postponed", worker=worker.hex()[:8], reason=str(error))
        finally:
            self._busy.discard(worker)

    async def _open(self, worker: AdnlId) -> LaneRow:
        offer = await call(self._caller, worker, LaneTerms(), LaneOffer)
        if isinstance(offer, Err):
            raise Rejected(offer.code)
        try:
            return await self._lanes.open(offer, self._policy.payout_deposit, peer=worker)
        except Insufficient as error:
            log.warning("mint.wallet.low", reason=str(error))
            raise

    async def _propose(self, worker: AdnlId, lane: bytes) -> None:
        """On the book first: the worker may lock coins as soon as it has accepted."""
        await self._store.write(lambda c: _book(c, worker, lane))
        for _ in range(PROPOSALS):
            proposal = await self._lanes.proposal(lane)
            reply = await call(self._caller, worker, proposal, LaneAccept)
            if isinstance(reply, LaneAccept):
                log.info("payout.open", worker=worker.hex()[:8], lane=lane.hex()[:8])
                await self._store.write(lambda c: self._core.clear(SqlBook(c), worker))
                return
            if reply.code is not Code.NOT_ACTIVE and reply.code is not Code.BUSY:
                raise Rejected(f"{reply.code}: {reply.detail}")
            await trio.sleep(PROPOSE_EVERY)


def _newest(connection: Connection, worker: AdnlId) -> LaneRow | None:
    """The lane to this worker that is, or will be, open."""
    rows = lane_rows.every(connection, Role.PAYER, of=worker)
    usable = (Phase.PROPOSED, Phase.OPENING, Phase.OPEN)
    return next((row for row in rows if row.phase in usable), None)


def _book(connection: Connection, worker: AdnlId, lane: bytes) -> None:
    row = lane_rows.load(connection, lane)
    if row is None:
        raise KeyError("no such lane")
    SqlBook(connection).save_lane_out(LaneOut(row=row, worker=worker))
