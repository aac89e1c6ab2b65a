"""How a node is, for Prometheus. No label holds an id, an address or the name of a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from scripts.api.common import ROLE_NAMES
from scripts.api.status import NodeState

KIND = "text/plain; version=0.0.4; charset=utf-8"

WORKER_STATES = ("loading", "serving", "paused", "draining", "stopped")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """What one look tells; a collector of its own registry, so that nothing is counted twice."""

    state: NodeState
    requests: Mapping[str, int]
    """Asks of this node's owner that have ended, by how."""

    def text(self) -> bytes:
        """In Prometheus' own format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        yield _by("tussah_requests", "Asks that have ended.", "outcome", self.requests)
        yield GaugeMetricFamily("tussah_requests_open", "Asks under way.", self.state.asking)
        yield from self._network()
        yield from self._circuits()
        yield from self._worker()
        yield from self._money()

    def _network(self) -> Iterator[Metric]:
        state = self.state
        known = GaugeMetricFamily("tussah_listed", "Nodes in the directory.", labels=["role"])
        for role, name in ROLE_NAMES.items():
            known.add_metric([name], sum(role in entry.advert.roles for entry in state.entries))
        yield known
        carrier, age = state.node.carrier, state.node.directory.age
        yield GaugeMetricFamily("tussah_links", "Links to other nodes.", carrier.links)
        if age is not None:
            about = "Since the directory was confirmed."
            yield GaugeMetricFamily("tussah_directory_age_seconds", about, age)
        carried = {"sent": carrier.bytes_sent, "received": carrier.bytes_received}
        yield _by("tussah_link_bytes", "Bytes over links.", "direction", carried)

    def _circuits(self) -> Iterator[Metric]:
        onion = self.state.node.onion
        yield GaugeMetricFamily("tussah_circuits", "Circuits that end here.", onion.circuits)
        yield GaugeMetricFamily("tussah_passages", "Circuits relayed here.", onion.passages)
        cells = {"forward": onion.cells_forward, "backward": onion.cells_backward}
        yield _by("tussah_cells", "Cells relayed.", "direction", cells)
        yield _by("tussah_creates", "Circuits asked of us, by answer.", "status", onion.creates)

    def _worker(self) -> Iterator[Metric]:
        worker = self.state.worker
        if worker is None:
            return
        state = GaugeMetricFamily("tussah_worker_state", "1 for what it is.", labels=["state"])
        for name in WORKER_STATES:
            state.add_metric([name], name == worker.state)
        yield state
        counted, purse = worker.statistics, self.state.purse
        if counted is not None:
            yield CounterMetricFamily("tussah_answers", "Answers given.", counted.answered)
            yield CounterMetricFamily("tussah_tokens", "Tokens written.", counted.tokens)
            yield GaugeMetricFamily("tussah_queue", "Requests that wait.", counted.waiting)
        if purse is not None:
            earned = purse.totals.earned.value
            yield CounterMetricFamily("tussah_earned_nano", "Nanotons earned.", earned)

    def _money(self) -> Iterator[Metric]:
        purse = self.state.purse
        if purse is None:
            return
        totals = purse.totals
        held = {
            "credits": totals.credits.value,
            "set_aside": totals.credits.in_flight,
            "due": totals.due,
            "owed": totals.owed,
            "spent_today": totals.spent_today,
        }
        if purse.balance is not None:
            held["wallet"] = purse.balance
        if purse.minted is not None:
            held["outstanding"] = purse.minted.outstanding
            coins = {"issued": purse.minted.issued, "redeemed": purse.minted.redeemed}
            family = GaugeMetricFamily(
                "tussah_mint_credits", "Credits of keysets that live.", labels=["what"]
            )
            for what, count in coins.items():
                family.add_metric([what], count)
            yield family
        nano = GaugeMetricFamily("tussah_nano", "Nanotons, by where they are.", labels=["what"])
        for what, amount in held.items():
            nano.add_metric([what], amount.value)
        yield nano


def _by(name: str, about: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
