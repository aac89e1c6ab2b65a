"""A process of its own: pytoniq's client of a DHT. A line of JSON tells it what to do, twice."""

import asyncio
import json
import sys

from pytoniq.adnl.adnl import AdnlTransport
from pytoniq.adnl.dht import DhtClient
from pytoniq_core.crypto.ciphers import Client


async def main():
    transport = AdnlTransport(timeout=3, local_address=("127.0.0.1", None))
    await transport.start()
    client = DhtClient.from_config(json.loads(sys.stdin.readline()), transport)
    tell(await visit(client) | await store(client))
    tell({owner: await find(client, owner) for owner in json.loads(sys.stdin.readline())})
    for node in client.nodes_set:
        await node.disconnect()


async def visit(client):
    """Connect to each node, ping it, and ask for its record."""
    lists = []
    for node in list(client.nodes_set):
        await asyncio.wait_for(node.connect(), 5)
        await node.send_ping()
        lists.append((await node.get_signed_address_list())["id"]["key"])
    return {"lists": lists}


async def store(client):
    """Store a value of a new owner."""
    private = Client.generate_ed25519_private_key()
    owner = Client(private).get_key_id()
    key = client.get_dht_key(owner, b"address")
    stored = await client.store_value(key, b"by pytoniq", private, ttl=600)
    return {"owner": owner.hex(), "stored": stored}


async def find(client, owner):
    """What stands under an owner's address."""
    found = await client.find_value(client.get_dht_key_id_tl(owner), timeout=5)
    return found["value"]["value"].decode()


def tell(what):
    """Say it in a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


asyncio.run(main())
