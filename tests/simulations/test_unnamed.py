"""While a client builds a path, nothing that it says outside of circuits names anyone on it.

Every message of the client is read before it is encrypted: what it gives to links, and what ADNL
seals in its turns.
"""

import pytest

from p2p import wire
from p2p.adnl import box
from p2p.adnl.address import address_list
from p2p.codec import pack
from p2p.dht.joining import Seed
from p2p.entropy import seeded
from p2p.onion.core import Opened
from p2p.transport.fabric import EPOCH
from p2p.wire import Kind, Link
from simulations import world as worlds
from simulations.nodes import Census, Town, address
from simulations.workload import Question
from simulations.world import World

CENSUS = Census(relays=4, workers=1, clients=1)
CLIENT = CENSUS.nodes - 1
WORKER = CENSUS.relays
ASKED = EPOCH + 13.0


class Scan:
    """What the client says outside of circuits from its question until its circuit is open."""

    def __init__(self, monkeypatch):
        self.said = []
        self.cells = 0
        self.opened = None
        self._turn = None
        monkeypatch.setattr(worlds, "step", self._stepping(worlds.step))
        monkeypatch.setattr(box, "seal", self._sealing(box.seal))

    def _stepping(self, step):
        def stepping(core, now, commands, inbox, log, node):
            self._turn = node if now >= ASKED and self.opened is None else None
            sends, events = step(core, now, commands, inbox, log, node)
            if self._turn == CLIENT:
                self._hear(now, sends, events)
            self._turn = None
            return sends, events

        return stepping

    def _hear(self, now, sends, events):
        for message in (wire.unpack(data) for to, data in sends if isinstance(to, Link)):
            if message.kind == Kind.ONION:
                self.cells += 1
            else:
                self.said.append(message.payload)
        if any(isinstance(event, Opened) for event in events):
            self.opened = now

    def _sealing(self, seal):
        def sealing(secret, plain):
            if self._turn == CLIENT:
                self.said.append(plain)
            return seal(secret, plain)

        return sealing

    def named(self, town):
        """The nodes that a message names, by id or by key, but the client itself."""
        found = {}
        for node in range(CLIENT):
            names = (town.names.id(node), town.identity(node).public)
            if any(name in message for message in self.said for name in names):
                found[node] = None
        return list(found)


@pytest.fixture
def scan(monkeypatch):
    return Scan(monkeypatch)


def ask(scan, *, meanwhile=None):
    entropy = seeded(5)
    town = Town(CENSUS, entropy)
    world = World(town.cores, town.links, None, town, naming=town.names, datagrams=town.datagrams)
    for node in range(CENSUS.nodes):
        world.start(node)
    town.echo.ask(world, Question(node=CLIENT, at=ASKED, prompt=b"moths"))
    if meanwhile is not None:
        meanwhile(town, world)
    world.run(ASKED + 8.0)
    for core in world.nodes:
        core.finish()
    (outcome,) = town.echo.outcomes()
    assert outcome.answered
    return town, outcome


def test_nothing_outside_of_circuits_names_a_relay_or_the_worker(scan):
    town, outcome = ask(scan)
    assert len(outcome.path) == 4
    assert scan.opened is not None
    assert scan.cells > 0
    assert scan.named(town) == []


def by_link(town, world):
    """As soon as there is one."""

    def tell(core, now):
        core.query(now, core.linked()[0], pack({"of": bytes(town.names.id(WORKER))}))

    world.at(ASKED + 1.0, CLIENT, "tell", tell)


def by_datagram(town, world):
    first = Seed(town.identity(0).public, address_list([address(0)], int(EPOCH)))

    async def look_up(core):
        await core.dht.find_nodes(town.names.id(WORKER))

    world.at(ASKED - 5.0, CLIENT, "join", lambda core, now: core.dht.bootstrap(now, [first]))
    world.at(ASKED, CLIENT, "look-up", lambda core, now: core.run(now, look_up(core)))


@pytest.mark.parametrize("meanwhile", [by_link, by_datagram])
def test_a_client_that_asks_others_for_its_worker_is_found(scan, meanwhile):
    """The scan can fail."""
    town, _ = ask(scan, meanwhile=meanwhile)
    assert scan.named(town) == [WORKER]
