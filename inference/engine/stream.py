"""The consumer's end of a job: its events wait here, and pieces that wait are merged."""

from collections import deque
from collections.abc import Callable
from typing import Self, final

import trio

from inference.engine.base import Failed, Finished, JobEvent, Piece
from inference.engine.batch import merged


@final
class EventStream:
    """A `Generation` that an engine puts events into.

    Bounded by the job itself: what waits is at most its answer in one piece and a few events. One
    consumer; a cancelled `__anext__` loses nothing.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._events: deque[JobEvent] = deque()
        self._news = trio.Event()
        self._over = False

    def put(self, event: JobEvent) -> None:
        """Add an event; the engine never waits for the consumer."""
        last = self._events[-1] if self._events else None
        if isinstance(event, Piece) and isinstance(last, Piece) and last.channel is event.channel:
            self._events[-1] = merged((last, event))
        else:
            self._events.append(event)
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        if self._over:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        while not self._events:
            self._news = trio.Event()
            await self._news.wait()
        event = self._events.popleft()
        self._over = isinstance(event, Finished | Failed)
        return event

    def pause(self) -> None:
        """Compute nothing for this job until `resume`; its deadline goes on."""
        self._pause()

    def resume(self) -> None:
        """Go on."""
        self._resume()
