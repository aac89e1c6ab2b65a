"""Whether TON's validators have signed a block: more than two thirds of their weight, each once.

A lite-server proves the state of an account down from a block, and a block by the signatures of a
masterchain's validators. pytoniq-core 0.2.1 adds up signatures, not signers: 67 copies of one
signature pass for 67 of 100 validators. This is the check to be made instead.

Nothing asks for it yet: `LiteChain` believes two of three servers about which block is the newest.
The chain of key blocks that would say who the validators are has to be tried on a live network.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from p2p.errors import BadSignature
from p2p.identity import verify

MOST_VALIDATORS: Final = 1_024
"""of the masterchain there are 100; of all, fewer than 500"""

_KEY: Final = bytes.fromhex("c6b41348")
"""`pub.ed25519` of TON's schema: a node's id is the hash of its key as a value of that type."""

_BLOCK: Final = bytes.fromhex("706e0bc5")
"""`ton.blockId`: what is signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """One of the set that a key block names."""

    public: bytes
    """32 bytes: its Ed25519 key."""
    weight: int

    @property
    def id(self) -> bytes:
        """32 bytes: by which a signature names it."""
        return sha256(_KEY + self.public).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a lite-server says that a validator has signed."""

    node: bytes
    signature: bytes


def check_signatures(
    validators: Sequence[Validator],
    signatures: Iterable[Signature],
    *,
    root_hash: bytes,
    file_hash: bytes,
) -> None:
    """Raise `BadSignature` unless enough of `validators` have signed the block of these hashes.

    Signatures of who is no validator count for nothing; a false one spoils no true ones.
    """
    if not 0 < len(validators) <= MOST_VALIDATORS:
        raise BadSignature(f"{len(validators)} validators are no set of the masterchain's")
    known = {validator.id: validator for validator in validators}
    total = sum(validator.weight for validator in known.values())
    message = _BLOCK + root_hash + file_hash

    signed = 0
    for each in signatures:
        validator = known.get(each.node)
        if validator is not None and verify(validator.public, message, each.signature):
            signed += known.pop(each.node).weight
        if signed * 3 > total * 2:
            return
    raise BadSignature(f"validators of {signed} of {total} have signed the block: too few")
