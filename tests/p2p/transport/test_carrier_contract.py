"""What every carrier promises, run on each of them."""

from itertools import permutations

import pytest
import trio

from p2p.entropy import sample, seeded
from p2p.errors import Closed, LocalError
from p2p.identity import Identity
from p2p.wire import FRAME, MAX_FRAMES, MAX_MESSAGE, Kind, Link, Message, pack

# --- links come up ---


async def test_a_dial_brings_a_link_up_on_both_ends(net):
    left, right = await net.node(), await net.node()
    left.dial(right)

    _, near, near_dialled = await left.spy.next()
    _, far, far_dialled = await right.spy.next()

    assert (near.peer, far.peer) == (right.id, left.id)
    assert (near_dialled, far_dialled) == (True, False)
    assert near.number != far.number
    assert left.carrier.statistics().links == right.carrier.statistics().links == 1


async def test_a_node_that_only_dials_is_bound_to_nothing_and_reaches_others(net):
    left, right = await net.node(listen=None), await net.node()
    assert left.endpoint is None
    near, far = await net.linked(left, right)
    right.send(far, b"to the one who cannot be dialled")
    assert await left.receive() == [
        (near, Message(Kind.MESSAGE, 0, b"to the one who cannot be dialled"))
    ]


async def test_dialling_again_does_nothing_while_a_dial_or_a_link_is_there(net):
    left, right = await net.node(), await net.node()
    left.dial(right)
    left.dial(right)
    near, far = await left.spy.up(), await right.spy.up()
    left.dial(right)
    right.dial(left)

    left.send(near, b"one")
    assert await right.receive() == [(far, Message(Kind.MESSAGE, 0, b"one"))]
    assert not left.spy.heard
    assert not right.spy.heard


async def test_of_two_links_dialled_at_once_the_smaller_ids_stays(net):
    left, right = await net.node(), await net.node()
    smaller, larger = sorted((left, right), key=lambda peer: peer.id)
    left.dial(right)
    right.dial(left)

    near = await standing(smaller, dialled=True)
    far = await standing(larger, dialled=False)
    smaller.send(near, b"here")
    larger.send(far, b"there")
    assert await larger.receive() == [(far, Message(Kind.MESSAGE, 0, b"here"))]
    assert await smaller.receive() == [(near, Message(Kind.MESSAGE, 0, b"there"))]


async def standing(peer, *, dialled):
    """The link that is left once the peer has the one it should keep."""
    while True:
        what = await peer.spy.next()
        if what[0] == "up" and what[2] is dialled:
            return what[1]


# --- dials fail ---


async def test_a_dial_to_nobody_fails(net):
    left, right = await net.node(), await net.node()
    await right.stop()
    left.dial(right)
    assert await left.spy.next() == ("failed", right.id)
    assert left.carrier.statistics().dials_failed == 1


async def test_a_dial_without_endpoints_fails(net):
    left, right = await net.node(), await net.node(listen=None)
    left.dial(right)
    assert await left.spy.next() == ("failed", right.id)


async def test_a_dial_tries_every_endpoint(net):
    left, dead, right = await net.node(), await net.node(), await net.node()
    await dead.stop()
    left.carrier.dial(right.id, [dead.endpoint, right.endpoint])
    assert (await left.spy.up()).peer == right.id


async def test_whoever_answers_with_another_identity_is_refused(net):
    left, right = await net.node(), await net.node()
    other = Identity(seeded(99).token(32))
    left.carrier.dial(other.id, [right.endpoint])
    assert await left.spy.next() == ("failed", other.id)
    assert not right.spy.heard


async def test_a_knock_makes_a_link_or_is_told_to_nobody(net):
    left, dead, right = await net.node(), await net.node(), await net.node()
    await dead.stop()
    left.carrier.knock(right.id, dead.endpoint)
    left.carrier.knock(left.id, right.endpoint)
    await trio.testing.wait_all_tasks_blocked(0.2)
    assert not left.spy.heard
    left.carrier.knock(right.id, right.endpoint)
    assert (await left.spy.up()).peer == right.id
    left.carrier.knock(right.id, right.endpoint)
    await trio.testing.wait_all_tasks_blocked(0.2)
    assert not left.spy.heard


async def test_a_knock_stands_in_no_dials_way(net):
    left, dead, right = await net.node(), await net.node(), await net.node()
    await dead.stop()
    left.carrier.knock(right.id, dead.endpoint)
    left.dial(right)
    assert (await left.spy.up()).peer == right.id
    await trio.testing.wait_all_tasks_blocked(0.2)
    assert not left.spy.heard


async def test_a_dial_to_oneself_fails(net):
    left = await net.node()
    left.dial(left)
    assert await left.spy.next() == ("failed", left.id)


async def test_another_network_is_not_joined(net):
    left, right = await net.node(), await net.node(network=42)
    left.dial(right)
    assert await left.spy.next() == ("failed", right.id)
    assert not right.spy.heard


# --- messages ---


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.QUERY, Kind.ANSWER])
@pytest.mark.parametrize("size", [0, 1, 65_408, 65_536, 65_537, 200_000, MAX_MESSAGE])
async def test_messages_of_every_size_arrive_whole(net, kind, size):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    payload = seeded(size).token(size)
    left.send(near, payload, kind, 2**64 - 1)
    assert await right.receive() == [(far, Message(kind, 2**64 - 1, payload))]


@pytest.mark.parametrize("frames", [1, MAX_FRAMES])
async def test_onion_frames_arrive_as_they_were(net, frames):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    payload = seeded(1).token(frames * FRAME)
    left.send(near, payload, Kind.ONION)
    assert await right.receive() == [(far, Message(Kind.ONION, 0, payload))]


async def test_order_is_kept_both_ways(net):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    sizes = [seeded(3).below(3_000) if number % 50 else 150_000 for number in range(300)]
    for number, size in enumerate(sizes):
        left.send(near, bytes(size), number=number)
        right.send(far, bytes(size), number=number)

    for peer in (right, left):
        messages = [message for _, message in await peer.receive(len(sizes))]
        assert [message.number for message in messages] == list(range(len(sizes)))
        assert [len(message.payload) for message in messages] == sizes


async def test_onion_frames_go_ahead_of_what_waits(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    left.send(near, bytes(MAX_MESSAGE))
    left.send(near, bytes(FRAME), Kind.ONION)
    kinds = [message.kind for _, message in await right.receive(2)]
    assert kinds == [Kind.ONION, Kind.MESSAGE]


async def test_take_gives_no_more_than_its_limit(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    for number in range(10):
        left.send(near, number=number)
    taken = []
    with trio.fail_after(20):
        while len(taken) < 10:
            await right.carrier.wait()
            some = right.carrier.take(3)
            assert len(some) <= 3
            taken += some
    assert len(taken) == 10


async def test_links_do_not_mix(net):
    hub = await net.node()
    others = [await net.node(listen=None) for _ in range(5)]
    ends = []
    for other in others:
        near, far = await net.linked(other, hub)
        other.send(near, other.id)
        ends.append(far)
    assert {link: message.payload for link, message in await hub.receive(5)} == {
        end: other.id for end, other in zip(ends, others, strict=True)
    }


async def test_whoever_waits_for_messages_may_give_up_at_any_time(net, nursery):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    received = []
    with trio.fail_after(20):
        for number in range(200):
            left.send(near, bytes(2_000), number=number)
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_soon, scope)
                await right.carrier.wait()
            received += right.carrier.take()
        received += await right.receive(200 - len(received))
    assert len(received) == 200
    assert not right.spy.heard


async def cancel_soon(scope):
    await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_what_is_no_message_of_the_seam_is_our_own_bug(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    for data in (b"", pack(Message(Kind.PING, 0, b"")), bytes([0x81]) + bytes(8)):
        with pytest.raises(LocalError):
            left.carrier.send(0.0, near, data)


async def test_the_tap_sees_every_message_of_both_directions(net):
    seen = []
    left = await net.node(tap=lambda *what: seen.append(what))
    right = await net.node()
    near, far = await net.linked(left, right)
    left.send(near, b"out")
    right.send(far, b"in")
    await right.receive()
    await left.receive()
    assert seen == [
        (near, True, pack(Message(Kind.MESSAGE, 0, b"out"))),
        (near, False, pack(Message(Kind.MESSAGE, 0, b"in"))),
    ]


async def test_messages_are_counted_at_both_ends(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    left.send(near, bytes(100))
    await right.receive()
    sent, received = left.carrier.statistics(), right.carrier.statistics()
    assert (sent.sent, sent.bytes_sent) == (received.received, received.bytes_received) == (1, 109)


# --- links go down ---


@pytest.mark.parametrize("by_dialler", [True, False])
async def test_close_brings_the_link_down_on_both_ends(net, by_dialler):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    if by_dialler:
        left.carrier.close(near)
    else:
        right.carrier.close(far)
    assert (await left.spy.down(), await right.spy.down()) == (near, far)
    assert left.carrier.statistics().links == right.carrier.statistics().links == 0


async def test_what_was_sent_before_a_close_arrives_before_the_link_goes_down(net):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    left.send(near, bytes(MAX_MESSAGE))
    left.send(near, b"last words")
    left.carrier.close(near)

    messages = [message.payload for _, message in await right.receive(2)]
    assert messages == [bytes(MAX_MESSAGE), b"last words"]
    assert await right.spy.down() == far
    assert await left.spy.down() == near


async def test_a_link_that_is_gone_takes_nothing_and_complains_of_nothing(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    left.carrier.close(near)
    left.send(near, b"too late")
    await left.spy.down()
    left.send(near, b"later still")
    left.carrier.close(near)
    left.carrier.close(Link(right.id, 1 << 40))
    assert left.carrier.statistics().sent == 0
    assert left.carrier.statistics().dropped == 2


async def test_a_dial_right_after_a_close_brings_a_new_link(net):
    left, right = await net.node(), await net.node()
    near, far = await net.linked(left, right)
    left.carrier.close(near)
    left.dial(right)
    assert await left.spy.down() == near
    assert await right.spy.down() == far
    again, _ = await left.spy.up(), await right.spy.up()
    assert again.peer == near.peer
    assert again.number != near.number


async def test_the_death_of_a_peer_is_noticed(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    await right.stop()
    assert await left.spy.down() == near


async def test_a_peer_that_died_can_be_dialled_again(net):
    left, right = await net.node(), await net.node()
    await net.linked(left, right)
    await right.stop()
    await left.spy.down()

    left.dial(right)
    assert await left.spy.next() == ("failed", right.id)
    back = await net.node(identity=right.identity)
    near, far = await net.linked(left, back)
    left.send(near, b"welcome back")
    assert await back.receive() == [(far, Message(Kind.MESSAGE, 0, b"welcome back"))]


async def test_a_peer_that_never_reads_costs_a_bounded_queue_and_its_link(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    for _ in range(400):  # 25 MB, more than all the bounds on the way
        left.send(near, bytes(64_000))
        await trio.lowlevel.checkpoint()
        assert left.carrier.statistics().outbox <= 80
        assert right.carrier.statistics().inbox <= 80
    assert await left.spy.down() == near


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_dialled_and_closed_each_pair_ends_with_one_link_or_none(net, seed):
    entropy = seeded(seed)
    nodes = [await net.node() for _ in range(4)]
    for _ in range(120):
        one, other = sample(entropy, nodes, 2)
        link = one.spy.links.get(other.id)
        if link is None or entropy.below(4) == 0:
            one.dial(other)
        elif entropy.below(2):
            one.carrier.close(link)
        else:
            one.send(link, bytes(entropy.below(100_000)))
        for _ in range(entropy.below(20)):
            await trio.lowlevel.checkpoint()
        one.carrier.take()

    with trio.fail_after(20):
        while any([await is_busy(node) for node in nodes]):
            pass
    for one, other in permutations(nodes, 2):
        assert (one.id in other.spy.links) == (other.id in one.spy.links)
    assert sum(node.carrier.statistics().closed for node in nodes) == 0


async def is_busy(node):
    """Whether a node has something to do still; takes what has arrived."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    statistics = node.carrier.statistics()
    return bool(node.carrier.take()) or statistics.dialling + statistics.outbox > 0


async def test_a_listener_may_use_the_carrier_from_its_calls(net):
    left, right = await net.node(), await net.node()

    def greet(what, link, *_):
        if what == "up":
            right.send(link, b"at once")

    def dial_again(what, *_):
        if what == "down":
            left.dial(right)

    right.spy.react, left.spy.react = greet, dial_again
    left.dial(right)
    first = await left.spy.up()
    assert await left.receive() == [(first, Message(Kind.MESSAGE, 0, b"at once"))]

    left.carrier.close(first)
    assert await left.spy.down() == first
    second = await left.spy.up()
    assert await left.receive() == [(second, Message(Kind.MESSAGE, 0, b"at once"))]


# --- the run ends ---


async def test_cancelling_the_run_ends_its_links_and_its_tasks(net):
    right = await net.node()
    tasks = trio.lowlevel.current_statistics().tasks_living
    left = await net.node()
    near, far = await net.linked(left, right)
    left.carrier.dial(Identity(seeded(98).token(32)).id, [right.endpoint])
    left.send(near, bytes(MAX_MESSAGE))
    await left.stop()

    assert ("down", near) in left.spy.heard
    assert await right.spy.down() == far
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    with pytest.raises(Closed):
        left.carrier.take()


async def test_after_the_run_nothing_is_dialled_or_sent(net):
    left, right = await net.node(), await net.node()
    near, _ = await net.linked(left, right)
    await left.stop()
    left.dial(right)
    left.send(near, b"from beyond")
    left.carrier.close(near)
    await trio.testing.wait_all_tasks_blocked()
    assert [what for what, *_ in left.spy.heard] == ["down"]
