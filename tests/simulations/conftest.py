"""Toy cores that talk a lot, and fabrics that treat what they say badly."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from p2p.core import Deadlines, Send
from p2p.entropy import SeededEntropy, choice, seeded
from p2p.transport.fabric import EPOCH, Constant
from simulations.experiment import from_tree
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.scenarios import Setting, build
from simulations.world import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A toy core heard something worth telling."""

    source: int
    size: int


class Chatty:
    """Talks to a random neighbour every so often, and answers what it hears two times in three."""

    def __init__(self, node: int, count: int, entropy: SeededEntropy, beat: float) -> None:
        self._peers = [peer for peer in range(count) if peer != node]
        self._entropy = entropy
        self._beat = beat
        self._deadlines = Deadlines()
        self._sends: list[Send] = []
        self._events: list[object] = []
        self._last = 0.0
        self.greeted = 0

        self._now = EPOCH
        self._deadlines.at(EPOCH + beat, self._talk)

    def receive(self, now, source, datagram):
        self._advance(now)
        if datagram[0] and datagram[1] % 3:
            self._sends.append(Send(source, bytes([datagram[0] - 1]) + self._entropy.token(4)))
        else:
            self._events.append(Heard(source=source, size=len(datagram)))

    def handle_timer(self, now):
        self._advance(now)
        self._deadlines.run(now)

    def greet(self, now):
        self._advance(now)
        self.greeted += 1
        self._sends.extend(Send(peer, b"\x02hello") for peer in self._peers[:3])

    def next_deadline(self):
        return self._deadlines.next()

    def drain(self):
        sends, self._sends = self._sends, []
        events, self._events = self._events, []
        return sends, events

    def sizes(self):
        return {"deadlines": len(self._deadlines)}

    def _advance(self, now):
        if now < self._now:
            raise ValueError("time fell")
        self._now = now

    def _talk(self):
        to = choice(self._entropy, self._peers)
        self._sends.append(Send(to, b"\x05" + self._entropy.token(1 + self._entropy.below(40))))
        self._deadlines.at(self._now + self._beat * (0.5 + self._entropy.uniform()), self._talk)


class Rough:
    """Jitter, loss, duplicates and a downlink that queues; draws from the sender's stream."""

    def __init__(self, entropy, *, loss=0.03, double=0.02, delay=0.02, jitter=1.0, queue=0.0):
        self._entropy = entropy
        self._streams = {}
        self._loss, self._double, self._delay, self._jitter = loss, double, delay, jitter
        self._queue = queue
        self._free = {}

    def route(self, now, src, dst, size):
        stream = self._streams.setdefault(src, self._entropy.fork(f"net/{src}"))
        fate, delay = stream.uniform(), stream.uniform()
        arrival = now + self._delay * (1.0 + self._jitter * delay)
        if fate < self._loss:
            return ()
        return (arrival, arrival) if fate > 1.0 - self._double else (arrival,)

    def admit(self, now, src, dst, size):
        if not self._queue:
            return now
        start = max(now, self._free.get(dst, 0.0))
        if start > now + 20 * self._queue:
            return None
        self._free[dst] = start + self._queue
        return start


class Nosy:
    """Effects that answer: who hears something greets, a tick later."""

    def __init__(self):
        self.lives = []

    def handle(self, world, node, now, event):
        if isinstance(event, Life):
            self.lives.append((now, node, event.what))
        elif event.size % 11 == 0:
            world.at(now, node, "greet", Chatty.greet)
            world.at(now, (node + 1) % len(world.nodes), "greet", Chatty.greet)

    def leave(self, core, now):
        core.greet(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What two worlds must agree on."""

    digest: str
    records: int
    checkpoints: tuple[object, ...]
    sizes: tuple[dict[str, int], ...]


@pytest.fixture(scope="session")
def stats():
    """The judge of distributions: seconds to import, so not before a test wants it."""
    return pytest.importorskip("scipy.stats", reason="scipy is a judge, not a dependency")


@pytest.fixture
def rough():
    return Rough


@pytest.fixture
def chatty() -> Callable[..., Outcome]:
    """Run a population of toy cores in a world of the class given."""

    def run(kind, *, seed=1, count=12, seconds=5.0, fabric=None, script=None, beat=0.1, sink=None):
        entropy = seeded(seed)
        cores = [_core(entropy, node, count, beat) for node in range(count)]
        log = EventLog(sink=sink)
        world = kind(cores, fabric or Constant(), log, Nosy())
        for node in range(count):
            world.start(node)
        if script is not None:
            script(world, lambda node, life: _core(entropy, node, count, beat, life))
        assert world.run(EPOCH + seconds)
        return Outcome(
            digest=log.digest,
            records=log.records,
            checkpoints=tuple(log.checkpoints),
            sizes=tuple(core.sizes() for core in world.nodes),
        )

    return run


def _core(entropy, node, count, beat, life=0):
    return Chatty(node, count, entropy.fork(f"node/{node}/{life}"), beat)


@pytest.fixture
def play():
    """Run a scenario of these settings; the scenario, and what it measured by series."""

    def run(scenario, until, *, seed=1, window=None, **settings):
        settings["run"] = {**settings.get("run", {}), "until": until}
        exp = from_tree({"name": "test", "scenario": scenario, **settings})
        built = []
        meter = Meter(lambda: built[0].now if built else EPOCH, bucket=1e4)
        setting = Setting(exp=exp, entropy=seeded(seed), meter=meter, log=EventLog())
        built.append(build(setting))
        assert built[0].run(EPOCH + until)
        summaries = meter.summary(window and (lambda series: window(series.values())))
        return built[0], {str(each.key): each for each in summaries}

    return run
