"""A server on a real socket of either kind, and a client that speaks raw bytes."""

import socket
from contextlib import suppress
from dataclasses import dataclass

import pytest
import trio

from scripts.api.server import Limits, serve

PATIENCE = 20
"""seconds no healthy exchange on loopback needs: a hang ends the test, nothing measures."""


@dataclass
class Client:
    """One connection of a client that knows no HTTP."""

    stream: trio.SocketStream
    kept: bytes = b""

    async def say(self, words):
        """Send bytes as they are, text with the line ends of HTTP."""
        data = words if isinstance(words, bytes) else words.replace("\n", "\r\n").encode()
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def _more(self):
        with trio.fail_after(PATIENCE):
            piece = await self.stream.receive_some(65_536)
        self.kept += piece
        return bool(piece)

    async def until(self, mark):
        """Everything up to and with `mark`."""
        while mark not in self.kept:
            assert await self._more(), self.kept
        text, _, self.kept = self.kept.partition(mark)
        return text + mark

    async def take(self, count):
        """So many bytes."""
        while len(self.kept) < count:
            assert await self._more(), self.kept
        text, self.kept = self.kept[:count], self.kept[count:]
        return text

    async def rest(self):
        """Everything until the server closes."""
        with suppress(trio.BrokenResourceError):
            while await self._more():
                pass
        text, self.kept = self.kept, b""
        return text

    async def response(self):
        """One response with a content-length: status, headers, body."""
        head = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        body = await self.take(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body


@dataclass
class Running:
    """A server under test."""

    server: object
    connect: object
    scope: trio.CancelScope
    ended: trio.Event

    async def until(self, condition):
        """Let the server run until the condition holds."""
        with trio.fail_after(PATIENCE):
            while not condition(self.server.statistics()):
                await trio.lowlevel.checkpoint()


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


@pytest.fixture
async def listening(kind, tmp_path, monkeypatch):
    """A listening socket of the kind."""
    # A socket's path holds about 100 bytes, a test's directory often more.
    monkeypatch.chdir(tmp_path)
    family, name = {
        "tcp": (socket.AF_INET, ("127.0.0.1", 0)),
        "unix": (socket.AF_UNIX, "socket"),
    }[kind]
    bound = trio.socket.socket(family)
    await bound.bind(name)
    bound.listen(16)
    return bound


@pytest.fixture
async def run(listening, nursery):
    """Start a server for an app; it ends with the test."""
    family, name = listening.family, listening.getsockname()
    scope, ended = trio.CancelScope(), trio.Event()
    sockets = [listening]

    async def connect():
        sockets.append(trio.socket.socket(family))
        await sockets[-1].connect(name)
        return Client(trio.SocketStream(sockets[-1]))

    async def scoped(app, limits, task_status=trio.TASK_STATUS_IGNORED):
        with scope:
            listener = trio.SocketListener(listening)
            await serve(app, [listener], limits=limits, task_status=task_status)
        ended.set()

    async def start(app, **limits):
        server = await nursery.start(scoped, app, Limits(**limits))
        return Running(server, connect, scope, ended)

    yield start
    for each in sockets:
        each.close()
