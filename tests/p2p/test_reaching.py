"""Strangers ring at a node's door, over UDP and over links, past routers that let nobody in."""

import pytest

from p2p import codec
from p2p.adnl.address import address_list
from p2p.adnl.core import AdnlCore
from p2p.core import Procedures, Send
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.overlay import bodies
from p2p.overlay.advert import Rules
from p2p.overlay.bodies import Reached, Refusal, Ring, Transport, address_of
from p2p.overlay.core import PREFIXES, Cast, OverlayCore
from p2p.overlay.directory_core import DirectoryCore, Server
from p2p.overlay.reach import Dialable, Reachability
from p2p.reaching import ERRAND_FOR, ERRANDS, Holds, Knock, Reaching, holding
from p2p.rldp.core import RldpCore
from p2p.sending import Reach, Sending, Write
from p2p.wire import Endpoint, Kind, Link
from simulations.network.nat import Boxes, Nat

START = 1_800_000_000
UDP, TCP = Transport.UDP, Transport.TCP
RULES = Rules(network=7, dev=True)
SERVERS, STRANGERS = (2, 3, 4), (5, 6, 7)


def identity(number):
    return Identity(bytes([number]) * 32)


def endpoint(number):
    return Endpoint(f"192.0.2.{number}", 4_000 + number)


class House:
    """What of a node takes part in being reached; `servers` are all the nodes it has heard of."""

    def __init__(self, number, servers):
        self.identity, self.id = identity(number), identity(number).id
        entropy = seeded(number)
        adnl = AdnlCore([self.identity], entropy.fork("adnl"), START)
        self.procedures = Procedures()
        self.sending = Sending(self.id, adnl, RldpCore(entropy.fork("rldp")), udp=True)
        self.overlay = OverlayCore(
            self.identity, self.sending, self.procedures, entropy.fork("overlay"), network=7
        )
        self.overlay.serve(float(START), serve=True)
        self.sending.subscribe(self.overlay, *PREFIXES)
        self.directory = DirectoryCore(
            self.id,
            self.overlay.call,
            self.procedures,
            entropy.fork("directory"),
            rules=RULES,
            servers=[Server(identity(other).id, bytes([other])) for other in servers],
            book=self.overlay.pulses,
        )
        self.overlay.attach(self.directory)
        self.directory.serve(float(START), serve=True)
        self.reaching = Reaching(
            self.id,
            self.procedures,
            entropy.fork("reaching"),
            rules=RULES,
            sending=self.sending,
            overlay=self.overlay,
            directory=self.directory,
        )
        self.told = []
        for other in servers:
            self.sending.learn(identity(other).public, address_list([endpoint(other)], 0))


class Street:
    """House 1 asks servers 2 to 4, each of whom knows strangers 5 to 7, whom house 1 does not."""

    def __init__(self, *, behind=(), nat=Nat.OPEN):
        self.now = float(START + 1)
        self.behind = set(behind)
        """Transports for which a router lets in only whom house 1 has spoken to."""
        self.boxes = Boxes()
        self.boxes.settle(1, nat, endpoint(1), endpoint(1).host)
        self.houses = {1: House(1, SERVERS)}
        self.houses |= {n: House(n, (*STRANGERS, *SERVERS)) for n in (*SERVERS, *STRANGERS)}
        self.spoken, self.dials = set(), []
        self._far = {}

    def listen(self, *, said=()):
        self.house.reaching.listen(
            self.now, {UDP: endpoint(1).port, TCP: endpoint(1).port}, tcp=said, udp=said
        )
        self.settle()

    @property
    def house(self):
        return self.houses[1]

    def verdict(self, transport):
        return next(k for k in self.house.reaching.known() if k.transport is transport)

    def run(self, seconds):
        end = self.now + seconds
        while True:
            due = [
                when
                for house in self.houses.values()
                for when in (house.sending.next_deadline(), house.reaching.next_deadline())
                if when is not None
            ]
            self.now = max(self.now, min([end, *due]))
            for house in self.houses.values():
                house.sending.at(self.now)
                house.sending.handle_timer(self.now)
                house.reaching.handle_timer(self.now)
            self.settle()
            if self.now >= end:
                return

    def settle(self):
        moved = True
        while moved:
            moved = False
            for number, house in self.houses.items():
                moved |= self._turn(number, house)

    def link(self, number, other):
        """`number` dials `other`."""
        here, there = Link(self.houses[other].id, 1), Link(self.houses[number].id, 1)
        self._far[number, here], self._far[other, there] = (other, there), (number, here)
        for whose, link, dialled in ((number, here, True), (other, there, False)):
            self.houses[whose].sending.link_up(link)
            self.houses[whose].reaching.link_up(self.now, link, dialled)

    def _turn(self, number, house):
        house.sending.at(self.now)
        house.procedures.run()
        sent = house.sending.drain()
        for output in sent:
            self._carry(number, house, output)
        said = house.overlay.drain()
        for event in said:
            if isinstance(event, Cast):
                house.reaching.hear(self.now, event.peer, event.body)
        outputs = house.reaching.drain()
        for output in outputs:
            self._do(number, house, output)
        return bool(sent or said or outputs)

    def _carry(self, number, house, output):
        match output:
            case Send(Endpoint() as to, data):
                self.spoken.add((number, to))
                source = self.boxes.leave(self.now, 1, to) if number == 1 else endpoint(number)
                others = {endpoint(n): n for n in self.houses if n != 1}
                other = others.get(to) or self._at_home(to)
                if source is not None and other is not None and not self._shut(other, to, source):
                    self.houses[other].sending.receive(self.now, source, data)
            case Write(link, message) if message.kind in (Kind.MESSAGE, Kind.QUERY, Kind.ANSWER):
                other, there = self._far[number, link]
                self.houses[other].sending.linked(there, message)
            case Reach(peer):
                house.sending.unreachable(peer)

    def _at_home(self, to):
        try:
            return self.boxes.index(to)
        except ValueError:
            return None

    def _shut(self, other, to, source):
        if other != 1:
            return False
        if UDP in self.behind and (1, source) not in self.spoken:
            return True
        arrival = self.now + 0.001
        return not self.boxes.admits(arrival, 1, to, source)

    def _do(self, number, house, output):
        house.told.append(output)
        if not isinstance(output, Knock | Holds):
            house.reaching.ring(self.now, output)
        if isinstance(output, Knock):
            self.dials.append((number, output))
            if output.endpoint == endpoint(1) and TCP not in self.behind:
                self.link(number, 1)


def cast(street, number, peer, body):
    house = street.houses[number]
    house.sending.at(street.now)
    house.reaching.hear(street.now, peer, body)
    street.settle()


def test_strangers_reach_a_node_that_nothing_stands_before():
    street = Street()
    street.listen()
    street.run(6.0)
    for transport in (UDP, TCP):
        verdict = street.verdict(transport)
        assert (verdict.dialable, verdict.endpoint) == (Dialable.YES, endpoint(1))
    assert street.house.told[-1] == Holds((endpoint(1),), (endpoint(1),))


@pytest.mark.parametrize("behind", [(UDP,), (TCP,), (UDP, TCP)])
def test_a_router_keeps_strangers_out_over_each_transport_by_itself(behind):
    street = Street(behind=behind)
    street.listen()
    street.run(6.0)
    for transport in (UDP, TCP):
        reached = Dialable.NO if transport in behind else Dialable.YES
        assert street.verdict(transport).dialable is reached


@pytest.mark.parametrize(
    ("nat", "reached"),
    [
        (Nat.OPEN, Dialable.YES),
        (Nat.FULL_CONE, Dialable.YES),
        (Nat.FIREWALL, Dialable.NO),
        (Nat.RESTRICTED, Dialable.NO),
        (Nat.PORT_RESTRICTED, Dialable.NO),
        (Nat.SYMMETRIC, Dialable.NO),
        (Nat.CGNAT, Dialable.NO),
        (Nat.BLOCKED, Dialable.UNKNOWN),
    ],
)
def test_each_class_of_router_gets_the_verdict_that_it_deserves(nat, reached):
    """Where no datagram leaves, nobody can be asked to try, and the operator's word stands."""
    street = Street(nat=nat)
    street.listen()
    street.run(20.0)
    verdict = street.verdict(UDP)
    assert verdict.dialable is reached
    if nat is Nat.FULL_CONE:
        assert verdict.endpoint != endpoint(1)
        assert street.boxes.index(verdict.endpoint) == 1
    held = (verdict.endpoint,) if reached is Dialable.YES else ()
    told = [] if nat is Nat.BLOCKED else [Holds((endpoint(1),), held)]
    assert street.house.told[-1:] == told


def test_an_operators_word_holds_until_strangers_have_failed_twice():
    street = Street(behind=(UDP, TCP))
    street.listen(said=(endpoint(1),))
    street.run(6.0)
    assert street.verdict(UDP).dialable is street.verdict(TCP).dialable is Dialable.UNKNOWN
    assert "no stranger could reach" in street.verdict(UDP).reason
    assert street.house.told == []
    street.run(10.0)
    assert street.verdict(UDP).dialable is street.verdict(TCP).dialable is Dialable.NO
    assert street.house.told[-1] == Holds((), ())


def test_where_it_is_is_asked_over_udp_though_there_be_links():
    street = Street()
    for server in SERVERS:
        street.link(1, server)
    street.listen()
    street.run(6.0)
    assert street.verdict(UDP).endpoint == endpoint(1)
    assert street.verdict(UDP).dialable is Dialable.YES


def test_strangers_that_were_spoken_to_prove_nothing():
    street = Street(behind=(UDP,))
    for stranger in STRANGERS:
        street.house.sending.learn(identity(stranger).public, address_list([endpoint(stranger)], 0))
        street.house.sending.at(street.now)
        street.house.overlay.cast_to(street.now, identity(stranger).id, codec.pack([99]))
    street.listen()
    street.run(6.0)
    assert street.verdict(UDP).dialable is Dialable.UNKNOWN


def test_who_dialled_proves_and_who_was_dialled_does_not():
    for dialler, reached in ((0, Dialable.UNKNOWN), (1, Dialable.YES)):
        street = Street(behind=(TCP,))
        for stranger in (*STRANGERS, *SERVERS):
            street.link(*((1, stranger), (stranger, 1))[dialler])
        street.listen()
        street.run(6.0)
        assert street.verdict(TCP).dialable is reached
        assert street.dials == []


def test_a_probe_for_a_foreign_address_is_refused():
    street = Street()
    answers = []

    async def ask():
        foreign = address_of(UDP, Endpoint("198.51.100.1", 4_001))
        call = bodies.pack_call(bodies.Probe(b"n" * 16, foreign))
        peer = identity(2).id
        answers.append(await street.house.overlay.call(peer, call, timeout=5.0, max_answer=64))

    street.house.sending.at(street.now)
    street.house.procedures.start(ask())
    street.run(3.0)
    assert answers == [bodies.pack_refusal(Refusal.REFUSED)]
    assert not any(to.host == "198.51.100.1" for _, to in street.spoken)


def test_nobody_but_a_server_sends_others_to_a_door():
    street = Street()
    ring = bodies.pack_cast(Ring(b"n" * 16, identity(9).public, address_of(TCP, endpoint(9))))
    cast(street, 5, identity(1).id, ring)
    assert street.dials == []
    cast(street, 5, identity(2).id, ring)
    assert street.dials == [(5, Knock(identity(9).id, endpoint(9)))]


def test_a_datagram_goes_to_the_very_place_and_changes_nothing_that_is_known():
    street = Street()
    elsewhere = Endpoint("192.0.2.99", 9_999)
    ring = Ring(b"n" * 16, identity(3).public, address_of(UDP, elsewhere))
    cast(street, 5, identity(2).id, bodies.pack_cast(ring))
    assert (5, elsewhere) in street.spoken
    assert (5, endpoint(3)) not in street.spoken
    street.houses[5].overlay.cast_to(street.now, identity(3).id, codec.pack([99]))
    street.settle()
    assert (5, endpoint(3)) in street.spoken


def test_errands_are_few_and_soon_over():
    street = Street()
    house = street.houses[5]
    knocks = []
    for number in range(ERRANDS + 20):
        public = bytes([number, 1]) * 16
        ring = Ring(b"n" * 16, public, address_of(TCP, endpoint(9)))
        house.reaching.hear(street.now + number, identity(2).id, bodies.pack_cast(ring))
        for output in house.reaching.drain():
            if isinstance(output, Knock):
                knocks.append(output)
            else:
                house.reaching.ring(street.now, output)
    knocks += [output for output in house.reaching.drain() if isinstance(output, Knock)]
    assert house.reaching.sizes()["reach_errands"] == len(knocks) == ERRANDS
    assert house.reaching.next_deadline() == street.now + ERRAND_FOR
    house.reaching.handle_timer(street.now + ERRAND_FOR)
    assert house.reaching.sizes()["reach_errands"] == 0


def test_a_dial_of_its_own_to_another_endpoint_ends_an_errand():
    for endpoints, left in (((endpoint(9), endpoint(8)), 1), ((endpoint(8),), 0)):
        street = Street()
        ring = Ring(b"n" * 16, identity(9).public, address_of(TCP, endpoint(9)))
        cast(street, 5, identity(2).id, bodies.pack_cast(ring))
        reaching = street.houses[5].reaching
        assert reaching.sizes()["reach_errands"] == 1
        reaching.dialling(identity(9).id, endpoints)
        assert reaching.sizes()["reach_errands"] == left


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", codec.pack([17, b"short"]), codec.pack([18, 1]), codec.pack({1: 2})]
)
def test_casts_that_are_none_change_nothing(body):
    street = Street()
    cast(street, 5, identity(2).id, body)
    cast(street, 5, identity(2).id, bodies.pack_cast(Reached(b"n" * 16)))
    assert street.dials == []


def test_a_key_that_is_none_is_left_alone():
    street = Street()
    ring = Ring(b"n" * 16, b"\xff" * 32, address_of(UDP, endpoint(9)))
    cast(street, 5, identity(2).id, bodies.pack_cast(ring))
    assert (5, endpoint(9)) not in street.spoken


V4, MOVED, V6 = endpoint(1), endpoint(2), Endpoint("2001:db8::1", 4_001)


@pytest.mark.parametrize(
    ("dialable", "tried", "lasts", "said", "holds"),
    [
        (Dialable.UNKNOWN, None, False, (V4,), (V4,)),
        (Dialable.UNKNOWN, None, False, (), ()),
        (Dialable.NO, V4, False, (V4,), ()),
        (Dialable.NO, V4, False, (V4, V6), (V6,)),
        (Dialable.NO, None, False, (V4, V6), (V4, V6)),
        (Dialable.NO, MOVED, False, (V4, V6), (V4, V6)),
        (Dialable.YES, V4, False, (), ()),
        (Dialable.YES, MOVED, False, (V4,), (V4,)),
        (Dialable.YES, V4, True, (), (V4,)),
        (Dialable.YES, MOVED, True, (V4, V6), (MOVED, V6)),
    ],
)
def test_what_holds_of_what_is_said_and_found(dialable, tried, lasts, said, holds):
    known = Reachability(transport=UDP, dialable=dialable, endpoint=tried, lasts=lasts)
    assert holding(known, said) == holds
    assert holding(None, said) == said
