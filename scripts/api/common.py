"""How times, prices, addresses and roles stand in every JSON document."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from p2p.overlay.advert import Role
from p2p.wire import Endpoint
from scripts.failure import Document

PER_THOUSAND: Final = 1_000
"""Prices are nano per million tokens on the wire, per thousand in JSON."""

ASSURANCE: Final = ("none", "audited", "tee")

ROLE_NAMES: Final[Mapping[Role, str]] = {
    Role.RELAY: "relay",
    Role.WORKER: "worker",
    Role.MINT: "mint",
}


def moment(unix: float) -> str:
    """A time as every document writes it."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def prices(per_million: Sequence[int]) -> Document:
    """The four classes, nano per 1,000 tokens."""
    names = ("prompt", "cached", "completion", "reasoning")
    return {
        name: price / PER_THOUSAND if price % PER_THOUSAND else price // PER_THOUSAND
        for name, price in zip(names, per_million, strict=True)
    }


def address(endpoint: Endpoint) -> str:
    """`127.0.0.1:4001`, `[::1]:4001`."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"
