"""The ledger's messages: there and back, to the byte as recorded, and nothing else is read."""

from dataclasses import fields, replace
from hashlib import sha256
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import wire
from ledger.credit import LEAST, MAX_COINS, MAX_SPEND, MOST, Signed
from ledger.lane import Account, LaneConfig
from ledger.messages import (
    MAX_DETAIL,
    MAX_LANES,
    MAX_RESTORE,
    Buy,
    Change,
    Changed,
    Code,
    Err,
    KeysetList,
    Keysets,
    LaneAccept,
    LaneAck,
    LaneClose,
    LaneClosing,
    LaneLanes,
    LaneList,
    LaneOffer,
    LaneProgress,
    LanePropose,
    LaneTerms,
    LaneVoucher,
    LaneWant,
    Lock,
    Locked,
    Message,
    Pending,
    Progress,
    Reply,
    Request,
    Restore,
    Restored,
    Settle,
    Settled,
    Sigs,
    Swap,
)
from ledger.money import MAX_NANO, Nano
from ledger.voucher import Voucher
from p2p import codec
from p2p.errors import CodecError

HASH = bytes(range(32))
SIGNED = Signed(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
VOUCHER = Voucher(lane=HASH, cumulative=Nano(10**9), sig=b"\x04" * 64)
CONFIG = LaneConfig(
    payer_key=b"\x05" * 32,
    payee_key=b"\x06" * 32,
    payer=Account(b"\x07" * 32),
    payee=Account(b"\x08" * 32),
    network=-239,
    lane_id=2**64 - 1,
    close_delay=86_400,
    min_claim=Nano(100_000_000),
)

# One of each, and the first 8 bytes of the SHA-256 of its bytes: other bytes are another protocol.
EXAMPLES = [
    (Err(Code.SPENT, "ab" * 32), "672c1edff2dd26db"),
    (LaneTerms(), "9c3b4aa40cff505e"),
    (
        LaneOffer(
            payee=Account(HASH),
            payee_key=HASH,
            network=-4242,
            min_claim=Nano(0),
            close_delay=86_400,
            codes=(HASH,),
        ),
        "26b8668961796b3f",
    ),
    (LanePropose(config=CONFIG, code=HASH, voucher=VOUCHER, lt=46_000_000_001), "809686b5b20657ee"),
    (LaneAccept(HASH), "0e27a5c2d02443d4"),
    (LaneVoucher(VOUCHER, "more"), "263f154a22e8e2b1"),
    (LaneAck(Nano(10**9)), "337d6f896e932f3c"),
    (LaneList(), "c761b170d5a486fa"),
    (LaneLanes(((CONFIG, VOUCHER),)), "d1a55efc251c7bc0"),
    (LaneClose(VOUCHER), "fab2c96e3604b6f9"),
    (LaneClosing(HASH), "0cdbb4c147d496cb"),
    (LaneWant(), "8df09dd1a670ab02"),
    (LaneProgress(Progress.OPENING), "07d2629ade1648e8"),
    (Keysets(), "6c2b854d49788f5d"),
    (KeysetList((b"old", b"new")), "e7b9843f87857c55"),
    (
        Buy(rid=b"r" * 16, voucher=VOUCHER, bundle="S", epoch=7, outputs=(HASH,) * 22),
        "cd5e871d5fbc1032",
    ),
    (Sigs((SIGNED,) * 22), "d55e8eb8bb379028"),
    (Change(HASH, b"\x09" * 32), "28b8747703d14f91"),
    (Pending(1_795_000_720), "9d3f45e0fe2937f5"),
    (Changed(paid_ticks=3, sigs=((16, SIGNED), (10, SIGNED))), "f67ae30285d5d806"),
    (Swap(b"spend", 8, ((27, HASH), (10, HASH))), "49b43b57260155dd"),
    (Restore((HASH, HASH)), "229af12d8a299a83"),
    (Restored(((HASH, 12, SIGNED),)), "dcb35dea3b87ff19"),
    (Lock(b"spend", None), "a670591af8c7243e"),
    (Lock(b"spend", HASH), "25359a389f650a16"),
    (Locked(b"receipt"), "c0a094fc5ec2f7ef"),
    (Settle(lock=HASH, i=16_384, x=HASH, final=True), "06b8595aca419d76"),
    (Settled(i=4, voucher=VOUCHER, iou=None, change_ready=True), "81c922ba06ffb494"),
    (Settled(i=4, voucher=None, iou=b"iou", change_ready=False), "8021e4d853b5555f"),
]
KINDS = pytest.mark.parametrize("message", [m for m, _ in EXAMPLES], ids=lambda m: type(m).__name__)


def read(message, data):
    return (wire.read_request if isinstance(message, Request) else wire.read_reply)(data)


@pytest.mark.parametrize(
    ("message", "digest"), EXAMPLES, ids=[type(m).__name__ for m, _ in EXAMPLES]
)
def test_each_message_has_the_bytes_it_always_had(message, digest):
    assert sha256(wire.encode(message)).digest()[:8].hex() == digest


def test_there_is_an_example_of_every_message():
    assert {type(message) for message, _ in EXAMPLES} == set(get_args(Message))


@KINDS
def test_a_message_comes_back_as_it_was(message):
    assert read(message, wire.encode(message)) == message


@KINDS
def test_a_request_is_no_reply_and_the_other_way_round(message):
    other = wire.read_reply if isinstance(message, Request) else wire.read_request
    with pytest.raises(CodecError):
        other(wire.encode(message))


@KINDS
def test_every_byte_counts(message):
    data = wire.encode(message)
    for size in range(len(data)):
        with pytest.raises(CodecError):
            read(message, data[:size])
    with pytest.raises(CodecError):
        read(message, data + b"\0")


@KINDS
def test_a_message_has_exactly_its_fields_in_version_1(message):
    values = codec.unpack(wire.encode(message), wire.MAX_REPLY)
    for bad in (
        *({k: v for k, v in values.items() if k != name} for name in values),
        {**values, "extra": 1},
        {**values, "v": 2},
        {**values, "v": True},
        {**values, "t": "mint.unknown"},
        {**values, "t": 1},
    ):
        with pytest.raises(CodecError):
            read(message, codec.pack(bad))


@KINDS
def test_every_field_has_a_type_and_a_bound(message):
    values = codec.unpack(wire.encode(message), wire.MAX_REPLY)
    hostile = [{}, [[]], -(2**40), 2**64 - 1, b"\0" * 5_000, "x" * 300, [None] * 200]
    for field in fields(message):
        for value in hostile:
            with pytest.raises(CodecError):
                read(message, codec.pack({**values, field.name: value}))


def test_the_largest_messages_fit():
    assert len(wire.encode(Restore((HASH,) * MAX_RESTORE))) < wire.MAX_REQUEST
    assert len(wire.encode(Swap(bytes(MAX_SPEND), 9, ((27, HASH),) * MAX_COINS))) < wire.MAX_REQUEST
    for reply in (
        Restored(((HASH, 27, SIGNED),) * MAX_RESTORE),
        Sigs((SIGNED,) * MAX_COINS),
        LaneLanes(((CONFIG, replace(VOUCHER, cumulative=Nano(MAX_NANO))),) * MAX_LANES),
        KeysetList((bytes(763),) * 9),
    ):
        assert wire.read_reply(wire.encode(reply)) == reply


@pytest.mark.parametrize(
    "message",
    [
        Restore((HASH,) * (MAX_RESTORE + 1)),
        Swap(bytes(MAX_SPEND + 1), 9, ()),
        Swap(b"", 9, ((LEAST - 1, HASH),)),
        Swap(b"", 9, ((MOST + 1, HASH),)),
        Settle(lock=HASH, i=16_385, x=HASH, final=False),
        Settle(lock=HASH, i=-1, x=HASH, final=False),
        Buy(rid=b"r" * 15, voucher=VOUCHER, bundle="S", epoch=7, outputs=()),
        Buy(rid=b"r" * 16, voucher=VOUCHER, bundle="SS", epoch=7, outputs=()),
        LaneVoucher(VOUCHER, "x" * 65),
    ],
)
def test_one_too_many_is_refused(message):
    with pytest.raises(CodecError):
        read(message, wire.encode(message))


def test_too_long_is_refused_before_it_is_read():
    with pytest.raises(CodecError, match="too long"):
        wire.read_request(bytes(wire.MAX_REQUEST + 1))
    with pytest.raises(CodecError, match="too long"):
        wire.read_reply(bytes(wire.MAX_REPLY + 1))


@pytest.mark.parametrize("detail", ["x" * 1_000, "two\nlines", "ü" * 300, "\ud800", "e\u0301"])
def test_whatever_an_error_says_it_can_be_sent(detail):
    reply = wire.read_reply(wire.encode(Err(Code.VOUCHER, detail)))
    assert reply.code is Code.VOUCHER
    assert len(reply.detail.encode()) <= MAX_DETAIL


def test_an_answer_is_of_the_kind_asked_for_or_a_refusal():
    assert wire.answer(wire.encode(LaneAck(Nano(1))), LaneAck) == LaneAck(Nano(1))
    assert wire.answer(wire.encode(Err(Code.BUSY)), LaneAck) == Err(Code.BUSY)
    with pytest.raises(CodecError):
        wire.answer(wire.encode(Pending(7)), LaneAck)


def test_the_secret_of_change_is_not_shown():
    assert repr(b"\x09" * 32) not in repr(Change(HASH, b"\x09" * 32))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    for reader in (wire.read_request, wire.read_reply):
        try:
            message = reader(data)
        except CodecError:
            continue
        assert wire.encode(message) == data


hashes = st.binary(min_size=32, max_size=32)
amounts = st.integers(0, MAX_NANO).map(Nano)
vouchers = st.builds(
    Voucher, lane=hashes, cumulative=amounts, sig=st.binary(min_size=64, max_size=64)
)
signed = st.builds(Signed, hashes, hashes, hashes)
exponents = st.integers(LEAST, MOST)
lists = st.lists(hashes, max_size=5).map(tuple)

messages = st.one_of(
    st.builds(
        Buy,
        rid=st.binary(min_size=16, max_size=16),
        voucher=vouchers,
        bundle=st.sampled_from("SML"),
        epoch=st.integers(0, 2**32 - 1),
        outputs=lists,
    ),
    st.builds(
        Swap,
        st.binary(max_size=99),
        st.integers(0, 2**32 - 1),
        st.lists(st.tuples(exponents, hashes), max_size=5).map(tuple),
    ),
    st.builds(Lock, st.binary(max_size=99), st.none() | hashes),
    st.builds(Settle, lock=hashes, i=st.integers(0, 16_384), x=hashes, final=st.booleans()),
    st.builds(
        Settled,
        i=st.integers(0, 16_384),
        voucher=st.none() | vouchers,
        iou=st.none() | st.binary(max_size=99),
        change_ready=st.booleans(),
    ),
    st.builds(
        Changed,
        paid_ticks=st.integers(0, 16_384),
        sigs=st.lists(st.tuples(exponents, signed), max_size=5).map(tuple),
    ),
    st.builds(Restored, st.lists(st.tuples(hashes, exponents, signed), max_size=5).map(tuple)),
    st.builds(LaneVoucher, vouchers, st.sampled_from(["", "more", "größer"])),
    st.builds(LaneAck, amounts),
    st.builds(Err, st.sampled_from(Code), st.sampled_from(["", "left: 0.2 TON"])),
)


@given(messages)
def test_any_message_comes_back_as_it_was(message):
    assert isinstance(message, Request | Reply)
    assert read(message, wire.encode(message)) == message
