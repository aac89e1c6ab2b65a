"""The keys of a channel, and what is sealed with them."""

from hashlib import sha256

import pytest
from Cryptodome.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core.crypto.ciphers import AdnlChannel, Client, Server

from p2p.adnl import box
from p2p.adnl.channel import agree, channel_id
from p2p.adnl.drops import Drop
from p2p.adnl.keys import KeyPair, to_curve
from p2p.errors import AdnlError
from p2p.identity import AdnlId

SMALL, LARGE = AdnlId(b"a" * 32), AdnlId(b"b" * 32)
SECRETS = st.binary(min_size=32, max_size=32)


def channels(own, peer):
    first, second = KeyPair(b"1" * 32), KeyPair(b"2" * 32)
    return agree(first, second.public, own, peer), agree(second, first.public, peer, own)


@pytest.mark.parametrize(("own", "peer"), [(SMALL, LARGE), (LARGE, SMALL), (SMALL, SMALL)])
@given(plain=st.binary(max_size=1_300))
def test_each_side_reads_what_the_other_writes(own, peer, plain):
    first, second = channels(own, peer)
    assert second.unseal(first.seal(plain)) == plain
    assert first.unseal(second.seal(plain)) == plain
    assert first.seal(plain)[:32] == first.out_id == second.in_id


def test_the_smaller_id_reads_with_the_secret_and_writes_with_its_reverse():
    secret = KeyPair(b"1" * 32).shared(to_curve(KeyPair(b"2" * 32).public))
    first, second = channels(SMALL, LARGE)
    assert first.in_id == second.out_id == channel_id(secret)
    assert first.out_id == second.in_id == channel_id(secret[::-1])


def test_equal_ids_use_one_secret_both_ways():
    first, second = channels(SMALL, SMALL)
    assert first.in_id == first.out_id == second.in_id


def test_a_channel_of_pytoniq_is_the_other_side():
    theirs = AdnlChannel(Client(b"2" * 32), Server("", 0, KeyPair(b"1" * 32).public), LARGE, SMALL)
    ours = agree(KeyPair(b"1" * 32), KeyPair(b"2" * 32).public, SMALL, LARGE)
    assert ours.unseal(theirs.encrypt(b"from them")) == b"from them"
    datagram = ours.seal(b"from us")
    assert datagram[:32] == theirs.server_aes_key_id
    assert theirs.decrypt(datagram[64:], datagram[32:64]) == b"from us"


@given(SECRETS, st.binary(max_size=200))
def test_the_cipher_is_aes_256_in_counter_mode(secret, plain):
    sealed = box.seal(secret, plain)
    digest = sha256(plain).digest()
    counter = AES.new(
        secret[:16] + digest[16:],
        AES.MODE_CTR,
        nonce=b"",
        initial_value=digest[:4] + secret[20:],
    )
    assert sealed == digest + counter.encrypt(plain)
    assert box.unseal(secret, b"head" + sealed, 4) == plain


@given(st.binary(max_size=100), st.integers(0), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(plain, at, change):
    first, second = channels(SMALL, LARGE)
    datagram = bytearray(first.seal(plain))
    datagram[32 + at % (len(datagram) - 32)] ^= change
    with pytest.raises(AdnlError) as caught:
        second.unseal(bytes(datagram))
    assert caught.value.reason is Drop.DIGEST


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"short",
        bytes(32),
        b"\x01" + bytes(31),
        b"\xff" * 32,
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    ],
)
def test_what_is_no_usable_key_is_refused(public):
    with pytest.raises(AdnlError) as caught:
        to_curve(public)
    assert caught.value.reason is Drop.KEY
