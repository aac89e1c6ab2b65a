"""pytoniq as a client of ADNL over UDP, in a process of its own, told by lines what to do.

Each line of standard input is a number of queries; each line of standard output how many of them
were answered, and in how many seconds. One process a run: pytoniq never lets go of a peer.
"""

import asyncio
import base64
import sys
import time
from collections.abc import Iterator

from pytoniq.adnl.adnl import AdnlTransport, Node

PATIENCE = 2
"""seconds that pytoniq waits for an answer"""


async def main(port: int, public: bytes, in_flight: int) -> None:
    transport = AdnlTransport(timeout=PATIENCE, local_address=("127.0.0.1", None))
    await transport.start()
    node = Node("127.0.0.1", port, base64.b64encode(public).decode(), transport)
    await node.connect()
    node.pinger.cancel()
    for line in sys.stdin:
        began = time.perf_counter()
        answered = await _ask(node, int(line), in_flight)
        sys.stdout.write(f"{answered} {time.perf_counter() - began}\n")
        sys.stdout.flush()


async def _ask(node: Node, amount: int, in_flight: int) -> int:
    """That many pings; how many were answered."""
    left = iter(range(amount))
    return sum(await asyncio.gather(*(_ask_in_turn(node, left) for _ in range(in_flight))))


async def _ask_in_turn(node: Node, left: Iterator[int]) -> int:
    answered = 0
    for _ in left:
        try:
            await node.send_ping()
        except TimeoutError:
            continue
        answered += 1
    return answered


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])))
