"""A node's lanes on a chain: opened, topped up, watched, claimed from and closed.

Rows in the store are the truth and nothing is kept between two writes, so a node that stops
anywhere goes on from there. What must happen next follows from a row and a look at the chain, not
from what was being done: `settle.decide` for the payee, `settle.tend` for the payer.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias, final

import structlog
import trio

from ledger import externals, lane_rows, lane_writes, settle
from ledger.chain.base import Chain, Contract, Status
from ledger.chain.clock import ChainClock
from ledger.contracts import cells
from ledger.ends import read_end
from ledger.externals import Externals
from ledger.keys import Master
from ledger.lane import (
    MAX_CLOSE_DELAY,
    MIN_CLOSE_DELAY,
    Account,
    LaneConfig,
    LaneRow,
    LaneState,
    Op,
    PayeeLane,
    PayerLane,
    Phase,
    Role,
    Unfit,
    check_lane,
    check_voucher0,
)
from ledger.lane_writes import LaneStory, Told
from ledger.messages import LaneOffer, LanePropose
from ledger.money import Nano
from ledger.orders import Orders
from ledger.policy import Policy
from ledger.settle import Alarm, Claim, Close, Costs, Finish, Months, TopUp, Wait
from ledger.store import Store
from ledger.voucher import Voucher
from p2p.entropy import Entropy
from p2p.errors import (
    Closing,
    LocalError,
    OverCapacity,
    Rejected,
    RemoteError,
    Stale,
    TussahError,
    Unreachable,
)
from p2p.identity import AdnlId

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

END_TIME: Final = 1_800
"""seconds after it was last seen that the rest of a lane of ours is looked for in the wallet"""

_Task: TypeAlias = Callable[[], Awaitable[bytes]]

log = structlog.get_logger()


@final
class Lanes:
    """See the module. `run` sends, watches and acts; all else is called while it runs."""

    def __init__(
        self, chain: Chain, store: Store, master: Master, policy: Policy, *, entropy: Entropy
    ) -> None:
        self._chain = chain
        self._store = store
        self._master = master
        self._policy = policy
        self._entropy = entropy
        self._clock = ChainClock(chain)
        self._externals = Externals(chain, store, self._clock)
        self._orders = Orders(chain, store, master, self._clock, self._externals)
        self._months = Months()
        self._busy: set[bytes] = set()

    @property
    def account(self) -> Account:
        """Our wallet: pays for lanes, and is paid by them."""
        return self._orders.wallet

    @property
    def now(self) -> float:
        """Unix time by the chain's clock; infinite until it was heard."""
        return self._clock.now

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Watch every lane and do what is due, until cancelled.

        A chain that is away is waited for, and a disk that takes nothing.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._externals.run)
            task_status.started()
            while True:
                await self._sweep_all(nursery)
                with trio.move_on_after(self._policy.watch_every):
                    while True:
                        await self._sweep(await self._externals.touched(), nursery)

    # --- the payer ---

    async def open(self, offer: LaneOffer, deposit: Nano, *, peer: AdnlId | None = None) -> LaneRow:
        """Open a lane such as its payee wants, and wait until the chain shows it.

        Cancelled, the opening goes on. Raises `Rejected` for terms we do not want, `Insufficient`
        if the wallet holds too little, then nothing has happened; `Unreachable` if the chain did
        not take the deposit in time, then it is tried again by and by.
        """
        config = self._config(offer)
        lane = PayerLane.new(config, cells.lane_address(config), deposit)
        lane.opening()
        message = await self._orders.deposit(lane.row, lambda c: lane_rows.save(c, lane.row, peer))
        return await self._opened(lane.row.lane, message)

    async def proposal(self, lane: bytes) -> LanePropose:
        """What tells the payee of a lane that is open. Raises `Rejected` for no lane of ours."""
        row = await self._store.read(lambda c: lane_writes.own(c, lane, Role.PAYER))
        contract = await self._chain.account(Account(lane))
        return LanePropose(
            config=row.config,
            code=cells.CODE_HASH,
            voucher=PayerLane(row).voucher0(self._master.payer(row.config.lane_id)),
            lt=0 if contract is None else contract.last_lt,
        )

    async def pay(self, lane: bytes, amount: Nano) -> Voucher:
        """Promise so much more on a lane; durable before it is returned.

        Raises `NoCapacity`, and `Rejected` for no lane of ours.
        """
        return await self._store.write(lambda c: lane_writes.pay_on(c, self._master, lane, amount))

    async def top_up(self, lane: bytes, amount: Nano) -> bytes:
        """Put coins on a lane; the hash of the external. Raises as `Orders.top_up` does."""
        row = await self._own_look(lane, Role.PAYER)
        if row.phase is not Phase.OPEN:
            raise Closing(f"the lane is {row.phase.value}")
        return await self._orders.top_up(row, amount)

    async def start_close(self, lane: bytes) -> bytes:
        """Begin to close without the payee; the hash of the external.

        What is not claimed comes back by itself once the lane's `close_delay` has passed. Raises
        as `top_up` does.
        """
        row = await self._own_look(lane, Role.PAYER)
        if row.phase is not Phase.OPEN:
            raise Closing(f"the lane is {row.phase.value}")
        return await self._orders.start_close(row)

    # --- the payee ---

    def offer(self) -> LaneOffer:
        """What a lane to us must be like."""
        return LaneOffer(
            payee=self.account,
            payee_key=self._master.payee.public,
            network=self._chain.network,
            min_claim=self._policy.min_claim,
            close_delay=self._policy.close_delay,
            codes=(cells.CODE_HASH,),
        )

    async def propose(
        self, config: LaneConfig, voucher0: Voucher, *, peer: AdnlId | None = None
    ) -> LaneRow | Unfit:
        """Count a lane to us as money from now on, or say what speaks against it.

        Proposing again is harmless. Raises `Unreachable` if the chain cannot be asked.
        """
        lane = cells.lane_address(config)
        if (unfit := check_voucher0(config, lane, voucher0)) is not None:
            return unfit
        known = await self._store.read(lambda c: lane_rows.load(c, lane))
        if known is not None and known.role is Role.PAYEE:
            return known
        return await self._admit(config, voucher0, peer)

    async def receive(self, voucher: Voucher) -> Nano:
        """What a voucher adds to the best one of its lane; durable before it is returned.

        Looks at the chain if the last look does not suffice. Raises what `PayeeLane.receive` does,
        `Rejected` for no lane to us, `Unreachable`.
        """
        try:
            return await self._receive(voucher)
        except (Stale, OverCapacity):
            await self.look(voucher.lane)
        return await self._receive(voucher)

    async def claim(self, lane: bytes) -> bytes:
        """Claim what is due, whatever share of it the cost takes; the hash of the external.

        Raises `Insufficient` if the contract would refuse, `Closing` if the lane is past that,
        `Rejected` for no lane to us, `Unreachable`.
        """
        return await self._order(lane, Op.CLAIM)

    async def close(self, lane: bytes) -> bytes:
        """End a lane: to us what is due, to the payer the rest. Raises as `claim` does.

        No voucher is taken from then on, until the chain can no longer take this close.
        """
        return await self._order(lane, Op.CLOSE)

    # --- the wallet ---

    async def withdraw(self, dest: Account, value: Nano, *, bounce: bool, key: bytes) -> bytes:
        """Send coins to any account; the hash of the external.

        Asked for again under the same `key`, it is the same one. Raises `Insufficient` if the
        wallet holds too little, then nothing has happened, and `Unreachable`.
        """
        return await self._orders.withdraw(dest, value, bounce=bounce, key=key)

    async def rescue(self, lane: Account, voucher: Voucher) -> bytes:
        """Claim for a friend, from our wallet; the hash of the external. Raises as `withdraw`."""
        return await self._orders.rescue(lane, voucher)

    # --- either ---

    async def look(self, lane: bytes) -> LaneRow:
        """Read a lane from the chain now. Raises `Rejected` for no lane of ours, `Unreachable`."""
        await self._clock.hear()
        return await self._see(lane)

    async def outcome(self, message: bytes, *, whole: bool = False) -> bool:
        """Wait for an external's transaction, or its death: whether it got there.

        `whole`: and for all that it causes. The caller sets the time limit.
        """
        return await self._externals.outcome(message, whole=whole)

    async def costs(self) -> Costs:
        """What claims and closes cost now. Raises `Unreachable`."""
        await self._clock.hear()
        return self._months.costs(await self._chain.fees(), self.now)

    async def withdrawals(self) -> tuple[Told, ...]:
        """What people took out of the wallet, the oldest first."""
        return await self._store.read(lambda c: lane_writes.told(c, b""))

    async def snapshot(self) -> tuple[LaneStory, ...]:
        """Every lane with its history, our own first, the newest of each first."""
        return await self._store.read(lane_writes.stories)

    # --- watching ---

    async def _sweep_all(self, nursery: trio.Nursery) -> None:
        try:
            lanes = await self._store.read(lane_writes.live)
        except LocalError as error:  # the disk, which the store has logged: the next round may do
            log.info("lanes.unread", reason=str(error))
        else:
            await self._sweep(lanes, nursery)

    async def _sweep(self, lanes: Iterable[bytes], nursery: trio.Nursery) -> None:
        """Look at lanes and do what is due; what chain or disk do not answer for waits."""
        try:
            costs = await self.costs()
            for lane in lanes:
                await self._mind(lane, costs, nursery)
        except (Unreachable, RemoteError) as error:
            log.info("chain.unreachable", reason=str(error))
        except LocalError as error:
            log.info("lanes.unwritten", reason=str(error))

    async def _mind(self, lane: bytes, costs: Costs, nursery: trio.Nursery) -> None:
        try:
            row, is_there = await self._seen(lane)
        except RemoteError as error:  # of this lane; the others are looked at all the same
            log.info("chain.nonsense", lane=lane_writes.short(lane), reason=str(error))
            return
        if not is_there and row.phase not in _COMING:
            return
        task = self._payee_task if row.role is Role.PAYEE else self._payer_task
        if lane not in self._busy and (due := task(row, costs)) is not None:
            self._busy.add(lane)
            nursery.start_soon(self._do, lane, due)

    async def _do(self, lane: bytes, task: _Task) -> None:
        """One thing at a time for each lane; what fails is due again at the next look."""
        try:
            if not await self._store.read(lambda c: externals.busy(c, lane)):
                await task()
        except TussahError as error:
            log.warning("lane.postponed", lane=lane_writes.short(lane), reason=str(error))
        finally:
            self._busy.discard(lane)

    def _payee_task(self, row: LaneRow, costs: Costs) -> _Task | None:
        decision = settle.decide(row, costs, self.now)
        if isinstance(decision, Alarm):
            log.warning("lane.alarm", lane=lane_writes.short(row.lane), left=int(decision.left))
            decision = decision.then
        match decision:
            case Wait():
                return None
            case Claim():
                return lambda: self._orders.order(row, Op.CLAIM, costs)
            case Close():
                return lambda: self._orders.order(row, Op.CLOSE, costs)

    def _payer_task(self, row: LaneRow, costs: Costs) -> _Task | None:
        if row.phase in _COMING:
            return lambda: self._orders.deposit(row)
        match settle.tend(row, self.now, top_up_below=self._policy.top_up_below):
            case Wait():
                return None
            case TopUp(amount=amount):
                return lambda: self._orders.top_up(row, amount)
            case Finish():
                return lambda: self._orders.finish(row)

    async def _see(self, lane: bytes) -> LaneRow:
        row, _ = await self._seen(lane)
        return row

    async def _seen(self, lane: bytes) -> tuple[LaneRow, bool]:
        """What is known of a lane after a look, and whether the chain shows it."""
        at = self.now  # before the account is read: what it says may be newer, never older
        state = _state(await self._chain.account(Account(lane)), at)
        if state is not None:
            return await self._store.write(lambda c: lane_writes.saw(c, lane, state, at)), True
        row = await self._store.read(lambda c: lane_rows.load(c, lane))
        if row is None or row.role is Role.PAYEE or not PayerLane(row).gone(at):
            return await self._store.write(lambda c: lane_writes.saw(c, lane, None, at)), False
        return await self._over(row, at), False

    async def _over(self, row: LaneRow, at: float) -> LaneRow:
        """A lane of ours has ended: what became of its coins is told by what came back."""
        end = await read_end(self._chain, row)
        if end is not None:
            return await self._store.write(lambda c: lane_writes.ended(c, row.lane, end))
        if at < row.seen_at + END_TIME:
            return row
        return await self._store.write(lambda c: lane_writes.saw(c, row.lane, None, at))

    async def _own_look(self, lane: bytes, role: Role) -> LaneRow:
        await self._store.read(lambda c: lane_writes.own(c, lane, role))
        return await self.look(lane)

    # --- parts of the above ---

    def _config(self, offer: LaneOffer) -> LaneConfig:
        _check_offer(offer, self._chain.network)
        lane_id = int.from_bytes(self._entropy.token(8), "big")
        return LaneConfig(
            payer_key=self._master.payer(lane_id).public,
            payee_key=offer.payee_key,
            payer=self.account,
            payee=offer.payee,
            network=offer.network,
            lane_id=lane_id,
            close_delay=offer.close_delay,
            min_claim=offer.min_claim,
        )

    async def _opened(self, lane: bytes, message: bytes) -> LaneRow:
        taken = await self.outcome(message)
        while (row := await self.look(lane)).phase is Phase.OPENING:
            if not taken or await self._store.read(lambda c: externals.load(c, message).finished):
                raise Unreachable("the chain did not take the lane's deposit; it is tried again")
            await self._clock.next_block()
        return row

    async def _admit(
        self, config: LaneConfig, voucher0: Voucher, peer: AdnlId | None
    ) -> LaneRow | Unfit:
        await self._clock.hear()
        at = self.now
        contract = await self._chain.account(Account(voucher0.lane))
        state = _state(contract, at)
        unfit = check_lane(
            config,
            None if contract is None else contract.code_hash,
            state,
            allowed_codes=frozenset({cells.CODE_HASH}),
            network=self._chain.network,
            payee_key=self._master.payee.public,
            payee=self.account,
        )
        if unfit is not None or state is None:
            return unfit or Unfit("not_active", "the chain has no such lane yet")
        row = PayeeLane.new(config, voucher0, state).row
        return await self._store.write(lambda c: lane_writes.admitted(c, row, peer))

    async def _receive(self, voucher: Voucher) -> Nano:
        now = self.now
        return await self._store.write(lambda c: lane_writes.receive_on(c, voucher, now))

    async def _order(self, lane: bytes, op: Op) -> bytes:
        await self._store.read(lambda c: lane_writes.own(c, lane, Role.PAYEE))
        costs = await self.costs()
        return await self._orders.order(await self._see(lane), op, costs)


_COMING: Final = (Phase.PROPOSED, Phase.OPENING)
"""Not on the chain yet."""


# --- what the chain and the other side say ---


def _state(contract: Contract | None, at: float) -> LaneState | None:
    """An account without code is no lane, whatever coins it holds. Raises `CodecError`."""
    if contract is None or contract.status is not Status.ACTIVE or contract.data is None:
        return None
    data = cells.read_data(contract.data)
    return LaneState(
        claimed=data.claimed,
        close_at=data.close_at,
        balance=contract.balance,
        seen_at=at,
        lt=contract.last_lt,
    )


def _check_offer(offer: LaneOffer, network: int) -> None:
    if offer.network != network:
        raise Rejected(f"the payee is on network {offer.network}, we are on {network}")
    if cells.CODE_HASH not in offer.codes:
        raise Rejected("the payee takes no lane of this version's contract")
    if not MIN_CLOSE_DELAY <= offer.close_delay <= MAX_CLOSE_DELAY:
        raise Rejected(f"the payee wants {offer.close_delay} seconds before a lane may be closed")
