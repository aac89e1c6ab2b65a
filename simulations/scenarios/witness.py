"""Who sees all of a bazaar and says when money goes wrong: the invariants of `scenarios/lanes.py`.

    I1  nanotons are conserved over purses, lanes, credits, contract
    I2  what a party acknowledged never falls; nonces rise
    I4  an asker pays at most a tick ahead, a worker gives at most a tick, or a step, on credit
    I5  a credit is redeemed once
    I6  every ask ends in time, and at rest nothing of it is left anywhere
    I7  a request runs at most once: the same request, the same reply
    I10 no worker has more offers and prompts than it may
    I11 no exception leaves a core, and nothing a peer sends is an error in a log

It reads disks after each write and what passes between nodes, and changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, final

import structlog

from inference import protocol
from inference.protocol import Chunk, Progress, Tick
from inference.quoting import MAX_QUOTES
from inference.schedule import WAITING_PER_SLOT
from ledger import coins, takings, wire
from ledger.credit import Spend, worth
from ledger.messages import Code, Err, Lock, Locked, Settle, Settled
from ledger.money import ZERO, Nano
from ledger.receipt import LockReceipt
from ledger.sqlbook import SqlBook
from ledger.store import Connection, integer, text
from ledger.tariff import Count, cost, prompt_ticks
from p2p import codec
from p2p.errors import CodecError, RemoteError
from p2p.onion.events import Data, Incoming, Opened
from simulations.attackers import Attackers
from simulations.bazaar import (
    ANSWER,
    ASK_WAIT,
    HERE,
    PRICES,
    SERVICE,
    Ask,
    AskerParty,
    Bazaar,
    keys,
)
from simulations.bounds import within
from simulations.chain import ChainTwin
from simulations.faces import Passing
from simulations.faults import OF_BYTES, Kind, Schedule
from simulations.metrics import Meter
from simulations.scenarios import Audit, Violation

LATE: Final = 1.0
"""seconds that an ask may end after its limit: the time of a step"""

EXCUSED: Final = ("store.failed", "store.work.failed")
"""error lines of a disk's own making, when one fails or its process is gone"""

BOUNDS: Final = {"quoted": MAX_QUOTES, "waiting": (WAITING_PER_SLOT + 1) * SERVICE.slots}
"""of what a worker holds for askers; of those who wait some may be let in already"""

ROWS: Final = {
    "lane": "SELECT 'lane' || hex(id), cumulative FROM lane",
    "claimed": "SELECT 'claimed' || hex(id), claimed FROM lane",
    "lock": "SELECT 'lock' || hex(id), i FROM lock",
    "final": "SELECT 'final' || hex(id), final FROM lock",
    "taking": "SELECT 'taking' || hex(lock), i FROM taking WHERE NOT final",
    "settled": "SELECT 'settled' || hex(lock), settled FROM taking",
    "counter": "SELECT 'counter' || hex(mint) || epoch, next FROM counter",
}
"""numbers on a disk that never fall"""

OF_MINT: Final = ("lane", "claimed", "lock", "final")
OF_WORKER: Final = ("lane", "claimed", "taking", "settled")
OF_ASKER: Final = ("lane", "claimed", "counter")

_ALL: Final = {
    rows: " UNION ALL ".join(ROWS[name] for name in rows) for rows in (OF_MINT, OF_WORKER, OF_ASKER)
}


@dataclass(slots=True)
class _Session:
    """What has passed between an asker and a worker through one circuit."""

    asked: dict[bool, codec.Unframer] = field(
        default_factory=lambda: {at: codec.Unframer(protocol.MAX_UPLOAD) for at in (False, True)}
    )
    answered: dict[bool, codec.Unframer] = field(
        default_factory=lambda: {at: codec.Unframer(protocol.MAX_UPLOAD) for at in (False, True)}
    )
    began: float = 0.0
    asker: int = -1
    worker: int = -1
    want: bytes = b""
    tick: Nano = ZERO
    step: int = 0
    """ticks in a step of reading, which is unpaid until it is done"""
    prompt: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    said: int = 0
    heard: int = 0
    shown: int = 0
    """ticks that the asker has sent"""
    had: int = 0
    """ticks that have come to the worker"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One session of an attacker with an honest party, and what that lost."""

    kind: str
    asker: int
    worker: int
    began: float
    loss: int
    """ticks that were shown for nothing, or that should have come"""
    bound: int
    """ticks that it may be"""


@final
class Witness:
    """See the module; `watch` first, and `rest` when all should be over."""

    def __init__(
        self, audit: Audit, chain: ChainTwin, asks: list[Ask], villains: Attackers
    ) -> None:
        self.meter: Meter | None = None
        self.attacks: list[Attack] = []
        """at rest"""
        self.spends: Counter[str] = Counter()
        """what the mint said to spends: locked, or why not"""
        self._villains = villains
        self._audit = audit
        self._chain = chain
        self._asks = asks
        self._bazaar: Bazaar | None = None
        self._peaks: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._acked: dict[str, int] = {}
        self._spenders: dict[bytes, bytes] = {}
        self._replies: dict[bytes, bytes] = {}
        self._sessions: defaultdict[int, _Session] = defaultdict(_Session)
        self._doubtful: frozenset[int] = frozenset()
        self._is_damaged = False

    def watch(self, bazaar: Bazaar, faults: Schedule) -> None:
        """See all of it. Askers who go on with old disks know less than they should."""
        self._bazaar = bazaar
        erased = (node for fault in faults.of(Kind.ERASE) for node in fault.nodes)
        self._doubtful = frozenset([*erased, *self._villains.hands.spenders])
        self._is_damaged = bool(faults.of(*OF_BYTES))
        bazaar.faces.call_taps.append(self._called)
        bazaar.faces.circuit_taps.append(self._passed)

    # --- what happens ---

    def committed(self, node: int, connection: Connection) -> None:
        """I1 and I2, of the disk that has changed."""
        self._rise(node, connection)
        if node == 0:
            self._balance(connection)

    def raised(self, node: int, error: Exception) -> None:
        """I11."""
        self._fail("I11", node, f"{type(error).__name__}: {error}")

    def asked(self, one: Ask) -> None:
        """I6, of one ask."""
        self._asks.append(one)
        took = one.ended - one.began
        if self.meter is not None:
            ends = {"answer": "answer", "all_refused": "refusal", "busy": "refusal"}
            self.meter.count("ask_outcome", label=ends.get(one.outcome, "error"))
            self.meter.observe("ask_s", took)
        self._hold("I6", one.node, took <= ASK_WAIT + LATE, f"an ask took {took:.1f} s")

    def logged(self, logger: object, level: str, event: MutableMapping[str, object]) -> NoReturn:
        """I11; a processor of structlog, and the last one."""
        if level in ("error", "critical") and event.get("event") not in EXCUSED:
            self._fail("I11", HERE.get(-1), f"logged as an error: {event}")
        raise structlog.DropEvent

    # --- at rest ---

    def rest(self) -> None:
        """Once the last fault is long over: I1 between parties, and I6."""
        bazaar = self._bazaar
        assert bazaar is not None
        for seat in bazaar.seats:
            left = {name: size for name, size in seat.sizes().items() if size}
            self._hold("I6", seat.index, not left, f"left at rest: {left}")
        sheet = bazaar.seats[0].disk.look(lambda c: SqlBook(c).sheet())
        self._hold("I6", 0, sheet.locked == ZERO, f"still locked: {sheet.locked}")
        self._settled(sheet.given + sheet.owed)
        self._outstanding(sheet.outstanding)
        self._hold("I1", 0, self._chain.sums().exact, f"the chain has {self._chain.sums()}")
        self._reckon()

    def _reckon(self) -> None:
        """What attacks have cost whom."""
        kinds = self._villains.kinds
        for session in self._sessions.values():
            if session.asker in kinds and session.worker not in kinds:
                loss, bound = _unpaid(session), _on_credit(session)
                self._attacked(kinds[session.asker], session, loss, bound)
            elif session.worker in kinds and session.asker not in kinds:
                self._attacked(kinds[session.worker], session, _overpaid(session), 1)

    def _attacked(self, kind: str, session: _Session, loss: int, bound: int) -> None:
        attack = Attack(
            kind=kind,
            asker=session.asker,
            worker=session.worker,
            began=session.began,
            loss=loss,
            bound=bound,
        )
        self.attacks.append(attack)
        victim = session.worker if session.asker in self._villains.kinds else session.asker
        self._hold("I4", victim, loss <= bound, f"lost {loss} ticks to a {kind}, not {bound}")
        if self.meter is not None:
            self.meter.observe("loss_ticks", loss, kind)

    def _settled(self, promised: Nano) -> None:
        """What the mint has given is with the workers, and what it has not, nobody has."""
        bazaar = self._bazaar
        assert bazaar is not None
        mint, _ = keys(0)
        held = ZERO
        for seat in bazaar.seats[1 : 1 + bazaar.workers]:
            account = seat.disk.look(lambda c: takings.account(c, mint.id))
            held += account.held + account.owed
            open_ = seat.disk.look(takings.unfinished)
            self._hold("I6", seat.index, not open_, f"{len(open_)} sessions are not settled")
            self._hold("I1", seat.index, not account.is_short, f"short: {account}")
        # Damage that no link lets through makes a mint refuse what is right; the till believes it.
        whole = held <= promised if self._is_damaged else held == promised
        self._hold("I1", 0, whole, f"workers hold {held} of {promised}")

    def _outstanding(self, outstanding: Nano) -> None:
        bazaar = self._bazaar
        assert bazaar is not None
        held = ZERO
        for seat in bazaar.seats:
            if isinstance(seat.party, AskerParty):
                held += seat.disk.look(_holdings)
                open_ = seat.disk.look(coins.unfinished)
                doubtful = seat.index in self._doubtful
                self._hold("I6", seat.index, doubtful or not open_, f"{len(open_)} sessions go on")
        if not self._doubtful:
            self._hold("I1", 0, held == outstanding, f"askers hold {held} of {outstanding}")

    # --- I1 and I2: disks ---

    def _balance(self, connection: Connection) -> None:
        try:
            difference = SqlBook(connection).sheet().difference
        except ArithmeticError as error:
            self._fail("I1", 0, f"the books cannot be added up: {error}")
            return
        self._hold("I1", 0, difference == 0, f"the books are wrong by {difference} nano")

    def _rise(self, node: int, connection: Connection) -> None:
        bazaar = self._bazaar
        assert bazaar is not None
        of = OF_MINT if node == 0 else OF_WORKER if node <= bazaar.workers else OF_ASKER
        peaks = self._peaks[node]
        self._audit.check("I2")
        for label, value in connection.execute(_ALL[of]):
            name = text(label)
            number = integer(value)
            peak = max(peaks.get(name, 0), self._acked.get(f"{node} {name}", 0))
            if number < peak and node not in self._doubtful:
                self._fail("I2", node, f"{name[:24]} fell from {peak} to {number}")
            peaks[name] = max(peak, number)

    # --- I5, I7 and acknowledgements: calls ---

    def _called(self, now: float, asker: int, asked: int, body: bytes, answer: bytes) -> None:
        if asked != 0:
            return
        try:
            request, reply = wire.read_request(body), wire.read_reply(answer)
        except CodecError:
            return
        match request, reply:
            case Lock(), Locked():
                self._spent("locked")
                self._locked(request, reply)
            case Lock(), Err(code=code):
                self._spent(Code(code).value)
            case Settle(), Settled():
                name = f"0 lock{request.lock.hex().upper()}"
                self._acked[name] = max(self._acked.get(name, 0), reply.i)
            case _:
                pass

    def _spent(self, outcome: str) -> None:
        self.spends[outcome] += 1
        if self.meter is not None:
            self.meter.count("spends", label=outcome)

    def _locked(self, request: Lock, reply: Locked) -> None:
        mint, _ = keys(0)
        lock = Spend.parse(request.spend).lock_id
        before = self._replies.setdefault(lock, reply.receipt)
        same = before == reply.receipt
        self._hold("I7", 0, same, f"lock {lock.hex()[:8]} was made twice")
        for nullifier in LockReceipt.parse(reply.receipt, mint.public).nullifiers:
            other = self._spenders.setdefault(nullifier, lock)
            text = f"a credit was spent for {other.hex()[:8]} and for {lock.hex()[:8]}"
            self._hold("I5", 0, other == lock, text)

    # --- I4: circuits ---

    def _passed(self, passing: Passing) -> None:
        if 0 in (passing.src, passing.dst):
            return
        event, session = passing.event, self._sessions[passing.circuit]
        if isinstance(event, Incoming):
            session.want = event.request.removeprefix(protocol.PLAIN)
            session.began, session.asker, session.worker = passing.at, passing.src, passing.dst
            self._crowded(passing.dst)
        elif isinstance(event, Opened) and not passing.arrives:
            worker, _ = keys(passing.src)
            signed = protocol.read_reply(event.offer)
            session.step = protocol.read_offer(signed, worker.public, session.want).step_ticks
        elif isinstance(event, Data):
            self._read(session, passing, event)

    def _crowded(self, node: int) -> None:
        """I10, whenever somebody wants something of a worker."""
        bazaar = self._bazaar
        assert bazaar is not None
        sizes = bazaar.seats[node].sizes()
        wrong = within(sizes, BOUNDS)
        self._hold("I10", node, not wrong, wrong)
        if self.meter is not None:
            self.meter.gauge("open_offers", sizes.get("quoted", 0))

    def _read(self, session: _Session, passing: Passing, event: Data) -> None:
        unframer = (session.asked if passing.asks else session.answered)[passing.arrives]
        try:
            unframer.feed(event.data)
            for message in unframer:
                self._said(session, passing, message)
        except RemoteError as error:
            self._fail("I11", passing.src, f"said what is no message: {error}")

    def _said(self, session: _Session, passing: Passing, message: bytes) -> None:
        read = protocol.read_asker if passing.asks else protocol.read_worker
        match read(message):
            case protocol.Pay(body=spend) if passing.asks:
                session.tick = Spend.parse(spend).terms.tick
            case Progress(prompt=prompt):
                session.prompt[passing.arrives] = prompt
            case Tick(index=index) if passing.arrives:
                session.had = max(session.had, index)
            case Tick(index=index):
                session.shown = max(session.shown, index)
                self._asker_ahead(session, passing)
            case Chunk(ids=ids) if passing.arrives:
                session.heard += len(ids)
            case Chunk(ids=ids):
                session.said += len(ids)
                if passing.src not in self._villains.kinds:  # a liar says more than it has made
                    self._worker_ahead(session, passing)
            case _:
                pass

    def _asker_ahead(self, session: _Session, passing: Passing) -> None:
        """At most a tick ahead of what has come, prompt and answer each rounded up once."""
        due = _p0(session, arrived=True) + 1 + _written(session.heard) // session.tick.value
        text = f"{session.shown} ticks shown for {session.heard} tokens: {due} were due"
        self._hold("I4", passing.src, session.shown <= due, text)

    def _worker_ahead(self, session: _Session, passing: Passing) -> None:
        """At most a tick behind what it has said; until the prompt is paid, a step of reading."""
        paid = session.had - _p0(session, arrived=False) + _on_credit(session)
        behind = _written(session.said) - paid * session.tick.value
        text = f"{session.said} tokens said for {session.had} ticks"
        self._hold("I4", passing.src, behind <= 0, text)

    # --- the book of it ---

    def _hold(self, invariant: str, node: int, holds: bool, text: str) -> None:
        self._audit.check(invariant)
        if not holds:
            self._fail(invariant, node, text)

    def _fail(self, invariant: str, node: int, text: str) -> None:
        bazaar = self._bazaar
        assert bazaar is not None
        self._audit.fail(Violation(invariant=invariant, at=bazaar.now(), node=node, detail=text))


def _p0(session: _Session, *, arrived: bool) -> int:
    return prompt_ticks(Count(prompt=session.prompt[arrived], cached=0), PRICES, session.tick)


def _on_credit(session: _Session) -> int:
    """Ticks that a worker gives ahead: one, or a step of reading until the prompt is paid."""
    if not session.tick:  # nothing was agreed
        return 0
    return 1 if session.had >= _p0(session, arrived=False) else session.step


def _overpaid(session: _Session) -> int:
    """Ticks that an asker has shown and got nothing for."""
    wanted = min(session.heard, ANSWER)
    return max(0, session.shown - _whole(session, session.prompt[True], wanted))


def _unpaid(session: _Session) -> int:
    """Ticks that a worker has worked for and not got; less than a whole one is not lost."""
    if not session.tick:
        return 0
    work = _value(session.prompt[False], session.said) // session.tick.value
    return max(0, work - session.had)


def _whole(session: _Session, prompt: int, written: int) -> int:
    return -(-_value(prompt, written) // session.tick.value) if session.tick else 0


def _value(prompt: int, written: int) -> int:
    return cost(Count(prompt=prompt, completion=written), PRICES).value


def _written(tokens: int) -> int:
    return cost(Count(completion=tokens), PRICES).value


def _holdings(connection: Connection) -> Nano:
    """Credits that are live, and those of purchases and sessions that are not over."""
    rows = connection.execute("SELECT j FROM credit WHERE state = 'live'")
    return worth(integer(j) for (j,) in rows)
