"""A village of real nodes in one process: libp2p on loopback, each node in a task of its own."""

import pytest
import trio

from inference.engine.base import Plan
from inference.market import Known, Memory
from inference.request import Policy
from inference.service import flags_of
from inference.worker import Service, serve
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node
from p2p.overlay.advert import Fields, Role
from p2p.stack import Peer
from p2p.wire import Endpoint

NETWORK = 79
NOBODY = Role(0)

PATIENCE = 60.0
"""seconds until a test gives up; none waits for a time to pass"""


class Village:
    """Relays, workers and a client; the first that came up is bootstrap node of the others."""

    def __init__(self, nursery):
        self.nodes = {}
        self.identities = {}
        self.servings = {}
        self._nursery = nursery
        self._first = ()
        self._listed = 0

    def next_identity(self):
        """Who the next node will be."""
        return Identity((len(self.nodes) + 1).to_bytes(32, "little"))

    async def up(self, roles=NOBODY, **changes):
        """A node that runs; relays are listed at once, workers by `serve`."""
        identity = self.next_identity()
        config = NodeConfig(
            identity=identity,
            network=NETWORK,
            dev=True,
            roles=roles,
            bootstrap=self._first,
            listen=Endpoint("127.0.0.1", 0) if roles else None,
            entropy=seeded(len(self.nodes)),
            **changes,
        )
        node = await self._nursery.start(self._run, config)
        self.nodes[node.id], self.identities[node.id] = node, identity
        self._first = self._first or (Peer(node.public, (node.endpoint,)),)
        if roles is Role.RELAY:
            self._list(node, Fields(roles=roles))
        return node

    async def _run(self, config, task_status):
        async with open_node(config) as node:
            task_status.started(node)
            await trio.sleep_forever()

    async def serve(self, node, engine, known, plan=None):
        """Let a node answer with an engine that runs, which is loaded for it."""
        loaded = await engine.load(plan or Plan(context=4_096))
        service = Service(
            identity=known.identity,
            numerics=loaded.numerics,
            context=loaded.context,
            slots=loaded.slots,
            prompt_rate=loaded.prompt_rate,
            answer_rate=loaded.answer_rate,
            flags=flags_of(loaded),
            label=known.base,
        )
        identity = self.identities[node.id]
        serving = await self._nursery.start(serve, node, engine, service, identity)
        self.servings[node.id] = serving
        self._list(node, Fields(roles=Role.WORKER, models=(service.listing(),)))

    def _list(self, node, fields):
        self._listed += 1
        self._nursery.start_soon(node.publish, fields)

    async def acquainted(self):
        """Wait until everybody knows everybody who is listed."""
        with trio.fail_after(PATIENCE):
            for node in self.nodes.values():
                while node.directory.status().count < self._listed:
                    await node.directory_changed()


@pytest.fixture
async def village():
    async with trio.open_nursery() as nursery:
        yield Village(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
def fake_model():
    return Known(base="fake", quant="f0", file=b"f" * 32, identity=b"m" * 32)


@pytest.fixture
def policy_for():
    """How a test asks for a model: always the same draws, and no worker is too slow."""

    def policy(known):
        return Policy(
            known=(known,), entropy=seeded(9), memory=Memory(), deadline_s=PATIENCE, min_rate=0
        )

    return policy
