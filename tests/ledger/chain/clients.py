"""Lite-clients of others, run as they are: each in an asyncio loop of a thread."""

import asyncio
from base64 import b64encode
from contextlib import asynccontextmanager
from copy import copy

import trio
from pytoniq import LiteClient

from ledger.chain import face
from tests.ledger.chain.standin import KEY


@asynccontextmanager
async def served(chain, key=KEY, port=0):
    """A face over a chain; gives its port."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(face.serve, chain, key, port)
        nursery.cancel_scope.cancel()


def pytoniq_client(port, key=KEY):
    return LiteClient("127.0.0.1", port, b64encode(key.public).decode(), trust_level=2)


async def with_pytoniq(port, work, key=KEY):
    """What `work(client)` returns, from a pytoniq client that is connected meanwhile."""

    async def life():
        client = pytoniq_client(port, key)
        async with asyncio.timeout(20):
            try:
                await client.connect()
                return await work(client)
            finally:
                await client.close()

    return await trio.to_thread.run_sync(asyncio.run, life())


TEMPLATE = pytoniq_client(1)
"""Reading TL schemas takes 25 ms."""


class Wire:
    """A client that may say anything: pytoniq's handshake and ciphers over a trio stream."""

    def __init__(self, stream, key=KEY):
        self.stream = stream
        self.crypto = copy(TEMPLATE) if key is KEY else pytoniq_client(1, key)
        self._buffer = b""

    @classmethod
    @asynccontextmanager
    async def open(cls, port, key=KEY, greet=True):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            wire = cls(stream, key)
            if greet:
                await stream.send_all(wire.crypto.handshake())
                assert await wire.receive() == b""
            yield wire

    async def send(self, payload):
        await self.send_raw(self.crypto.serialize_packet(payload))

    async def send_raw(self, data):
        await self.stream.send_all(self.crypto.encrypt(data))

    async def ask(self, name, **data):
        """Send a query; returns its number."""
        schema = self.crypto.schemas.get_by_name("liteServer." + name)
        query, number = self.crypto.serialize_adnl_ls_query(schema, data)
        await self.send(query)
        return number

    async def receive(self):
        """The next payload; None once the connection is closed."""
        head = await self._exactly(4)
        if head is None:
            return None
        body = await self._exactly(int.from_bytes(head, "little"))
        return body and body[32:-32]

    async def answer(self):
        payload = await self.receive()
        return payload and self.crypto.schemas.deserialize(payload)[0]

    async def closed(self):
        """Whether the other side hangs up without another word."""
        return await self.receive() is None

    async def _exactly(self, size):
        while len(self._buffer) < size:
            try:
                chunk = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not chunk:
                return None
            self._buffer += self.crypto.decrypt(chunk)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
