"""A circuit that dies in mid-answer is replaced, and both directions go on at the right byte."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2p import defaults
from p2p.onion import resuming
from p2p.onion.cell import Code
from p2p.onion.core import (
    Broken,
    Ended,
    Incoming,
    Lost,
    Opened,
    Reset,
    Resumed,
    Unresumed,
)
from p2p.onion.events import SILENT
from p2p.onion.handshake import ClientHandshake
from p2p.onion.resuming import Claim, Grant

QUESTION = bytes(range(256)) * 20
ANSWER = bytes(range(255, -1, -1)) * 100


def keeping(rate):
    """An endpoint that says yes, and keeps what it says."""

    def accept(net, peer, event):
        command = lambda core, now: core.accept(  # noqa: E731 - one command
            now, event.circuit, b"offer", rate=rate, resumable=True
        )
        net.call(peer, command)

    return accept


class Asked:
    """A client, a worker and a circuit of theirs over three of five relays."""

    def __init__(self, net, *, rate=0, relays=5):
        self.net = net
        self.relays = [net.add(f"relay{i}", relay=True) for i in range(relays)]
        self.worker = net.add("worker", endpoint=True)
        self.client = net.add("client")
        self.rate = rate
        net.answer["worker"] = keeping(rate)
        self.path = self.relays[:3]
        self.near = net.call(
            self.client,
            lambda core, now: core.open(
                now, net.path(*self.path, self.worker), b"want", rate=rate, resumable=True
            ),
        )
        net.until(lambda: self.client.said(Opened))
        (self.far,) = [event.circuit for event in self.worker.said(Incoming)]

    def ask(self, question=QUESTION):
        self.net.send(self.client, self.near, question)
        self.net.end(self.client, self.near)

    def answer(self, text, *, end=False):
        self.net.send(self.worker, self.far, text)
        if end:
            self.net.end(self.worker, self.far)

    def resume(self, *through):
        path = self.net.path(*(through or [r for r in self.relays if r.alive][:3]), self.worker)
        self.net.call(self.client, lambda core, now: core.resume(now, self.near, path))

    @property
    def heard(self):
        return self.client.heard(self.near)

    @property
    def read(self):
        return self.worker.heard(self.far)


@pytest.fixture
def asked(net):
    return Asked(net)


def mended(asked):
    """Resume as often as it takes, as an asker does."""
    net, seen = asked.net, 0
    net.run(0.5)
    while True:
        said = asked.client.events
        fates = [event for event in said if isinstance(event, Broken | Resumed | Unresumed)]
        if not fates or isinstance(fates[-1], Resumed):
            return
        if len(fates) > seen:
            seen = len(fates)
            asked.resume(*asked.path)
        net.run(0.3)


# --- what goes on where ---


@pytest.mark.parametrize("dead", [0, 1, 2])
@pytest.mark.parametrize("rate", [0, 4])
@pytest.mark.parametrize("moment", [0.041, 0.055, 0.07, 0.5, 3.0])
def test_relay_killed_at_any_moment_costs_no_byte_and_doubles_none(make_net, dead, rate, moment):
    asked = Asked(make_net(seed=3), rate=rate)
    net = asked.net
    asked.ask()
    net.run(moment)
    net.kill(asked.path[dead])
    began = net.now
    net.until(lambda: asked.client.said(Broken))
    assert net.now - began < defaults.CIRCUIT_QUIET + 1.5
    asked.resume()
    net.until(lambda: asked.client.said(Resumed))
    net.until(lambda: asked.worker.said(Ended))
    assert asked.read == QUESTION
    asked.answer(ANSWER, end=True)
    net.until(lambda: asked.client.said(Ended), limit=120)
    assert asked.heard == ANSWER
    assert not asked.client.said(Lost)
    assert not asked.worker.said(Lost)
    assert len(asked.worker.said(Incoming)) == 1


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from([0, 4]),
    deaths=st.lists(st.tuples(st.floats(0.0, 4.0), st.integers(0, 2)), min_size=1, max_size=4),
    pieces=st.lists(st.binary(min_size=1, max_size=3_000), min_size=1, max_size=8),
    ticks=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
)
def test_whatever_dies_and_whenever_all_bytes_come_once_and_in_order(
    make_net, rate, deaths, pieces, ticks
):
    """Circuits are cut at links, so that the relays stay to be used again."""
    asked = Asked(make_net(seed=5), rate=rate)
    net = asked.net
    asked.ask()
    net.run(0.2)
    for (wait, hop), piece in zip(deaths, [*pieces, *[b"."] * 4], strict=False):
        asked.answer(piece)
        for tick in ticks:
            net.send(asked.client, asked.near, tick)
        net.run(wait)
        relay = asked.path[hop]
        for mine in list(relay.links):
            net._hang_up(relay, mine)
        mended(asked)
    net.run(4.0)
    assert asked.read == QUESTION + b"".join(ticks) * len(deaths)
    asked.answer(b"last", end=True)
    net.until(lambda: asked.client.said(Ended), limit=120)
    said = [*pieces, *[b"."] * 4][: len(deaths)]
    assert asked.heard == b"".join(said) + b"last"


@pytest.mark.parametrize("rate", [0, 4])
def test_of_what_has_not_begun_to_arrive_nothing_is_kept(make_net, rate):
    asked = Asked(make_net(), rate=rate)
    net = asked.net
    asked.ask()
    net.run(0.015)
    net.kill(asked.path[1])
    net.until(lambda: asked.client.said(Broken))
    assert asked.worker.said(Lost)
    asked.resume()
    net.until(lambda: asked.client.said(Unresumed))
    assert asked.client.said(Unresumed) == [Unresumed(asked.near, 3, Code.REFUSED)]


def test_silent_relay_is_gone_around_within_seconds(asked):
    """It is there and passes nothing: no link drops."""
    net = asked.net
    asked.ask()
    net.run(0.5)
    asked.answer(ANSWER[:2_000])
    net.until(lambda: len(asked.heard) == 2_000)
    mute = asked.path[1]
    net.cut = lambda now, sender, receiver, data: None if sender is mute else data
    asked.answer(ANSWER[2_000:], end=True)
    began = net.now
    net.until(lambda: asked.client.said(Broken))
    assert net.now - began < defaults.CIRCUIT_QUIET + 1.5
    assert asked.client.said(Broken) == [Broken(asked.near, None, SILENT)]
    asked.resume(asked.path[0], *asked.relays[3:])
    net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_dead_line_to_the_guard_is_given_up_and_the_guard_dialled_anew(make_net):
    """As when a laptop has another address: TCP goes on believing, and no other relay is there."""
    asked = Asked(make_net(), relays=3)
    net, guard = asked.net, asked.path[0]
    asked.ask()
    asked.net.run(0.5)
    asked.answer(ANSWER[:2_000])
    net.run(0.5)
    (old,) = asked.client.links
    ends = (asked.client, guard)
    net.cut = lambda now, sender, receiver, data: (
        None if sender in ends and receiver in ends else data
    )
    net.until(lambda: asked.client.said(Broken))
    assert old not in asked.client.links
    net.cut = None
    asked.resume()
    asked.answer(ANSWER[2_000:], end=True)
    net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_line_on_which_something_comes_outlives_a_silent_circuit(asked):
    net = asked.net
    asked.ask()
    net.run(0.5)
    (line,) = asked.client.links
    mute = asked.path[2]
    net.cut = lambda now, sender, receiver, data: None if sender is mute else data
    path = net.path(asked.path[0], asked.relays[3], asked.worker)
    other = net.open(asked.client, path)
    while not asked.client.said(Broken):
        net.run(1.0)
        net.call(asked.client, lambda core, now: core.ping(now, other))
    assert line in asked.client.links


def test_machine_that_slept_takes_nobody_for_silent(asked):
    """Its clock has jumped by a minute, and what was sent to it meanwhile has not been read yet."""
    net = asked.net
    asked.ask()
    net.run(0.5)
    asked.client.skew += 20.0
    net.run(1.0)
    assert not asked.client.said(Broken)
    asked.answer(ANSWER, end=True)
    net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_long_silence_of_a_worker_that_is_there_breaks_nothing(asked):
    asked.ask()
    asked.net.run(300.0)
    assert not asked.client.said(Broken)
    asked.answer(ANSWER, end=True)
    asked.net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_path_that_comes_to_nothing_may_be_tried_again(asked):
    net = asked.net
    asked.ask()
    net.run(0.5)
    net.kill(asked.path[1])
    net.until(lambda: asked.client.said(Broken))
    asked.resume(asked.path[0], asked.path[1], asked.relays[3])
    net.until(lambda: asked.client.said(Unresumed))
    assert asked.client.said(Unresumed) == [Unresumed(asked.near, 0, Code.UNREACHABLE)]
    asked.resume()
    net.until(lambda: asked.client.said(Resumed))
    asked.answer(ANSWER, end=True)
    net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_two_circuits_to_one_answer_are_one_too_many(asked):
    """The asker has lost its circuit, of which the worker knows nothing yet."""
    net = asked.net
    asked.ask()
    net.run(0.5)
    asked.answer(ANSWER[:5_000])
    mute = asked.path[2]
    net.cut = lambda now, sender, receiver, data: None if sender is mute else data
    net.until(lambda: asked.client.said(Broken))
    asked.resume(*asked.path[:2], asked.relays[3])
    net.until(lambda: asked.client.said(Resumed))
    net.cut = None
    asked.answer(ANSWER[5_000:], end=True)
    net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER
    assert len(asked.worker.core._circuits) == 1


# --- what is kept, and how long ---


def test_worker_hears_of_it_when_nobody_has_come_for_half_a_minute(asked):
    net = asked.net
    asked.ask()
    net.run(0.5)
    net.kill(asked.client)
    net.run(defaults.RESUME_TIME - 1.0)
    assert not asked.worker.said(Lost)
    assert asked.worker.core.statistics().broken == 1
    assert asked.worker.core.statistics().circuits == 0
    net.run(2.0)
    assert asked.worker.said(Lost) == [Lost(asked.far, None)]
    assert asked.worker.core.sizes()["circuits.sessions"] == 0


def test_asker_that_does_nothing_hears_that_it_is_lost(asked):
    net = asked.net
    asked.ask()
    net.run(0.5)
    net.kill(asked.path[0])
    net.until(lambda: asked.client.said(Lost))
    assert asked.client.core.sizes()["circuits.circuits"] == 0


@pytest.mark.parametrize("rate", [0, 4])
def test_nothing_is_kept_of_an_answer_that_has_come(make_net, rate):
    asked = Asked(make_net(), rate=rate)
    net = asked.net
    asked.ask()
    net.run(0.5)
    asked.answer(ANSWER, end=True)
    net.until(lambda: asked.client.said(Ended), limit=120)
    net.run(1.5)
    assert asked.worker.core.sizes()["circuits.kept"] == 0
    net.call(asked.client, lambda core, now: core.close(now, asked.near))
    net.run(90.0 if rate else 0.5)
    sizes = asked.worker.core.sizes()
    assert (sizes["circuits.circuits"], sizes["circuits.sessions"]) == (0, 0)
    assert asked.client.core.sizes()["circuits.circuits"] == 0


def test_answer_that_is_given_up_is_not_kept(asked):
    net = asked.net
    asked.ask()
    net.run(0.5)
    asked.answer(ANSWER)
    net.call(asked.client, lambda core, now: core.reset(now, asked.near, 1, 3))
    net.call(asked.client, lambda core, now: core.close(now, asked.near))
    net.run(0.5)
    assert asked.worker.said(Reset) == [Reset(asked.far, 1, 3)]
    assert asked.worker.said(Lost) == [Lost(asked.far, None)]


def test_of_many_broken_circuits_the_oldest_are_given_up(make_net, monkeypatch):
    monkeypatch.setattr(defaults, "KEPT_CIRCUITS", 2)
    asked = Asked(make_net())
    net = asked.net
    asked.ask()
    path = net.path(*asked.path, asked.worker)
    for _ in range(3):
        near = net.call(
            asked.client, lambda core, now: core.open(now, path, b"want", resumable=True)
        )
        net.until(lambda near=near: asked.client.said(Opened, near))
        net.send(asked.client, near, QUESTION)
        net.run(0.3)
    net.kill(asked.client)
    net.run(1.0)
    assert asked.worker.core.statistics().broken == 2
    assert [lost.circuit for lost in asked.worker.said(Lost)] == [1, 2]


def test_of_too_many_bytes_the_oldest_answers_are_not_kept(make_net, monkeypatch):
    monkeypatch.setattr(defaults, "KEPT_BYTES", 60_000)
    asked = Asked(make_net())
    net = asked.net
    asked.ask()
    net.run(0.3)
    for _ in range(6):
        asked.answer(ANSWER)
        net.run(0.5)
    assert asked.worker.core.sizes()["circuits.kept"] <= 60_000
    net.kill(asked.path[0])
    net.run(1.0)
    assert asked.worker.said(Lost)


# --- who may go on ---


def stolen(asked, change):
    """A stranger's CREATE with a claim for the circuit, changed; what the worker says."""
    net = asked.net
    thief = net.add("thief")
    secrets = asked.client.core._circuits._circuits[asked.near].secrets
    path = net.path(*asked.relays[3:], asked.relays[0], asked.worker)
    handshake = ClientHandshake(
        path, network=7, kem=thief.core._circuits._house.kem, entropy=net.entropy
    )
    right = Claim.make(*secrets, handshake.ephemerals[-1], 0)
    claim = change(right, secrets)
    near = net.call(thief, lambda core, now: core.open(now, path, claim.pack()))
    net.until(lambda: len(thief.events) > 1)
    return [event for event in thief.events if getattr(event, "circuit", None) == near]


@pytest.mark.parametrize(
    "change",
    [
        lambda right, secrets: right._replace(session=bytes(32)),
        lambda right, secrets: right._replace(proof=bytes(32)),
        lambda right, secrets: right._replace(received=2**32 - 1),
        lambda right, secrets: right,  # proved over another ephemeral key than the CREATE has
        lambda right, secrets: Claim(secrets.session, 2, 0, right.proof),
    ],
)
def test_who_does_not_have_the_circuit_is_refused_and_told_nothing(asked, change):
    asked.ask()
    asked.net.run(0.5)
    asked.answer(ANSWER[:2_000])
    asked.net.run(0.5)
    (failed,) = stolen(asked, change)
    assert (failed.hop, failed.status, failed.reason) == (3, Code.REFUSED, b"")
    asked.answer(ANSWER[2_000:], end=True)
    asked.net.until(lambda: asked.client.said(Ended))
    assert asked.heard == ANSWER


def test_claim_is_of_use_once(asked):
    """A relay cannot read it; were it to repeat the CREATE, the tag and the key are spent."""
    key, ephemeral = bytes(range(32)), bytes(32)
    claim = Claim.make(b"s" * 32, key, ephemeral, 77)
    assert Claim.unpack(claim.pack()) == claim
    assert claim.is_proved(key, ephemeral)
    assert not claim.is_proved(key, b"\1" * 32)
    assert not claim._replace(received=78).is_proved(key, ephemeral)
    assert not claim._replace(stream=2).is_proved(key, ephemeral)


@given(st.binary(max_size=80))
def test_no_request_is_taken_for_a_claim_by_chance_or_raises(request):
    claim = Claim.unpack(request)
    assert claim is None or claim.pack() == request


@pytest.mark.parametrize("offer", [b"", b"\1" * 5, b"\0" + bytes(5), b"\1" + bytes(4) + b"\2"])
def test_answer_to_a_claim_has_one_form(offer):
    with pytest.raises(resuming.OnionError):
        Grant.unpack(offer)
    assert Grant.unpack(Grant(7, ended=True).pack()) == (7, True)


# --- what shows of it ---


def test_what_is_missing_of_an_upload_is_filled_up_to_the_whole(make_net):
    """The number of cells that come after a break does not tell how long the text is."""

    def cells(size, killed_after):
        asked = Asked(make_net(seed=9), rate=4)
        net = asked.net
        asked.ask(bytes(size))
        net.run(killed_after)
        net.kill(asked.path[1])
        net.until(lambda: asked.client.said(Broken))
        start = len(net.frames)
        asked.resume()
        assert 0 < len(asked.read) < size
        net.run(0.6)
        assert len(asked.read) == size
        return [
            (round(when - net.now, 6), sender.name, len(data))
            for when, sender, receiver, data in net.frames[start:]
            if sender is asked.client
        ]

    short, long = cells(70 * 1_116, 0.045), cells(120 * 1_116, 0.045)
    assert short == long
    assert sum(size for _, _, size in short) >= 128 * 1_200


def test_slots_go_on_where_they_would_be(make_net):
    asked = Asked(make_net(), rate=4)
    net = asked.net
    asked.ask()
    net.run(2.1)
    net.kill(asked.path[0])
    net.until(lambda: asked.client.said(Broken))
    asked.resume()
    net.until(lambda: asked.client.said(Resumed))
    start = net.now
    net.run(5.0)
    times = [
        when
        for when, sender, _, data in net.frames
        if sender is asked.worker and when > start + 0.5 and len(data) == 1_200
    ]
    gaps = {round(after - before, 6) for before, after in pairwise(times)}
    assert gaps <= {0.25, 0.26, 0.24} or gaps == {0.25}
