"""Keys and their descriptions: every bound, every owner, every signature."""

from dataclasses import replace
from hashlib import sha256

import pytest

from p2p.dht import key as keys
from p2p.errors import BadSignature, DhtError
from p2p.identity import Identity
from p2p.ton import (
    DhtKey,
    DhtUpdateRuleAnybody,
    DhtUpdateRuleOverlayNodes,
    DhtUpdateRuleSignature,
    PubAes,
    PubEd25519,
    PubOverlay,
    PubUnenc,
)

OWNER, OTHER = Identity(b"o" * 32), Identity(b"p" * 32)


def test_a_keys_id_is_the_hash_of_its_boxed_form():
    by_hand = bytes.fromhex("8fde67f6") + OWNER.id + b"\x07address" + bytes(4)
    assert keys.key_id(DhtKey(OWNER.id, b"address", 0)) == sha256(by_hand).digest()


def test_an_owners_id_is_its_adnl_id():
    assert keys.owner_id(PubEd25519(OWNER.public)) == OWNER.id


@pytest.mark.parametrize("index", [0, 15])
@pytest.mark.parametrize("length", [1, 127])
def test_a_key_at_its_bounds_is_good(index, length):
    keys.check_description(keys.describe(OWNER, b"n" * length, index))


@pytest.mark.parametrize(("length", "index"), [(0, 0), (128, 0), (1, 16), (1, -1)])
def test_a_key_beyond_its_bounds_is_refused(length, index):
    key = DhtKey(OWNER.id, b"n" * length, index)
    with pytest.raises(DhtError):
        keys.check_key(key)
    with pytest.raises(DhtError):
        keys.describe(OWNER, b"n" * length, index)


def described(**changes):
    return replace(keys.describe(OWNER, b"address"), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": bytes(64)},
        {"signature": b""},
        {"update_rule": DhtUpdateRuleAnybody()},
        {"key": DhtKey(OWNER.id, b"address", 1)},
    ],
    ids=["other signature", "none", "another rule", "another index"],
)
def test_a_description_is_good_only_as_its_owner_signed_it(changes):
    keys.check_description(described())
    with pytest.raises(BadSignature):
        keys.check_description(described(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"id": PubEd25519(OTHER.public)}, {"key": DhtKey(OTHER.id, b"address", 0)}],
    ids=["another owner", "another's key"],
)
def test_a_key_of_another_owner_is_refused(changes):
    with pytest.raises(DhtError, match="another owner"):
        keys.check_description(described(**changes))


UNSIGNED = [
    (PubUnenc(b"data"), DhtUpdateRuleAnybody()),
    (PubAes(bytes(32)), DhtUpdateRuleAnybody()),
    (PubOverlay(b"name"), DhtUpdateRuleOverlayNodes()),
]


@pytest.mark.parametrize(("owner", "rule"), UNSIGNED, ids=["unenc", "aes", "overlay"])
def test_an_owner_without_a_key_to_sign_with_signs_nothing(owner, rule):
    description = keys.describe_unsigned(owner, b"nodes", 0, rule)
    keys.check_description(description)
    with pytest.raises(BadSignature):
        keys.check_description(replace(description, signature=bytes(64)))


def test_a_signature_is_demanded_of_who_can_sign_whatever_the_rule():
    owner = PubEd25519(OWNER.public)
    for rule in (DhtUpdateRuleAnybody(), DhtUpdateRuleSignature()):
        with pytest.raises(BadSignature):
            keys.check_description(keys.describe_unsigned(owner, b"x", 0, rule))
