"""Vouchers: the cell that the contract hashes, and one form on the wire."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Address, begin_cell

from ledger import voucher
from ledger.money import MAX_NANO, ZERO, Nano
from ledger.voucher import MAX_VOUCHER, Voucher, body_hash, sign, verify
from p2p import codec
from p2p.entropy import seeded
from p2p.errors import BadSignature, CodecError
from p2p.identity import Identity

KEY = Identity(bytes([7] * 32))
LANE = bytes(range(32))

lanes = st.binary(min_size=32, max_size=32)
amounts = st.integers(0, MAX_NANO).map(Nano)


@pytest.mark.parametrize(
    ("nano", "digest"),
    [
        (0, "19aad657754f1516588d67c1a41a8343bd13f3fe6eed4aa0fe8e8add1ef516e9"),
        (10**9, "503d4954b566ae452694e3663b5a8acf29a5a2a8cb0f4906036e8ba6291e298d"),
    ],
)
def test_vectors(nano, digest):
    assert body_hash(LANE, Nano(nano)).hex() == digest


def _cell_hash(lane: bytes, nano: int) -> bytes:
    """What pytoniq-core, which builds real cells, says."""
    body = begin_cell().store_uint(0x4C414E45, 32).store_address(Address((0, lane)))
    return body.store_coins(nano).end_cell().hash


def test_the_hash_is_that_of_the_cell_for_amounts_of_every_size():
    entropy = seeded(1)
    for i in range(1_000):
        lane, nano = entropy.token(32), entropy.below(2 ** (1 + i % 63))
        assert body_hash(lane, Nano(nano)) == _cell_hash(lane, nano)


@pytest.mark.parametrize("nano", [0, 1, 255, 256, 2**32 - 1, 2**32, 2**56 - 1, 2**56, MAX_NANO])
def test_the_hash_is_that_of_the_cell_where_the_amount_grows_a_byte(nano):
    assert body_hash(LANE, Nano(nano)) == _cell_hash(LANE, nano)


@pytest.mark.slow
def test_the_hash_is_that_of_the_cell_ten_thousand_times():
    entropy = seeded(2)
    for _ in range(10_000):
        lane, nano = entropy.token(32), entropy.below(2 ** (1 + entropy.below(63)))
        assert body_hash(lane, Nano(nano)) == _cell_hash(lane, nano)


@settings(max_examples=50)
@given(lanes, amounts)
def test_what_is_packed_reads_back_and_verifies(lane, amount):
    signed = sign(KEY, lane, amount)
    assert Voucher.parse(signed.pack()) == signed
    verify(KEY.public, signed)


def test_the_longest_voucher_is_within_its_bound():
    assert len(sign(KEY, LANE, Nano(MAX_NANO)).pack()) == 110 < MAX_VOUCHER


def test_signing_again_gives_the_same_bytes():
    assert sign(KEY, LANE, Nano(5)) == sign(KEY, LANE, Nano(5))


@pytest.mark.parametrize(
    "forged",
    [
        Voucher(lane=LANE, cumulative=Nano(6), sig=sign(KEY, LANE, Nano(5)).sig),
        Voucher(lane=bytes(32), cumulative=Nano(5), sig=sign(KEY, LANE, Nano(5)).sig),
        Voucher(lane=LANE, cumulative=Nano(5), sig=bytes(64)),
        sign(Identity(bytes(32)), LANE, Nano(5)),
    ],
)
def test_a_voucher_that_the_payer_did_not_sign_is_refused(forged):
    with pytest.raises(BadSignature):
        verify(KEY.public, forged)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_lane_of_another_size_is_our_own_bug(size):
    with pytest.raises(ValueError, match="32 bytes"):
        body_hash(bytes(size), ZERO)


GOOD = sign(KEY, LANE, Nano(10**9))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        codec.pack([]),
        codec.pack([LANE, 1]),
        codec.pack([LANE, 1, GOOD.sig, 0]),
        codec.pack([LANE[:31], 1, GOOD.sig]),
        codec.pack([LANE, 1, GOOD.sig[:63]]),
        codec.pack([LANE, -1, GOOD.sig]),
        codec.pack([LANE, MAX_NANO + 1, GOOD.sig]),
        codec.pack([LANE, True, GOOD.sig]),
        codec.pack([LANE, None, GOOD.sig]),
        codec.pack({"lane": LANE}),
        GOOD.pack() + b"\0",
        bytes(MAX_VOUCHER + 1),
    ],
)
def test_other_bytes_are_no_voucher(packed):
    with pytest.raises(CodecError):
        Voucher.parse(packed)


def test_a_voucher_cut_short_is_none():
    packed = GOOD.pack()
    for size in range(len(packed)):
        with pytest.raises(CodecError):
            Voucher.parse(packed[:size])


def test_a_changed_byte_never_verifies():
    packed = GOOD.pack()
    for at in range(len(packed)):
        mutant = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        with pytest.raises((CodecError, BadSignature)):
            voucher.verify(KEY.public, Voucher.parse(mutant))
