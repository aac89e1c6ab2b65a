"""What must hold of full nodes, and a planted bug for each: knowledge, tables, bounds."""

import pytest

from p2p import defaults
from p2p.dht.table import Table
from p2p.entropy import seeded
from p2p.errors import NoCapacity
from p2p.onion import relay
from p2p.onion.cell import Layers
from p2p.stack import Stack
from p2p.transport.fabric import EPOCH
from simulations.bounds import within
from simulations.dht import Town as DhtTown
from simulations.experiment import Network as Spec
from simulations.invariants import Canaries, at_rest, told
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.scenarios import Audit
from simulations.workload import Question
from simulations.world import World

CENSUS = Census(relays=4, workers=1, clients=2)
CANARY = b"a prompt that nobody must see..."
STEP = 0.1


class Asked:
    """Full nodes, of which two ask; what hangs on their circuits is looked at all the while."""

    def __init__(self, asks):
        self.audit = Audit()
        entropy = seeded(1)
        self.town = town = Town(CENSUS, entropy, ground(Spec(loss=0.0), entropy))
        log = EventLog(town.names.index, sink=Canaries(self.audit, [CANARY]).see)
        self.world = World(
            *(town.cores, town.links, log, town),
            naming=town.names,
            datagrams=town.datagrams,
        )
        self.clients = [CENSUS.nodes - 2, CENSUS.nodes - 1]
        self.looks = 0
        self.told = []
        for node in range(CENSUS.nodes):
            self.world.start(node)
        for number in range(asks):
            client = self.clients[number % 2]
            question = Question(node=client, at=EPOCH + 13.0 + 0.4 * number, prompt=CANARY * 40)
            town.echo.ask(self.world, question)
        self.until = EPOCH + 15.0 + 0.4 * asks

    def run(self):
        self.world.run(EPOCH + 13.0)
        while self.world.now < self.until:
            self.world.run(self.world.now + STEP)
            for node in range(CENSUS.relays + CENSUS.workers):
                self.look(node)
        for core in self.world.nodes:
            core.finish()
        return self

    def look(self, node):
        onion = self.world.nodes[node]._onion
        circuits = [*onion._relay._passages.values(), *onion._circuits._circuits.values()]
        self.looks += len(circuits)
        names = self.town.names
        askers = [names.id(client) for client in self.clients]
        broken = told(circuits, askers, [names.id(CENSUS.relays)])
        if broken:
            self.told.append((node, broken))


def test_nobody_on_the_way_knows_who_asks_whom_or_what():
    asked = Asked(6).run()
    assert all(outcome.answered for outcome in asked.town.echo.outcomes())
    assert len(asked.town.echo.outcomes()) == 6
    assert asked.looks > 50
    assert asked.told == []
    assert asked.audit.checked["I8"] > 200
    assert asked.audit.violations == []


@pytest.mark.slow
def test_nobody_knows_after_a_thousand_honest_asks():
    asked = Asked(1_000).run()
    assert len(asked.town.echo.outcomes()) == 1_000
    assert asked.told == []
    assert asked.audit.violations == []


def test_a_relay_that_keeps_the_path_is_told_of(monkeypatch):
    """I8: the path, with its asker, hangs on what each relay keeps of the circuit."""
    kept = []
    opened = Stack.open

    class Gossip(relay.Passage):
        def __init__(self, behind, received):
            super().__init__(behind, received)
            self.path = kept[-1]

    def open_(self, now, path, request):
        kept.append([self._identity.id, *(target.id for target in path)])
        return opened(self, now, path, request)

    monkeypatch.setattr(Stack, "open", open_)
    monkeypatch.setattr(relay, "Passage", Gossip)
    asked = Asked(1).run()
    assert {broken for _, broken in asked.told} == {"it knows who asks whom"}
    assert len({node for node, _ in asked.told}) == 3


def test_a_prompt_that_is_not_sealed_is_seen(monkeypatch):
    """I8: the canary of a prompt stands in a datagram."""
    monkeypatch.setattr(Layers, "seal", leaking(Layers.seal))
    asked = Asked(1)
    asked.world.run(asked.until)
    assert any(one.invariant == "I8" for one in asked.audit.violations)


def leaking(seal):
    def leak(self, *args):
        sealed = seal(self, *args)
        return sealed[:-64] + CANARY + sealed[-32:]

    return leak


# --- I9: tables ---

REST = 120.0
"""seconds after which who has gone is known: three pings that nobody answers"""


def live(monkeypatch=None):
    """The tables of a DHT, some of whose nodes are gone for a while."""
    town = DhtTown(seeded(1))
    town.grow(12, pause=1.0)
    town.run(30.0)
    for member in town.members[3::3]:
        member.seat.crash()
    town.run(REST)
    up = {member.seat.identity.id for member in town.members if member.seat.up}
    held = [node.id for one in town.members if one.seat.up for node in one.core.active()]
    return at_rest(len(held), sum(node in up for node in held))


def test_who_is_gone_is_out_of_the_tables_two_minutes_later():
    assert live() == ""


def test_a_table_that_forgets_nobody_is_told_of(monkeypatch):
    monkeypatch.setattr(Table, "_lose", lambda self, contact: None)
    monkeypatch.setattr(Table, "_remove", lambda self, contact: None)
    assert "in the table are there" in live()


# --- I10: bounds ---

BOUNDS = {"calls_asked": defaults.CALLS_OUTSTANDING, "circuits.circuits": defaults.CIRCUITS_NODE}


def calling():
    """The sizes of a node that has a peer called again and again, who is never reached."""
    town = Town(Census(relays=1, workers=0, clients=1), seeded(1), ground(Spec(), seeded(1)))
    core = town.cores[1]
    for _ in range(200):
        try:
            core.query(EPOCH, town.names.id(0), b"\x80")
        except NoCapacity:
            break
    sizes = core.sizes()
    core.finish()
    return sizes


def test_every_table_is_within_its_bound():
    assert within(calling(), BOUNDS) == ""


def test_a_table_without_a_bound_is_told_of(monkeypatch):
    monkeypatch.setattr(defaults, "CALLS_OUTSTANDING", 128)
    assert within(calling(), BOUNDS) == "calls_asked holds 128, and may hold 64"
