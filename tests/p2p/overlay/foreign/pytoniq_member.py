"""A node of pytoniq, unmodified, in a process of its own: it meets our nodes, says what it saw.

Arguments: the overlay's id, then `port,key` of each of our nodes. It writes a line of
JSON for each thing that happens, and broadcasts what it reads from standard input.
"""

import asyncio
import base64
import hashlib
import json
import sys
import time

from pytoniq.adnl.overlay import OverlayNode, OverlayTransport
from pytoniq_core.crypto.signature import verify_sign


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def named(transport: OverlayTransport, answer: dict) -> list[str]:
    """The keys of the records in an answer whose signatures pytoniq finds right."""
    keys = []
    for node in answer["nodes"]:
        key = bytes.fromhex(node["id"]["key"])
        short = hashlib.sha256(b"\xc6\xb4\x13\x48" + key).hexdigest()
        claim = {"id": {"id": short}, "overlay": node["overlay"], "version": node["version"]}
        signed = transport.schemas.serialize("overlay.node.toSign", claim)
        if verify_sign(key, signed, node["signature"]):
            keys.append(node["id"]["key"])
    return keys


def build(transport: OverlayTransport, data: bytes) -> dict:
    """A broadcast in pytoniq's own words, signed by its key."""
    schemas, client = transport.schemas, transport.client
    identity = {
        "src": client.get_key_id().hex(),
        "data_hash": hashlib.sha256(data).hexdigest(),
        "flags": 0,
    }
    packed = schemas.serialize("overlay.broadcast.id", identity)
    date = int(time.time())
    claim = {"hash": hashlib.sha256(packed).hexdigest(), "date": date}
    return {
        "@type": "overlay.broadcast",
        "src": {"@type": "pub.ed25519", "key": client.ed25519_public.encode().hex()},
        "certificate": {"@type": "overlay.emptyCertificate"},
        "flags": 0,
        "data": data,
        "date": date,
        "signature": client.sign(schemas.serialize("overlay.broadcast.toSign", claim)),
    }


def handle(transport: OverlayTransport) -> None:
    """Answer as a member does, and say which broadcasts have come."""

    def heard(message: dict) -> None:
        packed = transport.schemas.serialize("overlay.broadcast", message)
        tell(event="broadcast", data=message["data"].decode(), packed=packed.hex())

    transport.set_query_handler("overlay.ping", lambda query: {"@type": "overlay.pong"})
    transport.set_query_handler(
        "overlay.getRandomPeers",
        lambda query: {"@type": "overlay.nodes", "nodes": [transport.get_signed_myself()]},
    )
    transport.set_custom_message_handler("overlay.broadcast", heard)


async def main(overlay: str, nodes: list[str]) -> None:
    transport = OverlayTransport(local_address=("127.0.0.1", 0), overlay_id=overlay, timeout=5)
    handle(transport)
    await transport.start()
    peers = []
    for where, key in (node.split(",") for node in nodes):
        public = base64.b64encode(bytes.fromhex(key)).decode()
        peer = OverlayNode("127.0.0.1", int(where), public, transport)
        await peer.connect()
        (answer,) = await transport.get_random_peers(peer)
        tell(event="peers", of=key, keys=named(transport, answer))
        peers.append(peer)
    tell(event="connected", key=transport.client.ed25519_public.encode().hex())

    loop = asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        await transport.send_custom_message(build(transport, line.encode()), peers[0])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
