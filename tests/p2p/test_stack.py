"""Stacks joined by links in virtual time: adverts spread, circuits run, peers cannot harm."""

import gc
import heapq
import weakref
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec, defaults, tl, wire
from p2p.calls import Query
from p2p.core import step
from p2p.dht.value import overlay_id
from p2p.entropy import seeded
from p2p.errors import Closed, DirectoryStale, Rejected, Timeout, Unreachable
from p2p.identity import Identity
from p2p.onion import core as onion_core
from p2p.onion.core import GUARD_UNREACHABLE, Data, Ended, Failed, Incoming, Misbehaved, Opened
from p2p.onion.handshake import Target
from p2p.overlay import advert as adverts
from p2p.overlay import bodies
from p2p.overlay.advert import Fields, Role
from p2p.overlay.bodies import Refusal, Ring, address_of
from p2p.overlay.membership import name_of
from p2p.stack import (
    Dial,
    DirectoryChanged,
    HangUp,
    Joined,
    Knock,
    Peer,
    Published,
    Replied,
    Stack,
    StackConfig,
    Transport,
    Unanswered,
    WorkWanted,
)
from p2p.ton import OverlayQuery, TussahCall, TussahReply
from p2p.wire import Endpoint, Kind, Link, Message

START = 1_800_000_000.0
NETWORK = 7
DELAY = 0.01
SEEN = 13.0
"""seconds until all use what one has said: a directory epoch, its margin, and a fetch"""
RELAY = Fields(roles=Role.RELAY)
WORKER = Fields(roles=Role.WORKER)
NOBODY = Role(0)

_links = count(1)


def identity(number):
    return Identity(number.to_bytes(32, "big"))


def id_of(number):
    return identity(number).id


def endpoint(number):
    return Endpoint("127.0.0.1", 4_000 + number)


def peer(number):
    return Peer(identity(number).public, (endpoint(number),))


def stack(number, roles=NOBODY, *, bootstrap=(1,), life=0, dev=True):
    config = StackConfig(
        network=NETWORK, dev=dev, bootstrap=tuple(map(peer, bootstrap)), roles=roles
    )
    return Stack(identity(number), seeded(number).fork(str(life)), config)


class Net:
    """Nodes by number, and everything that is under way between them."""

    def __init__(self):
        self.now = START
        self.nodes = {}
        self.events = {}
        self.listening = {}
        self.dials = []
        self._agenda = []
        self._order = count()
        self._ends = {}

    # --- nodes ---

    def start(self, number, roles=NOBODY, *, dialable=True, **settings):
        node = stack(number, roles, **settings)
        self.nodes[number] = node
        self.events.setdefault(number, [])
        listens = (endpoint(number),) if roles and dialable else ()
        self.listening[number] = listens
        self.call(number, lambda core, now: core.start(now, listens))
        return node

    def publish(self, number, fields):
        self.call(number, lambda core, now: core.publish(now, fields))

    def crash(self, number):
        self.nodes.pop(number).finish()
        for end in [end for end in self._ends if end[0] == number]:
            self._close(end)

    def call(self, number, fn):
        results = []
        sends, events = step(self.nodes[number], self.now, [_Once(fn, results)], [])
        self._emit(number, sends, events)
        return results[0]

    # --- time ---

    def run(self, seconds):
        end = self.now + seconds
        while True:
            when = min(
                [node.next_deadline() or end + 1 for node in self.nodes.values()]
                + [entry[0] for entry in self._agenda[:1]]
                + [end]
            )
            self.now = max(self.now, when)
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            for number in [number for number, node in self.nodes.items() if self._is_due(node)]:
                self._step(number, [])
            if self.now >= end:
                return

    def _is_due(self, node):
        deadline = node.next_deadline()
        return deadline is not None and deadline <= self.now

    def later(self, seconds, fn):
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), fn))

    # --- events and links ---

    def told(self, number, kind):
        return [event for event in self.events[number] if isinstance(event, kind)]

    def _step(self, number, inbox):
        if number in self.nodes:
            self._emit(number, *step(self.nodes[number], self.now, [], inbox))

    def _emit(self, number, sends, events):
        for event in events:
            self.events[number].append(event)
            if isinstance(event, Dial):
                self.dials.append((number, event.peer))
                self.later(3 * DELAY, lambda event=event: self._dialled(number, event))
            if isinstance(event, HangUp):
                self.later(DELAY, lambda event=event: self._close((number, event.link)))
        for link, data in sends:
            self.later(DELAY, lambda link=link, data=data: self._arrive((number, link), data))

    def _dialled(self, number, dial):
        by_id = {id_of(other): other for other in self.nodes}
        other = by_id.get(dial.peer)
        if number not in self.nodes:
            return
        if other is None or not set(self.listening[other]) & set(dial.endpoints):
            self.call(number, lambda core, now: core.dial_failed(now, dial.peer))
            return
        here, there = Link(dial.peer, next(_links)), Link(id_of(number), next(_links))
        self._ends[number, here], self._ends[other, there] = (other, there), (number, here)
        self.call(number, lambda core, now: core.link_up(now, here, True))
        self.call(other, lambda core, now: core.link_up(now, there, False))

    def _arrive(self, end, data):
        if end in self._ends:
            number, link = self._ends[end]
            self._step(number, [(link, data)])

    def _close(self, end):
        far = self._ends.pop(end, None)
        self._ends.pop(far, None)
        for number, link in [end, far] if far else []:
            if number in self.nodes:
                self.call(number, lambda core, now, link=link: core.link_down(now, link))


class _Once:
    name = "test"

    def __init__(self, fn, results):
        self._fn, self._results = fn, results

    def run(self, core, now):
        self._results.append(self._fn(core, now))


@pytest.fixture
def net():
    net = Net()
    yield net
    for number in list(net.nodes):
        net.crash(number)


@pytest.fixture
def village(net):
    """Relays 1 (bootstrap) to 4, worker 5 and client 6, who all know each other."""
    for number in (1, 2, 3, 4):
        net.start(number, Role.RELAY)
        net.publish(number, RELAY)
    net.start(5, Role.WORKER)
    net.publish(5, WORKER)
    net.start(6)
    net.run(SEEN)
    return net


def listed(node):
    return node.directory.status().count


# --- the directory ---


def test_everybody_learns_of_everybody(village):
    roots = [node.directory.status().root for node in village.nodes.values()]
    assert [listed(node) for node in village.nodes.values()] == [5] * 6
    assert len(set(roots)) == 1
    for number in range(1, 7):
        assert len(village.told(number, Joined)) == 1


def test_neighbours_are_drawn_from_who_is_listed_or_of_the_settings(village):
    is_vouched = village.nodes[3].overlay._members._is_vouched
    village.start(42, Role.RELAY)
    village.run(5.0)
    assert [is_vouched(id_of(number)) for number in (1, 2, 42)] == [True, True, False]


def test_a_peers_neighbourhood_is_that_of_its_link_unless_it_is_vouched_for(village):
    node = village.nodes[3]
    for number in (2, 42, 43):
        host = "" if number == 43 else f"8.8.4.{number}"
        node.link_up(village.now, Link(id_of(number), number, host), False)
    places = [node._places.of(id_of(number)) for number in (2, 42, 43, 44)]
    assert places == [id_of(2), bytes([8, 8, 4]), id_of(43), id_of(44)]


def test_a_newcomer_is_known_to_all_within_an_epoch_and_its_margin(village):
    village.start(7, Role.RELAY)
    village.publish(7, RELAY)
    village.run(SEEN)
    assert [listed(node) for node in village.nodes.values()] == [6] * 7


def test_a_leaver_is_forgotten_within_an_epoch_and_its_margin(village):
    before = len(village.told(5, Published))
    seq = village.call(5, lambda core, now: core.withdraw(now))
    village.run(SEEN)
    assert [listed(node) for node in village.nodes.values()] == [4] * 6
    assert village.told(5, Published)[before:] == [Published(seq)]


def test_who_is_busy_is_known_to_be_and_taken_up_again_once_free(village):
    def is_open():
        return [node.directory.find(id_of(5)).open for node in village.nodes.values()]

    village.call(5, lambda core, now: core.is_busy(now, busy=True))
    village.run(SEEN)
    assert is_open() == [False] * 6
    village.call(5, lambda core, now: core.is_busy(now, busy=False))
    village.run(2 * SEEN)
    assert is_open() == [True] * 6


def test_a_pure_client_says_nothing_of_itself(village):
    for node in village.nodes.values():
        assert node.directory.newest(id_of(6)) is None
    assert village.told(6, Published) == []


def test_who_is_there_stays_listed_and_live(village):
    village.run(100)
    for node in village.nodes.values():
        assert node.directory.status().count == node.directory.status().live == 5


def test_who_dies_gives_no_sign_of_life_after_two_epochs(village):
    village.crash(4)
    village.run(2 * SEEN)
    for number in (1, 2, 3, 5):
        assert not village.nodes[number].directory.find(id_of(4)).live
    assert all(node.directory.status().live == 4 for node in village.nodes.values())


def test_a_client_shows_itself_to_nobody_but_those_of_its_settings(village):
    village.run(4 * SEEN)
    assert {peer for number, peer in village.dials if number == 6} == {id_of(1)}
    assert village.nodes[6].directory.status().age < SEEN


def test_a_client_whose_servers_are_gone_asks_no_worker(village):
    village.crash(1)
    village.dials.clear()
    village.run(4 * SEEN)
    asked = {peer for number, peer in village.dials if number == 6}
    assert asked & {id_of(2), id_of(3), id_of(4)}
    assert id_of(5) not in asked
    assert village.nodes[6].directory.status().age < SEEN


def test_who_changes_its_mind_is_believed(village):
    village.publish(4, Fields(roles=Role.RELAY | Role.ATTACHMENT))
    village.run(SEEN)
    for node in village.nodes.values():
        assert Role.ATTACHMENT in node.directory.find(id_of(4)).advert.roles


def test_a_bootstrap_node_may_come_late(net):
    net.start(2, Role.RELAY)
    net.publish(2, RELAY)
    net.start(3)
    net.run(20)
    assert net.told(2, Joined) == net.told(3, Joined) == []
    net.start(1, Role.RELAY)
    net.run(2 * SEEN)
    assert len(net.told(2, Joined)) == len(net.told(3, Joined)) == 1
    assert net.told(2, Published)
    assert net.nodes[3].directory.find(id_of(2)) is not None


def test_a_network_outlives_its_bootstrap_node(village):
    village.crash(1)
    village.run(100)
    for node in village.nodes.values():
        assert node.directory.status().live == 4
        assert node.directory.status().age < SEEN


def test_a_bootstrap_node_that_comes_back_learns_from_those_who_return(village):
    village.crash(1)
    village.run(20)
    village.start(1, Role.RELAY, life=1)
    village.publish(1, RELAY)
    village.run(20)
    assert [listed(node) for node in village.nodes.values()] == [5] * 6


def test_a_node_that_starts_again_goes_above_what_it_said_before(village):
    for _ in range(30):
        village.publish(4, RELAY)
    village.run(SEEN)
    before = village.nodes[1].directory.find(id_of(4)).advert
    village.crash(4)
    village.start(4, Role.RELAY, life=1)
    village.publish(4, RELAY)
    village.run(SEEN)
    for node in village.nodes.values():
        after = node.directory.find(id_of(4)).advert
        assert after.seq > before.seq
        assert after.onion != before.onion


def test_two_bootstrap_nodes_tell_each_other(net):
    for number in (1, 2):
        net.start(number, Role.RELAY, bootstrap=(1, 2))
        net.publish(number, RELAY)
    net.run(SEEN)
    assert [listed(node) for node in net.nodes.values()] == [2, 2]


def test_changes_are_told_of_and_nothing_else(village):
    for events in village.events.values():
        events.clear()
    village.publish(4, RELAY)
    village.run(SEEN)
    for number in (1, 2, 3, 5, 6):
        assert village.told(number, DirectoryChanged)
        assert village.told(number, Misbehaved) == []


def test_an_open_network_asks_for_work_before_it_lists(net, monkeypatch):
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: nonce == bytes(8))
    node = stack(1, Role.RELAY, dev=False)
    public = (Endpoint("8.8.4.4", 4001),)
    node.start(START, public)
    seq = node.publish(START, RELAY)
    (wanted,) = [event for event in node.drain()[1] if isinstance(event, WorkWanted)]
    assert wanted == WorkWanted(identity(1).public, int(START // 86_400))
    node.handle_timer(START + 700)
    assert not any(isinstance(event, WorkWanted | Published) for event in node.drain()[1])
    node.work(START + 700, wanted.day, bytes(8))
    (published,) = [event for event in node.drain()[1] if isinstance(event, Published)]
    assert published.seq >= seq
    node.handle_timer(START + 1_300)
    assert listed(node) == 1


# --- circuits ---


def ask(net, text=b"question"):
    """A circuit from 6 to 5, through the stacks: what each end heard."""
    path = net.call(6, lambda core, now: core.path(now, id_of(5)))
    circuit = net.call(6, lambda core, now: core.open(now, path, b"please"))
    net.run(0.5)
    (incoming,) = net.told(5, Incoming)
    net.call(5, lambda core, now: core.accept(now, incoming.circuit, b"offer"))
    net.run(0.5)
    net.call(6, lambda core, now: core.send(now, circuit, 1, text))
    net.call(6, lambda core, now: core.end(now, circuit, 1))
    net.run(1)
    net.call(5, lambda core, now: core.send(now, incoming.circuit, 1, text[::-1]))
    net.call(5, lambda core, now: core.end(now, incoming.circuit, 1))
    net.run(1)
    return path, circuit, incoming


def heard(net, number):
    return b"".join(event.data for event in net.told(number, Data))


def test_a_circuit_over_three_relays_carries_data_both_ways(village):
    text = bytes(range(256)) * 20
    path, circuit, incoming = ask(village, text)
    assert len({hop.id for hop in path}) == 4
    assert incoming.request == b"please"
    (opened,) = village.told(6, Opened)
    assert (opened.circuit, opened.offer) == (circuit, b"offer")
    assert heard(village, 5) == text
    assert heard(village, 6) == text[::-1]
    assert village.told(6, Ended)
    assert village.nodes[6].statistics().circuits == 1


# --- who cannot be dialled ---


@pytest.fixture
def quay(net):
    """Relays 1 (bootstrap) to 4, client 6, and worker 5, whom nobody can dial."""
    for number in (1, 2, 3, 4, 7):
        net.start(number, Role.RELAY)
        net.publish(number, RELAY)
    net.start(6)
    net.start(5, Role.WORKER, dialable=False)
    net.publish(5, WORKER)
    net.run(3 * SEEN)
    return net


def test_who_cannot_be_dialled_says_which_relays_hold_its_links(quay):
    advert = quay.nodes[6].directory.find(id_of(5)).advert
    assert advert.addresses == ()
    assert Role.DIALABLE not in advert.roles
    assert len(advert.attachments) == 3
    assert advert.attachments == quay.nodes[5].attachments()
    assert set(advert.attachments) <= set(quay.nodes[5].linked())


def test_a_circuit_reaches_who_cannot_be_dialled_over_its_own_link(quay):
    path, _, _ = ask(quay)
    assert path[-2].id in quay.nodes[5].attachments()
    assert heard(quay, 5) == b"question"
    assert heard(quay, 6) == b"noitseuq"
    assert id_of(5) not in [peer for _, peer in quay.dials]


def test_links_to_who_cannot_be_dialled_outlive_idleness(quay, monkeypatch):
    monkeypatch.setattr(defaults, "LINK_IDLE", 60.0)
    held = quay.nodes[5].attachments()
    quay.run(200)
    assert quay.nodes[5].attachments() == held
    dialled = [peer for number, peer in quay.dials if number == 5 and peer in held]
    assert len(dialled) == len(held)
    keeping = [number for number in (1, 2, 3, 4, 7) if quay.nodes[number].sizes()["links.kept"]]
    assert {id_of(number) for number in keeping} >= set(held)


def test_a_relay_that_is_lost_is_replaced_and_circuits_come_over_another(quay):
    guard = ask(quay)[0][0].id
    first = [peer for peer in quay.nodes[5].attachments() if peer not in (guard, id_of(1))]
    lost = next(number for number in (2, 3, 4, 7) if id_of(number) in first)
    quay.crash(lost)
    quay.run(5 * SEEN)
    now_held = quay.nodes[5].attachments()
    assert len(now_held) == 3
    assert id_of(lost) not in now_held
    assert quay.nodes[6].directory.find(id_of(5)).advert.attachments == now_held
    quay.events[5].clear()
    quay.events[6].clear()
    ask(quay)
    assert heard(quay, 6) == b"noitseuq"


def test_a_relay_that_keeps_enough_links_says_so_and_another_is_taken(net, monkeypatch):
    monkeypatch.setattr(defaults, "LINKS_KEPT", 0)
    for number in (1, 2, 3):
        net.start(number, Role.RELAY)
        net.publish(number, RELAY)
    net.start(5, Role.WORKER, dialable=False)
    net.publish(5, WORKER)
    net.run(2 * SEEN)
    assert net.nodes[5].attachments() == ()
    assert {id_of(2), id_of(3)} < {peer for number, peer in net.dials if number == 5}


def test_no_path_is_chosen_from_a_stale_directory(village):
    for number in (1, 2, 3, 4, 5):
        village.crash(number)
    village.run(200)
    with pytest.raises(DirectoryStale):
        village.nodes[6].path(village.now, id_of(5))


def test_who_served_the_directory_is_the_guard_or_nothing(village):
    village.start(7, Role.RELAY)
    village.publish(7, RELAY)
    village.run(SEEN)
    for _ in range(30):
        path = village.call(6, lambda core, now: core.path(now, id_of(5)))
        assert id_of(1) not in [hop.id for hop in path[1:]]


def test_links_are_shared_and_dialled_once(village):
    ask(village)
    dialled = village.dials
    assert len(dialled) == len(set(dialled))


def test_a_lost_relay_is_told_of(village):
    path, circuit, _ = ask(village)
    by_id = {id_of(number): number for number in village.nodes}
    village.crash(by_id[path[1].id])
    village.run(2)
    ends = [event for event in village.events[6] if getattr(event, "circuit", None) == circuit]
    assert type(ends[-1]).__name__ == "Lost"


def test_a_guard_that_nobody_can_find_fails_the_circuit_at_once(village):
    nowhere = Target(id=id_of(50), onion_key=b"\x09" + bytes(31))
    circuit = village.call(6, lambda core, now: core.open(now, [nowhere, nowhere], b""))
    (failed,) = village.told(6, Failed)
    assert (failed.circuit, failed.status) == (circuit, GUARD_UNREACHABLE)
    assert village.told(6, Dial)[-1].peer != id_of(50)


# --- calls ---

ASKED, TOLD = codec.pack({"t": "ask"}), codec.pack({"t": "tell"})


def query_of(net, number, other, body=ASKED):
    return net.call(number, lambda core, now: core.query(now, id_of(other), body))


def test_a_client_asks_a_worker_that_it_has_no_link_to(village):
    number = query_of(village, 6, 5)
    village.run(0.5)
    (asked,) = village.told(5, Query)
    assert (asked.peer, asked.body) == (id_of(6), ASKED)
    village.call(5, lambda core, now: core.answer(now, asked, TOLD))
    village.run(0.5)
    assert village.told(6, Replied) == [Replied(number, TOLD)]


def test_a_query_to_the_directory_server_is_told_from_the_directorys(village):
    number = query_of(village, 6, 1)
    village.run(0.5)
    (asked,) = village.told(1, Query)
    village.call(1, lambda core, now: core.decline(now, asked))
    village.run(2)
    (refused,) = village.told(6, Unanswered)
    assert (refused.number, refused.error.args) == (number, (Refusal.BUSY,))
    assert [listed(node) for node in village.nodes.values()] == [5] * 6
    assert village.told(1, Misbehaved) == village.told(6, Misbehaved) == []


def test_a_client_that_can_be_asked_only_over_its_own_link_is(village):
    """A pure client is listed nowhere: who has a link to it may ask, nobody else can."""
    first = query_of(village, 1, 6)
    nobody = query_of(village, 5, 6)
    village.run(0.5)
    (asked,) = village.told(6, Query)
    village.call(6, lambda core, now: core.answer(now, asked, TOLD))
    village.run(0.5)
    assert village.told(1, Replied) == [Replied(first, TOLD)]
    (failed,) = village.told(5, Unanswered)
    assert (failed.number, type(failed.error)) == (nobody, Unreachable)


def test_nobody_asks_itself_or_somebody_unheard_of(village):
    numbers = [query_of(village, 5, 5), query_of(village, 5, 50)]
    assert [failed.number for failed in village.told(5, Unanswered)] == numbers
    assert all(event.peer not in (id_of(5), id_of(50)) for event in village.told(5, Dial))


def test_a_peer_that_dies_while_asked_is_told_of_at_once(village):
    number = query_of(village, 6, 5)
    village.run(0.5)
    village.crash(5)
    village.run(0.1)
    (failed,) = village.told(6, Unanswered)
    assert (failed.number, type(failed.error)) == (number, Closed)


def test_silence_is_told_of_after_ten_seconds(village):
    number = query_of(village, 6, 5)
    village.run(9.9)
    assert village.told(6, Unanswered) == []
    village.run(0.2)
    (failed,) = village.told(6, Unanswered)
    assert (failed.number, type(failed.error)) == (number, Timeout)


def test_a_link_is_not_given_up_for_idleness_while_a_call_is_open(village):
    query_of(village, 6, 5)
    village.run(0.5)
    (asked,) = village.told(5, Query)
    node, link = village.nodes[5], asked.link
    node._route_circuits(village.now, onion_core.CloseLink(link, "idle"))
    assert HangUp(link) not in node.drain()[1]
    village.call(5, lambda core, now: core.answer(now, asked, TOLD))
    node._route_circuits(village.now, onion_core.CloseLink(link, "idle"))
    assert HangUp(link) in node.drain()[1]


def test_a_call_too_long_breaks_a_rule(relay):
    body = codec.pack({"x": bytes(20_000)})
    relay.receive(START, linked(relay), query(body))
    (broken,) = relay.drain()[1]
    assert isinstance(broken, Misbehaved)


# --- peers that break rules ---


def linked(node, number=9, now=START):
    """A link to a stranger, up."""
    link = Link(id_of(number), next(_links))
    node.link_up(now, link, False)
    node.drain()
    return link


def query(body, number=5):
    return wire.pack(Message(Kind.QUERY, number, body))


@pytest.fixture
def relay():
    node = stack(1, Role.RELAY)
    node.start(START, (endpoint(1),))
    return node


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_no_bytes_of_a_peer_raise(datagrams):
    node = stack(1, Role.RELAY)
    node.start(START, (endpoint(1),))
    link = linked(node)
    for datagram in datagrams:
        node.receive(START, link, datagram)
        node.drain()
    node.finish()


messages = st.one_of(
    st.builds(Message, st.sampled_from(list(Kind)), st.integers(0, 9), st.binary(max_size=99)),
    st.builds(Message, st.just(Kind.ONION), st.just(0), st.binary(min_size=1_200, max_size=1_200)),
)


@given(st.lists(messages, max_size=8))
def test_no_message_of_a_peer_raises_and_tables_stay_small(some):
    node = stack(1, Role.RELAY)
    node.start(START, (endpoint(1),))
    link = linked(node)
    for message in some:
        node.receive(START, link, wire.pack(message))
    node.drain()
    node.finish()
    assert all(size <= 10 for size in node.sizes().values())


def test_the_third_broken_rule_ends_the_link(relay):
    link = linked(relay)
    for _ in range(4):
        relay.receive(START, link, b"nonsense")
    _, events = relay.drain()
    assert [type(event) for event in events] == [Misbehaved] * 3 + [HangUp]
    relay.link_down(START, link)
    assert relay.sizes()["strikes"] == relay.sizes()["links"] == 0


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.MESSAGE, Kind.CREDIT, Kind.PING, Kind.BYE])
def test_kinds_that_nobody_reads_break_a_rule(relay, kind):
    relay.receive(START, linked(relay), wire.pack(Message(kind, 0, b"")))
    (broken,) = relay.drain()[1]
    assert isinstance(broken, Misbehaved)


def called(body, number=1):
    overlay = OverlayQuery(overlay_id(name_of(NETWORK)))
    return query(tl.pack(overlay) + tl.pack(TussahCall(body)), number)


def test_a_server_answers_under_the_number_of_the_query(relay):
    link = linked(relay)
    cut = int(START) - int(START) % 5 - 2
    relay.receive(START, link, called(bodies.pack_call(bodies.Root(cut, bytes(32))), 1234))
    ((to, data),), _ = relay.drain()
    answer = wire.unpack(data)
    assert (to, answer.kind, answer.number) == (link, Kind.ANSWER, 1234)
    with pytest.raises(Rejected):  # it has frozen no list yet, and says so
        bodies.read_rooted(tl.parse(TussahReply, answer.payload).body)


def test_unknown_calls_are_answered_and_no_calls_break_a_rule(relay):
    link = linked(relay)
    relay.receive(START, link, called(codec.pack([99, 5])))
    assert [len(part) for part in relay.drain()] == [1, 0]
    relay.receive(START, link, query(b"nonsense"))
    assert [len(part) for part in relay.drain()] == [0, 1]


def test_a_pure_client_answers_no_queries():
    client = stack(6)
    client.start(START)
    client.receive(START, linked(client), called(bodies.pack_call(bodies.Root(5, bytes(32)))))
    sends, events = client.drain()
    assert [wire.unpack(data).kind for _, data in sends] == [Kind.QUERY] * len(sends)
    assert not [event for event in events if isinstance(event, Misbehaved)]
    client.finish()


@pytest.mark.parametrize(
    ("hosts", "operators"),
    [
        (("20.1.2.3", "20.1.9.9", "20.2.2.3"), 2),
        (("2a01:4f9::1", "2a01:4f9:1::1", "2a01:4f8::1"), 2),
        (("127.0.0.1", "127.0.0.2", "10.0.0.1"), 3),
    ],
)
def test_bootstrap_peers_of_one_subnet_count_as_one_operators(hosts, operators):
    some = tuple(
        Peer(identity(number).public, (Endpoint(host, 4_001),))
        for number, host in enumerate(hosts, 1)
    )
    for dev, groups in ((False, operators), (True, 3)):
        config = StackConfig(network=NETWORK, dev=dev, bootstrap=some)
        assert len(Stack(identity(9), seeded(9), config)._directory.servers()) == groups


def sent_to_a_door(node, ring):
    """What comes of it that bootstrap node 1 sends `node` to somebody's door."""
    cast = node.overlay.seal_cast(bodies.pack_cast(ring))
    node.handle_timer(START)
    node.overlay.message(START, id_of(1), cast)
    return node.drain()


DOOR = Endpoint("8.8.8.8", 81)


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("roles", [NOBODY, Role.RELAY])
def test_nobody_sends_a_pure_client_to_a_door(transport, roles):
    config = StackConfig(
        network=NETWORK, started_at=int(START), udp=True, bootstrap=(peer(1),), roles=roles
    )
    node = Stack(identity(9), seeded(9), config)
    step(node, START, [_Once(lambda n, now: n.start(now), [])], [])
    ring = Ring(b"n" * 16, identity(5).public, address_of(transport, DOOR))
    sends, events = sent_to_a_door(node, ring)
    went = DOOR in [send.to for send in sends] or Knock(id_of(5), DOOR) in events
    assert went is bool(roles)


def test_an_errand_stands_in_no_dials_way():
    node = stack(9, Role.RELAY, bootstrap=(1, 2))
    ring = Ring(b"n" * 16, identity(2).public, address_of(Transport.TCP, DOOR))
    assert sent_to_a_door(node, ring)[1] == [Knock(id_of(2), DOOR)]
    _, events = step(node, START, [_Once(lambda n, now: n.query(now, id_of(2), ASKED), [])], [])
    assert Dial(id_of(2), (endpoint(2),)) in events
    assert node.sizes()["reach_errands"] == 0
    assert sent_to_a_door(node, ring)[1] == []


def test_an_answer_that_nobody_asked_for_is_ignored(relay):
    relay.receive(START, linked(relay), wire.pack(Message(Kind.ANSWER, 5, bodies.pack_done())))
    assert relay.drain() == ([], [])


def test_messages_of_a_link_that_is_gone_are_ignored(relay):
    link = linked(relay)
    relay.link_down(START, link)
    relay.drain()
    relay.receive(START, link, b"nonsense")
    relay.receive(START, "no link", b"nonsense")
    relay.link_down(START, link)
    assert relay.drain() == ([], [])


# --- the contract ---


def test_time_never_falls(relay):
    relay.handle_timer(START + 1)
    with pytest.raises(ValueError, match="falls"):
        relay.handle_timer(START)


def test_a_timer_with_nothing_due_does_nothing(village):
    for node in village.nodes.values():
        node.handle_timer(village.now)
        assert node.drain() == ([], [])
        assert node.next_deadline() > village.now


def test_what_nobody_would_take_is_refused_to_the_caller():
    client = stack(6)
    client.start(START)
    with pytest.raises(ValueError, match="no way to reach it"):
        client.publish(START, WORKER)


def test_a_stack_is_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        node = stack(1, Role.RELAY)
        node.start(START, (endpoint(1),))
        node.publish(START, RELAY)
        linked(node)
        node.finish()
        ref = weakref.ref(node)
        del node
        assert ref() is None
    finally:
        gc.enable()


def test_the_same_seed_gives_the_same_life():
    lives = []
    for _ in range(2):
        global _links
        _links = count(1)
        net = Net()
        for number in (1, 2, 3):
            net.start(number, Role.RELAY)
            net.publish(number, RELAY)
        net.run(30)
        lives.append(repr(net.events))
    assert lives[0] == lives[1]
