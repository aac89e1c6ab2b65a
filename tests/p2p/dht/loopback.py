"""A small DHT over UDP on loopback: nodes of ours that have met, each with its driver."""

from contextlib import ExitStack, asynccontextmanager, closing

import trio

from p2p.adnl.limits import Limits
from p2p.dht.settings import DEV
from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.ton import AdnlAddressList, AdnlAddressUdp
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint
from tests.p2p.dht.adnlnode import AdnlNode

LOOPBACK = "127.0.0.1"
TON = None
"""The network that TON's own nodes name."""
PATIENCE = 20


class _Effects:
    def handle(self, now, event):
        pass


@asynccontextmanager
async def dht(count, network):
    """So many nodes that know each other; they end with the block."""
    with ExitStack() as opened:
        clock, nodes, drivers = SystemClock(), [], []
        async with trio.open_nursery() as driving:
            for _ in range(count):
                transport = opened.enter_context(closing(UdpTransport([Endpoint(LOOPBACK, 0)])))
                entropy = SystemEntropy()
                node = AdnlNode(
                    Identity(entropy.token(32)),
                    entropy,
                    clock.now(),
                    settings=DEV,
                    limits=Limits(),
                    network=network,
                )
                driver = Driver(node, transport, _Effects(), clock)
                await driving.start(driver.run)
                port = transport.endpoints[0].port
                at = AdnlAddressList((AdnlAddressUdp(0x7F000001, port),), 1, 1, 0, 0)
                driver.call("serve", lambda it, now, at=at: it.dht.serve(now, at))
                nodes.append(node)
                drivers.append(driver)
            for driver in drivers:
                seeds = [node.dht.record() for node in nodes]
                driver.call("meet", lambda it, now, seeds=seeds: it.dht.bootstrap(now, seeds))
            await _acquainted(nodes)
            yield nodes
            driving.cancel_scope.cancel()


async def _acquainted(nodes):
    with trio.fail_after(PATIENCE):
        while any(len(node.dht.active()) < len(nodes) - 1 for node in nodes):
            await trio.lowlevel.checkpoint()
