"""A few accounts and one lane on TON's own machine: what is sent is delivered at once.

Everybody but the lane is an account without code, so that balances are sums of what arrived, less
nothing: an account that is not deployed pays no gas. Wallets come in where fees are measured.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256

from pytoniq_core import Address, Builder, Cell

from ledger import voucher as vouchers
from ledger.chain.base import Contract, Tx
from ledger.chain.config import mainnet_config
from ledger.chain.engine import ABSENT, Done, Engine, Refused
from ledger.chain.records import read_account, read_transaction
from ledger.chain.wallet import external
from ledger.contracts import cells
from ledger.lane import Account, LaneConfig
from ledger.money import Nano
from ledger.voucher import Voucher
from p2p.identity import Identity

TON = 10**9
NETWORK = -4242
DAY = 86_400
START = 1_764_000_000
PAYER_KEY = Identity(b"\x01" * 32)
PAYEE_KEY = Identity(b"\x02" * 32)
PAYER = Account(b"\x11" * 32)
PAYEE = Account(b"\x22" * 32)
STRANGER = Account(b"\x33" * 32)
RESERVE = 20_000_000


@cache
def engine(config=None):
    return Engine(config or mainnet_config())


def terms(**changes):
    fields = {
        "payer_key": PAYER_KEY.public,
        "payee_key": PAYEE_KEY.public,
        "payer": PAYER,
        "payee": PAYEE,
        "network": NETWORK,
        "lane_id": 7,
        "close_delay": DAY,
        "min_claim": Nano(0),
    }
    return LaneConfig(**{**fields, **changes})


def voucher(lane, total, key=PAYER_KEY):
    return vouchers.sign(key, lane, Nano(total))


def signed_order(op, inner, lane, until, voucher_cell, *, payee=PAYEE_KEY, more=""):
    """The body of an external, each field as one likes."""
    order = Builder().store_address(Address((0, lane))).store_uint(until, 32)
    order = order.store_uint(inner, 32).store_bits(more).store_ref(voucher_cell).end_cell()
    body = Builder().store_uint(op, 32).store_bytes(payee.sign(order.hash)).store_cell(order)
    return body.end_cell()


def signed_voucher(lane, total, *, tag=0x4C414E45, key=PAYER_KEY, more="", refs=()):
    """A voucher's cell, each field as one likes."""
    body = Builder().store_uint(tag, 32).store_address(Address((0, lane))).store_coins(total)
    body.store_bits(more)
    for ref in refs:
        body.store_ref(ref)
    body = body.end_cell()
    return Builder().store_bytes(key.sign(body.hash)).store_cell(body).end_cell()


def internal(source, dest, value, body=None, *, init=None, bounce=True, bounced=False):
    message = Builder().store_bits("01").store_bit_int(bounce).store_bit_int(bounced)
    message.store_address(Address((0, source))).store_address(Address((0, dest)))
    message.store_coins(value).store_bit_int(0).store_coins(0).store_coins(0).store_uint(0, 96)
    if init is None:
        message.store_bit_int(0)
    else:
        message.store_bits("11").store_ref(init)
    return message.store_bit_int(1).store_ref(body or Cell.empty()).end_cell()


@dataclass
class World:
    """Accounts by address; `lane` is the one under test, not deployed yet."""

    config: LaneConfig = field(default_factory=terms)
    code: Cell = cells.CODE
    prices: bytes | None = None
    now: int = START
    accounts: dict[bytes, bytes] = field(default_factory=dict)
    """As bags of cells."""
    txs: list[Tx] = field(default_factory=list)
    transactions: list[Cell] = field(default_factory=list)
    lt: int = 10**6

    @cached_property
    def init(self):
        data = cells.data(self.config)
        return Builder().store_uint(0b00110, 5).store_ref(self.code).store_ref(data).end_cell()

    @cached_property
    def lane(self):
        return Account(bytes(self.init.hash))

    def plant(self, balance, *, claimed=0, close_at=0):
        """Put the lane there in a state of our choice."""
        account = Builder().store_bit_int(1).store_address(Address((0, self.lane)))
        account.store_uint(0, 9).store_uint(self.now, 32).store_bit_int(0).store_uint(0, 64)
        account.store_coins(balance).store_bits("01").store_uint(0b00110, 5)
        account.store_ref(self.code).store_ref(cells.data(self.config, Nano(claimed), close_at))
        shard = Builder().store_ref(account.end_cell()).store_uint(0, 256 + 64)
        self.accounts[self.lane] = shard.end_cell().to_boc()
        return self

    # --- looking ---

    def account(self, address) -> Contract | None:
        boc = self.accounts.get(address)
        return None if boc is None else read_account(address, Cell.one_from_boc(boc))

    def balance(self, address=None):
        found = self.account(address or self.lane)
        return 0 if found is None else found.balance.value

    @property
    def state(self):
        found = self.account(self.lane)
        return None if found is None or found.data is None else cells.read_data(found.data)

    @property
    def claimed(self):
        return self.state.claimed.value

    # --- doing ---

    def deliver(self, message, dest):
        """The transactions that a message causes, its own first; `Refused` if there are none."""
        txs, queue = [], deque([(message, dest)])
        while queue:
            message, dest = queue.popleft()
            self.lt += 10**6
            outcome = engine(self.prices).transact(
                self.accounts.get(dest, ABSENT),
                message,
                now=self.now,
                lt=self.lt,
                seed=sha256(self.lt.to_bytes(8, "big")).digest(),
            )
            if isinstance(outcome, Refused):
                return outcome
            assert isinstance(outcome, Done)
            self.accounts[dest] = outcome.account_boc
            transaction = outcome.transaction
            self.transactions.append(transaction)
            txs.append(read_transaction(transaction))
            queue.extend(sent(transaction))
        self.txs += txs
        return txs

    def send(self, source, value, body=None, *, dest=None, init=None, bounce=True, bounced=False):
        dest = dest or self.lane
        message = internal(source, dest, value, body, init=init, bounce=bounce, bounced=bounced)
        return self.deliver(message, dest)

    def post(self, boc):
        return self.deliver(Cell.one_from_boc(boc), self.lane)

    def open(self, deposit):
        self.send(PAYER, deposit, init=self.init, bounce=False)
        return self

    def voucher(self, total, key=PAYER_KEY) -> Voucher:
        return voucher(self.lane, total, key)

    def post_body(self, body):
        return self.post(external(self.lane, body))

    def order(self, op, total, *, until=None, payee=PAYEE_KEY, lane=None, payer=PAYER_KEY):
        lane = lane or self.lane
        until = self.now + 600 if until is None else until
        return op(lane, voucher(lane, total, payer), until, payee)

    def claim(self, total, **how):
        return self.post(self.order(cells.claim_order, total, **how))

    def close(self, total, **how):
        return self.post(self.order(cells.close_order, total, **how))

    def claim_for(self, total, value=TON // 20, source=STRANGER):
        return self.send(source, value, cells.claim_body(self.voucher(total)))

    def start_close(self, source=PAYER, value=TON // 20):
        return self.send(source, value, cells.start_close_body())

    def finish(self, source=PAYER, value=TON // 20):
        return self.send(source, value, cells.finish_body())


def sent(transaction):
    """The messages that a transaction sent to accounts, with where to."""
    reader = transaction.refs[0].begin_parse()
    if reader.load_bit():
        reader.load_ref()
    messages = reader.load_dict(15) or {} if len(reader.bits) else {}
    for _, value in sorted(messages.items()):
        cell = value.load_ref()
        head = cell.begin_parse()
        head.skip_bits(4)
        head.load_address()
        yield cell, Account(bytes(head.load_address().hash_part))
