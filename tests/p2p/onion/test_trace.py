"""Two texts of the same buckets look the same on every link of the path, cell by cell.

What is recorded is more than who taps a wire sees: the time and size of each write, and the command
of each frame in it, which only the two ends of a link can read.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.onion import shaping
from p2p.onion.cell import FRAME_SIZE, MAX_DATA, Cell, Kind
from p2p.onion.core import Data, Ended, Lost, Opened, Reset
from p2p.onion.shaping import AskerShape, EndShape, answer_bucket, prompt_bucket
from tests.p2p.onion.conftest import START, Net

MARGIN = 3.0
"""seconds before a bucket's end by which all has been said, slots and four links included"""


HEARD = 0.3
"""seconds by which the question has arrived: nothing is answered before"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What is asked and answered, and how it ends."""

    asked: int
    """bytes of the upload"""
    parts: tuple[tuple[float, int], ...] = ()
    """of the answer: seconds after the upload, bytes"""
    ticks: tuple[float, ...] = ()
    """when the asker pays"""
    ends: float
    """seconds after the upload"""
    how: str = "answer"
    """also refusal, reset, cancel, or paid: the asker has gone when its last tick comes"""
    rate: int = 4
    pings: tuple[float, ...] = ()
    """of the asker"""


def town(seed, rate, *, relays=3):
    net = Net(seed)

    def accept(net, peer, event):
        net.call(peer, lambda core, now: core.accept(now, event.circuit, b"offer", rate=rate))
        peer.circuit = event.circuit

    path = [net.add(f"relay{i}", relay=True) for i in range(relays)]
    worker, client = net.add("worker", endpoint=True), net.add("client")
    net.answer["worker"] = accept
    hops = net.path(*path, worker)
    circuit = net.call(client, lambda core, now: core.open(now, hops, b"want", rate=rate))
    net.until(lambda: client.said(Opened))
    return net, client, circuit, worker


def plot(net, client, circuit, worker, text):
    """(seconds, what is done), in order."""

    def at_worker(act):
        return lambda: net.call(worker, lambda core, now: act(core, now, worker.circuit))

    def at_client(act):
        return lambda: net.call(client, lambda core, now: act(core, now, circuit))

    def said(size):
        return at_worker(lambda core, now, far: core.send(now, far, 1, b"a" * size))

    tick = at_client(lambda core, now, near: core.send(now, near, 1, b"t" * 43))
    ping = at_client(lambda core, now, near: core.ping(now, near))
    end = at_worker(lambda core, now, far: core.end(now, far, 1))
    give_up = at_worker(lambda core, now, far: core.reset(now, far, 1, 3))
    cancel = at_client(lambda core, now, near: core.reset(now, near, 1, 0))
    leave = at_client(lambda core, now, near: core.close(now, near))

    steps = [(when, said(size)) for when, size in text.parts]
    steps += [(when, tick) for when in text.ticks] + [(when, ping) for when in text.pings]
    ends = text.ends
    match text.how:
        case "answer":
            steps += [(ends, end), (ends + 0.2, leave)]
        case "refusal":
            steps += [(ends, said(9)), (ends, end), (ends + 0.2, cancel), (ends + 0.2, leave)]
        case "reset":
            steps += [(ends, give_up), (ends + 0.2, leave)]
        case "cancel":
            steps += [(ends, cancel), (ends, leave)]
        case "paid":
            steps += [(ends, said(400)), (ends + 0.2, tick), (ends + 0.2, leave), (ends + 1.5, end)]
    return sorted(steps, key=lambda step: step[0])


def trace(text, seed=1, *, relays=3):
    """(time, sender, receiver, commands of the frames) of every write, to the end of the circuit.

    Begins with the upload.
    """
    net, client, circuit, worker = town(seed, text.rate, relays=relays)
    began, before = net.now, len(net.frames)
    net.send(client, circuit, b"q" * text.asked)
    net.end(client, circuit)
    for when, act in plot(net, client, circuit, worker, text):
        net.run(began + when - net.now)
        act()
    net.until(lambda: client.core.sizes()["circuits.circuits"] == 0, limit=4_000)
    net.run(2.0)
    assert worker.core.sizes()["circuits.circuits"] == 0
    return [
        (when - START, sender.name, receiver.name, tuple(data[4::FRAME_SIZE]))
        for when, sender, receiver, data in net.frames[before:]
    ]


@cache
def silence(prompt, bucket, rate, seed=1):
    """The trace of the least that can be said in these buckets."""
    least = prompt // 2 * MAX_DATA + 1 if prompt > 4 else 1
    return trace(Text(asked=least, ends=bucket / 2 + 0.1, rate=rate), seed)


BUCKETS = (8, 16, 32)


@st.composite
def texts(draw, buckets=BUCKETS):
    bucket = draw(st.sampled_from(buckets))
    least = HEARD if bucket == 8 else bucket / 2 + 0.1
    ends = draw(st.floats(least, bucket - MARGIN))
    moments = st.floats(HEARD, max(HEARD, ends))
    parts = draw(st.lists(st.tuples(moments, st.integers(1, 300)), max_size=12))
    cells = draw(st.sampled_from([1, 3, 4, 5, 8, 9, 30]))
    return Text(
        asked=draw(st.integers((cells - 1) * MAX_DATA + 1, cells * MAX_DATA)),
        parts=tuple(sorted(parts)),
        ticks=tuple(draw(st.lists(moments, max_size=8))),
        pings=tuple(draw(st.lists(moments, max_size=1))),
        ends=ends,
        how=draw(st.sampled_from(["answer", "refusal", "reset", "cancel", "paid"])),
        rate=draw(st.sampled_from([4, 10])),
    )


def buckets_of(text):
    """The buckets that a text is made for."""
    return prompt_bucket(-(-text.asked // MAX_DATA)), answer_bucket(text.ends), text.rate


def same(text):
    return trace(text) == silence(*buckets_of(text))


NOVEL = Text(
    asked=3 * MAX_DATA,
    parts=tuple((HEARD + 0.05 * i, 60) for i in range(390)),
    ticks=tuple(HEARD + 0.7 * i for i in range(25)),
    ends=20.0,
)
REFUSED = Text(asked=10, parts=((1.0, 50), (2.0, 50)), ticks=(1.5,), ends=17.0, how="refusal")
STOPPED = Text(asked=900, parts=((1.0, 50), (1.2, 5_000)), ticks=(1.0,), ends=17.3, how="cancel")
PAID = Text(asked=900, parts=((1.0, 50), (8.0, 50)), ticks=(1.0, 1.1, 9.0), ends=19.0, how="paid")
GIVEN_UP = Text(asked=2, parts=((1.0, 50),), ends=16.5, how="reset")


@pytest.mark.parametrize("text", [NOVEL, REFUSED, STOPPED, PAID, GIVEN_UP])
def test_an_answer_a_refusal_a_cancel_and_a_last_tick_look_alike(text):
    assert buckets_of(text) == (4, 32, 4)
    assert same(text)


@settings(max_examples=12, deadline=None)
@given(texts(BUCKETS[:2]))
def test_two_texts_of_the_same_buckets_have_the_same_trace(text):
    assert same(text)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(texts())
def test_two_hundred_pairs_of_texts_have_the_same_traces(text):
    assert same(text)


@pytest.mark.parametrize("gone", [0.0, 0.004, 0.02, 0.05])
def test_a_question_taken_back_while_it_leaves_looks_like_one_answered(gone):
    """130 cells wait for credit, so that the RESET overtakes most of them."""
    text = Text(asked=129 * MAX_DATA, ends=gone, how="cancel")
    assert trace(text) == silence(256, 8, 4)


def test_another_bucket_looks_otherwise():
    """Else equal traces would say nothing."""
    assert trace(Text(asked=1, ends=9.0)) != silence(4, 8, 4)
    assert trace(Text(asked=5 * MAX_DATA, ends=1.0)) != silence(4, 8, 4)
    assert trace(Text(asked=1, ends=1.0, rate=10)) != silence(4, 8, 4)


def test_every_link_carries_the_cells_of_the_shape_and_no_more():
    cells = {}
    for _, sender, receiver, commands in trace(NOVEL):
        number = commands.count(4)
        cells[sender, receiver] = cells.get((sender, receiver), 0) + number
    for near, far in pairwise(["client", "relay0", "relay1", "relay2", "worker"]):
        assert cells[far, near] == 4 * 32
        assert cells[near, far] == 4 + 32


# --- planted leaks: each is seen ---


def early_end(monkeypatch):
    """The endpoint stops when all is said."""
    monkeypatch.setattr(shaping, "answer_bucket", lambda seconds: int(seconds) + 1)


def one_more(monkeypatch):
    """A cell leaves at once if there is something to say."""
    monkeypatch.setattr(EndShape, "burst", lambda self, now: self.due and self._streams.next())


def tick_at_once(monkeypatch):
    """The asker's payments wait for no slot."""
    plain = AskerShape.burst

    def burst(self, now):
        return plain(self, now) or (self._streams.next() if self._pacer else None)

    monkeypatch.setattr(AskerShape, "burst", burst)


def no_dummies(monkeypatch):
    """A slot in which nothing waits is left empty."""
    plain = EndShape.slot

    def slot(self, now, *, free):
        cell = plain(self, now, free=free)
        return cell if cell is None or cell.flags or cell.data else None

    monkeypatch.setattr(EndShape, "slot", slot)


def bare_upload(monkeypatch):
    """The upload is as long as the question."""
    monkeypatch.setattr(shaping, "prompt_bucket", lambda cells: cells)


def hasty_upload(monkeypatch):
    """Full cells leave before the END is there: two writes, of sizes that tell."""
    plain = AskerShape.burst

    def burst(self, now):
        upload = self._streams.upload
        early = self._pacer is None and not upload.ends and upload.cells > 1
        return self._count(self._streams.next()) if early else plain(self, now)

    monkeypatch.setattr(AskerShape, "burst", burst)


def leave_at_once(monkeypatch):
    """The asker ends the circuit when it has what it wanted."""
    monkeypatch.setattr(AskerShape, "begun", property(lambda self: False))


@pytest.mark.parametrize(
    "leak",
    [early_end, one_more, tick_at_once, no_dummies, bare_upload, hasty_upload, leave_at_once],
)
def test_a_planted_leak_is_seen(leak, monkeypatch):
    silent = silence(4, 32, 4)
    leak(monkeypatch)
    text = Text(asked=3 * MAX_DATA, parts=NOVEL.parts, ticks=NOVEL.ticks, ends=NOVEL.ends)
    assert trace(text) != silent


# --- what the two ends see ---


def test_what_is_said_arrives_whole_and_the_end_before_its_bucket():
    net, client, circuit, worker = town(1, 4)
    question = b"q" * (6 * MAX_DATA + 7)
    net.send(client, circuit, question)
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended))
    assert worker.heard(worker.circuit) == question
    began = net.now
    net.send(worker, worker.circuit, b"a" * 3_000)
    net.end(worker, worker.circuit)
    net.until(lambda: client.said(Ended))
    assert client.heard(circuit) == b"a" * 3_000
    assert net.now - began < 1.0
    assert client.core.statistics().circuits == 1
    net.call(client, lambda core, now: core.close(now, circuit))
    assert client.core.statistics().left == 1
    net.until(lambda: client.core.statistics().circuits == 0)
    assert net.now - began == pytest.approx(8.0, abs=0.1)
    assert not client.said(Lost)


def test_a_tick_before_leaving_still_arrives():
    net, client, circuit, worker = town(1, 4)
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.run(2.5)
    net.send(client, circuit, b" tick")
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(1.0)
    assert worker.heard(worker.circuit) == b"question tick"
    assert not worker.said(Reset)


def test_a_cancel_reaches_the_worker_within_a_slot_and_nothing_is_told_after_leaving():
    net, client, circuit, worker = town(1, 4)
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.run(2.5)
    net.call(client, lambda core, now: core.reset(now, circuit, 1, 0))
    net.call(client, lambda core, now: core.close(now, circuit))
    net.run(1.1)
    assert worker.said(Reset)
    told = len(client.events)
    net.send(worker, worker.circuit, b"in vain")
    net.kill(worker)
    net.run(60.0)
    assert client.core.statistics().circuits == 0
    assert not [e for e in client.events[told:] if isinstance(e, Data | Ended | Reset | Lost)]


def test_a_circuit_that_was_not_used_is_closed_at_once():
    net, client, circuit, _ = town(1, 4)
    net.call(client, lambda core, now: core.close(now, circuit))
    assert client.core.statistics().circuits == 0


def test_an_endpoint_that_falls_silent_is_lost_in_five_seconds():
    net, client, circuit, worker = town(1, 4)
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.run(3.0)
    net.cut = lambda now, sender, receiver, data: None if sender is worker else data
    began = net.now
    net.until(lambda: client.said(Lost))
    assert 5.0 <= net.now - began <= 7.0


def test_an_endpoint_that_ends_the_shape_without_a_word_is_lost(monkeypatch):
    net, client, circuit, _ = town(1, 4)
    monkeypatch.setattr(
        EndShape,
        "slot",
        lambda self, now, *, free: self._pacer.take(now) and Cell(0, Kind.DUMMY, 1, 0, b""),
    )
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.until(lambda: client.said(Lost))


def test_an_asker_who_never_takes_gets_no_slot_made_up_for():
    """A relay that gives no credit back: the worker's queue does not grow."""
    net, client, circuit, worker = town(1, 4)
    net.send(client, circuit, b"question")
    net.end(client, circuit)
    net.until(lambda: worker.said(Ended))
    net.cut = lambda now, sender, receiver, data: None if receiver is worker else data
    net.run(100.0)
    assert worker.core.sizes()["links.queued"] <= 64
    assert worker.core.statistics().cells_sent == 64
