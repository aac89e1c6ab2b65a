"""pytoniq and tonutils, unmodified, each in its own process, against 20 nodes of ours over UDP.

All three parties store a value, and each reads what the others stored. tonutils is given three of
the nodes to begin with, pytoniq all: it takes a node that it is told of again for another one, so
that of three it connects to the same ones over and over, and for what is missing it asks for ever.
"""

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE

import trio

from p2p.adnl.drops import Drop
from p2p.adnl.limits import Limits
from p2p.dht import config
from p2p.dht import value as values
from p2p.dht.settings import DEV
from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.ton import AdnlAddressList, AdnlAddressUdp, DhtKey
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint
from tests.p2p.dht.adnlnode import AdnlNode, Ended

HERE = Path(__file__).parent
NODES = 20
LOOPBACK = "127.0.0.1"
SETTINGS = replace(DEV, bucket_fill=(10.0, 20.0))
"""Once they know each other, they have nothing to do but answer: one process runs them all."""
LIMITS = Limits(
    source_rate=1e6, source_burst=1e6, new_peers_rate=1e6, new_peers_burst=1e6, node_rate=1e6
)
MISSING = bytes(32).hex()


class Effects:
    """Hands results to who waits for them."""

    def handle(self, now, event):
        if isinstance(event, Ended):
            event.answer.send_nowait(event.result)


def addresses(transport):
    """Where a transport is bound, as a record says it."""
    port = transport.endpoints[0].port
    return AdnlAddressList((AdnlAddressUdp(0x7F000001, port),), 1, 1, 0, 0)


def node(clock, transport):
    entropy = SystemEntropy()
    core = AdnlNode(
        Identity(entropy.token(32)), entropy, clock.now(), settings=SETTINGS, limits=LIMITS
    )
    return core, Driver(core, transport, Effects(), clock)


async def town(nursery, opened):
    """20 nodes on loopback that know each other: (core, driver) of each."""
    clock, started = SystemClock(), []
    for _ in range(NODES):
        transport = opened.enter_context(closing(UdpTransport([Endpoint(LOOPBACK, 0)])))
        core, driver = node(clock, transport)
        await nursery.start(driver.run)
        at = addresses(transport)
        driver.call("serve", lambda it, now, at=at: it.dht.serve(now, at))
        if started:
            seed = started[0][0].dht.record()
            driver.call("bootstrap", lambda it, now, seed=seed: it.dht.bootstrap(now, [seed]))
            await meet(core, driver)
        started.append((core, driver))
    for core, driver in started:
        await meet(core, driver)
    return started


async def meet(core, driver):
    """Let a node look for its neighbours until it has found some."""
    with trio.fail_after(30):
        while not await procedure(driver, lambda dht: dht.find_nodes(core.identity.id)):
            pass


async def procedure(driver, make):
    """The result of a procedure of a node's DHT."""
    answer, result = trio.open_memory_channel(1)
    driver.call("procedure", lambda it, now: it.start(now, make(it.dht), answer))
    with trio.fail_after(30):
        return await result.receive()


def known(cores):
    """The configuration that names these nodes."""
    return json.loads(config.write([core.dht.record() for core in cores]))


class Foreign:
    """A foreign client in its process."""

    def __init__(self, process):
        self._process = process
        self._rest = b""

    @classmethod
    async def start(cls, nursery, program, begin):
        """Give it the nodes that it knows to begin with."""
        command = [sys.executable, str(HERE / program)]
        process = await nursery.start(
            partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, check=True)
        )
        client = cls(process)
        await client.tell(begin)
        return client

    async def tell(self, what):
        """A line of JSON to it."""
        await self._process.stdin.send_all(json.dumps(what).encode() + b"\n")

    async def hear(self):
        """A line of JSON from it."""
        with trio.fail_after(120):
            while b"\n" not in self._rest:
                self._rest += await self._process.stdout.receive_some() or b"null\n"
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


async def test_two_foreign_clients_and_we_read_what_each_other_stored():
    with ExitStack() as opened:
        async with trio.open_nursery() as nursery:
            await read_each_other(nursery, await town(nursery, opened))
            nursery.cancel_scope.cancel()


async def read_each_other(nursery, started):
    """Everybody stores; then everybody reads."""
    ours = Identity(SystemEntropy().token(32))
    value = values.sign(ours, b"address", b"by us", int(time.time()) + 600)
    assert await procedure(started[5][1], lambda dht: dht.store(value)) == SETTINGS.k

    cores = [core for core, _ in started]
    pytoniq = await Foreign.start(nursery, "with_pytoniq.py", known(cores))
    tonutils = await Foreign.start(nursery, "with_tonutils.py", known(cores[:3]))
    told = [await pytoniq.hear(), await tonutils.hear()]
    for one, nodes in zip(told, (cores, cores[:3]), strict=True):
        assert set(one["lists"]) == {core.identity.public.hex() for core in nodes}
    assert [one["stored"] for one in told] == [True, SETTINGS.k]

    owners = [ours.id.hex(), *(one["owner"] for one in told)]
    stored = dict(zip(owners, ["by us", "by pytoniq", "by tonutils"], strict=True))
    await pytoniq.tell(owners)
    await tonutils.tell([*owners, MISSING])
    assert await pytoniq.hear() == stored
    assert await tonutils.hear() == stored | {MISSING: None}

    for owner, content in stored.items():
        key = DhtKey(bytes.fromhex(owner), b"address", 0)
        found = await procedure(started[9][1], lambda dht, key=key: dht.find_value(key))
        assert found is not None
        assert found.value == content.encode()
    drops = Counter()
    for core in cores:
        drops.update(core.adnl.statistics().drops)
    assert set(drops) <= {Drop.ANSWER_UNASKED}, "answers that came after a lookup had ended"
