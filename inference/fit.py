"""How much of a model fits this machine: layers on the GPU, answers at once, tokens of context.

The steps, the first that holds wins:
  1. weights, buffers and one answer's cache fit the GPU: all layers there, slots by what is left
  2. the same with half the context, and half again, down to `LEAST_CONTEXT`
  3. at least half of the layers fit: those on the GPU, one or two slots
  4. the processor and main memory, the context halved likewise
  5. nothing: `Unfit`
A plan is an estimate; the load is the proof.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from inference import gguf
from inference.engine.base import Plan
from inference.machine import MIB, Gpu, Machine

FIXED: Final = 80 * MIB
"""bytes of an engine beside weights, cache and buffers, as measured"""

LEAST_BUFFERS: Final = 64 * MIB
GPU_RESERVE: Final = 1024 * MIB
"""bytes of a GPU's memory that stay free whatever the share: what a desktop takes in a moment"""

LEAST_CONTEXT: Final = 4_096
"""tokens below which a context is not shortened to make a model fit"""

MOST_SLOTS_GPU: Final = 16
MOST_SLOTS_CPU: Final = 4
MOST_SLOTS_LARGE: Final = 2
"""answers at once; the last for layers on both sides, and for a model of `LARGE` on a processor"""

LARGE: Final = 3_000_000_000
"""parameters from which a processor answers few at once"""

UBATCH: Final = 512
"""tokens of one kernel call: what the buffers are made for"""

Where: TypeAlias = Literal["gpu", "partly", "cpu"]


class Need(NamedTuple):
    """What a model takes, wherever that is known from: its file, or a catalogue."""

    weights: int
    """bytes"""
    kv_per_token: int
    """bytes of cache"""
    layers: int
    parameters: int
    vocabulary: int = 0
    embedding_length: int = 0

    @classmethod
    def of(cls, capability: gguf.Capability, kv_type: str = "f16") -> "Need":
        """By the model's own file."""
        return cls(
            weights=capability.weights,
            kv_per_token=capability.kv_bytes(kv_type),
            layers=capability.layers,
            parameters=capability.parameters,
            vocabulary=capability.vocabulary,
            embedding_length=capability.embedding_length,
        )

    @property
    def buffers(self) -> int:
        """Bytes to compute in."""
        return max(LEAST_BUFFERS, UBATCH * (4 * self.vocabulary + 64 * self.embedding_length))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the owner wants, and what of the machine may be taken for it."""

    context: int = 4_096
    """tokens"""
    slots: int | None = None
    """answers at once at the most; None: what fits"""
    vram_share: float = 0.8
    ram_share: float = 0.6
    """of what is free"""
    threads: int = 0
    """0: the engine picks"""
    kv_type: str = "f16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A way to run a model here."""

    where: Where
    plan: Plan
    vram: int
    """bytes on the GPU"""
    ram: int
    """bytes in main memory"""
    words: str
    """for people: what it takes of what there is"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """There is no way."""

    need: int
    have: int
    """bytes of memory"""
    words: str


def plan(machine: Machine, need: Need, wish: Wish) -> Fit | Unfit:
    """The best way to run a model on this machine; see the module."""
    gpu = machine.gpu
    on_gpu = _on_gpu(gpu, need, wish) if gpu is not None else None
    return on_gpu or _on_cpu(machine, need, wish)


# --- a GPU ---


def _on_gpu(gpu: Gpu, need: Need, wish: Wish) -> Fit | None:
    budget = min(int(wish.vram_share * gpu.vram_free), gpu.vram_free - GPU_RESERVE)
    for context in _contexts(wish.context):
        cache = need.kv_per_token * context
        if need.weights + need.buffers + cache <= budget:
            return _whole(gpu, need, wish, context=context, budget=budget)
    return _partly(gpu, need, wish, budget)


def _whole(gpu: Gpu, need: Need, wish: Wish, *, context: int, budget: int) -> Fit:
    cache = need.kv_per_token * context
    slots = _slots(budget - need.weights - need.buffers, cache, MOST_SLOTS_GPU, wish)
    vram = need.weights + need.buffers + slots * cache
    return Fit(
        where="gpu",
        plan=_plan(wish, context=context, slots=slots, gpu_layers=need.layers + 1),
        vram=vram,
        ram=FIXED,
        words=f"fits {gpu.name}: {_size(vram)} of the {_size(budget)} that it may take there",
    )


def _partly(gpu: Gpu, need: Need, wish: Wish, budget: int) -> Fit | None:
    context = min(wish.context, LEAST_CONTEXT)
    cache, each = need.kv_per_token * context, need.weights / max(1, need.layers)
    room = budget - need.buffers - cache
    layers = min(need.layers, int(room / each)) if each else 0
    if room <= 0 or 2 * layers < need.layers or not layers:
        return None
    slots = _slots(budget - need.buffers - int(layers * each), cache, MOST_SLOTS_LARGE, wish)
    moved = int(layers * each)
    return Fit(
        where="partly",
        plan=_plan(wish, context=context, slots=slots, gpu_layers=layers),
        vram=moved + need.buffers + slots * cache,
        ram=need.weights - moved + FIXED,
        words=f"{layers} of its {need.layers} layers fit {gpu.name}, the others the processor",
    )


# --- a processor ---


def _on_cpu(machine: Machine, need: Need, wish: Wish) -> Fit | Unfit:
    most = MOST_SLOTS_CPU if need.parameters < LARGE else MOST_SLOTS_LARGE
    if machine.ram_available is None:
        return _blind(need, wish)
    budget = int(wish.ram_share * machine.ram_available)
    fixed = need.weights + need.buffers + FIXED
    for context in _contexts(wish.context):
        cache = need.kv_per_token * context
        if fixed + cache <= budget:
            slots = _slots(budget - fixed, cache, most, wish)
            ram = fixed + slots * cache
            words = f"runs on the processor: {_size(ram)} of the {_size(budget)} that it may take"
            chosen = _plan(wish, context=context, slots=slots, gpu_layers=0)
            return Fit(where="cpu", plan=chosen, vram=0, ram=ram, words=words)
    least = fixed + need.kv_per_token * min(wish.context, LEAST_CONTEXT)
    words = f"needs {_size(least)} of memory, and may take {_size(budget)}"
    return Unfit(need=least, have=budget, words=words)


def _blind(need: Need, wish: Wish) -> Fit:
    """Nobody knows how much memory there is: one answer at a time, and the load tells."""
    slots = wish.slots or 1
    ram = need.weights + need.buffers + FIXED + slots * need.kv_per_token * wish.context
    return Fit(
        where="cpu",
        plan=_plan(wish, context=wish.context, slots=slots, gpu_layers=0),
        vram=0,
        ram=ram,
        words=f"needs {_size(ram)} of memory; how much there is, this machine does not say",
    )


# --- both ---


def _contexts(wished: int) -> Iterator[int]:
    """As wished, and halves of it down to the least."""
    while wished > LEAST_CONTEXT:
        yield wished
        wished = max(LEAST_CONTEXT, wished // 2)
    yield wished


def _slots(room: int, cache: int, most: int, wish: Wish) -> int:
    """Answers at once: what fits, no more than is wished, and one at the least."""
    fit = room // cache if cache else most
    return max(1, min(fit, most if wish.slots is None else wish.slots))


def _plan(wish: Wish, *, context: int, slots: int, gpu_layers: int) -> Plan:
    return Plan(
        context=context,
        slots=slots,
        ubatch=UBATCH,
        threads=wish.threads,
        gpu_layers=gpu_layers,
        kv_type=wish.kv_type,
    )


def _size(size: int) -> str:
    return f"{max(0, size) / 1e9:.1f} GB"
