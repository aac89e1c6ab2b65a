"""Whether a node can be reached: strangers decide, for UDP and TCP each."""

import pytest

from p2p.core import Procedures
from p2p.entropy import seeded
from p2p.errors import Timeout
from p2p.overlay import bodies
from p2p.overlay.advert import Rules
from p2p.overlay.asking import Asking
from p2p.overlay.bodies import Address, Refusal, Transport
from p2p.overlay.epochs import DEV, OPEN
from p2p.overlay.reach import Dialable, Reach
from p2p.wire import Endpoint

UDP, TCP = Transport.UDP, Transport.TCP
HOME = "9.8.7.6"
PORT = 4_001
SERVERS = [bytes([number]) * 32 for number in range(5)]


def seen(port=50_000, *, host=HOME, kind=0):
    return Address(kind, Endpoint(host, port))


class Street:
    """A node, its servers, and the strangers that those send."""

    def __init__(self, *, dev=False, told=None, servers=5, strangers=None):
        self.now = 1_800_000_000.0
        self.told = told or dict.fromkeys(SERVERS, seen())
        self.willing = dict.fromkeys(SERVERS, True)
        self.strangers = {UDP: 3, TCP: 3} if strangers is None else strangers
        """How many come for each transport."""
        self.acquainted = set()
        self.probed, self.asked = [], 0
        self.procedures = Procedures()
        self.reach = Reach(
            Asking(self, self.procedures),
            self.procedures,
            seeded(1),
            rules=Rules(network=7, dev=dev),
            calendar=DEV if dev else OPEN,
            servers=lambda: SERVERS[:servers],
            spoken_to=lambda peer, transport: peer in self.acquainted,
        )

    async def __call__(self, peer, body, /, *, timeout, max_answer):  # noqa: ASYNC109
        call = bodies.read_call(body)
        self.asked += 1
        if isinstance(call, bodies.Whoami):
            if self.told[peer] is None:
                raise Timeout
            return bodies.pack_seen(self.told[peer])
        self.probed.append((call.address, call.nonce))
        if not self.willing[peer]:
            return bodies.pack_refusal(Refusal.BUSY)
        return bodies.pack_done()

    def listen(self, *, said=(), **ports):
        named = {Transport[name]: port for name, port in ports.items()} or {UDP: PORT}
        self.reach.listen(self.now, named, dict.fromkeys(named, said))
        return self.run(0.0)

    def run(self, seconds):
        """Pass time; strangers come a second after they were sent for. What was told since."""
        end, events = self.now + seconds, []
        while True:
            self.procedures.run()
            due = self.reach.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.come()
            self.reach.handle_timer(self.now)
            events += self.reach.drain()
        self.now = end
        return events

    def come(self):
        came = dict.fromkeys(Transport, 0)
        for number, (address, nonce) in enumerate(self.probed):
            transport = address.transport
            if came[transport] < self.strangers[transport]:
                came[transport] += 1
                self.reach.reached(self.now, bytes([200 + number]) * 32, nonce)
        self.probed.clear()

    def state(self, transport=UDP):
        return next(known for known in self.reach.known() if known.transport is transport)


def test_two_of_three_strangers_are_proof():
    for strangers, dialable in [(3, Dialable.YES), (2, Dialable.YES), (1, Dialable.NO)]:
        street = Street(strangers={UDP: strangers})
        street.listen(UDP=PORT)
        street.run(6.0)
        assert street.state().dialable is dialable
        assert street.state().endpoint == Endpoint(HOME, 50_000)


def test_each_transport_is_judged_by_itself():
    street = Street(strangers={UDP: 3, TCP: 0})
    street.listen(UDP=PORT, TCP=PORT + 1)
    street.run(6.0)
    udp, tcp = street.state(UDP), street.state(TCP)
    assert (udp.dialable, tcp.dialable) == (Dialable.YES, Dialable.NO)
    assert tcp.endpoint == Endpoint(HOME, PORT + 1)
    assert "forward TCP port 4002" in tcp.reason
    assert "clients do not need it" in tcp.reason


def test_until_it_is_known_nothing_is_claimed():
    street = Street()
    first, *_ = street.listen(UDP=PORT)
    assert (first.dialable, first.lasts, first.reason) == (
        Dialable.UNKNOWN,
        False,
        "not known yet: servers are being asked",
    )


def test_what_has_held_for_ten_minutes_lasts():
    street = Street()
    street.listen(UDP=PORT)
    street.run(6.0)
    since = street.state().since
    assert not street.state().lasts
    street.run(595.0)
    assert not street.state().lasts
    street.run(130.0)
    assert street.state().lasts
    assert street.state().since == since


def test_it_is_judged_again_each_ten_minutes():
    street = Street()
    street.listen(UDP=PORT)
    street.run(3_600.0)
    looks = 1 + 3_600 // 120
    assert (street.asked - 2 * looks) / 3 in (6, 7)


def test_it_is_lost_after_the_second_failure_and_found_again():
    street = Street()
    street.listen(UDP=PORT)
    street.run(700.0)
    street.strangers[UDP] = 0
    while street.reach._failures[UDP] == 0:
        street.run(10.0)
        assert street.state().dialable is Dialable.YES
    street.run(130.0)
    assert street.state().dialable is Dialable.NO
    street.strangers[UDP] = 3
    street.run(720.0)
    assert street.state().dialable is Dialable.YES
    assert not street.state().lasts


def test_a_new_address_is_tried_at_once():
    street = Street()
    street.listen(UDP=PORT)
    street.run(300.0)
    street.told = dict.fromkeys(SERVERS, seen(50_001, host="9.8.7.7"))
    since = street.now
    while street.state().endpoint.host == HOME:
        street.run(1.0)
    assert street.now - since <= 126.0
    assert street.state().dialable is Dialable.YES
    assert street.state().since >= since


def test_a_port_that_each_server_sees_differently_is_of_no_use_to_others():
    told = {peer: seen(50_000 + number) for number, peer in enumerate(SERVERS)}
    street = Street(told=told)
    street.listen(UDP=PORT, TCP=PORT)
    street.run(6.0)
    assert street.state(UDP).dialable is Dialable.NO
    assert "another port" in street.state(UDP).reason
    assert street.state(TCP).dialable is Dialable.YES


def test_two_addresses_are_no_address():
    told = {peer: seen(host=f"9.8.7.{number}") for number, peer in enumerate(SERVERS)}
    street = Street(told=told)
    street.listen(UDP=PORT)
    street.run(6.0)
    assert street.state().dialable is Dialable.NO
    assert "more than one address" in street.state().reason


LIES = [seen(host="6.6.6.6"), seen(50_001)]


@pytest.mark.parametrize("lie", [*LIES, seen(host="192.168.1.9")])
@pytest.mark.parametrize("liar", range(3))
def test_of_three_servers_one_may_lie(lie, liar):
    street = Street(told=dict.fromkeys(SERVERS, seen()) | {SERVERS[liar]: lie})
    street.listen(UDP=PORT, TCP=PORT)
    street.run(3_600.0)
    for transport, port in ((UDP, 50_000), (TCP, PORT)):
        known = street.state(transport)
        assert (known.dialable, known.lasts) == (Dialable.YES, True)
        assert known.endpoint == Endpoint(HOME, port)


@pytest.mark.parametrize("lie", LIES)
def test_where_two_servers_disagree_strangers_decide_about_what_the_operator_says(lie):
    for strangers, dialable in ((3, Dialable.YES), (0, Dialable.NO)):
        street = Street(servers=2, told={SERVERS[0]: seen(), SERVERS[1]: lie})
        street.strangers = {UDP: strangers}
        said = Endpoint(HOME, PORT)
        street.listen(UDP=PORT, said=(said,))
        street.run(300.0)
        assert (street.state().dialable, street.state().endpoint) == (dialable, said)


def test_servers_that_disagree_end_nothing_if_nobody_tries():
    street = Street(servers=2)
    street.listen(UDP=PORT)
    street.run(800.0)
    street.told = {SERVERS[0]: seen(), SERVERS[1]: LIES[0]}
    street.willing = dict.fromkeys(SERVERS, False)
    street.strangers[UDP] = 0
    street.run(3_600.0)
    assert street.state().dialable is Dialable.YES


def test_the_port_that_the_operator_names_is_tried_before_the_one_that_is_seen():
    street = Street()
    street.listen(UDP=PORT, said=(Endpoint("1.1.1.1", PORT), Endpoint(HOME, 7)))
    street.run(6.0)
    assert street.state().endpoint == Endpoint(HOME, 7)


def test_the_port_of_a_link_says_nothing_the_one_listened_on_is_tried():
    street = Street(told=dict.fromkeys(SERVERS, seen(kind=2)))
    street.listen(UDP=PORT, TCP=PORT + 1)
    street.run(6.0)
    assert street.state(UDP).endpoint == Endpoint(HOME, PORT)
    assert street.state(TCP).endpoint == Endpoint(HOME, PORT + 1)


def test_servers_that_do_not_answer_are_passed_over():
    told = dict.fromkeys(SERVERS, seen()) | dict.fromkeys(SERVERS[:3])
    street = Street(told=told)
    street.listen(UDP=PORT)
    street.run(6.0)
    assert street.state().dialable is Dialable.YES


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"servers": 1}, "too few servers"),
        ({"told": dict.fromkeys(SERVERS)}, "too few servers"),
        ({"told": dict.fromkeys(SERVERS, seen(host="192.168.1.9"))}, "too few servers"),
        ({"servers": 0}, "too few servers"),
    ],
)
def test_what_nobody_can_tell_stays_unknown(settings, reason):
    street = Street(**settings)
    street.listen(UDP=PORT)
    street.run(6.0)
    assert street.state().dialable is Dialable.UNKNOWN
    assert reason in street.state().reason


def test_who_was_spoken_to_proves_nothing():
    street = Street()
    street.acquainted = {bytes([200 + number]) * 32 for number in range(9)}
    street.listen(UDP=PORT)
    street.run(6.0)
    assert street.state().dialable is Dialable.UNKNOWN
    assert "nobody was there to try" in street.state().reason


def test_servers_that_will_not_probe_prove_nothing():
    street = Street(strangers={UDP: 0})
    street.willing = dict.fromkeys(SERVERS, False)
    street.listen(UDP=PORT)
    street.run(6.0)
    assert street.state().dialable is Dialable.UNKNOWN


def test_doubt_does_not_undo_what_was_known():
    street = Street()
    street.listen(UDP=PORT)
    street.run(800.0)
    street.told = dict.fromkeys(SERVERS)
    street.run(3_600.0)
    assert street.state().dialable is Dialable.YES


def test_an_invented_nonce_counts_for_nothing():
    street = Street(strangers={UDP: 1})
    street.listen(UDP=PORT)
    for number in range(20):
        street.reach.reached(street.now, b"x" * 32, bytes([number]) * 16)
    nonce = next(iter(street.reach._trials[UDP].nonces))
    for number in range(20):
        street.reach.reached(street.now, bytes([number]) * 32, nonce)
    street.run(6.0)
    assert street.state().dialable is Dialable.NO


def test_in_a_dev_network_one_server_tells_and_what_holds_lasts_at_once():
    street = Street(dev=True, told=dict.fromkeys(SERVERS, seen(host="127.0.0.1")))
    street.listen(UDP=PORT)
    street.run(6.0)
    assert (street.state().dialable, street.state().lasts) == (Dialable.YES, True)


def test_who_listens_nowhere_asks_nothing():
    street = Street()
    street.reach.listen(street.now, {})
    street.run(1_000.0)
    assert street.asked == 0
    assert street.reach.known() == []


def test_events_are_told_once():
    street = Street()
    events = street.listen(UDP=PORT) + street.run(2_000.0)
    assert [(event.dialable, event.lasts) for event in events] == [
        (Dialable.UNKNOWN, False),
        (Dialable.YES, False),
        (Dialable.YES, True),
    ]
