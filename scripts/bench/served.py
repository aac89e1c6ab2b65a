"""Queries that a node of ours answers to pytoniq, over UDP on loopback."""

import sys
import time
from collections.abc import Callable
from functools import partial
from subprocess import PIPE
from typing import Final, NamedTuple

import trio

from scripts.bench.node import running
from scripts.failure import Failed

AMOUNT = 8_000
"""queries of one measurement: a second or two"""

PATIENCE: Final = 60.0
"""seconds for a measurement; pytoniq waits for ever if it is not answered at the start"""


IN_FLIGHT: Final = 32
"""queries that wait for an answer at any moment"""


class Rates(NamedTuple):
    """Of one measurement: answered per second by the clock, and of the node's processor time."""

    by_clock: float
    by_processor: float
    bare: float
    """What was measured beside them."""


async def measure(rounds: int, bare: Callable[[], float]) -> list[Rates]:
    """As many measurements with one client, each with one of `bare` behind. Raises `Failed`."""
    client = [sys.executable, "-P", "-m", "scripts.bench.pytoniq_client"]
    async with running() as node, trio.open_nursery() as nursery:
        command = [*client, str(node.port), node.public.hex(), str(IN_FLIGHT)]
        process = await nursery.start(partial(trio.run_process, command, stdin=PIPE, stdout=PIPE))
        await _ask(process, AMOUNT // 4)
        measured = [Rates(*await _ask(process, AMOUNT), bare()) for _ in range(rounds)]
        nursery.cancel_scope.cancel()
    return measured


async def _ask(process: trio.Process, amount: int) -> tuple[float, float]:
    """Answered per second by the clock, and of our processor time."""
    assert process.stdin is not None
    assert process.stdout is not None
    began = time.process_time()
    line = b""
    with trio.move_on_after(PATIENCE):
        await process.stdin.send_all(f"{amount}\n".encode())
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some() or b"\n"
    if not line.strip():
        raise Failed("failed", "pytoniq got no answers.")
    answered, seconds = line.split()
    busy = time.process_time() - began
    return int(answered) / float(seconds), int(answered) / busy
