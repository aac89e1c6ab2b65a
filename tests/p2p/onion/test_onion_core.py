"""Whole circuits between cores in memory, in virtual time."""

import gc
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p import defaults
from p2p.entropy import seeded
from p2p.onion.cell import Command, Frame
from p2p.onion.core import Data, Ended, Failed, Incoming, Lost, Opened

FRAME = 1200


def frames_of(data):
    return [Frame.unpack(data[at : at + FRAME]) for at in range(0, len(data), FRAME)]


def opened(net, client, path):
    circuit = net.open(client, path)
    net.until(lambda: client.said(Opened, circuit))
    return circuit


@pytest.mark.parametrize("relays", [0, 1, 2, 3])
def test_circuit_opens_over_any_number_of_relays(town, relays):
    net, client, stops, worker = town
    circuit = net.open(client, net.path(*stops[:relays], worker), b"want")
    net.until(lambda: client.said(Opened, circuit))

    assert client.said(Opened)[0].offer == b"offer for want"
    assert [event.request for event in worker.said(Incoming)] == [b"want"]


@pytest.mark.parametrize("relays", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 1116, 1117, 200_000])
def test_bytes_arrive_both_ways(town, relays, size):
    net, client, stops, worker = town
    circuit = net.open(client, net.path(*stops[:relays], worker))
    net.until(lambda: client.said(Opened, circuit))
    far = worker.said(Incoming)[0].circuit

    upload, answer = net.entropy.token(size), net.entropy.token(size)
    net.send(client, circuit, upload)
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended, far))
    assert worker.heard(far) == upload

    net.send(worker, far, answer)
    net.end(worker, far)
    net.until(lambda: client.said(Ended, circuit))
    assert client.heard(circuit) == answer
    assert all(len(data) % FRAME == 0 for _, _, _, data in net.frames)


def test_four_megabytes_go_through_every_change_of_keys(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(*relays[:3], worker))
    far = worker.said(Incoming)[0].circuit
    upload = net.entropy.token(16) * (defaults.UPLOAD_CAP // 16)
    net.feed(client, circuit, upload)
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended))
    assert worker.heard(far) == upload
    statistics = relays[1].core.statistics()
    assert statistics.cells_forward > 3 * 1024
    assert statistics.strikes == 0


# --- what a wire shows ---


@pytest.mark.parametrize("relays", [0, 1, 2, 3])
def test_every_link_sees_the_same_two_frames_each_way(town, relays):
    net, client, stops, worker = town
    opened(net, client, net.path(*stops[:relays], worker))
    seen = {}
    for _, sender, receiver, data in net.frames:
        assert len(data) % FRAME == 0
        for frame in frames_of(data):
            seen.setdefault((sender.name, receiver.name), []).append(frame.command)
    hops = ["client", *(stop.name for stop in stops[:relays]), "worker"]
    for before, after in pairwise(hops):
        assert seen[before, after] == [Command.HELLO, Command.CREATE, Command.CREATE]
        assert seen[after, before] == [Command.HELLO, Command.CREATED, Command.CREATED]


def test_relays_see_neither_request_nor_prompt_nor_answer(make_net, say_yes):
    net, seen = make_net(), {}
    names = ["relay0", "relay1", "relay2"]
    relays = [
        net.add(name, relay=True, tap=lambda what, text, name=name: _note(seen, name, what, text))
        for name in names
    ]
    worker = net.add(
        "worker", endpoint=True, tap=lambda what, text: _note(seen, "worker", what, text)
    )
    client = net.add("client", tap=lambda what, text: _note(seen, "client", what, text))
    net.answer["worker"] = say_yes
    circuit = net.open(client, net.path(*relays, worker), b"CANARY request")
    net.until(lambda: client.said(Opened))
    net.send(client, circuit, b"CANARY prompt")
    net.until(lambda: worker.said(Data))
    net.send(worker, worker.said(Incoming)[0].circuit, b"CANARY answer")
    net.until(lambda: client.said(Data))

    for name in names:
        assert {what for what, _ in seen[name]} == {"create-info", "cell"}
        assert not any(b"CANARY" in text for _, text in seen[name])
    assert not any(b"CANARY" in data for _, _, _, data in net.frames)
    told = b"".join(text for _, text in seen["worker"])
    assert b"CANARY request" in told
    assert b"CANARY prompt" in told
    assert {what for what, _ in seen["client"]} == {"offer", "opened", "sealed"}


def _note(seen, name, what, text):
    seen.setdefault(name, []).append((what, text))


# --- what a node keeps ---


def reachable(*roots):
    """Every object that can be got at from these, code and types left out."""
    seen, stack = {}, list(roots)
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(
            thing, type | ModuleType | FunctionType | BuiltinFunctionType
        ):
            continue
        seen[id(thing)] = thing
        stack += gc.get_referents(thing)
    return list(seen.values())


def names_in(things, peers):
    """Which peers' ids are among these, or inside any bytes of them."""
    texts = [bytes(thing) for thing in things if isinstance(thing, bytes | bytearray)]
    return {peer.name for peer in peers if any(peer.id in text for text in texts)}


def two_crossing_circuits(town):
    """A second client whose path runs through the same relays the other way round."""
    net, client, relays, worker = town
    other = net.add("other")
    first = opened(net, client, net.path(*relays[:3], worker))
    second = opened(net, other, net.path(*relays[2::-1], worker))
    net.send(client, first, b"question")
    net.send(other, second, b"question")
    net.run(1)
    return [client, other, *relays, worker]


@pytest.mark.parametrize("hop", [0, 1, 2])
def test_what_a_relay_keeps_of_a_circuit_names_nobody_but_the_next_hop(town, hop):
    peers = two_crossing_circuits(town)
    relay = town[2][hop]
    passages = list(relay.core._relay._passages.values())
    assert len(passages) == 2
    for passage in passages:
        named = names_in(reachable(passage), peers)
        assert len(named) <= 1
        assert named.isdisjoint({"client", "other", relay.name})


def test_no_table_of_a_relay_leads_from_a_client_to_a_worker(town):
    peers = two_crossing_circuits(town)
    for relay in town[2][:3]:
        for link in list(relay.core._links._by_number.values()):
            named = names_in(reachable(link), peers)
            assert named <= {peer.name for peer in peers if peer.id == link.peer}, (
                "a link knows its own peer only"
            )


def test_what_an_endpoint_keeps_of_a_circuit_names_nobody(town):
    peers = two_crossing_circuits(town)
    worker = town[3]
    for circuit in worker.core._circuits._circuits.values():
        assert names_in(reachable(circuit), peers) == set()
    everything = names_in(
        reachable(worker.core._circuits._circuits, worker.core._links),
        [peer for peer in peers if peer.name in ("client", "other")],
    )
    assert everything == set()


def test_ended_circuits_leave_nothing(town):
    net, client, relays, worker = town
    before = {}
    opened(net, client, net.path(*relays[:3], worker))
    net.run(1)
    for round_ in range(3):
        for event in client.said(Opened):
            net.call(client, lambda core, now, event=event: core.close(now, event.circuit))
        net.run(40)
        sizes = {peer.name: peer.core.sizes() for peer in net.peers.values()}
        for name, own in sizes.items():
            own.pop("admission.replay")
            assert before.get(name, own) == own, f"round {round_}"
        before = sizes
        opened(net, client, net.path(*relays[:3], worker))


def test_no_reference_cycles(town):
    net, client, relays, worker = town
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            circuit = opened(net, client, net.path(*relays[:3], worker))
            net.send(client, circuit, bytes(100_000))
            net.run(1)
            net.call(client, lambda core, now, circuit=circuit: core.close(now, circuit))
            net.run(31)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [thing for thing in gc.garbage if type(thing).__module__.startswith("p2p")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == []


# --- the contract of cores ---


def test_time_never_runs_backwards(town):
    net, client, _, _ = town
    net.call(client, lambda core, now: core.dial_failed(now, b""))
    with pytest.raises(ValueError, match="backwards"):
        client.core.handle_timer(net.now - 1)


def test_nothing_due_nothing_done(town):
    net, client, relays, worker = town
    opened(net, client, net.path(relays[0], worker))
    for peer in (client, relays[0], worker):
        sizes = peer.core.sizes()
        peer.core.handle_timer(net.now)
        assert peer.core.drain() == ([], [])
        assert peer.core.sizes() == sizes


def test_same_seed_same_bytes(make_net, say_yes):
    runs = []
    for _ in range(2):
        net = make_net(seed=9)
        relays = [net.add(f"relay{i}", relay=True) for i in range(3)]
        worker, client = net.add("worker", endpoint=True), net.add("client")
        net.answer["worker"] = say_yes
        circuit = opened(net, client, net.path(*relays, worker))
        net.send(client, circuit, b"question")
        net.run(30)
        runs.append([(when, a.name, b.name, data) for when, a, b, data in net.frames])
    assert runs[0] == runs[1]


def test_what_comes_from_nowhere_is_ignored(town):
    net, client, _, _ = town
    client.core.receive(net.now, "no link", bytes(FRAME))
    client.core.link_down(net.now, "no link")
    assert client.core.drain() == ([], [])


def test_frames_of_one_step_share_writes(town):
    net, client, relays, worker = town
    circuit = opened(net, client, net.path(relays[0], worker))
    net.frames.clear()
    net.send(client, circuit, bytes(64 * 1116))
    sizes = [len(data) // FRAME for _, sender, _, data in net.frames if sender is client]
    assert sizes == [54, 10]


# --- anything at all ---

numbers = st.sampled_from([0, 1, 5, 1 << 31, 1 << 31 | 1, 1 << 31 | 5, 2**32 - 1])
bodies = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 1192).map(bytes),
    st.sampled_from([1192, 1176, 1144]).map(lambda n: seeded(n).token(n)),
)
frames = st.builds(
    lambda circuit, command, flags, body: Frame(circuit, command, flags, body).pack(seeded(0)),
    numbers,
    st.sampled_from(list(Command)),
    st.integers(0, 3),
    bodies,
)
noise = st.one_of(
    st.binary(max_size=100),
    st.binary(min_size=8, max_size=8).map(lambda head: head + bytes(FRAME - 8)),
    st.lists(frames, min_size=1, max_size=6).map(b"".join),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(writes=st.lists(noise, max_size=12), who=st.integers(0, 3))
def test_no_bytes_make_a_core_raise_or_grow(make_net, say_yes, writes, who):
    net = make_net()
    relays = [net.add(f"relay{i}", relay=True) for i in range(2)]
    worker = net.add("worker", endpoint=True, allow_direct=True)
    client, rogue = net.add("client"), net.add("rogue")
    net.answer["worker"] = say_yes
    opened(net, client, net.path(*relays, worker))
    victim = [relays[0], worker, client, relays[1]][who]
    net.connect(rogue, victim)
    net.run(0.1)
    for data in writes:
        if any(other is victim for other, _ in rogue.links.values()):
            net.inject(rogue, victim, data)
            net.run(0.1)
    net.run(45)
    sizes = victim.core.sizes()
    assert sizes["links.halves"] == sizes["links.queued"] == 0
    assert sizes["relay.passages"] <= 1
    assert not client.said(Lost)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(writes=st.lists(frames, max_size=6), hop=st.integers(0, 2), numbered=st.booleans())
def test_rogue_hop_ends_circuits_and_nothing_else(make_net, say_yes, writes, hop, numbered):
    """Frames of a real neighbour, on the real circuit's number or on others."""
    net = make_net()
    relays = [net.add(f"relay{i}", relay=True) for i in range(2)]
    worker, client = net.add("worker", endpoint=True), net.add("client")
    net.answer["worker"] = say_yes
    circuit = opened(net, client, net.path(*relays, worker))
    chain = [client, *relays, worker]
    sender, victim = chain[hop + 1], chain[hop]
    number = next(iter(victim.core._links.to(sender.id).ports))
    for data in writes:
        if numbered:
            data = number.to_bytes(4, "little") + data[4:]
        if any(other is victim for other, _ in sender.links.values()):
            net.inject(sender, victim, data)
            net.run(0.1)
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(45)
    # Who stands behind a forged DESTROY hears of no end; the idle limit is for them.
    for peer in chain[: hop + 1]:
        sizes = peer.core.sizes()
        assert sizes["relay.passages"] == sizes["circuits.circuits"] == sizes["links.queued"] == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 1_000),
    kills=st.lists(st.tuples(st.integers(0, 4), st.floats(0.0, 2.0)), max_size=3),
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_every_open_ends_and_every_open_circuit_that_dies_is_told(
    make_net, say_yes, seed, kills, lengths
):
    net = make_net(seed=seed)
    relays = [net.add(f"relay{i}", relay=True) for i in range(4)]
    worker = net.add("worker", endpoint=True, allow_direct=True)
    client = net.add("client")
    net.answer["worker"] = say_yes
    circuits = []
    for at, length in enumerate(lengths):
        path = net.path(*relays[at % 2 : at % 2 + length], worker)
        circuits.append(net.open(client, path))
        net.run(0.2)
    for who, after in sorted(kills, key=lambda kill: kill[1]):
        net.run(after)
        victim = [*relays, worker][who]
        if victim.alive:
            net.kill(victim)
    net.run(12)

    for circuit in circuits:
        ends = client.said(Opened, circuit) + client.said(Failed, circuit)
        assert len(ends) == 1
        alive = net.call(client, lambda core, now, circuit=circuit: core.writable(circuit)) > 0
        lost = len(client.said(Lost, circuit))
        assert lost == (1 if client.said(Opened, circuit) and not alive else 0)
    if not worker.alive:
        assert all(peer.core.sizes()["relay.passages"] == 0 for peer in relays if peer.alive)
