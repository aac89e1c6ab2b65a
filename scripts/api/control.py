"""The control API: the node's owner speaks to it over a socket that nobody else can open."""

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scripts.api import asking, local
from scripts.api.events import Events
from scripts.failure import Document


class Operator(asking.Asker, Protocol):
    """What the control API is the face of: a node, or a test's stand-in."""

    def version(self) -> Document:
        """What is running."""

    def status(self) -> Document:
        """How it is."""

    def peers(self) -> Document:
        """Whom it knows."""

    def models(self) -> Document:
        """What can be asked."""

    def stop(self) -> None:
        """Begin to drain; returns at once."""


def app(operator: Operator, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The API of a node; `routes` adds to it."""
    return local.app(
        [
            _document("/version", operator.version),
            _document("/status", operator.status),
            _document("/peers", operator.peers),
            _document("/models", operator.models),
            Route("/ask", _ask(operator), methods=["POST"]),
            Route("/shutdown", local.shutdown(operator.stop), methods=["POST"]),
            *routes,
        ]
    )


def _document(path: str, make: Callable[[], Document]) -> Route:
    async def endpoint(request: Request) -> Response:
        return local.answer(make())

    return Route(path, endpoint, methods=["GET"])


def _ask(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        ask, wish = asking.parse(await local.read_json(request))
        return Events(asking.work(operator, ask, wish, request.state.request_id))

    return endpoint
