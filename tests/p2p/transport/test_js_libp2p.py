"""A link with js-libp2p as npm gives it: another author's TCP, Noise, yamux and multistream.

`make test-js` puts it, and a Node that is new enough, into `.venv/js` and runs this.
"""

import json
import os
from pathlib import Path

import pytest
import trio

from p2p import tl
from p2p.identity import Identity, short_id
from p2p.ton import DhtPing, DhtPong
from p2p.wire import Kind, Message
from tests.p2p.transport.conftest import NETWORK

ROOT = Path(__file__).parents[3]
SOURCES = Path(__file__).with_name("js")
PACKAGES = ROOT / ".venv" / "js"
NODE = next(PACKAGES.glob("node_modules/node-*/bin/node"), None)
LOCK = "package-lock.json"

PATIENCE = 60.0
"""seconds until a peer that does not end is a failure."""

QUERY = 2**62
"""The first number of a query whose body is TL."""


def installed():
    """Whether the packages are there, all of the versions that the lock names."""
    copy = PACKAGES / LOCK
    return NODE and copy.exists() and copy.read_bytes() == (SOURCES / LOCK).read_bytes()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.outside,
    pytest.mark.skipif(not installed(), reason="needs js-libp2p: make test-js"),
]


class JsPeer:
    """A process of js-libp2p that dials, and what became of it."""

    def __init__(self, nursery):
        self._nursery = nursery
        self._ended = trio.Event()
        self._result = None

    def dial(self, node, peer_id):
        host, port = node.endpoint
        self._nursery.start_soon(self._run, f"/ip4/{host}/tcp/{port}/p2p/{peer_id}")

    async def _run(self, address):
        # From its standard input, so that imports are looked for where the packages are.
        self._result = await trio.run_process(
            [NODE, "--input-type=module", "-", address, str(NETWORK)],
            stdin=(SOURCES / "peer.mjs").read_bytes(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=PACKAGES,
        )
        self._ended.set()

    async def result(self):
        with trio.fail_after(PATIENCE):
            await self._ended.wait()
        return self._result


@pytest.fixture
async def node(libp2p_net):
    return await libp2p_net.node()


@pytest.fixture
def js(nursery):
    return JsPeer(nursery)


async def test_js_libp2p_pings_identifies_opens_a_link_and_answers_a_query(node, js):
    js.dial(node, node.identity.peer_id)
    link = await node.spy.up()

    node.send(link, tl.pack(DhtPing(-7)), Kind.QUERY, QUERY)
    assert await node.receive() == [(link, Message(Kind.ANSWER, QUERY, tl.pack(DhtPong(-7))))]

    node.carrier.close(link)
    assert await node.spy.down() == link
    result = await js.result()
    assert (result.returncode, result.stderr) == (0, b"")
    saw = json.loads(result.stdout)
    assert short_id(bytes.fromhex(saw.pop("public"))) == link.peer
    assert saw == {
        "greeting": [1, NETWORK, node.identity.public.hex()],
        "encryption": "/noise",
        "multiplexer": "/yamux/1.0.0",
        "protocol": "/tussah/link/1",
        "pinged": True,
        "identified": {
            "agent": "tussah/1",
            "peer": node.identity.peer_id,
            "protocols": ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/tussah/link/1"],
        },
        "answered": 1,
    }


async def test_js_libp2p_returns_two_mebibytes_in_pieces_of_its_own(node, js):
    """Eight times the link's credit and yamux's window, there and back."""
    js.dial(node, node.identity.peer_id)
    link = await node.spy.up()
    asked = os.urandom(2 * 1024 * 1024)

    node.send(link, asked, Kind.QUERY, QUERY + 1)
    assert await node.receive() == [(link, Message(Kind.ANSWER, QUERY + 1, asked))]

    node.carrier.close(link)
    assert (await js.result()).returncode == 0
    assert node.carrier.statistics().closed == 0


async def test_the_monitor_of_js_libp2p_has_its_pings_answered(node, js):
    js.dial(node, node.identity.peer_id)
    link = await node.spy.up()

    answer = b"\0"
    while answer != b"\1":
        node.send(link, b"monitored", Kind.QUERY, QUERY)
        ((_, (_, _, answer)),) = await node.receive()

    node.carrier.close(link)
    assert (await js.result()).returncode == 0


async def test_js_libp2p_opens_no_link_to_a_node_that_is_not_who_it_dialled(node, js):
    js.dial(node, Identity(bytes(32)).peer_id)
    result = await js.result()
    assert result.returncode == 1
    assert b"does not match expected" in result.stderr
    assert not node.spy.heard
