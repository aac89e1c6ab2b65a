"""Who deals with a mint in its tests: customers with credits, workers, and books to write in."""

from dataclasses import dataclass, field, replace
from functools import cache

import apsw

from ledger import credit, schema
from ledger.book import LaneIn, LaneOut
from ledger.credit import (
    BUNDLES,
    Credit,
    Keyset,
    Spend,
    SpendTerms,
    blind,
    choose,
    derive,
    owner_of,
    worth,
)
from ledger.keys import Master
from ledger.lane import RESERVE, Account, LaneConfig, LaneRow, Phase, Role
from ledger.messages import Buy, Lock, Settle, Swap, swap_root
from ledger.mint import MintCore
from ledger.mintkeys import MintKeys
from ledger.money import ZERO, Nano
from ledger.policy import MAIN
from ledger.sqlbook import SqlBook
from ledger.tick import Chain
from ledger.voucher import Voucher
from ledger.voucher import sign as sign_voucher
from p2p.identity import Identity

NOW = 1_795_000_000.0
"""Two days into epoch 2967."""
WEEK = 7 * 86_400
EPOCH = 2_967
FEE_BP = 50

MINT = Identity(b"mint" * 8)
KEYS = MintKeys(Master(b"M" * 32), MINT)
KEYS.sign, KEYS.keyset = cache(KEYS.sign), cache(KEYS.keyset)  # nearly all the time of these tests
WORKER, OTHER = Identity(b"work" * 8), Identity(b"othe" * 8)
PLENTY = Nano(10**9)
AMOUNT = Nano(100_000)
"""What a session locks unless a test says otherwise: 98 times the least credit, less a bit."""


# Every test's customer is the same one: what is derived from its seed is worked out once.
unblind = cache(credit.unblind)
parse_keyset = cache(Keyset.parse)


@cache
def blank(seed, epoch, i):
    m, r = derive(seed, MINT.id, epoch, i)
    return (i, m, r, blind(m, r))


class SqlTwin:
    """A book in tables: what `Store.write` does, without its thread."""

    def __init__(self):
        self._connection = apsw.Connection(":memory:")
        self._connection.execute(schema.NODE + schema.MINT)

    def write(self, work):
        with self._connection:
            return work(SqlBook(self._connection))


class Failing:
    """A book whose n-th write fails."""

    def __init__(self, book, left):
        self._book = book
        self._left = left

    def __getattr__(self, name):
        if name.startswith(("add_", "save_", "drop_", "post")):
            self._left -= 1
            if self._left < 0:
                raise BrokenError
        return getattr(self._book, name)


class BrokenError(Exception):
    pass


class Desk:
    """A mint at work: every call is one write, after which the books must balance."""

    def __init__(self, book, policy=MAIN, fee_bp=FEE_BP, keys=KEYS):
        self.book = book
        self.core = MintCore(keys, policy, fee_bp)
        self.now = NOW

    def call(self, name, *arguments):
        method = getattr(self.core, name)
        result = self.book.write(lambda book: method(book, self.now, *arguments))
        assert self.sheet().difference == 0
        return result

    def read(self, name, *arguments):
        return self.book.write(lambda book: getattr(book, name)(*arguments))

    def sheet(self):
        return self.book.write(self.core.audit)

    def clear(self, worker=WORKER):
        return self.book.write(lambda book: self.core.clear(book, worker.id))

    def keyset(self):
        """The newest, as a customer reads it."""
        return parse_keyset(self.call("keysets").keysets[-1], MINT.public)

    def failing(self, name, *arguments):
        """How often a call fails if its first, second, ... write does; then its result."""
        method, failed = getattr(self.core, name), 0
        while True:
            try:
                result = self.book.write(
                    lambda book, left=failed: method(Failing(book, left), self.now, *arguments)
                )
            except BrokenError:
                failed += 1
                assert self.sheet().difference == 0
            else:
                return failed, result

    # --- lanes ---

    def open_in(self, customer, funds=PLENTY):
        row = lane_row(customer.lane, Role.PAYEE, customer.key, funds)
        self.book.write(lambda book: book.save_lane_in(LaneIn(row=row, charged=ZERO)))

    def open_out(self, lane, funds=PLENTY, worker=WORKER, opened_at=NOW):
        key = KEYS.payer(1)
        row = replace(lane_row(lane, Role.PAYER, key, funds), opened_at=opened_at)
        self.book.write(lambda book: book.save_lane_out(LaneOut(row=row, worker=worker.id)))

    def change_out(self, lane, **changes):
        out = self.read("lane_out", lane)
        out = replace(out, row=replace(out.row, **changes))
        self.book.write(lambda book: book.save_lane_out(out))

    # --- whole dealings ---

    def stock(self, customer, bundle="S"):
        """A customer that has bought."""
        keyset = self.keyset()
        request = customer.buy(keyset, bundle)
        customer.bought(keyset, self.call("buy", request))
        return keyset

    def locked(self, customer, *, amount=AMOUNT, lane=None, worker=WORKER, **terms):
        """Coins locked for a worker: the session."""
        session = customer.spend(self.keyset(), amount, worker, now=self.now, **terms)
        reply = self.call("lock", Lock(session.spend.encode(), lane), worker.id)
        assert type(reply).__name__ == "Locked", reply
        return session


def lane_row(lane, role, key, funds):
    config = LaneConfig(
        payer_key=key.public,
        payee_key=MINT.public,
        payer=Account(b"a" * 32),
        payee=Account(b"b" * 32),
        network=-4242,
        lane_id=1,
        close_delay=86_400,
        min_claim=ZERO,
    )
    return LaneRow(
        lane=lane,
        role=role,
        config=config,
        phase=Phase.OPEN,
        balance=funds + RESERVE,
        seen_at=NOW * 2,  # so that no test waits for a look at the chain
        opened_at=NOW,
    )


@dataclass
class Session:
    """A spend, and what only its maker knows of it."""

    spend: Spend
    chain: Chain
    secret: bytes
    blanks: list

    def settle(self, i, *, final=False):
        return Settle(lock=self.spend.lock_id, i=i, x=self.chain.reveal(i), final=final)


@dataclass
class Customer:
    """A wallet of one mint."""

    name: int = 1
    promised: Nano = ZERO
    counter: int = 0
    coins: list = field(default_factory=list)
    pending: list = field(default_factory=list)
    sessions: int = 0

    @property
    def seed(self):
        return bytes([self.name]) * 32

    @property
    def key(self):
        return Identity(self.seed)

    @property
    def lane(self):
        return b"in" + self.seed[2:]

    def worth(self):
        return worth(coin.j for coin in self.coins)

    def voucher(self, promised=None) -> Voucher:
        return sign_voucher(self.key, self.lane, promised or self.promised)

    def blank(self, epoch):
        self.counter += 1
        return blank(self.seed, epoch, self.counter - 1)

    def buy(self, keyset, bundle="S", promised=None) -> Buy:
        exponents = BUNDLES[bundle]
        self.promised = promised or self.promised + keyset.price(exponents)
        self.pending = [(j, *self.blank(keyset.epoch)) for j in exponents]
        self.counter += 1
        return Buy(
            rid=bytes([self.name]) + self.counter.to_bytes(15, "big"),
            voucher=self.voucher(),
            bundle=bundle,
            epoch=keyset.epoch,
            outputs=tuple(B for *_, B in self.pending),
        )

    def bought(self, keyset, sigs):
        for (j, *blank), signed in zip(self.pending, sigs.sigs, strict=True):
            self.take(keyset, j, blank, signed)

    def take(self, keyset, j, blank, signed):
        i, m, r, blinded = blank
        point = unblind(keyset.key(j), r, blinded, signed)
        self.coins.append(Credit(mint=MINT.id, epoch=keyset.epoch, i=i, j=j, m=m, C=point))

    def spend(
        self, keyset, amount, worker=WORKER, *, now=NOW, life=600, ticks=10, coins=None, blanks=18
    ) -> Session:
        """Take coins out of the wallet and spend them; `ticks` pay all but a part of a tick."""
        of_epoch = [coin for coin in self.coins if coin.epoch == keyset.epoch]
        coins = coins or choose(of_epoch, amount)
        self.coins = [coin for coin in self.coins if coin not in coins]
        self.sessions += 1
        name = self.sessions.to_bytes(32, "big")
        chain = Chain(self.seed, name, ticks)
        blanks = [self.blank(keyset.epoch) for _ in range(blanks)]
        terms = SpendTerms(
            mint=MINT.id,
            epoch=keyset.epoch,
            payee=worker.id,
            session=name,
            expiry=int(now) + life,
            tick=Nano(amount.value // ticks),
            ticks=ticks,
            root=chain.root,
            blanks=tuple(B for *_, B in blanks),
            owner=owner_of(name),
        )
        return Session(Spend.build(coins, terms), chain, name, blanks)

    def swap(self, old, new, exponents, coins, **changes) -> Swap:
        """Exchange coins for others; what to sign is in `pending`."""
        self.coins = [coin for coin in self.coins if coin not in coins]
        self.pending = [(j, *self.blank(new.epoch)) for j in exponents]
        outputs = tuple((j, B) for j, *_, B in self.pending)
        self.sessions += 1
        terms = SpendTerms(
            mint=MINT.id,
            epoch=old.epoch,
            payee=MINT.id,
            session=self.sessions.to_bytes(32, "big"),
            expiry=0,
            tick=worth(coin.j for coin in coins),
            ticks=1,
            root=swap_root(new.epoch, outputs),
            blanks=(),
            owner=bytes(32),
        )
        spend = Spend.build(coins, replace(terms, **changes))
        return Swap(spend.encode(), new.epoch, outputs)

    def changed(self, keyset, session, reply):
        """Put the change of a session into the wallet."""
        for (j, signed), blank in zip(reply.sigs, session.blanks, strict=False):
            self.take(keyset, j, blank, signed)
