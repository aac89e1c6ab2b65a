"""What is stored: values, whether one may be stored, and what becomes of the one before it.

Three rules of update, which a key's description names:

| rule | owner of the key | signature of the value | what replaces what |
|---|---|---|---|
| signature | `pub.ed25519` | the owner's, over the value without it | a greater ttl |
| anybody | `pub.unenc`, `pub.aes` | none | whatever comes |
| overlay nodes | `pub.overlay` | none; every node in it signs for itself | both are merged |

A merge keeps the newest record of each node. What is too long then loses nodes: first those that
no reader would believe any more, then any.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from p2p import tl
from p2p.dht import key as keys
from p2p.entropy import Entropy
from p2p.errors import BadSignature, DhtError, TlError
from p2p.identity import Identity, short_id, verify
from p2p.ton import (
    AdnlIdShort,
    DhtKey,
    DhtKeyDescription,
    DhtUpdateRuleAnybody,
    DhtUpdateRuleOverlayNodes,
    DhtUpdateRuleSignature,
    DhtValue,
    OverlayNode,
    OverlayNodes,
    OverlayNodeToSign,
    PubAes,
    PubEd25519,
    PubOverlay,
    PubUnenc,
)

MAX_VALUE: Final = 768
"""bytes of a value: with its key it fits an ADNL packet."""

MAX_AHEAD: Final = 3_660
"""seconds a value may still live: an hour, and a minute for clocks that differ."""

MEMBER_AGE: Final = (600, 60)
"""seconds the record of an overlay's node is believed before now, and after."""


class Freshness(Enum):
    """What a value's ttl says."""

    LIVE = "live"
    EXPIRED = "expired"
    """Not worth an objection, nor worth keeping."""


# --- values in general ---


def sign(
    identity: Identity, name: bytes, content: bytes, expires: int, *, idx: int = 0
) -> DhtValue:
    """A value of our own, which only we replace. Raises `DhtError` for what nobody would store."""
    unsigned = DhtValue(keys.describe(identity, name, idx), content, expires, b"")
    check_size(content)
    return DhtValue(unsigned.key, content, expires, identity.sign(tl.pack(unsigned)))


def leave(description: DhtKeyDescription, content: bytes, expires: int) -> DhtValue:
    """A value that nobody signs. Raises `DhtError` for what nobody would store."""
    check_size(content)
    return DhtValue(description, content, expires, b"")


def check(value: DhtValue, now: float) -> Freshness:
    """Whether a value may be stored, cheapest questions first.

    Raises `DhtError` for one that breaks a rule and `BadSignature`; not for one that has expired,
    which is looked at no further.
    """
    check_size(value.value)
    if value.ttl > now + MAX_AHEAD:
        raise DhtError("a value that would live too long")
    if value.ttl <= now:
        return Freshness.EXPIRED
    keys.check_description(value.key)
    _check_by_rule(value)
    return Freshness.LIVE


def check_size(content: bytes) -> None:
    """Raises `DhtError` for more than a value holds."""
    if len(content) > MAX_VALUE:
        raise DhtError("a value longer than 768 bytes")


def update(old: DhtValue, new: DhtValue, now: float, entropy: Entropy) -> DhtValue:
    """What is kept of two checked values of one key, the second being the later to come."""
    match new.key.update_rule:
        case DhtUpdateRuleSignature():
            return new if new.ttl > old.ttl else old
        case DhtUpdateRuleAnybody():
            return new
        case DhtUpdateRuleOverlayNodes():
            return _merge(old, new, now, entropy)


def is_signed(value: DhtValue) -> bool:
    """Whether somebody other than its owner can bring it again without harm."""
    return isinstance(value.key.update_rule, DhtUpdateRuleSignature)


def is_vouched(value: DhtValue) -> bool:
    """Whether anybody has signed it: its owner, or nodes of its overlay."""
    match value.key.update_rule:
        case DhtUpdateRuleSignature():
            return True
        case DhtUpdateRuleAnybody():
            return False
        case DhtUpdateRuleOverlayNodes():
            return bool(members(value))


def _check_by_rule(value: DhtValue) -> None:
    owner = value.key.id
    match value.key.update_rule:
        case DhtUpdateRuleSignature():
            _demand(isinstance(owner, PubEd25519))
            unsigned = DhtValue(value.key, value.value, value.ttl, b"")
            keys.check_signature(owner, tl.pack(unsigned), value.signature)
        case DhtUpdateRuleAnybody():
            _demand(isinstance(owner, PubUnenc | PubAes))
            keys.check_signature(owner, b"", value.signature)
        case DhtUpdateRuleOverlayNodes():
            _demand(isinstance(owner, PubOverlay))
            keys.check_signature(owner, b"", value.signature)
            for member in members(value):
                check_member(member, value.key.key.id)


def _demand(fits: bool) -> None:
    if not fits:
        raise DhtError("an owner of this kind cannot have values of this rule")


# --- nodes of an overlay ---


def overlay_id(name: bytes) -> bytes:
    """The id of the overlay of this name."""
    return keys.owner_id(PubOverlay(name))


def overlay_key(name: bytes) -> DhtKey:
    """Where the nodes of an overlay stand."""
    return DhtKey(overlay_id(name), b"nodes", 0)


def store_members(name: bytes, nodes: Sequence[OverlayNode], expires: int) -> DhtValue:
    """The value that names nodes of an overlay: the first of them, as many as it holds."""
    description = keys.describe_unsigned(PubOverlay(name), b"nodes", 0, DhtUpdateRuleOverlayNodes())
    kept = list(nodes)
    while len(content := tl.pack(OverlayNodes(tuple(kept)))) > MAX_VALUE:
        kept.pop()
    return leave(description, content, expires)


def members(value: DhtValue) -> tuple[OverlayNode, ...]:
    """The nodes that a value names. Raises `DhtError` if it is none of an overlay's."""
    try:
        return tl.parse(OverlayNodes, value.value).nodes
    except TlError as error:
        raise DhtError("no list of an overlay's nodes") from error


def check_member(member: OverlayNode, overlay: bytes) -> None:
    """Raises `DhtError` for a node of another overlay, `BadSignature` for one not signed by it."""
    if member.overlay != overlay or not isinstance(member.id, PubEd25519):
        raise DhtError("a node of another overlay")
    claim = member_claim(member.id.key, overlay, member.version)
    if not verify(member.id.key, claim, member.signature):
        raise BadSignature("a node of an overlay that is not signed by it")


def member_claim(public: bytes, overlay: bytes, version: int) -> bytes:
    """What a node signs to be named in an overlay."""
    return tl.pack(OverlayNodeToSign(AdnlIdShort(short_id(public)), overlay, version))


def sign_member(identity: Identity, overlay: bytes, version: int) -> OverlayNode:
    """Our own record as a node of an overlay; `version` is the time."""
    signature = identity.sign(member_claim(identity.public, overlay, version))
    return OverlayNode(PubEd25519(identity.public), overlay, version, signature)


def is_believed(member: OverlayNode, now: float) -> bool:
    """Whether a node's record is neither too old nor of the future."""
    before, after = MEMBER_AGE
    return now - before <= member.version <= now + after


def _merge(old: DhtValue, new: DhtValue, now: float, entropy: Entropy) -> DhtValue:
    newest: dict[bytes, OverlayNode] = {}
    for member in members(old) + members(new):
        identity = keys.owner_id(member.id)
        known = newest.get(identity)
        if known is None or member.version > known.version:
            newest[identity] = member
    content = _fit(list(newest.values()), now, entropy)
    return DhtValue(new.key, content, max(old.ttl, new.ttl), b"")


def _fit(nodes: list[OverlayNode], now: float, entropy: Entropy) -> bytes:
    while len(content := tl.pack(OverlayNodes(tuple(nodes)))) > MAX_VALUE:
        stale = [at for at, member in enumerate(nodes) if not is_believed(member, now)]
        del nodes[stale[0] if stale else entropy.below(len(nodes))]
    return content
