"""The local API: its routes, for OpenAI's clients and for the owner's own programs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.api import asking, local, metrics
from scripts.api.events import Events
from scripts.api.openai import answering, errors, pages, request, twins
from scripts.api.openai.request import Form
from scripts.failure import Document, Failed

AUTO: Final = "auto"
"""The model that is asked for by who leaves the choice to the settings."""

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Operator(asking.Asker, twins.Operator, Protocol):
    """What of a node this API is the face of."""

    @property
    def is_joined(self) -> bool:
        """Whether it knows the network."""

    @property
    def running(self) -> int:
        """Requests under way."""

    async def metrics(self) -> bytes:
        """How it is, for Prometheus."""


def app(operator: Operator, *, most: int, created: int) -> Starlette:
    """The API of a node, which answers `most` requests at once; `created`: when it started."""
    handlers = {Failed: errors.failed, HTTPException: errors.unknown, Exception: errors.broken}
    chat, completion = (
        _asking(operator, read, most) for read in (request.chat, request.completion)
    )
    return Starlette(
        routes=[
            Route("/v1/models", _models(operator, created), methods=["GET"]),
            Route("/v1/models/{model:path}", _model(operator, created), methods=["GET"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completion, methods=["POST"]),
            Route("/v1/embeddings", _missing("No worker makes embeddings yet."), methods=["POST"]),
            Route("/v1/responses", _missing("Responses are not kept here."), methods=["POST"]),
            Route("/health", _health(operator), methods=["GET"]),
            Route("/metrics", _metrics(operator), methods=["GET"]),
            *twins.routes(operator),
            *pages.routes(),
        ],
        exception_handlers=handlers,
    )


def _asking(
    operator: Operator, read: Callable[[object, Mapping[str, str]], Form], most: int
) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        if operator.running >= most:
            message = f"This node has {most} requests under way, as many as it may."
            raise Failed("busy", message, "Wait for one, or raise api.max_requests.")
        form = read(await local.read_json(request), request.headers)
        work = answering.work(operator, form, request.state.request_id)
        return Events(work, refused=errors.whole)

    return endpoint


def _health(operator: Operator) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return local.answer({"status": "ok" if operator.is_joined else "starting"})

    return endpoint


def _metrics(operator: Operator) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return Response(await operator.metrics(), media_type=metrics.KIND)

    return endpoint


def _missing(why: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        raise Failed("unsupported_endpoint", why, "Use POST /v1/chat/completions.")

    return endpoint


# --- models ---


def _models(operator: Operator, created: int) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return local.answer({"object": "list", "data": _listed(operator, created)})

    return endpoint


def _model(operator: Operator, created: int) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        wanted = request.path_params["model"]
        for model in _listed(operator, created):
            if model["id"] == wanted:
                return local.answer(model)
        message = f"No model {wanted!r} is on offer, and none is on this machine."
        raise Failed("model_not_found", message, "GET /v1/models lists what there is.")

    return endpoint


def _listed(operator: Operator, created: int) -> list[Document]:
    """`auto` first, then what is on offer, then what is here alone."""
    models = operator.models()["models"]
    assert isinstance(models, Sequence)
    offered = sorted(models, key=lambda model: not model["workers"])
    entries = [(AUTO, None), *((str(model["name"]), model) for model in offered)]
    return [
        {"id": name, "object": "model", "created": created, "owned_by": "tussah", "tussah": model}
        for name, model in entries
    ]
