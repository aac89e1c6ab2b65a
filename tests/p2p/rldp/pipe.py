"""Two cores and a path between them, in virtual time: slow, lossy, reordering as asked."""

import heapq
from dataclasses import dataclass

from p2p.entropy import seeded
from p2p.identity import AdnlId
from p2p.rldp.core import RldpCore
from p2p.rldp.events import Payload, Query

T0 = 1_800_000_000.0
A, B = AdnlId(b"a" * 32), AdnlId(b"b" * 32)

OVERHEAD = 150
"""bytes that ADNL and UDP put around a payload."""


@dataclass(kw_only=True)
class Path:
    """What a payload meets on its way."""

    latency: float = 0.01
    rate: float = 4e6
    """bytes a second"""
    queue: float = 0.1
    """seconds of payloads that wait for the line; more are lost"""
    loss: float = 0.0
    duplicates: float = 0.0
    jitter: float = 0.0
    """seconds by which a payload may be later than its turn"""


class Pipe:
    """`a` and `b` speak over it; what they tell is in `events`, in pairs of their id and event."""

    def __init__(self, path=None, seed=1, answer=None):
        self.path = path or Path()
        self.entropy = seeded(seed).fork("path")
        self.cores = {A: RldpCore(seeded(seed).fork("a")), B: RldpCore(seeded(seed).fork("b"))}
        self.a, self.b = self.cores.values()
        self.answer = answer
        self.keep = lambda data: True
        self.now = T0
        self.free = dict.fromkeys(self.cores, T0)
        self.carried, self.lost = dict.fromkeys(self.cores, 0), 0
        self.events = []
        self._heap, self._count = [], 0

    def run(self, seconds=60.0, until=lambda: False):
        """Go on until nothing is due, the time is over, or `until` says so."""
        end = self.now + seconds
        for name in self.cores:
            self._drain(name)
        while not until():
            when, name = self._next()
            if when is None or when > end:
                self.now = end if when is not None else self.now
                return
            self.now = max(self.now, when)
            self._step(name)

    def told(self, kind):
        """The events of a kind."""
        return [event for _, event in self.events if isinstance(event, kind)]

    def _next(self):
        due = [(self._heap[0][0], None)] if self._heap else []
        for name, core in self.cores.items():
            when = core.next_deadline()
            if when is not None:
                due.append((when, name))
        return min(due, key=lambda entry: entry[0], default=(None, None))

    def _step(self, name):
        if name is not None:
            self.cores[name].handle_timer(self.now)
            self._drain(name)
            return
        _, _, sender, to, data = heapq.heappop(self._heap)
        self.cores[to].receive(self.now, sender, data)
        self._drain(to)

    def _drain(self, name):
        core = self.cores[name]
        for output in core.drain():
            if isinstance(output, Payload):
                self._carry(name, output)
                continue
            self.events.append((name, output))
            if isinstance(output, Query) and self.answer is not None:
                core.answer(self.now, output.token, self.answer(output.data))
                self._drain(name)

    def _carry(self, sender, payload):
        path, draw = self.path, self.entropy.uniform
        if payload.peer not in self.cores:
            return
        self.carried[sender] += 1
        wait = max(0.0, self.free[sender] - self.now)
        lost = path.loss and draw() < path.loss
        if lost or wait > path.queue or not self.keep(payload.data):
            self.lost += 1
            return
        self.free[sender] = self.now + wait + (len(payload.data) + OVERHEAD) / path.rate
        copies = 2 if path.duplicates and draw() < path.duplicates else 1
        for _ in range(copies):
            self._count += 1
            late = path.jitter * draw() if path.jitter else 0.0
            when = self.free[sender] + path.latency + late
            heapq.heappush(self._heap, (when, self._count, sender, payload.peer, payload.data))
