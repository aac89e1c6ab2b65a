"""A relay: who may build through it, what passes, and how it ends."""

import pytest

from p2p import defaults
from p2p.entropy import seeded
from p2p.onion.cell import Code, Command, FailCode, Frame
from p2p.onion.core import DESTROYED, Data, Failed, Incoming, Lost, Misbehaved, OnionKeys, Opened
from p2p.onion.noise import public_key
from p2p.onion.relay import DAY, ReplayWindow

FRAME = 1200
NOW = 1_800_000_000.0
TODAY = int(NOW) // DAY


def frames_of(data):
    return [Frame.unpack(data[at : at + FRAME]) for at in range(0, len(data), FRAME)]


def opened(net, client, path):
    circuit = net.open(client, path)
    net.until(lambda: client.said(Opened, circuit))
    return circuit


# --- onion keys ---


def test_key_of_a_day_is_drawn_once():
    keys = OnionKeys(seeded(1))
    assert keys.public(TODAY) == keys.public(TODAY) != keys.public(TODAY + 1)


def test_yesterday_s_key_is_accepted_and_then_deleted():
    keys = OnionKeys(seeded(1))
    first = keys.public(TODAY)
    assert [public_key(key) for key in keys.accepted(NOW)] == [first]

    tomorrow = NOW + DAY
    assert [public_key(key) for key in keys.accepted(tomorrow)] == [keys.public(TODAY + 1), first]
    assert [public_key(key) for key in keys.accepted(tomorrow + DAY)] == [
        keys.public(TODAY + 2),
        keys.public(TODAY + 1),
    ]
    assert keys.public(TODAY) != first


def test_only_keys_from_before_a_restart_outlive_it():
    keys = OnionKeys(seeded(1), {TODAY: bytes(31) + b"k"})
    assert keys.outlived_restart()
    keys.accepted(NOW + 2 * DAY)
    assert not keys.outlived_restart()
    assert not OnionKeys(seeded(1)).outlived_restart()


# --- replays ---


def test_tag_is_new_once():
    window = ReplayWindow()
    assert window.enter(NOW, b"e")
    assert not window.enter(NOW + 1, b"e")
    assert window.enter(NOW + 1, b"other")


@pytest.mark.parametrize("start", [0, 1, 399])
def test_tag_is_known_as_long_as_its_create_is_fresh(start):
    window = ReplayWindow()
    window.enter(NOW, b"first")
    window.enter(NOW + start, b"e")
    assert not window.enter(NOW + start + sum(defaults.CREATE_WINDOW), b"e")


def test_old_tags_are_forgotten():
    window = ReplayWindow()
    for i in range(1_000):
        window.enter(NOW + i, b"%d" % i)
    assert len(window) <= 800
    window.enter(NOW + 5_000, b"late")
    assert len(window) == 1


def creates_to(net, receiver):
    """The whole CREATEs that went to a node, as (sender, bytes of both frames)."""
    found = []
    for _, sender, other, data in net.frames:
        if other is receiver:
            raw = [data[at : at + FRAME] for at in range(0, len(data), FRAME)]
            raw = [frame for frame in raw if Frame.unpack(frame).command is Command.CREATE]
            found += [(sender, b"".join(raw))] if raw else []
    return found


def renumbered(frames, circuit):
    return b"".join(
        circuit.to_bytes(4, "little") + frames[at + 4 : at + FRAME]
        for at in range(0, len(frames), FRAME)
    )


@pytest.mark.parametrize("hop", [0, 1, 2, 3])
def test_replayed_create_is_destroyed_at_every_hop(town, hop):
    net, client, relays, worker = town
    hops = [*relays[:3], worker]
    opened(net, client, net.path(*hops))
    sender, frames = creates_to(net, hops[hop])[0]
    top = int.from_bytes(frames[:4], "little") & (1 << 31)

    before = hops[hop].core.statistics()
    net.inject(sender, hops[hop], renumbered(frames, top | 12345))
    net.run(1)
    after = hops[hop].core.statistics()
    assert after.creates["destroyed"] == before.creates.get("destroyed", 0) + 1
    assert (after.passages, after.circuits) == (before.passages, before.circuits)


def test_replay_over_another_link_is_destroyed(town):
    net, client, relays, worker = town
    opened(net, client, net.path(relays[0], worker))
    _, frames = creates_to(net, relays[0])[0]
    thief = net.add("thief")
    net.connect(thief, relays[0])
    net.run(0.1)
    net.inject(thief, relays[0], renumbered(frames, 1 << 31 | 5))
    net.run(1)
    assert relays[0].core.statistics().creates["destroyed"] == 1


def test_relay_that_kept_its_key_over_a_restart_is_quiet(net, say_yes):
    kept = {int(net.now) // DAY: bytes(31) + b"k"}
    relay = net.add("relay", relay=True, loaded=kept)
    worker, client = net.add("worker", endpoint=True), net.add("client")
    net.answer["worker"] = say_yes
    circuit = net.open(client, net.path(relay, worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 0, Code.STALE)]

    net.run(121)
    opened(net, client, net.path(relay, worker))


def test_relay_with_a_fresh_key_serves_at_once(town):
    net, client, relays, worker = town
    opened(net, client, net.path(relays[0], worker))
    assert net.now - NOW < 1


@pytest.mark.parametrize(("skew", "good"), [(-361, False), (-200, True), (59, True), (121, False)])
def test_create_must_be_of_now(town, skew, good):
    net, client, relays, worker = town
    client.skew = skew
    circuit = net.open(client, net.path(relays[0], worker))
    net.until(lambda: client.said(Failed) or client.said(Opened))
    assert client.said(Failed) == ([] if good else [Failed(circuit, 0, Code.STALE)])


# --- admission ---


def test_next_must_be_in_the_directory(town):
    net, client, relays, _ = town
    stranger = net.add("stranger")
    circuit = net.open(client, net.path(relays[0], relays[1], stranger))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 1, Code.UNKNOWN_NEXT)]


def test_relay_is_not_its_own_next(town):
    net, client, relays, worker = town
    circuit = net.open(client, net.path(relays[0], relays[0], worker))
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, 0, Code.UNKNOWN_NEXT)]


def test_worker_is_no_relay_and_relay_no_worker(town):
    net, client, relays, worker = town
    for path, hop in ((net.path(worker, relays[0]), 0), (net.path(relays[0], relays[1]), 1)):
        circuit = net.open(client, path)
        net.until(lambda circuit=circuit: client.said(Failed, circuit))
        assert client.said(Failed, circuit) == [Failed(circuit, hop, Code.NOT_ROLE)]


def test_create_sealed_to_another_key_is_destroyed(town):
    net, client, relays, worker = town
    path = net.path(relays[0], worker)
    path[0] = type(path[0])(id=relays[0].id, onion_key=net.target(relays[1]).onion_key)
    circuit = net.open(client, path)
    net.until(lambda: client.said(Failed))
    assert client.said(Failed) == [Failed(circuit, None, DESTROYED)]


def test_client_with_yesterday_s_key_is_served(town):
    net, client, relays, worker = town
    path = net.path(*relays[:3], worker)
    net.now += DAY - net.now % DAY + 3_600
    opened(net, client, path)

    net.now += DAY
    circuit = net.open(client, path)
    net.until(lambda: client.said(Failed))
    assert client.said(Failed, circuit)[0].hop is None


def test_creates_of_a_stranger_are_limited(town):
    net, client, relays, worker = town
    for _ in range(120):
        net.open(client, net.path(relays[0], worker))
    net.until(lambda: len(client.said(Failed)) + len(client.said(Opened)) == 120)
    assert len(client.said(Opened)) == defaults.CREATES_UNLISTED[1]
    assert {event.status for event in client.said(Failed)} == {DESTROYED}


def test_open_circuits_of_a_stranger_are_limited(town):
    net, client, relays, worker = town
    for _ in range(10):
        for _ in range(10):
            net.open(client, net.path(relays[0], worker))
        net.run(2)
    assert len(client.said(Opened)) == defaults.CIRCUITS_UNLISTED
    assert relays[0].core.sizes()["relay.passages"] == defaults.CIRCUITS_UNLISTED


def test_circuits_of_a_node_are_limited(town, monkeypatch):
    net, _, relays, worker = town
    monkeypatch.setattr(defaults, "CIRCUITS_NODE", 3)
    for i in range(5):
        net.open(net.add(f"client{i}"), net.path(relays[0], worker))
    net.run(2)
    assert relays[0].core.sizes()["relay.passages"] == 3


def test_half_creates_are_bounded_and_forgotten(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(0.1)
    net.cut = lambda now, sender, receiver, data: None  # the DESTROYs would be news to the client
    for i in range(100):
        frame = Frame(1 << 31 | (i + 1), Command.CREATE, 1, bytes(1192))
        net.inject(client, relay, frame.pack(seeded(1)))
    net.run(0.1)
    assert relay.core.sizes()["links.halves"] == defaults.HALF_CREATES
    net.run(6)
    assert relay.core.sizes()["links.halves"] == 0
    assert relay.core.statistics().strikes == 0


# --- limits of what passes ---


def test_over_sender_loses_the_circuit_and_gets_a_strike(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    port = client.core._circuits._circuits[circuit].port
    port.credit = 10_000
    net.cut = lambda now, sender, receiver, data: None if receiver is client else data
    net.send(client, circuit, bytes(500_000))
    net.run(0.01)
    assert [event.reason for event in relays[0].said(Misbehaved)] == ["more cells than credit"]
    assert relays[0].core.sizes()["relay.passages"] == 0
    net.run(1)
    assert worker.said(Lost)


def test_stalled_reader_costs_64_cells_a_hop(town):
    net, client, relays, worker = town
    circuits = [opened(net, client, net.path(*relays[:3], worker)) for _ in range(3)]
    for circuit in circuits:
        net.send(client, circuit, b"question")
    net.run(1)

    def mute(now, sender, receiver, data):
        """The client reads, and never returns credit."""
        kept = [
            frame.pack(seeded(1)) for frame in frames_of(data) if frame.command != Command.CREDIT
        ]
        return b"".join(kept) or None if sender is client else data

    net.cut = mute
    for event in worker.said(Incoming):
        net.send(worker, event.circuit, bytes(1_000_000))
    net.run(30)
    for relay in relays[:3]:
        assert relay.core.statistics().queue_bytes <= 3 * 64 * FRAME
    assert len(client.heard(circuits[0])) <= 64 * 1116


def test_queues_of_a_node_are_bounded_by_ending_the_oldest(town, monkeypatch):
    net, client, relays, worker = town
    monkeypatch.setattr(defaults, "QUEUES_HIGH", 100 * FRAME)
    monkeypatch.setattr(defaults, "QUEUES_LOW", 50 * FRAME)
    circuits = [opened(net, client, net.path(relays[0], worker)) for _ in range(4)]
    for circuit in circuits:
        net.send(client, circuit, b"question")
    net.run(1)
    drop = Command.CREDIT
    net.cut = lambda now, sender, receiver, data: (
        b"".join(f.pack(seeded(1)) for f in frames_of(data) if f.command != drop) or None
        if sender is client
        else data
    )
    for event in worker.said(Incoming):
        net.send(worker, event.circuit, bytes(300_000))
        net.run(1)
    assert relays[0].core.statistics().queue_bytes <= 100 * FRAME
    assert relays[0].core.statistics().destroys["limits"] >= 1
    assert client.said(Lost)[0].circuit == circuits[0]


# --- fates ---


def test_tampered_cell_dies_at_the_next_hop_and_is_told(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))

    def flip(now, sender, receiver, data):
        if sender is relays[0] and receiver is relays[1] and data[4] == Command.CELL:
            return data[:50] + bytes([data[50] ^ 1]) + data[51:]
        return data

    net.cut = flip
    net.send(client, circuit, b"question")
    net.until(lambda: client.said(Lost) and worker.said(Lost))
    assert client.said(Lost) == [Lost(circuit, 1, FailCode.BAD_CELL)]
    assert not worker.said(Data)


@pytest.mark.parametrize("hop", [0, 1, 2])
def test_cell_tampered_on_the_way_back_never_reaches_the_asker(town, hop):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    net.send(client, circuit, b"question")
    net.run(1)
    receiver_of = [client, relays[0], relays[1]][hop]

    def flip(now, sender, receiver, data):
        if sender is relays[hop] and receiver is receiver_of and data[4] == Command.CELL:
            return data[:50] + bytes([data[50] ^ 1]) + data[51:]
        return data

    net.cut = flip
    net.send(worker, worker.said(Incoming)[0].circuit, b"answer")
    net.until(lambda: client.said(Lost) and worker.said(Lost))
    assert not client.said(Data)


def test_late_frames_of_a_gone_circuit_are_no_offence(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    net.send(client, circuit, b"question")
    net.run(1)
    far = worker.said(Incoming)[0].circuit
    net.send(worker, far, bytes(300_000))
    net.run(0.05)
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(60)
    assert all(peer.core.statistics().strikes == 0 for peer in (client, worker, *relays))


def test_circuit_s_number_is_free_again_after_30_seconds(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(29)
    assert relays[0].core.sizes()["links.ports"] > 0
    net.run(2)
    assert relays[0].core.sizes()["links.ports"] == 0


def test_queue_that_a_dead_end_does_not_take_is_dropped(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    net.send(client, circuit, b"question")
    net.run(1)
    drop = Command.CREDIT
    net.cut = lambda now, sender, receiver, data: (
        b"".join(f.pack(seeded(1)) for f in frames_of(data) if f.command != drop) or None
        if sender is client
        else data
    )
    net.send(worker, worker.said(Incoming)[0].circuit, bytes(300_000))
    net.run(1)
    net.kill(worker)
    net.run(5)
    assert relays[0].core.statistics().queue_bytes > 0
    assert not client.said(Lost)
    net.run(6)
    assert relays[0].core.statistics().queue_bytes == 0
    assert client.said(Lost) == [Lost(circuit, None)]


def test_a_hop_has_one_last_word(town):
    net, client, relays, worker = town
    opened(net, client, net.path(*relays[:2], worker))
    ahead = next(iter(relays[0].core._relay._passages.values())).ahead
    fail = Frame(ahead.circuit, Command.FAIL, 0, bytes(1192 - 16)).pack(seeded(1))
    net.frames.clear()
    net.inject(relays[1], relays[0], fail * 5)
    net.run(1)
    back = [f for _, _, to, data in net.frames if to is client for f in frames_of(data)]
    assert [frame.command for frame in back].count(Command.FAIL) == 1
    assert relays[0].core.sizes()["relay.passages"] == 0


def test_cell_after_the_last_word_ends_the_circuit(town):
    net, client, relays, worker = town
    opened(net, client, net.path(*relays[:2], worker))
    ahead = next(iter(relays[0].core._relay._passages.values())).ahead
    commands = [Command.FAIL, Command.CELL]
    body = bytes(1192 - 16)
    data = b"".join(Frame(ahead.circuit, c, 0, body).pack(seeded(1)) for c in commands)
    net.frames.clear()
    net.inject(relays[1], relays[0], data)
    net.run(1)
    back = [f.command for _, _, to, data in net.frames if to is client for f in frames_of(data)]
    assert [command for command in back if command != Command.PADDING] == [
        Command.FAIL,
        Command.DESTROY,
    ]


def test_fail_from_the_client_s_side_ends_the_circuit(town):
    net, client, relays, worker = town
    opened(net, client, net.path(*relays[:2], worker))
    behind = next(iter(relays[0].core._relay._passages.values())).behind
    fail = Frame(behind.circuit, Command.FAIL, 0, bytes(1192)).pack(seeded(1))
    net.inject(client, relays[0], fail)
    net.until(lambda: worker.said(Lost) and client.said(Lost))


def test_ended_circuit_forgets_its_other_side(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    passage = next(iter(relays[0].core._relay._passages.values()))
    ports = [passage.behind, passage.ahead]
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(1)
    assert [port.feeds for port in ports] == [None, None]
