"""Liveness: forged, old, future and cross-kind pulses are refused, and cost what is allowed."""

from hashlib import sha256
from time import process_time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from p2p import defaults
from p2p.identity import AdnlId, Identity
from p2p.overlay import liveness, pulse
from p2p.overlay.liveness import Fate, PulseBook, State
from p2p.overlay.pulse import Kind, PulseChain

EPOCH = 600.0
BEGIN = 1_800_000_000.0
ISSUED = BEGIN + 100.0
SEQ = 7
NODE, OTHER = Identity(bytes(32)), Identity(b"\1" * 32)
SENDER = AdnlId(b"s" * 32)
OPEN, BUSY = (PulseChain(NODE, SEQ, kind) for kind in Kind)


def at(slot):
    return BEGIN + slot * EPOCH + 300.0


@pytest.fixture
def book():
    book = PulseBook(EPOCH)
    book.expect(NODE.id, ISSUED, pulse.anchors_of(NODE, SEQ))
    return book


def fate(book, now, one, sender=SENDER):
    before = book.statistics()
    taken = book.take(now, sender, [one])
    after = book.statistics()
    (fate,) = [fate for fate in Fate if after[fate] != before[fate]]
    assert taken == ([one] if fate is Fate.ACCEPTED else [])
    return fate


# --- which pulses are taken ---


@pytest.mark.parametrize("current", [1, 2, 3, 80, 158, 159, 160])
def test_a_pulse_is_taken_from_two_slots_back_to_one_ahead(current):
    for slot in range(1, 161):
        book = PulseBook(EPOCH)
        book.expect(NODE.id, ISSUED, pulse.anchors_of(NODE, SEQ))
        timely = current - 2 <= slot <= current + 1
        expected = Fate.ACCEPTED if timely else Fate.UNTIMELY
        assert fate(book, at(current), OPEN.pulse(slot)) is expected


def test_a_pulse_is_taken_once(book):
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.ACCEPTED
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.KNOWN
    assert fate(book, at(5), OPEN.pulse(4)) is Fate.KNOWN
    assert book.take(at(6), SENDER, [OPEN.pulse(6)] * 3) == [OPEN.pulse(6)]


def test_at_most_two_pulses_of_a_node_and_slot_are_taken(book):
    both = [OPEN.pulse(5), BUSY.pulse(5)]
    assert book.take(at(5), SENDER, both * 10) == both


@pytest.mark.parametrize(
    "forged",
    [
        OPEN.pulse(5)._replace(value=bytes(16)),
        OPEN.pulse(5)._replace(slot=4),
        OPEN.pulse(4)._replace(slot=5),
        OPEN.pulse(5)._replace(kind=Kind.BUSY),
        BUSY.pulse(5)._replace(kind=Kind.OPEN),
        PulseChain(NODE, SEQ + 1, Kind.OPEN).pulse(5),
        PulseChain(OTHER, SEQ, Kind.OPEN).pulse(5)._replace(prefix=NODE.id[:8]),
    ],
    ids=["random", "back", "ahead", "as busy", "as open", "other advert", "other node"],
)
def test_a_forged_pulse_is_refused_and_leaves_no_trace(book, forged):
    assert fate(book, at(5), forged) is Fate.FORGED
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.ACCEPTED
    assert fate(book, at(5), BUSY.pulse(5)) is Fate.ACCEPTED


def test_the_next_pulse_cannot_be_made_from_those_before(book):
    known = OPEN.pulse(5)
    book.take(at(5), SENDER, [known])
    hashed = sha256(b"tussah/pulse" + NODE.id + known.value).digest()[:16]
    for value in (known.value, hashed):
        assert fate(book, at(6), known._replace(slot=6, value=value)) is Fate.FORGED


def test_pulses_of_nodes_that_are_not_listed_are_ignored(book):
    assert fate(book, at(5), PulseChain(OTHER, SEQ, Kind.OPEN).pulse(5)) is Fate.UNKNOWN
    book.forget(NODE.id)
    book.forget(NODE.id)
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.UNKNOWN


# --- newest adverts ---


def test_a_new_advert_has_new_chains(book):
    book.take(at(5), SENDER, [OPEN.pulse(5)])
    book.expect(NODE.id, at(6), pulse.anchors_of(NODE, SEQ + 1))
    assert fate(book, at(7), OPEN.pulse(7)) is Fate.UNTIMELY
    assert fate(book, at(7), PulseChain(NODE, SEQ + 1, Kind.OPEN).pulse(1)) is Fate.ACCEPTED


def test_the_same_advert_again_changes_nothing(book):
    book.take(at(5), SENDER, [OPEN.pulse(5)])
    assert book.expect(NODE.id, ISSUED, pulse.anchors_of(NODE, SEQ))
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.KNOWN


def test_who_shares_the_first_bytes_of_an_id_does_not_take_its_place(book):
    twin = AdnlId(NODE.id[:8] + bytes(24))
    assert not book.expect(twin, ISSUED, bytes(32))
    book.forget(twin)
    assert book.state(at(0), twin) is State.GONE
    assert fate(book, at(5), OPEN.pulse(5)) is Fate.ACCEPTED


def test_no_more_nodes_are_expected_than_adverts_are_kept(monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERTS", 2)
    book = PulseBook(EPOCH)
    nodes = [AdnlId(bytes([number]) * 32) for number in range(3)]
    assert [book.expect(node, ISSUED, bytes(32)) for node in nodes] == [True, True, False]
    assert book.expect(nodes[0], ISSUED, b"x" * 32)
    book.forget(nodes[0])
    assert book.expect(nodes[2], ISSUED, bytes(32))


def test_anchors_have_32_bytes(book):
    with pytest.raises(ValueError, match="anchors"):
        book.expect(OTHER.id, ISSUED, bytes(31))


# --- what is concluded ---


def test_a_node_is_there_in_the_slot_of_its_advert_and_the_next(book):
    assert [book.state(at(slot), NODE.id) for slot in (0, 1, 2)] == [
        State.OPEN,
        State.OPEN,
        State.GONE,
    ]


def test_a_node_is_there_in_the_slot_of_its_pulse_and_the_next(book):
    book.take(at(5), SENDER, [OPEN.pulse(5)])
    states = [book.state(at(slot), NODE.id) for slot in (5, 6, 7)]
    assert states == [State.OPEN, State.OPEN, State.GONE]


def test_busy_beats_open_within_a_slot_and_not_after_it(book):
    book.take(at(5), SENDER, [BUSY.pulse(5), OPEN.pulse(5)])
    assert book.state(at(5), NODE.id) is State.BUSY
    assert book.state(at(6), NODE.id) is State.BUSY
    book.take(at(6), SENDER, [OPEN.pulse(6)])
    assert book.state(at(6), NODE.id) is State.OPEN


def test_the_newest_pulses_are_told_to_who_asks(book):
    assert book.newest([NODE.id, OTHER.id]) == []
    book.take(at(5), SENDER, [BUSY.pulse(5), OPEN.pulse(5)])
    assert book.newest([NODE.id]) == [OPEN.pulse(5), BUSY.pulse(5)]
    book.take(at(6), SENDER, [OPEN.pulse(6)])
    assert book.newest([NODE.id]) == [OPEN.pulse(6)]


# --- cost ---


def test_a_check_walks_from_the_last_value_known(book, monkeypatch):
    walked = []
    real = pulse.walk

    def counting(node, value, steps):
        walked.append(steps)
        return real(node, value, steps)

    monkeypatch.setattr(pulse, "walk", counting)
    for slot in (80, 80, 81, 79, 83):
        book.take(at(81), SENDER, [OPEN.pulse(slot)])
    book.take(at(83), SENDER, [OPEN.pulse(83)])
    assert walked == [80, 1, 2]


def test_a_sender_of_forged_pulses_spends_its_own_share(book):
    forged = OPEN.pulse(150)._replace(value=bytes(16))
    tries = int(liveness.SENDER_BURST // 150)
    book.take(at(150), SENDER, [forged] * (2 * tries))
    assert book.statistics()[Fate.FORGED] == tries
    assert fate(book, at(150), OPEN.pulse(150)) is Fate.RATIONED
    assert fate(book, at(150), OPEN.pulse(150), sender=OTHER.id) is Fate.ACCEPTED


def test_all_senders_together_take_five_percent_of_a_core():
    seconds_a_step = 0.5e-6
    assert liveness.STEPS_RATE * seconds_a_step <= 0.05


def test_a_step_of_a_walk_takes_a_few_microseconds_at_most():
    steps, begin = 20_000, process_time()
    pulse.walk(NODE.id, bytes(16), steps)
    assert (process_time() - begin) / steps < 5e-6


# --- against a model that knows which pulses are real ---


class Pulses(RuleBasedStateMachine):
    """The book accepts exactly the real pulses that are timely and newer than all before."""

    @initialize()
    def begin(self):
        self.book = PulseBook(EPOCH)
        self.nodes = [Identity(bytes([seed]) * 32) for seed in range(3)]
        self.chains = {
            (index, kind): PulseChain(node, SEQ, kind)
            for index, node in enumerate(self.nodes)
            for kind in Kind
        }
        for node in self.nodes:
            self.book.expect(node.id, ISSUED, pulse.anchors_of(node, SEQ))
        self.last = dict.fromkeys(self.chains, 0)
        self.current = 1

    @rule(slots=st.integers(1, 3))
    def wait(self, slots):
        self.current = min(160, self.current + slots)

    @rule(
        index=st.integers(0, 2),
        kind=st.sampled_from(Kind),
        ahead=st.integers(-4, 3),
        forge=st.sampled_from([None, "slot", "kind", "value", "node"]),
    )
    def send(self, index, kind, ahead, forge):
        slot = min(160, max(1, self.current + ahead))
        one = self.chains[index, kind].pulse(slot)
        if forge == "slot":
            one = one._replace(slot=slot % 160 + 1)
        elif forge == "kind":
            one = one._replace(kind=Kind(1 - kind))
        elif forge == "value":
            one = one._replace(value=bytes(16))
        elif forge == "node":
            one = one._replace(prefix=self.nodes[(index + 1) % 3].id[:8])

        timely = self.current - 2 <= slot <= self.current + 1
        right = forge is None and timely and slot > self.last[index, kind]
        assert self.book.take(at(self.current), SENDER, [one]) == ([one] if right else [])
        if right:
            self.last[index, kind] = slot

    @invariant()
    def says_what_the_model_says(self):
        for index, node in enumerate(self.nodes):
            open_, busy = self.last[index, Kind.OPEN], self.last[index, Kind.BUSY]
            fresh = self.current - 1
            if max(open_, busy) < fresh:
                expected = State.GONE
            else:
                expected = State.BUSY if busy and busy >= open_ else State.OPEN
            assert self.book.state(at(self.current), node.id) is expected


TestPulses = Pulses.TestCase
TestPulses.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
