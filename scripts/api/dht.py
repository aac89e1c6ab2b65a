"""The DHT in the control API: its documents, and the requests for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from p2p.adnl.address import to_endpoint
from p2p.dht import key as keys
from p2p.dht import records
from p2p.dht import value as values
from p2p.dht.config import MAX_NODES
from p2p.errors import DhtError
from p2p.ton import (
    AdnlAddressList,
    DhtNode,
    DhtUpdateRuleAnybody,
    DhtUpdateRuleOverlayNodes,
    DhtUpdateRuleSignature,
    DhtValue,
    PubEd25519,
    PublicKey,
)
from scripts.api import local
from scripts.api.common import address, moment
from scripts.failure import Document, Failed, suggestion

MAX_TTL: Final = 3_600
"""seconds a value may live: nodes refuse what expires later than in an hour and a minute."""

RULES: Final = {
    DhtUpdateRuleSignature: "signature",
    DhtUpdateRuleAnybody: "anybody",
    DhtUpdateRuleOverlayNodes: "overlay",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A value that is to be stored."""

    name: str
    content: bytes
    idx: int = 0
    ttl: int = MAX_TTL
    """seconds"""
    keep: bool = False
    """Again and again, while the node runs."""


class Lookups(Protocol):
    """What answers these requests. Everything raises `Failed`."""

    async def get(self, owner: str, name: str | None, idx: int) -> Document:
        """A value."""

    async def put(self, wish: Wish) -> Document:
        """Store one under the node's own key."""

    async def find_node(self, target: str) -> Document:
        """The nodes nearest to an id."""

    async def config(self) -> Document:
        """The nodes to begin with, as TON's tools read them."""


# --- documents ---


def value(found: DhtValue) -> Document:
    """The `dht-value` document."""
    return {
        "schema": "tussah/dht-value/1",
        "key": key(found),
        "rule": RULES[type(found.key.update_rule)],
        "public_key": _public(found.key.id),
        "expires_at": moment(found.ttl),
        "value_hex": found.value.hex(),
        "text": _text(found.value),
        "reads": _reads(found),
    }


def key(found: DhtValue) -> Document:
    """Where a value stands."""
    where = found.key.key
    return {
        "id": keys.key_id(where).hex(),
        "owner": where.id.hex(),
        "name": where.name.decode("utf-8", "backslashreplace"),
        "idx": where.idx,
    }


def stored(made: DhtValue, took: int, *, kept: bool, persistent: bool) -> Document:
    """The `dht-stored` document."""
    return {
        "schema": "tussah/dht-stored/1",
        "key": key(made),
        "nodes": took,
        "bytes": len(made.value),
        "expires_at": moment(made.ttl),
        "kept": kept,
        "persistent": persistent,
    }


def nodes(target: bytes, found: Sequence[DhtNode]) -> Document:
    """The `dht-nodes` document, the nearest first."""
    return {
        "schema": "tussah/dht-nodes/1",
        "target": target.hex(),
        "nodes": [_node(record) for record in found[:MAX_NODES]],
    }


def _node(record: DhtNode) -> Document:
    return {
        "id": keys.owner_id(record.id).hex(),
        "public_key": _public(record.id),
        "addresses": _addresses(record.addr_list),
        "version": record.version,
    }


def _public(owner: PublicKey) -> str | None:
    return owner.key.hex() if isinstance(owner, PubEd25519) else None


def _addresses(listed: AdnlAddressList) -> list[str]:
    found = [to_endpoint(one) for one in listed.addrs]
    return [address(one) for one in found if one is not None]


def _text(content: bytes) -> str | None:
    """The value as text, if that is what it is."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").replace("\t", "").isprintable() else None


def _reads(found: DhtValue) -> list[str] | None:
    """What a value of a known form says: addresses, or the nodes of an overlay."""
    try:
        if isinstance(found.key.update_rule, DhtUpdateRuleOverlayNodes):
            return [keys.owner_id(member.id).hex() for member in values.members(found)]
        if found.key.key.name == b"address":
            return _addresses(records.read_address(found))
        if found.key.key.name == b"libp2p":
            return records.read_libp2p(found)
    except DhtError:
        pass
    return None


# --- requests ---


def routes(lookups: Lookups) -> list[BaseRoute]:
    """The requests of the DHT."""

    async def get(request: Request) -> Response:
        name = request.query_params.get("name")
        idx = check_index(request.query_params.get("idx", "0"))
        return local.answer(await lookups.get(_id(request), name, idx))

    async def put(request: Request) -> Response:
        return local.answer(await lookups.put(parse(await local.read_json(request))))

    async def find_node(request: Request) -> Response:
        return local.answer(await lookups.find_node(_id(request)))

    async def config(request: Request) -> Response:
        return local.answer(await lookups.config())

    return [
        Route("/dht/values", get, methods=["GET"]),
        Route("/dht/values", put, methods=["POST"]),
        Route("/dht/nodes", find_node, methods=["GET"]),
        Route("/dht/config", config, methods=["GET"]),
    ]


def _id(request: Request) -> str:
    """In the query, where a slash does no harm. Raises `Failed` (`invalid_request`)."""
    try:
        return request.query_params["id"]
    except KeyError as error:
        raise Failed("invalid_request", "The request needs an `id`.", param="id") from error


def parse(body: object) -> Wish:
    """The value that a request brings. Raises `Failed` (`invalid_request`)."""
    if not isinstance(body, Mapping):
        raise Failed("invalid_request", "The request's body is no object.")
    for name in body:
        if name not in _FIELDS:
            near = suggestion(str(name), list(_FIELDS))
            raise Failed("invalid_request", f"There is no field {name!r}.", near, param=str(name))
    checked = {name: check(body[name]) for name, check in _FIELDS.items() if name in body}
    match checked:
        case {"name": str(name), "value_hex": bytes(content)}:
            return Wish(
                name=name,
                content=content,
                idx=_number(checked.get("idx", 0)),
                ttl=_number(checked.get("ttl_s", MAX_TTL)),
                keep=checked.get("keep", False) is True,
            )
        case _:
            raise Failed("invalid_request", "A value needs `name` and `value_hex`.")


def _number(checked: object) -> int:
    assert isinstance(checked, int)
    return checked


def check_index(given: object) -> int:
    """The index of a key. Raises `Failed` (`invalid_request`)."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 4:
        given = int(given)
    if type(given) is not int or not 0 <= given <= keys.MAX_INDEX:
        message = f"An index of a key is 0 to {keys.MAX_INDEX}."
        raise Failed("invalid_request", message, param="idx")
    return given


def check_name(given: object) -> str:
    """The name of a key. Raises `Failed` (`invalid_request`)."""
    if not isinstance(given, str) or not 1 <= len(given.encode(errors="replace")) <= keys.MAX_NAME:
        message = f"A name of a key has 1 to {keys.MAX_NAME} bytes."
        raise Failed("invalid_request", message, param="name")
    return given


def _content(given: object) -> bytes:
    if isinstance(given, str) and len(given) <= 2 * values.MAX_VALUE:
        try:
            return bytes.fromhex(given)
        except ValueError:
            pass
    message = f"A value has at most {values.MAX_VALUE} bytes, in hex digits."
    raise Failed("invalid_request", message, param="value_hex")


def _ttl(given: object) -> int:
    if type(given) is not int or not 1 <= given <= MAX_TTL:
        message = f"A value lives 1 to {MAX_TTL} seconds."
        raise Failed("invalid_request", message, "Use --keep for longer.", param="ttl_s")
    return given


def _keep(given: object) -> bool:
    if not isinstance(given, bool):
        raise Failed("invalid_request", "`keep` is true or false.", param="keep")
    return given


_FIELDS: Final[Mapping[str, Callable[[object], object]]] = {
    "name": check_name,
    "value_hex": _content,
    "idx": check_index,
    "ttl_s": _ttl,
    "keep": _keep,
}
"""What a request to store may hold, and how each part is checked."""
