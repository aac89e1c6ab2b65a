"""A process of its own in which pytoniq 0.1.43, unmodified, speaks to one of our nodes.

Arguments: host, port, public key and the seed of its own key, both in hex. It prints one line of
JSON: what it saw.
"""

import asyncio
import base64
import json
import sys

from pytoniq.adnl.adnl import AdnlTransport, Node


async def main(host, port, public, seed):
    transport = AdnlTransport(bytes.fromhex(seed), local_address=("127.0.0.1", 0), timeout=20)
    heard, asked = asyncio.Queue(), asyncio.Queue()

    def answer(query):
        asked.put_nowait(query["random_id"])
        return {"@type": "dht.pong", "random_id": query["random_id"]}

    transport.set_custom_message_handler("dht.pong", lambda message: heard.put_nowait(message))
    transport.set_query_handler("dht.ping", answer)
    await transport.start()
    peer = Node(host, int(port), base64.b64encode(bytes.fromhex(public)).decode(), transport)

    first = await peer.connect()
    peer.pinger.cancel()
    listed = await peer.get_signed_address_list()
    for _ in range(5):
        await peer.send_ping()
    found = await transport.send_query_message("dht.findNode", {"key": public, "k": 10}, peer)

    pong = transport.schemas.serialize(transport.schemas.get_by_name("dht.pong"), {"random_id": 5})
    await transport.send_custom_message(pong, peer)
    said = await asyncio.wait_for(heard.get(), 20)
    question = await asyncio.wait_for(asked.get(), 20)
    await asyncio.sleep(0.2)  # the answer is on its way
    return {
        "id": transport.local_id.hex(),
        "first": first,
        "listed": listed,
        "nodes": len(found[0]["nodes"]),
        "said": said["random_id"],
        "question": question,
    }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout, default=bytes.hex)
