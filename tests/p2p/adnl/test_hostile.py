"""Junk of every kind: nothing raises, nothing grows, and honest peers go on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p import tl
from p2p.adnl import packet
from p2p.adnl.channel import agree
from p2p.adnl.core import AdnlCore
from p2p.adnl.drops import Drop
from p2p.adnl.events import Message, PeerReset
from p2p.adnl.keys import KeyPair, to_curve
from p2p.adnl.limits import Limits
from p2p.adnl.packet import Introduction, Padding
from p2p.adnl.parts import split
from p2p.entropy import seeded
from p2p.ton import (
    AdnlAddressList,
    AdnlAddressUdp,
    AdnlMessageAnswer,
    AdnlMessageConfirmChannel,
    AdnlMessageCreateChannel,
    AdnlMessageCustom,
    AdnlMessageNop,
    AdnlMessagePart,
    AdnlMessageQuery,
    AdnlMessageReinit,
    AdnlPing,
    DhtPing,
)
from p2p.wire import Endpoint
from tests.p2p.adnl.net import START, identity

NOW = START + 0.5
US, THEM, OTHER = identity(1), identity(2), identity(3)
PLACE = Endpoint("10.0.0.2", 2)
KEY, OUR_KEY = KeyPair(b"k" * 32), KeyPair(b"o" * 32)
PADDING = Padding(b"1" * 7, b"2" * 7)
OPEN = Limits(
    source_burst=1e9, node_burst=1e9, new_peers_burst=1e9, peers=50, queue_peer=10_000, sources=50
)


def seal(plain, to=US):
    return packet.seal_direct(KeyPair(b"e" * 32), to.id, to_curve(to.public), plain)


def direct(*messages, own=THEM, seqno=1, confirm=0, listed=None, born=START, ours=0):
    """A direct datagram as an honest implementation makes it, whatever it says."""
    packed = None if listed is None else tl.pack(listed, boxed=False)
    introduction = Introduction(own.public, packed, born, ours)
    boxed = [tl.pack(message) for message in messages]
    plain = packet.write(boxed, PADDING, seqno, confirm, introduction)
    return seal(packet.sign(plain, PADDING, own))


@pytest.fixture
def core():
    return AdnlCore([US], seeded(1), START, limits=OPEN)


def taken(core, datagram, now=NOW, source=PLACE):
    """Why it was dropped, if it was."""
    before = Counter(core.statistics().drops)
    core.receive(now, source, datagram)
    return sorted((Counter(core.statistics().drops) - before).elements())


# --- each look, in the order of what it costs ---


def test_each_kind_of_junk_is_dropped_for_its_own_reason(core):
    plain = b"no packet"
    low_order = US.id + bytes(32) + bytes(64)
    good = direct(AdnlMessageNop())
    expected = {
        b"": Drop.SIZE,
        bytes(63): Drop.SIZE,
        bytes(64): Drop.UNKNOWN,
        bytes(2_049): Drop.SIZE,
        US.id + bytes(32): Drop.SIZE,
        US.id + bytes(63): Drop.SIZE,
        low_order: Drop.KEY,
        US.id + KEY.public + bytes(64): Drop.DIGEST,
        good[:-1]: Drop.DIGEST,
        seal(plain): Drop.MALFORMED,
        seal(b""): Drop.MALFORMED,
        seal(packet.write([], PADDING, 1, 0)): Drop.SOURCE,
        direct(AdnlMessageNop(), ours=START + 1): Drop.DESTINATION_AHEAD,
        direct(AdnlMessageNop(), confirm=1): Drop.CONFIRMS_UNSENT,
        direct(AdnlMessageNop(), born=START + 10_000): Drop.AHEAD,
    }
    for datagram, reason in expected.items():
        assert taken(core, datagram) == [reason]
    assert taken(core, good) == []


def test_nothing_is_decrypted_for_whoever_sends_too_much(core, monkeypatch):
    core = AdnlCore([US], seeded(1), START)
    opened = []
    monkeypatch.setattr(packet, "unseal_direct", lambda *_: opened.append(1) or b"")
    for _ in range(200):
        core.receive(NOW, PLACE, US.id + bytes(100))
    assert len(opened) == 75
    assert core.statistics().drops[Drop.SOURCE_RATE] == 125


def test_one_address_brings_60_peers_and_no_more_at_once():
    core = AdnlCore([US], seeded(1), START)
    reasons = []
    for i in range(65):
        source = Endpoint("10.0.0.2", 1_000 + i)
        reasons += taken(core, direct(AdnlMessageNop(), own=identity(1_000 + i)), source=source)
    assert reasons == [Drop.NEW_PEERS_RATE] * 5
    assert core.statistics().peers == 60


def test_a_signature_of_another_is_dropped_and_makes_no_peer(core):
    introduction = Introduction(THEM.public, None, START, 0)
    plain = packet.write([tl.pack(AdnlMessageNop())], PADDING, 1, 0, introduction)
    assert taken(core, seal(packet.sign(plain, PADDING, OTHER))) == [Drop.SIGNATURE]
    assert core.statistics().peers == 0


def test_a_source_whose_key_is_none_is_dropped_before_it_is_a_peer(core):
    introduction = Introduction(bytes(32), None, START, 0)
    plain = packet.write([tl.pack(AdnlMessageNop())], PADDING, 1, 0, introduction)
    assert taken(core, seal(packet.sign(plain, PADDING, THEM))) == [Drop.SIGNATURE]
    assert core.statistics().peers == 0


def test_junk_in_one_message_spares_the_others(core):
    reasons = taken(
        core,
        direct(
            AdnlMessageCustom(b"first"),
            AdnlMessageCreateChannel(bytes(32), START),
            AdnlMessageConfirmChannel(KEY.public, KEY.public, START),
            AdnlMessageAnswer(b"q" * 32, b"unasked"),
            AdnlMessagePart(b"h" * 32, 10**6, 0, b"x"),
            AdnlMessageReinit(START + 10_000),
            AdnlMessageQuery(b"q" * 32, tl.pack(AdnlPing(1)) + b"more"),
            AdnlMessageCustom(b"last"),
        ),
    )
    expected = [
        Drop.KEY,
        Drop.CHANNEL,
        Drop.ANSWER_UNASKED,
        Drop.PART,
        Drop.AHEAD,
        Drop.MALFORMED,
    ]
    assert reasons == sorted(expected)
    _, events = core.drain()
    assert [e.payload for e in events if isinstance(e, Message)] == [b"first", b"last"]


@pytest.mark.parametrize(
    "inside",
    [
        tl.pack(AdnlMessagePart(b"h" * 32, 4, 0, b"more")),
        tl.pack(DhtPing(1)),
        b"junk",
        tl.pack(AdnlMessageNop()) + b"more",
    ],
)
def test_parts_of_what_is_no_message_are_dropped(core, inside):
    (part,) = split(inside)
    assert taken(core, direct(part)) in ([Drop.PART], [Drop.MALFORMED])


def test_parts_within_parts_are_dropped(core):
    (inner,) = split(tl.pack(AdnlMessageCustom(b"hello")))
    (outer,) = split(tl.pack(inner))
    assert taken(core, direct(outer)) == [Drop.PART]
    _, events = core.drain()
    assert not [e for e in events if isinstance(e, Message)]


def channel_of(core):
    """Their end of a channel that is made with the core."""
    core.receive(NOW, PLACE, direct(AdnlMessageCreateChannel(KEY.public, START)))
    core.send(NOW, US.id, THEM.id, b"hello")
    sends, _ = core.drain()
    answer = packet.read_signed(packet.unseal_direct(THEM, sends[0].data)).packet
    return agree(KEY, answer.messages[0].key, THEM.id, US.id)


def in_channel(channel, seqno, own=THEM, born=START):
    introduction = Introduction(own.public, None, born, 0)
    return channel.seal(packet.write([tl.pack(AdnlMessageNop())], PADDING, seqno, 0, introduction))


def test_a_channel_is_its_peers_alone(core):
    """The other end of it may name itself there, and nobody else."""
    channel = channel_of(core)
    assert taken(core, in_channel(channel, 2)) == []
    assert taken(core, in_channel(channel, 3, own=OTHER)) == [Drop.SOURCE]


def test_a_restart_that_is_told_in_a_channel_ends_the_channel(core):
    channel = channel_of(core)
    assert taken(core, in_channel(channel, 2)) == []
    assert taken(core, in_channel(channel, 3, born=START + 1)) == []
    _, events = core.drain()
    assert PeerReset(US.id, THEM.id) in events
    assert taken(core, in_channel(channel, 4)) == [Drop.UNKNOWN]
    core.send(NOW, US.id, THEM.id, b"hello")
    sends, _ = core.drain()
    again = packet.read_signed(packet.unseal_direct(THEM, sends[0].data)).packet
    assert isinstance(again.messages[0], AdnlMessageCreateChannel)
    assert core.sizes()["channels"] == 0
    offer = AdnlMessageCreateChannel(OUR_KEY.public, START)
    assert taken(core, direct(offer, seqno=5, born=START + 1)) == []
    core.send(NOW, US.id, THEM.id, b"hello")
    sends, _ = core.drain()
    assert sends[0].data[:32] == THEM.id, "it has not confirmed our key"


# --- anything at all ---

BYTES = st.binary(max_size=40)
KEYS = st.sampled_from([KEY.public, OUR_KEY.public, bytes(32), b"\xff" * 32, THEM.public])
DATES = st.sampled_from([-(2**31), -1, 0, 1, START - 1, START, START + 1, START + 61, 2**31 - 1])
INTS = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 9_000)
MESSAGES = st.one_of(
    st.builds(AdnlMessageCustom, BYTES),
    st.builds(AdnlMessageQuery, KEYS, BYTES | st.just(tl.pack(AdnlPing(5)))),
    st.builds(AdnlMessageAnswer, KEYS, BYTES),
    st.builds(AdnlMessagePart, KEYS, INTS, INTS, BYTES),
    st.builds(AdnlMessageCreateChannel, KEYS, DATES),
    st.builds(AdnlMessageConfirmChannel, KEYS, KEYS, DATES),
    st.builds(AdnlMessageReinit, DATES),
    st.just(AdnlMessageNop()),
)
LISTS = st.builds(
    AdnlAddressList,
    st.lists(st.builds(AdnlAddressUdp, INTS, INTS), max_size=3).map(tuple),
    DATES,
    DATES,
    INTS,
    DATES,
)
SIGNED = st.builds(
    lambda messages, **said: direct(*messages, **said),
    st.lists(MESSAGES, max_size=4),
    own=st.sampled_from([THEM, OTHER, US]),
    seqno=st.sampled_from([0, 1, 2, 3, 70, 2**63 - 1]),
    confirm=st.sampled_from([0, 1, 2**63 - 1]),
    listed=st.none() | LISTS,
    born=DATES.filter(lambda date: date > 0),
    ours=DATES.filter(lambda date: date >= 0),
)
DATAGRAMS = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda rest: US.id + rest, st.binary(max_size=200)),
    st.builds(lambda plain: seal(plain), st.binary(max_size=200)),
    SIGNED,
)


@settings(max_examples=60)
@given(st.lists(st.tuples(DATAGRAMS, st.sampled_from([0.0, 0.1, 5.0, 130.0, 700.0])), max_size=12))
def test_nothing_that_a_peer_sends_raises_or_stays(arrivals):
    core, now = AdnlCore([US], seeded(1), START, limits=OPEN), NOW
    core.add_peer(now, THEM.public, [PLACE])
    for datagram, pause in arrivals:
        core.receive(now, PLACE, datagram)
        core.send(now, US.id, THEM.id, b"hello")
        core.query(now, US.id, OTHER.id, bytes(2_000), 3.0)
        now += pause
        while (due := core.next_deadline()) is not None and due <= now:
            core.handle_timer(due)
        core.drain()
    for step in range(3):
        core.handle_timer(now + 5_000.0 * (step + 1))
    core.drain()
    left = {name for name, size in core.sizes().items() if size}
    assert left <= {"contacts", "sources", "newcomers", "clocks"}


def test_many_identities_of_one_liar_leave_no_more_than_the_bounds(core):
    liars = [identity(1_000 + i) for i in range(200)]
    for i, liar in enumerate(liars):
        source = Endpoint(f"10.1.{i // 250}.{i % 250}", 1)
        listed = AdnlAddressList((AdnlAddressUdp(i + 1, 1),) * 3, START, START, 0, 0)
        offer = AdnlMessageCreateChannel(KEY.public, START)
        part = AdnlMessagePart(b"h" * 32, 8_000, 0, bytes(500))
        queries = [AdnlMessageQuery(bytes([n]) * 32, b"q") for n in range(5)]
        core.receive(NOW + i, source, direct(offer, part, *queries, own=liar, listed=listed))
        core.drain()
    sizes = core.sizes()
    assert sizes["strangers"] == 50
    assert sizes["channels"] == 50
    assert sizes["sources"] == sizes["newcomers"] == 50
    assert sizes["alarms"] == 50


def test_an_honest_peer_is_served_in_a_flood(net):
    first, second = net.node(1), net.node(2)
    first.knows(second)
    first.send(second)
    net.run()
    second.send(first)
    net.run()
    for i in range(3_000):
        source = Endpoint(f"10.{i % 250}.7.{i // 250}", 1)
        second.core.receive(net.now, source, second.id + KEY.public + bytes(100))
        if i % 100 == 0:
            ticket = first.query(second)
            net.run()
            assert ticket in first.answered()
    drops = second.drops()
    assert drops[Drop.DIGEST] <= 251
    assert drops[Drop.NODE_RATE] >= 2_700


@pytest.mark.slow
def test_a_hundred_thousand_flipped_datagrams_are_nothing(core):
    """Every way in is tried: flips before the crypto, and flips under valid crypto."""
    entropy = seeded(7)
    honest = [
        direct(AdnlMessageCreateChannel(KEY.public, START), AdnlMessageCustom(b"x" * 50)),
        direct(AdnlMessageQuery(b"q" * 32, b"?"), seqno=2, listed=AdnlAddressList((), 1, 1, 0, 0)),
    ]
    plains = [packet.unseal_direct(US, datagram) for datagram in honest]
    for i in range(100_000):
        if i % 4:
            one = bytearray(honest[i % 2])
            one[entropy.below(len(one))] ^= 1 + entropy.below(255)
            core.receive(NOW, PLACE, bytes(one))
        else:
            one = bytearray(plains[i % 8 // 4])
            one[entropy.below(len(one))] ^= 1 + entropy.below(255)
            core.receive(NOW, PLACE, seal(bytes(one)))
        core.drain()
    assert core.statistics().peers <= 1
