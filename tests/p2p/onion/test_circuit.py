"""The two ends of a circuit: set-up, use, and every way it ends."""

import pytest

from p2p import defaults
from p2p.onion.cell import Code, FailCode
from p2p.onion.core import (
    BAD_REPLY,
    DESTROYED,
    GUARD_UNREACHABLE,
    TIMED_OUT,
    Data,
    Ended,
    Failed,
    Incoming,
    Lost,
    Opened,
    Pong,
    Reset,
)
from p2p.onion.handshake import Target

# --- set-up ---


def opened(net, client, path):
    circuit = net.open(client, path)
    net.until(lambda: client.said(Opened, circuit))
    return circuit


def test_endpoint_may_refuse_with_words(town):
    net, client, relays, worker = town
    net.answer["worker"] = lambda net, peer, event: net.call(
        peer, lambda core, now: core.refuse(now, event.circuit, b"busy")
    )
    circuit = net.open(client, net.path(*relays[:3], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 3, Code.REFUSED, b"busy")]
    net.run(1)
    assert all(peer.core.sizes()["relay.passages"] == 0 for peer in relays)


def test_endpoint_that_says_nothing_refuses_after_6_seconds(town):
    net, client, relays, worker = town
    net.answer.clear()
    began = net.now
    circuit = net.open(client, net.path(relays[0], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 1, Code.REFUSED, b"")]
    assert net.now - began == pytest.approx(6, abs=0.1)
    assert worker.said(Lost)
    far = worker.said(Incoming)[0].circuit
    net.call(worker, lambda core, now: core.accept(now, far, b"too late"))


def test_dead_guard_is_said_so(town):
    net, client, relays, worker = town
    net.kill(relays[0])
    circuit = net.open(client, net.path(relays[0], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, None, GUARD_UNREACHABLE)]


@pytest.mark.parametrize("dead", [1, 2, 3])
def test_dead_hop_is_told_by_the_one_before_it(town, dead):
    net, client, relays, worker = town
    hops = [*relays[:3], worker]
    net.kill(hops[dead])
    circuit = net.open(client, net.path(*hops))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, dead - 1, Code.UNREACHABLE)]


@pytest.mark.parametrize("mute", [0, 1, 2, 3])
def test_hop_that_swallows_everything_is_told_by_the_one_before_it(town, mute):
    net, client, relays, worker = town
    hops = [*relays[:3], worker]
    net.cut = lambda now, sender, receiver, data: None if sender is hops[mute] else data
    began = net.now
    circuit = net.open(client, net.path(*hops))
    net.until(lambda: client.said(Failed))
    if mute == 0:
        assert client.said(Failed)[0].status == TIMED_OUT
    else:
        assert client.said(Failed) == [Failed(circuit, mute - 1, Code.UNREACHABLE)]
    assert net.now - began <= 10


def test_guard_that_destroys_is_said_so(town, monkeypatch):
    net, client, relays, worker = town
    monkeypatch.setattr(defaults, "CIRCUITS_UNLISTED", 0)
    circuit = net.open(client, net.path(relays[0], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, None, DESTROYED)]


def test_reply_that_was_tampered_with_fails(town):
    net, client, relays, worker = town

    def flip(now, sender, receiver, data):
        if receiver is client and len(data) >= 2400:
            return data[:-1300] + bytes([data[-1300] ^ 1]) + data[-1299:]
        return data

    net.cut = flip
    circuit = net.open(client, net.path(relays[0], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, None, BAD_REPLY)]


def test_advert_with_a_useless_key_fails(town):
    net, client, relays, worker = town
    circuit = net.open(client, [Target(id=relays[0].id, onion_key=bytes(32)), net.target(worker)])
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, None, BAD_REPLY)]


def test_stranger_is_not_taken_by_an_endpoint_that_wants_relays(net, say_yes):
    worker, client = net.add("worker", endpoint=True), net.add("client")
    net.answer["worker"] = say_yes
    circuit = net.open(client, net.path(worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 0, Code.NOT_ROLE)]
    assert not worker.said(Incoming)


def test_many_circuits_share_links(town):
    net, client, relays, worker = town
    circuits = [net.open(client, net.path(*relays[:3], worker), b"%d" % i) for i in range(30)]
    net.until(lambda: len(client.said(Opened)) == 30)
    assert {event.offer for event in client.said(Opened)} == {
        b"offer for %d" % i for i in range(30)
    }
    assert client.core.sizes()["links.links"] == 1
    assert len(set(circuits)) == 30


def test_close_while_it_builds_says_nothing_more(town):
    net, client, relays, worker = town
    circuit = net.open(client, net.path(*relays[:3], worker))
    net.run(0.055)
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(40)
    assert not client.said(Opened)
    assert not client.said(Failed)
    assert not client.said(Lost)
    assert all(peer.core.sizes()["relay.passages"] == 0 for peer in relays)


# --- while it is open ---


def test_ping_comes_back(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    net.call(client, lambda core, now: core.ping(now, circuit))
    net.until(lambda: client.said(Pong, circuit))


def test_reset_reaches_the_other_end(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:2], worker))
    far = worker.said(Incoming)[0].circuit
    net.send(client, circuit, b"question")
    net.until(lambda: worker.said(Data, far))
    net.call(client, lambda core, now: core.reset(now, circuit, 1, 3))
    net.until(lambda: worker.said(Reset))
    assert worker.said(Reset) == [Reset(far, 1, 3)]


def test_several_streams_do_not_mix(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    far = worker.said(Incoming)[0].circuit
    for stream in (1, 2, 3):
        net.send(client, circuit, b"%d" % stream * 5_000, stream)
        net.end(client, circuit, stream)
    net.until(lambda: len(worker.said(Ended)) == 3)
    for stream in (1, 2, 3):
        assert worker.heard(far, stream) == b"%d" % stream * 5_000


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_relay_killed_in_mid_answer_is_known_at_both_ends(town, dead):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    far = worker.said(Incoming)[0].circuit
    net.send(client, circuit, b"question")
    net.until(lambda: worker.said(Data))
    net.send(worker, far, bytes(500_000))
    net.run(0.2)

    net.kill(relays[dead])
    net.until(lambda: client.said(Lost) and worker.said(Lost))
    before = dead - 1 if dead else None
    assert client.said(Lost) == [Lost(circuit, before, FailCode.NEXT_LOST if dead else 0)]
    assert worker.said(Lost) == [Lost(far, None)]
    net.run(31)
    assert all(
        peer.core.sizes()["relay.passages"] == 0 for peer in relays if peer is not relays[dead]
    )


def test_worker_killed_in_mid_answer_is_told_by_the_last_relay(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    net.kill(worker)
    net.until(lambda: client.said(Lost))
    assert client.said(Lost) == [Lost(circuit, 2, FailCode.NEXT_LOST)]


def test_client_that_dies_is_known_to_the_worker(town):
    net, client, relays, worker = town
    opened(net, client, net.path(*relays[:3], worker))
    net.kill(client)
    net.until(lambda: worker.said(Lost))
    assert worker.said(Lost)[0].hop is None


def test_close_ends_it_everywhere(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    net.call(client, lambda core, now: core.close(now, circuit))
    net.until(lambda: worker.said(Lost))
    net.run(31)
    for peer in (client, worker, *relays):
        sizes = peer.core.sizes()
        assert sizes["circuits.circuits"] == sizes["relay.passages"] == sizes["links.ports"] == 0


def test_commands_on_a_gone_circuit_do_nothing(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    net.call(client, lambda core, now: core.close(now, circuit))
    for command in (
        lambda core, now: core.send(now, circuit, 1, b"x"),
        lambda core, now: core.end(now, circuit, 1),
        lambda core, now: core.reset(now, circuit, 1, 0),
        lambda core, now: core.ping(now, circuit),
        lambda core, now: core.close(now, circuit),
        lambda core, now: core.accept(now, circuit, b""),
        lambda core, now: core.refuse(now, circuit, b""),
    ):
        net.call(client, command)
    assert net.call(client, lambda core, now: core.writable(circuit)) == 0


def test_idle_circuit_is_closed_after_10_minutes(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    net.run(400)
    net.call(client, lambda core, now: core.ping(now, circuit))
    net.run(400)
    assert not client.said(Lost)
    net.run(250)
    assert client.said(Lost) == [Lost(circuit, None)]
    assert worker.said(Lost)


def test_no_circuit_lives_longer_than_an_hour(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:2], worker))
    for _ in range(12):
        net.call(client, lambda core, now: core.ping(now, circuit))
        net.run(301)
    assert client.said(Lost)
    assert worker.said(Lost)
    assert all(relay.core.sizes()["relay.passages"] == 0 for relay in relays)
