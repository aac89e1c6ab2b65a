"""The two ends of a circuit: set-up, streams, and every way it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p import defaults
from p2p.errors import NoCapacity, OnionError
from p2p.onion.cell import MAX_DATA, Cell, Code, FailCode, Kind
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
from p2p.onion.streams import Streams


def cells_of(streams):
    cells = []
    while (cell := streams.next()) is not None:
        cells.append(cell)
    return cells


def move(sender, receiver):
    """Every cell of one end to the other; what the other is told."""
    said = [receiver.take(cell) for cell in cells_of(sender)]
    return [cell for cell in said if cell is not None]


def both_ends():
    asker, endpoint = Streams(asker=True), Streams(asker=False)
    asker.send(1, b"question")
    move(asker, endpoint)
    return asker, endpoint


# --- streams ---


def test_bytes_are_cut_into_full_cells_with_their_places():
    streams = Streams(asker=True)
    streams.send(1, b"x" * (2 * MAX_DATA + 5))
    cells = cells_of(streams)
    assert [(cell.offset, len(cell.data)) for cell in cells] == [
        (0, MAX_DATA),
        (MAX_DATA, MAX_DATA),
        (2 * MAX_DATA, 5),
    ]


def test_end_rides_on_the_last_bytes():
    streams = Streams(asker=True)
    streams.send(1, b"x" * (MAX_DATA + 1))
    streams.end(1)
    assert [cell.kind for cell in cells_of(streams)] == [Kind.DATA, Kind.END]


def test_bytes_that_wait_share_cells():
    streams = Streams(asker=True)
    for _ in range(10):
        streams.send(1, b"token")
    assert [cell.data for cell in cells_of(streams)] == [b"token" * 10]


def test_asker_may_pay_until_the_answer_ends():
    asker, endpoint = both_ends()
    asker.end(1)
    asker.send(1, b"tick")
    kinds = [(cell.kind, cell.data) for cell in move(asker, endpoint)]
    assert kinds == [(Kind.END, b""), (Kind.DATA, b"tick")]

    endpoint.end(1)
    move(endpoint, asker)
    asker.send(1, b"late tick")
    assert cells_of(asker) == []


def test_late_tick_is_ignored_by_an_endpoint_that_has_ended():
    asker, endpoint = both_ends()
    endpoint.end(1)
    asker.send(1, b"tick")
    assert move(asker, endpoint) == []


def test_answer_that_has_ended_takes_no_more():
    _, endpoint = both_ends()
    endpoint.send(1, b"answer")
    endpoint.end(1)
    endpoint.send(1, b"more")
    assert [cell.data for cell in cells_of(endpoint)] == [b"answer"]


def test_reset_drops_what_waits_and_is_heard():
    asker, endpoint = both_ends()
    endpoint.send(1, b"x" * 100_000)
    assert endpoint.writable == defaults.UPLOAD_CAP - 100_000
    endpoint.reset(1, 9)
    assert endpoint.writable == defaults.UPLOAD_CAP
    assert [(cell.kind, cell.data) for cell in move(endpoint, asker)] == [(Kind.RESET, b"\x09")]
    asker.send(1, b"too late")
    assert cells_of(asker) == []


def test_reset_stops_an_answer_that_has_ended_but_not_left():
    asker, endpoint = both_ends()
    endpoint.send(1, b"x" * 100_000)
    endpoint.end(1)
    asker.reset(1, 0)
    move(asker, endpoint)
    assert cells_of(endpoint) == []
    assert endpoint.queued == 0


def test_cells_on_the_way_when_reset_are_ignored():
    asker, endpoint = both_ends()
    endpoint.send(1, b"answer")
    asker.reset(1, 1)
    assert move(endpoint, asker) == []


def test_ping_is_answered_once_at_a_time():
    asker, endpoint = both_ends()
    for _ in range(5):
        asker.ping()
    assert move(asker, endpoint) == []
    assert [cell.kind for cell in move(endpoint, asker)] == [Kind.PONG]
    asker.ping()
    move(asker, endpoint)
    assert [cell.kind for cell in move(endpoint, asker)] == [Kind.PONG]


def test_dummies_say_nothing():
    assert Streams(asker=True).take(Cell(0, Kind.DUMMY, 0, 0, b"")) is None


@pytest.mark.parametrize(
    "cell",
    [
        Cell(1, Kind.DATA, 0, 7, b"gap"),
        Cell(1, Kind.DATA, 0, 9, b"gap"),
        Cell(1, Kind.RESET, 0, 0, b"\0"),
        Cell(3, Kind.DATA, 0, 0, b"skipped 2"),
        Cell(0, Kind.DATA, 0, 0, b"not its own"),
        Cell(1, Kind.PING, 0, 8, b""),
        Cell(65, Kind.DATA, 0, 0, b"too many"),
    ],
    ids=str,
)
def test_cell_that_no_honest_asker_sends_is_an_error(cell):
    _, endpoint = both_ends()
    with pytest.raises(OnionError):
        endpoint.take(cell)


@pytest.mark.parametrize(
    "cell", [Cell(2, Kind.DATA, 0, 0, b"unasked"), Cell(1, Kind.DATA, 0, 1, b"gap")], ids=str
)
def test_cell_that_no_honest_endpoint_sends_is_an_error(cell):
    asker, _ = both_ends()
    with pytest.raises(OnionError):
        asker.take(cell)


def test_second_end_is_an_error():
    _, endpoint = both_ends()
    endpoint.take(Cell(1, Kind.END, 0, 8, b""))
    with pytest.raises(OnionError):
        endpoint.take(Cell(1, Kind.END, 0, 8, b""))


def test_stream_never_wraps():
    _, endpoint = both_ends()
    endpoint._streams[1].received = 2**32 - 1
    with pytest.raises(OnionError):
        endpoint.take(Cell(1, Kind.DATA, 0, 2**32 - 1, b"x"))


def test_streams_are_opened_in_order_by_the_asker():
    streams = Streams(asker=True)
    with pytest.raises(ValueError, match="in order"):
        streams.send(2, b"x")
    with pytest.raises(ValueError, match="asker"):
        Streams(asker=False).send(1, b"x")


def test_circuit_has_64_streams():
    streams = Streams(asker=True)
    for stream in range(1, 65):
        streams.send(stream, b"x")
    with pytest.raises(NoCapacity):
        streams.send(65, b"x")


def test_no_more_waits_than_the_cap():
    streams = Streams(asker=True)
    streams.send(1, bytes(defaults.UPLOAD_CAP))
    with pytest.raises(NoCapacity):
        streams.send(1, b"x")
    streams.next()
    streams.send(1, bytes(MAX_DATA))


class TwoEnds(RuleBasedStateMachine):
    """Streams against the plainest model: what was sent is what is heard, in order, once."""

    def __init__(self):
        super().__init__()
        self.ends = {True: Streams(asker=True), False: Streams(asker=False)}
        self.sent = {True: {}, False: {}}
        self.heard = {True: {}, False: {}}
        self.ended = {True: {}, False: {}}
        self.known = {True: 0, False: 0}

    @rule(data=st.binary(min_size=1, max_size=3_000))
    def ask(self, data):
        self.known[True] += 1
        self._send(True, self.known[True], data)

    @precondition(lambda self: self.known[True] > 0)
    @rule(data=st.binary(max_size=3_000), pick=st.integers(0, 63), asker=st.booleans())
    def say_more(self, data, pick, asker):
        if self.known[asker]:
            stream = 1 + pick % self.known[asker]
            if not self.ended[False].get(stream):
                self._send(asker, stream, data)

    @rule(pick=st.integers(0, 63), asker=st.booleans())
    def end(self, pick, asker):
        if self.known[asker]:
            stream = 1 + pick % self.known[asker]
            self.ends[asker].end(stream)
            self.ended[asker][stream] = True

    @rule(count=st.integers(1, 5), asker=st.booleans())
    def deliver(self, count, asker):
        for _ in range(count):
            cell = self.ends[asker].next()
            if cell is None:
                return
            said = self.ends[not asker].take(Cell.unpack(cell.pack(4)))
            if not asker or said is not None:
                self.known[not asker] = max(self.known[not asker], cell.stream)
            if said is not None:
                heard = self.heard[asker]
                heard[said.stream] = heard.get(said.stream, b"") + said.data

    def _send(self, asker, stream, data):
        self.ends[asker].send(stream, data)
        self.sent[asker][stream] = self.sent[asker].get(stream, b"") + data

    @invariant()
    def nothing_is_heard_that_was_not_sent(self):
        for asker in (True, False):
            for stream, heard in self.heard[asker].items():
                assert self.sent[asker].get(stream, b"").startswith(heard)

    def teardown(self):
        self.deliver(10_000, False)
        for stream, sent in self.sent[False].items():
            assert self.heard[False].get(stream, b"") == sent


TestTwoEnds = TwoEnds.TestCase


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


def test_shaping_is_not_there_yet(net):
    with pytest.raises(ValueError, match="shaping"):
        net.add("client", shaping=1)


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(Kind)), st.binary(max_size=10))
def test_any_cell_is_an_error_or_no_trouble(offset, kind, data):
    _, endpoint = both_ends()
    try:
        endpoint.take(Cell(offset % 70, kind, 0, offset, data))
    except OnionError:
        return
    assert endpoint.queued == 0
