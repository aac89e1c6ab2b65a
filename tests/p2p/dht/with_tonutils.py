"""A process of its own: tonutils' clients of a DHT. A line of JSON tells it what to do, twice."""

import asyncio
import json
import sys
import time

from nacl.signing import SigningKey
from tonutils.clients.dht import DhtClient, DhtNetwork
from tonutils.clients.dht.models import DhtKey, compute_key_id

NO_ADDRESSES = {"addrs": [], "version": 0, "reinit_date": 0, "priority": 0, "expire_at": 0}


async def main():
    config = json.loads(sys.stdin.readline())
    visited = await visit(config)
    async with DhtNetwork.from_config(config=config, k=6) as network:
        tell(visited | await store(network))
        tell({owner: await find(network, owner) for owner in json.loads(sys.stdin.readline())})


async def visit(config):
    """Connect to each node, ping it, and ask for its record."""
    lists = []
    for index in range(len(config["dht"]["static_nodes"]["nodes"])):
        async with DhtClient.from_config(config=config, index=index) as node:
            await node.ping()
            lists.append((await node.get_signed_address_list())["id"]["key"])
    return {"lists": lists}


async def store(network):
    """Store a value of a new owner."""
    signer = SigningKey.generate()
    owner = compute_key_id(bytes(signer.verify_key))
    stored = await network.store(*signed(network.provider.codec, signer, b"by tonutils"))
    return {"owner": owner.hex(), "stored": stored}


def signed(codec, signer, content):
    """The library makes values of addresses only: one of those with another content."""
    made, where = codec.build_store_address(NO_ADDRESSES, int(time.time()) + 600, bytes(signer))
    value = made | {"value": content, "signature": b""}
    packed = codec.tl.serialize(codec.tl.get_by_name("dht.value"), value)
    return value | {"signature": signer.sign(packed).signature}, where


async def find(network, owner):
    """What stands under an owner's address."""
    found = await network.find_value(DhtKey(bytes.fromhex(owner), b"address", 0))
    return None if found is None else found.value.decode()


def tell(what):
    """Say it in a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


asyncio.run(main())
