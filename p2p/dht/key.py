"""Where a value stands: a key, and its description, by which its owner says how it may change.

The id of a key is the SHA-256 of its boxed form. A description names the owner whose short id the
key begins with, and is signed by that owner if it has a key to sign with.
"""

from hashlib import sha256
from typing import Final

from p2p import tl
from p2p.errors import BadSignature, DhtError
from p2p.identity import AdnlId, Identity, verify
from p2p.ton import (
    DhtKey,
    DhtKeyDescription,
    DhtUpdateRule,
    DhtUpdateRuleSignature,
    PubEd25519,
    PublicKey,
)

MAX_NAME: Final = 127
"""bytes of a key's name; at least one."""

MAX_INDEX: Final = 15
"""Greatest index of a key."""


def key_id(key: DhtKey) -> bytes:
    """Where the key stands: 32 bytes, compared with ids of nodes."""
    return sha256(tl.pack(key)).digest()


def owner_id(owner: PublicKey) -> AdnlId:
    """The short id of a public key of any kind."""
    return AdnlId(sha256(tl.pack(owner)).digest())


def check_key(key: DhtKey) -> None:
    """Raises `DhtError` for a key that breaks a bound."""
    if not 1 <= len(key.name) <= MAX_NAME:
        raise DhtError("a name of a key has 1 to 127 bytes")
    if not 0 <= key.idx <= MAX_INDEX:
        raise DhtError("an index of a key is 0 to 15")


def describe(identity: Identity, name: bytes, idx: int = 0) -> DhtKeyDescription:
    """A description of an own key, whose values only we replace. Raises `DhtError`."""
    owner = PubEd25519(identity.public)
    unsigned = describe_unsigned(owner, name, idx, DhtUpdateRuleSignature())
    signature = identity.sign(tl.pack(unsigned))
    return DhtKeyDescription(unsigned.key, owner, unsigned.update_rule, signature)


def describe_unsigned(
    owner: PublicKey, name: bytes, idx: int, rule: DhtUpdateRule
) -> DhtKeyDescription:
    """A description of a key that nobody can sign for. Raises `DhtError`."""
    key = DhtKey(owner_id(owner), name, idx)
    check_key(key)
    return DhtKeyDescription(key, owner, rule, b"")


def check_description(description: DhtKeyDescription) -> None:
    """Raises `DhtError` for one that breaks a rule, `BadSignature` for one not signed so."""
    check_key(description.key)
    if owner_id(description.id) != description.key.id:
        raise DhtError("the key is another owner's")
    unsigned = DhtKeyDescription(description.key, description.id, description.update_rule, b"")
    check_signature(description.id, tl.pack(unsigned), description.signature)


def check_signature(owner: PublicKey, message: bytes, signature: bytes) -> None:
    """Raises `BadSignature` unless it is the owner's, or absent where the owner has no key."""
    if isinstance(owner, PubEd25519):
        if not verify(owner.key, message, signature):
            raise BadSignature("not signed by the owner of the key")
    elif signature:
        raise BadSignature("signed where nobody can")
