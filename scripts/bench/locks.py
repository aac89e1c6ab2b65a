"""What a mint's disk takes: locks a second, when they share commits and when none does."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
from nacl import bindings as sodium

from ledger import credit
from ledger.book import LaneOut
from ledger.credit import Credit, Spend, SpendTerms
from ledger.keys import Master
from ledger.lane import RESERVE, Account, LaneConfig, LaneRow, Phase, Role
from ledger.messages import Lock, Locked
from ledger.mint import MintCore
from ledger.mintkeys import MintKeys
from ledger.money import ZERO, Nano
from ledger.policy import MAIN
from ledger.sqlbook import SqlBook
from ledger.store import WINDOW, Connection, Store
from p2p.identity import Identity
from scripts.bench.report import Result, middle
from scripts.failure import Failed

TOGETHER, ALONE, SESSIONS = 768, 96, 128
"""Locks of one measurement: in shared commits, in one commit each, and of whole sessions."""

WORKERS: Final = tuple(Identity(bytes([n]) * 32) for n in range(64))
"""A mint looks through the open locks of one worker to see what it can still promise it."""

SESSION: Final = Nano(1_000_000)
"""0.001 TON: what a session of 16,000 tokens locks at 60 nano a token."""

NOW: Final = 1_795_000_000.0
EPOCH: Final = int(NOW) // credit.EPOCH_SECONDS
MINT: Final = Identity(b"m" * 32)
KEYS: Final = MintKeys(Master(b"m" * 32), MINT)
SEED: Final = b"s" * 32


async def measure(rounds: int) -> list[Result]:
    """Sharing commits, one commit each, whole sessions, and what a lock cannot do without: in turn,
    each on a new file."""
    numbers = count()
    session = tuple(coin.j for coin in credit.choose(coins(credit.BUNDLES["S"], numbers), SESSION))
    blanks = _blanks(credit.blanks_for(credit.worth(session)))
    shared, bare, alone, whole, whole_bare = [], [], [], [], []
    for _ in range(rounds):
        shared.append(await _together(_spends(TOGETHER, (credit.LEAST,), numbers)))
        bare.append(await _barely(TOGETHER, 1, numbers))
        alone.append(await _in_turn(_spends(ALONE, (credit.LEAST,), numbers)))
        whole.append(await _together(_spends(SESSIONS, session, numbers, blanks)))
        whole_bare.append(await _barely(SESSIONS, len(session), numbers))
    return [
        Result(
            name="durable_redemptions_per_second",
            value=middle(shared, 1),
            unit="1/s",
            ratio=_ratio(shared, alone),
            against="one commit each",
        ),
        Result(
            name="durable_redemptions_bare_per_second",
            value=middle(bare, 1),
            unit="1/s",
            ratio=_ratio(bare, shared),
            against="durable redemptions",
        ),
        Result(
            name="durable_sessions_per_second",
            value=middle(whole, 1),
            unit="1/s",
            ratio=_ratio(whole, whole_bare),
            against=BARE,
        ),
    ]


BARE: Final = "the group's arithmetic, a signature and rows alone, in shared commits"


def _ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    return middle([one / other for one, other in zip(ones, others, strict=True)])


# --- what is spent ---


def coins(exponents: Sequence[int], numbers: Iterator[int]) -> list[Credit]:
    """Credits as after a purchase, made by the mint's own keys because that is quicker."""
    made = []
    for j, i in zip(exponents, numbers, strict=False):
        m, _ = credit.derive(SEED, MINT.id, EPOCH, i)
        point = sodium.crypto_scalarmult_ed25519_noclamp(
            KEYS.secrets(EPOCH)[j], credit.hash_to_point(m)
        )
        made.append(Credit(mint=MINT.id, epoch=EPOCH, i=i, j=j, m=m, C=point))
    return made


def spend(spent: Sequence[Credit], payee: Identity, blanks: tuple[bytes, ...] = ()) -> Spend:
    """Credits for a session with a worker; a session has the name of its first credit."""
    terms = SpendTerms(
        mint=MINT.id,
        epoch=EPOCH,
        payee=payee.id,
        session=spent[0].m,
        expiry=int(NOW) + 600,
        tick=Nano(64),
        ticks=16,
        root=spent[0].m,
        blanks=blanks,
        owner=credit.owner_of(spent[0].m),
    )
    return Spend.build(spent, terms)


def _blanks(most: int) -> tuple[bytes, ...]:
    """The same for every spend: a mint that locks looks at each, and signs none yet."""
    return tuple(credit.blind(*credit.derive(SEED, MINT.id, EPOCH, i)) for i in range(most))


def _spends(
    most: int, exponents: Sequence[int], numbers: Iterator[int], blanks: tuple[bytes, ...] = ()
) -> list[Lock]:
    return [
        Lock(spend(coins(exponents, numbers), _worker(n), blanks).encode(), _lane(_worker(n)))
        for n in range(most)
    ]


def _worker(number: int) -> Identity:
    return WORKERS[number % len(WORKERS)]


def _lane(worker: Identity) -> bytes:
    return worker.public


# --- where it is locked ---


async def _together(requests: Sequence[Lock]) -> float:
    """Locks a second of a mint whose store shares commits."""
    core = MintCore(KEYS, MAIN, 50)
    with TemporaryDirectory(prefix="tussah-bench-") as folder:
        async with Store.open(Path(folder) / "store", window=WINDOW) as store:
            await store.write(lambda connection: _open_lanes(SqlBook(connection), core))
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for number, request in enumerate(requests):
                    nursery.start_soon(_lock, store, core, request, _worker(number))
            return len(requests) / (time.perf_counter() - began)


async def _in_turn(requests: Sequence[Lock]) -> float:
    """Locks a second if each waits for a commit of its own, and for nothing else."""
    core = MintCore(KEYS, MAIN, 50)
    with TemporaryDirectory(prefix="tussah-bench-") as folder:
        async with Store.open(Path(folder) / "store", window=0.0) as store:
            await store.write(lambda connection: _open_lanes(SqlBook(connection), core))
            began = time.perf_counter()
            for number, request in enumerate(requests):
                await _lock(store, core, request, _worker(number))
            return len(requests) / (time.perf_counter() - began)


async def _lock(store: Store, core: MintCore, request: Lock, worker: Identity) -> None:
    def work(connection: Connection) -> object:
        return core.lock(SqlBook(connection), NOW, request, worker.id)

    reply = await store.write(work)
    if not isinstance(reply, Locked):
        raise Failed("failed", f"The mint refused a spend that is good: {reply}.")


async def _barely(most: int, coins_each: int, numbers: Iterator[int]) -> float:
    """Locks a second if one were no more than its credits' arithmetic, a signature and rows."""
    with TemporaryDirectory(prefix="tussah-bench-") as folder:
        async with Store.open(Path(folder) / "store", window=WINDOW) as store:
            wanted = [[next(numbers) for _ in range(coins_each)] for _ in range(most)]
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for each in wanted:
                    nursery.start_soon(store.write, partial(_bare_lock, each))
            return most / (time.perf_counter() - began)


def _bare_lock(numbers: Sequence[int], connection: Connection) -> None:
    ms = [number.to_bytes(32, "big") for number in numbers]
    for m in ms:
        point = sodium.crypto_scalarmult_ed25519_noclamp(
            KEYS.secrets(EPOCH)[credit.LEAST], credit.hash_to_point(m)
        )
        values = (EPOCH, m, credit.LEAST, point)
        connection.execute("INSERT INTO nullifier VALUES (?, ?, ?, ?)", values)
    signed = (ms[0], EPOCH, MINT.sign(ms[0]))
    connection.execute("INSERT INTO purchase VALUES (?, ?, ?)", signed)


def _open_lanes(book: SqlBook, core: MintCore) -> None:
    core.keysets(book, NOW)
    for number, worker in enumerate(WORKERS):
        book.save_lane_out(LaneOut(row=_lane_row(number, worker), worker=worker.id))


def _lane_row(number: int, worker: Identity) -> LaneRow:
    config = LaneConfig(
        payer_key=KEYS.payer(number).public,
        payee_key=worker.public,
        payer=Account(MINT.public),
        payee=Account(worker.public),
        network=-239,
        lane_id=number,
        close_delay=MAIN.close_delay,
        min_claim=ZERO,
    )
    return LaneRow(
        lane=_lane(worker),
        role=Role.PAYER,
        config=config,
        phase=Phase.OPEN,
        balance=MAIN.payout_deposit + RESERVE,
        seen_at=NOW,
        opened_at=NOW,
    )
