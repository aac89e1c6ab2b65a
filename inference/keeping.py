"""Keeps a model in memory while it is needed: loads it for who asks, puts it away when idle."""

from collections.abc import Callable
from typing import Final, final

import trio

from inference.engine.base import Engine, EngineState, Failed, Fault, Loaded, Plan, Prepared, Prompt

LOOK_EVERY: Final = 5.0
"""seconds between two looks at how long nobody has asked"""

AGAIN: Final = 60.0
"""seconds after a load that failed until the next is tried"""


@final
class Keeper:
    """One engine, which others use while it is `ready`. `idle` seconds without work put the model
    away; None never does. The engine was loaded by this plan in `seconds`."""

    def __init__(
        self, engine: Engine, plan: Plan, *, idle: float | None = None, seconds: float = 0.0
    ) -> None:
        self.engine = engine
        self._plan = plan
        self._idle = idle
        self._seconds = seconds
        self._away = False
        self._loading: trio.Event | None = None
        self._failed_at = float("-inf")
        self._last_use = trio.current_time()

    @property
    def away(self) -> bool:
        """Whether the model was put away, and is not being loaded."""
        return self._away and self._loading is None

    @property
    def ready(self) -> bool:
        """Whether jobs may come: the model is in memory, or can be in `seconds`."""
        if self._away:
            return trio.current_time() - self._failed_at >= AGAIN
        return self.engine.statistics().state is EngineState.READY

    @property
    def seconds(self) -> float:
        """How long loading takes, if the model is not in memory."""
        return self._seconds if self._away else 0.0

    def use(self) -> None:
        """Somebody works with the model, or is about to."""
        self._last_use = trio.current_time()

    async def fetch(self) -> None:
        """Load the model unless it is there; whoever comes meanwhile waits for the same load."""
        self.use()
        if self._loading is not None:
            await self._loading.wait()
        elif self._away:
            await self._load()

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """As the engine does, once the model is there."""
        await self.fetch()
        return Failed(fault=Fault.NO_MODEL) if self._away else await self.engine.prepare(prompt)

    async def put_away(self) -> None:
        """Free the memory, after a load that is under way. Jobs that run fail."""
        if self._loading is not None:
            await self._loading.wait()
        if not self._away and self.engine.statistics().state is EngineState.READY:
            self._away = True
            await self.engine.unload()

    async def watch(self, is_idle: Callable[[], bool]) -> None:
        """Put the model away whenever nobody has needed it for long enough."""
        while self._idle is not None:
            await trio.sleep(min(LOOK_EVERY, self._idle))
            if self._loading is not None or not is_idle():
                self.use()
            elif trio.current_time() - self._last_use >= self._idle:
                await self.put_away()
        await trio.sleep_forever()

    async def _load(self) -> None:
        self._loading = trio.Event()
        try:
            loaded = await self.engine.load(self._plan)
            if isinstance(loaded, Loaded):
                self._away, self._seconds = False, loaded.seconds
            else:
                self._failed_at = trio.current_time()
        finally:
            self._loading.set()
            self._loading = None
            self.use()
