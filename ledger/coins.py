"""An asker's credits and sessions in the store; each function is part of one write or read.

    blinded --sold--> live --spend--> reserved --change fetched--> spent
       ^ blanks of a session become live too      `--never locked--> live
    found, or live and old --swap--> reserved --swapped--> spent
       ^ after a loss: signed once, and perhaps spent

The counter is raised in the write that makes a secret's number known to anybody, so that no number
is ever used twice. Coins of a session are reserved before its spend leaves this machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from ledger import credit
from ledger.credit import (
    BUNDLES,
    EPOCH_SECONDS,
    LEAST,
    Credit,
    Keyset,
    Signed,
    Spend,
    SpendTerms,
    owner_of,
    worth,
)
from ledger.messages import Buy, Changed, Sigs, Swap, swap_root
from ledger.money import ZERO, Nano
from ledger.store import Connection, Row, blob, first, integer, nano, number
from ledger.voucher import Voucher
from ledger.wire import encode
from p2p.errors import BadSignature, Insufficient
from p2p.identity import AdnlId

BLANK: Final = -1
"""What a blank is worth until the mint says."""

_SPENDABLE_EPOCHS: Final = 4
"""Keysets that can be spent: the one on sale and three before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that was paid for, from the reservation of its coins to its change."""

    session: bytes
    mint: AdnlId
    epoch: int
    lock: bytes
    amount: Nano
    tick: Nano
    expiry: int
    revealed: int
    """ticks that we have shown"""
    owed: int
    """ticks of those that the worker may have"""
    secret: bytes = field(repr=False)
    due: float
    """Unix time from which its change is to be asked for."""


# --- numbers ---


def _numbers(connection: Connection, mint: AdnlId, epoch: int, count: int) -> range:
    """So many numbers that were never used, used from now on."""
    row = first(connection, "SELECT next FROM counter WHERE mint = ? AND epoch = ?", mint, epoch)
    start = 0 if row is None else integer(row[0])
    connection.execute(
        "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
        (mint, epoch, start + count),
    )
    return range(start, start + count)


def _add_blinded(
    connection: Connection,
    seed: bytes,
    mint: AdnlId,
    epoch: int,
    exponents: Sequence[int],
    rid: bytes,
) -> tuple[bytes, ...]:
    """New secrets for credits of these exponents; what the mint is shown of them."""
    blinds: list[bytes] = []
    for i, j in zip(_numbers(connection, mint, epoch, len(exponents)), exponents, strict=True):
        secret = credit.derive(seed, mint, epoch, i)
        connection.execute(
            "INSERT INTO credit (mint, epoch, i, j, m, state, rid)"
            " VALUES (?, ?, ?, ?, ?, 'blinded', ?)",
            (mint, epoch, i, j, secret.m, rid),
        )
        blinds.append(credit.blind(*secret))
    return tuple(blinds)


# --- buying ---


def order(
    connection: Connection,
    seed: bytes,
    keyset: Keyset,
    *,
    rid: bytes,
    bundle: str,
    voucher: Voucher,
) -> Buy:
    """Write a purchase down, to be sent until it is answered."""
    blinds = _add_blinded(connection, seed, keyset.mint, keyset.epoch, BUNDLES[bundle], rid)
    request = Buy(rid=rid, voucher=voucher, bundle=bundle, epoch=keyset.epoch, outputs=blinds)
    price = keyset.price(BUNDLES[bundle])
    connection.execute(
        "INSERT INTO outbox (id, peer, epoch, body, until, lane, price)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            rid,
            keyset.mint,
            keyset.epoch,
            encode(request),
            keyset.start + 2 * EPOCH_SECONDS,
            voucher.lane,
            price.value,
        ),
    )
    return request


def unanswered(connection: Connection, mint: AdnlId) -> list[tuple[bytes, int, bytes]]:
    """Purchases that were not answered yet: id, epoch and request."""
    rows = connection.execute(
        "SELECT id, epoch, body FROM outbox WHERE peer = ? AND done = 0 AND lane <> x''", (mint,)
    )
    return [(blob(rid), integer(epoch), blob(body)) for rid, epoch, body in rows]


def charged(connection: Connection, lane: bytes) -> Nano:
    """What the purchases of a lane cost, those that were not refused."""
    rows = connection.execute("SELECT price FROM outbox WHERE lane = ? AND done < 2", (lane,))
    return sum((nano(price) for (price,) in rows), ZERO)


def sold(connection: Connection, seed: bytes, keyset: Keyset, rid: bytes, sigs: Sigs) -> Nano:
    """The mint has signed: what it sold is live. Raises `BadSignature`: it used another key.

    Once a purchase is done, done again changes nothing.
    """
    rows = list(
        connection.execute(
            "SELECT i, j FROM credit WHERE rid = ? AND state = 'blinded' ORDER BY i", (rid,)
        )
    )
    numbers = [(integer(i), integer(j)) for i, j in rows]
    if numbers and len(numbers) != len(sigs.sigs):
        raise BadSignature("a mint signed another number of credits than were bought")
    for (i, j), signed in zip(numbers, sigs.sigs, strict=False):
        _enliven(connection, seed, keyset, i, j, signed)
    connection.execute("UPDATE outbox SET done = 1 WHERE id = ?", (rid,))
    _leave(connection, rid, "spent")
    return worth(j for _, j in numbers)


def refused(connection: Connection, rid: bytes) -> None:
    """The mint sold nothing; what the voucher promises waits for the next purchase."""
    connection.execute("DELETE FROM credit WHERE rid = ? AND state = 'blinded'", (rid,))
    connection.execute("UPDATE outbox SET done = 2 WHERE id = ?", (rid,))
    _leave(connection, rid, "found")


def spoilt(connection: Connection, rid: bytes) -> None:
    """The mint has signed with another key than it published: it is not sent again."""
    connection.execute("UPDATE outbox SET done = 3 WHERE id = ?", (rid,))


def _enliven(
    connection: Connection, seed: bytes, keyset: Keyset, i: int, j: int, signed: Signed
) -> None:
    secret = credit.derive(seed, keyset.mint, keyset.epoch, i)
    point = credit.unblind(keyset.key(j), secret.r, credit.blind(*secret), signed)
    connection.execute(
        "UPDATE credit SET state = 'live', c = ?, j = ? WHERE mint = ? AND epoch = ? AND i = ?",
        (point, j, keyset.mint, keyset.epoch, i),
    )


# --- swapping ---


def restored(
    connection: Connection,
    seed: bytes,
    keyset: Keyset,
    numbers: range,
    signed: Mapping[int, tuple[int, Signed]],
) -> None:
    """What a mint signed of these numbers: exponent and signature by number.

    None of the numbers is used again. Raises `BadSignature`, then nothing has changed.
    """
    for i, (j, signature) in signed.items():
        secret = credit.derive(seed, keyset.mint, keyset.epoch, i)
        point = credit.unblind(keyset.key(j), secret.r, credit.blind(*secret), signature)
        connection.execute(
            "INSERT OR IGNORE INTO credit (mint, epoch, i, j, m, c, state, rid)"
            " VALUES (?, ?, ?, ?, ?, ?, 'found', x'')",
            (keyset.mint, keyset.epoch, i, j, secret.m, point),
        )
    counted(connection, [(keyset.mint, keyset.epoch, numbers.stop)])


def counted(connection: Connection, counters: Iterable[tuple[AdnlId, int, int]]) -> None:
    """Numbers that were used before a loss are not used again: the first free one of each epoch."""
    for counter in counters:
        connection.execute(
            "INSERT INTO counter VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next = max(next, excluded.next)",
            counter,
        )


def to_swap(connection: Connection, mint: AdnlId, now: float) -> list[Credit]:
    """Credits of one epoch that should be new ones: found, or in their last week to be spent."""
    last = int(now) // EPOCH_SECONDS - _SPENDABLE_EPOCHS + 1
    rows = connection.execute(
        "SELECT epoch, i, j, m, c FROM credit WHERE mint = ?"
        " AND (state = 'found' OR state = 'live' AND epoch <= ?) ORDER BY epoch, i",
        (mint, last),
    )
    coins = [_coin(mint, row) for row in rows]
    return [coin for coin in coins if coin.epoch == coins[0].epoch]


def swap(
    connection: Connection, seed: bytes, old: Sequence[Credit], keyset: Keyset, rid: bytes
) -> Swap:
    """Write down a swap of credits of one epoch for as many of `keyset`, to be sent until answered.

    Raises `Insufficient` if one of them is not there any more; then nothing has happened.
    """
    exponents = [coin.j for coin in old]
    blinds = _add_blinded(connection, seed, keyset.mint, keyset.epoch, exponents, rid)
    outputs = tuple(zip(exponents, blinds, strict=True))
    terms = SpendTerms(
        mint=keyset.mint,
        epoch=old[0].epoch,
        payee=keyset.mint,
        session=sha256(b"tussah/swap/session" + rid).digest(),
        expiry=0,
        tick=worth(exponents),
        ticks=1,
        root=swap_root(keyset.epoch, outputs),
        blanks=(),
        owner=bytes(32),
    )
    request = Swap(Spend.build(old, terms).encode(), keyset.epoch, outputs)
    for coin in old:
        connection.execute(
            "UPDATE credit SET state = 'reserved', session = ?"
            " WHERE mint = ? AND epoch = ? AND i = ? AND state IN ('found', 'live')",
            (rid, coin.mint, coin.epoch, coin.i),
        )
        if connection.changes() != 1:
            raise Insufficient("a credit was spent meanwhile")
    connection.execute(
        "INSERT INTO outbox (id, peer, epoch, body, until, lane, price)"
        " VALUES (?, ?, ?, ?, ?, x'', 0)",
        (rid, keyset.mint, keyset.epoch, encode(request), keyset.start + 8 * EPOCH_SECONDS),
    )
    return request


def swaps(connection: Connection, mint: AdnlId) -> list[tuple[bytes, int, bytes]]:
    """Swaps that were not answered yet: id, epoch and request."""
    rows = connection.execute(
        "SELECT id, epoch, body FROM outbox WHERE peer = ? AND done = 0 AND lane = x''", (mint,)
    )
    return [(blob(rid), integer(epoch), blob(body)) for rid, epoch, body in rows]


def worthless(connection: Connection, rid: bytes) -> None:
    """The credits of a swap were spent before, or are too old: they are nothing any more."""
    _leave(connection, rid, "spent")
    refused(connection, rid)


def _leave(connection: Connection, rid: bytes, state: str) -> None:
    """What becomes of the credits that a swap was to change; a purchase has none."""
    connection.execute(
        "UPDATE credit SET state = ?, session = NULL WHERE session = ? AND state = 'reserved'",
        (state, rid),
    )


# --- spending ---


def live(connection: Connection, mint: AdnlId, now: float) -> dict[int, list[Credit]]:
    """The credits of a mint that can be spent, by epoch, the oldest epoch first."""
    oldest = int(now) // EPOCH_SECONDS - _SPENDABLE_EPOCHS + 1
    rows = connection.execute(
        "SELECT epoch, i, j, m, c FROM credit WHERE state = 'live' AND mint = ? AND epoch >= ?"
        " ORDER BY epoch, i",
        (mint, oldest),
    )
    coins: dict[int, list[Credit]] = {}
    for row in rows:
        coin = _coin(mint, row)
        coins.setdefault(coin.epoch, []).append(coin)
    return coins


def covers(connection: Connection, mint: AdnlId, amount: Nano, now: float) -> bool:
    """Whether the credits of one of a mint's epochs cover `amount`, as `reserve` wants it."""
    return any(_enough(coins, amount) for coins in live(connection, mint, now).values())


def _enough(coins: Sequence[Credit], amount: Nano) -> bool:
    try:
        credit.choose(coins, amount)
    except Insufficient:
        return False
    return True


def _coin(mint: AdnlId, row: Row) -> Credit:
    epoch, i, j, m, c = row
    return Credit(mint=mint, epoch=integer(epoch), i=integer(i), j=integer(j), m=blob(m), C=blob(c))


def reserve(
    connection: Connection, seed: bytes, terms: SpendTerms, secret: bytes, now: float
) -> Spend:
    """Set coins aside for a session: `terms` lack epoch, blanks and owner, which are filled in.

    Raises `Insufficient` if no epoch's coins cover it; then nothing has happened.
    """
    wanted = terms.tick * terms.ticks
    for epoch, coins in live(connection, terms.mint, now).items():
        try:
            chosen = credit.choose(coins, wanted)
        except Insufficient:
            continue
        return _reserve(connection, seed, chosen, terms, epoch, secret)
    raise Insufficient(f"no credits for {wanted}")


def used(connection: Connection, now: float) -> Nano:
    """What answers cost today, and the most that those under way can cost; days are UTC's.

    A session counts to the day on which its lock ends.
    """
    day = int(now) // _DAY
    rows = connection.execute(
        "SELECT tick, iif(state = 'done', settled, ticks) FROM session WHERE role = 'payer'"
        " AND (state <> 'done' OR expiry >= ? AND expiry < ?)",
        (day * _DAY, (day + 1) * _DAY),
    )
    return sum((nano(tick) * integer(count) for tick, count in rows), ZERO)


_DAY: Final = 86_400


def _reserve(
    connection: Connection,
    seed: bytes,
    coins: Sequence[Credit],
    bare: SpendTerms,
    epoch: int,
    secret: bytes,
) -> Spend:
    blanks = [BLANK] * credit.blanks_for(worth(coin.j for coin in coins))
    terms = SpendTerms(
        mint=bare.mint,
        epoch=epoch,
        payee=bare.payee,
        session=bare.session,
        expiry=bare.expiry,
        tick=bare.tick,
        ticks=bare.ticks,
        root=bare.root,
        blanks=_add_blinded(connection, seed, bare.mint, epoch, blanks, bare.session),
        owner=owner_of(secret),
    )
    spend = Spend.build(coins, terms)
    for coin in coins:
        connection.execute(
            "UPDATE credit SET state = 'reserved', session = ?"
            " WHERE mint = ? AND epoch = ? AND i = ?",
            (terms.session, terms.mint, epoch, coin.i),
        )
    _add_session(connection, spend, secret)
    return spend


def _add_session(connection: Connection, spend: Spend, secret: bytes) -> None:
    terms = spend.terms
    connection.execute(
        "INSERT INTO session"
        " (session, role, mint, epoch, spend, lock, amount, tick, ticks, expiry, secret, state)"
        " VALUES (?, 'payer', ?, ?, ?, ?, ?, ?, ?, ?, ?, 'reserved')",
        (
            terms.session,
            terms.mint,
            terms.epoch,
            spend.encode(),
            spend.lock_id,
            spend.amount.value,
            terms.tick.value,
            terms.ticks,
            terms.expiry,
            secret,
        ),
    )


def release(connection: Connection, session: bytes) -> None:
    """The spend never left, or was never locked and never can be: its coins are free again."""
    _drop_blanks(connection, session)
    connection.execute(
        "UPDATE credit SET state = 'live', session = NULL WHERE session = ? AND state = 'reserved'",
        (session,),
    )
    connection.execute("DELETE FROM session WHERE session = ? AND role = 'payer'", (session,))


def over(connection: Connection, session: bytes, *, revealed: int, owed: int, due: float) -> None:
    """The session has ended; its change is to be asked for from `due` on."""
    connection.execute(
        "UPDATE session SET state = 'over', i = ?, owed = ?, due = ?"
        " WHERE session = ? AND role = 'payer' AND state = 'reserved'",
        (revealed, owed, due, session),
    )


def unfinished(connection: Connection) -> list[bytes]:
    """Every session whose change has not come."""
    rows = connection.execute(
        "SELECT session FROM session WHERE role = 'payer' AND state <> 'done'"
    )
    return [blob(session) for (session,) in rows]


def abandoned(connection: Connection, dues: Mapping[bytes, float]) -> None:
    """After a restart: what was running when this node ended is over, and `dues` are new.

    How many ticks such a session had shown by then is not known: any number.
    """
    for session, due in dues.items():
        connection.execute(
            "UPDATE session SET due = max(due, ?),"
            " i = iif(state = 'reserved', ticks, i), owed = iif(state = 'reserved', ticks, owed),"
            " state = 'over' WHERE session = ? AND role = 'payer' AND state <> 'done'",
            (due, session),
        )


def postpone(connection: Connection, session: bytes, due: float) -> None:
    """Ask for the change of a session later."""
    connection.execute("UPDATE session SET due = ? WHERE session = ?", (due, session))


def next_over(connection: Connection) -> Session | None:
    """The session whose change is due first."""
    row = first(
        connection,
        "SELECT session, mint, epoch, lock, amount, tick, expiry, i, owed, secret, due"
        " FROM session WHERE role = 'payer' AND state = 'over' ORDER BY due LIMIT 1",
    )
    return None if row is None else _session(row)


def _session(row: Row) -> Session:
    session, mint, epoch, lock, amount, tick, expiry, revealed, owed, secret, due = row
    return Session(
        session=blob(session),
        mint=AdnlId(blob(mint)),
        epoch=integer(epoch),
        lock=blob(lock),
        amount=nano(amount),
        tick=nano(tick),
        expiry=integer(expiry),
        revealed=integer(revealed),
        owed=integer(owed),
        secret=blob(secret),
        due=number(due),
    )


def changed(
    connection: Connection, seed: bytes, keyset: Keyset, session: Session, reply: Changed
) -> Nano:
    """The mint has given change: its blanks are live, the coins spent. Returns what came back.

    Raises `BadSignature` if the mint used another key, then nothing has changed.
    """
    rows = list(
        connection.execute(
            "SELECT i FROM credit WHERE rid = ? AND j = ? AND state = 'blinded' ORDER BY i",
            (session.session, BLANK),
        )
    )
    if len(reply.sigs) > len(rows):
        raise BadSignature("a mint signed more blanks than there are")
    for (i,), (j, signed) in zip(rows, reply.sigs, strict=False):
        _enliven(connection, seed, keyset, integer(i), j, signed)
    _drop_blanks(connection, session.session)
    connection.execute(
        "UPDATE credit SET state = 'spent' WHERE session = ? AND state = 'reserved'",
        (session.session,),
    )
    connection.execute(
        "UPDATE session SET state = 'done', settled = ? WHERE session = ?",
        (reply.paid_ticks, session.session),
    )
    return worth(j for j, _ in reply.sigs)


def least_change(session: Session, paid_ticks: int) -> Nano:
    """What must come back for so many ticks; a rest below the least credit is the worker's."""
    rest = session.amount - session.tick * paid_ticks
    return Nano(rest.value >> LEAST << LEAST)


def _drop_blanks(connection: Connection, session: bytes) -> None:
    connection.execute(
        "DELETE FROM credit WHERE rid = ? AND j = ? AND state = 'blinded'", (session, BLANK)
    )


# --- for people ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Credits at hand and on their way."""

    by_value: tuple[tuple[Nano, int], ...]
    """How many live credits of each value, the smallest first."""
    in_flight: Nano
    """In sessions whose change has not been fetched."""
    newest_epoch: int | None

    @property
    def value(self) -> Nano:
        """Of the live ones."""
        return sum((value * count for value, count in self.by_value), ZERO)


def holdings(connection: Connection, mints: Iterable[AdnlId], now: float) -> Holdings:
    """What can be spent now."""
    coins = [
        coin for mint in mints for batch in live(connection, mint, now).values() for coin in batch
    ]
    counts: dict[int, int] = {}
    for coin in sorted(coins, key=lambda coin: coin.j):
        counts[coin.j] = counts.get(coin.j, 0) + 1
    flying = connection.execute(
        "SELECT amount FROM session WHERE role = 'payer' AND state <> 'done'"
    )
    return Holdings(
        by_value=tuple((Nano(1 << j), count) for j, count in counts.items()),
        in_flight=sum((nano(amount) for (amount,) in flying), ZERO),
        newest_epoch=max((coin.epoch for coin in coins), default=None),
    )
