"""One key, two names: TON's and libp2p's."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from p2p.entropy import seeded
from p2p.errors import BadSignature
from p2p.identity import (
    AdnlId,
    Identity,
    SignatureMemo,
    format_adnl,
    parse_adnl,
    peer_id,
    short_id,
    verify,
)

seeds = st.binary(min_size=32, max_size=32)

# (seed, public key, id) of nodes of an independent implementation of ADNL, and one of ours.
ADNL_KEYS = [
    (
        "7472616e7363726970742d636c69656e74000000000000000000000000000000",
        "af320229a37e85ed5fe89f898247d9d35c67f36924adfce524551d9905278db2",
        "e168ecffd1c48762bec0b6b7d48ee520530e1aae61e7195ea03ec710c4234aeb",
    ),
    (
        "54e6289e14c7b0e7ad9acc2dfc4c1e3d027d0eef7f5c4c3fe7c292761d0e06a6",
        "ffeb3c20cf13dd877df79cba45ff2aa275d1856d9da1e723928300c7692cf79c",
        "b5634a51f33fd8b6b484160519c56cc49b04fcd5f93010d544ec011b0bd30855",
    ),
    (
        "82c7835c9014a5851127926736b4f39eaa829b89c89409361cf6d2f33ca91064",
        "5c581a127d4d3e02530df8416f3c96cbd34650743f4e99bed332771da3c1d3be",
        "15607d586b22bea891cdfe1a4ee20be8a42ad3934d7b6b5f0c29d6d98b2d500f",
    ),
]

# Static DHT nodes of TON's public configurations: (id, the bare dht.node as its owner signed it).
TON_NODES = [
    (
        "affc36e90c058db75495fff898204297ea9118e49d4118e7946a54c0d02f603a",
        "c6b41348e8f1a43d049bc85a75d9eb1fd4daa60ce68ba0503c8bdf8ca79f9c031e70b535"
        "01000000e7a60d67094f56b95056000000000000000000000000000000000000ffffffff"
        "402f8375f9dcd72e59264f988f9efb26b22c735d4d0bea43ca029a8c75cac63f977db2c3"
        "219faf52cc714afb2233bc6eb343da116f84e7a8f05a2928638e3d8e06000000",
    ),
    (
        "97d105dc41799f13e59a44a4a29e938edcefb5f67ded3e88c89e964f13874218",
        "c6b413482b6016bbc95e37646362684ca5801a197fc5ea719593da19c3d734f515f7cb27"
        "01000000e7a60d676b2ded5e4397000000000000000000000000000000000000ffffffff"
        "40db5835ea3c67a9b6f610d0228eb64571c1ea2d07269a99002351c0e3a0da3ef9d562f3"
        "2401314d1321d3cb64754f58e053933b0822c624df8cc61c197e5fd90c000000",
    ),
]

# ADNL channel keys of two implementations and the secret that each computed.
CHANNELS = [
    (
        "1096a31d18bde32a15a0b2678dcb75e6f2ab8e5b16296d96172e507fbc940889",
        "7893f342a9dea9d02d5bc4313503cfc79cc93623706d6473a644e97802dd02c9",
        "3fd1ae3b0e6bfa7270a9ab130ef8f2d2dedf98b443c6a07ae474c80bbb43346e",
    ),
    (
        "92893786617566be86b33785e3451ab2e72d274f5bf513a9f539387e36d303bd",
        "20dcc07e7b48762b800b784b21daca54586d27f066267b2a740ddb26e669dfb1",
        "a6757be8419525d7dfb4b39703307175f78a8b40d0d95d5fcc0d7b497a95745f",
    ),
]

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


@pytest.mark.parametrize(("seed", "public", "adnl_id"), ADNL_KEYS)
def test_the_id_is_the_one_that_adnl_knows(seed, public, adnl_id):
    identity = Identity(bytes.fromhex(seed))
    assert identity.public.hex() == public
    assert identity.id.hex() == adnl_id


def signed_by_ton(node):
    """The bytes under the signature of a dht.node: boxed, the signature empty."""
    data = bytes.fromhex(node)
    return bytes.fromhex("48325384") + data[:-68] + bytes(4), data[4:36], data[-67:-3]


@pytest.mark.parametrize(("adnl_id", "node"), TON_NODES)
def test_nodes_of_ton_have_the_ids_and_signatures_they_claim(adnl_id, node):
    message, public, signature = signed_by_ton(node)
    assert short_id(public).hex() == adnl_id
    assert verify(public, message, signature)
    assert not verify(public, message[:-1] + b"\x01", signature)


@given(seeds)
def test_the_peer_id_is_libp2ps_own(seed):
    identity = Identity(seed)
    theirs = create_new_key_pair(seed).public_key
    assert identity.peer_id == ID.from_pubkey(theirs).to_base58()
    assert identity.public == theirs.to_bytes()


def test_a_peer_id_names_the_key_it_was_made_of():
    identity = Identity(bytes(range(32)))
    assert identity.peer_id == peer_id(identity.public)
    assert identity.peer_id.startswith("12D3Koo")
    inlined = ID.from_base58(identity.peer_id).extract_public_key()
    assert inlined is not None
    assert short_id(inlined.to_bytes()) == identity.id


@pytest.mark.parametrize(("ours", "theirs", "secret"), CHANNELS)
def test_the_shared_secret_is_the_one_of_adnl_channels(ours, theirs, secret):
    assert Identity(bytes.fromhex(ours)).shared(bytes.fromhex(theirs)).hex() == secret


@given(seeds, seeds)
@settings(max_examples=30)
def test_both_sides_share_one_secret(one, other):
    left, right = Identity(one), Identity(other)
    assert left.shared(right.public) == right.shared(left.public)


@pytest.mark.parametrize("public", [*LOW_ORDER, b"", bytes(31), b"\xff" * 32])
def test_no_secret_is_shared_with_a_key_that_is_none(public):
    with pytest.raises(BadSignature):
        Identity(bytes(range(32))).shared(public)


@given(st.binary(max_size=40))
def test_any_bytes_as_a_key_are_a_secret_or_a_remote_error(public):
    with suppress(BadSignature):
        assert len(Identity(bytes(range(32))).shared(public)) == 32


def test_the_seed_is_the_whole_identity():
    first = Identity(bytes(range(32)))
    again = Identity(first.seed)
    assert (again.public, again.id, again.peer_id) == (first.public, first.id, first.peer_id)


def test_an_identity_shown_is_not_given_away():
    identity = Identity(bytes(range(32)))
    assert repr(identity) == f"Identity({identity.id.hex()[:8]})"


# --- signatures and their memo ---


@pytest.fixture
def signed():
    identity = Identity(bytes(range(32)))
    return identity.public, b"tussah/test\0message", identity.sign(b"tussah/test\0message")


def test_a_signature_is_known_by_its_key_and_message_only(signed):
    public, message, signature = signed
    assert verify(public, message, signature)
    assert not verify(public, message + b"x", signature)
    assert not verify(Identity(bytes(32)).public, message, signature)
    assert not verify(public, message, signature[:-1] + bytes([signature[-1] ^ 1]))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_size_signs_nothing(signed, size):
    _, message, signature = signed
    assert not verify(bytes(size), message, signature)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_none(signed, size):
    public, message, _ = signed
    assert not verify(public, message, bytes(size))


def test_bytes_moved_between_key_message_and_signature_are_another_question(signed):
    public, message, signature = signed
    memo = SignatureMemo(4)
    assert memo.verify(public, message, signature)
    assert not memo.verify(public, signature[-1:] + message, signature[:-1] + b"\0")


def test_the_memo_answers_again_without_asking_the_library(signed, monkeypatch):
    memo = SignatureMemo(4)
    public, message, signature = signed
    forged = signature[::-1]
    assert memo.verify(public, message, signature)
    assert not memo.verify(public, message, forged)
    monkeypatch.setattr("p2p.identity.crypto_sign_open", None)
    assert memo.verify(public, message, signature)
    assert not memo.verify(public, message, forged)


def test_the_memo_says_what_pynacl_says_of_good_and_damaged_signatures_twice():
    memo, draws = SignatureMemo(3_000), seeded(6)
    keys = [SigningKey(bytes([n]) * 32) for n in range(9)]
    asked = []
    for number in range(3_000):
        key, message = keys[number % 9], draws.token(1 + draws.below(60))
        signature = key.sign(message).signature
        if number % 2:
            signature = _damaged(signature, draws)
        asked.append((bytes(key.verify_key), message, signature))
    judged = [_by_pynacl(*one) for one in asked]
    assert judged == [number % 2 == 0 for number in range(3_000)]
    for _ in range(2):
        assert [memo.verify(*one) for one in asked] == judged


def _damaged(signature, draws):
    at, change = draws.below(64), 1 + draws.below(255)
    return signature[:at] + bytes([signature[at] ^ change]) + signature[at + 1 :]


def _by_pynacl(public, message, signature):
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def test_the_memo_forgets_the_oldest_and_stays_right(signed):
    memo = SignatureMemo(2)
    public, message, signature = signed
    for other in (b"a", b"b", b"c"):
        assert not memo.verify(public, other, signature)
    assert len(memo._known) == 2
    assert memo.verify(public, message, signature)


# --- the text that TON's sites are named by ---

SITE = "utoljjye6y4ixazesjofidlkrhyiakiwrmes3m5hthlc6ie2h72gllt"
"""A site of TON's, as its documentation names it."""


def test_an_id_in_text_is_tons():
    assert format_adnl(parse_adnl(SITE)) == SITE
    assert parse_adnl(f"{SITE.upper()}.adnl") == parse_adnl(SITE)


@given(identity=st.binary(min_size=32, max_size=32).map(AdnlId))
def test_an_id_in_text_is_read_back(identity):
    text = format_adnl(identity)
    assert (parse_adnl(text), len(text)) == (identity, 55)


@given(at=st.integers(0, 54), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_letter_mistyped_is_noticed(at, letter):
    wrong = SITE[:at] + letter + SITE[at + 1 :]
    if wrong != SITE:
        with pytest.raises(ValueError, match="mistyped"):
            parse_adnl(wrong)


@pytest.mark.parametrize("text", ["", "moths.adnl", SITE[1:], SITE + "a", "ü" + SITE[1:]])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="55 letters"):
        parse_adnl(text)


def test_letters_that_base32_has_not_are_refused():
    with pytest.raises(ValueError, match=r"[Nn]on-base32"):
        parse_adnl("1" + SITE[1:])
