"""The manners of this node's worker: looks at the machine, decides, and keeps its owner's word.

What the owner says by hand (`tussah worker pause`) outlives a restart: it stands in `worker.json`.
"""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias, final

import structlog
import trio

from inference import limits
from inference.hardware import Sensors
from inference.limits import Hand, Rules, State, Verdict
from inference.machine import Machine
from scripts import settings
from scripts.failure import Failed
from scripts.home import Home, write_private

EVERY: Final = 2.0
RARELY: Final = 10.0
"""seconds between two looks: while the worker serves, and while it does not"""

log = structlog.get_logger()

Apply: TypeAlias = Callable[[Verdict], Awaitable[None]]


@final
class Manners:
    """See the module. `verdict` is the newest; `look` before it is asked for the first time."""

    def __init__(self, chosen: settings.Manners, home: Home) -> None:
        self._home = home
        self._rules = rules_of(chosen)
        self._sensors: Sensors | None = None
        self._limiter = trio.CapacityLimiter(1)
        self._spoken = trio.Event()
        self.hand = _read(home)
        self.machine: Machine | None = None
        self.verdict = Verdict()

    @property
    def rules(self) -> Rules:
        """What is set, and what the owner said."""
        return replace(self._rules, hand=self.hand)

    async def see(self) -> Machine:
        """Look at the machine."""
        self.machine = await trio.to_thread.run_sync(self._snapshot, limiter=self._limiter)
        return self.machine

    async def look(self) -> Verdict:
        """Look at the machine, and decide."""
        machine = await self.see()
        before, now = self.verdict, time.time()
        if self.hand is not None and self.hand.until is not None and self.hand.until <= now:
            self._say(None)
        self.verdict = limits.decide(machine, now, self.rules, before)
        if self.verdict.state is not before.state:
            log.info("worker.manners", state=self.verdict.state.value, why=self.verdict.reasons)
        return self.verdict

    async def run(self, apply: Apply) -> None:
        """Look again and again, and have each change applied."""
        applied = Verdict()
        while True:
            verdict = await self.look()
            if (verdict.state, verdict.until) != (applied.state, applied.until):
                await apply(verdict)
                applied = verdict
            await self._pause()

    async def allowed(self) -> None:
        """Wait until the verdict is not `STOP`."""
        while (await self.look()).state is State.STOP:
            await self._pause()

    async def order(self, action: str, seconds: float | None) -> None:
        """What the owner says by hand: `pause` for so long or until `resume`, `stop` until `start`.

        Returns once it is decided upon. Raises `Failed`.
        """
        until = None if seconds is None else time.time() + seconds
        hands = {"pause": Hand(until=until), "stop": Hand(stop=True)}
        self._say(hands.get(action))
        await self.look()

    def _say(self, hand: Hand | None) -> None:
        """Keep it before it holds. Raises `Failed` if that cannot be."""
        try:
            _write(self._home, hand)
        except OSError as error:
            message = f"{self._home.worker} cannot be written: {error.strerror}."
            raise Failed("failed", message, "See to the disk, then try again.") from error
        self.hand = hand
        self._spoken.set()

    async def _pause(self) -> None:
        seconds = EVERY if self.verdict.state is State.SERVE else RARELY
        until = self.verdict.until
        if until is not None:
            seconds = min(seconds, max(0.0, until - time.time()))
        with trio.move_on_after(seconds):
            await self._spoken.wait()
        self._spoken = trio.Event()

    def _snapshot(self) -> Machine:
        if self._sensors is None:
            self._sensors = Sensors()
        return self._sensors.snapshot()


def rules_of(chosen: settings.Manners) -> Rules:
    """The settings as rules."""
    return Rules(
        pause_on_battery=chosen.on_battery == "pause",
        battery_min=chosen.battery_min,
        max_temperature=chosen.max_temperature,
        yield_gpu=chosen.yield_gpu,
        yield_cpu=chosen.yield_cpu,
        quiet=_minutes(chosen.quiet_hours),
        pause_on_metered=chosen.metered == "pause",
    )


def _minutes(hours: str) -> tuple[int, int] | None:
    """`22:00-07:00` as minutes of the day."""
    if not hours:
        return None
    begins, ends = (60 * int(each[:2]) + int(each[3:]) for each in hours.split("-"))
    return begins, ends


# --- the owner's word on disk ---


def _read(home: Home) -> Hand | None:
    """What was said before the restart. A file that holds no word is as good as none."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        said = json.loads(home.worker.read_text("utf-8"))
        until = said.get("until")
        if said.get("stop") is True:
            return Hand(stop=True)
        return Hand(until=None if until is None else float(until))
    return None


def _write(home: Home, hand: Hand | None) -> None:
    if hand is None:
        home.worker.unlink(missing_ok=True)
    else:
        text = json.dumps({"stop": hand.stop, "until": hand.until})
        write_private(home.worker, text + "\n")
