"""Full nodes that ask for money: the cores of asking, serving and minting on top of a node's stack.

A `Trader` is a `Core` made of cores: the stack's events go to the part that stands on it, whose
effects are commands to the stack, until neither has more to say. So a paid request runs in either
world, through real circuits and calls: offer, spend, lock, ticks, receipt and settlement are the
real ones, as are the mint's credits and its book. Two things are stand-ins: a purse that is given
its credits and lets the change go, and an engine that recites. Disks, lanes and chain are not here:
they are effects on trio, and `scenarios/lanes.py` is about them.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from inference.asking import AskCore
from inference.asking_effects import Leave, Open, Reserve, Say, Upload
from inference.engine.base import (
    Begun,
    Finished,
    Job,
    JobEvent,
    Piece,
    Prefilled,
    Prepared,
    Reason,
    Usage,
)
from inference.protocol import Abort
from inference.request import AskEvent, AskRequest, Policy
from inference.service import Service
from inference.serving import Place, WorkerCore
from inference.serving_effects import (
    Accept,
    Cancel,
    Deny,
    End,
    Generate,
    GiveUp,
    Keep,
    Lock,
    Prepare,
    Settle,
)
from inference.serving_effects import Say as Speak
from ledger import messages, wire
from ledger.book import MintBook
from ledger.credit import (
    Credit,
    Keyset,
    Spend,
    SpendTerms,
    blanks_for,
    blind,
    choose,
    derive,
    owner_of,
    unblind,
)
from ledger.mint import MintCore
from ledger.mintkeys import MintKeys
from ledger.money import Nano
from ledger.payment import Decline, Locked, Payment, PayTerms, Unpaid
from ledger.tick import Chain, earlier
from p2p.calls import Query, Replied, Unanswered
from p2p.core import Deadlines, Event, Handle, Send, Source
from p2p.entropy import Entropy
from p2p.errors import DirectoryStale, Insufficient, NoPath, RemoteError
from p2p.identity import AdnlId, Identity
from p2p.onion.cell import CircuitId
from p2p.onion.core import Data, Ended, Failed, Incoming, Lost, Opened, Reset
from p2p.overlay.advert import Role
from p2p.stack import Stack
from simulations.book import MemoryBook

STREAM: Final = 1
"""the stream of a circuit's only request"""

PACE: Final = 0.05
"""seconds of a piece of an answer"""

AT_ONCE: Final = 8
"""tokens of a piece"""

ROUNDS: Final = 1_000
"""times that stack and part may have something to say to each other in one step"""


class Part(Protocol):
    """What stands on a stack."""

    def take(self, now: float, event: Event) -> bool:
        """Act on an event of the stack's, if it is for this part."""

    def settle(self, now: float) -> list[Event]:
        """Do what its core wants done; what it tells the world."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self) -> float | None:
        """When something is."""

    def sizes(self) -> dict[str, int]:
        """The length of every table."""


@final
class Trader:
    """See the module. Its commands are the stack's; `part` has its own."""

    def __init__(self, stack: Stack, part: Part) -> None:
        self._stack = stack
        self.part = part
        self._now = 0.0

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """See `Core`."""
        self._now = now
        self._stack.receive(now, source, datagram)

    def handle_timer(self, now: float) -> None:
        """See `Core`."""
        self._now = now
        due = self._stack.next_deadline()
        if due is not None and due <= now:
            self._stack.handle_timer(now)
        self.part.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See `Core`."""
        times = (self._stack.next_deadline(), self.part.next_deadline())
        return min((when for when in times if when is not None), default=None)

    def command(self, now: float, action: Callable[[Stack, float], object]) -> None:
        """Command the stack, or what `action` knows of the part."""
        self._now = now
        action(self._stack, now)

    def drain(self) -> tuple[list[Send], list[Event]]:
        """See `Core`."""
        sends, told = list[Send](), list[Event]()
        for _ in range(ROUNDS):
            leaving, events = self._stack.drain()
            sends += leaving
            told += [event for event in events if not self.part.take(self._now, event)]
            more = self.part.settle(self._now)
            told += more
            if not (leaving or events or more):
                break
        return sends, told

    def sizes(self) -> dict[str, int]:
        """See `Core`."""
        return {**self._stack.sizes(), **self.part.sizes()}

    def __getattr__(self, name: str) -> object:
        return getattr(self._stack, name)


# --- asking ---


@final
class Purse:
    """Credits of one mint, spent once each; the change is let go."""

    def __init__(
        self, mint: AdnlId, public: bytes, coins: Sequence[Credit], entropy: Entropy
    ) -> None:
        self.mint = mint
        self._public = public
        self._coins = list(coins)
        self._entropy = entropy

    def take(self, terms: PayTerms) -> Payment | Unpaid:
        """Set coins aside."""
        amount = terms.tick * terms.ticks
        if self.mint not in terms.mints:
            return Unpaid.NO_MINT
        try:
            chosen = choose(self._coins, amount)
        except (Insufficient, ValueError):
            return Unpaid.NO_CREDITS
        self._coins = [coin for coin in self._coins if coin not in chosen]
        chain = Chain(self._entropy.token(32), terms.session, terms.ticks)
        spend = Spend.build(chosen, self._terms(terms, chosen[0].epoch, chain.root, amount))
        return Payment(
            terms=terms,
            mint=self.mint,
            mint_public=self._public,
            lock_id=spend.lock_id,
            spend=spend.encode(),
            chain=chain,
        )

    def _terms(self, terms: PayTerms, epoch: int, root: bytes, amount: Nano) -> SpendTerms:
        seed = self._entropy.token(32)
        blanks = (derive(seed, self.mint, epoch, i) for i in range(blanks_for(amount)))
        return SpendTerms(
            mint=self.mint,
            epoch=epoch,
            payee=terms.payee,
            session=terms.session,
            expiry=terms.expiry,
            tick=terms.tick,
            ticks=terms.ticks,
            root=root,
            blanks=tuple(blind(one.m, one.r) for one in blanks),
            owner=owner_of(seed),
        )

    def __len__(self) -> int:
        return len(self._coins)


@final
class AskingPart:
    """Asks one question at a time, through `relays` relays, and pays for it."""

    def __init__(self, stack: Stack, asker: AdnlId, policy: Policy, purse: Purse) -> None:
        self._stack = stack
        self._asker = asker
        self._policy = policy
        self._purse = purse
        self._core: AskCore | None = None
        self._circuit: CircuitId | None = None
        self._attempt = 0
        self.told: list[AskEvent] = []
        """What it has heard of its questions."""

    def ask(self, now: float, request: AskRequest) -> None:
        """Begin; the end of it is told as of any ask."""
        core = self._core = AskCore(request, self._policy, self._asker)
        core.start(now, (self._purse.mint,))
        core.listed(now, self._stack.directory.usable(Role.WORKER))

    def take(self, now: float, event: Event) -> bool:
        """See `Part`."""
        core, attempt = self._core, self._attempt
        if core is None:
            return False
        match event:
            case Opened(circuit, offer) if circuit == self._circuit:
                core.opened(now, attempt, offer)
            case Failed(circuit, hop, status, reason) if circuit == self._circuit:
                core.failed(now, attempt, hop, status, reason)
            case Data(circuit, _, data) if circuit == self._circuit:
                core.receive(now, attempt, data)
            case Ended(circuit) if circuit == self._circuit:
                core.ended(now, attempt)
            case Reset(circuit, _, code) if circuit == self._circuit:
                core.reset(now, attempt, code)
            case Lost(circuit, hop, code) if circuit == self._circuit:
                core.lost(now, attempt, hop, code)
            case _:
                return False
        return True

    def settle(self, now: float) -> list[Event]:
        """See `Part`."""
        core, told = self._core, list[Event]()
        while core is not None and (effects := core.drain()[1]):
            for effect in effects:
                self._do(now, core, effect)
                if isinstance(effect, AskEvent):
                    self.told.append(effect)
                    told.append(effect)
        return told

    def handle_timer(self, now: float) -> None:
        """See `Part`."""
        if self._core is not None:
            self._core.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See `Part`."""
        return None if self._core is None else self._core.next_deadline()

    def sizes(self) -> dict[str, int]:
        """See `Part`."""
        return {"coins": len(self._purse), **({} if self._core is None else self._core.sizes())}

    def _do(self, now: float, core: AskCore, effect: Event) -> None:
        match effect:
            case Open():
                self._open(now, core, effect)
            case Reserve(attempt, terms):
                payment = self._purse.take(terms)
                if isinstance(payment, Unpaid):
                    core.unreserved(now, attempt, payment, "")
                else:
                    core.reserved(now, attempt, payment)
            case Upload(attempt, data) if self._circuit is not None:
                self._stack.send(now, self._circuit, STREAM, data)
                self._stack.end(now, self._circuit, STREAM)
                core.uploaded(now, attempt)
            case Say(attempt, data) if self._circuit is not None:
                self._stack.send(now, self._circuit, STREAM, data)
                core.said(now, attempt)
            case Leave(whole=whole):
                self._leave(now, whole=whole)
            case _:  # what is told, and coins that are let go
                pass

    def _open(self, now: float, core: AskCore, wanted: Open) -> None:
        self._attempt = wanted.attempt
        try:
            path = self._stack.path(now, wanted.worker, self._policy.relays, wanted.suspects)
        except (NoPath, DirectoryStale):
            core.unopened(now, wanted.attempt, full=False)
            return
        self._circuit = self._stack.open(now, path, wanted.request, rate=wanted.rate)
        core.opening(now, wanted.attempt, [target.id for target in path])

    def _leave(self, now: float, *, whole: bool) -> None:
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            if not whole:
                self._stack.reset(now, circuit, STREAM, Abort.CANCELLED)
            self._stack.close(now, circuit)


# --- serving ---


@final
class ServingPart:
    """Answers for ticks, which its mint locks and pays."""

    def __init__(
        self, stack: Stack, identity: Identity, service: Service, mint: AdnlId, entropy: Entropy
    ) -> None:
        self._stack = stack
        self._mint = mint
        self._core = WorkerCore(identity, service, entropy, stack.writable, lambda: (mint,))
        self._timers = Deadlines()
        self._jobs: dict[int, Handle] = {}
        self._locks: dict[int, Lock] = {}
        """Calls to the mint under way, by number."""
        self._newest: dict[bytes, tuple[int, bytes]] = {}
        self.settled: list[tuple[bytes, int]] = []
        """Locks, and the ticks that the mint has paid of each so far."""
        self._settling: dict[int, bytes] = {}

    def take(self, now: float, event: Event) -> bool:
        """See `Part`."""
        core = self._core
        match event:
            case Incoming(circuit, request):
                core.model(now, ready=True)
                core.incoming(now, circuit, request)
            case Data(circuit, stream, data):
                core.receive(now, Place(circuit, stream), data)
            case Reset(circuit, stream):
                core.reset(now, circuit, stream)
            case Lost(circuit):
                core.lost(now, circuit)
            case Replied(number, body):
                self._replied(now, number, body)
            case Unanswered(number):
                self._replied(now, number, b"")
            case _:
                return False
        return True

    def settle(self, now: float) -> list[Event]:
        """See `Part`."""
        while effects := self._core.drain()[1]:
            for effect in effects:
                self._do(now, effect)
        return []

    def handle_timer(self, now: float) -> None:
        """See `Part`."""
        self._timers.run(now)
        self._core.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See `Part`."""
        times = (self._timers.next(), self._core.next_deadline())
        return min((when for when in times if when is not None), default=None)

    def sizes(self) -> dict[str, int]:
        """See `Part`."""
        return {**self._core.sizes(), "jobs": len(self._jobs), "locks": len(self._locks)}

    def _do(self, now: float, effect: Event) -> None:
        stack = self._stack
        match effect:
            case Accept(circuit=circuit, reply=reply, rate=rate):
                stack.accept(now, circuit, reply, rate=rate)
            case Deny(circuit=circuit, reply=reply):
                stack.refuse(now, circuit, reply)
            case Speak(circuit=circuit, stream=stream, data=data):
                stack.send(now, circuit, stream, data)
            case End(circuit=circuit, stream=stream):
                stack.end(now, circuit, stream)
            case GiveUp(circuit=circuit, stream=stream, code=code):
                stack.reset(now, circuit, stream, code)
            case Lock(spend=spend):
                asked = wire.encode(messages.Lock(spend))
                self._locks[stack.query(now, self._mint, asked)] = effect
            case Keep(lock_id=lock_id, index=index, preimage=preimage):
                self._newest[lock_id] = index, preimage
            case Settle(lock_id=lock_id, final=final, ticks=ticks):
                self._ask_settle(now, lock_id, ticks, final=final)
            case Prepare() | Generate() | Cancel():
                self._engine(now, effect)
            case _:
                pass

    # --- money ---

    def _replied(self, now: float, number: int, body: bytes) -> None:
        lock, settling = self._locks.pop(number, None), self._settling.pop(number, None)
        try:
            reply = wire.read_reply(body)
        except RemoteError:
            reply = None
        if lock is not None:
            self._core.locked(now, lock.token, self._locked(lock, reply))
        if settling is not None and isinstance(reply, messages.Settled):
            self.settled.append((settling, reply.i))

    def _locked(self, lock: Lock, reply: object) -> Locked | Decline:
        if not isinstance(reply, messages.Locked):
            return Decline.BUSY
        terms = Spend.parse(lock.spend).terms
        if (terms.session, terms.tick) != (lock.session, lock.tick):
            return Decline.TERMS
        lock_id = Spend.parse(lock.spend).lock_id
        self._newest[lock_id] = 0, terms.root
        return Locked(
            lock_id=lock_id,
            receipt=reply.receipt,
            tick=terms.tick,
            ticks=terms.ticks,
            root=terms.root,
            expiry=terms.expiry,
        )

    def _ask_settle(self, now: float, lock_id: bytes, ticks: int, *, final: bool) -> None:
        index, newest = self._newest[lock_id]
        upto = min(ticks, index)
        x = earlier(newest, index - upto)
        asked = wire.encode(messages.Settle(lock=lock_id, i=upto, x=x, final=final))
        self._settling[self._stack.query(now, self._mint, asked)] = lock_id

    # --- an engine that recites ---

    def _engine(self, now: float, effect: Prepare | Generate | Cancel) -> None:
        match effect:
            case Prepare(token=token, prompt=prompt):
                read = Prepared(tokens=tuple((prompt.text or "?").encode()))
                self._later(now, token, lambda when: self._core.prepared(when, token, read))
            case Generate(job=job):
                self._recite(now, job, -2)
            case Cancel(token=token):
                handle = self._jobs.pop(token, None)
                if handle is not None:
                    handle.cancel()

    def _recite(self, now: float, job: Job, place: int) -> None:
        def say(when: float) -> None:
            event, after = _recited(job, place)
            if after is not None:
                self._recite(when, job, after)
            self._core.generated(when, job.id, event)

        self._later(now, job.id, say)

    def _later(self, now: float, token: int, then: Callable[[float], object]) -> None:
        when = now + PACE

        def due() -> None:
            self._jobs.pop(token, None)
            then(when)

        self._jobs[token] = self._timers.at(when, due)


def _recited(job: Job, place: int) -> tuple[JobEvent, int | None]:
    """What is said of a job at a place of it, and the next place."""
    read = len(job.tokens)
    if place == -2:
        return Begun(prompt=read, cached=0), -1
    if place == -1:
        return Prefilled(done=read), 0
    if place >= job.max_tokens:
        usage = Usage(prompt=read, completion=job.max_tokens)
        return Finished(reason=Reason.LENGTH, usage=usage), None
    ids = tuple(range(place, min(place + AT_ONCE, job.max_tokens)))
    return Piece(first=place, ids=ids, text="la " * len(ids)), place + len(ids)


# --- minting ---


@final
class MintingPart:
    """Locks and pays for workers who call it."""

    def __init__(self, stack: Stack, core: MintCore, now: float) -> None:
        self._stack = stack
        self._core = core
        self.book = MemoryBook()
        self.book.write(lambda book: core.keysets(book, now))

    def take(self, now: float, event: Event) -> bool:
        """See `Part`."""
        if not isinstance(event, Query):
            return False
        try:
            request = wire.read_request(event.body)
        except RemoteError:
            return False
        reply = self.book.write(lambda book: self._reply(book, now, request, event.peer))
        self._stack.answer(now, event, wire.encode(reply))
        return True

    def _reply(
        self, book: MintBook, now: float, request: messages.Request, peer: AdnlId
    ) -> messages.Reply:
        match request:
            case messages.Lock():
                return self._core.lock(book, now, request, peer)
            case messages.Settle():
                return self._core.settle(book, now, request, peer)
            case _:
                return messages.Err(messages.Code.BAD_REQUEST)

    def settle(self, now: float) -> list[Event]:
        """See `Part`."""
        return []

    def handle_timer(self, now: float) -> None:
        """See `Part`: locks lapse when somebody asks."""

    def next_deadline(self) -> float | None:
        """See `Part`."""
        return None

    def sizes(self) -> dict[str, int]:
        """See `Part`."""
        return {}


def signed_credits(
    keys: MintKeys, keyset: Keyset, exponents: Sequence[int], seed: bytes
) -> list[Credit]:
    """Credits that a mint has signed blindly for somebody."""
    mint, epoch = keys.identity.id, keyset.epoch
    found = list[Credit]()
    for i, j in enumerate(exponents):
        secret = derive(seed, mint, epoch, i)
        blinded = blind(secret.m, secret.r)
        point = unblind(keyset.key(j), secret.r, blinded, keys.sign(epoch, j, blinded))
        found.append(Credit(mint=mint, epoch=epoch, i=i, j=j, m=secret.m, C=point))
    return found
