"""The manners of a worker on somebody's laptop: when it pauses, when it goes on, and why.

    rule      pauses                                    goes on
    hand      when its owner says so                    at the time given, or when told
    battery   on battery, or below the least percent    on mains and 5 % above it for 60 s
    heat      over the limit for 10 s; 7 above: at once 8 below it for 30 s
    gpu       others use > 25 % of it for 5 s           < 10 % for 60 s
    vram      < 512 MiB of it free, at once             >= 1 GiB free for 60 s
    cpu       others use > 75 % of it for 30 s          < 50 % for 60 s
    quiet     in the hours                              out of them
    metered   the network is metered                    it is not

Between the two edges of a rule nothing changes. A rule whose sensor is missing, or that is switched
off, says nothing. What happens "at once" also ends the answers that run: the state is `STOP`, else
it is `PAUSE`. Other changes of state are at least `APART` seconds from one another.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from inference.machine import MIB, Machine

APART: Final = 30.0
"""seconds between two changes of state that are no emergency"""

BATTERY_MARGIN: Final = 5.0
"""percent above the least from which work goes on"""

HEAT_EMERGENCY: Final = 7.0
HEAT_MARGIN: Final = 8.0
"""degrees above and below the limit"""

GPU_BUSY: Final = 0.25
GPU_QUIET: Final = 0.10
CPU_BUSY: Final = 0.75
CPU_QUIET: Final = 0.50
"""parts of its time"""

VRAM_LEAST: Final = 512 * MIB
VRAM_EASY: Final = 1024 * MIB

MINUTES: Final = 24 * 60


class State(Enum):
    """What a worker does."""

    SERVE = "serve"
    PAUSE = "pause"
    """nothing new; what runs goes on"""
    STOP = "stop"
    """nothing at all, and the model is not in memory"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What the owner said."""

    stop: bool = False
    until: float | None = None
    """Unix time; None: until told otherwise"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the owner has set."""

    pause_on_battery: bool = True
    battery_min: float = 30.0
    """percent"""
    max_temperature: float = 83.0
    """degrees Celsius"""
    yield_gpu: bool = True
    yield_cpu: bool = True
    quiet: tuple[int, int] | None = None
    """minutes of the day, from and to; may wrap around midnight"""
    pause_on_metered: bool = True
    hand: Hand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grip:
    """What a rule remembers from one look to the next."""

    held: bool = False
    urgent: bool = False
    """It took hold at once."""
    since: float | None = None
    """When the opposite edge was reached, if it has been since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, why, and until when if that is known."""

    state: State = State.SERVE
    reasons: tuple[str, ...] = ()
    """sentences without a full stop: "on battery (41 %); resumes on mains" """
    until: float | None = None
    """Unix time"""
    changed: float = float("-inf")
    """when the state became what it is"""
    grips: Mapping[str, Grip] = field(default_factory=dict)
    """by rule"""


def decide(machine: Machine, now: float, rules: Rules, previous: Verdict) -> Verdict:
    """What to do now; see the module."""
    gauges = dict(_gauges(machine, now, rules))
    grips = {
        name: _grip(previous.grips.get(name, Grip()), gauge, now) for name, gauge in gauges.items()
    }
    holding = {name: gauge for name, gauge in gauges.items() if grips[name].held}
    state = _state(grips, rules, now)
    reasons = tuple(gauge.words for gauge in holding.values())
    untils = [gauge.until for gauge in holding.values()]
    changed = previous.changed if state is previous.state else now
    if changed == now and _is_too_soon(previous, now, grips, state):
        state, reasons, changed = previous.state, previous.reasons, previous.changed
        untils = [previous.changed + APART]
    known = [until for until in untils if until is not None]
    is_known = state is not State.SERVE and bool(known) and len(known) == len(untils)
    until = max(known) if is_known else None
    return Verdict(state=state, reasons=reasons, until=until, changed=changed, grips=grips)


def _state(grips: Mapping[str, Grip], rules: Rules, now: float) -> State:
    stopped = rules.hand is not None and rules.hand.stop and _is_in_force(rules.hand, now)
    if stopped or any(grip.held and grip.urgent for grip in grips.values()):
        return State.STOP
    return State.PAUSE if any(grip.held for grip in grips.values()) else State.SERVE


def _is_too_soon(previous: Verdict, now: float, grips: Mapping[str, Grip], state: State) -> bool:
    """Whether the state has just changed. Emergencies and the owner's word do not wait."""
    if now - previous.changed >= APART:
        return False
    hand = grips.get(_HAND, Grip()).held or previous.grips.get(_HAND, Grip()).held
    return not hand and state is not State.STOP


# --- what each rule measures ---


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gauge:
    """Where a rule's sensor stands."""

    over: bool
    """past the edge at which the rule takes hold"""
    under: bool
    """past the edge at which it lets go"""
    words: str
    at_once: bool = False
    over_for: float = 0.0
    under_for: float = 0.0
    """seconds past the edge until something happens"""
    until: float | None = None


def _grip(grip: Grip, gauge: _Gauge, now: float) -> Grip:
    """A rule takes hold, or lets go, when its sensor has stayed past the edge for long enough."""
    if gauge.at_once:
        return Grip(held=True, urgent=True)
    past, long = (gauge.under, gauge.under_for) if grip.held else (gauge.over, gauge.over_for)
    if not past:
        return Grip(held=grip.held, urgent=grip.urgent)
    since = now if grip.since is None else grip.since
    if now - since >= long:
        return Grip(held=not grip.held)
    return Grip(held=grip.held, urgent=grip.urgent, since=since)


def _gauges(machine: Machine, now: float, rules: Rules) -> Iterator[tuple[str, _Gauge]]:
    for name, measure in _RULES.items():
        gauge = measure(machine, now, rules)
        if gauge is not None:
            yield name, gauge


def _is_in_force(hand: Hand, now: float) -> bool:
    return hand.until is None or now < hand.until


def _hand(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    hand = rules.hand
    if hand is None:
        return None
    over = _is_in_force(hand, now)
    words = "stopped by its owner; `tussah worker start` serves again"
    if not hand.stop:
        words = "paused by its owner; `tussah worker resume` ends that"
    return _Gauge(over=over, under=not over, words=words, until=hand.until)


def _battery(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.battery is None or machine.on_mains is None:
        return None
    least = rules.battery_min
    is_off = rules.pause_on_battery and not machine.on_mains
    where = "on battery" if not machine.on_mains else "battery low"
    resumes = "resumes on mains" if is_off else f"resumes above {least + BATTERY_MARGIN:.0f} %"
    return _Gauge(
        over=is_off or machine.battery < least,
        under=not is_off and machine.battery >= min(least + BATTERY_MARGIN, 100.0),
        under_for=60.0,
        words=f"{where} ({machine.battery:.0f} %); {resumes}",
    )


def _heat(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.hottest_c is None:
        return None
    limit, heat = rules.max_temperature, machine.hottest_c
    return _Gauge(
        over=heat > limit,
        at_once=heat > limit + HEAT_EMERGENCY,
        under=heat < limit - HEAT_MARGIN,
        over_for=10.0,
        under_for=30.0,
        words=f"too hot ({heat:.0f} °C); resumes below {limit - HEAT_MARGIN:.0f} °C",
    )


def _gpu(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.gpu_others is None or not rules.yield_gpu:
        return None
    return _Gauge(
        over=machine.gpu_others > GPU_BUSY,
        under=machine.gpu_others < GPU_QUIET,
        over_for=5.0,
        under_for=60.0,
        words=f"the GPU is in use ({machine.gpu_others:.0%}); resumes when it is free",
    )


def _vram(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    gpu = machine.gpu
    if gpu is None or not rules.yield_gpu or gpu.vram_total <= VRAM_EASY:
        return None
    return _Gauge(
        over=False,
        at_once=gpu.vram_free < VRAM_LEAST,
        under=gpu.vram_free >= VRAM_EASY,
        under_for=60.0,
        words="others need the GPU's memory; resumes when it is free",
    )


def _cpu(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.load_others is None or not rules.yield_cpu:
        return None
    return _Gauge(
        over=machine.load_others > CPU_BUSY,
        under=machine.load_others < CPU_QUIET,
        over_for=30.0,
        under_for=60.0,
        words=f"the processor is in use ({machine.load_others:.0%}); resumes when it is free",
    )


def _quiet(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.minute is None or rules.quiet is None:
        return None
    begins, ends = rules.quiet
    is_in = (machine.minute - begins) % MINUTES < (ends - begins) % MINUTES
    left = (ends - machine.minute) % MINUTES
    return _Gauge(
        over=is_in,
        under=not is_in,
        words=f"quiet hours; resumes at {ends // 60:02}:{ends % 60:02}",
        until=now + 60.0 * left,
    )


def _metered(machine: Machine, now: float, rules: Rules) -> _Gauge | None:
    if machine.metered is None or not rules.pause_on_metered:
        return None
    return _Gauge(
        over=machine.metered,
        under=not machine.metered,
        words="the network is metered; resumes on another",
    )


_HAND: Final = "hand"

_RULES: Final[Mapping[str, Callable[[Machine, float, Rules], _Gauge | None]]] = {
    _HAND: _hand,
    "battery": _battery,
    "heat": _heat,
    "gpu": _gpu,
    "vram": _vram,
    "cpu": _cpu,
    "quiet": _quiet,
    "metered": _metered,
}
