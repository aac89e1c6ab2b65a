"""Messages of ours to the chain: kept before they leave, sent until taken or dead, then followed.

A chain promises nothing about an external: it may be dropped, taken twice, or taken late. So each
one is a row first, is safe to send again (the account refuses a repetition), is dead only once the
chain's own clock is past its life, and is known by its normalised hash. What it caused is read back
from the chain, transaction by transaction, with fees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, final

import structlog
import trio

from ledger import lane_rows
from ledger.caused import Caused, find, told
from ledger.chain.base import Chain, Head, NotAccepted, Tx
from ledger.chain.clock import ChainClock
from ledger.contracts.cells import Paid
from ledger.ends import End
from ledger.lane import CLOCK_MARGIN, Account, Op
from ledger.money import ZERO, Nano
from ledger.store import Connection, Row, Store, blob, first, integer, nano, number, text
from p2p.errors import LocalError, RemoteError, Unreachable

AGAIN: Final = 5.0
"""seconds until an external that was not taken is sent again: about a block of TON."""

REFUSALS: Final = 3
"""times that an account's own code refuses an external before it counts as dead. It may be taken
later all the same, so whatever posts another in its place must not mind both."""

PAUSE: Final = 10.0
"""seconds to wait for a block before looking anyway."""

FOLLOW: Final = 600
"""seconds past an external's life that its consequences are waited for."""

MOST_CAUSED: Final = 64
"""transactions that one external of ours causes at the most"""

log = structlog.get_logger()


class Kind(Enum):
    """What an external does."""

    OPEN = "open"
    TOP_UP = "top_up"
    CLAIM = "claim"
    CLOSE = "close"
    START_CLOSE = "start_close"
    FINISH = "finish"
    WITHDRAW = "withdraw"
    RESCUE = "rescue"
    """a claim for a friend"""


class Fate(Enum):
    """What became of an external."""

    MADE = "made"
    """kept, perhaps sent"""
    SEEN = "seen"
    """its transaction is on the chain; what that causes is not all there yet"""
    DONE = "done"
    DEAD = "dead"
    """expired or refused"""


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A message to the chain."""

    hash: bytes
    """32 bytes, normalised: by which its transaction is known."""
    lane: bytes
    """What it is about; empty: no lane."""
    dest: Account
    kind: Kind
    boc: bytes
    until: int
    """Unix time after which the account refuses it."""
    after_lt: int
    """Its transaction is later than this one of `dest`."""
    balance: Nano
    """What was on the lane when this was made."""
    made_at: float
    fate: Fate = Fate.MADE
    fees: Nano = ZERO
    """All that it cost anybody, once done."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.fate in (Fate.DONE, Fate.DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Also:
    """A further lane that an external is about: one transfer of a wallet may fund many."""

    lane: bytes
    kind: Kind
    balance: Nano
    """What was on it when the external was made."""


@final
class Externals:
    """Every external of a node on its way. `run` does the work; the rest asks and waits."""

    def __init__(self, chain: Chain, store: Store, clock: ChainClock) -> None:
        self._chain = chain
        self._store = store
        self._clock = clock
        self._kick = trio.Event()
        self._news = trio.Event()
        self._touched: dict[bytes, None] = {}
        self._sent: dict[bytes, float] = {}
        self._refused: dict[bytes, int] = {}

    def kick(self) -> None:
        """Externals were posted: call after the write that did it."""
        self._kick.set()

    async def outcome(self, message: bytes, *, whole: bool = False) -> bool:
        """Wait until an external is on the chain, or dead: whether it got there.

        `whole`: and until all that it causes is there too. Raises `KeyError` for one that was
        never posted. The caller sets the time limit.
        """
        while True:
            news = self._news
            external = await self._store.read(lambda c: load(c, message))
            if external.finished or (external.fate is Fate.SEEN and not whole):
                return external.fate is not Fate.DEAD
            await news.wait()

    async def idle(self, dest: Account) -> None:
        """Wait until nothing is on its way to an account."""
        while True:
            news = self._news
            if not await self._store.read(lambda c: pending(c, dest)):
                return
            await news.wait()

    async def touched(self) -> Sequence[bytes]:
        """Wait for lanes that something has happened to since the last call."""
        while not self._touched:
            await self._news.wait()
        touched, self._touched = tuple(self._touched), {}
        return touched

    async def run(self) -> None:
        """Send and follow until cancelled. Nothing is lost by that: rows are taken up again."""
        while True:
            try:
                await self._send_and_follow()
            except LocalError as error:  # the disk, which the store has logged
                log.info("chain.waits", reason=str(error))
                await trio.sleep(AGAIN)

    async def _send_and_follow(self) -> None:
        self._kick = trio.Event()
        unfinished = await self._store.read(lambda c: list(_unfinished(c)))
        if unfinished:
            await self._round(unfinished)
            await self._next_block()
        else:
            await self._kick.wait()

    async def _round(self, unfinished: Sequence[External]) -> None:
        try:
            head = await self._clock.hear()
            for external in unfinished:
                await self._tend_safely(external, head)
        except (Unreachable, RemoteError) as error:
            log.info("chain.unreachable", reason=str(error))
            await trio.sleep(AGAIN)

    async def _next_block(self) -> None:
        """Or a new external, or a while."""
        with trio.move_on_after(PAUSE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_kicked, nursery.cancel_scope)
                try:
                    await self._clock.next_block()
                except (Unreachable, RemoteError):
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()

    async def _until_kicked(self, scope: trio.CancelScope) -> None:
        await self._kick.wait()
        scope.cancel()

    async def _tend_safely(self, external: External, head: Head) -> None:
        """What the chain says wrongly of one account must not keep the others waiting."""
        try:
            await self._tend(external, head)
        except RemoteError as error:
            log.info("chain.nonsense", kind=external.kind.value, reason=str(error))

    async def _tend(self, external: External, head: Head) -> None:
        """`head` is older than what is looked at, so what is not found by then was not there."""
        story, whole = await self._story(external)
        if story:
            await self._follow(external, story, whole=whole, head=head)
        elif head.time > external.until + CLOCK_MARGIN:
            await self._dead(external, "expired")
        elif trio.current_time() - self._sent.get(external.hash, -AGAIN) >= AGAIN:
            await self._send(external)

    async def _send(self, external: External) -> None:
        self._sent[external.hash] = trio.current_time()
        try:
            await self._chain.send(external.boc)
        except NotAccepted as error:
            await self._not_accepted(external, error)

    async def _not_accepted(self, external: External, error: NotAccepted) -> None:
        """The chain's own refusal passes; the account's, once repeated, does not."""
        name = external.kind.value
        log.info("chain.refused", kind=name, code=error.exit_code, reason=str(error))
        if error.exit_code is None:
            return
        count = self._refused[external.hash] = self._refused.get(external.hash, 0) + 1
        if count >= REFUSALS:
            await self._dead(external, f"exit code {error.exit_code}")

    async def _dead(self, external: External, why: str) -> None:
        log.info("chain.message.dead", kind=external.kind.value, reason=why)
        await self._store.write(lambda c: _finish(c, external.hash, Fate.DEAD))
        self._forget(external)
        self._announce(None)  # its lane waits for the next round: what was refused would be again

    async def _follow(
        self, external: External, story: Sequence[Caused], *, whole: bool, head: Head
    ) -> None:
        if whole or head.time > external.until + FOLLOW:
            await self._store.write(lambda c: _record(c, external.hash, story))
            self._forget(external)
            self._announce(external, await self._store.read(lambda c: also(c, external.hash)))
        elif external.fate is Fate.MADE:
            await self._store.write(lambda c: _finish(c, external.hash, Fate.SEEN))
            self._announce(external)

    def _forget(self, external: External) -> None:
        self._sent.pop(external.hash, None)
        self._refused.pop(external.hash, None)

    def _announce(self, external: External | None, others: Sequence[Also] = ()) -> None:
        if external is not None and external.lane:
            self._touched |= dict.fromkeys((external.lane, *(other.lane for other in others)))
        self._news.set()
        self._news = trio.Event()

    # --- what an external caused, read from the chain ---

    async def _story(self, external: External) -> tuple[list[Caused], bool]:
        """Its transactions so far, its own first, and whether that is all; none: not taken yet."""
        top = await self._find(external.dest, external.after_lt, external.hash)
        if top is None:
            last = await self._last_words(external, external.after_lt)
            return last, bool(last)
        found = [top]
        last = []
        for tx in found:
            if external.kind is Kind.WITHDRAW and tx is not top:
                break  # what a stranger does with our coins is its own affair
            for message in tx.outgoing:
                if message.dest is None or len(found) >= MOST_CAUSED:
                    continue
                child = await self._find(message.dest, tx.lt, message.hash)
                if child is not None:
                    found.append(child)
                elif message.dest == external.lane and not last:
                    last = await self._last_words(external, tx.lt)
                if child is None and not last:
                    return _told(found), False
        return _told(found) + last, True

    async def _last_words(self, external: External, after_lt: int) -> list[Caused]:
        """The end of a lane whose account is gone, and with it, to a lite-server, its history.

        Told by what its parties got from it; what nobody got was fees. Empty: it has not ended.
        """
        ends = external.kind in (Kind.CLOSE, Kind.FINISH)
        lane = Account(external.lane)
        if not ends or await self._chain.account(lane) is not None:
            return []
        row = await self._store.read(lambda c: lane_rows.load(c, lane))
        if row is None:
            return []
        parties = dict.fromkeys((row.config.payee, row.config.payer))
        paid = [one for party in parties for one in await self._paid(party, lane, after_lt)]
        if not any(one.op == Paid.REST for one in paid):
            return []
        return [_end(external, paid), *paid]

    async def _paid(self, party: Account, lane: Account, after_lt: int) -> list[Caused]:
        """What an account got from a lane that ended."""
        page = await self._chain.transactions(party, after_lt)
        found = _told(page)
        return [one for one in found if one.source == lane and one.op in (Paid.CLOSE, Paid.REST)]

    async def _find(self, account: Account, after_lt: int, message: bytes) -> Tx | None:
        """The transaction of an account that took a message in."""
        return await find(self._chain, account, after_lt, lambda tx: _took(tx, message))


def _took(tx: Tx, message: bytes) -> bool:
    return tx.incoming is not None and tx.incoming.hash == message


# --- rows ---

_COLUMNS: Final = "hash, lane, dest, kind, boc, until, after_lt, balance, made_at, state, fees"


def post(connection: Connection, external: External) -> None:
    """Keep an external, in the write that makes it true; then `Externals.kick`."""
    connection.execute(
        f"INSERT INTO chain_msg ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
        " ON CONFLICT (hash) DO NOTHING",
        (
            external.hash,
            external.lane,
            external.dest,
            external.kind.value,
            external.boc,
            external.until,
            external.after_lt,
            external.balance.value,
            external.made_at,
            external.fate.value,
            external.fees.value,
        ),
    )


def post_end(connection: Connection, lane: bytes, end: End) -> None:
    """Keep how a lane ended, as if this node had closed it; nothing if it has.

    What it cost is counted by who did close it.
    """
    told = "SELECT 1 FROM chain_msg WHERE lane = ? AND kind IN (?, ?) AND state <> 'dead'"
    if first(connection, told, lane, Kind.CLOSE.value, Kind.FINISH.value) is not None:
        return
    own, rest = end.caused
    external = External(
        hash=end.message,
        lane=lane,
        dest=Account(lane),
        kind=Kind.CLOSE,
        boc=b"",
        until=own.at,
        after_lt=own.lt - 1,
        balance=ZERO,
        made_at=float(own.at),
        fate=Fate.DONE,
    )
    post(connection, external)
    _keep(connection, external.hash, (own, rest))


def load(connection: Connection, message: bytes) -> External:
    """An external by its hash. Raises `KeyError`."""
    row = first(connection, f"SELECT {_COLUMNS} FROM chain_msg WHERE hash = ?", message)  # noqa: S608
    if row is None:
        raise KeyError(message.hex())
    return _external(row)


def add(connection: Connection, message: bytes, other: Also) -> None:
    """Have an external that was kept be about another lane, too."""
    connection.execute(
        "INSERT INTO chain_also VALUES (?, ?, ?, ?)",
        (message, other.lane, other.kind.value, other.balance.value),
    )


def also(connection: Connection, message: bytes) -> list[Also]:
    """The further lanes that an external is about."""
    rows = connection.execute(
        "SELECT lane, kind, balance FROM chain_also WHERE msg = ? ORDER BY lane", (message,)
    )
    return [
        Also(lane=blob(lane), kind=Kind(text(kind)), balance=nano(balance))
        for lane, kind, balance in rows
    ]


def run_errand(connection: Connection, key: bytes, external: External) -> None:
    """Keep an external that a person asked for under a key of its own."""
    post(connection, external)
    connection.execute("INSERT INTO errand VALUES (?, ?)", (key, external.hash))


def errand(connection: Connection, key: bytes) -> bytes | None:
    """The hash of the external that was kept under a key."""
    row = first(connection, "SELECT msg FROM errand WHERE key = ?", key)
    return None if row is None else blob(row[0])


def pending(connection: Connection, dest: Account) -> list[External]:
    """What an account may still take."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM chain_msg WHERE state = 'made' AND dest = ?"  # noqa: S608
        " ORDER BY made_at, rowid",
        (dest,),
    )
    return [_external(row) for row in rows]


def busy(connection: Connection, lane: bytes) -> bool:
    """Whether something about a lane is still on its way, so that a look at it may mislead."""
    query = (
        "SELECT 1 FROM chain_msg m WHERE state IN ('made', 'seen') AND (lane = ? OR EXISTS"
        " (SELECT 1 FROM chain_also a WHERE a.msg = m.hash AND a.lane = ?))"
    )
    return first(connection, query, lane, lane) is not None


def about(connection: Connection, lane: bytes) -> list[tuple[External, tuple[Caused, ...]]]:
    """Every external about a lane, the oldest first, with what it caused for that lane.

    Of a transfer that funded several, the first has all but what the others took in: summed over
    lanes, each transaction and fee counts once.
    """
    own = connection.execute(
        f"SELECT {_COLUMNS} FROM chain_msg WHERE lane = ?",  # noqa: S608
        (lane,),
    )
    shared = connection.execute(
        "SELECT m.hash, a.lane, dest, a.kind, boc, until, after_lt, a.balance, made_at, state, fees"
        " FROM chain_also a JOIN chain_msg m ON m.hash = a.msg WHERE a.lane = ?",
        (lane,),
    )
    found = sorted(map(_external, (*own, *shared)), key=lambda external: external.made_at)
    return [_part(connection, external) for external in found]


def _part(connection: Connection, external: External) -> tuple[External, tuple[Caused, ...]]:
    whole, others = caused(connection, external.hash), also(connection, external.hash)
    if not others:
        return external, tuple(whole)
    lanes = {other.lane for other in others}
    mine = external.lane in lanes
    part = [
        one for one in whole if (one.account == external.lane if mine else one.account not in lanes)
    ]
    return replace(external, fees=sum((one.fees for one in part), ZERO)), tuple(part)


def caused(connection: Connection, message: bytes) -> list[Caused]:
    """The transactions that an external caused, its own first; none until it is done."""
    rows = connection.execute(
        "SELECT hash, account, source, op, value, fees, gas, lt, at FROM chain_tx"
        " WHERE msg = ? ORDER BY n",
        (message,),
    )
    return [_transaction(row) for row in rows]


def _unfinished(connection: Connection) -> Iterator[External]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM chain_msg WHERE state IN ('made', 'seen')"  # noqa: S608
        " ORDER BY made_at, rowid"
    )
    return (_external(row) for row in rows)


def _finish(connection: Connection, message: bytes, fate: Fate, fees: Nano = ZERO) -> None:
    connection.execute(
        "UPDATE chain_msg SET state = ?, fees = ? WHERE hash = ?",
        (fate.value, fees.value, message),
    )


def _record(connection: Connection, message: bytes, story: Sequence[Caused]) -> None:
    _finish(connection, message, Fate.DONE, sum((one.fees for one in story), ZERO))
    _keep(connection, message, story)


def _keep(connection: Connection, message: bytes, story: Sequence[Caused]) -> None:
    for n, one in enumerate(story):
        connection.execute(
            "INSERT OR IGNORE INTO chain_tx"
            " (msg, n, hash, account, source, op, value, fees, gas, lt, at)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(message, n, one.hash, one.account, one.source, one.op),
                *(one.value.value, one.fees.value, one.gas, one.lt, one.at),
            ),
        )


def _told(transactions: Sequence[Tx]) -> list[Caused]:
    return [told(tx) for tx in transactions]


def _end(external: External, paid: Sequence[Caused]) -> Caused:
    """A lane's last transaction, which cannot be read."""
    got = sum((one.value for one in paid), ZERO)
    return Caused(
        hash=b"",
        account=Account(external.lane),
        source=None,
        op=_LAST[external.kind],
        value=ZERO,
        fees=external.balance - min(got, external.balance),
        gas=0,
        lt=min(one.lt for one in paid),
        at=min(one.at for one in paid),
    )


_LAST: Final = {Kind.CLOSE: Op.CLOSE, Kind.FINISH: Op.FINISH}


def _external(row: Row) -> External:
    return External(
        hash=blob(row[0]),
        lane=blob(row[1]),
        dest=Account(blob(row[2])),
        kind=Kind(text(row[3])),
        boc=blob(row[4]),
        until=integer(row[5]),
        after_lt=integer(row[6]),
        balance=nano(row[7]),
        made_at=number(row[8]),
        fate=Fate(text(row[9])),
        fees=nano(row[10]),
    )


def _transaction(row: Row) -> Caused:
    return Caused(
        hash=blob(row[0]),
        account=Account(blob(row[1])),
        source=None if row[2] is None else Account(blob(row[2])),
        op=integer(row[3]),
        value=nano(row[4]),
        fees=nano(row[5]),
        gas=integer(row[6]),
        lt=integer(row[7]),
        at=integer(row[8]),
    )
