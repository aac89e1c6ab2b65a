"""What a mint signs for is its own word, to the byte, and nobody else's."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.credit import MAX_COINS
from ledger.messages import MAX_SIGNED
from ledger.money import MAX_NANO, Nano
from ledger.receipt import Iou, LockReceipt
from p2p import codec
from p2p.errors import BadSignature, CodecError, RemoteError
from p2p.identity import AdnlId, Identity

MINT, OTHER = Identity(b"m" * 32), Identity(b"o" * 32)
RECEIPT = LockReceipt(
    lock=b"\x01" * 32,
    worker=AdnlId(b"\x02" * 32),
    session=b"\x03" * 32,
    amount=Nano(100_352),
    tick=Nano(10_000),
    ticks=10,
    root=b"\x04" * 32,
    expiry=1_795_000_600,
    issued=1_795_000_000,
    nullifiers=(b"\x05" * 32, b"\x06" * 32),
)
IOU = Iou(worker=AdnlId(b"\x02" * 32), owed=Nano(40_000), at=1_795_000_000)


def sign(body, domain):
    data = codec.pack(body)
    return data + MINT.sign(domain + data)


@pytest.mark.parametrize(
    ("made", "digest"), [(RECEIPT, "c26ae945e479c42c"), (IOU, "a0c21e4cfc8cd286")]
)
def test_what_is_signed_has_the_bytes_it_always_had(made, digest):
    signed = made.sign(MINT)
    assert signed == made.sign(MINT)
    assert type(made).parse(signed, MINT.public) == made
    assert sha256(signed[:-64]).digest()[:8].hex() == digest


@pytest.mark.parametrize("made", [RECEIPT, IOU])
def test_another_mint_has_not_signed_it(made):
    with pytest.raises(BadSignature):
        type(made).parse(made.sign(OTHER), MINT.public)


def test_neither_is_the_other():
    with pytest.raises(BadSignature):
        Iou.parse(RECEIPT.sign(MINT), MINT.public)
    with pytest.raises(BadSignature):
        LockReceipt.parse(IOU.sign(MINT), MINT.public)


@pytest.mark.parametrize("made", [RECEIPT, IOU])
def test_every_byte_is_signed(made):
    signed = made.sign(MINT)
    for at in range(len(signed)):
        altered = bytearray(signed)
        altered[at] ^= 1
        with pytest.raises(RemoteError):
            type(made).parse(bytes(altered), MINT.public)
    for size in (0, 10, 64, len(signed) - 1):
        with pytest.raises(RemoteError):
            type(made).parse(signed[:size], MINT.public)


def test_a_mint_that_signs_nonsense_is_not_believed():
    fields = {"v": 1, "worker": b"\x02" * 32, "owed": 1, "at": 1}
    assert Iou.parse(sign(fields, b"tussah/iou/1\0"), MINT.public).owed == Nano(1)
    for change in (
        {"v": 2},
        {"owed": -1},
        {"owed": 2**63},
        {"owed": 2**55},
        {"worker": b""},
        {"more": 1},
    ):
        with pytest.raises(CodecError):
            Iou.parse(sign({**fields, **change}, b"tussah/iou/1\0"), MINT.public)


def test_the_longest_receipt_fits():
    long = replace(
        RECEIPT,
        amount=Nano(MAX_NANO),
        tick=Nano(MAX_NANO),
        nullifiers=tuple(bytes([n]) * 32 for n in range(MAX_COINS)),
    )
    assert len(long.sign(MINT)) <= MAX_SIGNED
    assert LockReceipt.parse(long.sign(MINT), MINT.public) == long
    with pytest.raises(RemoteError):
        LockReceipt.parse(bytes(MAX_SIGNED + 1), MINT.public)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    for kind in (LockReceipt, Iou):
        with pytest.raises(RemoteError):
            kind.parse(data, MINT.public)
