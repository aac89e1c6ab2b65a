"""The control API: the node's owner speaks to it over a socket that nobody else can open."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ledger.credit import BUNDLES
from ledger.earnings import By
from ledger.payment import Told
from scripts.api import asking, dht, local, purchases, shelf, working
from scripts.api.events import Events
from scripts.failure import Document, Failed

ACTIONS: Final = ("settle", "close")
"""What can be done to a lane."""

MAX_KEY: Final = 64
"""characters that tell one wish of a person from another"""


class Operator(asking.Asker, working.Worker, Protocol):
    """What the control API is the face of: a node, or a test's stand-in."""

    @property
    def shelf(self) -> shelf.Shelf:
        """Its models."""

    @property
    def lookups(self) -> dht.Lookups:
        """What it asks of the DHT."""

    def version(self) -> Document:
        """What is running."""

    def id(self) -> Document:
        """Who it is."""

    async def status(self) -> Document:
        """How it is."""

    def peers(self) -> Document:
        """Whom it knows."""

    def circuits(self) -> Document:
        """What passes."""

    def models(self) -> Document:
        """What can be asked."""

    async def wallet(self) -> Document:
        """What it has on the chain and in credits."""

    async def unlock(self, passphrase: str) -> Document:
        """Open an encrypted wallet. Raises `Failed`."""

    async def vouchers(self) -> Document:
        """A backup of its vouchers, sealed. Raises `Failed`."""

    async def credits(self) -> Document:
        """The credits at hand."""

    async def buy(self, bundle: str | None, told: Told) -> Document:
        """Buy credits, telling how it goes. Raises `Failed`."""

    async def lanes(self) -> Document:
        """Its lanes, and their transactions."""

    async def move(self, action: str, lane: str) -> Document:
        """Settle or close a lane. Raises `Failed`."""

    async def audit(self) -> Document:
        """The balance sheet of its mint. Raises `Failed`."""

    async def shared(self) -> Document:
        """Its vouchers, for a friend who watches. Raises `Failed`."""

    async def watch(self, body: object) -> Document:
        """Watch a friend's lanes, of a `shared` document. Raises `Failed`."""

    async def receipts(self) -> Document:
        """What workers have signed for."""

    async def signed(self) -> Document:
        """What it has signed for itself, as a worker."""

    async def earnings(self, by: By) -> Document:
        """What it has earned."""

    async def deposit(self, amount: str | None) -> Document:
        """Where coins for it go. Raises `Failed`."""

    async def withdraw(self, to: str, amount: str, key: str) -> Document:
        """Send coins away; once, for all requests of one `key`. Raises `Failed`."""

    def stop(self) -> None:
        """Begin to drain; returns at once."""


def app(operator: Operator, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The API of a node; `routes` adds to it."""
    return local.app(
        [
            _document("/version", operator.version),
            _document("/id", operator.id),
            _document("/status", operator.status),
            _document("/peers", operator.peers),
            _document("/circuits", operator.circuits),
            _document("/wallet", operator.wallet),
            _document("/credits", operator.credits),
            _document("/wallet/vouchers", operator.vouchers),
            _document("/lanes", operator.lanes),
            _document("/receipts", operator.receipts),
            _document("/receipts/signed", operator.signed),
            Route("/earnings", _earnings(operator), methods=["GET"]),
            Route("/wallet/deposit", _deposit(operator), methods=["GET"]),
            Route("/wallet/withdraw", _withdraw(operator), methods=["POST"]),
            Route("/wallet/unlock", _unlock(operator), methods=["POST"]),
            Route("/credits/buy", _buy(operator), methods=["POST"]),
            _document("/mint/audit", operator.audit),
            _document("/lanes/shared", operator.shared),
            Route("/lanes/watch", _watch(operator), methods=["POST"]),
            Route("/lanes/{lane}/{action}", _move(operator), methods=["POST"]),
            Route("/ask", _ask(operator), methods=["POST"]),
            Route("/shutdown", local.shutdown(operator.stop), methods=["POST"]),
            *dht.routes(operator.lookups),
            *working.routes(operator),
            *shelf.routes(operator.shelf),
            *routes,
        ]
    )


def _document(path: str, make: Callable[[], Document | Awaitable[Document]]) -> Route:
    async def endpoint(request: Request) -> Response:
        made = make()
        return local.answer(made if isinstance(made, Mapping) else await made)

    return Route(path, endpoint, methods=["GET"])


def _unlock(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        body = await local.read_json(request)
        passphrase = body.get("passphrase") if isinstance(body, Mapping) else None
        if not isinstance(passphrase, str) or not passphrase:
            raise Failed("invalid_request", "There is no passphrase.", param="passphrase")
        return local.answer(await operator.unlock(passphrase))

    return endpoint


def _earnings(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        by = request.query_params.get("by", By.DAY.value)
        if by not in [each.value for each in By]:
            message = f"Earnings cannot be shown by {by}."
            raise Failed("invalid_request", message, "By day, or by model.", param="by")
        return local.answer(await operator.earnings(By(by)))

    return endpoint


def _deposit(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        return local.answer(await operator.deposit(request.query_params.get("amount")))

    return endpoint


def _withdraw(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        body = await local.read_json(request)
        given = body if isinstance(body, Mapping) else {}
        to, amount, key = (given.get(name) for name in ("to", "amount", "idempotency_key"))
        if not (isinstance(to, str) and isinstance(amount, str) and isinstance(key, str)):
            message = "A withdrawal needs to, amount and idempotency_key, each of them text."
            raise Failed("invalid_request", message)
        if not 8 <= len(key) <= MAX_KEY or not key.isascii():
            message = f"idempotency_key must have 8 to {MAX_KEY} characters of ASCII."
            raise Failed("invalid_request", message, param="idempotency_key")
        return local.answer(await operator.withdraw(to, amount, key))

    return endpoint


def _watch(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        return local.answer(await operator.watch(await local.read_json(request)))

    return endpoint


def _buy(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        body = await local.read_json(request)
        bundle = body.get("bundle") if isinstance(body, Mapping) else None
        if bundle not in (None, *BUNDLES):
            message = f"The bundle is {bundle!r}; only {', '.join(BUNDLES)} are sold."
            raise Failed("invalid_request", message, param="bundle")
        buy = partial(operator.buy, None if bundle is None else str(bundle))
        if isinstance(body, Mapping) and body.get("stream") is True:
            return Events(purchases.work(buy, operator.terms))
        return local.answer(await buy(lambda step: None))

    return endpoint


def _move(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        action, lane = request.path_params["action"], request.path_params["lane"]
        if action not in ACTIONS:
            message = f"A lane cannot be told to {action}."
            raise Failed("unsupported_endpoint", message, f"Known: {', '.join(ACTIONS)}.")
        return local.answer(await operator.move(str(action), str(lane)))

    return endpoint


def _ask(operator: Operator) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        ask, wish = asking.parse(await local.read_json(request))
        return Events(asking.work(operator, ask, wish, request.state.request_id))

    return endpoint
