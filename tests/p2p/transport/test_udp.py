"""What only UDP has: two families, ports, full buffers, and a network that answers."""

import errno
import socket
from contextlib import closing

import pytest
import trio

from p2p.errors import LocalError
from p2p.transport import udp
from p2p.transport.udp import MAX_DATAGRAM, UdpTransport
from p2p.wire import Endpoint

LOOPBACK = Endpoint("127.0.0.1", 0)
LOOPBACK6 = Endpoint("::1", 0)
PATIENCE = 20.0


def has_ipv6():
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as one:
        return one.connect_ex(("::1", 9)) == 0


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
async def transport():
    with closing(UdpTransport([LOOPBACK])) as made:
        yield made


class Stub:
    """A socket whose calls end as a test says."""

    family = socket.AF_INET

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def _next(self, *_):
        outcome = self.outcomes.pop(0) if self.outcomes else BlockingIOError(errno.EAGAIN, "")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    recvfrom = sendto = _next


def with_socket(transport, *outcomes):
    transport._sockets = {socket.AF_INET: Stub(*outcomes)}
    return transport


async def taken(transport):
    with trio.fail_after(PATIENCE):
        await transport.wait()
    return transport.take()


@needs_ipv6
async def test_one_transport_serves_both_families():
    with (
        closing(UdpTransport([LOOPBACK, LOOPBACK6])) as both,
        closing(UdpTransport([LOOPBACK])) as four,
        closing(UdpTransport([LOOPBACK6])) as six,
    ):
        assert [endpoint.host for endpoint in both.endpoints] == ["127.0.0.1", "::1"]
        for other, mine in zip((four, six), both.endpoints, strict=True):
            other.send(0.0, mine, b"ask")
            assert await taken(both) == [(other.endpoints[0], b"ask")]
            both.send(0.0, other.endpoints[0], b"answer")
            assert await taken(other) == [(mine, b"answer")]


@needs_ipv6
async def test_a_flood_on_one_family_does_not_starve_the_other():
    with (
        closing(UdpTransport([LOOPBACK, LOOPBACK6])) as both,
        closing(UdpTransport([LOOPBACK])) as four,
        closing(UdpTransport([LOOPBACK6])) as six,
    ):
        for _ in range(100):
            four.send(0.0, both.endpoints[0], b"flood")
        six.send(0.0, both.endpoints[1], b"x")
        assert (six.endpoints[0], b"x") in await taken(both)


async def test_a_taken_port_is_refused_in_words(transport):
    with pytest.raises(LocalError, match="is taken by another program"):
        UdpTransport(transport.endpoints)


@needs_ipv6
async def test_an_address_that_is_not_ours_is_refused_and_nothing_stays_open(transport):
    with pytest.raises(LocalError, match=r"cannot listen on 192\.0\.2\.1"):
        UdpTransport([LOOPBACK6, Endpoint("192.0.2.1", 0)])


@pytest.mark.parametrize("endpoints", [[], [LOOPBACK, LOOPBACK]])
async def test_no_socket_or_two_of_one_family_are_refused(endpoints):
    with pytest.raises(LocalError, match="one address of each family"):
        UdpTransport(endpoints)


async def test_the_system_grants_a_receive_buffer(transport):
    assert transport.statistics().receive_buffer > 65_536


async def test_oversized_datagrams_are_dropped_both_ways(transport):
    with closing(UdpTransport([LOOPBACK])) as other:
        transport.send(0.0, other.endpoints[0], bytes(MAX_DATAGRAM + 1))
        assert transport.statistics().oversized == 1
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as raw:
            raw.sendto(bytes(MAX_DATAGRAM + 1), transport.endpoints[0])
            raw.sendto(bytes(65_000), transport.endpoints[0])
            raw.sendto(bytes(MAX_DATAGRAM), transport.endpoints[0])
        assert [len(data) for _, data in await taken(transport)] == [MAX_DATAGRAM]
        assert transport.statistics().oversized == 3


async def test_a_full_send_buffer_drops_and_counts(transport):
    with_socket(transport, OSError(errno.EAGAIN, ""), OSError(errno.ENOBUFS, ""), 1)
    for _ in range(3):
        transport.send(0.0, Endpoint("192.0.2.1", 1), b"x")
    counts = transport.statistics()
    assert (counts.full, counts.failed, counts.sent) == (2, 0, 1)


@pytest.mark.parametrize(
    "to",
    [
        Endpoint("255.255.255.255", 1),
        Endpoint("127.0.0.1", 0),
        Endpoint("127.0.0.1", -1),
        Endpoint("127.0.0.1", 65_536),
        Endpoint("localhost", 1),
        Endpoint("127.0.0.1\0", 1),
        Endpoint("", 1),
        Endpoint("::1", 1),
        Endpoint("fe80::1%lo", 1),
    ],
)
async def test_an_address_that_leads_nowhere_is_counted(transport, to):
    transport.send(0.0, to, b"x")
    assert transport.statistics().failed == 1
    assert transport.statistics().sent == 0


async def test_errors_of_the_network_are_counted_and_reading_goes_on(transport):
    answer = (b"x", ("192.0.2.1", 7))
    with_socket(transport, ConnectionRefusedError(), OSError(113, "no route"), answer)
    assert transport.take() == [(Endpoint("192.0.2.1", 7), b"x")]
    assert transport.statistics().failed == 2


async def test_a_socket_that_only_fails_does_not_keep_the_driver(transport):
    with_socket(transport, *[ConnectionRefusedError()] * 1_000)
    assert transport.take(64) == []
    assert transport.statistics().failed == 64


async def test_refusals_of_the_peers_system_do_no_harm(transport):
    with closing(UdpTransport([LOOPBACK])) as gone:
        nowhere = gone.endpoints[0]
    for _ in range(10):
        transport.send(0.0, nowhere, b"x")
        transport.take()
    transport.send(0.0, transport.endpoints[0], b"to myself")
    assert await taken(transport) == [(transport.endpoints[0], b"to myself")]


async def test_counts_tell_what_went_each_way(transport):
    for _ in range(5):
        transport.send(0.0, transport.endpoints[0], b"x")
    assert len(await taken(transport)) == 5
    counts = transport.statistics()
    assert (counts.sent, counts.received, counts.oversized, counts.failed) == (5, 5, 0, 0)


async def test_only_endpoints_are_sent_to(transport):
    with pytest.raises(TypeError):
        transport.send(0.0, 7, b"x")


def test_the_largest_datagram_of_ton_passes():
    assert udp.MAX_DATAGRAM >= 1_440
