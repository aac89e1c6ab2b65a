"""Megabytes a second that RLDP2 carries over loopback, beside what RaptorQ alone can do."""

import sys
import time
from functools import partial
from itertools import count
from subprocess import PIPE
from typing import Final

import trio

from p2p.identity import AdnlId, short_id
from p2p.rldp.events import Answered
from p2p.rldp.fec import MAX_SIZE, Decoder, Encoder
from p2p.wire import Endpoint
from scripts.bench.node import Running, running
from scripts.bench.report import Result, middle
from scripts.failure import Failed

SIZE = 10 * 2**20
"""bytes of a download"""

LOST: Final = 20
"""One symbol in so many is lost where RaptorQ is measured: without loss it has nothing to do."""


async def measure(rounds: int) -> Result:
    """Downloads from a node in another process, each with blocks coded here. Raises `Failed`."""
    command = [sys.executable, "-P", "-m", "scripts.bench.node"]
    ours, ratios = [], []
    async with running() as node, trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio.run_process, command, stdout=PIPE))
        peer = await _meet(node, server)
        await _download(node, peer)
        for _ in range(rounds):
            ours.append(await _download(node, peer))
            ratios.append(ours[-1] / _code())
        nursery.cancel_scope.cancel()
    return Result(
        name="rldp2_mb_per_second",
        value=middle(ours, 2),
        unit="MB/s",
        ratio=middle(ratios),
        against="bare raptorq",
    )


async def _meet(node: Running, server: trio.Process) -> AdnlId:
    """Learn where the server is; the first download shakes hands."""
    assert server.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await server.stdout.receive_some() or b"\n"
    if not line.strip():
        raise Failed("failed", "The node that was to serve has not started.")
    port, key = line.split()
    public, place = bytes.fromhex(key.decode()), Endpoint("127.0.0.1", int(port))
    node.driver.call("meet", lambda core, now: core.adnl.add_peer(now, public, [place]))
    return short_id(public)


async def _download(node: Running, peer: AdnlId) -> float:
    """Megabytes a second."""
    began = time.perf_counter()
    node.driver.call("download", lambda core, now: core.download(now, peer, SIZE))
    told = await node.events.receive()
    if not isinstance(told, Answered) or len(told.data) != SIZE:
        raise Failed("failed", f"A download came to nothing: {told}.")
    return SIZE / (time.perf_counter() - began) / 1e6


def _code() -> float:
    """Megabytes a second of blocks coded, and decoded from what is not lost."""
    sizes = [min(MAX_SIZE, SIZE - at) for at in range(0, SIZE, MAX_SIZE)]
    began = time.perf_counter()
    for size in sizes:
        encoder, decoder = Encoder(bytes(size)), Decoder(size)
        kept = (seqno for seqno in count() if seqno % LOST)
        while decoder.decode() is None:
            seqno = next(kept)
            decoder.add(seqno, encoder.symbol(seqno))
    return SIZE / (time.perf_counter() - began) / 1e6
