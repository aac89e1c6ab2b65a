"""What money costs: vouchers, ticks and credits beside the bare cryptography, and a lane's fees.

Rates of cryptography are per second of one core's own time, so that whatever else the machine does
counts less; rates of the disk are by the clock. Fees are what TON's own virtual machine charges
under mainnet's prices: they are the same in every run.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, TypeAlias

import trio
from nacl import bindings as sodium

from inference import protocol
from inference.meter import Earning, Pace, Spending
from ledger import credit, voucher
from ledger.credit import Spend
from ledger.money import Nano
from ledger.payment import Locked, Payment, PayTerms
from ledger.tariff import Count, Prices
from ledger.tick import Chain
from p2p import codec
from p2p.identity import Identity
from scripts.bench import locks
from scripts.bench.locks import EPOCH, KEYS, MINT, NOW, SEED
from scripts.bench.report import Bench, Bound, Result, judged, middle
from scripts.failure import Failed

SIGNATURES, CREDITS, TICKS = 2_000, 14 * 22, 1_024
"""Operations of one measurement: a tenth of a second or two. Credits are 14 bundles of 22."""

PAYER, WORKER = Identity(b"p" * 32), Identity(b"w" * 32)
LANE: Final = bytes(range(32))

Work: TypeAlias = Callable[[], int]
"""What is measured; returns how often it did its thing."""

Prepare: TypeAlias = Callable[[int], Work]
"""Makes the work of one round, for which no time is counted."""


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 3 if quick else 15
    results = []
    for race in RACES:
        say(f"{race.name}, {rounds} rounds")
        results.append(_raced(race, rounds))
    say(f"locks on the disk, {rounds} rounds")
    results += trio.run(locks.measure, rounds)
    say("the life of a lane")
    fees, notes = _lane_fees()
    results += fees
    return Bench(
        bench="ledger",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, AIMS),
        notes=(*NOTES, *notes),
    )


def _lane_fees() -> tuple[list[Result], list[str]]:
    """The rows, and what there is to say of them. TON's machine comes for some platforms only."""
    try:
        from scripts.bench import lane
    except ImportError as error:
        return [], [f"a lane's fees are left out: TON's virtual machine is not here ({error})"]
    return trio.run(lane.measure), [lane.NOTE]


NOTES: Final = (
    "rates of vouchers, ticks and credits are per second of processor time, those called durable "
    "per second",
    "a tick is revealed, sent as bytes, read, checked and metered on both sides, its chain of "
    f"{TICKS:,} built",
    "a durable redemption is a lock of one credit, receipt included; durable_sessions_per_second "
    f"locks {locks.SESSION} in several credits, with blanks for its change",
    f"durable_redemptions_bare_per_second: {locks.BARE}",
)


AIMS: Final = {
    "vouchers_signed_per_second": Bound(least=0.8, of_ratio=True),
    "vouchers_verified_per_second": Bound(least=0.8, of_ratio=True),
    "ticks_per_second": Bound(least=5_000.0),
    "credits_signed_per_second": Bound(least=4_500.0),
    "credits_redeemed_per_second": Bound(least=7_000.0),
    "durable_redemptions_per_second": Bound(least=2_000.0),
    "lane_life_fee_ton": Bound(most=0.0165),
    "lane_claim_fee_ton": Bound(most=0.0045),
}


# --- cryptography ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """A rate of ours, and that of what it cannot do without."""

    name: str
    ours: Prepare
    bare: Prepare | None = None
    against: str | None = None


def _raced(race: Race, rounds: int) -> Result:
    """In turn, each round with inputs of its own: what was verified once is remembered."""
    ours, ratios = [], []
    for number in range(rounds):
        ours.append(_rate(race.ours(number)))
        if race.bare is not None:
            ratios.append(ours[-1] / _rate(race.bare(number)))
    ratio = middle(ratios) if ratios else None
    value = middle(ours, 1)
    return Result(name=race.name, value=value, unit="1/s", ratio=ratio, against=race.against)


def _rate(work: Work) -> float:
    began = time.process_time()
    done = work()
    return done / (time.process_time() - began)


def _each(function: Callable[[int], object], numbers: Sequence[int]) -> Work:
    def work() -> int:
        for number in numbers:
            function(number)
        return len(numbers)

    return work


def _totals(number: int) -> range:
    return range(10**9 + number * SIGNATURES, 10**9 + (number + 1) * SIGNATURES)


def _sign_vouchers(number: int) -> Work:
    totals = [Nano(n) for n in _totals(number)]
    return _each(lambda n: voucher.sign(PAYER, LANE, totals[n]), range(SIGNATURES))


def _sign_bare(number: int) -> Work:
    hashes = [voucher.body_hash(LANE, Nano(n)) for n in _totals(number)]
    secret = PAYER.seed + PAYER.public
    return _each(lambda n: sodium.crypto_sign(hashes[n], secret), range(SIGNATURES))


def _verify_vouchers(number: int) -> Work:
    vouchers = [voucher.sign(PAYER, LANE, Nano(n)) for n in _totals(number)]
    return _each(lambda n: voucher.verify(PAYER.public, vouchers[n]), range(SIGNATURES))


def _verify_bare(number: int) -> Work:
    hashes = [voucher.body_hash(LANE, Nano(n)) for n in _totals(number)]
    signed = [PAYER.sign(body) + body for body in hashes]
    return _each(lambda n: sodium.crypto_sign_open(signed[n], PAYER.public), range(SIGNATURES))


def _blind(number: int) -> Work:
    def one(i: int) -> bytes:
        return credit.blind(*credit.derive(SEED, MINT.id, number, i))

    return _each(one, range(CREDITS))


def _sign_credits(number: int) -> Work:
    blinds = [credit.blind(*credit.derive(SEED, MINT.id, number, i)) for i in range(CREDITS)]
    KEYS.sign(EPOCH, credit.LEAST, blinds[0])  # derives the keys of the epoch
    return _each(lambda n: KEYS.sign(EPOCH, credit.LEAST, blinds[n]), range(CREDITS))


def _redeem(number: int) -> Work:
    keys, bundle = KEYS.secrets(EPOCH), credit.BUNDLES["S"]
    firsts = range(0, CREDITS, len(bundle))
    spends = [_whole_bundle(number * CREDITS + first) for first in firsts]

    def work() -> int:
        for spend in spends:
            credit.check(spend, keys)
        return CREDITS

    return work


def _whole_bundle(first: int) -> Spend:
    return locks.spend(locks.coins(credit.BUNDLES["S"], count(first)), WORKER)


def _hash_and_multiply(number: int) -> Work:
    """What blinds a credit, and what tells whether one is real."""
    secrets = [credit.derive(SEED, MINT.id, number, i) for i in range(CREDITS)]

    def one(i: int) -> None:
        m, r = secrets[i]
        half = sodium.crypto_core_ed25519_from_uniform(m)
        point = sodium.crypto_core_ed25519_add(half, sodium.crypto_core_ed25519_from_uniform(r))
        sodium.crypto_scalarmult_ed25519_noclamp(r, point)

    return _each(one, range(CREDITS))


def _multiply_thrice(number: int) -> Work:
    """A signature and the proof of its key: two points by a scalar, and the base."""
    blinds = [credit.blind(*credit.derive(SEED, MINT.id, number, i)) for i in range(CREDITS)]
    k = KEYS.secrets(EPOCH)[credit.LEAST]

    def one(i: int) -> None:
        sodium.crypto_scalarmult_ed25519_noclamp(k, blinds[i])
        sodium.crypto_scalarmult_ed25519_noclamp(k, blinds[i])
        sodium.crypto_scalarmult_ed25519_base_noclamp(k)

    return _each(one, range(CREDITS))


# --- ticks ---

K: Final = 16
"""tokens of a tick: the fewest there can be"""

PACE: Final = Pace(Prices(completion=60_000_000), K, Nano(60 * K), 1)


def _tick(number: int) -> Work:
    """A session from one end to the other, in memory."""
    session = number.to_bytes(32, "big")
    return partial(_pay_session, session)


def _pay_session(session: bytes) -> int:
    chain = Chain(SEED, session, TICKS)
    spending, earning = _asker(session, chain), _worker(session, chain)
    stream = codec.Unframer(64)
    for written in range(0, TICKS * K, K):
        so_far = Count(completion=written)
        tick = spending.reveal(spending.due(so_far))
        assert tick is not None
        stream.feed(codec.frame(tick.encode()))
        for message in stream:
            received = protocol.read_asker(message)
            assert isinstance(received, protocol.Tick)
            earning.take(received)
        earning.affordable(so_far, reasoning=False)
    if earning.index != TICKS:
        raise Failed("failed", f"{earning.index} of {TICKS} ticks arrived.")
    return TICKS


def _asker(session: bytes, chain: Chain) -> Spending:
    terms = PayTerms(
        mints=(MINT.id,),
        payee=WORKER.id,
        session=session,
        tick=PACE.tick,
        ticks=TICKS,
        expiry=int(NOW),
    )
    payment = Payment(
        terms=terms, mint=MINT.id, mint_public=MINT.public, lock_id=session, spend=b"", chain=chain
    )
    return Spending(PACE, payment, TICKS * K)


def _worker(session: bytes, chain: Chain) -> Earning:
    held = Locked(
        lock_id=session,
        receipt=b"",
        tick=PACE.tick,
        ticks=TICKS,
        root=chain.root,
        expiry=int(NOW),
    )
    return Earning(PACE, held)


RACES: Final = (
    Race(
        name="vouchers_signed_per_second",
        ours=_sign_vouchers,
        bare=_sign_bare,
        against="bare Ed25519",
    ),
    Race(
        name="vouchers_verified_per_second",
        ours=_verify_vouchers,
        bare=_verify_bare,
        against="bare Ed25519",
    ),
    Race(name="ticks_per_second", ours=_tick),
    Race(
        name="credits_blinded_per_second",
        ours=_blind,
        bare=_hash_and_multiply,
        against="bare group operations",
    ),
    Race(
        name="credits_signed_per_second",
        ours=_sign_credits,
        bare=_multiply_thrice,
        against="bare group operations",
    ),
    Race(
        name="credits_redeemed_per_second",
        ours=_redeem,
        bare=_hash_and_multiply,
        against="bare group operations",
    ),
)
