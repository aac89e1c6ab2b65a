"""How long requests wait at workers: a trace or a process of arrivals, desks and engines.

Each request goes to the worker with the fewest jobs of `queue.choices` that `inference.market`
draws; the real asker takes 1. A worker has `queue.slots`. Its desk is the real one, which turns
away whom it has no room for, and then another is drawn, as often as a real ask does it; or
`queue.endless`, as in theory. `queue.service` = engine: a machine that slows down as jobs share it;
exponential: a mean of 1 s, whatever runs beside.

Measured: wait_s, sojourn_s; queue and worker_load as arrivals find them; ask_outcome.
"""

from collections.abc import Mapping, Sequence
from typing import Final, final

from inference import market
from inference.drawing import MAX_DRAWS
from inference.market import Memory, Terms
from p2p.core import COMMAND, EVENT
from p2p.entropy import exponential
from simulations.arrivals import Request, asked
from simulations.desks import Admission, EndlessDesk, RealDesk, Workplace
from simulations.engine import Apart, Batching, Engine, Machine
from simulations.experiment import Experiment, Scalar
from simulations.listed import listed
from simulations.log import EventLog
from simulations.register import MODEL, Register
from simulations.scenarios import Setting
from simulations.timeline import Timeline

KNOBS: Final = ("queue",)

LOOK_EVERY: Final = 8
"""arrivals, of which one looks round: more would say little more"""

TERMS: Final = Terms(size_class=8, max_tokens=256)


def build(setting: Setting) -> "Queue":
    """The scenario of an experiment, at its start."""
    return Queue(setting)


@final
class Queue:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        exp, entropy = setting.exp, setting.entropy
        among = listed(exp, entropy)
        self._timeline = Timeline(setting.log)
        self._began = self._timeline.now
        self._meter = setting.meter
        self._choices = int(_knob(exp, "choices", 1))
        self._machine = Machine(slots=int(_knob(exp, "slots", Machine().slots)))
        self._exponential = _knob(exp, "service", "engine") == "exponential"
        self._endless = bool(_knob(exp, "endless", False))

        places = [self._workplace(each.index) for each in among.workers]
        self.nodes: Sequence[Workplace] = places
        self._places = dict(zip((each.view.id for each in among.workers), places, strict=True))
        entries = Register(among.workers).workers
        self._choice = market.acceptable(entries, MODEL.identity, TERMS, Memory(), self.now)

        self._draws = entropy.fork("draws")
        self._services = entropy.fork("services")
        self._requests = asked(exp.workload, entropy.fork("workload"))
        self._jobs = 0
        self._came: dict[int, float] = {}
        self._await_next()

    @property
    def now(self) -> float:
        """Unix seconds of virtual time."""
        return self._timeline.now

    @property
    def log(self) -> EventLog | None:
        """When jobs came, began and ended, each at its worker."""
        return self._timeline.log

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        return self._timeline.run(until, max_records)

    def sizes(self, node: int) -> Mapping[str, int]:
        """Tables of a worker."""
        return self.nodes[node].sizes()

    # --- jobs ---

    def began(self, now: float, worker: int, job: int) -> None:
        """See `Listener`."""
        self._record(worker, EVENT, job)
        self._meter.observe("wait_s", now - self._came[job])

    def ended(self, now: float, worker: int, job: int) -> None:
        """See `Listener`."""
        self._record(worker, EVENT, job)
        self._meter.observe("sojourn_s", now - self._came.pop(job))
        self._meter.count("ask_outcome", 1, "answer")

    def _await_next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._timeline.at(self._began + request.at, lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        self._jobs += 1
        job, seconds = self._jobs, self._seconds(request)
        self._came[job] = self.now
        if job % LOOK_EVERY == 0:
            self._look(job // LOOK_EVERY)
        if not self._admitted(job, seconds, request):
            del self._came[job]
            self._meter.count("ask_outcome", 1, "refusal")
        self._await_next()

    def _admitted(self, job: int, seconds: float, request: Request) -> bool:
        """Try one draw after the other, none of them twice, as an ask does it."""
        tried: list[Workplace] = []
        while len(tried) < min(MAX_DRAWS, len(self.nodes)):
            place = self._shortest(tried)
            self._record(place.worker, COMMAND, job)
            if place.admit(job, seconds, *self._tokens(request)):
                return True
            tried.append(place)
        return False

    def _shortest(self, tried: Sequence[Workplace]) -> Workplace:
        """Of so many draws the one with the fewest jobs, the first of equals."""
        drawn: list[Workplace] = []
        while len(drawn) < min(self._choices, len(self.nodes) - len(tried)):
            place = self._places[market.draw(self._choice, self._draws).id]
            if place not in tried and place not in drawn:
                drawn.append(place)
        return drawn[0] if len(drawn) == 1 else min(drawn, key=_present)

    def _look(self, number: int) -> None:
        """What an arrival finds at one worker after the other: what there is on average."""
        place = self.nodes[number % len(self.nodes)]
        self._meter.gauge("queue", place.waiting)
        self._meter.gauge("worker_load", place.load)

    def _seconds(self, request: Request) -> float:
        if self._exponential:
            return exponential(self._services, 1.0)
        return self._machine.alone(request.prompt, request.answer)

    def _tokens(self, request: Request) -> tuple[int, int]:
        """What a desk goes by; without lengths all are alike, and it is first come first served."""
        return (0, 0) if self._exponential else (request.prompt, request.answer)

    def _record(self, worker: int, kind: int, job: int) -> None:
        if self._timeline.log is not None:
            self._timeline.log.add(self.now, worker, kind, None, job.to_bytes(8, "little"))

    def _workplace(self, worker: int) -> Workplace:
        slots = self._machine.slots
        desk: Admission = EndlessDesk(slots) if self._endless else RealDesk(slots)
        engine: Engine = Apart() if self._exponential else Batching(self._machine)
        return Workplace(worker, slots, desk, engine, self._timeline, self)


def _present(place: Workplace) -> int:
    return place.present


def _knob(exp: Experiment, name: str, default: Scalar) -> Scalar:
    return exp.protocol.get(f"queue.{name}", default)
