"""Floods of CREATEs: what a node reads, what it asks for, and that the honest hardly notice."""

from collections import Counter

import pytest

from p2p import defaults
from p2p.onion.cell import Code, Command, handshake_frames
from p2p.onion.core import Failed, Opened, PuzzlesWanted
from p2p.onion.handshake import MAX_PUZZLE, ClientHandshake, puzzle_bits, solve_puzzle
from p2p.onion.link import DIALLER_BIT, Bucket
from p2p.onion.pressure import PUZZLES, Pressure, Share
from tests.p2p.onion.conftest import StandInKem

NOW = 1_800_000_000.0


def fair():
    return Bucket(*defaults.FAIR_UNLISTED)


# --- what a node reads ---


def test_who_asks_for_little_is_read_whatever_another_link_asks():
    pressure, greedy = Pressure(), fair()
    for number in range(20_000):
        pressure.share(NOW + number / 20_000, greedy)
    assert pressure.share(NOW + 0.9999, greedy) is Share.NONE
    assert pressure.share(NOW + 0.9999, fair()) is Share.FAIR


def test_a_node_reads_no_more_than_it_can():
    pressure = Pressure()
    links = [fair() for _ in range(2_000)]
    shares = Counter(
        pressure.share(NOW + number / 20_000, links[number % 2_000]) for number in range(60_000)
    )
    read = shares[Share.FAIR] + shares[Share.EXCESS]
    assert read <= 3 * 1_000 + 1_000
    assert shares[Share.FAIR] > 0.7 * read


@pytest.mark.parametrize(("rate", "bits"), [(50, 0), (120, 14), (250, 16), (500, 18), (900, 20)])
def test_puzzles_grow_with_the_rate(rate, bits):
    pressure, greedy = Pressure(), fair()
    for number in range(2 * rate):
        share = pressure.share(NOW + number / rate, greedy)
    assert pressure.bits(Share.EXCESS) == bits
    assert pressure.bits(Share.FAIR) == 0
    assert share is not Share.FAIR


def test_a_quiet_second_ends_it_and_no_puzzle_is_harder_than_askers_solve():
    pressure, greedy = Pressure(), fair()
    for number in range(1_000):
        pressure.share(NOW + number / 1_000, greedy)
    assert pressure.bits(Share.EXCESS)
    pressure.share(NOW + 2.5, greedy)
    assert pressure.bits(Share.EXCESS) == 0
    assert all(bits <= MAX_PUZZLE for _, bits in PUZZLES)
    assert [bits for _, bits in PUZZLES] == sorted((bits for _, bits in PUZZLES), reverse=True)


# --- what an asker does ---


@pytest.fixture
def pressed(town, monkeypatch):
    """A town whose second relay counts every CREATE as one too many, and wants 8 bits."""
    net, client, relays, worker = town
    monkeypatch.setattr("p2p.onion.pressure.PUZZLES", ((0, 8),))
    relays[1].core._admission._pressure._fair = Bucket(1e-9, 1)
    relays[1].core._admission._pressure._fair.take(net.now)
    return net, client, relays, worker


def open_through(net, client, relays, worker):
    return net.open(client, net.path(*relays[:3], worker))


def test_asker_solves_what_a_pressed_relay_wants_and_is_let_through(pressed):
    net, client, relays, worker = pressed
    circuit = open_through(net, client, relays, worker)
    net.until(lambda: client.said(PuzzlesWanted))
    (wanted,) = client.said(PuzzlesWanted)
    assert [puzzle.bits for puzzle in wanted.puzzles] == [0, 8, 0, 0]
    assert not client.said(Failed)
    nonces = [
        solve_puzzle(hop, ephemeral, wanted.issued, bits) if bits else 0
        for hop, ephemeral, bits in wanted.puzzles
    ]
    net.call(client, lambda core, now: core.solved(now, circuit, wanted.issued, nonces))
    net.until(lambda: client.said(Opened))
    assert client.said(Opened)[0].circuit == circuit
    assert relays[1].core.statistics().creates["busy"] == 1


def test_wrong_solution_is_told_once_more_and_then_no_more(pressed):
    net, client, relays, worker = pressed
    circuit = open_through(net, client, relays, worker)
    net.until(lambda: client.said(PuzzlesWanted))
    (wanted,) = client.said(PuzzlesWanted)
    hop, ephemeral, _ = wanted.puzzles[1]
    wrong = next(n for n in range(99) if puzzle_bits(hop, ephemeral, wanted.issued, n) < 8)
    net.call(client, lambda core, now: core.solved(now, circuit, wanted.issued, [0, wrong, 0, 0]))
    net.until(lambda: client.said(Failed))
    (failed,) = client.said(Failed)
    assert (failed.hop, failed.status) == (1, Code.BUSY)
    assert len(client.said(PuzzlesWanted)) == 1


def test_puzzle_that_nobody_solves_fails_in_time(pressed):
    net, client, relays, worker = pressed
    open_through(net, client, relays, worker)
    began = net.now
    net.until(lambda: client.said(Failed))
    assert net.now - began <= defaults.OPEN_TIMEOUT + 0.2


def test_solution_for_a_circuit_that_is_closed_does_nothing(pressed):
    net, client, relays, worker = pressed
    circuit = open_through(net, client, relays, worker)
    net.until(lambda: client.said(PuzzlesWanted))
    net.call(client, lambda core, now: core.close(now, circuit))
    net.call(client, lambda core, now: core.solved(now, circuit, int(now), [0, 0, 0, 0]))
    net.run(12.0)
    assert not client.said(Failed)
    assert client.core.sizes()["circuits.circuits"] == 0


# --- floods, with what reading costs ---

TICK = 0.01
"""seconds between two writes of a flooder"""

READ = 120e-6
"""seconds of a core for the Noise message of a CREATE; `tussah bench onion` measures it"""

FRAME = 4e-6
"""seconds for any other frame"""


class Siege:
    """A guard with a price on its time, flooders, and an asker who opens a circuit now and then."""

    def __init__(self, net, *, flooders, rate):
        self.net, self.rate = net, rate
        self.guard = net.add("guard", relay=True)
        self.worker = net.add("worker", endpoint=True, allow_direct=True)
        self.honest = net.add("honest")
        self.flooders = [net.add(f"flooder{i}") for i in range(flooders)]
        self.free = net.now
        net.answer["worker"] = lambda net, peer, event: net.call(
            peer, lambda core, now: core.accept(now, event.circuit, b"")
        )
        self._step = net._step
        net._step = self.step
        self.took = []
        self.path = net.path(self.guard, self.worker)
        self.number, self.said = 0, []

    def step(self, peer, commands, inbox):
        """What the guard does takes time: what comes meanwhile waits, and what it says is late."""
        if peer is not self.guard or not inbox:
            self._step(peer, commands, inbox)
            return
        before = self.read
        frames = sum(len(data) // 1_200 for _, data in inbox)
        self.net.delay, delay = 0.0, self.net.delay
        begin = max(self.net.now, self.free)
        self.net.delay = delay + begin - self.net.now
        self._step(peer, commands, inbox)
        self.net.delay = delay
        self.free = begin + READ * (self.read - before) + FRAME * frames

    @property
    def read(self):
        counts = self.guard.core.statistics().creates
        limits = self.guard.core.statistics().destroys.get("limits", 0)
        return sum(counts.values()) - limits

    def opened(self):
        """Seconds until the honest asker's next circuit stands."""
        net, began = self.net, self.net.now
        circuit = net.open(self.honest, self.path)
        net.until(lambda: self.honest.said((Opened, Failed), circuit))
        (event,) = self.honest.said((Opened, Failed), circuit)
        assert isinstance(event, Opened), event
        net.call(self.honest, lambda core, now: core.close(now, circuit))
        return net.now - began

    def last(self, seconds):
        """Flood for so long; what the honest asker's circuits took, one in a second and a half."""
        net, began = self.net, self.net.now
        for flooder in self.flooders:
            net.connect(flooder, self.guard)
        net.connect(self.honest, self.guard)
        net.run(0.1)
        net.cut = lambda now, sender, receiver, data: (
            None if sender is self.guard and receiver in self.flooders else data
        )
        ask_at, took = net.now + 0.5, []
        while net.now < began + seconds:
            for flooder in self.flooders:
                self.flood(flooder)
            if net.now >= ask_at:
                ask_at += 1.5
                took.append(self.opened())
            net.run(TICK)
        return sorted(took)

    def flood(self, flooder):
        """CREATEs of a tick: some fresh, most said before, which cost the guard as much to read."""
        frames = b""
        for _ in range(max(1, int(self.rate * TICK))):
            self.number += 1
            circuit = DIALLER_BIT | self.number
            for frame in handshake_frames(circuit, Command.CREATE, self.create()):
                frames += frame.pack(self.net.entropy)
        self.net.inject(flooder, self.guard, frames)

    def create(self):
        if self.number % 50 == 1:
            handshake = ClientHandshake(
                self.path, network=7, kem=StandInKem(), entropy=self.net.entropy
            )
            self.said.append(handshake.create(int(self.net.now), b"want"))
        return self.said[self.number % len(self.said)]


def p99(took):
    return took[min(len(took) - 1, int(0.99 * len(took)))]


def calm(make_net):
    return p99(Siege(make_net(), flooders=0, rate=0).last(8.0))


@pytest.mark.parametrize(
    ("flooders", "rate", "seconds"),
    [
        pytest.param(1, 100, 2.6, id="a link at 10x"),
        pytest.param(1, 1_000, 2.6, id="a link at 100x"),
        pytest.param(20, 100, 6.0, id="twenty at 10x", marks=pytest.mark.slow),
        pytest.param(100, 100, 6.0, id="the node at 10x", marks=pytest.mark.slow),
        pytest.param(100, 1_000, 3.0, id="the node at 100x", marks=pytest.mark.slow),
    ],
)
def test_flood_leaves_the_honest_their_circuits_in_twice_the_time(
    make_net, flooders, rate, seconds
):
    siege = Siege(make_net(), flooders=flooders, rate=rate)
    took = siege.last(seconds)
    assert len(took) >= 2
    assert p99(took) <= 2.0 * calm(make_net)
    assert len(siege.guard.links) == flooders + 2, "the flood was not ended by closing its links"
    assert siege.guard.core.statistics().strikes == 0
    sizes = siege.guard.core.sizes()
    assert sizes["links.queued"] < 10_000
    assert sizes["relay.passages"] <= flooders * defaults.CIRCUITS_UNLISTED + 2
    assert sizes["admission.replay"] < 20_000
