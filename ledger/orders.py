"""What a node tells the chain about its lanes: transfers from its wallet, and a payee's orders.

Each becomes an `External` in the same write that makes it true, so nothing leaves that a restart
would not know of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import trio
from pytoniq_core import Cell

from ledger import externals, lane_rows
from ledger.chain import wallet
from ledger.chain.base import Chain, Contract
from ledger.chain.boc import read_cell
from ledger.chain.clock import ChainClock
from ledger.chain.records import normalized_hash
from ledger.chain.wallet import Transfer
from ledger.contracts import cells
from ledger.externals import Also, External, Externals, Kind
from ledger.keys import Master
from ledger.lane import Account, LaneRow, Op, Order, PayeeLane
from ledger.money import ZERO, Nano
from ledger.settle import Costs, claimable, closable
from ledger.store import Connection, Store, Work
from ledger.voucher import Voucher
from p2p.errors import Closing, Insufficient
from p2p.identity import Identity

LIFE: Final = 300
"""seconds until an external of ours expires; a contract that took it by then has done so."""

GAS_COINS: Final = Nano(20_000_000)
"""What goes with an order to a lane; what is not burnt comes back, about three quarters."""

WALLET_FEES: Final = Nano(15_000_000)
"""What a wallet must hold beside what it sends; opening a lane burns half of it."""

_KINDS: Final = {Op.CLAIM: Kind.CLAIM, Op.CLOSE: Kind.CLOSE}


MOST_TOGETHER: Final = 24
"""transfers in one message: each causes a transaction, and all of them are followed"""

EACH_FEES: Final = Nano(5_000_000)
"""What a wallet must hold besides for each further transfer of a message; it burns a third."""


@final
@dataclass(slots=True, eq=False)
class _Wish:
    """A transfer to a lane that waits for the wallet."""

    kind: Kind
    row: LaneRow
    transfer: Transfer
    also: Work[None] | None
    message: bytes = b""
    error: Insufficient | None = None

    @property
    def over(self) -> bool:
        """Whether somebody has sent it with others, or found that the wallet is too empty."""
        return bool(self.message) or self.error is not None

    def result(self) -> bytes:
        """The hash of the external. Raises `Insufficient`."""
        if self.error is not None:
            raise self.error
        return self.message


def _may_join(chosen: Sequence[_Wish], wish: _Wish) -> bool:
    """Deposits and top-ups of different lanes go together; the rest, each alone."""
    if not chosen:
        return True
    together = {Kind.OPEN, Kind.TOP_UP}
    lanes = {each.row.lane for each in chosen}
    return {chosen[0].kind, wish.kind} <= together and wish.row.lane not in lanes


@final
class Orders:
    """The way from a node to the chain."""

    def __init__(
        self,
        chain: Chain,
        store: Store,
        master: Master,
        clock: ChainClock,
        on_their_way: Externals,
    ) -> None:
        self._chain = chain
        self._store = store
        self._master = master
        self._clock = clock
        self._externals = on_their_way
        self._turn = trio.Lock()
        self._wishes: list[_Wish] = []
        """Transfers to lanes that wait for the wallet."""
        self.wallet = wallet.address(master.wallet.public, chain.network)

    async def deposit(self, row: LaneRow, also: Work[None] | None = None) -> bytes:
        """Bring a lane to life; `also` happens in the same write. See `top_up`.

        Not bounceable, as nothing is there yet; twice is harmless, it is one address.
        """
        transfer = Transfer(
            dest=Account(row.lane),
            value=row.deposit,
            state_init=cells.state_init(row.config),
            bounce=False,
        )
        return await self._send(Kind.OPEN, row, transfer, also)

    async def top_up(self, row: LaneRow, amount: Nano) -> bytes:
        """Put more on a lane; returns the hash of the external.

        Raises `Insufficient` if the wallet holds too little, and what the chain does; then nothing
        has happened.
        """
        return await self._tell(Kind.TOP_UP, row, amount, cells.top_up_body())

    async def start_close(self, row: LaneRow) -> bytes:
        """Begin to close a lane of ours alone. As `top_up`."""
        return await self._tell(Kind.START_CLOSE, row, GAS_COINS, cells.start_close_body())

    async def finish(self, row: LaneRow) -> bytes:
        """Take back what is left, once the delay has passed. As `top_up`."""
        return await self._tell(Kind.FINISH, row, GAS_COINS, cells.finish_body())

    async def withdraw(self, dest: Account, value: Nano, *, bounce: bool, key: bytes) -> bytes:
        """Send coins to any account; the hash of the external, of the first under the same `key`.

        Raises as `top_up` does.
        """
        transfer = Transfer(dest=dest, value=value, bounce=bounce)
        async with self._turn:
            known = await self._store.read(lambda c: externals.errand(c, key))
            if known is not None:
                return known
            external = await self._prepared(Kind.WITHDRAW, None, transfer)
            await self._store.write(lambda c: externals.run_errand(c, key, external))
        self._externals.kick()
        return external.hash

    async def rescue(self, lane: Account, voucher: Voucher) -> bytes:
        """Post a friend's voucher, which pays the friend. As `top_up`."""
        transfer = Transfer(dest=lane, value=GAS_COINS, body=cells.claim_body(voucher))
        async with self._turn:
            external = await self._prepared(Kind.RESCUE, None, transfer)
            await self._store.write(lambda c: externals.post(c, external))
        self._externals.kick()
        return external.hash

    async def order(self, row: LaneRow, op: Op, costs: Costs) -> bytes:
        """A payee's claim or close; returns the hash of the external, of one under way if there is.

        Its sender is nobody: the contract believes our signature, and the lane pays for the
        message. Raises `Insufficient` if the contract would refuse, `Closing` if the lane is past
        that, and what the chain does.
        """
        kind = _KINDS[op]
        lane = Account(row.lane)
        waiting = await self._store.read(lambda c: externals.pending(c, lane))
        for external in waiting:
            if external.kind is kind:
                return external.hash
        _check_order(row, op, costs)
        return await self._order(row, op, await self._chain.account(lane))

    async def _order(self, row: LaneRow, op: Op, holds: Contract | None) -> bytes:
        now = self._clock.now
        until = int(now) + LIFE

        def sign(connection: Connection) -> bytes:
            lane = PayeeLane(lane_rows.load(connection, row.lane) or row)
            boc = _write(lane.order(op, until, now), self._master.payee)
            lane_rows.save(connection, lane.row)
            external = self._external(_KINDS[op], row, boc, until, holds, Account(row.lane))
            externals.post(connection, external)
            return external.hash

        message = await self._store.write(sign)
        self._externals.kick()
        return message

    async def _tell(self, kind: Kind, row: LaneRow, value: Nano, body: Cell) -> bytes:
        transfer = Transfer(dest=Account(row.lane), value=value, body=body)
        return await self._send(kind, row, transfer, None)

    async def _send(
        self, kind: Kind, row: LaneRow, transfer: Transfer, also: Work[None] | None
    ) -> bytes:
        """With whatever else waits for the wallet meanwhile: one message funds many lanes."""
        wish = _Wish(kind=kind, row=row, transfer=transfer, also=also)
        self._wishes.append(wish)
        try:
            async with self._turn:
                while not wish.over:
                    await self._grant()
        finally:
            if wish in self._wishes:  # cancelled, or the chain is away: nothing has happened
                self._wishes.remove(wish)
        return wish.result()

    async def _grant(self) -> None:
        """Send what waits, the longest first, as far as the wallet reaches."""
        holds = await self._ready()
        chosen = self._chosen(holds)
        if not chosen:
            return
        first = chosen[0]
        external = self._transfer(first.kind, first.row, [w.transfer for w in chosen], holds)

        def keep(connection: Connection) -> None:
            for wish in chosen:
                if wish.also is not None:
                    wish.also(connection)
            externals.post(connection, external)
            for wish in chosen[1:]:
                other = Also(lane=wish.row.lane, kind=wish.kind, balance=wish.row.balance)
                externals.add(connection, external.hash, other)

        with trio.CancelScope(shield=True):  # a commit: who waits must hear that it was made
            await self._store.write(keep)
        for wish in chosen:
            wish.message = external.hash
        self._wishes = [wish for wish in self._wishes if not wish.over]
        self._externals.kick()

    def _chosen(self, holds: Contract | None) -> list["_Wish"]:
        """What is sent together; the first of those that wait is told if it cannot be."""
        chosen: list[_Wish] = []
        total = ZERO
        for wish in self._wishes[:]:
            try:
                spare = EACH_FEES * len(chosen)
                _check_affordable(holds, total + wish.transfer.value + spare)
            except Insufficient as error:
                if not chosen:
                    wish.error = error
                    self._wishes.remove(wish)
                continue
            if len(chosen) < MOST_TOGETHER and _may_join(chosen, wish):
                chosen.append(wish)
                total += wish.transfer.value
        return chosen

    async def _prepared(self, kind: Kind, row: LaneRow | None, transfer: Transfer) -> External:
        holds = await self._ready()
        _check_affordable(holds, transfer.value)
        return self._transfer(kind, row, [transfer], holds)

    async def _ready(self) -> Contract | None:
        """The wallet, once nothing of it is on its way: its transfers are numbered."""
        await self._externals.idle(self.wallet)
        await self._clock.hear()
        return await self._chain.account(self.wallet)

    def _transfer(
        self,
        kind: Kind,
        row: LaneRow | None,
        transfers: Sequence[Transfer],
        holds: Contract | None,
    ) -> External:
        until = int(self._clock.now) + LIFE
        boc = wallet.transfer(
            self._master.wallet,
            transfers,
            network=self._chain.network,
            seqno=wallet.seqno(None if holds is None else holds.data),
            valid_until=until,
        )
        return self._external(kind, row, boc, until, holds, self.wallet)

    def _external(
        self,
        kind: Kind,
        row: LaneRow | None,
        boc: bytes,
        until: int,
        holds: Contract | None,
        dest: Account,
    ) -> External:
        return External(
            hash=normalized_hash(read_cell(boc)),
            lane=b"" if row is None else row.lane,
            dest=dest,
            kind=kind,
            boc=boc,
            until=until,
            after_lt=0 if holds is None else holds.last_lt,
            balance=ZERO if row is None else row.balance,
            made_at=float(until - LIFE),
        )


def _check_affordable(holds: Contract | None, value: Nano) -> None:
    balance = ZERO if holds is None else holds.balance
    if balance < value + WALLET_FEES:
        raise Insufficient(
            f"the wallet holds {balance}; {value} and {WALLET_FEES} for fees are needed: send it "
            "more, then try again"
        )


def _check_order(row: LaneRow, op: Op, costs: Costs) -> None:
    if not PayeeLane(row).may(op):
        raise Closing(f"the lane is {row.phase.value}")
    if op is Op.CLAIM and not claimable(row, costs):
        raise Insufficient(f"{row.due} are due: too little to claim at a cost of {costs.claim}")
    if op is Op.CLOSE and not closable(row, costs):
        raise Insufficient(f"too little is left on the lane to close it at a cost of {costs.close}")


def _write(order: Order, payee: Identity) -> bytes:
    write = cells.claim_order if order.op is Op.CLAIM else cells.close_order
    return write(Account(order.voucher.lane), order.voucher, order.valid_until, payee)
