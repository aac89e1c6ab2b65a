"""A mint, workers who earn and askers who pay, each on a disk and a face of its own, on one chain.

Everything that money goes through is the real thing: `Purse`, `Till`, `MintService`, `Payouts`,
`Lanes` with their externals, `ask` and `serve`, each over the store's own SQL. Nodes crash, come
back with what their disks have, and begin again. Keys are the same in every run, and so what costs
time about them is worked out once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Final, Protocol, cast, final

import trio

from inference.client import ask
from inference.market import AUTO, Known, Memory
from inference.request import AskFailed, AskRequest, Done
from inference.request import Policy as AskPolicy
from inference.service import Service
from inference.worker import Serving, serve
from ledger.chain import wallet
from ledger.credit import EPOCH_SECONDS
from ledger.keys import Master
from ledger.lane import Account
from ledger.lanes import Lanes
from ledger.mintkeys import MintKeys
from ledger.money import Nano
from ledger.payee import Payee
from ledger.policy import DEV, Policy
from ledger.purse import Purse
from ledger.service import MintService
from ledger.store import Connection, Store
from ledger.tariff import Prices
from ledger.till import Till
from p2p.drive import SystemClock
from p2p.entropy import Entropy, seeded
from p2p.errors import LocalError
from p2p.identity import Identity
from p2p.node import Node
from p2p.onion.shaping import Shaping
from p2p.overlay.advert import Fields, OnionKey, Role, Rules, build, parse
from p2p.overlay.listing import Entry
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint
from simulations.adversary.double_spender import Spender
from simulations.adversary.flooder import Flooder, want, want_offers
from simulations.adversary.mouth import Mouth
from simulations.chain import NETWORK, ChainTwin
from simulations.disk import Disk
from simulations.faces import Board, Face, Faces
from simulations.faults import Fault, Kind
from simulations.reciter import RATE, Reciter

FEE_BP: Final = 50

PRICES: Final = Prices(500_000_000, 500_000_000, 2_000_000_000, 2_000_000_000)
"""nano a million tokens: an answer costs some of the least credits"""

MODEL: Final = b"m" * 32

SERVICE: Final = Service(
    identity=MODEL,
    numerics=bytes(8),
    context=2_048,
    slots=2,
    prompt_rate=400.0,
    answer_rate=RATE,
    prices=PRICES,
    batch=64,
    settle_ticks=2,
    settle_every=2.0,
    label="la",
)

POLICY: Final = replace(DEV, bundle="S", watch_every=20.0, lane_rest=30)

ASK_WAIT: Final = 16.0
"""seconds of an ask"""

ANSWER: Final = 80
"""tokens of an answer"""

WALLET: Final = Nano(5 * 10**9)

BACKUP: Final = 3
"""writes of an asker after which its disk is copied"""

HERE: Final[ContextVar[int]] = ContextVar("node")
"""Which node a task is of: whose clock it reads, and who is to blame for what it logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question, and what came of it."""

    node: int
    began: float
    ended: float
    outcome: str
    """`answer`, or an `AskFailed` code"""


class Party(Protocol):
    """What a node does with its store, until it is cancelled."""

    async def work(self, life: "Life") -> None: ...

    def sizes(self) -> dict[str, int]:
        """The length of every table that it holds in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Which parties are in an attacker's hands, by index, and what each does that is not right."""

    mouths: Mapping[int, Callable[[Face], Mouth]] = field(default_factory=dict)
    """who says other things to workers or askers than its core does"""
    spenders: Mapping[int, Spender] = field(default_factory=dict)
    """askers whose disks go back in time"""
    floods: Mapping[int, Flooder] = field(default_factory=dict)
    """who has workers make offers, instead of asking"""

    def __bool__(self) -> bool:
        return bool(self.mouths or self.spenders or self.floods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What a node has from one start to the next crash."""

    face: Face
    store: Store
    lanes: Lanes
    entropy: Entropy
    mouth: Mouth | None = None

    @property
    def node(self) -> Node:
        """The face, where a whole node is asked for: only what it has is used."""
        return cast("Node", self.face)

    @property
    def voice(self) -> Node:
        """The same, for what is said to who asks or answers: it may be a liar's."""
        return cast("Node", self.mouth or self.face)


@final
class Seat:
    """A node's place: its keys, its disk, and its lives."""

    def __init__(self, bazaar: "Bazaar", index: int, party: Party) -> None:
        self.index = index
        self.identity, self.master = keys(index)
        self.party = party
        self.disk = Disk(
            lambda: bazaar.faces.weather.disk(bazaar.now(), index),
            self._committed,
        )
        self.up = False
        self.lives = 0
        self.face: Face | None = None
        self.image = b""
        self._bazaar = bazaar
        self._scope = trio.CancelScope()
        self._down_until = 0.0

    async def run(self) -> None:
        """Live, crash, live again."""
        HERE.set(self.index)
        while True:
            with trio.CancelScope() as self._scope:
                await self._live()
            self.up = False
            while (left := self._down_until - self._bazaar.now()) > 0.0:  # noqa: ASYNC110 - time
                await trio.sleep(left)

    def crash(self, seconds: float) -> None:
        """Be gone for so long."""
        self._down_until = max(self._down_until, self._bazaar.now() + seconds)
        self.disk.crash()
        if self.face is not None:
            self.face.crash()
        self._scope.cancel()

    def copy(self) -> bytes:
        """What is durable now."""
        return self.disk.backup()

    def set_back(self, image: bytes, seconds: float) -> None:
        """Be gone for so long, and go on with an older disk."""
        self.crash(seconds)
        self.disk.put_back(image)

    def _committed(self, connection: Connection) -> None:
        if isinstance(self.party, AskerParty) and self.disk.commits % BACKUP == 0:
            self.image = self.disk.backup()
        self._bazaar.committed(self.index, connection)

    def sizes(self) -> dict[str, int]:
        """The length of every table; nothing while it is down."""
        if not self.up or self.face is None:
            return {}
        return {**self.face.sizes(), **self.party.sizes()}

    async def _live(self) -> None:
        bazaar = self._bazaar
        self.lives += 1
        entropy = bazaar.entropy.fork(f"node/{self.index}/{self.lives}")
        self.face = face = bazaar.faces.face(self.identity, self.index)
        chain = bazaar.chain.view(
            lambda kind: bazaar.faces.weather.chain(bazaar.now(), self.index, kind)
        )
        self.up = True
        try:
            async with Store.over(self.disk, window=0.0) as store:
                # Whose lanes have which numbers is the same in every run, as keys are.
                of_lanes = seeded(self.index).fork(f"lanes/{self.lives}")
                lanes = Lanes(chain, store, self.master, bazaar.policy, entropy=of_lanes)
                speak = bazaar.hands.mouths.get(self.index)
                life = Life(
                    face=face,
                    store=store,
                    lanes=lanes,
                    entropy=entropy,
                    mouth=None if speak is None else speak(face),
                )
                await self.party.work(life)
        except Exception as error:  # whatever a core raises is what the run looks for
            if face.is_up:
                if not self._is_excused(error):
                    bazaar.raised(self.index, error)
                self.crash(1.0)

    def _is_excused(self, error: Exception) -> bool:
        """A program that is started on a disk that takes nothing says so, and ends."""
        if isinstance(error, ExceptionGroup):
            return all(self._is_excused(one) for one in error.exceptions)
        fails = self._bazaar.faces.weather.disk_fails(self._bazaar.now(), self.index)
        return isinstance(error, LocalError) and fails


@final
class MintParty:
    """Sells, locks, pays."""

    def __init__(self, bazaar: "Bazaar", index: int) -> None:
        self._bazaar = bazaar
        self._index = index
        self.service: MintService | None = None

    async def work(self, life: Life) -> None:
        """Until it is cancelled."""
        identity, master = keys(self._index)
        clock, policy = SystemClock(), self._bazaar.policy
        payee = Payee(life.lanes, life.store)
        self.service = service = MintService(
            MintKeys(master, identity),
            life.store,
            life.lanes,
            payee,
            policy,
            clock,
            fee_bp=FEE_BP,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(life.lanes.run)
            await service.run(life.node)

    def sizes(self) -> dict[str, int]:
        """Nothing: its rows are on the disk."""
        return {}


@final
class WorkerParty:
    """Answers for ticks."""

    def __init__(self, bazaar: "Bazaar", index: int) -> None:
        self._bazaar = bazaar
        self._index = index
        self.till: Till | None = None
        self.serving: Serving | None = None

    async def work(self, life: Life) -> None:
        """Until it is cancelled."""
        bazaar = self._bazaar
        mint, _ = keys(0)
        till = self.till = Till(
            life.face.id,
            life.node,
            life.store,
            life.lanes,
            Payee(life.lanes, life.store),
            bazaar.policy,
            SystemClock(),
            mints=[mint.id],
            public={mint.id: mint.public}.get,
            entropy=life.entropy.fork("till"),
        )
        identity, _ = keys(self._index)
        async with trio.open_nursery() as nursery:
            await nursery.start(life.lanes.run)
            await nursery.start(till.run)
            nursery.start_soon(self._answer_links, life, till)
            engine = Reciter(lambda: bazaar.faces.weather.slowed(bazaar.now(), self._index))
            entropy = life.entropy.fork("worker")
            served = partial(serve, life.voice, engine, SERVICE, identity)
            self.serving = await nursery.start(partial(served, till=till, entropy=entropy))

    async def _answer_links(self, life: Life, till: Till) -> None:
        async for query in life.face.queries:
            life.face.answer(query, await till.answer_peer(query.peer, query.body))

    def sizes(self) -> dict[str, int]:
        """What runs, and what is not settled."""
        if self.till is None or self.serving is None:
            return {}
        of_till = self.till.statistics()
        serving = self.serving.statistics()
        return {
            "open": of_till.open,
            "quoted": serving.quoted,
            "waiting": serving.waiting,
            "running": serving.running,
        }


@final
class AskerParty:
    """Asks now and then, and pays."""

    def __init__(self, bazaar: "Bazaar", index: int, moments: Sequence[float]) -> None:
        self._bazaar = bazaar
        self._index = index
        self._moments = list(moments)
        self._memory = Memory()
        self.asking = 0

    async def work(self, life: Life) -> None:
        """Ask at every moment that has not passed; one that a crash cut off is over."""
        bazaar = self._bazaar
        self.asking = 0
        _, master = keys(self._index)
        mint, _ = keys(0)
        purse = Purse(
            life.node,
            life.store,
            life.lanes,
            master,
            bazaar.policy,
            mints=[mint.id],
            entropy=life.entropy.fork("purse"),
            relays=0,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(life.lanes.run)
            await nursery.start(purse.run)
            while self._moments:
                await trio.sleep(max(0.0, EPOCH + self._moments[0] - bazaar.now()))
                nursery.start_soon(self._ask, life, purse, len(self._moments))
                del self._moments[0]
            await trio.sleep_forever()

    async def _ask(self, life: Life, purse: Purse, number: int) -> None:
        bazaar = self._bazaar
        policy = AskPolicy(
            known=(KNOWN,),
            shaping=Shaping.OFF,
            relays=0,
            deadline_s=ASK_WAIT,
            max_price=Nano(10**8),
            purse=purse,
            least_lock=bazaar.policy.least_lock,
            lock_margin=bazaar.policy.lock_margin,
            entropy=life.entropy.fork(f"ask/{number}"),
        )
        if bazaar.hands:  # else each ask is a new process's, which remembers nobody
            policy = replace(policy, memory=self._memory)
        size = 20 + life.entropy.fork(f"prompt/{number}").below(120)
        request = AskRequest(text="?" * size, model=AUTO, max_tokens=ANSWER)
        began, outcome = bazaar.now(), "nothing"
        self.asking += 1
        bazaar.asks(self._index)
        async with ask(request, life.voice, policy) as answer:
            async for event in answer:
                match event:
                    case Done():
                        outcome = "answer"
                    case AskFailed(code=code):
                        outcome = code
                    case _:
                        pass
        self.asking -= 1
        one = Ask(node=self._index, began=began, ended=bazaar.now(), outcome=outcome)
        bazaar.asked(one)

    def sizes(self) -> dict[str, int]:
        """What is asked now."""
        return {"asking": self.asking}


@final
class FloodParty:
    """Has workers make offers that nobody takes up."""

    def __init__(self, bazaar: "Bazaar", how: Flooder) -> None:
        self._bazaar = bazaar
        self._how = how

    async def work(self, life: Life) -> None:
        """Until it is cancelled."""
        mint, _ = keys(0)
        workers = [keys(1 + number)[0].id for number in range(self._bazaar.workers)]
        stream = life.entropy.fork("flood")
        await want_offers(life.face, workers, want(MODEL, mint.id, ANSWER), self._how, stream)
        await trio.sleep_forever()

    def sizes(self) -> dict[str, int]:
        """Nothing that would have to come to rest."""
        return {}


class Ears(Protocol):
    """Who hears of everything that happens in a bazaar."""

    def committed(self, node: int, connection: Connection) -> None:
        """A node's disk has taken a write."""

    def raised(self, node: int, error: Exception) -> None:
        """Something came out of a core that should not."""

    def asked(self, one: Ask) -> None:
        """An ask has ended."""


@final
class Bazaar:
    """All parties, by index: the mint, then the workers, then the askers."""

    def __init__(
        self,
        faces: Faces,
        chain: ChainTwin,
        entropy: Entropy,
        now: Callable[[], float],
        *,
        workers: int,
        moments: Sequence[Sequence[float]],
        ears: Ears,
        hands: Hands | None = None,
        policy: Policy = POLICY,
    ) -> None:
        """`moments`: when each asker asks, in seconds after the start."""
        self.faces = faces
        self.chain = chain
        self.entropy = entropy
        self.now = now
        self.policy = policy
        self.workers = workers
        self.ears = ears
        self.hands = hands or Hands()
        parties: list[Party] = [MintParty(self, 0)]
        parties += [WorkerParty(self, 1 + number) for number in range(workers)]
        parties += [self._asker(1 + workers + number, when) for number, when in enumerate(moments)]
        self.seats = [Seat(self, index, party) for index, party in enumerate(parties)]

    async def run(self, faults: Sequence[Fault]) -> None:
        """Until cancelled."""
        for seat in self.seats:
            self.chain.fund(wallet_of(seat.master), WALLET)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.faces.run)
            for seat in self.seats:
                nursery.start_soon(seat.run)
            for fault in faults:
                if max(fault.nodes) < len(self.seats):
                    nursery.start_soon(self._strike, fault)

    def committed(self, node: int, connection: Connection) -> None:
        """A disk has taken a write."""
        self.ears.committed(node, connection)

    def raised(self, node: int, error: Exception) -> None:
        """A core raised."""
        self.ears.raised(node, error)

    def asks(self, node: int) -> None:
        """An ask begins."""
        spender = self.hands.spenders.get(node)
        if spender is not None:
            spender.asks(self.seats[node])

    def asked(self, one: Ask) -> None:
        """An ask has ended."""
        self.ears.asked(one)
        spender = self.hands.spenders.get(one.node)
        if spender is not None:
            spender.asked(self.seats[one.node])

    def _asker(self, index: int, moments: Sequence[float]) -> Party:
        how = self.hands.floods.get(index)
        return AskerParty(self, index, moments) if how is None else FloodParty(self, how)

    async def _strike(self, fault: Fault) -> None:
        """What is done to nodes, at its moment; what is done to messages, the weather does."""
        await trio.sleep(max(0.0, EPOCH + fault.at - self.now()))
        for node in fault.nodes:
            seat = self.seats[node]
            match fault.kind:
                case Kind.CRASH | Kind.TEAR:
                    seat.crash(fault.lasts)
                case Kind.ERASE:
                    self._set_back(seat, fault)
                case Kind.DISK_LOST:
                    await trio.sleep(fault.lasts)
                    seat.crash(1.0)
                case Kind.REBIND if seat.face is not None:
                    seat.face.rebind()
                case _:
                    pass

    def _set_back(self, seat: Seat, fault: Fault) -> None:
        """An asker whose disk dies goes on with a copy of it that is older, as people do."""
        if isinstance(seat.party, AskerParty) and seat.image:
            seat.set_back(seat.image, fault.lasts)
        else:
            seat.crash(fault.lasts)


# --- what is the same in every run ---


@cache
def keys(index: int) -> tuple[Identity, Master]:
    """A node's identity and its master secret."""
    secret = index.to_bytes(4, "big") * 8
    return Identity(secret), Master(secret)


@cache
def wallet_of(master: Master) -> Account:
    """Where a node's coins are."""
    return wallet.address(master.wallet.public, NETWORK)


RULES: Final = Rules(network=1, dev=True)

KNOWN: Final = Known(base="la", quant="q4", file=MODEL, identity=MODEL, rank=1)


@cache
def board(workers: int) -> Board:
    """The directory: the mint and the workers, whether up or not."""
    identity, master = keys(0)
    keyset = MintKeys(master, identity).keyset(int(EPOCH) // EPOCH_SECONDS, FEE_BP)
    mint = _listed(0, Fields(roles=Role.MINT | Role.DIALABLE, mint=keyset.digest))
    serving = Fields(roles=Role.WORKER | Role.DIALABLE, models=(SERVICE.listing(),))
    return Board([mint, *(_listed(1 + number, serving) for number in range(workers))])


def _listed(index: int, fields: Fields) -> Entry:
    identity, _ = keys(index)
    said = replace(
        fields,
        addresses=(Endpoint(f"10.0.0.{index + 1}", 4_001),),
        onion=OnionKey(int(EPOCH // 86_400), bytes(32)),
    )
    advert = parse(build(identity, said, EPOCH, RULES), EPOCH, RULES)
    return Entry(advert=advert, live=True, open=True, days=0, group=identity.id)
