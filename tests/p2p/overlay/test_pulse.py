"""Pulses: the bytes of the specification, one value a slot, and none that can be guessed ahead."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import codec
from p2p.errors import CodecError
from p2p.identity import Identity
from p2p.overlay import pulse
from p2p.overlay.pulse import SLOTS, Heart, Kind, Pulse, PulseChain

IDENTITY = Identity(bytes(range(32)))
SEQ = 1_800_000_000
EPOCH = 600.0
ISSUED = 1_800_000_123.0
BEGIN = 1_800_000_000.0
"""Of the epoch of issue."""
OFFSET = pulse.offset_of(IDENTITY.id, EPOCH)


def written_out(seq, kind, slot):
    """The value of a slot, computed as the specification says it and not as the module does."""
    seed = bytes(range(32))
    value = sha256(
        b"tussah/pulse/root" + seed + seq.to_bytes(8, "little") + bytes([kind])
    ).digest()[:16]
    for _ in range(160 - slot):
        value = sha256(b"tussah/pulse" + IDENTITY.id + value).digest()[:16]
    return value


# --- chains ---


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("slot", [1, 2, 80, 160])
def test_the_values_are_those_of_the_specification(kind, slot):
    chain = PulseChain(IDENTITY, SEQ, kind)
    assert chain.anchor == written_out(SEQ, kind, 0)
    assert chain.pulse(slot) == Pulse(IDENTITY.id[:8], slot, kind, written_out(SEQ, kind, slot))


def test_every_value_leads_to_the_anchor_in_as_many_steps_as_its_slot():
    chain = PulseChain(IDENTITY, SEQ, Kind.OPEN)
    for slot in range(1, SLOTS + 1):
        assert pulse.walk(IDENTITY.id, chain.pulse(slot).value, slot) == chain.anchor


@pytest.mark.parametrize("slot", [-1, 0, 161])
def test_a_chain_has_no_other_slots(slot):
    with pytest.raises(ValueError, match="slot"):
        PulseChain(IDENTITY, SEQ, Kind.OPEN).pulse(slot)


def test_another_seq_kind_or_identity_has_other_chains():
    other = Identity(bytes(32))
    anchors = [
        PulseChain(IDENTITY, SEQ, Kind.OPEN).anchor,
        PulseChain(IDENTITY, SEQ, Kind.BUSY).anchor,
        PulseChain(IDENTITY, SEQ + 1, Kind.OPEN).anchor,
        PulseChain(other, SEQ, Kind.OPEN).anchor,
    ]
    assert len(set(anchors)) == 4


def test_an_advert_holds_the_anchors_open_first():
    open_, busy = (PulseChain(IDENTITY, SEQ, kind).anchor for kind in (Kind.OPEN, Kind.BUSY))
    assert pulse.anchors_of(IDENTITY, SEQ) == open_ + busy


# --- slots ---


@pytest.mark.parametrize(
    ("now", "issued", "slot"),
    [
        (1_200.0, 1_200.0, 0),
        (1_799.9, 1_200.0, 0),
        (1_800.0, 1_799.9, 1),
        (1_799.9, 1_800.0, -1),
        (1_200.0 + 160 * 600, 1_799.9, 160),
    ],
)
def test_slots_are_epochs_since_that_of_the_issue(now, issued, slot):
    assert pulse.slot_of(now, issued, EPOCH) == slot


def test_a_dev_network_counts_in_its_own_epochs():
    assert pulse.slot_of(109.9, 95.0, 10.0) == 1
    assert pulse.slot_of(110.0, 95.0, 10.0) == 2


@pytest.mark.parametrize("high", [0, 1, 128, 255])
def test_the_offset_is_that_of_the_id_within_four_fifths_of_an_epoch(high):
    node = bytes(8) + bytes([7, high]) + bytes(22)
    assert pulse.offset_of(node, EPOCH) == pytest.approx((high * 256 + 7) / 65_536 * 480)


# --- bytes ---


def test_a_pulse_has_26_bytes_in_their_order():
    packed = pulse.pack_pulses([PulseChain(IDENTITY, SEQ, Kind.BUSY).pulse(7)])
    assert packed == IDENTITY.id[:8] + bytes([7, 1]) + written_out(SEQ, Kind.BUSY, 7)
    assert len(packed) == 26


pulses = st.builds(
    Pulse,
    prefix=st.binary(min_size=8, max_size=8),
    slot=st.integers(1, SLOTS),
    kind=st.sampled_from(Kind),
    value=st.binary(min_size=16, max_size=16),
)


@given(st.lists(pulses, min_size=1, max_size=36))
def test_a_cast_gives_back_what_was_put_into_it(many):
    body = pulse.pack_cast(many)
    assert pulse.read_cast(codec.unpack(body, 1_024)) == many


@given(st.binary(max_size=100))
def test_any_bytes_are_pulses_or_refused(buffer):
    try:
        many = pulse.read_pulses(buffer, 3)
    except CodecError:
        return
    assert len(many) <= 3
    assert pulse.pack_pulses(many) == buffer


@pytest.mark.parametrize("size", [0, 37])
def test_no_cast_is_empty_or_longer_than_a_message(size):
    with pytest.raises(ValueError, match="36"):
        pulse.pack_cast([Pulse(bytes(8), 1, Kind.OPEN, bytes(16))] * size)


def raw(slot=1, kind=0):
    return bytes(8) + bytes([slot, kind]) + bytes(16)


@pytest.mark.parametrize(
    "body",
    [
        (16,),
        (16, b""),
        (16, raw() * 37),
        (16, raw()[:-1]),
        (16, raw() + b"x"),
        (16, raw(slot=0)),
        (16, raw(slot=161)),
        (16, raw(kind=2)),
        (16, raw(), 0),
        (16, [raw()]),
        (16, "text"),
    ],
)
def test_a_cast_of_pulses_that_breaks_a_rule_is_refused(body):
    with pytest.raises(CodecError):
        pulse.read_cast(body)


@pytest.mark.parametrize(
    "body", [None, 16, (), (17, bytes(16)), ("16", raw()), {16: raw()}, b"\x10"]
)
def test_another_cast_is_none_of_pulses(body):
    assert pulse.read_cast(body) is None


def test_a_full_cast_fits_into_a_plain_overlay_message():
    body = pulse.pack_cast([Pulse(bytes(8), 1, Kind.OPEN, bytes(16))] * 36)
    overlay_message, tussah_cast, length = 36, 4, 4
    assert overlay_message + tussah_cast + length + len(body) <= 988


# --- a heart ---


def at(slot, seconds=0.0):
    return BEGIN + slot * EPOCH + OFFSET + seconds


@pytest.fixture
def heart():
    return Heart(IDENTITY, SEQ, ISSUED, EPOCH)


def test_a_heart_beats_once_a_slot_at_its_offset(heart):
    assert heart.beat(ISSUED) is None
    assert heart.next_deadline(ISSUED) == at(1)
    assert heart.beat(at(1, -1)) is None
    assert heart.beat(at(1)) == PulseChain(IDENTITY, SEQ, Kind.OPEN).pulse(1)
    assert heart.beat(at(1, 1)) is None
    assert heart.next_deadline(at(1, 1)) == at(2)
    assert heart.beat(at(2)) == PulseChain(IDENTITY, SEQ, Kind.OPEN).pulse(2)


def test_a_laptop_that_slept_gives_the_pulse_of_the_slot_it_wakes_in(heart):
    heart.beat(at(1))
    assert heart.next_deadline(at(5, 1)) == at(5)
    assert heart.beat(at(5, 1)).slot == 5


def test_busy_is_said_at_once_and_once_a_slot(heart):
    heart.beat(at(3))
    assert heart.busy(at(3, 10)) == PulseChain(IDENTITY, SEQ, Kind.BUSY).pulse(3)
    assert heart.busy(at(3, 11)) is None
    assert heart.beat(at(4)) == PulseChain(IDENTITY, SEQ, Kind.BUSY).pulse(4)


def test_who_was_busy_before_its_beat_says_nothing_more_in_that_slot(heart):
    assert heart.busy(at(3, -1)).slot == 3
    heart.free()
    assert heart.beat(at(3)) is None
    assert heart.beat(at(4)).kind is Kind.OPEN


def test_nothing_is_said_in_the_slot_of_issue(heart):
    assert heart.busy(ISSUED + 1) is None
    assert heart.beat(at(1)).kind is Kind.BUSY


def test_a_heart_stops_at_the_end_of_its_chain(heart):
    assert heart.beat(at(160)).slot == 160
    assert heart.next_deadline(at(160)) is None
    assert heart.beat(at(161)) is None
    assert heart.busy(at(161)) is None
