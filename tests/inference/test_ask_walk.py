"""Asker and workers walked against each other over links that fail in every way, in virtual time.

Whatever happens, the ask ends once and in time, and no worker is left with a job nobody reads.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from inference.asking import SHARE, AskCore, State
from inference.asking_effects import Collect, Leave, Open, Release, Reserve, Upload
from inference.asking_effects import Say as SayTick
from inference.engine.base import (
    Begun,
    ChatMessage,
    Failed,
    Fault,
    Finished,
    Piece,
    Prepared,
    Reason,
    Usage,
)
from inference.market import Known, Memory
from inference.request import AskFailed, AskRequest, Done, Policy
from inference.service import Service
from inference.serving import Place, WorkerCore
from inference.serving_effects import (
    Accept,
    Cancel,
    Deny,
    End,
    Generate,
    GiveUp,
    GoOn,
    Hold,
    Keep,
    Lock,
    Prepare,
    Say,
    Settle,
)
from ledger.money import ZERO, Nano
from ledger.payment import CannotPay
from ledger.tariff import Prices
from p2p.core import Command, step
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.onion import events as onion
from p2p.onion.cell import Code as Hop
from p2p.onion.cell import FailCode
from simulations.purse import FakeMint, FakePurse, FakeTill

NOW = 1_795_000_000.0
MODEL = b"m" * 32
KNOWN = Known(base="fake", quant="f0", file=b"f" * 32, identity=MODEL)
QUESTION = AskRequest(
    messages=(ChatMessage(role="user", content="What is wild silk?"),), max_tokens=30
)
DEADLINE = 120.0
RELAYS = tuple(bytes([n]) * 32 for n in (101, 102, 103))
SERVICE = Service(
    identity=MODEL,
    numerics=b"numerics",
    context=4_096,
    slots=1,
    prompt_rate=100.0,
    answer_rate=10.0,
)

FAULTS = (
    # of a message on its way
    *("drop", "repeat", "swap", "flip", "cut", "late"),
    # of the circuit
    *("refuse_hop", "guard", "timeout", "lose", "lose_relay", "deaf"),
    # of the engine
    *("no_prepare", "bad_prepare", "engine_fails", "engine_stops", "engine_late", "crash"),
    # of what pays
    *("poor", "purse_slow", "purse_late", "mint_down", "lock_slow", "lock_late", "till_dies"),
    # of the caller
    "cancel",
)
PRICED = replace(SERVICE, prices=Prices(20_000_000, 20_000_000, 20_000_000, 20_000_000))
FUNDS = Nano(100_000_000)


@dataclass
class Trouble:
    """What goes wrong, and at which of the occasions for it."""

    name: str
    at: int


@dataclass
class Pair:
    """One circuit: both ends' numbers, and whether it is still there."""

    attempt: int
    circuit: int
    worker: "Served"
    alive: bool = True
    room: int = 1 << 20


@dataclass
class Served:
    """A worker's core, its engine's jobs, and whether it still runs."""

    identity: Identity
    core: WorkerCore
    jobs: dict = field(default_factory=dict)
    pairs: dict = field(default_factory=dict)
    till: FakeTill | None = None
    dead: bool = False


class World:
    """Virtual time: a heap of happenings, one asker, some workers."""

    def __init__(self, entries, faults, seed, deadline, service=SERVICE):
        self.now = NOW
        self.service = service
        self.mint = FakeMint(Identity(b"M" * 32))
        self.purse = FakePurse(self.mint, FUNDS, seeded(seed))
        self.heap = []
        self.count = 0
        self.faults = list(faults)
        self.occasions = Counter()
        self.entropy = seeded(seed)
        self.entries = entries
        self.workers = {}
        for entry in entries:
            number = next(n for n in range(1, 9) if worker_identity(n).id == entry.id)
            self.workers[entry.id] = self._served(number)
        policy = Policy(
            known=(KNOWN,),
            entropy=self.entropy.fork("ask"),
            memory=Memory(),
            deadline_s=deadline,
            max_price=FUNDS,
        )
        self.ask = AskCore(QUESTION, policy, b"a" * 32)
        self.events = []
        self.pairs = {}
        self.ended_at = None
        self.lost = ZERO

    def _served(self, number):
        served = Served(worker_identity(number), None)
        served.core = WorkerCore(
            served.identity,
            self.service,
            seeded(number),
            lambda circuit: served.pairs[circuit].room if served.pairs[circuit].alive else 0,
            lambda: (self.mint.identity.id,),
        )
        served.till = FakeTill(self.mint, served.identity.id, lambda: self.now)
        return served

    # --- time ---

    def after(self, seconds, run):
        self.count += 1
        heapq.heappush(self.heap, (self.now + seconds, self.count, run))

    def run(self):
        self._ask(lambda core, now: core.start(now, self.purse.mints()))
        self.after(0.2, lambda: self._ask(lambda core, now: core.listed(now, self.entries)))
        for _ in range(100_000):
            if not self.heap:
                return
            self.now, _, happening = heapq.heappop(self.heap)
            happening()
        raise AssertionError("no end")

    def faulty(self, *names):
        """Which of these faults happens on this occasion, if one does."""
        for name in names:
            self.occasions[name] += 1
            for fault in self.faults:
                if fault.name == name and self.occasions[name] == fault.at:
                    return name
        return None

    # --- the asker ---

    def _ask(self, run=lambda core, now: None):
        _, events = step(self.ask, self.now, [Command("ask", run)], [])
        for happened in events:
            self._effect_of_ask(happened)
        if self.ask.state is State.DONE and self.ended_at is None:
            self.ended_at = self.now
        deadline = self.ask.next_deadline()
        if deadline is not None:
            self.after(max(0.0, deadline - self.now), self._ask)
        if self.ask.state is not State.DONE and self.faulty("cancel"):
            self.after(0.01, lambda: self._ask(lambda core, now: core.cancel(now)))

    def _effect_of_ask(self, effect):
        match effect:
            case Open():
                self._open(effect)
            case Reserve():
                self._reserve(effect)
            case Release(payment=payment):
                self.purse.release(payment)
            case Collect(payment=payment, locked=locked, revealed=revealed, owed=owed):
                self.purse.collect(payment, locked=locked, revealed=revealed, owed=owed)
            case SayTick(attempt=attempt, data=data):
                self._carry(attempt, "up", data)
                self.after(0.01, lambda: self._ask(lambda core, now: core.said(now, attempt)))
            case Upload(attempt=attempt, data=data):
                for at in range(0, len(data), 100):
                    self._carry(attempt, "up", data[at : at + 100])
                self.after(0.1, lambda: self._ask(lambda core, now: core.uploaded(now, attempt)))
            case Leave(attempt=attempt):
                pair = self.pairs.get(attempt)
                if pair is not None:
                    self.after(0.1, lambda: self._lose_at_worker(pair))
            case _:
                self.events.append(effect)

    def _reserve(self, wanted):
        """Coins are set aside, or not, now or long after."""
        attempt, delay = wanted.attempt, 0.01
        match self.faulty("poor", "purse_slow", "purse_late"):
            case "poor":
                self.purse.balance, self.lost = ZERO, self.purse.balance
            case "purse_slow":
                delay = 5.0
            case "purse_late":
                delay = 25.0
        try:
            payment = self.purse.take(wanted.terms)
        except CannotPay as error:
            reason = error.reason
            self.after(
                delay,
                lambda: self._ask(lambda core, now: core.unreserved(now, attempt, reason, "")),
            )
        else:
            self.after(
                delay, lambda: self._ask(lambda core, now: core.reserved(now, attempt, payment))
            )

    def _open(self, wanted):
        attempt = wanted.attempt
        path = (*RELAYS, wanted.worker)
        self.after(0, lambda: self._ask(lambda core, now: core.opening(now, attempt, path)))
        trouble = self.faulty("refuse_hop", "guard", "timeout")
        failed = {
            "refuse_hop": (1, Hop.UNREACHABLE),
            "guard": (None, onion.GUARD_UNREACHABLE),
            "timeout": (None, onion.TIMED_OUT),
        }.get(trouble)
        if failed:
            wait = 10.0 if trouble == "timeout" else 0.1
            self.after(
                wait, lambda: self._ask(lambda core, now: core.failed(now, attempt, *failed, b""))
            )
            return
        worker = self.workers[wanted.worker]
        if worker.dead:
            self.after(
                0.1,
                lambda: self._ask(
                    lambda core, now: core.failed(now, attempt, 2, Hop.UNREACHABLE, b"")
                ),
            )
            return
        pair = Pair(attempt, len(self.pairs) + 1, worker)
        self.pairs[attempt] = worker.pairs[pair.circuit] = pair
        circuit, request = pair.circuit, wanted.request
        self.after(
            0.1,
            lambda: self._work(worker, lambda core, now: core.incoming(now, circuit, request)),
        )
        if trouble := self.faulty("lose", "lose_relay"):
            when = 0.5 + 4 * self.entropy.uniform()
            self.after(when, lambda: self._lose(pair, 2 if trouble == "lose" else 1))

    # --- what lies between ---

    def _carry(self, attempt, way, data):
        """Bytes of the stream, in order; unless a fault says otherwise."""
        pair = self.pairs[attempt]
        delay = 0.1
        match self.faulty("drop", "repeat", "swap", "flip", "cut", "late"):
            case "drop":
                return
            case "repeat":
                self.after(delay, lambda: self._arrive(pair, way, data))
            case "swap":
                delay = 0.25
            case "flip":
                at = self.entropy.below(len(data))
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            case "cut":
                data = data[: len(data) // 2]
            case "late":
                delay = 40.0
        self.after(delay, lambda: self._arrive(pair, way, data))

    def _arrive(self, pair, way, data):
        if not pair.alive:
            return
        if way == "up":
            place = Place(pair.circuit, 1)
            self._work(pair.worker, lambda core, now: core.receive(now, place, data))
        else:
            self._ask(lambda core, now: core.receive(now, pair.attempt, data))

    def _lose(self, pair, hop):
        if pair.alive:
            self._lose_at_worker(pair)
            self._ask(lambda core, now: core.lost(now, pair.attempt, hop, FailCode.NEXT_LOST))

    def _lose_at_worker(self, pair):
        if pair.alive:
            pair.alive = False
            self._work(pair.worker, lambda core, now: core.lost(now, pair.circuit))

    # --- a worker ---

    def _work(self, worker, run=lambda core, now: None):
        if worker.dead:
            return
        _, events = step(worker.core, self.now, [Command("work", run)], [])
        for effect in events:
            self._effect_of_work(worker, effect)
        deadline = worker.core.next_deadline()
        if deadline is not None:
            self.after(max(0.0, deadline - self.now), lambda: self._work(worker))
        if self.faulty("crash"):
            worker.dead = True
            for pair in worker.pairs.values():
                self.after(1.0, lambda pair=pair: self._lose(pair, 2))

    def _effect_of_work(self, worker, effect):
        pair = worker.pairs.get(getattr(effect, "circuit", None))
        match effect:
            case Accept(reply=reply):
                self.after(0.1, lambda: self._opened(pair, reply))
            case Deny(reply=reply):
                pair.alive = False
                self.after(0.1, lambda: self._denied(pair, reply))
            case Say(data=data):
                assert pair.alive
                if self.faulty("deaf"):
                    pair.room = 0
                self._carry(pair.attempt, "down", data)
            case End():
                self.after(0.1, lambda: self._ask(lambda core, now: core.ended(now, pair.attempt)))
            case GiveUp(code=code):
                self.after(
                    0.1, lambda: self._ask(lambda core, now: core.reset(now, pair.attempt, code))
                )
            case Lock():
                self._lock(worker, effect)
            case Keep(lock_id=lock_id, index=index, preimage=preimage):
                worker.till.keep(lock_id, index, preimage)
            case Settle(lock_id=lock_id, final=final, ticks=ticks):
                worker.till.settle(lock_id, final=final, ticks=ticks)
            case Prepare(token=token):
                self._prepare(worker, token)
            case Generate(job=job):
                self._generate(worker, job)
            case Cancel(token=token):
                worker.jobs.pop(token, None)
            case Hold() | GoOn():
                pass

    def _opened(self, pair, reply):
        self._ask(lambda core, now: core.opened(now, pair.attempt, reply))

    def _denied(self, pair, reply):
        self._ask(lambda core, now: core.failed(now, pair.attempt, 3, Hop.REFUSED, reply))

    def _lock(self, worker, lock):
        delay = 0.05
        match self.faulty("mint_down", "lock_slow", "lock_late", "till_dies"):
            case "mint_down":
                self.mint.down = True
                self.after(20.0, lambda: setattr(self.mint, "down", False))
            case "lock_slow":
                delay = 8.0
            case "lock_late":
                delay = 30.0
            case "till_dies":
                return
        self.after(delay, lambda: self._locked(worker, lock))

    def _locked(self, worker, lock):
        result = worker.till.take(lock.spend, lock.session, lock.tick)
        self._work(worker, lambda core, now: core.locked(now, lock.token, result))

    # --- its engine ---

    def _prepare(self, worker, token):
        worker.jobs[token] = "preparing"
        trouble = self.faulty("no_prepare", "bad_prepare")
        if trouble == "no_prepare":
            return
        result = Prepared(tokens=tuple(range(20)))
        if trouble == "bad_prepare":
            result = Failed(fault=Fault.BAD_TEMPLATE)
        self.after(0.01, lambda: self._prepared(worker, token, result))

    def _prepared(self, worker, token, result):
        if worker.jobs.pop(token, None) == "preparing":
            self._work(worker, lambda core, now: core.prepared(now, token, result))

    def _generate(self, worker, job):
        worker.jobs[job.id] = "running"
        count = 5 + self.entropy.below(job.max_tokens - 4)
        happenings = [Begun(prompt=20, cached=0)]
        happenings += [Piece(first=n, ids=(n,), text=f" {n}") for n in range(count)]
        reason = Reason.LENGTH if count == job.max_tokens else Reason.STOP
        happenings.append(Finished(reason=reason, usage=Usage(prompt=20, completion=count)))
        if trouble := self.faulty("engine_fails", "engine_stops", "engine_late"):
            del happenings[1 + self.entropy.below(count) :]
            if trouble == "engine_fails":
                happenings.append(Failed(fault=Fault.DECODE))
            if trouble == "engine_late":
                used = Usage(prompt=20, completion=len(happenings) - 1)
                happenings.append(Finished(reason=Reason.DEADLINE, usage=used))
        for number, happening in enumerate(happenings):
            self.after(
                0.1 * (number + 1), lambda said=happening: self._generated(worker, job.id, said)
            )

    def _generated(self, worker, token, said):
        if worker.jobs.get(token) != "running":
            return
        if isinstance(said, Finished | Failed):
            del worker.jobs[token]
        self._work(worker, lambda core, now: core.generated(now, token, said))


def worker_identity(number):
    return Identity(number.to_bytes(32, "big"))


def check(world, deadline=DEADLINE):
    """What must hold after any walk."""
    cancelled = world.ended_at is not None and not any(
        isinstance(e, Done | AskFailed) for e in world.events
    )
    finals = [e for e in world.events if isinstance(e, Done | AskFailed)]
    if cancelled:
        assert any(fault.name == "cancel" for fault in world.faults)
    else:
        assert len(finals) == 1
        assert world.events[-1] is finals[0]
    assert world.ended_at is not None
    assert world.ended_at <= NOW + SHARE * deadline + 1e-6
    assert world.ask.next_deadline() is None
    for worker in world.workers.values():
        if not worker.dead:
            assert worker.jobs == {}, "an orphan"
            sizes = worker.core.sizes()
            assert not any(sizes[name] for name in sizes), sizes
    check_coins(world)
    return finals[0] if finals else None


def check_coins(world):
    """No coin is lost, and no worker has more than its receipt says, or than it was shown."""
    mint, purse = world.mint, world.purse
    assert purse.open == []
    for worker in world.workers.values():
        held = [held for held in mint.held.values() if held.worker == worker.identity.id]
        assert worker.dead or all(held.final for held in held)
    for payment, locked, revealed, owed in purse.over:
        held = mint.held.get(payment.lock_id)
        assert locked or not revealed
        assert held is not None or not locked
        assert held is None or held.verifier.index <= owed <= revealed
    mint.expire(world.now + 1_000)
    purse.fetch()
    assert purse.balance + world.lost + sum(mint.earned.values(), ZERO) == FUNDS


faults = st.lists(
    st.builds(Trouble, st.sampled_from(FAULTS), st.sampled_from([1, 1, 1, 2, 2, 3, 5, 8, 13])),
    max_size=5,
)


@pytest.fixture
def entries(entry):
    return [entry(number) for number in (1, 2, 3)]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    faults=faults,
    seed=st.integers(0, 2**32),
    deadline=st.sampled_from([3.0, 30.0, DEADLINE]),
    service=st.sampled_from([SERVICE, PRICED]),
)
def test_every_ask_ends_in_time_and_leaves_no_orphan(entries, faults, seed, deadline, service):
    world = World(entries, faults, seed, deadline, service)
    world.run()
    final = check(world, deadline)
    event(final.code if isinstance(final, AskFailed) else type(final).__name__)


@pytest.mark.parametrize("service", [SERVICE, PRICED], ids=["free", "paid"])
def test_without_faults_the_answer_is_whole(entries, service):
    world = World(entries, [], 1, DEADLINE, service)
    world.run()
    done = check(world)
    assert isinstance(done, Done)
    assert done.paid == world.mint.earned.get(done.worker, ZERO)
    assert done.cost <= done.paid
    assert done.text == "".join(f" {n}" for n in range(len(done.ids)))
    assert done.refusals == ()


@pytest.mark.parametrize(
    "name",
    [
        *("drop", "swap", "flip", "cut", "late"),
        *("refuse_hop", "guard", "timeout", "crash", "no_prepare"),
        *("purse_slow", "purse_late", "lock_slow", "lock_late", "till_dies"),
    ],
)
@pytest.mark.parametrize("service", [SERVICE, PRICED], ids=["free", "paid"])
def test_one_fault_before_the_answer_costs_no_answer(entries, name, service):
    world = World(entries, [Trouble(name, 1)], 1, DEADLINE, service)
    world.run()
    assert isinstance(check(world), Done), world.events


@pytest.mark.parametrize(
    ("name", "code"), [("poor", "no_credits"), ("mint_down", "mint_unreachable")]
)
def test_what_cannot_be_paid_is_said_and_costs_nothing(entries, name, code):
    world = World(entries, [Trouble(name, 1)], 1, DEADLINE, PRICED)
    world.run()
    assert check(world).code == code
    assert world.purse.balance + world.lost == FUNDS


def test_a_request_that_the_engine_cannot_read_is_the_callers(entries):
    world = World(entries, [Trouble("bad_prepare", 1)], 1, DEADLINE)
    world.run()
    assert check(world).code == "invalid_request"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("engine_fails", "worker_lost"),
        ("engine_stops", "worker_lost"),
        ("deaf", "worker_lost"),
        ("lose", "worker_lost"),
        ("lose_relay", "circuit_lost"),
    ],
)
def test_a_fault_within_the_answer_is_a_clear_error_with_the_text(entries, name, code):
    ends = []
    for seed in range(40):
        world = World(entries, [Trouble(name, 3 if name == "deaf" else 1)], seed, DEADLINE)
        world.run()
        final = check(world)
        if isinstance(final, AskFailed):
            assert final.text
            ends.append(final.code)
    assert dict.fromkeys(ends) == {code: None}


def test_a_walk_is_the_same_for_the_same_seed(entries):
    walks = []
    for _ in range(2):
        world = World(entries, [Trouble("drop", 3), Trouble("lose", 2)], 5, DEADLINE)
        world.run()
        walks.append([repr(e) for e in world.events])
    assert walks[0] == walks[1]
