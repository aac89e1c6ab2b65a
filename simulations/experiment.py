"""What an experiment is: a scenario, its setting, its faults, and over what it is repeated.

An experiment comes from a TOML file, a ready one's name, or a mapping, and holds nothing but
values; `simulations.run` runs it. Unknown keys, wrong types and values out of range are
`WrongExperiment`. Every default stands here.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from simulations import knobs
from simulations.reading import (
    REST,
    Between,
    Form,
    Keys,
    Tree,
    WrongExperiment,
    plain,
    read,
    unknown,
)

Scalar: TypeAlias = bool | int | float | str

MAX_FILE: Final = 1_000_000
"""bytes of an experiment's file: it is text that a person has written."""

MAX_RUNS: Final = 10_000
"""runs of one sweep: a night of one machine."""

READY: Final = Path(__file__).parent / "experiments"
"""Where the ready experiments are."""

ROLES: Final = ("client", "relay", "worker", "mint")

REGIONS: Final = ("NA", "EU", "SA", "AP", "JP", "AU")

NATS: Final = (
    "open",
    "firewall",
    "full_cone",
    "restricted",
    "port_restricted",
    "symmetric",
    "cgnat",
    "blocked",
)

Share: TypeAlias = Annotated[float, Between(0.0, 1.0)]
Seconds: TypeAlias = Annotated[float, Between(0.0, 1e7)]
Positive: TypeAlias = Annotated[float, Between(0.0, 1e9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How big, how long, how often."""

    nodes: Annotated[int, Between(1, 50_000)] = 100
    until: Annotated[float, Between(2.0**-20, 1e7)] = 60.0
    """virtual seconds"""
    seeds: Annotated[str, Form(r"\d{1,18}(\.\.\d{1,18})?", "a seed or two, like 7 or 0..9")] = (
        "0..9"
    )
    warmup: Literal["auto"] | Seconds = "auto"
    """seconds that are left out of means; auto: MSER-5 of each series"""
    log: Annotated[
        str, Form(r"off|digest|full|sample:(0?\.\d+|1(\.0*)?)", "off, digest, full or sample:0.01")
    ] = "digest"
    level: Literal["L1", "L2", "L3"] = "L1"
    """L1: the discrete-event world; L2: the production driver under a virtual clock; L3: a process
    a node, on loopback, in real time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The population."""

    start: Literal["warm", "cold"] = "warm"
    link: Literal["plain", "adnl"] = "plain"
    mix: Annotated[Mapping[str, Share], Keys(ROLES)] = field(
        default_factory=lambda: {"client": 0.7, "relay": 0.2, "worker": 0.09, "mint": 0.01}
    )
    capability: str = ""
    """file with a table of machines; empty: the one that is built in"""
    skew_ms: Positive = 0.0
    """standard deviation of the nodes' clocks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a datagram takes."""

    kind: Literal["constant", "coordinates", "regions", "matrix"] = "matrix"
    rtt_ms: Annotated[float, Between(0.0, 1e5)] = 100.0
    sigma_ms: Annotated[float, Between(0.0, 1e4)] = 30.0
    share: Annotated[Mapping[str, Share], Keys(REGIONS)] = field(default_factory=dict)
    """of nodes per region; empty: those of Bitcoin's nodes in 2019"""
    file: str = ""
    """the matrix; empty: TUSSAH_DATA's, or the quantiles of PlanetLab that are built in"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GilbertElliott:
    """Loss in bursts: two states of a directed pair, advanced once a datagram."""

    p_good_bad: Share
    p_bad_good: Share
    loss_bad: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is between the nodes."""

    latency: Latency = field(default_factory=Latency)
    jitter: Annotated[float, Between(0.0, 10.0)] = 0.1
    """share of a delay that is added at most, drawn for each datagram"""
    loss: Share | GilbertElliott = 0.01
    uplink_mbps: Literal["regions", "none"] | Annotated[float, Between(0.001, 1e6)] = "regions"
    downlink_mbps: Literal["regions", "none"] | Annotated[float, Between(0.001, 1e6)] = "regions"
    queue_ms: Annotated[float, Between(0.0, 1e5)] = 200.0
    """of a line's queue; what comes when it is full is dropped"""
    nat: Literal["none"] | Annotated[Mapping[str, Share], Keys(NATS)] = "none"
    """share of nodes behind each class of NAT"""
    nat_lifetime: Seconds = 60.0
    """seconds a mapping lives after the last datagram outwards"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weibull:
    """Lengths of sessions."""

    k: Annotated[float, Between(0.05, 20.0)]
    lambda_min: Annotated[float, Between(0.001, 1e6)]
    """minutes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """How nodes come and go."""

    sessions: Literal["none", "debian", "redhat", "flatout"] | Weibull = "none"
    online: Share = 0.7
    """share of the nodes that is up at any time"""
    diurnal: Share = 0.0
    """amplitude of a day's wave"""
    graceful: Share = 0.3
    """share of those leaving that say so"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests come."""

    kind: Literal["none", "poisson", "gamma", "trace"] = "none"
    rate: Positive = 1.0
    """a second, of the whole network"""
    shape: Annotated[float, Between(0.001, 1000.0)] = 1.0
    """of gamma-distributed gaps"""
    file: str = ""
    """of a trace"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of the network."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    lengths: Literal["conv", "code"] = "conv"
    """tokens of prompts and answers: Azure's conversations or code"""
    lookups_per_node_s: Annotated[float, Between(0.0, 1000.0)] = 0.0
    publishes_per_s: Annotated[float, Between(0.0, 1e5)] = 0.0
    turns: Annotated[float, Between(1.0, 1000.0)] = 4.0
    """questions of a conversation, on average"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """An attacker: what it does, with how many nodes, from when and for how long."""

    kind: str
    share: Share = 0.0
    nodes: tuple[int, ...] = ()
    at: Seconds = 0.0
    duration: Seconds = field(default=0.0, metadata={"key": "for"})
    """seconds; 0: to the end"""
    knobs: Annotated[Mapping[str, Scalar], REST] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong: once at a time, or at a rate."""

    kind: str
    share: Share = 0.0
    nodes: tuple[int, ...] = ()
    at: Seconds = 0.0
    duration: Seconds = field(default=0.0, metadata={"key": "for"})
    rate: Annotated[float, Between(0.0, 1e6)] = 0.0
    """a second; 0: once, at `at`"""
    knobs: Annotated[Mapping[str, Scalar], REST] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is written down and watched."""

    metrics: Literal["all"] | tuple[str, ...] = "all"
    bucket: Annotated[float, Between(0.001, 1e6)] = 1.0
    """seconds of a point of a series"""
    invariants: Literal["all", "none"] | tuple[str, ...] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Over which values the experiment is repeated; every combination, every seed."""

    grid: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a run stops, with the outcome `limit`."""

    records: Annotated[int, Between(1, 10**12)] = 10**9
    rss_mb: Annotated[float, Between(1.0, 1e6)] = 4096.0
    wall_s: Annotated[float, Between(0.01, 1e6)] = 3600.0


ScenarioName: TypeAlias = Literal[
    "dht", "directory", "onion", "market", "queue", "lanes", "closing", "town"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A whole experiment. `with_` makes another one of it."""

    name: Annotated[str, Form(r"[a-z0-9][a-z0-9-]{0,63}", "lower-case words joined by -")]
    scenario: ScenarioName
    """what is run: `simulations.scenarios` says what each measures"""
    question: str = ""
    version: Annotated[int, Between(1, 1)] = 1
    run: Run = field(default_factory=Run)
    nodes: Nodes = field(default_factory=Nodes)
    network: Network = field(default_factory=Network)
    churn: Churn = field(default_factory=Churn)
    workload: Workload = field(default_factory=Workload)
    protocol: Mapping[str, Scalar] = field(default_factory=dict)
    """numbers of the protocol that differ from its defaults, by `part.name`"""
    adversary: tuple[Adversary, ...] = ()
    fault: tuple[Fault, ...] = ()
    measure: Measure = field(default_factory=Measure)
    sweep: Sweep = field(default_factory=Sweep)
    limits: Limits = field(default_factory=Limits)
    quick: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    """what `--quick` sets, by dotted key: the same question, answered roughly in 20 s"""

    def with_(self, changes: Mapping[str, object] | None = None, **named: object) -> "Experiment":
        """This experiment with other values, by dotted key; a bare one may be of `run`.

        What is set is no longer varied by the grid, unless the grid is set, too.
        """
        tree = as_tree(self)
        given = {**(changes or {}), **named}
        full = {_full_key(key, value): value for key, value in given.items()}
        for key, value in full.items():
            _put(tree, key, value)
        if not any(key.startswith("sweep") for key in full):
            _pin(tree, full)
        return from_tree(tree)

    def quicker(self) -> "Experiment":
        """As `--quick` runs it."""
        return self.with_(self.quick)

    def seeds(self) -> range:
        """The seeds it is repeated with."""
        return seeds(self.run.seeds)

    def points(self) -> "Iterator[tuple[Mapping[str, Scalar], Experiment]]":
        """Every combination of the grid, and the experiment at it, which has no grid."""
        base = self.with_({"sweep.grid": {}})
        for values in product(*self.sweep.grid.values()):
            point = dict(zip(self.sweep.grid, values, strict=True))
            yield point, base.with_(point)

    def config_hash(self) -> str:
        """Names what is simulated, whatever its seeds, limits and grid."""
        tree = as_tree(self)
        run = tree["run"]
        assert isinstance(run, dict)
        del tree["sweep"], tree["limits"], tree["quick"], run["seeds"]
        return blake2b(canonical(tree), digest_size=16).hexdigest()


def load(source: str | Path | Mapping[str, object]) -> Experiment:
    """An experiment by a ready one's name, from a file, or from a mapping."""
    if isinstance(source, Mapping):
        return from_tree(_unflattened(source))
    path = _ready(str(source)) if isinstance(source, str) else source
    return parse(_text(path))


def parse(text: str) -> Experiment:
    """An experiment from the text of its file."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongExperiment(f"This is no TOML: {error}.") from error
    return from_tree(_unflattened(tree))


def ready() -> list[str]:
    """The names of the ready experiments."""
    return sorted(path.stem for path in READY.glob("*.toml"))


def from_tree(tree: Mapping[str, object]) -> Experiment:
    """An experiment from its tables, checked."""
    exp = read(Experiment, tree)
    seeds(exp.run.seeds)
    _add_up("nodes.mix", exp.nodes.mix)
    _add_up("network.latency.share", exp.network.latency.share)
    if isinstance(exp.network.nat, Mapping):
        _add_up("network.nat", exp.network.nat)
    for name, value in exp.protocol.items():
        knobs.check(name, value)
    _check_grid(exp)
    return exp


def as_tree(exp: Experiment) -> Tree:
    """An experiment's tables, all defaults written out."""
    tree = plain(exp)
    assert isinstance(tree, dict)
    return tree


def canonical(value: object) -> bytes:
    """The one JSON of a value: what is hashed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def seeds(text: str) -> range:
    """The seeds that `7` or `0..9` names."""
    first, _, last = text.partition("..")
    try:
        found = range(int(first), int(last or first) + 1)
    except ValueError:
        raise WrongExperiment(f"{text!r} names no seeds; 7 or 0..9 does.") from None
    if not found:
        raise WrongExperiment(f"run.seeds {text} is empty: the first seed is above the last.")
    return found


def setting(text: str) -> tuple[str, object]:
    """Key and value of `key=value`, the value as TOML has it, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise WrongExperiment(f"{text!r} sets nothing: write key=value.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


# --- keys ---

_FREE: Final = ("protocol.", "sweep.grid.", "quick.")
"""Tables whose keys have dots themselves."""


def _full_key(key: str, value: object) -> str:
    bare = key in Run.__slots__ and not isinstance(value, Mapping)
    return f"run.{key}" if bare else key


def _put(tree: Tree, key: str, value: object) -> None:
    """Set a value by its dotted key, making tables on the way."""
    at: object = tree
    parts = _parts(key)
    for part in parts[:-1]:
        at = _inside(at, part, key)
    if isinstance(at, dict):
        at[parts[-1]] = value
    else:
        raise unknown(key, tree)


def _pin(tree: Tree, keys: Iterable[str]) -> None:
    """Take keys out of the grid."""
    sweep = tree["sweep"]
    if isinstance(sweep, dict) and isinstance(sweep["grid"], dict):
        for key in keys:
            sweep["grid"].pop(key, None)


def _parts(key: str) -> list[str]:
    for free in _FREE:
        if key.startswith(free):
            return [*free[:-1].split("."), key.removeprefix(free)]
    return key.split(".")


def _inside(at: object, part: str, key: str) -> object:
    if isinstance(at, list) and part.isdecimal() and int(part) < len(at):
        return at[int(part)]
    if not isinstance(at, dict):
        raise WrongExperiment(f"There is no {key}.")
    if not isinstance(at.get(part), dict | list):
        at[part] = {}
    return at[part]


def _unflattened(tree: Mapping[str, object]) -> Tree:
    """A file's tables, with the dotted keys of the protocol's and of `quick`'s as single ones."""
    found = dict(tree)
    for section in ("protocol", "quick"):
        inner = found.get(section)
        if isinstance(inner, Mapping):
            found[section] = dict(_flat(inner, section))
    sweep = found.get("sweep")
    if isinstance(sweep, Mapping) and isinstance(sweep.get("grid"), Mapping):
        found["sweep"] = {**sweep, "grid": dict(_flat(sweep["grid"], "grid"))}
    return found


def _flat(
    table: Mapping[str, object], where: str, before: str = ""
) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, where, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


# --- files and checks ---


def _ready(name: str) -> Path:
    if name in ready():
        return READY / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" or "/" in name or path.is_file():
        return path
    raise unknown(name, ready())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE:
            raise WrongExperiment(f"{path} is larger than {MAX_FILE // 1000} kB: no experiment is.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongExperiment(f"{path} cannot be read: {error}.") from error


def _add_up(where: str, shares: Mapping[str, float]) -> None:
    total = sum(shares.values())
    if shares and abs(total - 1.0) > 1e-6:
        raise WrongExperiment(f"The shares of {where} add up to {total:g}, not to 1.")


def _check_grid(exp: Experiment) -> None:
    runs = len(exp.seeds())
    for values in exp.sweep.grid.values():
        runs *= len(values)
    if runs > MAX_RUNS:
        raise WrongExperiment(f"The sweep has {runs} runs; {MAX_RUNS} are the most.")
    if not exp.sweep.grid:
        return
    base = exp.with_({"sweep.grid": {}})
    for key, values in exp.sweep.grid.items():
        for value in values:
            base.with_({key: value})
