"""The stand-in behaves as the real KEM does wherever a protocol can look."""

import pytest

from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.noise import MlKem768
from simulations.kem import StandInKem

both = pytest.mark.parametrize("kem", [StandInKem(), MlKem768()], ids=["stand-in", "real"])


@both
def test_both_sides_get_one_secret(kem):
    private, public = kem.generate(seeded(1))
    ciphertext, secret = kem.encapsulate(public, seeded(2))
    assert kem.decapsulate(private, ciphertext) == secret
    assert [len(private), len(public), len(ciphertext), len(secret)] == [64, 1184, 1088, 32]


@both
def test_another_key_or_ciphertext_gives_another_secret(kem):
    private, public = kem.generate(seeded(1))
    other, _ = kem.generate(seeded(3))
    ciphertext, secret = kem.encapsulate(public, seeded(2))
    flipped = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    secrets = [secret, kem.decapsulate(other, ciphertext), kem.decapsulate(private, flipped)]
    assert len(dict.fromkeys(secrets)) == 3


@both
def test_every_encapsulation_has_its_own_secret(kem):
    _, public = kem.generate(seeded(1))
    entropy = seeded(2)
    pairs = [kem.encapsulate(public, entropy) for _ in range(3)]
    assert len(dict.fromkeys(pairs)) == 3


@both
def test_wrong_sizes_are_the_peers_fault(kem):
    private, public = kem.generate(seeded(1))
    with pytest.raises(OnionError):
        kem.encapsulate(public[1:], seeded(2))
    with pytest.raises(OnionError):
        kem.decapsulate(private, bytes(1087))


def test_seed_reproduces_the_stand_in():
    def run():
        kem, entropy = StandInKem(), seeded(5)
        private, public = kem.generate(entropy)
        return private, public, kem.encapsulate(public, entropy)

    assert run() == run()
