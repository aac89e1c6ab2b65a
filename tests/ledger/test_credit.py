"""Credits: to the byte, against a second implementation, hostile bytes, and every altered spend."""

import importlib.util
from dataclasses import replace
from hashlib import blake2b, sha256
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import credit
from ledger.credit import (
    BUNDLES,
    EPOCH_SECONDS,
    LEAST,
    MAX_BLANKS,
    MAX_SPEND,
    MOST,
    Credit,
    Keyset,
    Signed,
    Spend,
    SpendTerms,
    blanks_for,
    blind,
    change_exponents,
    check,
    choose,
    derive,
    hash_to_point,
    is_point,
    mint_key,
    nullifier,
    owner_of,
    public_key,
    sign,
    unblind,
    worth,
)
from ledger.money import ZERO, Nano
from p2p import codec
from p2p.entropy import seeded
from p2p.errors import BadSignature, CodecError, Insufficient, RemoteError
from p2p.identity import Identity

_spec = importlib.util.spec_from_file_location("group", Path(__file__).parent / "group.py")
group = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(group)

SEED, MASTER = b"\x22" * 32, b"\x55" * 32
MINT = Identity(b"m" * 32)
EPOCH = 7
KEYS = {j: mint_key(MASTER, EPOCH, j) for j in range(LEAST, MOST + 1)}
KEYSET = Keyset.build(MINT, MASTER, epoch=EPOCH, start=EPOCH * EPOCH_SECONDS, fee_bp=50)


def blank(i: int) -> bytes:
    return blind(*derive(SEED, MINT.id, EPOCH, i))


def coin(i: int, j: int) -> Credit:
    secret = derive(SEED, MINT.id, EPOCH, i)
    blinded = blind(*secret)
    signed = sign(KEYS[j], KEYSET.key(j), blinded)
    point = unblind(KEYSET.key(j), secret.r, blinded, signed)
    return Credit(mint=MINT.id, epoch=EPOCH, i=i, j=j, m=secret.m, C=point)


COINS = (coin(0, 20), coin(1, 12), coin(2, 10))
TERMS = SpendTerms(
    mint=MINT.id,
    epoch=EPOCH,
    payee=Identity(b"w" * 32).id,
    session=b"\x01" * 32,
    expiry=1_800_000_000,
    tick=Nano(1_000),
    ticks=1_000,
    root=b"\x02" * 32,
    blanks=(blank(3), blank(4)),
    owner=owner_of(b"\x03" * 32),
)
SPEND = Spend.build(COINS, TERMS)


# --- to the byte ---


def test_the_vector():
    k = group.scalar(b"\x33" * 64).to_bytes(32, "little")
    public = public_key(k)
    assert public.hex() == "701b17f9cb8991a359e1b7aa23f723bc3c162a32a0e91139c197ae0c49ba658e"
    m, r = derive(b"\x22" * 32, b"\x11" * 32, 7, 0)
    assert m.hex() == "c80b8b442a4a2ea4107795812d71b204c1d8482e355a7a82572c8c2e77a541ec"
    assert r.hex() == "ac7cb050a0233b717f57aa80221f77456a91889b607e804a9cc870e938268e07"
    point = "f08f7accf22f696e23f2d1e9254c1f89ba4aa615ed317e13dba87430397ac8c8"
    assert hash_to_point(m).hex() == point
    blinded = blind(m, r)
    assert blinded.hex() == "4783f1870cd142880f6af975e1e1df4b6912b2c0b776088e9c70d89fc7b74249"
    signed = sign(k, public, blinded)
    assert [part.hex() for part in signed] == [
        "25577b4a6abf63964e41b571d660cafb67ab94a42705d6ae8343cf891e348d8c",
        "29dfd2216456fb6e292d80c20736a55ac785de61bb6b4a6d4a7594298c9e8705",
        "ef0c88a394d1a1cd17095ad3b3cfad84695c30b49073d85808b544b4f09fe30a",
    ]
    unblinded = unblind(public, r, blinded, signed)
    assert unblinded.hex() == "43b913c9321ada2f914f5873aa39d5b481278ca3ac82c5781e21df9c56a9de52"
    spent = "895b333390ab58fc36a353af28d7e5b0d6daeaa859ea33753779976c9b850c27"
    assert nullifier(public, m).hex() == spent
    auth = credit._auth([credit._coin_key(m, unblinded)], b"body")
    assert auth.hex() == "f8c9804712d58d4c458825102bd51af23cf3b3b7680aa0d41eb3528f8cdb043b"


def agree(number: int) -> None:
    """One credit from key to proof to coin, here and in integers."""
    entropy = seeded(number)
    m, k, r = entropy.token(32), group.scalar(entropy.token(64)), group.scalar(entropy.token(64))
    k_bytes, r_bytes = (n.to_bytes(32, "little") for n in (k, r))

    hashed, public = group.hash_to_point(m), group.times(k, group.GENERATOR)
    blinded, expected = group.times(r, hashed), group.times(k, hashed)
    assert hash_to_point(m) == group.encode(hashed)
    assert public_key(k_bytes) == group.encode(public)
    assert blind(m, r_bytes) == group.encode(blinded)

    signed = sign(k_bytes, group.encode(public), group.encode(blinded))
    assert signed.point == group.encode(group.times(k, blinded))
    c, s = (int.from_bytes(part, "little") for part in (signed.c, signed.s))
    base, other = (
        group.add(group.times(s, p), group.negate(group.times(c, q)))
        for p, q in [(group.GENERATOR, public), (blinded, group.times(k, blinded))]
    )
    assert c == group.challenge(public, blinded, group.times(k, blinded), base, other)
    assert unblind(group.encode(public), r_bytes, group.encode(blinded), signed) == group.encode(
        expected
    )


@pytest.mark.parametrize("number", range(25))
def test_plain_integers_agree(number):
    agree(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1_000))
def test_plain_integers_agree_a_thousand_times(number):
    agree(number)


def test_a_mint_answers_the_same_again():
    assert sign(KEYS[10], KEYSET.key(10), blank(0)) == sign(KEYS[10], KEYSET.key(10), blank(0))


def test_every_credit_is_another():
    mint, other = MINT.id, Identity(b"o" * 32).id
    secrets = [
        derive(seed, named, epoch, i)
        for seed in (SEED, MASTER)
        for named in (mint, other)
        for epoch in (0, 1)
        for i in (0, 1)
    ]
    assert len({part for secret in secrets for part in secret}) == 2 * len(secrets)
    keys = [mint_key(master, e, j) for master in (SEED, MASTER) for e in (0, 1) for j in (10, 27)]
    assert len(set(keys)) == len(keys)


# --- hostile points, hostile proofs ---


def torsion() -> list[bytes]:
    """The eight points of small order: what is left of random ones times the great order."""
    found, number = {}, 0
    while len(found) < 8:
        number += 1
        p = group.decode(number.to_bytes(32, "little"))
        if p is not None:
            p = group.times(group.L, p)
            for n in range(8):
                found[group.encode(group.times(n, p))] = None
    return list(found)


SMALL = torsion()
GOOD = group.decode(hash_to_point(b"good"))
HOSTILE = {
    **{f"small order {n}": data for n, data in enumerate(SMALL)},
    **{
        f"beside the subgroup {n}": group.encode(group.add(GOOD, group.decode(data)))
        for n, data in enumerate(SMALL)
        if data != group.encode(group.IDENTITY)
    },
    "identity, not canonical": (group.P + 1).to_bytes(32, "little"),
    "identity with a sign": (1 | 1 << 255).to_bytes(32, "little"),
    "zero, not canonical": group.P.to_bytes(32, "little"),
    "off the curve": (2).to_bytes(32, "little"),
    "all ones": b"\xff" * 32,
    "empty": b"",
    "short": group.encode(GOOD)[:31],
    "long": group.encode(GOOD) + b"\0",
}
hostile = pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)


@hostile
def test_a_hostile_point_is_none_and_nothing_is_signed(data):
    assert not is_point(data)
    with pytest.raises(CodecError):
        sign(KEYS[10], KEYSET.key(10), data)


@hostile
def test_a_hostile_point_is_no_signature(data):
    secret = derive(SEED, MINT.id, EPOCH, 0)
    signed = sign(KEYS[10], KEYSET.key(10), blank(0))
    with pytest.raises(BadSignature):
        unblind(KEYSET.key(10), secret.r, blank(0), signed._replace(point=data))


@hostile
def test_a_hostile_point_is_in_no_keyset_and_no_spend(data):
    fields = {**codec.unpack(KEYSET.signed[:-64], 800)}
    with pytest.raises(CodecError):
        Keyset.parse(signed_keyset({**fields, "K": [data, *fields["K"][1:]]}), MINT.public)
    with pytest.raises(CodecError):
        Spend.parse(codec.pack({**codec.unpack(SPEND.encode(), MAX_SPEND), "blanks": [data]}))


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_points_are_the_points_of_the_reference(data):
    assert is_point(data) == group.is_point(data)


def test_what_is_multiplied_is_a_point():
    """Every encoding that is not canonical, and others: signing asks nobody but the product."""
    least = [*range(40), *range(group.P - 40, 2**255)]
    for data in [(y | bit << 255).to_bytes(32, "little") for y in least for bit in (0, 1)]:
        try:
            sign(KEYS[10], KEYSET.key(10), data)
            signed = True
        except CodecError:
            signed = False
        assert signed == is_point(data)


def test_another_key_for_one_credit_is_caught():
    """The tag: a mint that signs with a key of its own for this buyer."""
    secret = derive(SEED, MINT.id, EPOCH, 0)
    tag = mint_key(SEED, EPOCH, 10)
    for signed in (
        sign(tag, public_key(tag), blank(0)),
        sign(tag, KEYSET.key(10), blank(0)),
        sign(KEYS[11], KEYSET.key(11), blank(0)),
        sign(KEYS[10], KEYSET.key(10), blank(1)),
    ):
        with pytest.raises(BadSignature):
            unblind(KEYSET.key(10), secret.r, blank(0), signed)


def test_every_altered_byte_of_a_proof_is_caught():
    secret = derive(SEED, MINT.id, EPOCH, 0)
    whole = b"".join(sign(KEYS[10], KEYSET.key(10), blank(0)))
    for place in range(len(whole)):
        altered = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises(BadSignature):
            unblind(
                KEYSET.key(10),
                secret.r,
                blank(0),
                Signed(altered[:32], altered[32:64], altered[64:]),
            )


@pytest.mark.parametrize("scalar", [0, group.L, group.L + 1, 2**256 - 1])
def test_scalars_that_are_none_are_caught(scalar):
    secret, data = derive(SEED, MINT.id, EPOCH, 0), scalar.to_bytes(32, "little")
    signed = sign(KEYS[10], KEYSET.key(10), blank(0))
    for wrong in (signed._replace(c=data), signed._replace(s=data), Signed(signed.point, b"", b"")):
        with pytest.raises(BadSignature):
            unblind(KEYSET.key(10), secret.r, blank(0), wrong)
    again = (int.from_bytes(signed.s, "little") + group.L).to_bytes(32, "little")
    with pytest.raises(BadSignature):
        unblind(KEYSET.key(10), secret.r, blank(0), signed._replace(s=again))


def test_a_credit_hides_its_secrets():
    assert COINS[0].m.hex()[:8] not in repr(COINS[0])
    assert "C=" not in repr(COINS[0])
    assert repr(derive(SEED, MINT.id, EPOCH, 0)) == "Secret(...)"
    assert COINS[0].value == Nano(2**20)


# --- keysets ---


def signed_keyset(fields: dict[str, codec.Value]) -> bytes:
    body = codec.pack(fields)
    return body + MINT.sign(b"tussah/keyset/1\0" + body)


def test_a_keyset_reads_back_and_is_the_same_again():
    assert Keyset.parse(KEYSET.signed, MINT.public) == KEYSET
    assert KEYSET.digest == sha256(KEYSET.signed).digest()
    again = Keyset.build(MINT, MASTER, epoch=EPOCH, start=KEYSET.start, fee_bp=50)
    assert again.signed == KEYSET.signed
    for j, k in KEYS.items():
        assert KEYSET.key(j) == public_key(k)


def test_a_keyset_of_an_epoch_is_no_other_mints():
    other = Identity(b"o" * 32)
    with pytest.raises(BadSignature):
        Keyset.parse(KEYSET.signed, other.public)
    body = KEYSET.signed[:-64]
    with pytest.raises(BadSignature, match="names another"):
        Keyset.parse(body + other.sign(b"tussah/keyset/1\0" + body), other.public)


def test_every_altered_byte_of_a_keyset_is_refused():
    for place in range(len(KEYSET.signed)):
        altered = bytearray(KEYSET.signed)
        altered[place] ^= 1
        with pytest.raises(RemoteError):
            Keyset.parse(bytes(altered), MINT.public)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"suite": 2},
        {"mint": b""},
        {"epoch": 2**32},
        {"start": -1},
        {"K": []},
        {"K": [KEYSET.key(10)] * 19},
        {"K": None},
        {"fee_bp": 10_001},
        {"fee_bp": True},
        {"more": 1},
    ],
    ids=str,
)
def test_a_keyset_within_its_bounds(change):
    fields = codec.unpack(KEYSET.signed[:-64], 800)
    assert signed_keyset(fields) == KEYSET.signed
    with pytest.raises(CodecError):
        Keyset.parse(signed_keyset({**fields, **change}), MINT.public)


@given(st.binary(max_size=900))
def test_junk_is_no_keyset(data):
    with pytest.raises(RemoteError):
        Keyset.parse(data, MINT.public)
    with pytest.raises(RemoteError):
        Keyset.parse(data + MINT.sign(b"tussah/keyset/1\0" + data), MINT.public)


def test_the_longest_keyset_fits():
    longest = Keyset.build(MINT, MASTER, epoch=2**32 - 1, start=2**32 - 1, fee_bp=10_000)
    assert len(longest.signed) == 763


def test_a_keyset_is_sold_spent_and_swapped_in_its_time():
    day = 86_400
    for days, states in [
        (-1, (False, True, True)),
        (0, (True, True, True)),
        (7, (False, True, True)),
        (28, (False, False, True)),
        (56, (False, False, False)),
    ]:
        now = KEYSET.start + days * day
        assert (KEYSET.on_sale(now), KEYSET.spendable(now), KEYSET.swappable(now)) == states


def test_the_fee_is_on_top_and_rounded_up():
    assert KEYSET.price((10,)) == Nano(1_024 + 6)
    assert KEYSET.price(BUNDLES["S"]) == Nano(4_192_256 + 20_962)
    assert replace(KEYSET, fee_bp=0).price(BUNDLES["L"]) == worth(BUNDLES["L"])


# --- choosing ---


def test_bundles_are_what_they_are():
    sizes = {name: (len(js), worth(js).value) for name, js in BUNDLES.items()}
    assert sizes == {"S": (22, 4_192_256), "M": (28, 33_552_384), "L": (32, 134_215_680)}
    for js in BUNDLES.values():
        assert all(js.count(j) == 2 for j in range(LEAST, max(js) + 1))


def held(exponents: list[int]) -> list[Credit]:
    return [
        Credit(mint=MINT.id, epoch=EPOCH, i=i, j=j, m=bytes(32), C=bytes(32))
        for i, j in enumerate(exponents)
    ]


@given(st.sampled_from("SML"), st.data())
def test_a_bundle_composes_every_multiple_of_the_least_credit(name, data):
    units = data.draw(st.integers(1, worth(BUNDLES[name]).value >> LEAST))
    chosen = choose(held(list(BUNDLES[name])), Nano(units << LEAST))
    assert worth(c.j for c in chosen) == Nano(units << LEAST)


def best_cover(coins: list[Credit], amount: int, most: int) -> tuple[int, int] | None:
    """Least total, then fewest, of all that can be taken."""
    covers = [
        (sum(c.value.value for c in some), len(some))
        for size in range(min(len(coins), most) + 1)
        for some in combinations(coins, size)
    ]
    return min((cover for cover in covers if cover[0] >= amount), default=None)


@given(
    st.lists(st.integers(10, 15), max_size=9),
    st.integers(1, 2**17),
    st.integers(1, 9),
)
def test_what_is_chosen_exceeds_by_the_least_and_is_the_fewest(exponents, amount, most):
    coins = held(exponents)
    best = best_cover(coins, amount, most)
    if best is None:
        with pytest.raises(Insufficient):
            credit._cover(coins, Nano(amount), most)
        return
    chosen = credit._cover(coins, Nano(amount), most)
    assert (worth(c.j for c in chosen).value, len(chosen)) == best
    assert len({c.i for c in chosen}) == len(chosen)


def test_what_does_not_fit_one_spend_is_not_chosen():
    with pytest.raises(Insufficient):
        choose([], Nano(1))
    with pytest.raises(Insufficient):
        choose(held([10] * 100), Nano(65 * 1_024))
    assert len(choose(held([10] * 100), Nano(64 * 1_024))) == 64
    assert [c.j for c in choose(held([10] * 100 + [20]), Nano(65 * 1_024))] == [20]
    with pytest.raises(Insufficient):
        choose(held([27, 27]), Nano(2**27 + 1))


def test_credits_of_two_epochs_are_not_mixed():
    coins = held([10, 10])
    with pytest.raises(ValueError, match="keysets"):
        choose([coins[0], replace(coins[1], epoch=8)], Nano(1))


# --- spends ---


def test_a_spend_reads_back_and_is_worth_its_coins():
    data = SPEND.encode()
    assert Spend.parse(data) == SPEND
    assert SPEND.terms == TERMS
    assert check(SPEND, KEYS) == SPEND.amount == Nano(2**20 + 2**12 + 2**10)
    assert SPEND.lock_id == sha256(data).digest()
    fields = codec.unpack(data, MAX_SPEND)
    assert (fields["t"], fields["v"]) == ("spend", 1)


@given(
    st.lists(st.integers(10, 27), min_size=1, max_size=9),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
)
def test_what_auth_covers_is_the_map_without_it_also_when_it_was_read(exponents, auth, epoch):
    """Whatever is in it, and however long its numbers are."""
    amount = worth(exponents)
    if amount.value >= 2**28:
        return
    terms = replace(TERMS, tick=Nano(1), ticks=1, blanks=(), epoch=epoch, root=auth)
    coins = tuple((j, i.to_bytes(32, "big")) for i, j in enumerate(exponents))
    read = Spend.parse(Spend(terms, coins, auth).encode())
    fields = dict(codec.unpack(read.encode(), MAX_SPEND))
    del fields["auth"]
    assert read.body == codec.pack(fields)


def test_auth_is_over_the_canonical_map_without_it():
    fields = dict(codec.unpack(SPEND.encode(), MAX_SPEND))
    auth = fields.pop("auth")
    points = {c.m: c.C for c in COINS}
    keys = b"".join(credit._coin_key(m, points[m]) for _, m in fields["coins"])
    expected = blake2b(
        codec.pack(fields), key=sha256(keys).digest(), person=b"tussah.spend", digest_size=32
    )
    assert auth == expected.digest()


def test_a_spend_says_nothing_of_the_order_of_purchase():
    assert Spend.build(COINS[::-1], TERMS).encode() == SPEND.encode()


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_altered_byte_of_a_spend_is_refused(bit):
    data = SPEND.encode()
    authentic = 0
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= bit
        try:
            spend = Spend.parse(bytes(altered))
        except CodecError:
            continue
        with pytest.raises(BadSignature):
            check(spend, KEYS)
        authentic += 1
    assert authentic > 200, "most of a spend are values that only `auth` protects"


OTHER_TERMS = {
    "mint": Identity(b"o" * 32).id,
    "epoch": 8,
    "payee": Identity(b"o" * 32).id,
    "session": b"\x09" * 32,
    "expiry": 1_800_000_001,
    "tick": Nano(999),
    "ticks": 999,
    "root": b"\x09" * 32,
    "blanks": (blank(5), blank(4)),
    "owner": b"\x09" * 32,
}


@pytest.mark.parametrize("name", OTHER_TERMS)
def test_no_term_of_a_spend_can_be_changed_on_the_way(name):
    assert set(OTHER_TERMS) == set(SpendTerms.__dataclass_fields__)
    altered = Spend(replace(TERMS, **{name: OTHER_TERMS[name]}), SPEND.coins, SPEND.auth)
    with pytest.raises(BadSignature):
        check(Spend.parse(altered.encode()), KEYS)
    assert altered.lock_id != SPEND.lock_id


def test_coins_are_neither_dropped_nor_added_nor_revalued():
    more = coin(9, 10)
    for coins in (
        SPEND.coins[1:],
        (*SPEND.coins, (more.j, more.m)),
        ((11, SPEND.coins[0][1]), *SPEND.coins[1:]),
        SPEND.coins[::-1],
    ):
        with pytest.raises(BadSignature):
            check(Spend(TERMS, coins, SPEND.auth), KEYS)


def test_a_coin_that_no_mint_signed_is_refused():
    forged = replace(COINS[0], C=hash_to_point(b"guess"))
    with pytest.raises(BadSignature):
        check(Spend.build((forged, *COINS[1:]), TERMS), KEYS)
    revalued = replace(COINS[1], j=20)
    with pytest.raises(BadSignature):
        check(Spend.build((revalued,), replace(TERMS, tick=Nano(1))), KEYS)


def test_a_spend_is_of_the_keys_of_its_epoch():
    with pytest.raises(BadSignature):
        check(SPEND, {j: mint_key(MASTER, 8, j) for j in KEYS})
    with pytest.raises(BadSignature):
        check(SPEND, {j: k for j, k in KEYS.items() if j != 10})


FIELDS = codec.unpack(SPEND.encode(), MAX_SPEND)


@pytest.mark.parametrize(
    "change",
    [
        {"t": "swap"},
        {"v": 2},
        {"mint": b"\0" * 31},
        {"epoch": 2**32},
        {"coins": []},
        {"coins": [[9, bytes(32)]]},
        {"coins": [[28, bytes(32)]]},
        {"coins": [[20, bytes(31)]]},
        {"coins": [[20, bytes(32), 0]]},
        {"coins": [20]},
        {"coins": [[10, bytes(32)], [20, bytes(32)]], "amount": 2**20 + 2**10},
        {"coins": [[27, bytes(32)], [27, b"\1" * 32]], "amount": 2**28},
        {"coins": [[20, n.to_bytes(32, "big")] for n in range(65)], "amount": 65 << 20},
        {"payee": "w"},
        {"session": None},
        {"expiry": 2**63},
        {"amount": FIELDS["amount"] + 1},
        {"tick": 0},
        {"tick": 2_000},
        {"tick": 2**64 - 1},
        {"ticks": 0},
        {"ticks": 16_385, "tick": 1},
        {"root": bytes(33)},
        {"blanks": [blank(n) for n in range(19)]},
        {"blanks": [blank(0), blank(0)]},
        {"blanks": b""},
        {"owner": 0},
        {"auth": bytes(31)},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_spend_within_its_bounds(change):
    assert Spend.parse(codec.pack(FIELDS)) == SPEND
    with pytest.raises(CodecError):
        Spend.parse(codec.pack({**FIELDS, **change}))
    for name in change.keys() & FIELDS.keys():
        with pytest.raises(CodecError):
            Spend.parse(codec.pack({key: FIELDS[key] for key in FIELDS if key != name}))


def test_the_longest_spend_fits_and_no_longer_one_is_read():
    coins = [replace(c, m=bytes([n]) * 32) for n, c in enumerate(held([20] * 64))]
    blanks = tuple(blank(n) for n in range(18))
    last = {"epoch": 2**32 - 1, "expiry": 2**63 - 1}
    terms = replace(TERMS, tick=Nano(65_536), ticks=1_024, blanks=blanks, **last)
    spend = Spend.build(coins, terms)
    assert Spend.parse(spend.encode()) == spend
    assert len(spend.encode()) == 3_244
    with pytest.raises(CodecError):
        Spend.parse(spend.encode() + b"\0" * (MAX_SPEND - len(spend.encode()) + 1))


def test_our_own_terms_out_of_bounds_are_our_own_fault():
    with pytest.raises(ValueError, match="amount"):
        Spend.build(COINS, replace(TERMS, ticks=16_000))
    with pytest.raises(ValueError, match="length"):
        Spend.build((), TERMS)


@given(st.binary(max_size=300) | st.integers(0, len(SPEND.encode()) - 1))
def test_junk_and_beginnings_are_no_spend(data):
    with pytest.raises(CodecError):
        Spend.parse(SPEND.encode()[:data] if isinstance(data, int) else data)


@given(st.integers(0, 2**28 - 1))
def test_change_is_paid_to_the_last_credit(change):
    js = change_exponents(Nano(change))
    assert list(js) == sorted(set(js))
    assert len(js) == (change >> LEAST).bit_count() <= 18
    assert change - 1_024 < worth(js).value <= change


@given(st.integers(1_024, 2**28 - 1), st.data())
def test_blanks_suffice_for_any_change(amount, data):
    longest = (1 << amount.bit_length() - 1) - 1
    change = data.draw(st.integers(0, amount) | st.sampled_from((amount, longest)))
    assert len(change_exponents(Nano(change))) <= blanks_for(Nano(amount)) <= MAX_BLANKS


def test_change_beyond_what_blanks_hold_is_refused():
    assert change_exponents(ZERO) == ()
    with pytest.raises(ValueError, match="digits"):
        change_exponents(Nano(2**28))
