"""A process of its own: pytoniq and tonutils load a configuration, and ask each node that it lists.

The configuration comes on standard input; what each tool was told goes to standard output.
"""

import asyncio
import json
import sys

from pytoniq.adnl.adnl import AdnlTransport
from pytoniq.adnl.dht import DhtClient as PytoniqDht
from tonutils.clients.dht import DhtClient as TonutilsDht


async def main():
    config = json.load(sys.stdin)
    told = {"pytoniq": await with_pytoniq(config), "tonutils": await with_tonutils(config)}
    sys.stdout.write(json.dumps(told))


async def with_pytoniq(config):
    """The key in the record of each node."""
    transport = AdnlTransport(timeout=5, local_address=("127.0.0.1", None))
    await transport.start()
    keys = []
    for node in PytoniqDht.from_config(config, transport).nodes_set:
        await asyncio.wait_for(node.connect(), 5)
        await node.send_ping()
        keys.append((await node.get_signed_address_list())["id"]["key"])
        await node.disconnect()
    return keys


async def with_tonutils(config):
    """As above."""
    keys = []
    for index in range(len(config["dht"]["static_nodes"]["nodes"])):
        async with TonutilsDht.from_config(config=config, index=index) as node:
            await node.ping()
            keys.append((await node.get_signed_address_list())["id"]["key"])
    return keys


asyncio.run(main())
