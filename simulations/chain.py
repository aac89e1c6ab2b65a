"""A chain in memory, the twin of `EmbeddedChain`: accounts, wallets and lanes without a machine.

`ChainTwin.view` is a `ledger.chain.base.Chain` for one node, with that node's bad luck: externals
that are lost, late or doubled, a server that shows an old state. The bytes are TON's, signatures
are checked, the rules of a lane are `simulations/lane_rules.py`, and coins are conserved by
construction. Fees are round numbers near the real ones; blocks are made when somebody looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Final, final

import nacl.exceptions
import nacl.signing
import trio
from pytoniq_core import Builder, Cell
from pytoniq_core.tlb.transaction import MessageAny

from ledger import voucher as vouchers
from ledger.chain import wallet
from ledger.chain.base import (
    NOT_ACTIVE,
    Contract,
    Fees,
    GetFailed,
    Head,
    Message,
    NotAccepted,
    StackValue,
    Status,
    Tx,
)
from ledger.chain.boc import read_cell
from ledger.chain.config import mainnet_config
from ledger.chain.records import normalized_hash, read_external, read_fees, read_message
from ledger.contracts import cells
from ledger.contracts.cells import Paid
from ledger.lane import Account, Op
from ledger.money import ZERO, Nano
from ledger.voucher import Voucher
from p2p.errors import BadSignature, CodecError
from simulations import lane_rules as rules
from simulations.faults import Kind
from simulations.lane_rules import LEAST_INTERNAL, UNKNOWN, Lane, Outcome, Prices

NETWORK: Final = -4242
"""global id, as of every embedded chain"""

BLOCK: Final = 5.0
"""seconds between blocks"""

LT_STEP: Final = 1_000_000

GAS: Final = 2_200_000
"""nano that any transaction of a contract burns, about"""

FORWARD: Final = 400_000
"""nano for a message between accounts; two thirds of it travel with it"""

ORDER_BITS: Final = 875 + 815
"""of an order and its voucher without the digits of the total"""

SIGNATURE: Final = 64
REFUSED_SIGNATURE, REFUSED_SEQNO, REFUSED_LATE = 135, 133, 136
"""exit codes of the wallet"""

GIVER: Final = Account(sha256(b"tussah/giver").digest())

Luck = Callable[[Kind], float | None]
"""Whether a fault of this kind strikes now, and by how many seconds."""


@dataclass(slots=True)
class _Account:
    balance: int = 0
    lane: Lane | None = None
    wallet_key: bytes | None = None
    seqno: int = 0
    last_lt: int = 0
    last_hash: bytes = bytes(32)
    history: list[Tx] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _External:
    dest: Account
    body: Cell
    data: Cell | None
    """Of the StateInit that came with it."""
    name: bytes
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Where all coins are."""

    given: int
    accounts: int
    fees: int

    @property
    def exact(self) -> bool:
        """Whether not a nano is missing or too many."""
        return self.given == self.accounts + self.fees


@final
class ChainTwin:
    """See the module. `now` is Unix time; without a block time, blocks come by `mine` alone."""

    def __init__(self, now: Callable[[], float], *, block_time: float | None = BLOCK) -> None:
        self._wall = now
        self._period = block_time
        self._born = now()
        self._ahead = 0.0
        self._accounts: dict[Account, _Account] = {}
        self._pending: list[tuple[int, _External | tuple[Account, int]]] = []
        self._seqno = 0
        self._time = int(self._born)
        self._lt = 0
        self._given = self._fees = 0
        self.fee_table = _fee_table()
        self.prices = Prices.of(self.fee_table)
        self.ended: list[tuple[Account, Lane, int]] = []
        """Lanes that were deleted: as they were, with all that was claimed in the end, and when."""

    def view(self, luck: Luck = lambda kind: None) -> "View":
        """The chain as one node sees it."""
        return View(self, luck)

    def fund(self, dest: Account, value: Nano) -> None:
        """Coins from nowhere, with the next block."""
        self._pending.append((self._head_seqno() + 1, (dest, value.value)))

    def travel(self, seconds: float) -> None:
        """Move the chain's time ahead."""
        self._ahead += seconds

    def sums(self) -> Sums:
        """Where all coins are."""
        self.catch_up()
        held = sum(account.balance for account in self._accounts.values())
        return Sums(given=self._given, accounts=held, fees=self._fees)

    def lane(self, address: bytes) -> Lane | None:
        """A lane as it is now."""
        self.catch_up()
        account = self._accounts.get(Account(address))
        return None if account is None else account.lane

    def balance(self, address: bytes) -> int:
        """Of any account."""
        self.catch_up()
        account = self._accounts.get(Account(address))
        return 0 if account is None else account.balance

    # --- time ---

    @property
    def now(self) -> float:
        """Unix time of the chain."""
        return self._wall() + self._ahead

    def _head_seqno(self) -> int:
        if self._period is None:
            return self._seqno
        return max(self._seqno, int((self.now - self._born) / self._period))

    def head(self) -> Head:
        """The newest block."""
        self.catch_up()
        seqno = self._head_seqno()
        return Head(seqno=seqno, time=self._block_time(seqno), lt=self._lt)

    def until(self, seqno: int) -> float:
        """seconds until a block"""
        if self._period is None:
            return float("inf")
        return max(0.0, self._born + seqno * self._period - self.now)

    def _block_time(self, seqno: int) -> int:
        if self._period is None:
            return self._time
        return max(self._time, int(self._born + seqno * self._period))

    def catch_up(self) -> None:
        """Make the blocks that should be there by now."""
        if self._period is None:
            return
        head = self._head_seqno()
        while self._pending and min(due for due, _ in self._pending) <= head:
            self._mine(max(self._seqno + 1, min(due for due, _ in self._pending)))
        self._seqno = max(self._seqno, head)

    def mine(self, time: int | None = None) -> None:
        """A block now, for a chain that has no block time."""
        self._time = int(self.now) if time is None else time
        self._mine(self._seqno + 1)

    def _mine(self, seqno: int) -> None:
        due = [one for at, one in self._pending if at <= seqno]
        self._pending = [(at, one) for at, one in self._pending if at > seqno]
        self._seqno, self._time = seqno, self._block_time(seqno)
        for one in due:
            if isinstance(one, _External):
                self._take(one)
            else:
                dest, value = one
                self._given += value
                self._deliver(self._message(GIVER, dest, value, None, bounce=False), None)

    # --- externals ---

    def post(self, boc: bytes, delays: list[int]) -> bytes:
        """Hand in an external, to be taken so many blocks later than the next, once for each.

        Tried on the newest state first. Raises `NotAccepted`.
        """
        self.catch_up()
        external = _read(boc)
        refusal = self._refusal(external)
        if refusal is not None:
            raise NotAccepted("not accepted by its account", refusal)
        for delay in delays:
            self._pending.append((self._head_seqno() + 1 + delay, external))
        return external.name

    def _refusal(self, external: _External) -> int | None:
        account = self._accounts.get(external.dest, _Account())
        if account.lane is not None:
            outcome = self._order(external, account.lane)
            return outcome if isinstance(outcome, int) else None
        return self._wallet_refuses(external, account)

    def _take(self, external: _External) -> None:
        if self._refusal(external) is not None:
            return
        account = self._account(external.dest)
        if account.lane is not None:
            self._take_order(external, account, account.lane)
        else:
            self._take_transfer(external, account)

    # --- wallets ---

    def _wallet_refuses(self, external: _External, account: _Account) -> int | None:
        key = account.wallet_key or _key_in(external)
        body = external.body
        if key is None or len(body.bits) < SIGNATURE * 8 + 96 or account.balance < GAS:
            return NOT_ACTIVE
        signed = Builder().store_bits(body.bits[: -SIGNATURE * 8])
        for ref in body.refs:
            signed.store_ref(ref)
        if not _good(key, body.bits[-SIGNATURE * 8 :].tobytes(), bytes(signed.end_cell().hash)):
            return REFUSED_SIGNATURE
        reader = body.begin_parse()
        reader.skip_bits(64)
        until, seqno = reader.load_uint(32), reader.load_uint(32)
        if seqno != account.seqno:
            return REFUSED_SEQNO
        return REFUSED_LATE if until <= self._now() else None

    def _now(self) -> int:
        return self._block_time(self._head_seqno())

    def _take_transfer(self, external: _External, account: _Account) -> None:
        account.wallet_key = account.wallet_key or _key_in(external)
        account.seqno += 1
        spent = self._burn(account, GAS)
        sent: list[tuple[Message, Cell | None]] = []
        for cell in _messages(external.body):
            order, init = read_message(cell), MessageAny.deserialize(cell.begin_parse()).init
            cost = order.value.value + FORWARD
            if order.dest is None or cost > account.balance:
                continue
            account.balance -= cost
            self._fees += FORWARD
            message = self._message(
                external.dest, order.dest, order.value.value, order.body, bounce=order.bounce
            )
            sent.append((message, None if init is None else init.data))
        out = tuple(message for message, _ in sent)
        self._record(external.dest, external.message, out, spent + FORWARD // 3 * len(out))
        for message, data in sent:
            self._deliver(message, data)

    # --- lanes ---

    def _order(self, external: _External, lane: Lane) -> Outcome | int:
        """What a payee's order would do; an exit code if the contract refuses it."""
        reader = external.body.begin_parse()
        try:
            op, signature, order = reader.load_uint(32), reader.load_bytes(64), reader.to_cell()
            voucher = _voucher(order.refs[0], external.dest)
            fields = order.begin_parse()
            fields.load_address()
            until, inner = fields.load_uint(32), fields.load_uint(32)
        except Exception as error:  # pytoniq-core raises whatever it stumbles upon
            raise CodecError("no order") from error
        if not _good(lane.config.payee_key, signature, bytes(order.hash)):
            return 101
        if self._now() > until:
            return rules.LATE
        if op != inner:
            return 104
        if op not in (Op.CLAIM, Op.CLOSE):
            return 100
        try:
            vouchers.verify(lane.config.payer_key, voucher)
        except BadSignature:
            return 102
        decide = rules.claim if op == Op.CLAIM else rules.close
        total = voucher.cumulative.value
        left = replace(lane, balance=max(0, lane.balance - self._import(total)))
        return decide(left, total, until, self._now(), self.prices)

    def _import(self, total: int) -> int:
        """What an order's own way in costs, before the contract runs: two cells beside the root."""
        bits = ORDER_BITS + 8 * ((total.bit_length() + 7) // 8)
        return self.fee_table.forward(bits, 2).value

    def _take_order(self, external: _External, account: _Account, lane: Lane) -> None:
        outcome = self._order(external, lane)
        assert isinstance(outcome, Outcome)
        self._apply(external.dest, account, outcome, external.message)

    def _operate(self, message: Message, account: _Account, lane: Lane) -> bool:
        """What a message from an account does to a lane; False if it fails."""
        assert message.dest is not None
        op = _op(message.body)
        before = replace(lane, balance=lane.balance - message.value.value)
        if op in (0, Op.TOP_UP):
            self._record(message.dest, message, (), self._burn(account, GAS // 2))
            return True
        if message.value.value < LEAST_INTERNAL:
            return False
        outcome = self._decide(message, op, before)
        if isinstance(outcome, int):
            return False
        self._apply(message.dest, account, outcome, message)
        return True

    def _decide(self, message: Message, op: int, lane: Lane) -> Outcome | int:
        """`lane` is as it was before the message brought its coins."""
        now = self._now()
        match op:
            case Op.CLAIM:
                return self._claim_for(message, lane)
            case Op.START_CLOSE:
                from_payer = message.source == lane.config.payer
                return rules.start_close(lane, from_payer=from_payer, now=now)
            case Op.FINISH:
                balance = lane.balance + message.value.value
                return rules.finish(replace(lane, balance=balance), now)
            case _:
                return UNKNOWN

    def _claim_for(self, message: Message, lane: Lane) -> Outcome | int:
        assert message.dest is not None
        voucher = _voucher(message.body.refs[0], message.dest)
        try:
            vouchers.verify(lane.config.payer_key, voucher)
        except BadSignature:
            return 102
        return rules.claim_for(lane, voucher.cumulative.value)

    def _apply(self, at: Account, account: _Account, outcome: Outcome, cause: Message) -> None:
        """Pay what an outcome pays; what is neither paid nor left on the lane were fees."""
        lane, after = account.lane, outcome.lane
        assert lane is not None
        claimed = lane.claimed + outcome.payee if after is None else after.claimed
        out = tuple(
            self._message(at, dest, amount, _payout(why, claimed), bounce=False)
            for dest, amount, why in _payouts(lane, outcome, cause)
            if amount > 0
        )
        left = 0 if after is None else after.balance
        fees = account.balance - left - sum(message.value.value for message in out)
        self._fees += fees
        account.balance, account.lane = left, after
        if after is None:
            self.ended.append((at, replace(lane, claimed=claimed), self._now()))
        self._record(at, cause, out, fees)
        for message in out:
            self._deliver(message, None)

    # --- messages between accounts ---

    def _deliver(self, message: Message, data: Cell | None) -> None:
        assert message.dest is not None
        account = self._account(message.dest)
        account.balance += message.value.value
        if account.lane is None and data is not None:
            self._deploy(message.dest, account, data)
        if account.lane is not None:
            account.lane = replace(account.lane, balance=account.balance)
            if not self._operate(message, account, account.lane):
                self._bounce(message, account)
            elif account.lane is not None:
                account.lane = replace(account.lane, balance=account.balance)
        elif account.wallet_key is None and message.bounce:
            self._bounce(message, account)
        else:
            self._record(message.dest, message, (), 0)

    def _deploy(self, dest: Account, account: _Account, data: Cell) -> None:
        try:
            config = cells.read_data(data).config
        except CodecError:
            return
        if cells.lane_address(config) == dest:
            account.lane = Lane(config=config, balance=account.balance)

    def _bounce(self, message: Message, account: _Account) -> None:
        """What came goes back, less the gas."""
        assert message.dest is not None
        account.balance -= message.value.value
        if account.lane is not None:
            account.lane = replace(account.lane, balance=account.balance)
        back = message.value.value - GAS - FORWARD
        if not message.bounce or back <= 0 or message.source is None:
            self._fees += message.value.value
            self._record(message.dest, message, (), message.value.value)
            return
        self._fees += GAS + FORWARD
        bounced = self._message(message.dest, message.source, back, None, bounce=False)
        bounced = replace(bounced, bounced=True)
        self._record(message.dest, message, (bounced,), GAS + FORWARD)
        self._deliver(bounced, None)

    def _message(
        self, source: Account, dest: Account, value: int, body: Cell | None, *, bounce: bool
    ) -> Message:
        self._lt += 1
        return Message(
            source=source,
            dest=dest,
            value=Nano(value),
            forward_fee=ZERO,
            bounce=bounce,
            bounced=False,
            body=body or Cell.empty(),
            init=None,
            hash=sha256(b"message" + source + dest + self._lt.to_bytes(8, "big")).digest(),
        )

    def _burn(self, account: _Account, amount: int) -> int:
        spent = min(amount, account.balance)
        account.balance -= spent
        self._fees += spent
        return spent

    def _record(self, at: Account, cause: Message, out: tuple[Message, ...], fees: int) -> None:
        self._lt += LT_STEP
        account = self._account(at)
        name = sha256(b"tx" + at + self._lt.to_bytes(8, "big")).digest()
        account.last_lt, account.last_hash = self._lt, name
        account.history.append(
            Tx(
                account=at,
                lt=self._lt,
                hash=name,
                time=self._now(),
                fees=Nano(max(0, fees)),
                incoming=cause,
                outgoing=out,
                exit_code=0,
                success=True,
                gas=GAS // 400,
            )
        )

    def _account(self, at: Account) -> _Account:
        return self._accounts.setdefault(at, _Account())

    # --- what is seen ---

    def contract(self, at: Account) -> Contract | None:
        """The state of an account; a lane that has ended is none."""
        self.catch_up()
        account = self._accounts.get(at)
        if account is None or (not account.balance and account.lane is None):
            return None
        data, code = _data(account), None
        if account.lane is not None:
            code = cells.CODE
        elif account.wallet_key is not None:
            code = wallet.CODE
        return Contract(
            address=at,
            status=Status.UNINIT if code is None else Status.ACTIVE,
            balance=Nano(account.balance),
            code=code,
            data=data,
            last_lt=account.last_lt,
            last_hash=account.last_hash,
        )

    def history(self, at: Account, after_lt: int, limit: int) -> list[Tx]:
        """Transactions of an account, oldest first."""
        self.catch_up()
        account = self._accounts.get(at)
        found = [] if account is None else account.history
        return [tx for tx in found if tx.lt > after_lt][: max(0, limit)]


@final
class View:
    """See `ChainTwin.view`; a `Chain`."""

    def __init__(self, twin: ChainTwin, luck: Luck) -> None:
        self._twin = twin
        self._luck = luck
        self._shown: dict[Account, Contract | None] = {}

    @property
    def network(self) -> int:
        """Global id."""
        return NETWORK

    async def head(self) -> Head:
        """See `Chain.head`."""
        await trio.lowlevel.checkpoint()
        return self._twin.head()

    async def account(self, address: Account) -> Contract | None:
        """See `Chain.account`; a server that lags shows what it showed last."""
        await trio.lowlevel.checkpoint()
        if address in self._shown and self._luck(Kind.CHAIN_LAG) is not None:
            return self._shown[address]
        found = self._shown[address] = self._twin.contract(address)
        return found

    async def run_get(
        self, address: Account, method: str, *args: StackValue
    ) -> tuple[StackValue, ...]:
        """No get-method is asked for by lanes."""
        await trio.lowlevel.checkpoint()
        raise GetFailed(NOT_ACTIVE)

    async def send(self, boc: bytes) -> bytes:
        """See `Chain.send`."""
        await trio.lowlevel.checkpoint()
        late = self._luck(Kind.CHAIN_DELAY)
        delays = [0 if late is None else 1 + int(late / BLOCK)]
        if self._luck(Kind.CHAIN_DROP) is not None:
            delays = []
        double = self._luck(Kind.CHAIN_DOUBLE)
        if double is not None:
            delays += [1 + int(double / BLOCK)]
        return self._twin.post(boc, delays)

    async def transactions(self, address: Account, after_lt: int, limit: int = 100) -> list[Tx]:
        """See `Chain.transactions`."""
        await trio.lowlevel.checkpoint()
        return self._twin.history(address, after_lt, limit)

    async def wait(self, seqno: int) -> Head:
        """See `Chain.wait`."""
        await trio.lowlevel.checkpoint()
        while self._twin.head().seqno < seqno:  # noqa: ASYNC110 - nothing but time makes blocks
            await trio.sleep(self._twin.until(seqno))
        return self._twin.head()

    async def fees(self) -> Fees:
        """See `Chain.fees`."""
        await trio.lowlevel.checkpoint()
        return self._twin.fee_table


@cache
def _fee_table() -> Fees:
    """Mainnet's prices: a configuration takes a tenth of a second to read."""
    return read_fees(read_cell(mainnet_config()))


def _payouts(lane: Lane, outcome: Outcome, cause: Message) -> tuple[tuple[Account, int, Paid], ...]:
    """Who gets what: an external pays for itself, an account's message brings its gas."""
    payer, payee = lane.config.payer, lane.config.payee
    if cause.source is None and outcome.lane is None:
        return (payee, outcome.payee, Paid.CLOSE), (payer, outcome.payer, Paid.REST)
    if cause.source is None:
        return ((payee, outcome.payee, Paid.CLAIM),)
    if outcome.lane is None:
        return ((payer, outcome.payer - GAS, Paid.REST),)
    excess = max(0, cause.value.value - GAS - FORWARD)
    if outcome.payee:
        return ((payee, outcome.payee + excess, Paid.CLAIM),)
    return ((payer, excess, Paid.EXCESS),)


# --- cells ---


def _read(boc: bytes) -> _External:
    try:
        dest, cell = read_external(boc)
        init = MessageAny.deserialize(cell.begin_parse()).init
        message = read_message(cell)
    except CodecError as error:
        raise NotAccepted(str(error)) from error
    return _External(
        dest=dest,
        body=message.body,
        data=None if init is None else init.data,
        name=normalized_hash(cell),
        message=message,
    )


def _key_in(external: _External) -> bytes | None:
    """The key of the wallet that an external brings to life, if it does."""
    if external.data is None or len(external.data.bits) < 321:
        return None
    reader = external.data.begin_parse()
    reader.skip_bits(65)
    key = bytes(reader.load_bytes(32))
    return key if wallet.address(key, NETWORK) == external.dest else None


def _messages(body: Cell) -> list[Cell]:
    """What a wallet's order sends, in its order."""
    found: list[Cell] = []
    actions = body.refs[0]
    while actions.refs:
        found.append(actions.refs[1])
        actions = actions.refs[0]
    return found[::-1]


def _voucher(cell: Cell, lane: Account) -> Voucher:
    reader = cell.begin_parse()
    signature = bytes(reader.load_bytes(64))
    reader.skip_bits(32)
    address = reader.load_address()
    cumulative = Nano(reader.load_coins() or 0)
    named = bytes(address.hash_part)
    if named != lane:
        raise CodecError("a voucher of another lane")
    return Voucher(lane=named, cumulative=cumulative, sig=signature)


def _payout(why: Paid, claimed: int) -> Cell:
    cell: Cell = Builder().store_uint(why, 32).store_coins(claimed).end_cell()
    return cell


def _op(body: Cell) -> int:
    return int(body.begin_parse().load_uint(32)) if len(body.bits) >= 32 else 0


def _good(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        nacl.signing.VerifyKey(key).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def _data(account: _Account) -> Cell | None:
    lane = account.lane
    if lane is not None:
        return cells.data(lane.config, Nano(lane.claimed), lane.close_at)
    if account.wallet_key is None:
        return None
    data = Builder().store_bit_int(1).store_uint(account.seqno, 32)
    wallet_id = ((1 << 31) ^ NETWORK) & 0xFFFFFFFF
    data.store_uint(wallet_id, 32).store_bytes(account.wallet_key).store_bit_int(0)
    cell: Cell = data.end_cell()
    return cell
