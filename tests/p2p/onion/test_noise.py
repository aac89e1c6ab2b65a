"""Noise and ML-KEM against public vectors and two independent implementations.

`vectors/noise-nk.json` holds the NK vectors that the cacophony and snow projects publish, with the
field names unified.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kyber_py.ml_kem import ML_KEM_768
from noise.connection import Keypair, NoiseConnection

from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.noise import (
    KEM_CIPHERTEXT_SIZE,
    KEM_PUBLIC_SIZE,
    NK,
    NKPSK2,
    CipherState,
    Initiator,
    MlKem768,
    Responder,
    Suite,
    _agree,
    kem_psk,
    public_key,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/noise-nk.json").read_text())["vectors"]

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


class Listed:
    """Entropy that hands out what it was given, in order."""

    def __init__(self, *values):
        self.values = list(values)

    def token(self, n):
        value = self.values.pop(0)
        assert len(value) == n
        return value


def suite_of(vector):
    name = vector["protocol"]
    psk = {"NK": None, "NKpsk0": 0, "NKpsk2": 2}[name.split("_")[1]]
    return Suite(name=name, psk=psk, hash=name.split("_")[4].lower())


def pair(suite=NK, seed=1, prologue=b"here"):
    entropy = seeded(seed)
    static = entropy.token(32)
    return (
        Initiator(public_key(static), prologue, entropy, suite=suite),
        Responder(static, prologue, entropy, suite=suite),
    )


def shaken(suite=NK, psk=None):
    initiator, responder = pair(suite)
    responder.read(initiator.write(b"question"))
    initiator.read(responder.write(b"answer", psk), psk)
    return initiator, responder


# --- public vectors ---


def test_all_sixteen_public_vectors_are_here():
    names = [vector["protocol"].split("_")[1] for vector in VECTORS]
    assert (names.count("NK"), names.count("NKpsk0"), names.count("NKpsk2")) == (8, 4, 4)
    assert sum(vector["protocol"].endswith("SHA256") for vector in VECTORS) == 4


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['protocol']}-{v['source']}" for v in VECTORS])
def test_public_vector(vector):
    suite = suite_of(vector)
    prologue, psk = bytes.fromhex(vector["prologue"]), bytes.fromhex(vector["psk"] or "")
    initiator = Initiator(
        bytes.fromhex(vector["responder_static_public"]),
        prologue,
        Listed(bytes.fromhex(vector["initiator_ephemeral"])),
        suite=suite,
    )
    responder = Responder(
        bytes.fromhex(vector["responder_static"]),
        prologue,
        Listed(bytes.fromhex(vector["responder_ephemeral"])),
        suite=suite,
    )
    first, second, *transport = [
        (bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]
    ]

    psk0, psk2 = psk if suite.psk == 0 else None, psk if suite.psk == 2 else None
    assert initiator.write(first[0], psk0) == first[1]
    assert responder.read(first[1], psk0) == first[0]
    assert responder.write(second[0], psk2) == second[1]
    assert initiator.read(second[1], psk2) == second[0]
    if vector["handshake_hash"] is not None:
        assert responder._symmetric._transcript.hex() == vector["handshake_hash"]

    keys = initiator.split()
    assert keys == responder.split()
    states = CipherState(keys.forward), CipherState(keys.backward)
    others = CipherState(keys.forward), CipherState(keys.backward)
    for i, (payload, ciphertext) in enumerate(transport):
        assert states[i % 2].seal(b"", payload) == ciphertext
        assert others[i % 2].open(b"", ciphertext) == payload


# --- PyPI noiseprotocol, both ways ---


def judge(suite, psk, prologue, *, initiator):
    """Noiseprotocol on one side; its static key is the one given."""
    connection = NoiseConnection.from_name(suite.name.encode())
    connection.set_prologue(prologue)
    if psk is not None:
        connection.set_psks(psk)
    if initiator is not None:
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, initiator)
    else:
        connection.set_as_responder()
        connection.set_keypair_from_private_bytes(Keypair.STATIC, seeded(5).token(32))
    connection.start_handshake()
    return connection


def exchange(ours_out, ours_in, judge):
    """A transport of 3000 messages each way, rekeyed at each 1024 on both sides."""
    for number in range(3000):
        text = number.to_bytes(4, "little") * 5
        assert judge.decrypt(ours_out.seal(b"", text)) == text
        assert ours_in.open(b"", judge.encrypt(text)) == text
        if (number + 1) % 1024 == 0:
            judge.rekey_inbound_cipher()
            judge.rekey_outbound_cipher()


@pytest.mark.parametrize(("suite", "psk"), [(NK, None), (NKPSK2, bytes(range(32)))])
def test_initiator_agrees_with_noiseprotocol(suite, psk):
    theirs = judge(suite, psk, b"prologue", initiator=None)
    ours = Initiator(public_key(seeded(5).token(32)), b"prologue", seeded(6), suite=suite)

    assert theirs.read_message(ours.write(b"question")) == b"question"
    assert ours.read(bytes(theirs.write_message(b"answer")), psk) == b"answer"
    keys = ours.split()
    exchange(
        CipherState(keys.forward, rekey_every=1024),
        CipherState(keys.backward, rekey_every=1024),
        theirs,
    )


@pytest.mark.parametrize(("suite", "psk"), [(NK, None), (NKPSK2, bytes(range(32)))])
def test_responder_agrees_with_noiseprotocol(suite, psk):
    static = seeded(7).token(32)
    theirs = judge(suite, psk, b"prologue", initiator=public_key(static))
    ours = Responder(static, b"prologue", seeded(8), suite=suite)

    assert ours.read(bytes(theirs.write_message(b"question"))) == b"question"
    assert theirs.read_message(ours.write(b"answer", psk)) == b"answer"
    keys = ours.split()
    exchange(
        CipherState(keys.backward, rekey_every=1024),
        CipherState(keys.forward, rekey_every=1024),
        theirs,
    )


# --- what must fail ---


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_point_is_refused_on_both_sides(point):
    initiator, responder = pair()
    with pytest.raises(OnionError):
        responder.read(point + bytes(16))
    initiator.write(b"")
    with pytest.raises(OnionError):
        initiator.read(point + bytes(16))
    with pytest.raises(OnionError):
        Initiator(point, b"", seeded(1)).write(b"")


def test_other_prologue_or_static_key_opens_nothing():
    initiator, _ = pair(prologue=b"here")
    _, responder = pair(prologue=b"there")
    with pytest.raises(OnionError):
        responder.read(initiator.write(b""))
    other = Responder(bytes([7]) * 32, b"here", seeded(1))
    with pytest.raises(OnionError):
        other.read(initiator.write(b""))


def test_wrong_psk_opens_nothing():
    initiator, responder = pair(NKPSK2)
    responder.read(initiator.write(b""))
    with pytest.raises(OnionError):
        initiator.read(responder.write(b"", bytes(32)), bytes([1]) * 32)


@pytest.mark.parametrize("suite", [NK, NKPSK2])
def test_psk_in_the_wrong_place_is_our_own_bug(suite):
    initiator, responder = pair(suite)
    with pytest.raises(ValueError, match="mixes its psk elsewhere"):
        initiator.write(b"", bytes(32))
    initiator, responder = pair(suite)
    responder.read(initiator.write(b""))
    with pytest.raises(ValueError, match="mixes its psk elsewhere"):
        responder.write(b"", None if suite.psk == 2 else bytes(32))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_message_raise_only_our_error(data):
    for suite in (NK, NKPSK2):
        psk = bytes(32) if suite.psk == 2 else None
        initiator, responder = pair(suite)
        with pytest.raises(OnionError):
            responder.read(data)
        initiator.write(b"")
        with pytest.raises(OnionError):
            initiator.read(data, psk)


@given(st.integers(0, 8 * 56 - 1), st.booleans())
def test_any_flipped_bit_of_a_message_is_noticed(bit, second):
    initiator, responder = pair()
    message = initiator.write(b"question")
    if second:
        responder.read(message)
        message = responder.write(b"question")
    damaged = bytearray(message)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(OnionError):
        (initiator if second else responder).read(bytes(damaged))


# --- transport ---


@given(st.permutations(range(5)))
def test_messages_open_in_their_order_only(order):
    keys = shaken()[0].split()
    sender, receiver = CipherState(keys.forward), CipherState(keys.forward)
    sealed = [sender.seal(b"", bytes([i])) for i in range(5)]
    expected = 0
    for i in order:
        if i == expected:
            assert receiver.open(b"", sealed[i]) == bytes([i])
            expected += 1
        else:
            with pytest.raises(OnionError):
                receiver.open(b"", sealed[i])


def test_stolen_state_opens_nothing_older_than_its_generation():
    keys = shaken()[0].split()
    sender, thief = CipherState(keys.forward, rekey_every=4), CipherState(keys.forward)
    sealed = [sender.seal(b"", b"text") for _ in range(8)]
    thief.rekey()
    for number in range(8):
        thief._number = number
        if number < 4:
            with pytest.raises(OnionError):
                thief.open(b"", sealed[number])
        else:
            assert thief.open(b"", sealed[number]) == b"text"


def test_old_static_key_does_not_open_message_two():
    """Who records everything and steals the static key later lacks `ee`; `es` does not help."""
    initiator, responder = pair()
    message = initiator.write(b"")
    responder.read(message)
    reply = responder.write(b"offer")
    thief = pair()[1]
    thief.read(message)
    thief._symmetric.mix_ephemeral(NK, reply[:32])
    thief._symmetric.mix_key(_agree(thief._private, reply[:32]))
    with pytest.raises(OnionError):
        thief._symmetric.open(reply[32:])


def test_the_exporter_is_no_key_and_not_the_transcript():
    initiator, responder = shaken(NKPSK2, bytes(32))
    keys = initiator.split()
    public = (keys.forward, keys.backward, initiator._symmetric._transcript)
    assert keys.exporter == responder.split().exporter
    assert keys.exporter not in public


def test_keys_are_not_shown():
    keys = shaken()[0].split()
    assert repr(keys) == "Split()"
    assert keys.forward.hex() not in repr(CipherState(keys.forward))


# --- ML-KEM against kyber-py ---


def test_kem_key_from_a_seed_is_the_one_of_kyber_py():
    private, public = MlKem768().generate(seeded(3))
    expected, _ = ML_KEM_768.key_derive(private)
    assert public == expected
    assert len(public) == KEM_PUBLIC_SIZE


def test_kem_agrees_with_kyber_py_both_ways():
    kem = MlKem768()
    private, public = kem.generate(seeded(3))
    secret, ciphertext = ML_KEM_768._encaps_internal(public, seeded(4).token(32))
    assert len(ciphertext) == KEM_CIPHERTEXT_SIZE
    assert kem.decapsulate(private, ciphertext) == secret

    ciphertext, secret = kem.encapsulate(public, seeded(5))
    assert ML_KEM_768.decaps(ML_KEM_768.key_derive(private)[1], ciphertext) == secret


def test_kem_rejects_implicitly_as_kyber_py_does():
    kem = MlKem768()
    private, public = kem.generate(seeded(3))
    ciphertext, secret = kem.encapsulate(public, seeded(4))
    damaged = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    wrong = kem.decapsulate(private, damaged)
    assert wrong != secret
    assert wrong == ML_KEM_768.decaps(ML_KEM_768.key_derive(private)[1], damaged)


@pytest.mark.parametrize("position", [0, 1, 767])
def test_kem_key_with_a_coefficient_of_q_is_refused(position):
    """The 768 coefficients take 12 bits each; 3329 = q is the first that is out of range."""
    _, public = MlKem768().generate(seeded(3))
    shift = 12 * position
    packed = int.from_bytes(public[:1152], "little")
    packed = packed & ~(0xFFF << shift) | 3329 << shift
    with pytest.raises(OnionError):
        MlKem768().encapsulate(packed.to_bytes(1152, "little") + public[1152:], seeded(1))


@settings(max_examples=30)
@given(st.binary(max_size=1300))
def test_any_bytes_to_the_kem_raise_only_our_error(data):
    kem = MlKem768()
    with pytest.raises(OnionError):
        kem.encapsulate(data, seeded(1))
    if len(data) != KEM_CIPHERTEXT_SIZE:
        with pytest.raises(OnionError):
            kem.decapsulate(kem.generate(seeded(1))[0], data)


def test_kem_psk_is_bound_to_secret_key_and_ciphertext():
    psks = [
        kem_psk(b"s", b"key", b"text"),
        kem_psk(b"t", b"key", b"text"),
        kem_psk(b"s", b"Key", b"text"),
        kem_psk(b"s", b"key", b"Text"),
    ]
    assert len(dict.fromkeys(psks)) == 4
