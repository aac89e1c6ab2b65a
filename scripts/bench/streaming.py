"""The application of `bench api`, the same for every server, and ours to run it.

`/N` sends N events and says last what processor time they took; `/hold` sends one and waits. Before
each event a turn of the loop passes, as it does in life: an event is there when a token is.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio
from starlette.types import Receive, Scope, Send

from scripts.api import server

EVENT: Final = (
    "data: "
    + json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "smollm2-135m-instruct-q4_1",
            "choices": [{"index": 0, "delta": {"content": " moth"}, "finish_reason": None}],
        }
    )
    + "\n\n"
).encode()
"""As an answer's are."""

HEAD: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"connection", b"close")],
}

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def app(turn: Callable[[], Awaitable[None]]) -> App:
    """The application; `turn` is a turn of the loop it runs on."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError("nothing but HTTP")
        await send(HEAD)
        if scope["path"] == "/hold":
            await _hold(receive, send)
        else:
            await _stream(int(scope["path"][1:]), send, turn)

    return answer


async def _hold(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stream(events: int, send: Send, turn: Callable[[], Awaitable[None]]) -> None:
    began = time.process_time()
    for _ in range(events):
        await turn()
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    spent = f"spent {time.process_time() - began:.6f}"
    await send({"type": "http.response.body", "body": spent.encode()})


def ready(port: int) -> None:
    """Say where it can be dialled: the first line of output."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


async def main() -> None:
    """Our own server, until killed."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(server.serve, app(trio.lowlevel.checkpoint), listeners)
        ready(listeners[0].socket.getsockname()[1])


if __name__ == "__main__":
    trio.run(main)
