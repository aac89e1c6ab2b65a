"""What the page needs beside answers: documents of the control API, and two words for the worker.

Nothing here moves money: who has the key of this API can ask and pause, no more.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import segno
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger.earnings import By
from scripts.api import local, working
from scripts.failure import Document, Failed

PLACE: Final = "/tussah/v1"

TWINS: Final[Mapping[str, str]] = {
    **{name: name for name in ("status", "peers", "models", "wallet")},
    "worker": "limits",
}
"""Documents of the control API, and what of a node makes each."""

ACTIONS: Final = ("pause", "resume")
"""What the page may tell the worker; to stop and start it is the command line's."""


class Operator(working.Worker, Protocol):
    """What of a node is shown here."""

    async def status(self) -> Document:
        """How it is."""

    def peers(self) -> Document:
        """Whom it knows."""

    def models(self) -> Document:
        """What can be asked."""

    async def wallet(self) -> Document:
        """What it has on the chain and in credits."""

    async def earnings(self, by: By) -> Document:
        """What it has earned."""

    async def deposit(self, amount: str | None) -> Document:
        """Where coins for it go. Raises `Failed`."""


def routes(operator: Operator) -> list[Route]:
    """One for each document, and one for the worker."""

    async def earned() -> Document:
        return await operator.earnings(By.DAY)

    async def deposit() -> Document:
        document = await operator.deposit(None)
        return {**document, "qr": squares(str(document["link"]))}

    twins = [_twin(operator, name, method) for name, method in TWINS.items()]
    own = [_document("earnings", earned), _document("deposit", deposit)]
    return [*twins, *own, Route(f"{PLACE}/worker/{{action}}", _order(operator), methods=["POST"])]


def squares(text: str) -> list[str]:
    """A text as a QR code, a row of zeros and ones for each line of it."""
    return ["".join(map(str, row)) for row in segno.make(text, micro=False).matrix]


def _twin(operator: Operator, name: str, method: str) -> Route:
    async def make() -> Document:
        asked: Callable[[], Document | Awaitable[Document]] = getattr(operator, method)
        made = asked()
        return made if isinstance(made, Mapping) else await made

    return _document(name, make)


def _document(name: str, make: Callable[[], Awaitable[Document]]) -> Route:
    async def endpoint(request: Request) -> Response:
        return local.answer(await make())

    return Route(f"{PLACE}/{name}", endpoint, methods=["GET"])


def _order(operator: Operator) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        action = str(request.path_params["action"])
        if action not in ACTIONS:
            message = f"The worker cannot be told to {action} here."
            raise Failed("unsupported_endpoint", message, f"Known: {', '.join(ACTIONS)}.")
        seconds = working.seconds(await local.read_json(request))
        return local.answer(await operator.order(action, seconds))

    return endpoint
