"""Shaping level 2: a line that looks the same whether its owner asks or sleeps."""

from itertools import pairwise

import pytest

from p2p import defaults
from p2p.errors import OnionError
from p2p.onion.cell import FRAME_SIZE, Command, Frame
from p2p.onion.core import Data, Ended, Misbehaved, Opened
from p2p.onion.link import Pace
from p2p.onion.paces import TENTHS


def street(net, *, clients=1):
    """(clients, relays, worker): clients that keep their line paced; links are up."""
    relays = [net.add(f"relay{i}", relay=True) for i in range(3)]
    worker = net.add("worker", endpoint=True)
    asking = [net.add(f"client{i}", always=True) for i in range(clients)]
    net.answer["worker"] = accept
    for client in asking:
        net.call(client, lambda core, now: core.keep_pace(now))
    net.run(2.0)
    return asking, relays, worker


def accept(net, peer, event):
    net.call(peer, lambda core, now: core.accept(now, event.circuit, b"offer", rate=4))
    peer.circuit = event.circuit


def guard_of(client):
    ((guard, _),) = client.links.values()
    return guard


def line(net, client, since):
    """What a tap on the client's line sees from then on: time, whether outwards, and size."""
    return [
        (when - since, sender is client, len(data))
        for when, sender, receiver, data in net.frames
        if client in (sender, receiver) and when >= since
    ]


def asks(net, client, relays, worker):
    """A question through the client's guard, answered after five seconds."""
    guard = guard_of(client)
    rest = [relay for relay in relays if relay is not guard]
    path = net.path(guard, *rest, worker)
    circuit = net.call(client, lambda core, now: core.open(now, path, b"want", rate=4))
    net.until(lambda: client.said(Opened))
    net.send(client, circuit, b"q" * 9_000)
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended))
    net.run(5.0)
    net.send(worker, worker.circuit, b"a" * 3_000)
    net.end(worker, worker.circuit)
    net.until(lambda: client.said(Ended))
    assert client.heard(circuit) == b"a" * 3_000
    net.call(client, lambda core, now: core.close(now, circuit))


def test_a_line_carries_one_frame_in_each_slot_both_ways(net):
    (client,), _, _ = street(net)
    began = net.now
    net.run(60.0)
    for outwards in (True, False):
        seen = [(when, size) for when, way, size in line(net, client, began) if way is outwards]
        assert len(seen) == 60 * defaults.LINK_PACE
        assert {size for _, size in seen} == {FRAME_SIZE}
        gaps = {round(b[0] - a[0], 4) for a, b in pairwise(seen)}
        assert gaps == {1 / defaults.LINK_PACE}


def test_a_question_does_not_show_on_the_line(make_net):
    lines = []
    for is_asked in (False, True):
        net = make_net(3)
        (client,), relays, worker = street(net)
        began = net.now
        if is_asked:
            asks(net, client, relays, worker)
            assert client.said(Data)
        net.run(began + 90.0 - net.now)
        lines.append(line(net, client, began))
    assert lines[0] == lines[1]


def test_what_is_asked_is_known_to_be_hidden(net):
    (client,), relays, worker = street(net)
    path = net.path(guard_of(client), *[r for r in relays if r is not guard_of(client)], worker)
    circuit = net.call(client, lambda core, now: core.open(now, path, b"want", rate=4))
    net.until(lambda: client.said(Opened))
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.run(4.0)
    assert client.core.shape(circuit).always


def test_a_guard_has_so_many_and_no_more(net, monkeypatch):
    monkeypatch.setattr(defaults, "PACED_LINKS", 2)
    asking, relays, _ = street(net, clients=9)
    paced = {relay.name: relay.core.sizes()["paced"] for relay in relays}
    assert max(paced.values()) == 2
    busy = next(relay for relay in relays if len(relay.links) > 2)
    refused = [client for client in asking if guard_of(client) is busy]
    net.run(1.0)
    granted = [link.granted for c in refused for link in c.core._links._by_number.values()]
    assert granted.count(True) == 2


def test_it_is_asked_anew_and_ends_with_the_asking(net, monkeypatch):
    monkeypatch.setattr(defaults, "PACE_LIFE", 40.0)
    (client,), _, _ = street(net)
    guard = guard_of(client)
    net.run(200.0)
    assert guard.core.sizes()["paced"] == 1
    net.cut = lambda now, sender, receiver, data: None if sender is client else data
    net.run(41.0)
    assert guard.core.sizes()["paced"] == 0
    net.frames.clear()
    net.run(1.2)
    assert not [frame for frame in net.frames if frame[1] is guard]


def test_a_lost_line_is_made_anew(net):
    (client,), _, _ = street(net)
    guard = guard_of(client)
    for end in list(client.links):
        net._hang_up(client, end)
    assert guard.core.sizes()["paced"] == 0
    net.run(11.0)
    assert guard_of(client) is guard
    assert guard.core.sizes()["paced"] == 1


@pytest.mark.parametrize("body", [b"", bytes(7), Pace(TENTHS, 60).pack() + b"\0"])
def test_a_pace_of_a_wrong_size_is_an_offence(net, body):
    with pytest.raises(OnionError):
        Pace.unpack(body)
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(0.1)
    net.inject(client, relay, Frame(0, Command.PACE, 0, body).pack(net.entropy))
    net.run(0.1)
    assert relay.said(Misbehaved)


def test_a_pace_that_nobody_asked_for_is_an_offence(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(0.1)
    net.inject(relay, client, Frame(0, Command.PACE, 0, Pace(TENTHS, 60).pack()).pack(net.entropy))
    net.run(0.1)
    assert client.said(Misbehaved)


@pytest.mark.parametrize("pace", [Pace(TENTHS + 1, 60), Pace(0, 60), Pace(TENTHS, 0)])
def test_another_rate_is_not_granted(net, pace):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(0.1)
    net.inject(client, relay, Frame(0, Command.PACE, 0, pace.pack()).pack(net.entropy))
    net.run(0.1)
    assert relay.core.sizes()["paced"] == 0
