"""The `status` document: how a node is.

A key once published keeps its name, type and meaning. What is not known is null, never absent.
"""

import os
import resource
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from inference.machine import Gpu, Machine
from inference.worker import Service, WorkerStatistics
from ledger.money import Nano
from ledger.totals import Minted, Totals
from p2p.adnl.clocks import ClockOffset
from p2p.identity import AdnlId
from p2p.node import Announced, NodeStatistics
from p2p.overlay.advert import Role
from p2p.overlay.listing import DirectoryStatus, Entry
from p2p.overlay.reach import Reachability
from p2p.wire import Endpoint
from scripts.api.common import ROLE_NAMES, moment, prices
from scripts.api.reach import reach
from scripts.failure import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something its owner should know."""

    code: str
    message: str
    advice: str

    def document(self) -> Document:
        """As status shows it."""
        return {"code": self.code, "message": self.message, "advice": self.advice}


CLOCK_LIMIT: Final = 15.0
"""seconds that a clock may differ: broadcasts are refused at 20, packets at 60."""


def clock_alerts(clock: ClockOffset | None) -> Iterator[Alert]:
    """That this machine's clock differs from those of others."""
    if clock is None or abs(clock.seconds) <= CLOCK_LIMIT:
        return
    way = "ahead of" if clock.seconds > 0 else "behind"
    yield Alert(
        code="clock_wrong",
        message=f"This machine's clock is {abs(clock.seconds):.0f} s {way} those of "
        f"{clock.peers} peers.",
        advice="Set it, best by NTP, and restart the node, or nobody will hear you.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """What became of serving."""

    state: str
    """loading, serving, paused, draining or stopped."""
    reasons: tuple[str, ...] = ()
    until: float | None = None
    """When that ends, if it is known."""
    service: Service | None = None
    statistics: WorkerStatistics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PurseState:
    """The money of a node, as far as it knows without asking the chain."""

    balance: Nano | None
    """Of its wallet, as last seen; None: never."""
    totals: Totals
    minted: Minted | None
    """None: it is no mint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """Everything `status` tells."""

    program: str
    started: float
    id: AdnlId
    home: str
    network: str
    chain: str | None
    """Name of the chain that answers are paid on; None: they are free."""
    roles: tuple[str, ...]
    endpoint: Endpoint | None
    """Where it listens for links."""
    udp: Sequence[Endpoint]
    """Where its sockets of ADNL are bound."""
    announced: Announced
    verdicts: Sequence[Reachability]
    """What strangers have found out of each transport."""
    attachments: Sequence[AdnlId]
    """Relays that keep a link to it."""
    bootstrap: int
    """Other nodes that the network's profile names."""
    node: NodeStatistics
    entries: Sequence[Entry]
    joined: bool
    """Somebody has given it the list of nodes."""
    asking: int
    """Requests under way."""
    api: str | None
    """Where the local API answers."""
    key_file: str | None
    """What holds its key; None: it needs none."""
    worker: WorkerState | None
    machine: Machine | None
    """As its sensors told last; None: nobody has looked."""
    purse: PurseState | None
    """None: its wallet is not open, or it has none."""
    alerts: Sequence[Alert]


def status(state: NodeState) -> Document:
    """How the node is."""
    return {
        "schema": "tussah/status/1",
        "version": state.program,
        "started_at": moment(state.started),
        "node": {
            "id": state.id.hex(),
            "roles": list(state.roles),
            "home": state.home,
            "network": state.network,
            "chain": state.chain,
        },
        "reach": reach(
            listening=state.endpoint,
            udp=state.udp,
            announced=state.announced,
            serves_dht=state.node.dht.serving,
            verdicts=state.verdicts,
            attachments=state.attachments,
        ),
        "network": {
            **_network(state.entries, state.node.directory),
            **_found(state),
            "joined": state.joined,
            "links": state.node.carrier.links,
        },
        "api": {"url": state.api, "key_file": state.key_file, "open_requests": state.asking},
        "worker": None if state.worker is None else _worker(state.worker, state.purse),
        "relay": _relay(state) if "relay" in state.roles else None,
        "mint": _mint(state.purse),
        "money": dict.fromkeys(MONEY) if state.purse is None else _money(state.purse),
        "machine": _machine(state.machine),
        "alerts": [alert.document() for alert in state.alerts],
    }


MONEY: Final = (
    *("wallet_nano", "credits_nano", "due_nano", "owed_nano"),
    *("earned_today_nano", "spent_today_nano"),
)


def _money(purse: PurseState) -> Document:
    totals = purse.totals
    return {
        "wallet_nano": None if purse.balance is None else purse.balance.value,
        "credits_nano": totals.credits.value.value,
        "due_nano": totals.due.value,
        "owed_nano": totals.owed.value,
        "earned_today_nano": totals.earned_today.value,
        "spent_today_nano": totals.spent_today.value,
    }


def _mint(purse: PurseState | None) -> Document | None:
    if purse is None or purse.minted is None:
        return None
    minted = purse.minted
    return {
        "float_nano": minted.outstanding.value,
        "issued": minted.issued,
        "redeemed": minted.redeemed,
    }


def _network(entries: Sequence[Entry], directory: DirectoryStatus) -> dict[str, object]:
    counts = {
        f"{name}s": sum(role in entry.advert.roles for entry in entries)
        for role, name in ROLE_NAMES.items()
    }
    return {
        **counts,
        "directory_epoch": directory.epoch,
        "directory_age_s": directory.age,
        "directory_root": directory.root.hex(),
        "directory_count": directory.count,
        "directory_live": directory.live,
        "directory_agreement": None if directory.age is None else directory.agreement,
        "clients_claimed": clients_claimed(entries),
    }


def _found(state: NodeState) -> dict[str, object]:
    """By what this node finds the others."""
    dht, overlay = state.node.dht, state.node.overlay
    return {
        "bootstrap": state.bootstrap,
        "dht": {"serving": dht.serving, "active": dht.table.active, "values": dht.values},
        "overlay": {
            "serving": overlay.serving,
            "members": overlay.members,
            "neighbours": overlay.neighbours,
        },
    }


def clients_claimed(entries: Iterable[Entry]) -> int:
    """Active clients as the relays claim them: 2^c - 1 each, capped at three times the median."""
    claims = [
        2 ** (entry.advert.fields.crowd or 0) - 1
        for entry in entries
        if Role.RELAY in entry.advert.roles
    ]
    if not claims:
        return 0
    cap = 3 * statistics.median(claims)
    return int(sum(min(claim, cap) for claim in claims))


def _relay(state: NodeState) -> Document:
    carrier, onion = state.node.carrier, state.node.onion
    return {
        "circuits": onion.passages,
        "cells": onion.cells_forward + onion.cells_backward,
        "bytes": carrier.bytes_sent + carrier.bytes_received,
        "earned_nano": 0,
    }


def _worker(worker: WorkerState, purse: PurseState | None) -> Document:
    service, counted = worker.service, worker.statistics
    return {
        "state": worker.state,
        "reasons": list(worker.reasons),
        "until_at": None if worker.until is None else moment(worker.until),
        "model": service.label if service else None,
        "model_hash": service.identity.hex() if service else None,
        "slots": {
            "total": service.slots if service else None,
            "busy": counted.running if counted else None,
        },
        "queue": counted.waiting if counted else None,
        "tokens_per_s": service.answer_rate if service else None,
        "answered": counted.answered if counted else 0,
        "tokens": counted.tokens if counted else 0,
        "earned_nano": purse.totals.earned.value if purse else 0,
        "prices": prices(service.prices) if service else None,
    }


def _machine(machine: Machine | None) -> Document:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cpu_load": round(os.getloadavg()[0], 2),
        "battery": None if machine is None else _battery(machine),
        "temperature_c": None if machine is None else machine.hottest_c,
        "vram": None if machine is None or machine.gpu is None else _vram(machine.gpu),
        "rss_bytes": memory if sys.platform == "darwin" else memory * 1_024,
    }


def _battery(machine: Machine) -> Document | None:
    if machine.battery is None or machine.on_mains is None:
        return None
    return {"percent": machine.battery, "on_mains": machine.on_mains}


def _vram(gpu: Gpu) -> Document:
    return {"used_bytes": gpu.vram_total - gpu.vram_free, "total_bytes": gpu.vram_total}
