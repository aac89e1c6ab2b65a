"""Values: what may be stored, and what replaces what, by each of the three rules."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import tl
from p2p.dht import key as keys
from p2p.dht import value as values
from p2p.dht.value import MAX_AHEAD, MAX_VALUE, Freshness
from p2p.entropy import seeded
from p2p.errors import BadSignature, DhtError
from p2p.identity import Identity, short_id
from p2p.ton import (
    DhtUpdateRuleAnybody,
    DhtUpdateRuleOverlayNodes,
    DhtUpdateRuleSignature,
    OverlayNode,
    OverlayNodes,
    PubAes,
    PubEd25519,
    PubOverlay,
    PubUnenc,
)

NOW = 1_800_000_000
TTL = NOW + 600
OWNER, OTHER = Identity(b"o" * 32), Identity(b"p" * 32)
NAME = b"overlay"
OVERLAY = values.overlay_id(NAME)
MEMBERS = [Identity(bytes([number]) * 32) for number in range(1, 10)]


def signed(content=b"content", ttl=TTL, **changes):
    return replace(values.sign(OWNER, b"address", content, ttl), **changes)


def anybodys(owner=None, content=b"content", ttl=TTL, **changes):
    description = keys.describe_unsigned(
        owner or PubUnenc(b"x"), b"name", 0, DhtUpdateRuleAnybody()
    )
    return replace(values.leave(description, content, ttl), **changes)


def overlays(identities, version=NOW, ttl=TTL):
    nodes = [values.sign_member(identity, OVERLAY, version) for identity in identities]
    return values.store_members(NAME, nodes, ttl)


def named(value):
    return {short_id(node.id.key): node.version for node in values.members(value)}


# --- what may be stored ---


@pytest.mark.parametrize("size", [0, 1, MAX_VALUE])
def test_a_value_of_768_bytes_may_be_stored(size):
    for value in (signed(bytes(size)), anybodys(content=bytes(size))):
        assert values.check(value, NOW) is Freshness.LIVE


def test_a_longer_value_is_neither_made_nor_taken():
    for make in (signed, anybodys):
        with pytest.raises(DhtError, match="768"):
            make(content=bytes(MAX_VALUE + 1))
        with pytest.raises(DhtError, match="768"):
            values.check(make(value=bytes(MAX_VALUE + 1)), NOW)


@pytest.mark.parametrize("make", [signed, anybodys, lambda ttl: overlays(MEMBERS[:2], ttl=ttl)])
@pytest.mark.parametrize(
    ("ttl", "verdict"),
    [
        (-1, Freshness.EXPIRED),
        (0, Freshness.EXPIRED),
        (NOW, Freshness.EXPIRED),
        (NOW + 1, Freshness.LIVE),
        (NOW + MAX_AHEAD, Freshness.LIVE),
        (NOW + MAX_AHEAD + 1, None),
    ],
)
def test_a_value_lives_an_hour_at_most(make, ttl, verdict):
    if verdict is None:
        with pytest.raises(DhtError, match="too long"):
            values.check(make(ttl=ttl), NOW)
    else:
        assert values.check(make(ttl=ttl), NOW) is verdict


@pytest.mark.parametrize(
    "changes",
    [{"signature": bytes(64)}, {"signature": b""}, {"value": b"other"}, {"ttl": TTL + 1}],
    ids=["other signature", "none", "another value", "another ttl"],
)
def test_a_signed_value_is_good_only_as_its_owner_signed_it(changes):
    with pytest.raises(BadSignature):
        values.check(replace(signed(), **changes), NOW)


def test_a_value_under_a_forged_description_is_refused():
    good = signed()
    forged = replace(good.key, signature=bytes(64))
    with pytest.raises(BadSignature):
        values.check(replace(good, key=forged), NOW)


@pytest.mark.parametrize("owner", [PubUnenc(b"data"), PubAes(bytes(32))])
def test_anybodys_value_carries_no_signature(owner):
    assert values.check(anybodys(owner), NOW) is Freshness.LIVE
    with pytest.raises(BadSignature):
        values.check(anybodys(owner, signature=bytes(64)), NOW)


RULES = [DhtUpdateRuleSignature(), DhtUpdateRuleAnybody(), DhtUpdateRuleOverlayNodes()]
OWNERS = [PubUnenc(b"data"), PubAes(bytes(32)), PubOverlay(NAME)]
FITTING = [(OWNERS[0], RULES[1]), (OWNERS[1], RULES[1]), (OWNERS[2], RULES[2])]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: type(owner).__name__)
def test_owner_and_rule_must_fit(owner, rule):
    content = tl.pack(OverlayNodes(()))
    value = values.leave(keys.describe_unsigned(owner, b"nodes", 0, rule), content, TTL)
    if (owner, rule) in FITTING:
        assert values.check(value, NOW) is Freshness.LIVE
    else:
        with pytest.raises(DhtError):
            values.check(value, NOW)


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: type(rule).__name__)
def test_an_owner_who_signs_has_signed_values_only(rule):
    unsigned = keys.describe_unsigned(PubEd25519(OWNER.public), b"x", 0, rule)
    description = replace(unsigned, signature=OWNER.sign(tl.pack(unsigned)))
    with pytest.raises(DhtError):
        values.check(values.leave(description, b"", TTL), NOW)


# --- nodes of an overlay ---


def test_nodes_of_an_overlay_sign_for_themselves():
    value = overlays(MEMBERS[:3])
    assert values.check(value, NOW) is Freshness.LIVE
    assert set(named(value)) == {identity.id for identity in MEMBERS[:3]}


def bad_member(change):
    good = values.sign_member(OWNER, OVERLAY, NOW)
    match change:
        case "signature":
            return replace(good, signature=bytes(64))
        case "version":
            return replace(good, version=NOW + 1)
        case "another's":
            return replace(good, id=PubEd25519(OTHER.public))
        case "another overlay":
            return values.sign_member(OWNER, bytes(32), NOW)
        case "no key":
            return OverlayNode(PubUnenc(b""), OVERLAY, NOW, b"")


@pytest.mark.parametrize(
    "change", ["signature", "version", "another's", "another overlay", "no key"]
)
def test_one_bad_node_spoils_the_value(change):
    nodes = [values.sign_member(MEMBERS[0], OVERLAY, NOW), bad_member(change)]
    with pytest.raises((BadSignature, DhtError)):
        values.check(values.store_members(NAME, nodes, TTL), NOW)


@pytest.mark.parametrize("content", [b"", b"junk", bytes(700)])
def test_what_is_no_list_of_nodes_is_refused(content):
    value = replace(overlays(MEMBERS[:1]), value=content)
    with pytest.raises(DhtError, match="list"):
        values.check(value, NOW)


def test_a_value_of_nodes_may_not_be_signed():
    with pytest.raises(BadSignature):
        values.check(replace(overlays(MEMBERS[:1]), signature=bytes(64)), NOW)


def test_as_many_nodes_are_named_as_a_value_holds():
    value = overlays(MEMBERS)
    assert len(value.value) <= MAX_VALUE
    assert list(named(value)) == [identity.id for identity in MEMBERS[:5]]


# --- what replaces what ---


@pytest.mark.parametrize(("ttl", "wins"), [(TTL - 1, False), (TTL, False), (TTL + 1, True)])
def test_a_signed_value_is_replaced_by_one_that_lives_longer(ttl, wins):
    old, new = signed(b"old"), signed(b"new", ttl)
    assert values.update(old, new, NOW, seeded(1)) == (new if wins else old)


@pytest.mark.parametrize("ttl", [TTL - 1, TTL, TTL + 1])
def test_anybodys_value_is_replaced_by_whatever_comes(ttl):
    new = anybodys(content=b"new", ttl=ttl)
    assert values.update(anybodys(content=b"old"), new, NOW, seeded(1)) == new


def test_nodes_are_merged_by_their_newest_records():
    old = overlays(MEMBERS[:2], version=NOW - 5, ttl=TTL)
    new = overlays(MEMBERS[1:3], version=NOW, ttl=TTL - 100)

    merged = values.update(old, new, NOW, seeded(1))

    a, b, c = (identity.id for identity in MEMBERS[:3])
    assert named(merged) == {a: NOW - 5, b: NOW, c: NOW}
    assert merged.ttl == TTL
    assert values.check(merged, NOW) is Freshness.LIVE


def test_an_older_record_does_not_replace_a_newer_one():
    older, newer = (overlays(MEMBERS[:1], version=NOW + age) for age in (-1, 0))
    assert named(values.update(newer, older, NOW, seeded(1))) == {MEMBERS[0].id: NOW}


def test_a_merge_that_is_too_long_loses_who_is_believed_no_more():
    old = overlays(MEMBERS[:3], version=NOW - 601)
    merged = values.update(old, overlays(MEMBERS[3:8]), NOW, seeded(1))
    assert set(named(merged)) == {identity.id for identity in MEMBERS[3:8]}


def test_a_merge_that_is_too_long_loses_anyone():
    survivors = set()
    for seed in range(40):
        merged = values.update(overlays(MEMBERS[:4]), overlays(MEMBERS[4:8]), NOW, seeded(seed))
        assert len(named(merged)) == 5
        survivors |= set(named(merged))
    assert survivors == {identity.id for identity in MEMBERS[:8]}


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-700, 60)), max_size=12), st.integers())
def test_merges_stay_within_bounds_and_never_go_back(stores, seed):
    kept, entropy = overlays([]), seeded(seed)
    newest = {}
    for who, age in stores:
        identity = MEMBERS[who]
        newest[identity.id] = max(age, newest.get(identity.id, age))
        kept = values.update(kept, overlays([identity], version=NOW + age), NOW, entropy)
        assert values.check(kept, NOW) is Freshness.LIVE
        assert len(kept.value) <= MAX_VALUE
    assert all(version - NOW <= newest[who] for who, version in named(kept).items())
    if len(newest) <= 5:
        assert named(kept) == {who: NOW + age for who, age in newest.items()}


@pytest.mark.parametrize(
    ("age", "believed"), [(-601, False), (-600, True), (0, True), (60, True), (61, False)]
)
def test_a_nodes_record_is_believed_for_ten_minutes(age, believed):
    member = values.sign_member(OWNER, OVERLAY, NOW + age)
    assert values.is_believed(member, NOW) is believed
