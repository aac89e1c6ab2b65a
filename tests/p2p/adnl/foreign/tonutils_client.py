"""A process of its own in which tonutils 2.5.1, unmodified, speaks to one of our nodes.

Arguments: host, port, public key in hex. It prints one line of JSON: what it saw.
"""

import asyncio
import json
import sys

from tonutils.clients.dht.client import DhtClient


async def main(host, port, public):
    client = DhtClient(
        host=host, port=int(port), public_key=public, connect_timeout=20, request_timeout=20
    )
    async with client:
        listed = await client.get_signed_address_list()
        for _ in range(5):
            await client.ping()
        nodes = await client.find_nodes(bytes.fromhex(public), k=10)
        verified = [client.provider.codec.parse_node(node) is not None for node in nodes]
        return {
            "id": client.provider.local_key_id.hex(),
            "listed": listed,
            "verified": verified,
        }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout, default=bytes.hex)
