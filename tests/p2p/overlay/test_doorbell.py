"""What a node does for those who ask whether they can be reached; and how NATs come out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec
from p2p.entropy import seeded
from p2p.errors import CodecError, Rejected
from p2p.identity import Identity, short_id
from p2p.overlay import bodies
from p2p.overlay.advert import Rules
from p2p.overlay.asking import Asking
from p2p.overlay.bodies import Address, Reached, Refusal, Ring, Transport
from p2p.overlay.doorbell import Doorbell, Seen, Send, SendThere
from p2p.overlay.epochs import OPEN
from p2p.overlay.reach import Dialable, Reach
from p2p.ton import AdnlAddressList, AdnlAddressUdp
from p2p.wire import Endpoint
from simulations.messages import MessageWorld
from simulations.network.fabric import Network
from simulations.network.nat import LIFETIME, Nat

NOW = 1_800_000_000.0
CALLER, OTHER, SERVER = (bytes([n]) * 32 for n in (1, 2, 3))
HOME = Address(0, Endpoint("9.8.7.6", 50_000))
NONCE, PUBLIC = b"n" * 16, b"k" * 32


@pytest.fixture
def bell():
    return doorbell()


def doorbell(*, dev=False, servers=(OTHER, SERVER, CALLER), said=()):
    known = {CALLER: Seen(PUBLIC, HOME)}
    return Doorbell(
        Rules(network=7, dev=dev),
        seeded(1),
        seen=known.get,
        servers=lambda: servers,
        said=lambda node: said if node == short_id(PUBLIC) else (),
    )


def code(answer):
    with pytest.raises(Rejected) as caught:
        bodies.read_done(answer)
    return caught.value.args[0]


def probe(host="9.8.7.6", port=4_001, kind=2):
    return bodies.Probe(NONCE, Address(kind, Endpoint(host, port)))


# --- casts ---


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_casts_are_read_as_they_were_meant(nonce, public):
    for cast in (Reached(nonce), Ring(nonce, public, HOME)):
        assert bodies.read_cast(bodies.pack_cast(cast)) == cast
    assert len(bodies.pack_cast(Ring(nonce, public, HOME))) < 944


@pytest.mark.parametrize(
    "cast",
    [[17], [17, bytes(15)], [17, 5], [18, NONCE], [18, NONCE, bytes(31), [0, bytes(6)]], [], {}],
)
def test_what_breaks_a_rule_is_no_cast(cast):
    with pytest.raises(CodecError):
        bodies.read_cast(codec.pack(cast))


def test_a_cast_of_another_kind_is_told_apart():
    assert bodies.read_cast(codec.pack([16, bytes(26)])) is None


# --- answers ---


def test_a_caller_is_told_where_it_seems_to_be(bell):
    assert bodies.read_seen(bell.answer(NOW, CALLER, bodies.Whoami())) == HOME
    assert code(bell.answer(NOW, b"?" * 32, bodies.Whoami())) == Refusal.UNKNOWN


def test_a_probe_has_a_stranger_ring(bell):
    bodies.read_done(bell.answer(NOW, CALLER, probe()))
    (send,) = bell.drain()
    assert isinstance(send, Send)
    assert send.peer in (OTHER, SERVER)
    assert bodies.read_cast(send.body) == Ring(NONCE, PUBLIC, probe().address)
    assert bell.drain() == []


def test_a_probe_for_a_foreign_address_is_refused(bell):
    assert code(bell.answer(NOW, CALLER, probe(host="9.8.7.7"))) == Refusal.REFUSED
    assert bell.drain() == []


def test_without_a_stranger_there_is_no_probe():
    bell = doorbell(servers=(CALLER,))
    assert code(bell.answer(NOW, CALLER, probe())) == Refusal.BUSY


def test_probes_are_few(bell):
    answers = [bell.answer(NOW, CALLER, probe()) for _ in range(13)]
    assert code(answers.pop()) == Refusal.BUSY
    assert answers == [bodies.pack_done()] * 12
    bodies.read_done(bell.answer(NOW + 10.0, CALLER, probe()))


def test_a_server_that_asks_us_is_done_the_favour(bell):
    bell.hear(NOW, SERVER, Ring(NONCE, PUBLIC, HOME))
    (send,) = bell.drain()
    assert send == SendThere(PUBLIC, HOME, bodies.pack_cast(Reached(NONCE)))


def test_nobody_else_is_nor_for_a_private_address_nor_too_often(bell):
    bell.hear(NOW, b"?" * 32, Ring(NONCE, PUBLIC, HOME))
    bell.hear(NOW, SERVER, Ring(NONCE, PUBLIC, Address(0, Endpoint("10.0.0.1", 4_001))))
    assert bell.drain() == []
    for _ in range(30):
        bell.hear(NOW, SERVER, Ring(NONCE, PUBLIC, HOME))
    assert len(bell.drain()) == 20
    lan = doorbell(dev=True)
    lan.hear(NOW, SERVER, Ring(NONCE, PUBLIC, Address(0, Endpoint("10.0.0.1", 4_001))))
    assert len(lan.drain()) == 1


def test_nobody_is_sought_where_its_owner_says_that_it_is_not():
    for host, rung in (("9.8.7.7", 0), (HOME.endpoint.host, 1)):
        bell = doorbell(said=(Endpoint("2001:db8::1", 4_001), Endpoint(host, 4_001)))
        bell.hear(NOW, SERVER, Ring(NONCE, PUBLIC, HOME))
        assert len(bell.drain()) == rung


# --- in virtual time, with routers ---


class Resident:
    """A node that asks whether it can be reached, and does for others what they ask."""

    def __init__(self, place, number, *, nat=Nat.OPEN, maps=None):
        self.place = place
        self.identity = Identity(number.to_bytes(32, "big"))
        self.id = self.identity.id
        self.seat = place.world.seat(self.identity, nat=nat)
        self.maps = maps or {}
        """How some peers see it, if its router maps ports per peer."""
        self.sent = {}
        rules, entropy = Rules(network=7), self.seat.entropy
        self.bell = Doorbell(
            rules,
            entropy,
            seen=self.place.seen_by(self),
            servers=lambda: place.servers,
            said=lambda node: (),
        )
        self.reach = Reach(
            Asking(self._carry, self.seat.procedures),
            self.seat.procedures,
            entropy,
            rules=rules,
            calendar=OPEN,
            servers=lambda: [peer for peer in place.servers if peer != self.id][:5],
            spoken_to=self._spoken_to,
        )
        self.seat.attach(self)

    def message(self, now, peer, payload):
        match bodies.read_cast(payload):
            case Reached(nonce):
                self.reach.reached(now, peer, nonce)
            case Ring() as ring:
                self.bell.hear(now, peer, ring)
        self._settle()

    def query(self, now, peer, payload):
        answer = self.bell.answer(now, peer, bodies.read_call(payload))
        self._settle()
        return answer

    def handle_timer(self, now):
        self.reach.handle_timer(now)

    def next_deadline(self):
        return self.reach.next_deadline()

    def _settle(self):
        for output in self.bell.drain():
            match output:
                case Send(peer, body):
                    self._learn(peer)
                    self.sent[peer] = self.place.world.now
                    self.seat.send(peer, body)
                case SendThere(public, address, body):
                    peer = self.place.by_public[public]
                    self.seat.learn(public, _addresses(address))
                    self.sent[peer.id] = self.place.world.now
                    self.seat.send(peer.id, body)

    async def _carry(self, peer, body, /, *, timeout, max_answer):  # noqa: ASYNC109
        self._learn(peer)
        self.sent[peer] = self.place.world.now
        return await self.seat.query(peer, body, timeout=timeout, max_answer=max_answer)

    def _learn(self, peer):
        other = self.place.residents[peer]
        self.seat.learn(other.identity.public, other.seat.addresses)

    def _spoken_to(self, peer, transport):
        return self.sent.get(peer, float("-inf")) + LIFETIME >= self.place.world.now


def _addresses(address):
    packed = int.from_bytes(bytes(map(int, address.endpoint.host.split("."))), "big", signed=True)
    return AdnlAddressList((AdnlAddressUdp(packed, address.endpoint.port),), 0, 0, 0, 0)


class Place:
    """Servers, and residents of all kinds."""

    def __init__(self, servers):
        entropy = seeded(4)
        self.world = MessageWorld(entropy.fork("world"), Network(entropy.fork("net")))
        self.residents, self.by_public, self.servers = {}, {}, []
        for number in range(servers):
            self.servers.append(self.settle(number).id)

    def settle(self, number, **how):
        one = Resident(self, number, **how)
        self.residents[one.id] = self.by_public[one.identity.public] = one
        return one

    def seen_by(self, witness):
        def seen(peer):
            other = self.residents[peer]
            (address,) = other.seat.addresses.addrs
            host = ".".join(map(str, (address.ip % 2**32).to_bytes(4, "big")))
            port = other.maps.get(witness.id, address.port)
            return Seen(other.identity.public, Address(0, Endpoint(host, port)))

        return seen

    def judged(self, one):
        one.seat.call(lambda now: one.reach.listen(now, {Transport.UDP: 30_303}))
        self.world.run(self.world.now + 10.0)
        (known,) = one.reach.known()
        return known


def test_each_kind_of_router_gets_the_right_mode():
    place = Place(24)
    open_to_all = place.settle(100)
    behind = place.settle(101, nat=Nat.PORT_RESTRICTED)
    symmetric = place.settle(
        102,
        nat=Nat.PORT_RESTRICTED,
        maps={peer: 40_000 + n for n, peer in enumerate(place.servers)},
    )
    assert place.judged(open_to_all).dialable is Dialable.YES
    assert "no stranger could reach UDP port 30303" in place.judged(behind).reason
    assert "another port" in place.judged(symmetric).reason


def test_a_router_that_lets_in_who_was_spoken_to_does_not_count_as_open():
    place = Place(6)
    behind = place.settle(101, nat=Nat.PORT_RESTRICTED)
    for peer in place.servers:
        behind._learn(peer)
        behind.sent[peer] = place.world.now
        behind.seat.call(lambda now, peer=peer: behind.seat.send(peer, codec.pack([99])))
    known = place.judged(behind)
    assert known.dialable is not Dialable.YES
