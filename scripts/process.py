"""A node as an operating-system process: what signals mean, and how it ends."""

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, final

import trio

from scripts.failure import CODES, Document, unwrap


def end_with_input() -> None:
    """From now on, the end of standard input is a SIGTERM: whoever holds the other end is gone."""
    threading.Thread(target=_await_end, daemon=True).start()


def _await_end() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class Running(Protocol):
    """A node that runs."""

    stopping: trio.Event

    def stop(self) -> None:
        """Begin to drain; returns at once."""

    def up(self) -> Document:
        """What is told once it is up."""


async def live(start: "partial[Awaitable[None]]", ready: Callable[[Document], None]) -> int:
    """Run what `start` starts, a `Running`, to its end; the exit status.

    The first SIGINT or SIGTERM drains, the second ends at once.
    """
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                watch = _Watch(nursery.cancel_scope)
                nursery.start_soon(watch.signals, signals)
                nursery.start_soon(_run_watched, start, ready, watch)
    except BaseExceptionGroup as group:
        raise unwrap(group) from None
    return CODES["interrupted"].exit if watch.hurried else 0


async def _run_watched(
    start: "partial[Awaitable[None]]", ready: Callable[[Document], None], watch: "_Watch"
) -> None:
    async with trio.open_nursery() as nursery:
        daemon = await nursery.start(start)
        watch.daemon = daemon
        ready(daemon.up())
    watch.everything.cancel()


@final
class _Watch:
    """What signals mean: drain first, then at once."""

    def __init__(self, everything: trio.CancelScope) -> None:
        self.everything = everything
        self.daemon: Running | None = None
        self.hurried = False

    async def signals(self, signals: AsyncIterator[int]) -> None:
        """Act on each signal as it comes."""
        async for _ in signals:
            if self.daemon is None or self.daemon.stopping.is_set():
                self.hurried = True
                self.everything.cancel()
            else:
                self.daemon.stop()
