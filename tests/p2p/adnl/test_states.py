"""A peer's states, row by row, and what happens when either side starts anew."""

import pytest

from p2p.adnl.address import address_list
from p2p.adnl.drops import Drop
from p2p.adnl.events import NoAddress, PeerReset
from p2p.adnl.limits import Limits
from p2p.adnl.peer import State
from p2p.errors import Closed
from p2p.wire import Endpoint
from tests.p2p.adnl.net import START, Node, identity


def state(node, other):
    peer = node.core._table.find((node.id, other.id))
    return None if peer is None else peer.state(node.net.now)


def states(first, second):
    return state(first, second), state(second, first)


def direct(node):
    return node.core.statistics().sent_direct


def in_channels(node):
    return node.core.statistics().sent_in_channels


def restart(node, later=100):
    """The same identity at the same place, which knows nothing any more."""
    fresh = Node(
        node.net,
        int.from_bytes(node.identity.seed, "big"),
        place=node.place,
        started_at=node.started_at + later,
    )
    node.net.nodes[node.place] = fresh
    return fresh


# --- the rows ---


def test_fresh_sends_directly_and_half_too_until_it_is_heard_in_the_channel(net, pair):
    first, second = pair
    second.answers = None
    first.send(second)
    assert state(first, second) is State.FRESH
    net.run()
    assert states(first, second) == (State.FRESH, State.HALF)
    assert (direct(first), in_channels(first)) == (1, 0)

    second.send(first)
    net.run()
    assert states(first, second) == (State.READY, State.HALF)
    second.send(first)
    net.run()
    assert (direct(second), in_channels(second)) == (2, 0)

    first.send(second)
    net.run()
    assert states(first, second) == (State.READY, State.READY)
    second.send(first)
    net.run()
    assert (direct(first), in_channels(first)) == (1, 1)
    assert (direct(second), in_channels(second)) == (2, 1)


def test_who_is_heard_in_its_channel_is_no_stranger(net, pair):
    first, second = pair
    first.query(second)
    net.run()
    groups = [{name: node.core.sizes()[name] for name in ("strangers", "proven")} for node in pair]
    assert groups == [{"strangers": 1, "proven": 0}] * 2
    second.answers = None
    for node, other in (pair, pair[::-1]):
        node.send(other)
        net.run()
    groups = [{name: node.core.sizes()[name] for name in ("strangers", "proven")} for node in pair]
    assert groups == [{"strangers": 0, "proven": 1}] * 2


def test_both_dial_at_once(net):
    first, second = net.node(1), net.node(2)
    first.knows(second)
    second.knows(first)
    tickets = first.query(second, b"one"), second.query(first, b"two")
    net.run()
    assert first.answered() == {tickets[0]: b"ONE"}
    assert second.answered() == {tickets[1]: b"TWO"}
    for _ in range(2):
        first.send(second)
        second.send(first)
        net.run()
    assert states(first, second) == (State.READY, State.READY)
    assert (direct(first), direct(second)) == (2, 2)


def test_a_lost_confirmation_is_made_up_for(net, pair):
    first, second = pair
    net.lose = lambda source, *_: source == second.place
    first.query(second)
    net.run()
    assert states(first, second) == (State.FRESH, State.HALF)
    net.lose = lambda *_: False
    ticket = first.query(second)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}
    assert state(first, second) is State.READY


def test_a_peer_is_stale_after_two_minutes(net, ready):
    first, second = ready
    net.wait(118.0)
    assert state(first, second) is State.READY
    net.wait(5.0)
    assert states(first, second) == (State.STALE, State.STALE)


def test_a_stale_peer_is_probed_once_and_spoken_to_in_the_channel_meanwhile(net, ready):
    first, second = ready
    net.wait(125.0)
    before = direct(first)
    for _ in range(5):
        first.send(second)
    assert direct(first) == before + 1
    net.run()
    assert second.payloads() == [b"hello"] * 5


def test_a_stale_peer_is_probed_every_second_or_so(net, ready):
    first, second = ready
    net.wait(125.0)
    net.lose = lambda *_: True
    before = direct(first)
    for _ in range(100):
        first.send(second)
        net.wait(0.1)
    assert 7 <= direct(first) - before <= 20


def test_a_word_of_a_stale_peer_makes_it_ready(net, ready):
    first, second = ready
    net.wait(125.0)
    first.query(second)
    net.run()
    assert states(first, second) == (State.READY, State.READY)
    assert (direct(first), direct(second)) == (2, 1)


def test_a_message_into_silence_makes_a_peer_stale(net, ready):
    first, second = ready
    net.wait(10.0)
    net.lose = lambda *_: True
    first.send(second)
    net.wait(9.9)
    assert state(first, second) is State.READY
    net.wait(0.2)
    assert state(first, second) is State.STALE
    net.lose = lambda *_: False
    first.query(second)
    net.run()
    assert state(first, second) is State.READY


def test_what_a_peer_said_of_itself_is_forgotten_after_ten_minutes(net, ready):
    first, second = ready
    net.wait(605.0)
    second.send(first, b"lost?")
    net.wait(1.0)
    assert second.heard(NoAddress) == [NoAddress(first.id)]
    assert first.payloads() == []
    second.knows(first)
    net.run()
    assert first.payloads() == [b"lost?"]


def test_what_others_said_of_a_peer_lasts(net, ready):
    first, second = ready
    net.wait(605.0)
    first.send(second)
    net.run()
    assert second.payloads() == [b"hello"]
    assert first.heard(NoAddress) == []


def test_what_others_said_is_given_up_after_ten_minutes_of_trying(net, pair):
    first, second = pair
    net.lose = lambda *_: True
    for _ in range(650):
        first.send(second)
        net.wait(1.0)
    assert first.heard(NoAddress)[:1] == [NoAddress(second.id)]
    net.lose = lambda *_: False
    first.knows(second)
    net.run()
    assert second.payloads()


# --- queues ---


def test_messages_wait_for_an_address_and_leave_in_order(net):
    first, second = net.node(1), net.node(2)
    for i in range(5):
        first.send(second, bytes([i]))
    net.run()
    assert first.heard(NoAddress) == [NoAddress(second.id)]
    assert first.core.sizes()["queued"] > 0
    first.knows(second)
    net.run()
    assert second.payloads() == [bytes([i]) for i in range(5)]
    assert first.core.sizes()["queued"] == 0


def test_a_peer_can_be_reached_once_its_key_and_address_are_known(net):
    first, second = net.node(1), net.node(2)

    def reach(node, other):
        return node.core.reaches(net.now, node.id, other.id)

    assert not reach(first, second)
    first.send(second)
    assert not reach(first, second)
    first.core.add_peer(net.now, second.identity.public, [])
    assert not reach(first, second)
    first.knows(second)
    assert reach(first, second)
    net.run()
    assert reach(second, first), "it was heard"
    net.wait(599.0)
    assert reach(second, first)
    net.wait(3.0)
    assert not reach(second, first)
    assert reach(first, second), "others said where it is"


def test_a_key_without_address_is_not_enough(net):
    first, second = net.node(1), net.node(2)
    first.core.add_peer(net.now, second.identity.public, address_list([], START))
    first.send(second)
    net.run()
    assert first.heard(NoAddress) == [NoAddress(second.id)]
    first.knows(second)
    net.run()
    assert second.payloads() == [b"hello"]


def test_messages_wait_ten_seconds_and_are_then_asked_for_anew(net):
    first, second = net.node(1), net.node(2)
    first.send(second)
    net.wait(9.9)
    assert first.core.sizes()["queued"] > 0
    net.wait(0.2)
    assert first.core.sizes()["queued"] == 0
    assert first.drops() == {Drop.QUEUE_LATE: 1}
    first.knows(second)
    net.run()
    assert second.payloads() == []
    third = identity(3).id
    for _ in range(3):
        first.core.send(net.now, first.id, third, b"hello")
        net.wait(11.0)
    assert first.heard(NoAddress)[1:] == [NoAddress(third)] * 3


def test_a_queue_has_a_bound_for_each_peer_and_for_all(net):
    first = net.node(1, limits=Limits(queue_peer=2_000, queue_node=5_000))
    for peer in (2, 3, 4):
        for _ in range(3):
            first.core.send(net.now, first.id, identity(peer).id, bytes(980))
    assert first.core.sizes()["queued"] == 5 * 988
    assert first.drops() == {Drop.QUEUE_FULL: 4}


def test_a_peer_that_does_not_answer_gets_50_packets_and_two_a_second(net, pair):
    first, second = pair
    net.lose = lambda *_: True
    for i in range(80):
        first.send(second, bytes([i]))
    assert direct(first) == 50
    net.wait(5.05)
    assert direct(first) == 60
    net.wait(5.0)
    assert (direct(first), first.drops()) == (69, {Drop.QUEUE_LATE: 11})


def test_nothing_overtakes_what_waits_for_leave(net, pair):
    first, second = pair
    second.answers = None
    for i in range(55):
        first.send(second, bytes([i]))
    net.now += 1.0
    first.send(second, bytes([55]))
    net.wait(4.0)
    assert second.payloads() == [bytes([i]) for i in range(56)]


def test_what_waits_for_leave_goes_as_soon_as_there_is_a_channel(net, pair):
    first, second = pair
    for i in range(80):
        first.send(second, bytes([i]))
    second.send(first)
    net.run()
    assert second.payloads() == [bytes([i]) for i in range(80)]
    assert direct(first) == 50


# --- restarts ---


def test_a_dialler_that_restarts_is_heard_at_once(net, ready):
    first, second = ready
    again = restart(first)
    net.wait(101.0)
    again.knows(second)
    ticket = again.query(second)
    net.run()
    assert again.answered() == {ticket: b"HELLO"}
    assert second.heard(PeerReset) == [PeerReset(second.id, first.id)]
    second.send(again)
    again.send(second)
    net.run()
    assert states(again, second) == (State.READY, State.READY)


def test_a_listener_that_restarts_is_found_out_and_spoken_to_again(net, ready):
    first, second = ready
    again = restart(second)
    net.wait(101.0)
    lost = first.query(again, timeout=60.0)
    net.wait(11.0)
    assert again.drops() == {Drop.UNKNOWN: 1}
    also_lost = first.query(again, timeout=60.0)
    net.run()
    assert again.drops() == {Drop.UNKNOWN: 1, Drop.BEFORE_OUR_RESTART: 1}
    assert first.heard(PeerReset) == [PeerReset(first.id, second.id)]
    assert first.failed() == {lost: Closed, also_lost: Closed}

    ticket = first.query(again)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}
    first.send(again)
    net.run()
    again.send(first)
    net.run()
    assert states(first, again) == (State.READY, State.READY)


def test_both_restart(net, ready):
    first, second = ready
    net.wait(101.0)
    first, second = restart(first), restart(second)
    second.knows(first)
    ticket = second.query(first)
    net.run()
    assert second.answered() == {ticket: b"HELLO"}


def test_a_peer_that_only_forgot_us_is_spoken_to_again(net, ready):
    """It had to make room: its start is the same, its numbers go on."""
    first, second = ready
    peer = second.core._table.find((second.id, first.id))
    second.core._table._forget(peer)
    net.wait(6.0)
    first.send(second)
    net.wait(11.0)
    assert second.payloads() == []
    ticket = first.query(second)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}
    first.send(second)
    net.run()
    assert second.payloads() == [b"hello"]
    assert first.heard(PeerReset) == []


def test_a_dialler_that_only_forgot_us_is_spoken_to_again(net, ready):
    first, second = ready
    net.wait(2.0)
    first.core._table._forget(first.core._table.find((first.id, second.id)))
    ticket = first.query(second)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}
    first.send(second)
    net.run()
    assert second.payloads() == [b"hello"]
    assert second.drops() == {}


def test_waiting_messages_outlive_the_restart_of_their_peer(net, ready):
    first, second = ready
    again = restart(second)
    net.wait(605.0)
    second.core._table._contacts.clear()
    first.core._table._contacts.clear()
    first.send(again, b"late")
    again.send(first, b"early")
    net.run()
    assert first.heard(NoAddress)
    again.knows(first)
    net.run()
    assert first.payloads() == [b"early"]
    assert again.payloads() == [b"late"]


# --- clocks ---


@pytest.mark.parametrize(("ahead", "heard"), [(60, True), (61, False)])
def test_a_clock_may_be_a_minute_ahead(net, ahead, heard):
    now = int(net.now)
    first, second = net.node(1, started_at=now + ahead), net.node(2)
    first.knows(second)
    first.send(second)
    net.run()
    assert second.payloads() == ([b"hello"] if heard else [])
    assert second.drops() == ({} if heard else {Drop.AHEAD: 1})


def test_a_clock_far_behind_does_no_harm(net):
    first, second = net.node(1, started_at=1_000), net.node(2)
    first.knows(second)
    ticket = first.query(second)
    net.run()
    assert first.answered() == {ticket: b"HELLO"}


# --- what was recorded and is sent again ---


def test_a_packet_from_before_our_restart_moves_nobody(net, ready):
    """Whoever recorded it could else draw the peer's messages to himself."""
    first, second = ready
    net.wait(125.0)
    first.query(second)
    net.run()
    recorded = next(data for source, _, data in net.carried if source == first.place)
    again = restart(second, later=300)
    net.wait(176.0)
    first.query(again)
    net.run()
    first.send(again)
    net.run()

    thief = Endpoint("10.6.6.6", 6)
    again.core.receive(net.now, thief, recorded)
    sends, _ = again.core.drain()
    assert [send.to for send in sends] == [thief], "one nop, as it may be where the peer is now"
    again.send(first)
    net.run()
    assert net.carried[-1][1] == first.place
    assert first.heard(PeerReset) == [PeerReset(first.id, second.id)]


def test_a_greeting_sent_again_changes_nothing(net, pair):
    first, second = pair
    first.query(second)
    net.run()
    greeting = net.carried[0][2]
    first.send(second)
    net.run()
    before = states(first, second)
    second.core.receive(net.now, Endpoint("10.6.6.6", 6), greeting)
    net.run()
    assert second.drops() == {Drop.REPEATED: 1}
    assert states(first, second) == before == (State.READY, State.READY)
    second.send(first)
    net.run()
    assert net.carried[-1][1] == first.place
