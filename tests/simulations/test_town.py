"""Links in virtual time: their order and delays, how they open and end, and whom they name."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.defaults import LINK_SETUP_TIMEOUT
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.stack import Dial, HangUp
from p2p.transport.fabric import EPOCH, GRID, on_grid
from p2p.wire import Endpoint, Link
from simulations.network.dialling import LEGS_TO_OPEN, Dialling
from simulations.network.latency import Everywhere
from simulations.network.links import RETRANSMIT, LinkNames, Links
from simulations.network.nat import Boxes, Nat
from simulations.nodes import Census, Town, address
from simulations.world import World

IDS = [Identity(bytes([node + 1] * 32)).id for node in range(4)]
NAMES = LinkNames(IDS)
WHERE = {Endpoint("10.0.0.1", node): node for node in range(4)}


# --- the fabric ---


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2)), max_size=40), st.booleans())
def test_links_keep_their_order_and_never_lose(sends, lossy):
    links, last = Links(seeded(1), loss=0.3 if lossy else 0.0, jitter=2.0), {}
    for microseconds, dst in sorted(sends):
        now = EPOCH + microseconds * 1e-6
        (arrival,) = links.route(now, 3, dst, 1200)
        assert arrival >= max(now + links.leg(3, dst), last.get(dst, 0.0))
        last[dst] = arrival


def test_delay_is_that_of_the_way_and_the_same_both_ways():
    links = Links(seeded(1), jitter=0.0)
    assert links.route(EPOCH, 0, 1, 9) == (EPOCH + links.leg(0, 1),)
    assert links.leg(0, 1) == links.leg(1, 0)
    assert 0.010 <= links.leg(0, 1) <= 0.080


def test_losses_only_delay_by_doubling_waits():
    links = Links(seeded(1), latency=Everywhere(0.0), loss=0.5, jitter=0.0)
    delays = [links.route(EPOCH + 100.0 * n, 0, 1, 9)[0] - EPOCH - 100.0 * n for n in range(400)]
    waits = [RETRANSMIT * (2**losses - 1) for losses in range(9)]
    assert all(min(abs(delay - wait) for wait in waits) < 1e-5 for delay in delays)
    assert 0.4 < sum(delay < 0.1 for delay in delays) / 400 < 0.6


def test_streams_of_senders_are_their_own():
    """What one sends never shifts what another meets."""
    alone, beside = Links(seeded(1), loss=0.1), Links(seeded(1), loss=0.1)
    for _ in range(7):
        beside.route(EPOCH, 2, 1, 9)
    assert alone.route(EPOCH, 0, 1, 9) == beside.route(EPOCH, 0, 1, 9)


def test_both_ends_of_a_link_have_one_number():
    assert NAMES.reach(EPOCH, 0, Link(IDS[2], 9)) == (2, Link(IDS[0], 9))
    assert NAMES.index(Link(IDS[2], 9)) == NAMES.node(IDS[2]) == 2
    assert NAMES.reach(EPOCH, 0, "nobody") is None
    assert NAMES.reach(EPOCH, 0, Link(Identity(bytes(32)).id, 9)) is None
    with pytest.raises(ValueError, match="nobody's"):
        NAMES.index(2)


# --- opening and closing ---


@dataclass
class Ends:
    """A core that wants links when told, and notes what becomes of them."""

    notes: list = field(default_factory=list)
    events: list = field(default_factory=list)
    links: dict = field(default_factory=dict)

    def want(self, now, event):
        self.events.append(event)

    def link_up(self, now, link, dialled):
        assert link.peer not in self.links
        self.links[link.peer] = link
        self.notes.append((now, "up", link.peer, dialled))

    def link_down(self, now, link):
        assert self.links.pop(link.peer) == link
        self.notes.append((now, "down", link.peer))

    def dial_failed(self, now, peer):
        self.notes.append((now, "failed", peer))

    def drain(self):
        events, self.events = self.events, []
        return [], events

    def next_deadline(self):
        return None

    def sizes(self):
        return {}


class Quiet:
    """A world of four such cores, in which only links happen."""

    def __init__(self):
        self.links = Links(seeded(1), latency=Everywhere(0.08), jitter=0.0)
        self.dialling = Dialling(NAMES, WHERE, self.links)
        self.cores = [Ends() for _ in range(4)]
        self.world = World(self.cores, self.links, None, self, naming=NAMES)
        for node in range(4):
            self.world.start(node)

    def handle(self, world, node, now, event):
        self.dialling.handle(world, node, now, event)

    def leave(self, core, now):
        pass

    def dial(self, node, peer, after=0.0, at=None):
        endpoints = (Endpoint("10.0.0.1", peer if at is None else at),)
        self.want(node, Dial(IDS[peer], endpoints), after)

    def want(self, node, event, after):
        self.world.at(EPOCH + after, node, "want", lambda core, now: core.want(now, event))

    def run(self, seconds=30.0):
        self.world.run(EPOCH + seconds)
        return [core.notes for core in self.cores]


def test_link_opens_after_three_round_trips_at_the_acceptor_first():
    quiet = Quiet()
    quiet.dial(0, 1)
    dialler, acceptor, *_ = quiet.run()
    (up, *what), (accepted, *_) = dialler[0], acceptor[0]
    assert what == ["up", IDS[1], True]
    assert up == on_grid(EPOCH + LEGS_TO_OPEN * 0.04)
    assert accepted == on_grid(EPOCH + (LEGS_TO_OPEN - 1) * 0.04)
    assert acceptor[0][1:] == ("up", IDS[0], False)
    assert quiet.cores[0].links[IDS[1]].number == quiet.cores[1].links[IDS[0]].number


@pytest.mark.parametrize("later", [0.0, 0.01, 0.05, 0.1, 0.19])
@pytest.mark.parametrize("first", [0, 1])
def test_of_two_dials_the_smaller_ids_makes_the_link(first, later):
    quiet = Quiet()
    quiet.dial(first, 1 - first)
    quiet.dial(1 - first, first, after=later)
    quiet.run()
    near, far = quiet.cores[0].links[IDS[1]], quiet.cores[1].links[IDS[0]]
    assert near.number == far.number
    smaller = 0 if IDS[0] < IDS[1] else 1
    assert near.number % 4 == smaller
    assert not any("failed" in note for notes in quiet.run() for note in notes)


def test_dial_while_a_link_is_up_or_coming_does_nothing():
    quiet = Quiet()
    quiet.dial(1, 0)
    quiet.dial(0, 1, after=0.2)  # the instant at which the other's link comes up
    quiet.dial(1, 0, after=0.01)
    quiet.dial(1, 0, after=1.0)
    notes = quiet.run()
    assert [note[1] for note in notes[0]] == [note[1] for note in notes[1]] == ["up"]


@pytest.mark.parametrize("at", [2, 9])
def test_dial_that_leads_to_another_or_to_nobody_fails_in_time(at):
    quiet = Quiet()
    quiet.dial(0, 1, at=at)
    assert quiet.run() == [[(EPOCH + LINK_SETUP_TIMEOUT, "failed", IDS[1])], [], [], []]


def test_dial_to_a_node_that_is_down_fails_in_time():
    quiet = Quiet()
    quiet.world.crash(1, at=EPOCH)
    quiet.dial(0, 1)
    assert [note[1] for note in quiet.run()[0]] == ["failed"]


def test_hanging_up_ends_both_ends_the_far_one_later():
    quiet = Quiet()
    quiet.dial(0, 1)
    quiet.run(1.0)
    quiet.want(0, HangUp(quiet.cores[0].links[IDS[1]]), 2.0)
    dialler, acceptor, *_ = quiet.run()
    assert dialler[-1] == (EPOCH + 2.0 + GRID, "down", IDS[1])
    assert acceptor[-1][1:] == ("down", IDS[0])
    assert 0.04 <= acceptor[-1][0] - dialler[-1][0] < 0.05
    assert quiet.cores[0].links == quiet.cores[1].links == {}


def test_hanging_up_twice_or_on_a_link_of_before_does_nothing():
    quiet = Quiet()
    quiet.dial(0, 1)
    quiet.run(1.0)
    for after in (2.0, 2.0, 3.0):
        quiet.want(0, HangUp(quiet.cores[0].links[IDS[1]]), after)
    quiet.dial(0, 1, after=2.1)
    notes = quiet.run()
    assert [note[1] for note in notes[0]] == [note[1] for note in notes[1]] == ["up", "down", "up"]


def test_neighbours_of_a_node_that_crashes_lose_their_links():
    quiet = Quiet()
    quiet.dial(0, 1)
    quiet.dial(2, 0)
    quiet.world.crash(0, at=EPOCH + 1.0)
    notes = quiet.run()
    assert [note[1] for note in notes[1]] == [note[1] for note in notes[2]] == ["up", "down"]


@pytest.mark.parametrize("after", [0.01, 0.1, 0.15, 0.19, 0.2, 0.21, 0.22, 0.24, 0.3])
def test_dialler_that_crashes_while_it_dials_leaves_no_half_link(after):
    quiet = Quiet()
    quiet.dial(0, 1)
    quiet.world.crash(0, at=EPOCH + after)
    quiet.world.start(0, at=EPOCH + after, core=Ends())
    quiet.run()
    assert quiet.world.nodes[0].links == quiet.cores[1].links == {}


# --- the town ---


def test_census_gives_roles_in_order():
    census = Census(relays=2, workers=1, clients=3)
    roles = [census.role(node).name for node in range(census.nodes)]
    assert roles == ["RELAY", "RELAY", "WORKER", None, None, None]


def test_addresses_differ():
    assert len(dict.fromkeys(address(node) for node in range(0, 70_000, 7))) == 10_000


def test_another_node_more_changes_no_other():
    small, large = (Town(Census(clients=clients), seeded(1)) for clients in (1, 2))
    for node in range(len(small.names)):
        assert small.names.id(node) == large.names.id(node)
    assert small.links.leg(0, 1) == large.links.leg(0, 1)


def test_nodes_name_each_other_by_endpoints_too():
    endpoints, boxes = [address(node) for node in range(len(IDS))], Boxes()
    for node, there in enumerate(endpoints):
        boxes.settle(node, Nat.OPEN, there, there.host)
    names = LinkNames(IDS, boxes)
    assert names.reach(EPOCH, 0, endpoints[2]) == (2, endpoints[0])
    assert names.index(endpoints[2]) == 2
    assert names.admits(EPOCH, 2, endpoints[2], endpoints[0])
    assert names.reach(EPOCH, 0, Endpoint("192.0.2.1", 1)) is None
