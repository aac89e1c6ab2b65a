"""A mint that keeps all it sees cannot tell whose credits come back.

Independence is not seen, only its absence: so each test here is also shown a leak, planted, that it
must find. What a mint sees of one credit is B when it sells it and m when it redeems it; with its
key it computes k*B and k*H(m) from them, and whatever else it likes. Seeds are fixed: a test that
fails once fails always.
"""

from contextlib import suppress
from math import sqrt

import apsw
import pytest

from ledger import coins, schema, wire
from ledger.credit import (
    BUNDLES,
    Credit,
    Spend,
    SpendTerms,
    blind,
    derive,
    hash_to_point,
    public_key,
    sign,
    unblind,
)
from ledger.messages import Lock
from ledger.money import Nano
from ledger.tick import Chain
from p2p import codec
from p2p.entropy import seeded
from p2p.errors import CodecError
from tests.ledger.parties import AMOUNT, EPOCH, KEYS, MINT, NOW, OTHER, WORKER, Customer

BITS = 256

SURPRISE = 6.0
"""Standard deviations: among the 65,536 pairs of bits of a table one of independent bits goes so
far in one run of 8,000."""

SPREAD = 6.0
"""Standard deviations of the sum over all pairs of bits."""

MANY = (1_000, pytest.param(10_000, marks=pytest.mark.slow))

k = KEYS.secrets(EPOCH)[10]
K = public_key(k)


# --- the measure: each bit of one value beside each bit of the other ---


def columns(values):
    """For each bit of 32 bytes, a number with that bit of every value."""
    rows = (format(int.from_bytes(value, "little"), f"0{BITS}b") for value in values)
    return [int("".join(column), 2) for column in zip(*rows, strict=True)]


def correlations(left, right):
    """For each pair of bits, how many standard deviations it is from independence."""
    count, rights = len(left), [(bits, bits.bit_count()) for bits in columns(right)]
    for bits in columns(left):
        ones = bits.bit_count()
        for others, theirs in rights:
            free = ones * theirs * (count - ones) * (count - theirs)
            both = (bits & others).bit_count()
            yield (both * count - ones * theirs) * sqrt(count - 1) / sqrt(free)


def linked(left, right):
    """Whether pairs of 32 bytes have more to do with each other than chance allows."""
    found = list(correlations(left, right))
    spread = (sum(z * z for z in found) - len(found)) / sqrt(2 * len(found))
    return max(map(abs, found)) > SURPRISE or abs(spread) > SPREAD


# --- what a mint sees of many credits ---


def seen(count, blinded=blind):
    """(B, m) of credits of 20 customers, each with its own seed."""
    pairs = []
    for number in range(count):
        customer, i = divmod(number, count // 20)
        m, r = derive(bytes([customer]) * 32, MINT.id, EPOCH, i)
        pairs.append((blinded(m, r), m))
    return zip(*pairs, strict=True)


@pytest.mark.parametrize("count", MANY)
def test_what_is_sold_and_what_comes_back_are_independent(count):
    sold, shown = seen(count)
    assert not linked(sold, shown)


@pytest.mark.parametrize("count", MANY)
def test_nor_does_the_group_link_them(count):
    """B beside H(m): the one is a multiple of the other, by a number that only the buyer knows."""
    sold, shown = seen(count)
    assert not linked(sold, [hash_to_point(m) for m in shown])


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nor_does_the_mints_own_key(count):
    """What it signed beside what it computes to redeem; it does know both."""
    sold, _ = seen(count)
    bought = [unblind(K, r_of(n, count), B, sign(k, K, B)) for n, B in enumerate(sold)]
    assert not linked([sign(k, K, B).point for B in sold], bought)


def r_of(number, count):
    customer, i = divmod(number, count // 20)
    return derive(bytes([customer]) * 32, MINT.id, EPOCH, i).r


@pytest.mark.parametrize("count", MANY)
def test_credits_of_one_customer_are_independent_of_each_other(count):
    secrets = [derive(b"s" * 32, MINT.id, EPOCH, i) for i in range(count)]
    shown = [m for m, _ in secrets]
    assert not linked(shown[1:], shown[:-1])
    sold = [blind(*secret) for secret in secrets]
    assert not linked(sold[1:], sold[:-1])


def test_credit_that_is_not_blinded_would_be_found():
    sold, shown = seen(200, blinded=lambda m, r: hash_to_point(m))
    assert linked(sold, [hash_to_point(m) for m in shown])


@pytest.mark.parametrize("every", [1, 4])
def test_one_bit_that_travels_along_would_be_found(every):
    """In each credit, or in every fourth."""
    sold, shown = seen(1_000)
    marked = [
        bytes([m[0] & 0xFE | B[0] & 1]) + m[1:] if n % every == 0 else m
        for n, (B, m) in enumerate(zip(sold, shown, strict=True))
    ]
    assert linked(sold, marked)


# --- what a mint sees of whole dealings ---

RUN = 5
"""bytes: so many in a row stand in two messages of a kilobyte by chance once in a million."""


def runs(message):
    """Every run of bytes in the fields of a message, and every number."""
    found = set()
    for leaf in leaves(message):
        if isinstance(leaf, bytes):
            found |= {leaf[at : at + RUN] for at in range(len(leaf) - RUN + 1)}
        else:
            found.add(leaf)
    return found


def leaves(value):
    """What no more can be taken apart; a message in a message can."""
    if isinstance(value, bytes):
        with suppress(CodecError):
            inner = codec.unpack(value, len(value))
            if isinstance(inner, (tuple, dict)):
                value = inner
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


class Buyer(Customer):
    """A customer whose wallet is the real one's tables, and whose dice are its own."""

    def __init__(self, name):
        super().__init__(name=name)
        self.entropy = seeded(name)
        self.tables = apsw.Connection(":memory:")
        self.tables.execute(schema.NODE)

    def purchase(self, desk):
        """Buy a bundle: the request as the mint keeps it."""
        keyset, rid = desk.keyset(), self.entropy.token(16)
        self.promised += keyset.price(BUNDLES["S"])
        request = coins.order(
            self.tables, self.seed, keyset, rid=rid, bundle="S", voucher=self.voucher()
        )
        coins.sold(self.tables, self.seed, keyset, rid, desk.call("buy", request))
        return wire.encode(request)

    def lock(self, desk, amount, worker):
        """Spend some of it: the request that the mint gets from the worker."""
        session = self.entropy.token(32)  # of the worker's offer
        bare = SpendTerms(
            mint=MINT.id,
            epoch=0,
            payee=worker.id,
            session=session,
            expiry=int(NOW) + 600,
            tick=amount,
            ticks=1,
            root=Chain(self.seed, session, 1).root,
            blanks=(),
            owner=b"",
        )
        spend = coins.reserve(self.tables, self.seed, bare, self.entropy.token(32), NOW)
        request = Lock(spend.encode(), None)
        assert type(desk.call("lock", request, worker.id)).__name__ == "Locked"
        return wire.encode(request)


def dealings(desk, customers=10):
    """What the mint has of each customer: its purchase, and two spends of it."""
    bought, spent = [], []
    for name in range(1, customers + 1):
        buyer = Buyer(name)
        desk.open_in(buyer)
        bought.append(buyer.purchase(desk))
        spent.append([buyer.lock(desk, AMOUNT, worker) for worker in (WORKER, OTHER)])
    return bought, spent


def common(mine, theirs):
    """What two messages of one customer share and no other customer's has."""
    return [
        runs(one) & runs(other) - set().union(*(runs(m) for m in mine if m is not one))
        for one, other in zip(mine, theirs, strict=True)
    ]


def test_no_byte_of_a_purchase_stands_in_a_spend(desk):
    """Nor in another spend of the same customer: no number, name or root that travels along."""
    bought, spent = dealings(desk)
    first, second = zip(*spent, strict=True)
    assert not any(common(bought, first))
    assert not any(common(bought, second))
    assert not any(common(first, second))


def test_name_that_travels_along_would_be_found(desk):
    bought, spent = dealings(desk, customers=3)
    rids = [codec.unpack(purchase, len(purchase))["rid"] for purchase in bought]
    leaky = [codec.pack([spend, rid[:8]]) for rid, (spend, _) in zip(rids, spent, strict=True)]
    assert all(common(bought, leaky))


def test_place_of_a_credit_in_a_spend_says_nothing_of_its_place_in_the_purchase():
    """Two credits of one value: the one bought first is shown first every other time."""
    count, terms = 400, spend_terms()
    firsts = 0
    for customer in range(count):
        bought = [
            Credit(mint=MINT.id, epoch=EPOCH, i=i, j=10, m=derive_m(customer, i), C=K)
            for i in (0, 1)
        ]
        shown = Spend.build(bought, terms).coins
        firsts += shown[0][1] == bought[0].m
    assert abs(2 * firsts - count) < 4 * sqrt(count)


def derive_m(customer, i):
    return derive(customer.to_bytes(32, "big"), MINT.id, EPOCH, i).m


def spend_terms():
    return SpendTerms(
        mint=MINT.id,
        epoch=EPOCH,
        payee=WORKER.id,
        session=bytes(32),
        expiry=int(NOW),
        tick=Nano(1),
        ticks=1,
        root=bytes(32),
        blanks=(),
        owner=bytes(32),
    )
