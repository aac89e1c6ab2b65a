"""What the owner of a node does with models: looks, fetches, removes, adds catalogues."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from inference.download import Progress, Tell
from scripts.api import local
from scripts.api.events import Events, Stream, Work
from scripts.failure import Document, Failed

SAY_EVERY: Final = 0.5
"""seconds between two events of a download"""


class Shelf(Protocol):
    """The models of a home, as its owner handles them."""

    def prices(self) -> Document:
        """What answers cost."""

    async def models(self) -> Document:
        """All there are."""

    async def model(self, name: str) -> Document:
        """All that is known of one. Raises `Failed`."""

    async def pull(self, name: str, told: Tell) -> Document:
        """Fetch one, telling how far it is; the `model` document. Raises `Failed`."""

    def remove(self, name: str) -> Document:
        """Delete one that was fetched. Raises `Failed`."""

    def add(self, data: bytes, signature: bytes, key: bytes | None) -> Document:
        """Take a catalogue in. Raises `Failed`."""


def routes(shelf: Shelf) -> list[BaseRoute]:
    """What the control API takes for it. Names are in bodies: they hold colons."""

    async def prices(request: Request) -> Response:
        return local.answer(shelf.prices())

    async def models(request: Request) -> Response:
        return local.answer(await shelf.models())

    async def show(request: Request) -> Response:
        return local.answer(await shelf.model(_text(await local.read_json(request), "name")))

    async def pull(request: Request) -> Response:
        return Events(_pulling(shelf, _text(await local.read_json(request), "name")))

    async def remove(request: Request) -> Response:
        return local.answer(shelf.remove(_text(await local.read_json(request), "name")))

    async def add(request: Request) -> Response:
        body = await local.read_json(request)
        data, signature = _text(body, "catalogue").encode(), _hex(body, "signature")
        is_new = isinstance(body, Mapping) and body.get("key") is not None
        return local.answer(shelf.add(data, signature, _hex(body, "key") if is_new else None))

    return [
        Route("/prices", prices, methods=["GET"]),
        Route("/models", models, methods=["GET"]),
        Route("/models/show", show, methods=["POST"]),
        Route("/models/pull", pull, methods=["POST"]),
        Route("/models/remove", remove, methods=["POST"]),
        Route("/models/add", add, methods=["POST"]),
    ]


def _text(body: object, name: str) -> str:
    value = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(value, str) or not value:
        raise Failed("invalid_request", f"The field {name} is missing.", param=name)
    return value


def _hex(body: object, name: str) -> bytes:
    try:
        return bytes.fromhex(_text(body, name))
    except ValueError as error:
        raise Failed("invalid_request", f"The field {name} is no hex.", param=name) from error


# --- a download, told ---

_Steps: TypeAlias = "trio.MemorySendChannel[Progress]"


def _pulling(shelf: Shelf, name: str) -> Work:
    """How far it is, now and then, and the document as `done`. A reader who leaves ends it."""

    async def work(stream: Stream) -> None:
        await shelf.model(
            name
        )  # what is no model is refused with a status, before anything is streamed
        await stream.begin({})
        teller, steps = trio.open_memory_channel[Progress](math.inf)
        outcome: list[Document | Failed] = []
        async with trio.open_nursery() as nursery, steps:
            nursery.start_soon(_run, lambda tell: shelf.pull(name, tell), teller, outcome)
            said = -math.inf
            async for step in steps:
                if trio.current_time() - said >= SAY_EVERY or step.done == step.total:
                    said = trio.current_time()
                    await stream.event("progress", _progress(step))
        (ended,) = outcome
        if isinstance(ended, Failed):
            raise ended
        await stream.event("done", ended)

    return work


async def _run(
    pull: Callable[[Tell], Awaitable[Document]],
    teller: _Steps,
    outcome: list[Document | Failed],
) -> None:
    with teller:
        try:
            outcome.append(await pull(teller.send_nowait))
        except Failed as failed:
            outcome.append(failed)


def _progress(step: Progress) -> Document:
    return {
        "done_bytes": step.done,
        "total_bytes": step.total,
        "bytes_per_s": round(step.rate),
        "eta_s": None if step.eta is None else round(step.eta, 1),
    }
