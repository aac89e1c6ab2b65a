"""The `worker` document, and what the node's owner tells its worker to do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from inference.fit import Fit
from inference.limits import Rules, Verdict
from inference.machine import Machine
from scripts.api import local
from scripts.api.common import moment
from scripts.api.status import WorkerState
from scripts.failure import Document, Failed

ACTIONS: Final = ("start", "stop", "pause", "resume")

MAX_PAUSE: Final = 366 * 86_400.0
"""seconds: whoever wants a longer pause names no time"""


class Worker(Protocol):
    """What serves, as its owner commands it."""

    def limits(self) -> Document:
        """How it stands with the machine. Raises `Failed` if this node serves nothing."""

    async def order(self, action: str, seconds: float | None) -> Document:
        """Start, stop, pause or resume; the document after it. Raises `Failed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the document tells."""

    worker: WorkerState
    verdict: Verdict
    rules: Rules
    machine: Machine | None
    fit: Fit | None
    away: bool
    """Whether the model is not in memory, and comes for the next who asks."""


def limits(state: Limits) -> Document:
    """The `worker` document."""
    until = state.verdict.until
    return {
        "schema": "tussah/worker/1",
        "state": state.worker.state,
        "reasons": list(state.worker.reasons),
        "until_at": None if until is None else moment(until),
        "model": None if state.worker.service is None else state.worker.service.label,
        "loaded": state.worker.service is not None and not state.away,
        "fit": None if state.fit is None else fitting(state.fit),
        "rules": list(_rules(state)),
    }


def fitting(fit: Fit) -> Document:
    """How a model runs here."""
    return {
        "where": fit.where,
        "why": fit.words,
        "gpu_layers": fit.plan.gpu_layers,
        "slots": fit.plan.slots,
        "context": fit.plan.context,
        "vram_bytes": fit.vram,
        "ram_bytes": fit.ram,
    }


@dataclass(frozen=True, slots=True)
class _Row:
    """A rule as people set it and sensors measure it."""

    setting: str
    value: Callable[[Rules], object]
    measured: Callable[[Machine], object]


def _percent(part: float | None) -> float | None:
    return None if part is None else round(100 * part, 1)


def _power(machine: Machine) -> str | None:
    if machine.battery is None or machine.on_mains is None:
        return None
    return f"{machine.battery:.0f} %, {'on mains' if machine.on_mains else 'on battery'}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _quiet(rules: Rules) -> str | None:
    return None if rules.quiet is None else "-".join(_clock(minute) for minute in rules.quiet)


def _pauses(pauses: bool) -> str:
    return "pause" if pauses else "serve"


_ROWS: Final[Mapping[str, _Row]] = {
    "battery": _Row(
        "manners.on_battery", lambda rules: _pauses(rules.pause_on_battery), lambda m: _power(m)
    ),
    "heat": _Row(
        "manners.max_temperature", lambda rules: rules.max_temperature, lambda m: m.hottest_c
    ),
    "gpu": _Row(
        "manners.yield_gpu", lambda rules: rules.yield_gpu, lambda m: _percent(m.gpu_others)
    ),
    "vram": _Row(
        "manners.yield_gpu",
        lambda rules: rules.yield_gpu,
        lambda m: None if m.gpu is None else m.gpu.vram_free,
    ),
    "cpu": _Row(
        "manners.yield_cpu", lambda rules: rules.yield_cpu, lambda m: _percent(m.load_others)
    ),
    "quiet": _Row(
        "manners.quiet_hours", _quiet, lambda m: None if m.minute is None else _clock(m.minute)
    ),
    "metered": _Row(
        "manners.metered", lambda rules: _pauses(rules.pause_on_metered), lambda m: m.metered
    ),
}


def _rules(state: Limits) -> Iterator[Document]:
    for name, row in _ROWS.items():
        grip = state.verdict.grips.get(name)
        yield {
            "rule": name,
            "setting": row.setting,
            "value": row.value(state.rules),
            "measured": None if state.machine is None else row.measured(state.machine),
            "holds": grip is not None and grip.held,
        }


# --- orders ---


def routes(worker: Worker) -> list[BaseRoute]:
    """What the control API takes for it."""

    async def look(request: Request) -> Response:
        return local.answer(worker.limits())

    async def order(request: Request) -> Response:
        action = str(request.path_params["action"])
        if action not in ACTIONS:
            message = f"A worker cannot be told to {action}."
            raise Failed("unsupported_endpoint", message, f"Known: {', '.join(ACTIONS)}.")
        return local.answer(await worker.order(action, seconds(await local.read_json(request))))

    return [
        Route("/worker", look, methods=["GET"]),
        Route("/worker/{action}", order, methods=["POST"]),
    ]


def seconds(body: object) -> float | None:
    """How long a pause is to be. Raises `Failed` for what is none."""
    given = body.get("seconds") if isinstance(body, Mapping) else None
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given <= MAX_PAUSE:
        message = f"A pause of {given!r} seconds is none."
        raise Failed("invalid_request", message, "Give a year at the most.", param="seconds")
    return float(given)
