"""Messages and queries between cores; what each side tells, and what it keeps."""

import gc

import pytest

from p2p.adnl import parts
from p2p.adnl.address import address_list
from p2p.adnl.core import AdnlCore
from p2p.adnl.drops import Drop
from p2p.adnl.events import NoAddress, PeerSeen, Query, Token
from p2p.adnl.limits import Limits
from p2p.entropy import seeded
from p2p.errors import LocalError, NoCapacity, Timeout
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.tl import pack
from p2p.ton import AdnlPing, AdnlPong
from p2p.wire import Endpoint
from tests.p2p.adnl.net import START, Net, identity

# --- messages ---


def test_a_message_arrives_from_whom_it_says(net, pair):
    first, second = pair
    first.send(second)
    net.run()
    ((local, peer, payload),) = second.heard()
    assert (local, peer, payload) == (second.id, first.id, b"hello")


def test_messages_arrive_in_order_whatever_their_size(net, pair):
    first, second = pair
    payloads = [bytes([i]) * size for i, size in enumerate((1, 2_000, 10, 8_192, 1_144, 1_145))]
    for payload in payloads:
        first.send(second, payload)
    net.run()
    assert second.payloads() == payloads


EDGES = (0, 1, 253, 254, 1_107, 1_108, 1_112, 1_113, 1_144, 1_145, 2_008, 4_096, 8_191, 8_192)
"""sizes at which something changes: TL's length, one packet, a further part, the limit"""


@pytest.mark.parametrize("size", EDGES)
def test_a_payload_of_any_size_goes_over_a_channel_both_ways(net, ready, size):
    first, second = ready
    second.answers = lambda payload: payload[::-1]
    payload = bytes(i % 251 for i in range(size))
    first.send(second, payload)
    ticket = first.query(second, payload)
    net.run()
    assert second.payloads() == [payload]
    assert first.answered() == {ticket: payload[::-1]}
    assert max(len(data) for *_, data in net.carried) <= 1_440


@pytest.mark.parametrize("size", EDGES)
def test_a_payload_of_any_size_goes_without_a_channel(net, pair, size):
    first, second = pair
    payload = bytes(i % 251 for i in range(size))
    first.core.set_addresses(net.now, first.id, address_list([first.place] * 4, START))
    second.answers = None
    first.send(second, payload)
    first.send(second, payload)
    net.run()
    assert second.payloads() == [payload, payload]
    assert max(len(data) for *_, data in net.carried) <= 1_440


@pytest.mark.slow
def test_every_size_goes_over_a_channel_as_message_and_as_query(net, ready):
    first, second = ready
    second.answers = lambda payload: payload
    whole = bytes(i % 251 for i in range(MAX_DATAGRAM_PAYLOAD))
    for size in range(1, MAX_DATAGRAM_PAYLOAD + 1):
        first.send(second, whole[:size])
        ticket = first.query(second, whole[-size:])
        net.run()
        assert second.payloads() == [whole[:size]]
        assert first.answered() == {ticket: whole[-size:]}
        for node in ready:
            node.told.clear()
        net.carried.clear()


def test_what_takes_rldp2_is_refused(net, ready):
    first, second = ready
    second.answers = None
    too_long = bytes(MAX_DATAGRAM_PAYLOAD + 1)
    first.query(second)
    net.run()
    (asked,) = second.heard(Query)
    for command in (
        lambda: first.send(second, too_long),
        lambda: first.query(second, too_long),
        lambda: second.core.answer(net.now, asked.token, too_long),
    ):
        with pytest.raises(LocalError, match="8193 bytes"):
            command()
    second.core.answer(net.now, asked.token, b"short enough")
    net.run()
    assert list(first.answered().values()) == [b"short enough"]


def test_a_datagram_that_comes_twice_is_taken_once(net, ready):
    first, second = ready
    first.send(second)
    net.run()
    ((source, _, data),) = net.carried
    second.core.receive(net.now, source, data)
    assert second.payloads() == [b"hello"]
    assert second.drops() == {Drop.REPEATED: 1}


def test_a_message_that_lost_a_part_is_lost_alone(net, ready):
    first, second = ready
    net.lose = lambda *_: len(net.carried) == 1
    first.send(second, b"1" * 3_000)
    net.run()
    net.lose = lambda *_: False
    first.send(second, b"2" * 3_000)
    net.run()
    assert second.payloads() == [b"2" * 3_000]


def test_parts_may_overtake_each_other(net, ready):
    first, second = ready
    first.send(second, b"x" * 8_000)
    sends, _ = first.core.drain()
    for send in reversed(sends):
        second.core.receive(net.now, first.place, send.data)
    net.run()
    assert second.payloads() == [b"x" * 8_000]


# --- queries ---


def test_a_query_and_its_answer_take_two_datagrams_from_nothing(net, pair):
    first, second = pair
    ticket = first.query(second, b"question")
    net.run()
    assert first.answered() == {ticket: b"QUESTION"}
    assert len(net.carried) == 2


def test_a_query_without_answer_fails_in_time_and_once(net, ready):
    first, second = ready
    second.answers = lambda _: None
    ticket = first.query(second, timeout=5.0)
    net.wait(4.9)
    assert first.failed() == {}
    net.wait(0.2)
    assert first.failed() == {ticket: Timeout}
    assert len(first.told) == 1
    assert first.core.sizes()["asked"] == 0


def test_an_answer_too_late_is_not_told(net, ready):
    first, second = ready
    second.answers = None
    first.query(second, timeout=1.0)
    net.wait(2.0)
    (asked,) = second.heard(Query)
    second.core.answer(net.now, asked.token, b"late")
    net.run()
    assert first.answered() == {}
    assert first.drops()[Drop.ANSWER_UNASKED] == 1


def test_a_query_is_answered_once(net, ready):
    first, second = ready
    second.answers = None
    first.query(second)
    net.run()
    (asked,) = second.heard(Query)
    for _ in range(2):
        second.core.answer(net.now, asked.token, b"yes")
    assert second.drops() == {Drop.ANSWER_LATE: 1}
    second.core.answer(net.now, Token(second.id, identity(9).id, b"q" * 32), b"to nobody")
    assert second.drops() == {Drop.ANSWER_LATE: 2}


def test_a_query_is_open_for_a_minute(net, ready):
    first, second = ready
    second.answers = None
    first.query(second, timeout=100.0)
    net.wait(59.9)
    first.query(second, timeout=100.0)
    net.wait(0.2)
    early, late = second.heard(Query)
    second.core.answer(net.now, early.token, b"late")
    second.core.answer(net.now, late.token, b"in time")
    net.run()
    assert list(first.answered().values()) == [b"in time"]


def test_nobody_else_can_answer(net, ready):
    first, second = ready
    third = net.node(3)
    third.knows(first)
    second.answers = None
    first.query(second)
    net.run()
    (asked,) = second.heard(Query)
    third.core.query(net.now, third.id, first.id, b"hello", 5.0)
    net.run()
    stolen = asked.token._replace(local=third.id, peer=first.id)
    third.core._table.find((third.id, first.id)).open[stolen.query_id] = net.now + 60
    third.core.answer(net.now, stolen, b"false")
    net.run()
    assert first.answered() == {}
    assert first.drops() == {Drop.ANSWER_UNASKED: 1}


def test_a_query_that_nobody_waits_for_is_forgotten(net, ready):
    first, second = ready
    ticket = first.query(second)
    first.core.forget(net.now, ticket)
    first.core.forget(net.now, ticket)
    net.wait(10.0)
    assert first.answered() == first.failed() == {}
    assert first.core.sizes()["asked"] == first.core.sizes()["due"] == 0


def test_so_many_queries_and_no_more_are_outstanding(net):
    first, second = net.node(1, limits=Limits(pending=3)), net.node(2)
    first.knows(second)
    second.answers = None
    for _ in range(3):
        first.query(second)
    with pytest.raises(NoCapacity):
        first.query(second)
    net.wait(5.0)
    first.query(second)


def test_a_peer_asks_so_much_and_no_more_at_once(net):
    first, second = net.node(1, limits=Limits(peer_burst=1_000)), net.node(2)
    first.knows(second)
    second.answers = None
    for _ in range(70):
        first.query(second, timeout=100.0)
    net.run()
    assert len(second.heard(Query)) == 64
    assert second.drops() == {Drop.QUERIES_FULL: 6}
    second.core.answer(net.now, second.heard(Query)[0].token, None)
    first.query(second)
    net.run()
    assert len(second.heard(Query)) == 65
    net.wait(60.0)
    first.query(second)
    net.run()
    assert len(second.heard(Query)) == 66


def test_a_query_number_is_open_once(net):
    class Repeating:
        """Draws the same 32 bytes whenever it is asked for a query's number."""

        def __init__(self):
            self.real = seeded(5)
            self.fixed = False

        def token(self, n):
            return b"q" * n if n == 32 and self.fixed else self.real.token(n)

        def uniform(self):
            return 0.5

    entropy = Repeating()
    first, second = net.node(1, entropy=entropy), net.node(2)
    first.knows(second)
    first.send(second)
    net.run()
    second.send(first)
    net.run()
    second.answers, entropy.fixed = None, True
    first.query(second)
    first.query(second)
    net.run()
    assert len(second.heard(Query)) == 1
    assert second.drops() == {Drop.QUERY_REPEATED: 1}


def test_a_ping_is_answered_without_a_word_to_anyone(net, ready):
    first, second = ready
    ticket = first.query(second, pack(AdnlPing(7)))
    net.run()
    assert first.answered() == {ticket: pack(AdnlPong(7))}
    assert second.told == []


def test_a_ping_that_is_none_is_dropped(net, ready):
    first, second = ready
    first.query(second, pack(AdnlPing(7)) + b"more")
    net.run()
    assert second.drops() == {Drop.MALFORMED: 1}
    assert second.told == []


SOMEWHERE = Endpoint("10.0.9.9", 3_000)


@pytest.mark.parametrize("size", [5, 3_000])
@pytest.mark.parametrize("acquainted", [False, True])
def test_a_query_to_an_address_is_answered_from_there(net, request, acquainted, size):
    first, second = request.getfixturevalue("ready" if acquainted else "pair")
    ticket = first.query(second, bytes(size), at=second.place)
    net.run()
    assert first.answered() == {ticket: bytes(size)}


@pytest.mark.parametrize("acquainted", [False, True])
def test_a_query_to_an_address_goes_nowhere_else(net, request, acquainted):
    """Whoever is elsewhere cannot say that it is there, as well as it may be known and heard."""
    first, second = request.getfixturevalue("ready" if acquainted else "pair")
    net.run()
    net.carried.clear()
    ticket = first.query(second, at=SOMEWHERE)
    net.run()
    assert {to for _, to, _ in net.carried} == {SOMEWHERE}
    net.wait(5.1)
    assert first.failed() == {ticket: Timeout}


def test_a_query_to_an_address_leaves_what_is_known_of_the_peer(net, ready):
    first, second = ready
    first.query(second, at=SOMEWHERE)
    first.send(second, b"where you are")
    net.run()
    assert second.payloads() == [b"where you are"]


def test_a_query_to_an_address_of_nobody_known_is_not_sent(net, pair):
    first, _ = pair
    stranger = net.node(3)
    ticket = first.query(stranger, at=stranger.place)
    net.run()
    assert net.carried == []
    net.wait(5.1)
    assert first.failed() == {ticket: Timeout}


# --- what a peer is owed ---


@pytest.mark.parametrize("size", [10, 3_000], ids=["message", "parts"])
def test_a_message_is_owed_a_packet_within_two_seconds(net, ready, size):
    first, second = ready
    first.send(second, bytes(size))
    net.wait(0.99)
    assert not [to for _, to, _ in net.carried if to == first.place]
    net.wait(1.01)
    back = [data for _, to, data in net.carried if to == first.place]
    assert len(back) == 1
    net.wait(30.0)
    assert len([to for _, to, _ in net.carried if to == first.place]) == 1


def test_an_answer_is_enough(net, ready):
    first, second = ready
    first.query(second)
    net.wait(30.0)
    assert len(net.carried) == 3, "query, answer, and what the answer is owed"


def test_what_is_owed_is_paid_by_whatever_is_sent(net, ready):
    first, second = ready
    for _ in range(20):
        first.send(second)
        net.wait(0.5)
        second.send(first)
        net.wait(0.5)
    net.run()
    assert len(net.carried) == 40


def test_a_peer_that_only_listens_is_heard_every_two_seconds(net, ready):
    first, second = ready
    for _ in range(100):
        first.send(second)
        net.wait(0.1)
    back = [to for _, to, _ in net.carried if to == first.place]
    assert 5 <= len(back) <= 10


# --- several identities, addresses of both kinds ---


def test_identities_on_one_socket_are_apart(net):
    place = Endpoint("10.0.0.7", 7)
    core = AdnlCore([identity(1), identity(2)], seeded(1), START)
    other = net.node(3)
    other.core.add_peer(net.now, identity(1).public, [place])
    other.core.add_peer(net.now, identity(2).public, [place])
    for number in (1, 2):
        other.core.send(net.now, other.id, identity(number).id, bytes([number]))
    sends, _ = other.core.drain()
    for send in sends:
        core.receive(net.now, other.place, send.data)
    _, events = core.drain()
    assert [(e.local, e.payload) for e in events if not isinstance(e, PeerSeen)] == [
        (identity(1).id, b"\1"),
        (identity(2).id, b"\2"),
    ]
    core.send(net.now, identity(2).id, other.id, b"back")
    sends, _ = core.drain()
    other.core.receive(net.now, place, sends[0].data)
    _, events = other.core.drain()
    assert events[-1].peer == identity(2).id


def test_identities_of_one_node_speak_to_each_other(net):
    node = net.node(1)
    node.core = AdnlCore([identity(1), identity(2)], seeded(1), START)
    node.core.add_peer(net.now, identity(2).public, [node.place])
    ticket = node.core.query(net.now, identity(1).id, identity(2).id, b"hello", 5.0)
    net.run()
    assert node.answered() == {ticket: b"HELLO"}


def test_a_node_may_speak_to_itself(net):
    node = net.node(1)
    node.knows(node)
    tickets = [node.query(node, bytes([65 + i])) for i in range(3)]
    net.run()
    assert list(node.answered()) == tickets
    before = node.core.statistics().sent_direct
    node.query(node)
    net.run()
    assert node.core.statistics().sent_direct == before


def test_a_stranger_to_this_node_sends_nothing_from_it(net, pair):
    first, second = pair
    for command in (first.core.send, first.core.query):
        with pytest.raises(LocalError):
            command(net.now, identity(9).id, second.id, b"", *[5.0] * (command == first.core.query))


def test_ipv6_nodes_speak(net):
    first = net.node(1, place=Endpoint("2001:db8::1", 1))
    second = net.node(2, place=Endpoint("2001:db8::2", 2))
    first.core.add_peer(net.now, second.identity.public, address_list([second.place], START))
    ticket = first.query(second)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}


def test_a_packet_says_where_we_are_until_the_peer_has_it(net, pair):
    first, second = pair
    listed = address_list([first.place], START + 5)
    first.core.set_addresses(net.now, first.id, listed)
    first.send(second)
    net.run()
    peer = second.core._table.find((second.id, first.id))
    assert peer.where._listed == (first.place,)
    first.core._table.find((first.id, second.id)).known_version = START + 5
    before = len(net.carried[-1][2])
    first.send(second)
    net.run()
    assert len(net.carried[-1][2]) in range(before - 32 - 16, before - 32 + 17)


def test_an_address_list_that_ton_refuses_is_refused(net, pair):
    first, _ = pair
    places = [Endpoint("10.0.0.1", port) for port in range(1, 11)]
    first.core.set_addresses(net.now, first.id, address_list(places[:9], START))
    with pytest.raises(LocalError):
        first.core.set_addresses(net.now, first.id, address_list(places, START))


# --- who is seen where ---


def test_a_peer_is_told_of_when_it_is_first_heard_and_when_it_moves(net, ready):
    first, second = ready
    moved = Endpoint("10.0.9.9", 9)
    first.send(second)
    net.run()
    assert second.heard(PeerSeen) == []
    first.send(second)
    sends, _ = first.core.drain()
    second.core.receive(net.now, moved, sends[0].data)
    net.run()
    assert second.heard(PeerSeen) == [PeerSeen(second.id, first.id, first.identity.public, moved)]
    second.send(first)
    net.run()
    assert net.carried[-1][1] == moved


# --- the contract of a core ---


def test_time_does_not_run_backwards(net, pair):
    first, second = pair
    first.send(second)
    with pytest.raises(ValueError, match="backwards"):
        first.core.handle_timer(net.now - 1)


def test_a_source_is_an_endpoint(net, pair):
    with pytest.raises(TypeError):
        pair[0].core.receive(net.now, "10.0.0.1", bytes(100))


def test_nothing_is_due_when_nothing_happens(net):
    core = net.node(1).core
    assert core.next_deadline() is None
    core.handle_timer(net.now)
    assert core.drain() == ([], [])


def test_nothing_is_left_when_all_is_over(net, ready):
    first, second = ready
    for size in (10, 5_000):
        first.send(second, bytes(size))
        first.query(second, bytes(size))
    net.wait(4_000.0)
    for node in ready:
        left = {name: size for name, size in node.core.sizes().items() if size}
        assert set(left) <= {"contacts", "sources", "newcomers", "clocks"}
        assert node.core.next_deadline() is None


def test_the_same_seed_sends_the_same_bytes():
    def carried():
        net = Net()
        first, second = net.node(1), net.node(2)
        first.knows(second)
        for size in (10, 3_000):
            first.query(second, bytes(size))
            net.wait(3.0)
        return net.carried

    assert carried() == carried()


def test_statistics_tell_what_went_and_hold_nobody(net, ready):
    first, second = ready
    first.query(second)
    first.send(second)
    net.run()
    statistics = first.core.statistics()
    assert (statistics.asked, statistics.answered, statistics.peers) == (2, 2, 1)
    assert statistics.sent_direct == 1
    assert statistics.sent_in_channels == 3
    assert statistics.received == statistics.accepted == 2
    assert statistics.drops == {}


def test_a_core_leaves_no_cycles_behind(net, ready):
    first, second = ready
    first.query(second)
    first.core.send(net.now, first.id, identity(9).id, b"to nobody known")
    net.wait(3.0)
    gc.collect()
    gc.disable()
    try:
        net.nodes.clear()
        for node in ready:
            node.core = node.net = None
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [item for item in gc.garbage if type(item).__module__.startswith("p2p.adnl")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_parts_hold_the_longest_message():
    assert parts.MAX_PARTED >= MAX_DATAGRAM_PAYLOAD + 4 + 32 + 4 + 3


def test_missing_addresses_are_asked_for(net, pair):
    first, _ = pair
    first.core.send(net.now, first.id, identity(9).id, b"hello")
    net.run()
    assert first.heard(NoAddress) == [NoAddress(identity(9).id)]
