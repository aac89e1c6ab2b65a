"""The file of a wallet's keys: what opens it, and everything that must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings as sodium
from nacl.pwhash import argon2id

from ledger import keystore
from ledger.keys import Master
from ledger.keystore import Keys
from p2p.entropy import seeded
from p2p.errors import BadKeystore, WrongPassphrase

KEYS = Keys(words=("luna", "atlas") * 12, master=Master(b"m" * 32))
CHEAP = {"passes": 1, "memory": 8_192}
PHRASE = "correct horse"


def sealed(phrase=PHRASE, **costs):
    return keystore.seal(KEYS, phrase, seeded(1), **{**CHEAP, **costs})


@pytest.mark.parametrize("phrase", ["", PHRASE, "Motte mit ä", "x" * 1_024])
def test_keys_come_back(phrase):
    file = sealed(phrase)
    assert keystore.needs_passphrase(file) is bool(phrase)
    keys = keystore.unseal(file, phrase)
    assert keys.words == KEYS.words
    assert keys.master.secret == KEYS.master.secret


def test_file_is_what_the_format_says():
    """Read by its prose alone: header, argon2id, XChaCha20-Poly1305."""
    file = sealed()
    assert file[:17] == b"TSKS\x01" + (1).to_bytes(4, "little") + (8_192).to_bytes(8, "little")
    key = argon2id.kdf(32, PHRASE.encode(), file[17:33], opslimit=1, memlimit=8_192)
    plain = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
        file[57:], file[:57], file[33:57], key
    )
    assert plain == b"m" * 32 + b"luna atlas " * 11 + b"luna atlas"


def test_usual_costs_are_what_is_promised(monkeypatch):
    """Not paid here: a second of a core."""
    paid = []
    monkeypatch.setattr(argon2id, "kdf", lambda *given, **costs: paid.append(costs) or bytes(32))
    file = keystore.seal(KEYS, PHRASE, seeded(1))
    assert paid == [{"opslimit": 3, "memlimit": 256 << 20}]
    assert file[5:17] == (3).to_bytes(4, "little") + (256 << 20).to_bytes(8, "little")


def test_another_passphrase_does_not_open_it():
    for phrase in ("", "correct hors", PHRASE + " "):
        with pytest.raises(WrongPassphrase):
            keystore.unseal(sealed(), phrase)


@given(at=st.integers(0, 251), bit=st.integers(0, 7), phrase=st.sampled_from(["", PHRASE]))
def test_no_bit_of_it_can_be_changed(at, bit, phrase):
    """A changed cost is refused before it is spent, or found out by the seal."""
    file = bytearray(sealed(phrase))
    file[at % len(file)] ^= 1 << bit
    with pytest.raises((BadKeystore, WrongPassphrase)):
        keystore.unseal(bytes(file), phrase)


@given(st.binary(max_size=100) | st.binary(max_size=100).map(lambda rest: b"TSKS\x01" + rest))
def test_what_is_no_keystore_is_refused(file):
    with pytest.raises((BadKeystore, WrongPassphrase)):
        keystore.unseal(file, "")


@pytest.mark.parametrize(
    ("passes", "memory"), [(17, 8_192), (1, 1 << 31), (0, 8_192), (1, 0), (2**32 - 1, 2**64 - 1)]
)
def test_costs_out_of_bounds_are_not_paid(passes, memory):
    file = sealed()
    costs = passes.to_bytes(4, "little") + memory.to_bytes(8, "little")
    with pytest.raises(BadKeystore, match="bounds"):
        keystore.unseal(file[:5] + costs + file[17:], PHRASE)


def test_a_later_version_is_not_guessed_at():
    with pytest.raises(BadKeystore, match="version 2"):
        keystore.unseal(b"TSKS\x02" + sealed()[5:], PHRASE)


def test_keys_do_not_print():
    assert "luna" not in repr(KEYS)
    assert KEYS.master.secret.hex() not in repr(KEYS)
