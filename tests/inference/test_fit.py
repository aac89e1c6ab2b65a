"""What fits a machine: a table of machines and models, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.fit import FIXED, GPU_RESERVE, LEAST_CONTEXT, Fit, Need, Unfit, Wish, plan
from inference.machine import MIB, Gpu, Machine

GB = 1_000_000_000
TINY = Need(96_576_768, 23_040, 30, 134_515_008, 49_152, 576)
"""The built-in model."""
EIGHT = Need(4_900 * MIB, 131_072, 32, 8_030_000_000, 128_256, 4_096)
"""An 8B model at four bits."""


def machine(ram=None, vram=None, total=24 * GB):
    gpus = (
        () if vram is None else (Gpu(name="G", backend="cuda", vram_total=total, vram_free=vram),)
    )
    return Machine(cores=8, ram_available=ram, gpus=gpus)


@pytest.mark.parametrize(
    ("at", "need", "wish", "expected"),
    [
        # a server without a GPU
        (machine(ram=16 * GB), TINY, Wish(), ("cpu", 4, 4_096, 0)),
        (machine(ram=16 * GB), TINY, Wish(slots=1), ("cpu", 1, 4_096, 0)),
        (machine(ram=16 * GB), TINY, Wish(slots=9), ("cpu", 9, 4_096, 0)),
        (machine(ram=16 * GB), TINY, Wish(context=512), ("cpu", 4, 512, 0)),
        (machine(ram=16 * GB), EIGHT, Wish(), ("cpu", 2, 4_096, 0)),
        # the context gives way before the model does, but not below the least
        (machine(ram=12 * GB), EIGHT, Wish(context=32_768), ("cpu", 1, 8_192, 0)),
        (machine(ram=11 * GB), EIGHT, Wish(context=32_768), ("cpu", 1, 4_096, 0)),
        (machine(ram=9 * GB), EIGHT, Wish(), None),
        (machine(ram=700_000_000), TINY, Wish(), ("cpu", 1, 4_096, 0)),
        (machine(ram=400_000_000), TINY, Wish(), None),
        # a GPU: all layers and the output's
        (machine(ram=16 * GB, vram=8 * GB), EIGHT, Wish(), ("gpu", 1, 4_096, 33)),
        (machine(ram=16 * GB, vram=24 * GB), EIGHT, Wish(), ("gpu", 16, 4_096, 33)),
        (machine(ram=16 * GB, vram=24 * GB), EIGHT, Wish(slots=2), ("gpu", 2, 4_096, 33)),
        (
            machine(ram=16 * GB, vram=8_500_000_000),
            EIGHT,
            Wish(context=16_384),
            ("gpu", 1, 8_192, 33),
        ),
        # part of it, if that is at least half
        (machine(ram=16 * GB, vram=6 * GB), EIGHT, Wish(), ("partly", 1, 4_096, 24)),
        (machine(ram=16 * GB, vram=4 * GB), EIGHT, Wish(), ("cpu", 2, 4_096, 0)),
        # a desktop's reserve counts where the share would leave less
        (machine(ram=16 * GB, vram=GPU_RESERVE), TINY, Wish(), ("cpu", 4, 4_096, 0)),
        # nobody knows how much memory there is
        (machine(), TINY, Wish(), ("cpu", 1, 4_096, 0)),
    ],
)
def test_what_fits(at, need, wish, expected):
    fit = plan(at, need, wish)
    if expected is None:
        assert isinstance(fit, Unfit)
        assert fit.need > fit.have
        return
    chosen = fit.plan
    assert (fit.where, chosen.slots, chosen.context, chosen.gpu_layers) == expected


def test_why_is_said():
    assert plan(machine(ram=16 * GB), TINY, Wish()).words == (
        "runs on the processor: 0.7 GB of the 9.6 GB that it may take"
    )
    assert plan(machine(ram=9 * GB), EIGHT, Wish()).words == (
        "needs 6.2 GB of memory, and may take 5.4 GB"
    )
    assert "24 of its 32 layers" in plan(machine(ram=16 * GB, vram=6 * GB), EIGHT, Wish()).words


NEEDS = st.builds(
    Need,
    st.integers(1, 80 * GB),
    st.integers(0, 1_000_000),
    st.integers(1, 128),
    st.integers(1, 10**11),
    st.integers(0, 300_000),
    st.integers(0, 16_384),
)
WISHES = st.builds(
    Wish, context=st.sampled_from([512, 4_096, 32_768]), slots=st.sampled_from([None, 1, 4, 16])
)


@given(NEEDS, WISHES, st.integers(0, 64 * GB), st.integers(0, 64 * GB))
def test_no_plan_is_above_what_may_be_taken(need, wish, ram, vram):
    fit = plan(machine(ram=ram, vram=vram, total=64 * GB), need, wish)
    if isinstance(fit, Unfit):
        assert fit.need > fit.have
        return
    assert fit.vram <= max(0, min(wish.vram_share * vram, vram - GPU_RESERVE))
    assert fit.where == "partly" or fit.ram <= max(FIXED, wish.ram_share * ram)
    assert min(wish.context, LEAST_CONTEXT) <= fit.plan.context <= wish.context
    assert 1 <= fit.plan.slots <= (wish.slots or 16)


ORDER = {"no": 0, "cpu": 1, "partly": 2, "gpu": 3}


@given(NEEDS, WISHES, st.integers(0, 64 * GB), st.integers(0, 64 * GB), st.integers(0, 8 * GB))
def test_more_memory_never_fits_less(need, wish, ram, vram, more):
    before = plan(machine(ram=ram, vram=vram), need, wish)
    after = plan(machine(ram=ram + more, vram=vram + more), need, wish)
    where = [each.where if isinstance(each, Fit) else "no" for each in (before, after)]
    assert ORDER[where[0]] <= ORDER[where[1]]
    if where[0] == where[1] != "no" and before.plan.context == after.plan.context:
        assert before.plan.gpu_layers <= after.plan.gpu_layers


def test_threads_and_the_cache_are_the_owners():
    fit = plan(machine(ram=16 * GB), TINY, Wish(threads=3, kv_type="q8_0"))
    assert (fit.plan.threads, fit.plan.kv_type) == (3, "q8_0")
