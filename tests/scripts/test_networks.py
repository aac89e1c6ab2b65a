"""Profiles and invitations: what one node writes, another reads; what is none is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.entropy import seeded
from p2p.identity import AdnlId, Identity
from p2p.wire import Endpoint
from scripts import networks
from scripts.failure import Failed
from scripts.home import Home
from scripts.networks import (
    MAX_BOOTSTRAP,
    MAX_MINTS,
    MAX_SERVERS,
    BootstrapPeer,
    Chain,
    Profile,
    Server,
)

HERE = Endpoint("127.0.0.1", 4001)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def profile(home):
    return networks.create(home, "moths", endpoint=HERE, entropy=seeded(1), dev=True)


ENDPOINTS = st.builds(
    Endpoint,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(1, 65_535),
)

KEYS = st.binary(min_size=32, max_size=32)
PUBLIC_KEYS = KEYS.map(lambda seed: Identity(seed).public)

CHAINS = st.builds(
    Chain,
    network=st.integers(-(2**31), 2**31 - 1),
    servers=st.lists(
        st.builds(Server, endpoint=ENDPOINTS, key=PUBLIC_KEYS),
        min_size=1,
        max_size=MAX_SERVERS,
    ).map(tuple),
)

PROFILES = st.builds(
    Profile,
    name=st.from_regex(networks.NAME, fullmatch=True),
    id=st.integers(-(2**31), 2**31 - 1),
    dev=st.booleans(),
    bootstrap=st.lists(
        st.builds(
            BootstrapPeer,
            key=PUBLIC_KEYS,
            endpoint=ENDPOINTS,
        ),
        min_size=1,
        max_size=MAX_BOOTSTRAP,
    ).map(tuple),
    chain=st.none() | CHAINS,
    mints=st.lists(KEYS.map(AdnlId), max_size=MAX_MINTS).map(tuple),
)


@given(PROFILES)
def test_invitation_carries_the_whole_profile_in_a_kilobyte(profile):
    line = networks.invite(profile)
    assert len(line) <= networks.MAX_INVITE
    assert line.split() == [line]
    assert networks.parse_invite(line) == profile


@given(PROFILES)
def test_file_carries_the_whole_profile(tmp_path_factory, profile):
    home = Home(tmp_path_factory.mktemp("home") / "home")
    networks.save(home, profile)
    assert networks.load(home, profile.name) == profile


@given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda raw: raw.hex())))
def test_other_text_is_no_invitation(text):
    for line in (text, networks.SCHEME + text):
        with pytest.raises(Failed) as failed:
            networks.parse_invite(line)
        assert failed.value.failure.code == "invalid_invite"


@given(PROFILES, st.data())
def test_damaged_invitation_is_refused_or_another_network(profile, data):
    line = networks.invite(profile)
    at = data.draw(st.integers(len(networks.SCHEME), len(line) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_"))
    damaged = line[:at] + letter + line[at + 1 :]
    with suppress(Failed):
        assert networks.parse_invite(damaged) != profile or damaged == line


def test_new_network_has_this_home_as_its_bootstrap(home, profile):
    (peer,) = profile.bootstrap
    assert peer.endpoint == HERE
    assert peer.id == Identity(home.seed()).id
    assert networks.persistent_identity(home, seeded(2)).id == peer.id


def test_two_networks_of_one_name_have_two_ids(tmp_path):
    first, second = (
        networks.create(
            Home(tmp_path / str(n)), "moths", endpoint=HERE, entropy=seeded(n), dev=True
        )
        for n in (1, 2)
    )
    assert first.id != second.id


def test_only_network_needs_no_name(home, profile):
    assert networks.select(home, "") == profile
    assert networks.select(home, "moths") == profile


def test_no_network_says_how_to_get_one(home):
    with pytest.raises(Failed, match="network join INVITE") as failed:
        networks.select(home, "")
    assert failed.value.failure.meaning.exit == 2


def test_several_networks_need_a_name(home, profile):
    networks.create(home, "silk", endpoint=HERE, entropy=seeded(1), dev=True)
    with pytest.raises(Failed, match=r"moths, silk.*--network"):
        networks.select(home, "")


def test_mistyped_network_gets_a_suggestion(home, profile):
    with pytest.raises(Failed, match=r"Did you mean moths\?"):
        networks.select(home, "mots")


def test_joined_name_is_not_overwritten(home, profile):
    with pytest.raises(Failed, match="already joined"):
        networks.save(home, profile)


def test_left_network_is_gone(home, profile):
    networks.leave(home, "moths")
    assert networks.found(home) == []
    with pytest.raises(Failed):
        networks.leave(home, "moths")


@pytest.mark.parametrize("name", ["", "Moths", "../moths", "a" * 33, "moth.toml", "-moth"])
def test_name_that_is_no_name_never_becomes_a_path(home, name):
    with pytest.raises(Failed, match="cannot name a network"):
        networks.load(home, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = 'moths'",
        "name = 'moths'\nid = 'x'\ndev = true\nbootstrap = []",
        "name = 'moths'\nid = 1\ndev = true\nbootstrap = []",
        "name = 'moths'\nid = 1\ndev = true\nbootstrap = [{id = 'zz', address = '1.2.3.4:5'}]",
        f"name = 'moths'\nid = 1\ndev = true\nbootstrap = [{{id = '{'a' * 64}', address = 'h:5'}}]",
        f"name = 'moths'\nid = {2**31}\ndev = true\nbootstrap = []",
    ],
)
def test_file_that_is_no_profile_is_named(home, text):
    home.prepare()
    (home.networks / "moths.toml").write_text(text)
    with pytest.raises(Failed) as failed:
        networks.load(home, "moths")
    assert failed.value.failure.code == "no_network"


def test_lite_servers_key_that_is_no_key_is_refused_before_anything_is_dialled():
    with pytest.raises(Failed, match="no Ed25519 key"):
        Server(endpoint=HERE, key=b"k" * 32)


def test_invitation_has_one_spelling(profile):
    """Base64 has spare bits in its last letter; no two lines stand for one network."""
    line = networks.invite(profile)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for letter in letters:
        if letter != line[-1]:
            with suppress(Failed):
                assert networks.parse_invite(line[:-1] + letter) != profile


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "host:1", ":1"])
def test_address_needs_an_ip_and_a_port(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part is wrong
        networks.parse_endpoint(text)


def test_network_on_a_local_chain_has_its_maker_as_mint(home):
    chain = {"network": -4242, "address": "127.0.0.1:4443", "key": Identity(b"c" * 32).public.hex()}
    profile = networks.create_at(home, "moths", host="127.0.0.1", port=4001, chain=chain)
    assert profile == networks.load(home, "moths")
    assert profile.mints == (profile.bootstrap[0].id,)
    assert profile.chain.network == -4242
    assert profile.chain.servers[0].endpoint == Endpoint("127.0.0.1", 4443)
    assert networks.parse_invite(networks.invite(profile)) == profile
