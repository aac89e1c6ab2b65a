"""Over loopback UDP with a peer that is not ours: pytoniq, unmodified, as a member of our overlay.

    C --- A --- pytoniq --- B

A and C are neighbours of each other, B knows nobody but pytoniq. So what B hears of A has passed
through pytoniq, and what C hears of pytoniq has passed through A.
"""

import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2p import tl
from p2p.drive import SystemClock
from p2p.identity import short_id
from p2p.ton import OverlayBroadcast
from tests.p2p.overlay.hamlet import Bell, Node

PROGRAM = Path(__file__).parent / "foreign" / "pytoniq_member.py"


class Foreigner:
    """The process of pytoniq: what it said, by event."""

    def __init__(self, process, bell):
        self.process, self.bell = process, bell
        self.peers, self.broadcasts, self.key = {}, {}, None

    async def listen(self):
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in map(json.loads, lines):
                match line.pop("event"):
                    case "peers":
                        self.peers[line["of"]] = line["keys"]
                    case "broadcast":
                        self.broadcasts[line["data"]] = bytes.fromhex(line["packed"])
                    case "connected":
                        self.key = line["key"]
                self.bell.ring()

    async def say(self, text):
        await self.process.stdin.send_all(text.encode() + b"\n")


@asynccontextmanager
async def pytoniq(nursery, bell, *nodes):
    arguments = [nodes[0].stack.overlay.overlay.hex()]
    arguments += [f"{node.endpoint.port},{node.key}" for node in nodes]
    process = await trio.lowlevel.open_process(
        [sys.executable, str(PROGRAM), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        foreigner = Foreigner(process, bell)
        nursery.start_soon(foreigner.listen)
        yield foreigner
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def street():
    """A, B and C on loopback, A and C acquainted, and pytoniq between A and B."""
    clock, bell = SystemClock(), Bell()
    a, b, c = nodes = [Node(clock, bell, seed) for seed in (1, 2, 3)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.driver.run)
        for one, other in ((a, c), (c, a)):
            one.do(
                lambda stack, now, other=other: stack.adnl.add_peer(
                    now, other.identity.public, [other.endpoint]
                )
            )
            one.do(lambda stack, now, other=other: stack.overlay.join(now, [other.id], serve=True))
        b.do(lambda stack, now: stack.overlay.join(now, [], serve=True))
        await bell.until(lambda: a.members and c.members)
        async with pytoniq(nursery, bell, a, b) as foreigner:
            await bell.until(lambda: foreigner.key)
            guest = short_id(bytes.fromhex(foreigner.key))
            await bell.until(lambda: guest in a.members and guest in b.members)
            yield bell, a, b, c, foreigner
        nursery.cancel_scope.cancel()
    for node in nodes:
        node.transport.close()


async def test_pytoniq_is_a_member_like_any_other():
    async with street() as (bell, a, b, c, foreigner):
        # it asked us for members, and found our signatures right
        assert sorted(foreigner.peers[a.key]) == sorted([a.key, c.key])
        assert foreigner.peers[b.key] == [b.key]

        # what we say comes to B through it, unchanged
        said = [f"from ours, {number}" for number in range(6)]
        for text in said:
            a.do(lambda stack, now, text=text: stack.overlay.broadcast(now, text.encode()))
        await bell.until(lambda: set(said) <= set(foreigner.broadcasts))
        await bell.until(lambda: set(said) & set(b.heard))
        for event in b.heard.values():
            assert event.source == a.identity.public
        for text in said:
            read = tl.parse(OverlayBroadcast, foreigner.broadcasts[text])
            assert (read.src.key, read.data) == (a.identity.public, text.encode())

        # what it says in its own words is accepted by A, and passed on to C
        await foreigner.say("from pytoniq")
        await bell.until(lambda: "from pytoniq" in a.heard and "from pytoniq" in c.heard)
        assert c.heard["from pytoniq"].source.hex() == foreigner.key

        # and nothing of all this was dropped on our side
        for node in (a, b, c):
            assert node.stack.adnl.statistics().drops == {}
            assert set(node.stack.overlay.statistics().dropped.values()) == {0}
