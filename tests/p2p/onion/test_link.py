"""One link: greeting, turns, credits, batched writes, padding, strikes and limits."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import defaults
from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.cell import Command, Frame
from p2p.onion.core import CloseLink, Dial, Failed, Misbehaved, Opened
from p2p.onion.link import (
    LISTED,
    MAX_FRAMES,
    MAX_GRANTS,
    Bucket,
    Grant,
    Hello,
    LinkCore,
    Side,
    pack_grants,
    unpack_grants,
)
from p2p.onion.link import Port as PortOf

FRAME = 1200
NOW = 1_800_000_000.0


def a_link(dialled=True):
    link = LinkCore(1, "source", b"peer", dialled=dialled, entropy=seeded(3))
    link.greet(Hello(network=1, unix=0))
    return link


def a_port(link, circuit=5):
    port = PortOf(link.number, circuit, side=Side.BEHIND, number=1)
    link.ports[circuit] = port
    return port


def fill(link, port, cells, command=Command.CELL):
    for i in range(cells):
        link.push(NOW, port, Frame(port.circuit, command, 0, bytes([i % 256])))


def frames_of(data):
    return [Frame.unpack(data[at : at + FRAME]) for at in range(0, len(data), FRAME)]


def written(link, now=NOW):
    """Everything the link writes now, as a list of writes."""
    writes = []
    while data := link.write(now)[0]:
        writes.append(frames_of(data))
    return writes


# --- bodies ---


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_hello_comes_back(network, unix, flags):
    hello = Hello(network=network, unix=unix, flags=flags)
    assert Hello.unpack(hello.pack()) == hello


@pytest.mark.parametrize(
    "body", [b"", b"TSLK", b"TSLX" + bytes(12), b"TSLK\x02\0" + bytes(10), bytes(17)]
)
def test_hello_of_another_protocol_is_refused(body):
    with pytest.raises(OnionError):
        Hello.unpack(body)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)),
        min_size=1,
        max_size=MAX_GRANTS,
    )
)
def test_grants_come_back(grants):
    assert unpack_grants(pack_grants(Grant(*g) for g in grants)) == grants


@pytest.mark.parametrize("size", [0, 1, 5, 7])
def test_grants_of_a_wrong_size_are_refused(size):
    with pytest.raises(OnionError):
        unpack_grants(bytes(size))


# --- rates ---


def test_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(10.0, 5)
    assert [bucket.take(NOW) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.ready() == pytest.approx(NOW + 0.1)
    assert bucket.take(bucket.ready())
    assert not bucket.take(bucket.ready() - 0.01)


def test_bucket_never_gives_more_than_burst_after_rest():
    bucket = Bucket(10.0, 5)
    bucket.take(NOW)
    assert sum(bucket.take(NOW + 1_000) for _ in range(100)) == 5


# --- writing ---


def test_hello_is_first():
    link = LinkCore(1, "source", b"peer", dialled=False, entropy=seeded(3))
    fill(link, a_port(link), 3)
    assert written(link) == []

    link.greet(Hello(network=1, unix=0))
    assert [frame.command for frame in written(link)[0]][:2] == [Command.HELLO, Command.CELL]


def test_circuits_take_turns():
    link = a_link()
    first, second = a_port(link, 5), a_port(link, 6)
    fill(link, first, 4)
    fill(link, second, 4)
    circuits = [frame.circuit for frame in written(link)[0]]
    assert circuits == [0, 5, 6, 5, 6, 5, 6, 5, 6]


def test_circuit_stays_in_order():
    link = a_link()
    port = a_port(link)
    fill(link, port, 60)
    link.push(NOW, port, Frame(5, Command.FAIL, 0, b"last"))
    bodies = [frame.body for write in written(link) for frame in write][1:]
    assert bodies == [bytes([i]) for i in range(60)] + [b"last"]


def test_handshakes_and_credits_go_ahead_of_cells():
    link = a_link()
    port = a_port(link)
    fill(link, port, 3)
    link.urge(Frame(9, Command.CREATED, 0, b"r"))
    port.meter.due = defaults.CREDIT_DUE - 1
    link.owe(port.meter)
    commands = [frame.command for frame in written(link)[0]]
    assert commands[:3] == [Command.HELLO, Command.CREATED, Command.CREDIT]
    assert commands[3:] == [Command.CELL] * 3


def test_a_write_holds_at_most_54_frames():
    link = a_link()
    for circuit in range(5, 10):
        fill(link, a_port(link, circuit), 60)
    writes = written(link)
    assert sum(len(write) for write in writes) == 301
    assert {len(write) for write in writes[:-1]} == {MAX_FRAMES}


def test_only_small_writes_wait_for_the_bucket():
    link = a_link()
    port = a_port(link)
    for _ in range(defaults.WRITE_BURST):
        fill(link, port, 1)
        assert written(link)
    port.credit = 10_000
    fill(link, port, 1)
    assert written(link) == []
    assert link.waiting

    fill(link, port, MAX_FRAMES - 1)
    assert [len(write) for write in written(link)] == [MAX_FRAMES]
    fill(link, port, 1)
    assert written(link) == []
    assert written(link, link.write_at)


def test_first_writes_are_not_delayed(town):
    net, client, relays, worker = town
    began = net.now
    net.open(client, net.path(*relays[:3], worker))
    net.until(lambda: client.said(Opened))
    # 3 dials by relays and one by the client, then 4 legs there and 4 back; HELLOs ride along.
    assert net.now - began == pytest.approx(12 * net.delay, abs=1e-6)


# --- credit ---


def test_cells_stop_when_credit_is_used():
    link = a_link()
    port = a_port(link)
    fill(link, port, 100)
    assert sum(len(write) for write in written(link)) == 1 + defaults.CREDIT_CELLS

    assert link.grant(port, 16)
    assert sum(len(write) for write in written(link, NOW + 1)) == 16
    assert len(port.queue) == 100 - 80


def test_destroy_needs_no_credit():
    link = a_link()
    port = a_port(link)
    port.credit = 0
    link.push(NOW, port, Frame(5, Command.DESTROY, 0, b"\0"))
    assert written(link)[0][-1].command is Command.DESTROY


def test_more_credit_than_was_used_is_noticed():
    link = a_link()
    port = a_port(link)
    assert not link.grant(port, 1)


def test_credit_is_returned_for_all_circuits_in_one_frame():
    link = a_link()
    ports = [a_port(link, circuit) for circuit in (5, 6)]
    for port in ports:
        port.meter.room = 40
        for _ in range(defaults.CREDIT_DUE + 1):
            link.owe(port.meter)
    credit = [frame for frame in written(link)[0] if frame.command is Command.CREDIT]
    assert len(credit) == 1
    assert unpack_grants(credit[0].body) == [(5, 17), (6, 17)]
    assert [port.meter.room for port in ports] == [57, 57]


# --- numbers ---


def test_both_ends_choose_other_numbers():
    ours, theirs = a_link(dialled=True), a_link(dialled=False)
    for _ in range(100):
        number = ours.free_number()
        assert theirs.peer_chose(number)
        assert not ours.peer_chose(number)
        assert ours.peer_chose(theirs.free_number())


def test_zero_is_nobodys_number():
    assert not a_link().peer_chose(0)
    assert not a_link(dialled=False).peer_chose(1 << 31)


# --- the life of a link ---


def test_link_that_does_not_greet_is_closed(net):
    relay, mute = net.add("relay", relay=True), net.add("mute")
    net.cut = lambda now, sender, receiver, data: None if sender is mute else data
    net.connect(mute, relay)
    net.run(11)
    assert [event.reason for event in relay.said(CloseLink)] == ["silent"]
    assert relay.core.sizes()["links.links"] == 0


def test_link_of_another_network_is_closed(net):
    relay, stranger = net.add("relay", relay=True), net.add("stranger", network=8)
    net.open(stranger, net.path(relay))
    net.run(1)
    assert [event.reason for event in relay.said(CloseLink)] == ["network"]
    assert stranger.said(Failed)


def test_three_strikes_close_the_link(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(1)
    cell = Frame(1 << 31 | 77, Command.CELL, 0, b"x").pack(seeded(1))
    for strikes in (1, 2):
        net.inject(client, relay, cell)
        net.run(0.1)
        assert len(relay.said(Misbehaved)) == strikes
        assert not relay.said(CloseLink)
    net.inject(client, relay, cell)
    net.run(0.1)
    assert [event.reason for event in relay.said(CloseLink)] == ["strikes"]
    assert relay.core.statistics().strikes == 3


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, Command.HELLO, 0, Hello(network=7, unix=0).pack()),
        Frame(77, Command.CREATE, 1, bytes(1192)),  # the dialler's numbers have the top bit
        Frame(1 << 31, Command.CREATE, 1, bytes(1192)),
        Frame(1 << 31 | 77, Command.CREATE, 0, bytes(1192)),  # no first half
        Frame(1 << 31 | 77, Command.CREATED, 0, bytes(1192)),
        Frame(1 << 31 | 77, Command.FAIL, 0, bytes(1192)),
        Frame(1 << 31 | 77, Command.DESTROY, 0, b"\0"),
        Frame(0, Command.CELL, 0, b""),
        Frame(0, Command.DESTROY, 0, b"\0"),
        Frame(0, Command.CREDIT, 0, b"12345"),
    ],
    ids=lambda frame: frame.command.name,
)
def test_frame_out_of_place_is_a_strike(net, frame):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(1)
    net.inject(client, relay, frame.pack(seeded(1)))
    net.run(0.1)
    assert relay.core.statistics().strikes == 1


@pytest.mark.parametrize("data", [b"", b"x", bytes(1199), bytes(1201), b"\xff" * 1200])
def test_bytes_that_are_no_frames_are_a_strike(net, data):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(1)
    net.inject(client, relay, data)
    net.run(0.1)
    assert relay.core.statistics().strikes == 1


@pytest.mark.parametrize("command", [Command.PADDING, Command.PACE])
def test_padding_and_pace_change_nothing(net, command):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(1)
    sizes = relay.core.sizes()
    net.inject(client, relay, Frame(0, command, 0, bytes(6)).pack(seeded(1)))
    net.run(0.1)
    assert relay.core.sizes() == sizes
    assert relay.core.statistics().strikes == 0


def test_silent_link_is_padded(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(1)
    net.frames.clear()
    net.run(100)
    times = [when for when, sender, _, _ in net.frames if sender is relay]
    gaps = [b - a for a, b in pairwise(times)]
    least, most = defaults.PADDING_UNLISTED
    assert 100 / most - 1 <= len(times) <= 100 / least
    assert all(least - 0.01 <= gap <= most + 0.01 for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 3
    assert all(Frame.unpack(data).command is Command.PADDING for _, _, _, data in net.frames)


def test_listed_nodes_pad_each_other_less(net):
    one, other = net.add("one", relay=True), net.add("other", relay=True)
    net.connect(one, other)
    net.run(1)
    net.frames.clear()
    net.run(100)
    assert 4 <= sum(sender is one for _, sender, _, _ in net.frames) <= 10


def test_hello_tells_who_is_listed(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(0.1)
    flags = {}
    for _, sender, _, data in net.frames:
        frame = Frame.unpack(data[:FRAME])
        if frame.command is Command.HELLO:
            flags[sender.name] = Hello.unpack(frame.body).flags
    assert flags == {"relay": LISTED, "client": 0}


def test_link_without_circuits_is_called_idle(net):
    relay, client = net.add("relay", relay=True), net.add("client")
    net.connect(client, relay)
    net.run(599)
    assert not relay.said(CloseLink)
    net.run(3)
    assert [event.reason for event in relay.said(CloseLink)] == ["idle"]
    net.run(590)
    assert len(relay.said(CloseLink)) == 1


def test_link_to_a_guard_is_kept(town):
    net, client, relays, worker = town
    path = net.call(client, lambda core, now: core.path(now, worker.id))
    guard = next(relay for relay in relays if relay.id == path[0].id)
    net.connect(client, guard)
    net.run(1_300)
    assert not client.said(CloseLink)


def test_links_of_strangers_are_bounded(net, monkeypatch):
    monkeypatch.setattr(defaults, "LINKS_UNLISTED", 3)
    relay = net.add("relay", relay=True)
    for i in range(5):
        net.connect(net.add(f"client{i}"), relay)
    net.run(1)
    assert [event.reason for event in relay.said(CloseLink)] == ["too many"] * 2
    assert relay.core.sizes()["links.links"] == 3


def test_two_links_of_a_pair_use_the_one_that_the_smaller_id_dialled(net):
    one, other = net.add("one", relay=True), net.add("other", relay=True)
    smaller, larger = sorted([one, other], key=lambda peer: peer.id)
    net.connect(larger, smaller)
    net.connect(smaller, larger)
    net.run(0.1)
    chosen = one.core._links.to(other.id)
    assert chosen.dialled == (one is smaller)
    assert other.core._links.to(one.id).dialled == (other is smaller)


def test_dial_is_asked_for_once_per_wish_and_answered(net):
    client, relay = net.add("client"), net.add("relay", relay=True)
    net.kill(relay)
    circuit = net.open(client, net.path(relay))
    assert client.said(Dial) == [Dial(relay.id)]
    net.run(1)
    assert [event.circuit for event in client.said(Failed)] == [circuit]
