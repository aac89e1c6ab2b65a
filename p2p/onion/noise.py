"""Noise NK and NKpsk2 and the ML-KEM-768 beside them: the keys of one hop of a circuit.

A relay's handshake is `Noise_NK_25519_ChaChaPoly_SHA256`, an endpoint's is NKpsk2 with a psk made
by a KEM. Everything a peer can get wrong here (a low-order point, a tag that does not match, a KEM
key out of range) raises `OnionError` and nothing else.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Protocol, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2p.entropy import Entropy
from p2p.errors import OnionError

KEY_SIZE = 32
"""bytes of an X25519 key, private or public, and of an AEAD key."""

TAG_SIZE = 16
"""bytes that sealing adds."""

MESSAGE_OVERHEAD = KEY_SIZE + TAG_SIZE
"""bytes that a handshake message adds to its payload, in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A Noise protocol of the NK family with 25519 and ChaChaPoly."""

    name: str
    """As the Noise specification writes it; it is part of the transcript."""
    psk: int | None
    """The message that mixes the psk: None, 0 (before message 1) or 2."""
    hash: str = "sha256"
    """As `hashlib` names it."""


NK = Suite(name="Noise_NK_25519_ChaChaPoly_SHA256", psk=None)
"""Between a client and each relay of its path."""

NKPSK2 = Suite(name="Noise_NKpsk2_25519_ChaChaPoly_SHA256", psk=2)
"""Between a client and the endpoint of its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a finished handshake gives both sides; 32 bytes each, never shown by `repr`."""

    forward: bytes = field(repr=False)
    """The key of the first cell from the initiator."""
    backward: bytes = field(repr=False)
    """The key of the first cell from the responder."""
    exporter: bytes = field(repr=False)
    """Known to the two sides alone, unlike the handshake hash; labels derive other secrets."""


@final
class CipherState:
    """One direction of AEAD under counted nonces; whoever skips or repeats a message breaks it.

    With `rekey_every` the key is replaced after that many messages, the old one forgotten at once;
    the counter goes on. After a failed `open` the state is as before, but the peer is not honest or
    not in step: drop the circuit.
    """

    __slots__ = ("_aead", "_number", "_rekey_every")

    def __init__(self, key: bytes, *, rekey_every: int | None = None) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._number = 0
        self._rekey_every = rekey_every

    def seal(self, ad: bytes, text: bytes) -> bytes:
        """The text encrypted, 16 bytes longer."""
        sealed = self._aead.encrypt(_nonce(self._number), text, ad)
        self._advance()
        return sealed

    def open(self, ad: bytes, sealed: bytes) -> bytes:
        """The text that `seal` was given. Raises `OnionError` for anything else."""
        try:
            text = self._aead.decrypt(_nonce(self._number), sealed, ad)
        except InvalidTag as error:
            raise OnionError("sealed with another key, number or content") from error
        self._advance()
        return text

    def rekey(self) -> None:
        """Replace the key by one that does not tell it; the counter stays."""
        sealed = self._aead.encrypt(_nonce(2**64 - 1), bytes(KEY_SIZE), b"")
        self._aead = ChaCha20Poly1305(sealed[:KEY_SIZE])

    def _advance(self) -> None:
        self._number += 1
        if self._rekey_every is not None and self._number % self._rekey_every == 0:
            self.rekey()


@final
class Initiator:
    """The side that knows the other's static key and speaks first: `write`, `read`, `split`.

    A psk is given to the call that mixes it: `write` for NKpsk0, `read` for NKpsk2.
    """

    __slots__ = ("_private", "_static", "_suite", "_symmetric", "ephemeral")

    def __init__(
        self, static: bytes, prologue: bytes, entropy: Entropy, *, suite: Suite = NK
    ) -> None:
        self._suite = suite
        self._static = static
        self._symmetric = _Symmetric(suite, prologue, static)
        self._private = X25519PrivateKey.from_private_bytes(entropy.token(KEY_SIZE))
        self.ephemeral = self._private.public_key().public_bytes_raw()
        """`e`: the first 32 bytes of message 1, known before it is written."""

    def write(self, payload: bytes, psk: bytes | None = None) -> bytes:
        """Message 1. Raises `OnionError` if the static key is of low order."""
        self._symmetric.mix_psk(self._suite, 0, psk)
        self._symmetric.mix_ephemeral(self._suite, self.ephemeral)
        self._symmetric.mix_key(_agree(self._private, self._static))
        return self.ephemeral + self._symmetric.seal(payload)

    def read(self, message: bytes, psk: bytes | None = None) -> bytes:
        """The payload of message 2. Raises `OnionError`."""
        theirs, sealed = _cut(message)
        self._symmetric.mix_ephemeral(self._suite, theirs)
        self._symmetric.mix_key(_agree(self._private, theirs))
        self._symmetric.mix_psk(self._suite, 2, psk)
        return self._symmetric.open(sealed)

    def split(self) -> Split:
        """The keys of the transport; after `read` only."""
        return self._symmetric.split()


@final
class Responder:
    """The side whose static key is known: `read`, `write`, `split`.

    A psk is given to the call that mixes it: `read` for NKpsk0, `write` for NKpsk2.
    """

    __slots__ = ("_entropy", "_private", "_suite", "_symmetric", "_theirs")

    def __init__(
        self, private: bytes, prologue: bytes, entropy: Entropy, *, suite: Suite = NK
    ) -> None:
        self._suite = suite
        self._entropy = entropy
        self._private = X25519PrivateKey.from_private_bytes(private)
        self._symmetric = _Symmetric(suite, prologue, public_key(private))
        self._theirs = b""

    def read(self, message: bytes, psk: bytes | None = None) -> bytes:
        """The payload of message 1. Raises `OnionError`; start anew with another key then."""
        self._theirs, sealed = _cut(message)
        self._symmetric.mix_psk(self._suite, 0, psk)
        self._symmetric.mix_ephemeral(self._suite, self._theirs)
        self._symmetric.mix_key(_agree(self._private, self._theirs))
        return self._symmetric.open(sealed)

    def write(self, payload: bytes, psk: bytes | None = None) -> bytes:
        """Message 2, with a key drawn now."""
        private = X25519PrivateKey.from_private_bytes(self._entropy.token(KEY_SIZE))
        ephemeral = private.public_key().public_bytes_raw()
        self._symmetric.mix_ephemeral(self._suite, ephemeral)
        self._symmetric.mix_key(_agree(private, self._theirs))
        self._symmetric.mix_psk(self._suite, 2, psk)
        return ephemeral + self._symmetric.seal(payload)

    def split(self) -> Split:
        """The keys of the transport; after `write` only."""
        return self._symmetric.split()


def public_key(private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


# --- the KEM ---

KEM_PUBLIC_SIZE = 1184
"""bytes of an ML-KEM-768 encapsulation key."""

KEM_CIPHERTEXT_SIZE = 1088
"""bytes of an ML-KEM-768 ciphertext."""


class Kem(Protocol):
    """A key encapsulation with the sizes of ML-KEM-768; simulations put a seeded stand-in here."""

    def generate(self, entropy: Entropy) -> tuple[bytes, bytes]:
        """A fresh (private, public) pair; the private form is the implementation's own."""

    def encapsulate(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """(ciphertext, secret) for a peer's key. Raises `OnionError` if it is no such key."""

    def decapsulate(self, private: bytes, ciphertext: bytes) -> bytes:
        """The secret; a wrong one for a wrong ciphertext. Raises `OnionError` for a wrong size."""


@final
class MlKem768:
    """The real one. Its private form is the 64-byte seed d | z of FIPS 203.

    `encapsulate` draws from the system whatever `entropy` it is given: the library takes no seed.
    """

    def generate(self, entropy: Entropy) -> tuple[bytes, bytes]:
        """A fresh (seed, encapsulation key) pair."""
        seed = entropy.token(64)
        return seed, MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()

    def encapsulate(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """(ciphertext, secret). Raises `OnionError` for a wrong size or a coefficient over q."""
        try:
            secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
        except ValueError as error:
            raise OnionError("no ML-KEM-768 encapsulation key") from error
        return ciphertext, secret

    def decapsulate(self, private: bytes, ciphertext: bytes) -> bytes:
        """The secret, or by implicit rejection one that nobody else has."""
        try:
            return MLKEM768PrivateKey.from_seed_bytes(private).decapsulate(ciphertext)
        except ValueError as error:
            raise OnionError("no ML-KEM-768 ciphertext") from error


def kem_psk(secret: bytes, public: bytes, ciphertext: bytes) -> bytes:
    """The psk of NKpsk2: bound to key and ciphertext, which travel outside the Noise tokens."""
    key = hmac.digest(b"tussah-kem/1", secret, "sha256")
    return hmac.digest(key, hashlib.sha256(public + ciphertext).digest() + b"\x01", "sha256")


# --- inside: Noise sections 5.2 and 5.3 ---


@final
class _Symmetric:
    """The SymmetricState of Noise: chaining key, transcript hash, and the cipher once keyed."""

    __slots__ = ("_chain", "_cipher", "_hash", "_transcript")

    def __init__(self, suite: Suite, prologue: bytes, responder: bytes) -> None:
        self._hash = suite.hash
        name, size = suite.name.encode(), hashlib.new(suite.hash).digest_size
        self._transcript = name.ljust(size, b"\0") if len(name) <= size else self._digest(name)
        self._chain = self._transcript
        self._cipher: CipherState | None = None
        self.mix_hash(prologue)
        self.mix_hash(responder)

    def mix_hash(self, data: bytes) -> None:
        self._transcript = self._digest(self._transcript + data)

    def mix_key(self, secret: bytes) -> None:
        self._chain, key = self._derive(secret, 2)
        self._cipher = CipherState(key[:KEY_SIZE])

    def mix_ephemeral(self, suite: Suite, ephemeral: bytes) -> None:
        """Token `e`; with a psk its key is mixed too, or the psk alone would key a nonce twice."""
        self.mix_hash(ephemeral)
        if suite.psk is not None:
            self.mix_key(ephemeral)

    def mix_psk(self, suite: Suite, place: int, psk: bytes | None) -> None:
        """Token `psk` at this place of the handshake, if the suite has it here."""
        if (psk is not None) != (suite.psk == place):
            raise ValueError(f"{suite.name} mixes its psk elsewhere")
        if psk is not None:
            self._chain, extra, key = self._derive(psk, 3)
            self.mix_hash(extra)
            self._cipher = CipherState(key[:KEY_SIZE])

    def seal(self, payload: bytes) -> bytes:
        assert self._cipher is not None, "every message mixes a key before its payload"
        sealed = self._cipher.seal(self._transcript, payload)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        assert self._cipher is not None, "every message mixes a key before its payload"
        payload = self._cipher.open(self._transcript, sealed)
        self.mix_hash(sealed)
        return payload

    def split(self) -> Split:
        forward, backward, exporter = self._derive(b"", 3)
        return Split(forward=forward[:KEY_SIZE], backward=backward[:KEY_SIZE], exporter=exporter)

    def _derive(self, secret: bytes, n: int) -> list[bytes]:
        """HKDF of Noise section 4.3, extended to n outputs."""
        key, outputs = hmac.digest(self._chain, secret, self._hash), [b""]
        for i in range(n):
            outputs.append(hmac.digest(key, outputs[-1] + bytes([i + 1]), self._hash))
        return outputs[1:]

    def _digest(self, data: bytes) -> bytes:
        return hashlib.new(self._hash, data).digest()


def _nonce(number: int) -> bytes:
    return b"\0\0\0\0" + number.to_bytes(8, "little")


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise OnionError("a point of low order") from error


def _cut(message: bytes) -> tuple[bytes, bytes]:
    if len(message) < MESSAGE_OVERHEAD:
        raise OnionError("a handshake message too short")
    return message[:KEY_SIZE], message[KEY_SIZE:]
