"""Who has signed a block: each validator once, whatever a lite-server repeats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import BlockIdExt
from pytoniq_core.proof import check_block_signatures
from pytoniq_core.tlb.config import SigPubKey, ValidatorDescr

from ledger.chain.proof import MOST_VALIDATORS, Signature, Validator, check_signatures
from p2p.errors import BadSignature
from p2p.identity import Identity

ROOT, FILE = b"r" * 32, b"f" * 32
KEYS = [Identity(n.to_bytes(32, "big")) for n in range(1, 101)]
SET = [Validator(public=key.public, weight=1) for key in KEYS]
MESSAGE = b"pn\x0b\xc5" + ROOT + FILE


def signed(key, message=MESSAGE):
    node = Validator(public=key.public, weight=1).id
    return Signature(node=node, signature=key.sign(message))


ALL = [signed(key) for key in KEYS]


def check(signatures, validators=SET):
    check_signatures(validators, signatures, root_hash=ROOT, file_hash=FILE)


def theirs(signatures):
    """pytoniq-core's own check of the same."""
    nodes = [
        ValidatorDescr("validator", SigPubKey(validator.public), validator.weight)
        for validator in SET
    ]
    told = [{"node_id_short": s.node.hex(), "signature": s.signature} for s in signatures]
    block = BlockIdExt(-1, -(2**63), 1, ROOT, FILE)
    check_block_signatures(nodes, told, block)


def test_sixty_seven_of_a_hundred_have_signed():
    check(ALL[:67])
    theirs(ALL[:67])
    with pytest.raises(BadSignature, match="66 of 100"):
        check(ALL[:66])


def test_sixty_seven_copies_of_one_signature_are_one():
    """pytoniq-core 0.2.1 takes them: should this fail, it has been mended, and so may we."""
    theirs(ALL[:1] * 67)
    with pytest.raises(BadSignature, match="1 of 100"):
        check(ALL[:1] * 67)


def test_two_thirds_are_not_enough():
    three = SET[:3]
    check(ALL[:3], three)
    with pytest.raises(BadSignature, match="2 of 3"):
        check(ALL[:2], three)


def test_weight_counts_and_not_heads():
    heavy = [Validator(public=KEYS[0].public, weight=2**60), *SET[1:]]
    check(ALL[:1], heavy)
    with pytest.raises(BadSignature):
        check(ALL[1:], heavy)


def test_false_signatures_and_strangers_count_for_nothing_and_spoil_nothing():
    stranger = Identity(b"s" * 32)
    false = [Signature(node=each.node, signature=bytes(64)) for each in ALL]
    other = [signed(key, b"another block") for key in KEYS]
    short = [Signature(node=each.node, signature=b"") for each in ALL]
    noise = [*false, *other, *short, signed(stranger)]
    with pytest.raises(BadSignature, match="0 of 100"):
        check(noise)
    check([*noise, *ALL[33:]])


def test_a_set_that_names_one_twice_counts_it_once():
    doubled = [SET[0]] * 99 + [SET[1]]
    with pytest.raises(BadSignature, match="1 of 2"):
        check(ALL[:1], doubled)


def test_no_set_is_none():
    for validators in ([], SET[:1] * (MOST_VALIDATORS + 1)):
        with pytest.raises(BadSignature):
            check(ALL, validators)


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    signers=st.lists(st.integers(0, 11), max_size=30),
)
def test_it_says_what_a_set_of_signers_says(weights, signers):
    validators = [Validator(public=KEYS[n].public, weight=w) for n, w in enumerate(weights)]
    weight = sum(weights[n] for n in set(signers) if n < len(weights))
    enough = 3 * weight > 2 * sum(weights)
    try:
        check([ALL[n] for n in signers], validators)
    except BadSignature:
        assert not enough
    else:
        assert enough
