"""A mint at work: `MintCore` behind circuits and links, its book in the store, its lanes on chain.

Every request is one write: what the core changes is durable before what it answers leaves, and
requests that come together share an fsync. Customers come through circuits and are nobody; workers
come over links, which say who they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeVar, final

import structlog
import trio

from ledger import desk, lane_rows, wire
from ledger.book import MintBook, Sheet
from ledger.lane import PayerLane, Role
from ledger.lanes import Lanes
from ledger.messages import (
    MAX_LANES,
    Buy,
    Change,
    Code,
    Err,
    Keysets,
    LaneClose,
    LaneLanes,
    LaneList,
    LanePropose,
    LaneTerms,
    LaneVoucher,
    LaneWant,
    Lock,
    Reply,
    Request,
    Restore,
    Settle,
    Swap,
)
from ledger.mint import BATCH, MintCore
from ledger.mintkeys import MintKeys
from ledger.payee import Payee
from ledger.payouts import Payouts
from ledger.policy import Policy
from ledger.sqlbook import SqlBook
from ledger.store import Connection, Store
from p2p.drive import Clock
from p2p.errors import CodecError, LocalError, RemoteError, TussahError
from p2p.identity import AdnlId
from p2p.node import Node

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

LOOK_AGAIN: Final = 2.0
"""seconds between looks at one lane that customers' vouchers can cause"""

CUSTOMERS: Final = 8
"""whose requests share a commit: each may take 10 ms of signing, for which no worker should wait"""

ROUND: Final = 30.0
"""seconds between looks for expired locks: no lock is shorter, so none is finalised late"""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MintStatistics:
    """A snapshot: counts since the start."""

    requests: int
    refused: int
    """answered with an `Err`"""
    finalised: int
    """locks whose time ran out"""


@final
class MintService:
    """See the module. `run` does the work; `answer_x` may be called while it runs."""

    def __init__(
        self,
        keys: MintKeys,
        store: Store,
        lanes: Lanes,
        payee: Payee,
        policy: Policy,
        clock: Clock,
        *,
        fee_bp: int,
    ) -> None:
        self._keys = keys
        self._store = store
        self._lanes = lanes
        self._payee = payee
        self._policy = policy
        self._clock = clock
        self._core = MintCore(keys, policy, fee_bp)
        self._customers = trio.CapacityLimiter(CUSTOMERS)
        self._payouts: Payouts | None = None
        self._looked: dict[bytes, float] = {}
        self._rolled = trio.Event()
        self._requests = self._refused = self._finalised = 0
        self.digest = b""
        """SHA-256 of the keyset on sale, for the advert: `Fields(mint=...)`."""

    async def run(
        self, node: Node, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve circuits and links until cancelled. Started once `digest` is known.

        Takes all of `node.incoming` and `node.queries`.
        """
        async with trio.open_nursery() as nursery:
            lanes, store, core = self._lanes, self._store, self._core
            self._payouts = Payouts(nursery, node, lanes, store, core, self._policy)
            await self.expire()
            nursery.start_soon(self._run_timer)
            nursery.start_soon(desk.attend, node, self.answer_customer)
            nursery.start_soon(desk.attend_links, node, self.answer_peer)
            task_status.started()

    async def rolled(self) -> None:
        """Wait until `digest` changes after this call: the advert must say so."""
        await self._rolled.wait()

    async def audit(self) -> Sheet:
        """The balance sheet, whose difference must be zero."""
        return await self._store.read(lambda c: self._core.audit(SqlBook(c)))

    def statistics(self) -> MintStatistics:
        """A snapshot."""
        return MintStatistics(
            requests=self._requests, refused=self._refused, finalised=self._finalised
        )

    # --- who asks ---

    async def answer_customer(self, body: bytes) -> bytes:
        """The reply to a request that came through a circuit."""
        return await self._answer(body, None)

    async def answer_peer(self, peer: AdnlId, body: bytes) -> bytes:
        """The reply to a request that came over a link."""
        return await self._answer(body, peer)

    async def _answer(self, body: bytes, peer: AdnlId | None) -> bytes:
        reply = await self._reply(body, peer)
        self._requests += 1
        self._refused += isinstance(reply, Err)
        return wire.encode(reply)

    async def _reply(self, body: bytes, peer: AdnlId | None) -> Reply:
        try:
            request = wire.read_request(body)
        except CodecError as error:
            return Err(Code.BAD_REQUEST, str(error))
        try:
            return await (self._customer(request) if peer is None else self._peer(request, peer))
        except TussahError as error:  # the chain's, or a full disk, which the store logs
            log.info("mint.busy", reason=str(error))
            return Err(Code.BUSY)

    async def _customer(self, request: Request) -> Reply:
        core = self._core
        match request:
            case Keysets():
                return await self._sell(lambda book, now: core.keysets(book, now))
            case Buy():
                return await self._buy(request)
            case Change():
                return await self._sell(lambda book, now: core.change(book, now, request))
            case Swap():
                return await self._sell(lambda book, now: core.swap(book, now, request))
            case Restore():
                return await self._sell(lambda book, now: core.restore(book, now, request))
            case LaneTerms() | LanePropose() | LaneVoucher() | LaneClose():
                return await self._payee.answer(request, None)
            case _:
                return Err(Code.BAD_REQUEST, "ask this over a link")

    async def _peer(self, request: Request, peer: AdnlId) -> Reply:
        core = self._core
        match request:
            case Lock():
                return await self._do(lambda book, now: core.lock(book, now, request, peer))
            case Settle():
                return await self._do(lambda book, now: core.settle(book, now, request, peer))
            case LaneWant():
                assert self._payouts is not None
                return await self._payouts.want(peer)
            case LaneList():
                return await self._store.read(lambda c: self._lanes_to(c, peer))
            case LaneTerms() | LanePropose() | LaneVoucher() | LaneClose():
                return await self._payee.answer(request, peer)
            case _:
                return Err(Code.BAD_REQUEST, "ask this over a circuit")

    async def _do(self, act: Callable[[MintBook, float], T]) -> T:
        now = self._clock.now()
        return await self._store.write(lambda c: act(SqlBook(c), now))

    # --- buying ---

    async def _sell(self, act: Callable[[MintBook, float], T]) -> T:
        async with self._customers:
            return await self._do(act)

    async def _buy(self, request: Buy) -> Reply:
        """A voucher counts if the chain was looked at lately, and showed coins for it."""
        core = self._core
        reply: Reply = await self._sell(lambda book, now: core.buy(book, now, request))
        doubted = isinstance(reply, Err) and reply.code is Code.VOUCHER
        if doubted and await self._look(request.voucher.lane):
            return await self._sell(lambda book, now: core.buy(book, now, request))
        return reply

    async def _look(self, lane: bytes) -> bool:
        """Whether there was a new look; anybody could make us look at the chain without end."""
        now = self._clock.now()
        self._looked = {one: at for one, at in self._looked.items() if at + LOOK_AGAIN > now}
        if lane in self._looked:
            return False
        self._looked[lane] = now
        try:
            await self._lanes.look(lane)
        except RemoteError as error:
            log.info("mint.look.failed", reason=str(error))
            return False
        return True

    # --- workers ---

    def _lanes_to(self, connection: Connection, worker: AdnlId) -> LaneLanes:
        rows = list(lane_rows.every(connection, Role.PAYER, of=worker))[:MAX_LANES]
        keyed = [(row, self._keys.payer(row.config.lane_id)) for row in rows]
        return LaneLanes(tuple((row.config, PayerLane(row).voucher(key)) for row, key in keyed))

    # --- time ---

    async def expire(self) -> None:
        """Finalise what is due, and sell the keyset of this week."""
        core = self._core
        while True:
            count = await self._do(lambda book, now: core.expire(book, now))
            self._finalised += count
            if count < BATCH:
                break
        await self._roll()

    async def _roll(self) -> None:
        keysets = await self._do(lambda book, now: self._core.keysets(book, now))
        digest = sha256(keysets.keysets[-1]).digest()
        if digest != self.digest:
            self.digest = digest
            self._rolled.set()
            self._rolled = trio.Event()
            log.info("mint.keyset", digest=digest.hex()[:8])

    async def _run_timer(self) -> None:
        while True:
            try:
                await trio.sleep(await self._until_due())
                await self.expire()
            except LocalError:
                await trio.sleep(ROUND)  # the disk: the store has said so

    async def _until_due(self) -> float:
        now = self._clock.now()
        due = await self._do(lambda book, now: self._core.next_deadline(book, now))
        return min(max(due - now, 0.0), ROUND)
