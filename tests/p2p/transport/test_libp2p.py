"""The walls around libp2p: what it does, what strangers do, and what neither may do to us."""

import logging
import struct

import pytest
import trio
from libp2p.crypto import ed25519, secp256k1
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from p2p import codec, defaults
from p2p.entropy import seeded
from p2p.errors import Closed, LocalError
from p2p.identity import Identity
from p2p.transport import courtesies, frames, libp2p, links, reach
from p2p.transport.libp2p import Libp2pCarrier
from p2p.wire import FRAME, MAX_FRAMES, Endpoint, Kind, Message, pack

NETWORK = -77
PATIENCE = 20.0


class Rogue:
    """A peer that speaks libp2p's protocols and, above them, whatever a test wants."""

    def __init__(self, nursery, *, key_pair=None):
        entropy = seeded(1_000)
        self._nursery = nursery
        self.nursery = None
        self.identity = Identity(entropy.token(32))
        self.noise = Noise(
            key_pair or ed25519.create_new_key_pair(self.identity.seed),
            noise_privkey=X25519PrivateKey.from_bytes(entropy.token(32)),
        )
        self.connection = None

    async def connect(self, endpoint):
        """Dial, up to the greeting."""
        await self.secure(endpoint)
        await self.connection.open(self.nursery)

    async def secure(self, endpoint):
        """Dial, up to Noise; a nursery of the connection's own is ready."""
        self.nursery = await self._nursery.start(hold_nursery)
        tcp = await trio.open_tcp_stream(*endpoint)
        self.connection = libp2p._Connection(tcp, dialled=True)
        await self.connection.secure(self.noise)

    async def link(self, peer):
        """Dial and greet; returns the link at the other side."""
        await self.connect(peer.endpoint)
        await self.write(frames.hello(NETWORK, self.identity.public))
        await self.connection.read()
        self.connection.greeted()
        return await peer.spy.up()

    async def write(self, *some):
        await self.connection.write(b"".join(some))

    async def read(self):
        with trio.fail_after(PATIENCE):
            return await self.connection.read()

    async def ended(self):
        """Return once the other side has ended the connection."""
        await until_raises(Closed, self.connection.read)


async def hold_nursery(*, task_status):
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


async def until_raises(error, call, *args):
    """Call again and again until it raises, as it must."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await call(*args)
            except error:
                return


@pytest.fixture
async def rogue(nursery):
    rogue = Rogue(nursery)
    yield rogue
    if rogue.connection is not None:
        rogue.connection.close()


@pytest.fixture
async def node(libp2p_net):
    return await libp2p_net.node()


def frame(kind, number=0, payload=b""):
    return codec.frame(bytes([kind]) + number.to_bytes(8, "little") + payload)


async def talks_to_honest_peers(net, peer):
    honest = await net.node(listen=None)
    near, far = await net.linked(honest, peer)
    honest.send(near, b"hello")
    assert await peer.receive() == [(far, Message(Kind.MESSAGE, 0, b"hello"))]


# --- canaries: what the library does, for which the walls are there ---


async def test_canary_a_write_cancelled_halfway_ends_the_connection(nursery):
    here, there = await connected_pair(buffer=4_096)
    sender, receiver = (
        libp2p._Connection(here, dialled=True),
        libp2p._Connection(there, dialled=False),
    )
    async with trio.open_nursery() as both:
        both.start_soon(sender.secure, noise(1))
        both.start_soon(receiver.secure, noise(2))

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        while True:
            await sender._secure.write(bytes(60_000))
    nursery.start_soon(sender._secure.write, bytes(60_000))

    await until_raises(Exception, receiver._secure.read, 60_000)
    sender.close()
    receiver.close()


def noise(seed):
    entropy = seeded(seed)
    keys = ed25519.create_new_key_pair(entropy.token(32))
    return Noise(keys, noise_privkey=X25519PrivateKey.from_bytes(entropy.token(32)))


async def cancel_when_blocked(scope):
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def connected_pair(*, buffer):
    """Both ends of one TCP connection that holds little."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer)
    here = await trio.open_tcp_stream(*listener.socket.getsockname())
    here.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, buffer)
    there = await listener.accept()
    await listener.aclose()
    return here, there


async def test_canary_two_listeners_of_the_library_share_a_port():
    async def ignore(stream):
        await stream.close()

    first, second = TCP().create_listener(ignore), TCP().create_listener(ignore)
    await first.listen(Multiaddr("/ip4/127.0.0.1/tcp/0"))
    port = first.get_addrs()[0].value_for_protocol("tcp")
    await second.listen(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"))

    carrier = Libp2pCarrier(
        Identity(bytes(32)),
        network=NETWORK,
        listen=Endpoint("127.0.0.1", int(port)),
        entropy=seeded(1),
    )
    with pytest.raises(LocalError, match=f"port {port} is taken"):
        await carrier.run(None)
    await first.close()
    await second.close()


# --- listening ---


async def test_a_link_says_which_address_is_at_its_other_end(libp2p_net):
    left, right = await libp2p_net.node(), await libp2p_net.node()
    near, far = await libp2p_net.linked(left, right)
    assert (near.host, far.host) == ("127.0.0.1", "127.0.0.1")


async def test_a_port_that_is_taken_is_named(libp2p_net, node):
    with pytest.RaisesGroup(LocalError, flatten_subgroups=True, allow_unwrapped=True) as caught:
        await libp2p_net.node(listen=node.endpoint)
    assert f"port {node.endpoint.port} is taken" in repr(caught.value)


async def test_an_address_of_another_machine_cannot_be_listened_on():
    carrier = Libp2pCarrier(
        Identity(bytes(32)), network=NETWORK, listen=Endpoint("192.0.2.1", 0), entropy=seeded(1)
    )
    with pytest.raises(LocalError, match="cannot listen on"):
        await carrier.run(None)


async def test_a_port_is_free_again_after_the_run(libp2p_net, node):
    await node.stop()
    again = await libp2p_net.node(listen=node.endpoint)
    assert again.endpoint == node.endpoint


# --- strangers ---

GARBAGE = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "random": seeded(7).token(4_000),
    "zeros": bytes(10_000),
    "length without end": b"\xff" * 9 + b"\x01" + bytes(100_000),
    "length of a gigabyte": b"\x80\x80\x80\x80\x04" + bytes(100_000),
    "not text": b"\x05\xff\xfe\xfd\xfc\n",
    "noise of zeros": b"\x13/multistream/1.0.0\n\x07/noise\n" + bytes(1_000),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_port_is_a_count_and_nothing_else(libp2p_net, node, garbage, capfd):
    stranger = await trio.open_tcp_stream(*node.endpoint)
    try:
        await stranger.send_all(garbage)
        await stranger.send_eof()
        with trio.fail_after(PATIENCE):
            while await stranger.receive_some():
                pass
    except (trio.BrokenResourceError, OSError):
        pass  # the node did not wait for the end of it
    await stranger.aclose()

    await talks_to_honest_peers(libp2p_net, node)
    assert node.carrier.statistics().refused == 1
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("libp2p.stream_muxer.yamux.yamux").isEnabledFor(logging.CRITICAL)


async def test_a_stranger_cannot_make_us_read_without_end(node):
    stranger = await trio.open_tcp_stream(*node.endpoint)
    await stranger.send_all(b"\x80\x80\x80\x80\x04")
    await until_raises(trio.BrokenResourceError, stranger.send_all, bytes(65_536))
    await stranger.aclose()


async def test_a_silent_stranger_is_given_up(node, monkeypatch):
    monkeypatch.setattr(defaults, "LINK_SETUP_TIMEOUT", 0.1)
    stranger = await trio.open_tcp_stream(*node.endpoint)
    await until_closed(stranger)


async def until_closed(stream):
    with trio.fail_after(PATIENCE):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    await stream.aclose()


async def test_more_strangers_than_the_bound_are_turned_away(libp2p_net, node, monkeypatch):
    monkeypatch.setattr(defaults, "LINKS_ARRIVING", 2)
    waiting = [await trio.open_tcp_stream(*node.endpoint) for _ in range(2)]
    for stream in waiting:
        await stream.receive_some(1)  # it is being served
    await until_closed(await trio.open_tcp_stream(*node.endpoint))

    for stream in waiting:
        await stream.send_all(bytes(100))
        await until_closed(stream)
    await talks_to_honest_peers(libp2p_net, node)


async def test_more_links_than_the_bound_are_turned_away(libp2p_net, node, monkeypatch):
    monkeypatch.setattr(libp2p, "_MAX_LINKS", 1)
    first, second = await libp2p_net.node(), await libp2p_net.node()
    await libp2p_net.linked(first, node)
    second.dial(node)
    assert await second.spy.next() == ("failed", node.id)
    assert node.carrier.statistics().refused == 1


@pytest.mark.slow
async def test_three_hundred_peers_have_their_links(libp2p_net, node):
    """Libp2p's own listener stops without a word at 256."""
    links = []
    for _ in range(300):
        peer = await libp2p_net.node(listen=None)
        near, _ = await libp2p_net.linked(peer, node)
        links.append((peer, near))
    for peer, near in links:
        peer.send(near, peer.id)
    heard = await node.receive(300)
    assert {link.peer for link, _ in heard} == {message.payload for _, message in heard}


@pytest.mark.parametrize("banner", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", bytes(100_000)])
async def test_dialling_something_else_fails(libp2p_net, nursery, monkeypatch, banner):
    monkeypatch.setattr(defaults, "LINK_SETUP_TIMEOUT", 0.5)
    listeners = await nursery.start(trio.serve_tcp, say(banner), 0)
    port = listeners[0].socket.getsockname()[1]
    left, absent = await libp2p_net.node(), Identity(bytes(32))
    left.carrier.dial(absent.id, [Endpoint("127.0.0.1", port)])
    assert await left.spy.next() == ("failed", absent.id)


def say(banner):
    async def handle(stream):
        try:
            await stream.send_all(banner)
            await until_closed(stream)
        except trio.BrokenResourceError:
            pass

    return handle


# --- the greeting ---


async def test_the_greeting_names_version_network_and_key(node, rogue):
    await rogue.connect(node.endpoint)
    await rogue.write(frames.hello(NETWORK, rogue.identity.public))
    (body, *_) = await rogue.read()
    kind, number, payload = frames.split(body)
    assert (kind, number) == (Kind.HELLO, 0)
    assert codec.unpack(payload, 256) == (1, NETWORK, node.identity.public, 0)


@pytest.mark.parametrize(
    "payload",
    [
        [1, 42, Rogue(None).identity.public, 0],
        [2, NETWORK, Rogue(None).identity.public, 0],
        [1, NETWORK, bytes(32), 0],
        [1, NETWORK, Rogue(None).identity.public],
        [],
        {1: 2},
        "hello",
    ],
    ids=["network", "version", "key", "short", "empty", "map", "text"],
)
async def test_a_greeting_that_does_not_fit_is_refused(node, rogue, payload):
    await rogue.connect(node.endpoint)
    await rogue.write(frame(Kind.HELLO, 0, codec.pack(payload)))
    await rogue.ended()
    assert not node.spy.heard
    assert node.carrier.statistics().refused == 1


async def test_whoever_does_not_greet_first_is_refused(node, rogue):
    await rogue.connect(node.endpoint)
    await rogue.write(frame(Kind.MESSAGE, 0, b"let me in"))
    await rogue.ended()
    assert not node.spy.heard


async def test_whoever_does_not_greet_in_time_is_refused(node, rogue, monkeypatch):
    monkeypatch.setattr(defaults, "LINK_HELLO_TIMEOUT", 0.1)
    await rogue.connect(node.endpoint)
    await rogue.ended()
    assert not node.spy.heard


async def test_a_key_that_is_no_ed25519_key_is_refused(node, nursery):
    rogue = Rogue(nursery, key_pair=secp256k1.create_new_key_pair(bytes([1] * 32)))
    with pytest.raises(Closed):
        await rogue.connect(node.endpoint)
    rogue.connection.close()
    assert not node.spy.heard


async def test_messages_right_behind_the_greeting_are_not_lost(node, rogue):
    await rogue.connect(node.endpoint)
    early = frame(Kind.MESSAGE, 1, b"early")
    await rogue.write(frames.hello(NETWORK, rogue.identity.public), early, early)
    link = await node.spy.up()
    assert await node.receive(2) == [(link, Message(Kind.MESSAGE, 1, b"early"))] * 2


async def test_a_peer_that_restarted_replaces_its_link(node, rogue):
    first = await rogue.link(node)
    old = rogue.connection
    await rogue.connect(node.endpoint)
    await rogue.write(frames.hello(NETWORK, rogue.identity.public))
    assert await node.spy.down() == first
    second = await node.spy.up()
    node.send(second, b"to the new one")
    await rogue.read()
    old.close()


# --- the rules of a link ---

OFFENCES = {
    "a frame too long": (2**31).to_bytes(4, "little"),
    "a frame without a head": codec.frame(b"\x01\x00"),
    "an empty frame": codec.frame(b""),
    "an unknown kind": frame(9),
    "a second greeting": frames.hello(NETWORK, Rogue(None).identity.public),
    "a ping with a payload": frame(Kind.PING, 1, b"x"),
    "a ping in pieces": frame(Kind.PING | frames.MORE, 1),
    "credit for nothing": frame(Kind.CREDIT, 1),
    "credit beyond all bounds": frame(Kind.CREDIT, 2**64 - 1),
    "onion frames in pieces": frame(Kind.ONION | frames.MORE, 0, bytes(FRAME)),
    "pieces of two messages": frame(Kind.QUERY | frames.MORE, 1, b"a") + frame(Kind.QUERY, 2, b"b"),
    "a message between pieces": frame(Kind.QUERY | frames.MORE, 1, b"a") + frame(Kind.MESSAGE, 0),
}


@pytest.mark.parametrize("offence", OFFENCES.values(), ids=OFFENCES)
async def test_an_offence_ends_the_link(node, rogue, offence):
    link = await rogue.link(node)
    await rogue.write(offence)
    await rogue.ended()
    assert await node.spy.down() == link
    assert node.carrier.statistics().closed == 1


async def test_a_message_longer_than_any_ends_the_link(node, rogue):
    link = await rogue.link(node)
    await until_raises(Closed, rogue.write, frame(Kind.QUERY | frames.MORE, 1, bytes(65_000)))
    assert await node.spy.down() == link


async def test_whoever_exceeds_its_credit_loses_the_link(node, rogue):
    link = await rogue.link(node)
    await until_raises(Closed, rogue.write, frame(Kind.ONION, 0, bytes(FRAME * MAX_FRAMES)))
    taken = node.carrier.take(1_000)
    assert sum(len(data) for _, data in taken) <= 3 * defaults.LINK_CREDIT
    assert await node.spy.down() == link


async def test_credit_comes_back_as_messages_are_taken(node, rogue):
    await rogue.link(node)
    await rogue.write(*[frame(Kind.MESSAGE, 0, bytes(60_000))] * 3)
    await node.receive(3)
    (body, *_) = await rogue.read()
    kind, amount, _ = frames.split(body)
    assert kind == Kind.CREDIT
    assert amount == 3 * (60_000 + 13)
    assert not node.spy.heard


async def test_a_flood_of_pings_is_answered_by_few_pongs(node, rogue):
    await rogue.link(node)
    await rogue.write(*[frame(Kind.PING, number) for number in range(4_000)])
    pongs = []
    while 3_999 not in pongs:
        pongs += [frames.split(body)[1] for body in await rogue.read()]
    assert len(pongs) < 100


async def test_a_farewell_ends_the_link_without_offence(node, rogue):
    link = await rogue.link(node)
    await rogue.write(frame(Kind.MESSAGE, 0, b"last"), frame(Kind.BYE))
    assert await node.receive() == [(link, Message(Kind.MESSAGE, 0, b"last"))]
    assert await node.spy.down() == link
    assert node.carrier.statistics().closed == 0


async def test_other_streams_of_a_peer_are_refused_and_the_link_goes_on(node, rogue, monkeypatch):
    monkeypatch.setattr(libp2p, "_CHOICE_TIME", 0.05)
    link = await rogue.link(node)
    muxed = rogue.connection._stream.muxed_conn
    for _ in range(3):
        stream = await muxed.open_stream()
        with pytest.raises(MultiselectClientError, match="protocol not supported"):
            await libp2p._agree(stream, "/ipfs/kad/1.0.0", dialled=True)
        await until_raises(MuxedStreamError, stream.read, 1)
    await rogue.write(frame(Kind.MESSAGE, 0, b"still here"))
    assert await node.receive() == [(link, Message(Kind.MESSAGE, 0, b"still here"))]


async def test_a_stranger_s_pings_come_back_and_no_more_than_some(node, rogue, monkeypatch):
    monkeypatch.setattr(libp2p, "_READ_PAUSE", 0.1)
    await rogue.link(node)
    stream = await rogue.connection._stream.muxed_conn.open_stream()
    await libp2p._agree(stream, courtesies.PING, dialled=True)
    for number in range(courtesies.PINGS):
        await stream.write(bytes([number]) * 32)
        assert await stream.read(32) == bytes([number]) * 32
    await stream.write(bytes(32))
    await until_raises(MuxedStreamError, stream.read, 1)


async def test_who_dialled_is_told_what_it_knows(node, rogue):
    await rogue.link(node)
    stream = await rogue.connection._stream.muxed_conn.open_stream()
    await libp2p._agree(stream, courtesies.IDENTIFY, dialled=True)
    told = await stream.read(500)
    assert (told[0] & 0x7F) + (told[1] << 7) == len(told) - 2
    assert node.identity.public in told
    assert courtesies.multiaddr(node.endpoint) in told
    assert told.count(b"/tussah/link/1") == 1


def test_identify_is_as_libp2p_s_own_protobuf_reads_it():
    from libp2p.identity.identify.pb.identify_pb2 import Identify

    here, there = Endpoint("192.0.2.7", 4001), Endpoint("2001:db8::1", 65535)
    told = courtesies.about(b"k" * 32, ["/a", "/b" * 80], [here], there)
    size, start = told[0] & 0x7F | told[1] << 7, 2
    assert len(told) == start + size
    read = Identify.FromString(told[start:])
    assert read.public_key == b"\x08\x01\x12\x20" + b"k" * 32
    assert list(read.protocols) == ["/a", "/b" * 80]
    assert list(read.listen_addrs) == [bytes.fromhex("04c0000207060fa1")]
    assert read.observed_addr == b"\x29" + there_packed() + b"\x06\xff\xff"
    assert read.agent_version == read.protocol_version == courtesies.VERSION


def there_packed():
    return bytes.fromhex("20010db8000000000000000000000001")


async def test_a_peer_may_try_other_protocols_before_the_links(libp2p_net, node, rogue):
    await rogue.secure(node.endpoint)
    connection = rogue.connection
    connection._open_stream = try_identify_first(connection, connection._open_stream)
    await connection.open(rogue.nursery)
    await rogue.write(frames.hello(NETWORK, rogue.identity.public))
    assert (await node.spy.up()).peer == rogue.identity.id


def try_identify_first(connection, then):
    async def open_stream(muxed):
        await muxed.event_started.wait()
        stream = await muxed.open_stream()
        with pytest.raises(Exception, match="not supported"):
            await libp2p._agree(stream, "/ipfs/kad/1.0.0", dialled=True)
        await then(muxed)

    return open_stream


async def test_a_yamux_frame_beyond_any_window_ends_the_connection(node, rogue):
    link = await rogue.link(node)
    muxed = rogue.connection._stream.muxed_conn
    header = bytes([0, 0, 0, 0]) + (1).to_bytes(4, "big") + (8 * 1024 * 1024).to_bytes(4, "big")
    await muxed._write_frame(header)
    await rogue.ended()
    assert await node.spy.down() == link


# --- peers that stall ---


async def test_a_peer_that_answers_no_ping_is_dead(node, rogue, monkeypatch):
    monkeypatch.setattr(defaults, "PING_INTERVAL", 0.02)
    link = await rogue.link(node)
    assert await node.spy.down() == link
    assert node.carrier.statistics().closed == 1


async def test_a_peer_that_answers_the_last_ping_lives(node, rogue, monkeypatch):
    monkeypatch.setattr(defaults, "PING_INTERVAL", 0.05)
    link = await rogue.link(node)
    pings = 0
    while pings < 12:
        pings += len(await rogue.read())
        if pings % defaults.PINGS_LOST == 0:
            await rogue.write(frame(Kind.PONG, pings))
    assert node.spy.links == {rogue.identity.id: link}


async def test_a_peer_that_answers_pings_lives(node, rogue, monkeypatch):
    monkeypatch.setattr(defaults, "PING_INTERVAL", 0.02)
    await rogue.link(node)
    for _ in range(10):
        for body in await rogue.read():
            kind, number, _ = frames.split(body)
            assert kind == Kind.PING
            await rogue.write(frame(Kind.PONG, number))
    assert not node.spy.heard


async def test_a_peer_that_stops_reading_its_socket_costs_a_bounded_queue(node, rogue):
    link = await rogue.link(node)
    rogue.nursery.cancel_scope.cancel()  # nobody reads any more, and the connection stays
    while not node.spy.heard:
        node.send(link, bytes(FRAME * MAX_FRAMES), Kind.ONION)
        assert node.carrier.statistics().outbox <= 70
        await trio.lowlevel.checkpoint()
    assert await node.spy.down() == link


async def test_closing_a_link_to_a_peer_that_stalls_takes_bounded_time(node, rogue, monkeypatch):
    monkeypatch.setattr(links, "LINK_LEAVE_TIMEOUT", 0.1)
    link = await rogue.link(node)
    rogue.nursery.cancel_scope.cancel()
    node.send(link, bytes(2_000_000))
    node.carrier.close(link)
    assert await node.spy.down() == link


# --- dialling again ---


async def test_a_peer_that_failed_waits_at_that_endpoint_and_not_at_another(
    libp2p_net, monkeypatch
):
    monkeypatch.setattr(reach, "REDIAL_FIRST", 1_000.0)
    monkeypatch.setattr(reach, "REDIAL_LAST", 1_000.0)
    left, right, dead = [await libp2p_net.node() for _ in range(3)]
    await dead.stop()
    left.carrier.dial(right.id, [dead.endpoint])
    assert await left.spy.next() == ("failed", right.id)

    left.dial(right)
    link = await left.spy.up()
    left.carrier.close(link)
    await left.spy.down()

    left.carrier.dial(right.id, [dead.endpoint])
    assert await left.spy.next() == ("failed", right.id), "a success forgets the failures"
    left.carrier.dial(right.id, [dead.endpoint])
    await trio.testing.wait_all_tasks_blocked()
    assert left.carrier.statistics().dialling == 1
    assert not left.spy.heard


async def test_a_link_from_the_peer_answers_the_dial_that_waits(libp2p_net, monkeypatch):
    monkeypatch.setattr(reach, "REDIAL_FIRST", 1_000.0)
    left, right = await libp2p_net.node(), await libp2p_net.node()
    nowhere = Endpoint("127.0.0.1", 1)
    left.carrier.dial(right.id, [nowhere])
    assert await left.spy.next() == ("failed", right.id)
    left.carrier.dial(right.id, [nowhere])

    right.dial(left)
    assert (await left.spy.up()).peer == right.id
    assert left.carrier.statistics().dialling == 0


async def test_the_pause_before_a_redial_grows_to_a_bound(autojump_clock):
    redials, peer, endpoints = reach.Redials(), Identity(bytes(32)).id, (Endpoint("::1", 1),)
    pauses = []
    for _ in range(8):
        redials.remember(peer, endpoints)
        before = trio.current_time()
        await redials.pause(peer, endpoints)
        pauses.append(round(trio.current_time() - before, 6))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_unreachable_peers_are_remembered_within_a_bound(autojump_clock, monkeypatch):
    monkeypatch.setattr(reach, "REDIAL_TABLE", 2)
    redials, endpoints = reach.Redials(), (Endpoint("::1", 1),)
    for seed in range(3):
        redials.remember(Identity(bytes([seed] * 32)).id, endpoints)
    before = trio.current_time()
    await redials.pause(Identity(bytes(32)).id, endpoints)
    assert trio.current_time() == before


# --- what the seam relies on ---


async def test_whoever_asks_is_told_the_addresses_of_a_link(libp2p_net):
    met = []

    def meet(*what):
        met.append(what)

    left, right = await libp2p_net.node(meet=meet), await libp2p_net.node(meet=meet)
    near, far = await libp2p_net.linked(left, right)
    addresses = {link: (ours, theirs) for link, ours, theirs in met}
    assert addresses[near] == addresses[far][::-1]
    assert addresses[far][0] == right.endpoint


async def test_a_connection_that_was_reset_has_no_addresses(nursery):
    here, there = await connected_pair(buffer=4_096)
    connection = libp2p._Connection(here, dialled=True)
    linger = struct.pack("ii", 1, 0)  # close with a reset
    there.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
    await there.aclose()
    await until_raises(trio.BrokenResourceError, here.receive_some)
    with pytest.raises(Closed):
        connection.endpoints()
    connection.close()


def test_errors_of_the_library_beside_a_cancellation_leave_the_cancellation():
    with pytest.RaisesGroup(KeyboardInterrupt), libp2p._library():
        raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError("of a peer")])


async def test_a_link_carries_hundreds_of_megabits_both_ways(libp2p_net):
    """Both directions at once, far beyond all credits and windows: neither end waits for ever."""
    left, right = await libp2p_net.node(), await libp2p_net.node()
    near, far = await libp2p_net.linked(left, right)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour, left, near, 150)
        nursery.start_soon(pour, right, far, 150)
        nursery.start_soon(left.receive, 150)
        nursery.start_soon(right.receive, 150)


async def pour(peer, link, amount):
    for _ in range(amount):
        while peer.carrier.statistics().outbox > 20:
            await trio.testing.wait_all_tasks_blocked(0.001)
        peer.send(link, bytes(FRAME * MAX_FRAMES), Kind.ONION)


async def test_to_read_is_not_to_write(libp2p_net, monkeypatch):
    """The library opens its window after every read: a cell would cost a second packet back."""
    near, far = await libp2p_net.node(), await libp2p_net.node()
    there, _ = await libp2p_net.linked(near, far)
    writes, write = [], libp2p._Pipe.write

    async def counted(self, data):
        writes.append(len(data))
        await write(self, data)

    monkeypatch.setattr(libp2p._Pipe, "write", counted)
    for _ in range(50):
        near.send(there, bytes(1_200))
        await far.receive()
    assert len(writes) <= 52
    assert min(writes) > 1_200


def test_messages_are_made_as_the_wire_says():
    assert frames.cut(pack(Message(Kind.QUERY, 7, b"payload"))) == [
        bytes.fromhex("10000000 02 0700000000000000") + b"payload"
    ]
