"""CREATE and CREATED over paths of 0 to 3 relays: sizes, refusals, tampering, any bytes."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.cell import (
    Cell,
    Code,
    Info,
    Kind,
    Status,
    create_size,
    reply_size,
)
from p2p.onion.handshake import (
    MAX_OFFER,
    MAX_REQUEST,
    Accepted,
    ClientHandshake,
    Ended,
    HopRole,
    Refused,
    Relayed,
    Target,
    open_create,
    prologue,
    puzzle_bits,
    solve_puzzle,
)
from p2p.onion.noise import NK, NKPSK2, Initiator, MlKem768, public_key

NETWORK = -239
ISSUED = 1_790_000_000
KEM = MlKem768()


class Node:
    def __init__(self, entropy):
        self.id = entropy.token(32)
        self.private = entropy.token(32)
        self.entropy = entropy

    @property
    def target(self):
        return Target(id=self.id, onion_key=public_key(self.private))

    def open(self, create, **changes):
        arguments = {"me": self.id, "network": NETWORK, "kem": KEM, "entropy": self.entropy}
        return open_create(create, [self.private], **arguments | changes)


def nodes(hops, seed=1):
    entropy = seeded(seed)
    return [Node(entropy) for _ in range(hops)]


def client(path, seed=2):
    targets = [node.target for node in path]
    return ClientHandshake(targets, network=NETWORK, kem=KEM, entropy=seeded(seed))


def walk(path, create):
    """What each hop opened, guard first."""
    opened = []
    for node in path:
        opened.append(node.open(create))
        create = getattr(opened[-1], "create", b"")
    return opened


def wrapped(relays, reply):
    """The reply wrapped by these relays, and their hops, guard first."""
    hops = []
    for relay in reversed(relays):
        reply, hop = relay.wrap(ISSUED, reply)
        hops.insert(0, hop)
    return reply, hops


def flip(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


# --- a circuit is built ---


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_one_round_trip_gives_every_pair_its_keys(hops):
    path = nodes(hops)
    handshake = client(path)
    *relays, end = walk(path, handshake.create(ISSUED, b"request"))
    answered = end.accept(ISSUED + 1, b"offer")
    reply, keys = wrapped(relays, answered.reply)
    accepted = handshake.read(reply)

    assert isinstance(accepted, Accepted)
    assert (end.request, accepted.offer) == (b"request", b"offer")
    assert [relay.depth for relay in [*relays, end]] == list(range(1, hops + 1))
    assert [relay.next for relay in relays] == [node.id for node in path[1:]]
    assert tuple(relay.ephemeral for relay in [*relays, end]) == handshake.ephemerals
    assert [status.code for status in accepted.statuses] == [Code.OK] * hops
    assert [status.unix for status in accepted.statuses] == [ISSUED] * len(relays) + [ISSUED + 1]
    assert (accepted.session, accepted.resume) == (answered.session, answered.resume)
    assert accepted.session != accepted.resume

    cell = Cell(1, Kind.DATA, 0, 0, b"prompt")
    body = accepted.layers.seal(cell.pack(hops))
    for hop in [*keys, answered.hop]:
        body = hop.forward(body)
    assert Cell.unpack(body) == cell
    for hop in reversed([*keys, answered.hop]):
        body = hop.backward(body)
    assert Cell.unpack(accepted.layers.open(body)) == cell


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_sizes_tell_only_the_depth(hops):
    path = nodes(hops)
    for request, offer in ((b"", b""), (bytes(MAX_REQUEST), bytes(MAX_OFFER))):
        create = client(path).create(ISSUED, request)
        *relays, end = walk(path, create)
        creates = [create, *[relay.create for relay in relays]]
        assert [len(c) for c in creates] == [create_size(d + 1) for d in range(hops)]

        replies = [end.accept(ISSUED, offer).reply]
        for relay in reversed(relays):
            replies.append(relay.wrap(ISSUED, replies[-1])[0])
        assert [len(r) for r in replies] == [reply_size(d) for d in range(hops, 0, -1)]


def test_path_without_endpoint_or_with_four_relays_is_our_own_bug():
    for hops in (0, 5):
        with pytest.raises(ValueError, match="0 to 3 relays"):
            client(nodes(hops))


def test_too_long_words_are_our_own_bug():
    path = nodes(1)
    with pytest.raises(ValueError, match="512"):
        client(path).create(ISSUED, bytes(MAX_REQUEST + 1))
    (end,) = walk(path, client(path).create(ISSUED, b""))
    with pytest.raises(ValueError, match="960"):
        end.accept(ISSUED, bytes(MAX_OFFER + 1))


def test_issued_is_rounded_down_to_a_minute():
    path = nodes(2)
    opened = walk(path, client(path).create(119, b""))
    assert [hop.info.issued for hop in opened] == [60, 60]


def test_yesterdays_key_still_opens():
    (node,) = nodes(1)
    create = client([node]).create(ISSUED, b"late")
    keys = [seeded(9).token(32), node.private]
    arguments = {"me": node.id, "network": NETWORK, "kem": KEM, "entropy": seeded(1)}
    assert open_create(create, keys, **arguments).request == b"late"


def test_keys_and_words_are_not_shown():
    path = nodes(2)
    handshake = client(path)
    relay, end = walk(path, handshake.create(ISSUED, b"request"))
    answered = end.accept(ISSUED, b"offer")
    accepted = handshake.read(relay.wrap(ISSUED, answered.reply)[0])
    shown = repr((relay, end, answered, accepted))
    for secret in (accepted.session, accepted.resume, accepted.offer, end.request):
        assert repr(secret) not in shown


# --- refusals ---


@pytest.mark.parametrize("hops", [2, 3, 4])
@pytest.mark.parametrize("code", [Code.STALE, Code.UNREACHABLE, Code.BUSY, Code.UNKNOWN_NEXT])
def test_client_learns_which_relay_refused_and_why(hops, code):
    for refusing in range(1, hops):
        path = nodes(hops)
        handshake = client(path)
        opened = walk(path, handshake.create(ISSUED, b""))
        status = Status(code=code, detail=14, unix=ISSUED + 7)
        refusal = opened[refusing - 1].refuse(status)
        assert len(refusal) == reply_size(refusing)

        refused = handshake.read(wrapped(opened[: refusing - 1], refusal)[0])
        assert isinstance(refused, Refused)
        assert (refused.depth, refused.status, refused.reason) == (refusing, status, b"")
        assert len(refused.statuses) == refusing


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_client_hears_the_endpoints_reason(hops):
    path = nodes(hops)
    handshake = client(path)
    *relays, end = walk(path, handshake.create(ISSUED, b""))
    refusal = end.refuse(Status(code=Code.REFUSED, unix=ISSUED), b"too hot")
    refused = handshake.read(wrapped(relays, refusal)[0])
    assert isinstance(refused, Refused)
    assert (refused.depth, refused.status.code, refused.reason) == (hops, Code.REFUSED, b"too hot")


def test_refusals_and_offers_look_alike():
    path = nodes(2)
    relay, end = walk(path, client(path).create(ISSUED, b""))
    offered = relay.wrap(ISSUED, end.accept(ISSUED, b"offer").reply)[0]
    assert len(offered) == len(relay.refuse(Status(code=Code.BUSY, unix=ISSUED)))


# --- what dies, and where ---


def regions(size):
    return [0, 255, 256, size * 4, (size - 16) * 8 - 1, (size - 16) * 8, size * 8 - 1]


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
@pytest.mark.parametrize("region", range(7))
def test_tampered_create_dies_at_the_next_hop(hops, region):
    path = nodes(hops)
    create = client(path).create(ISSUED, b"request")
    for node in path:
        with pytest.raises(OnionError):
            node.open(flip(create, regions(len(create))[region]))
        create = getattr(node.open(create), "create", b"")


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
@pytest.mark.parametrize("region", range(7))
def test_tampered_reply_dies_at_the_client(hops, region):
    path = nodes(hops)
    for link in range(hops):
        handshake = client(path)
        *relays, end = walk(path, handshake.create(ISSUED, b"request"))
        reply = wrapped(relays[link:], end.accept(ISSUED, b"offer").reply)[0]
        reply = wrapped(relays[:link], flip(reply, regions(len(reply))[region]))[0]
        with pytest.raises(OnionError):
            handshake.read(reply)


def test_create_is_bound_to_network_node_and_role():
    node, other = nodes(2)
    create = client([node]).create(ISSUED, b"")
    with pytest.raises(OnionError):
        node.open(create, network=NETWORK + 1)
    with pytest.raises(OnionError):
        node.open(create, me=other.id)
    with pytest.raises(OnionError):
        other.open(create)


def test_reply_of_another_circuit_is_refused():
    path = nodes(2)
    first, second = client(path, seed=3), client(path, seed=4)
    relay, end = walk(path, first.create(ISSUED, b""))
    second.create(ISSUED, b"")
    with pytest.raises(OnionError):
        second.read(relay.wrap(ISSUED, end.accept(ISSUED, b"").reply)[0])


def test_wrong_kem_secret_opens_nothing():
    """The text is safe while either X25519 or ML-KEM holds: without the KEM there is no offer."""
    (node,) = nodes(1)
    handshake = client([node])
    end = node.open(handshake.create(ISSUED, b""))
    stranger = KEM.encapsulate(KEM.generate(seeded(8))[1], seeded(9))
    reply = replace(end, _psk=stranger[1]).accept(ISSUED, b"offer").reply
    with pytest.raises(OnionError):
        handshake.read(reply)


@pytest.mark.parametrize("size", [0, 1807, 1808, 1951, 1953, 2383, 2385, 4000])
def test_create_or_reply_of_a_wrong_size_is_refused(size):
    (node,) = nodes(1)
    with pytest.raises(OnionError):
        node.open(bytes(size))
    handshake = client([node])
    handshake.create(ISSUED, b"")
    with pytest.raises(OnionError):
        handshake.read(bytes(size))


def test_relay_does_not_wrap_a_reply_of_a_wrong_size():
    path = nodes(2)
    relay = walk(path, client(path).create(ISSUED, b""))[0]
    for size in (0, reply_size(1), reply_size(3)):
        with pytest.raises(OnionError):
            relay.wrap(ISSUED, bytes(size))


def crafted(node, role, text, depth=1):
    """A CREATE that holds any text, by someone who knows the protocol."""
    suite = {HopRole.RELAY: NK, HopRole.ENDPOINT: NKPSK2}[role]
    start = prologue(NETWORK, role, node.id)
    initiator = Initiator(node.target.onion_key, start, seeded(3), suite=suite)
    return initiator.write(text.ljust(create_size(depth) - 48, b"\0"))


END, THROUGH = Info(next=None, issued=60).pack(), Info(next=bytes([1]) * 32, issued=60).pack()
GOOD_KEY = KEM.generate(seeded(3))[1]

BAD_CREATES = {
    "relay at the last depth": (HopRole.RELAY, THROUGH, 4),
    "endpoint flag at a relay": (HopRole.RELAY, END, 1),
    "next at an endpoint": (HopRole.ENDPOINT, THROUGH + GOOD_KEY, 1),
    "unknown version": (HopRole.RELAY, THROUGH[:37] + b"\x02" + THROUGH[38:], 1),
    "reserved flag": (HopRole.ENDPOINT, END[:36] + b"\x03" + END[37:] + GOOD_KEY, 1),
    "token": (HopRole.ENDPOINT, END[:48] + b"\x01" + END[49:] + GOOD_KEY, 1),
    "KEM key out of range": (HopRole.ENDPOINT, END + b"\xff" * 1184, 1),
    "request over 512": (HopRole.ENDPOINT, END + GOOD_KEY + b"\x01\x02", 1),
    "request past the end": (HopRole.ENDPOINT, END + GOOD_KEY + b"\xff\xff", 1),
    "filler": (HopRole.ENDPOINT, END + GOOD_KEY + b"\x01\x00xy", 1),
}


@pytest.mark.parametrize("name", BAD_CREATES)
def test_sealed_nonsense_is_refused(name):
    (node,) = nodes(1)
    role, text, depth = BAD_CREATES[name]
    with pytest.raises(OnionError):
        node.open(crafted(node, role, text, depth))


def test_the_crafted_creates_would_be_good_without_their_fault():
    (node,) = nodes(1)
    assert isinstance(node.open(crafted(node, HopRole.RELAY, THROUGH)), Relayed)
    assert isinstance(node.open(crafted(node, HopRole.ENDPOINT, END + GOOD_KEY)), Ended)


@pytest.mark.parametrize("status", [b"\x09", b"\x00\x00\x01", b"\xff" * 16])
@pytest.mark.parametrize("end", [False, True])
def test_sealed_nonsense_in_a_status_is_refused(status, end):
    path = nodes(2)
    handshake = client(path)
    relay, ended = walk(path, handshake.create(ISSUED, b""))
    if end:
        text = status.ljust(reply_size(2) - 1088 - 48, b"\0")
        reply = ended._ciphertext + ended._responder.write(text, ended._psk)
        reply = relay.wrap(ISSUED, reply)[0]
    else:
        reply = relay._responder.write(status.ljust(reply_size(1) - 48, b"\0"))
    with pytest.raises(OnionError):
        handshake.read(reply)


def test_offer_over_its_limit_is_refused():
    (node,) = nodes(1)
    handshake = client([node])
    end = node.open(handshake.create(ISSUED, b""))
    text = Status(code=Code.OK, unix=1).pack() + (961).to_bytes(2, "little")
    text = text.ljust(reply_size(1) - 1088 - 48, b"\0")
    with pytest.raises(OnionError):
        handshake.read(end._ciphertext + end._responder.write(text, end._psk))


SIZES = st.sampled_from([1952, 2096, 2240, 2384]) | st.integers(0, 2500)


@settings(max_examples=40)
@given(SIZES, st.binary(max_size=300))
def test_any_bytes_raise_only_our_error(size, head):
    (node,) = nodes(1)
    data = head.ljust(size, b"\x5a")[:size]
    with pytest.raises(OnionError):
        node.open(data)
    handshake = client([node])
    handshake.create(ISSUED, b"")
    with pytest.raises(OnionError):
        handshake.read(data)


@settings(max_examples=40)
@given(st.sampled_from(HopRole), st.binary(max_size=1400), st.integers(1, 4))
def test_any_sealed_bytes_raise_only_our_error(role, text, depth):
    (node,) = nodes(1)
    with suppress(OnionError):
        node.open(crafted(node, role, text, depth))


def test_directory_key_of_low_order_is_the_adverts_fault():
    (node,) = nodes(1)
    liar = Target(id=node.id, onion_key=bytes(32))
    handshake = ClientHandshake(
        [node.target, liar, node.target], network=NETWORK, kem=KEM, entropy=seeded(1)
    )
    with pytest.raises(OnionError):
        handshake.create(ISSUED, b"")


# --- the puzzle ---


@given(st.integers(0, 8))
def test_solved_puzzle_is_worth_its_bits_and_travels(bits):
    path = nodes(2)
    handshake = client(path)
    nonces = [
        solve_puzzle(node.id, ephemeral, ISSUED, bits)
        for node, ephemeral in zip(path, handshake.ephemerals, strict=True)
    ]
    for node, hop in zip(path, walk(path, handshake.create(ISSUED, b"", nonces)), strict=True):
        worth = puzzle_bits(node.id, hop.ephemeral, hop.info.issued, hop.info.puzzle)
        assert worth >= bits


def test_puzzle_is_bound_to_everything_it_names():
    nonce = solve_puzzle(bytes(32), bytes(32), 60, 12)
    assert puzzle_bits(bytes(32), bytes(32), 60, nonce) >= 12
    others = [
        (bytes(31) + b"\x01", bytes(32), 60, nonce),
        (bytes(32), bytes(31) + b"\x01", 60, nonce),
        (bytes(32), bytes(32), 120, nonce),
        (bytes(32), bytes(32), 60, nonce + 1),
    ]
    assert all(puzzle_bits(*other) < 12 for other in others)
