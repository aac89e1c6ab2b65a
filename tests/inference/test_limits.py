"""Manners as a table: each rule's edges, its patience, and what all of them share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.limits import APART, Hand, Rules, State, Verdict, decide
from inference.machine import MIB, Gpu, Machine

NOW = 1_795_000_000.0
MAINS = {"on_mains": True, "battery": 90.0}


def machine(**sensors):
    return Machine(cores=8, **sensors)


def gpu(*, others=None, free=8_000 * MIB, heat=None):
    return machine(
        gpus=(
            Gpu(
                name="G",
                backend="cuda",
                vram_total=12_000 * MIB,
                vram_free=free,
                temperature_c=heat,
                others=others,
            ),
        )
    )


def watch(steps, rules, start=NOW):
    """The verdict after each (seconds since the last look, machine)."""
    verdict, now, seen = Verdict(), start, []
    for seconds, seen_machine in steps:
        now += seconds
        verdict = decide(seen_machine, now, rules, verdict)
        seen.append(verdict)
    return seen


TABLE = {
    "on battery: at once; on mains after a minute": (
        Rules(),
        [
            (0, machine(on_mains=False, battery=80.0), "pause"),
            (40, machine(**MAINS), "pause"),
            (59, machine(**MAINS), "pause"),
            (1, machine(**MAINS), "serve"),
        ],
    ),
    "mains that come and go start the minute anew": (
        Rules(),
        [
            (0, machine(on_mains=False, battery=80.0), "pause"),
            (40, machine(**MAINS), "pause"),
            (50, machine(on_mains=False, battery=79.0), "pause"),
            (10, machine(**MAINS), "pause"),
            (60, machine(**MAINS), "serve"),
        ],
    ),
    "a low battery pauses on mains too, and 5 % more are wanted back": (
        Rules(),
        [
            (0, machine(on_mains=True, battery=29.9), "pause"),
            (60, machine(on_mains=True, battery=34.9), "pause"),
            (60, machine(on_mains=True, battery=35.0), "pause"),
            (60, machine(on_mains=True, battery=35.0), "serve"),
        ],
    ),
    "a battery may be allowed, down to the least": (
        Rules(pause_on_battery=False),
        [
            (0, machine(on_mains=False, battery=30.0), "serve"),
            (0, machine(on_mains=False, battery=29.0), "pause"),
        ],
    ),
    "heat: ten seconds over the limit, thirty below it": (
        Rules(),
        [
            (0, machine(hottest_c=83.1), "serve"),
            (9, machine(hottest_c=84.0), "serve"),
            (1, machine(hottest_c=84.0), "pause"),
            (40, machine(hottest_c=76.0), "pause"),  # between the edges
            (40, machine(hottest_c=74.9), "pause"),
            (30, machine(hottest_c=74.9), "serve"),
        ],
    ),
    "heat that is an emergency stops at once, and lets go like the other": (
        Rules(),
        [
            (0, machine(hottest_c=90.0), "serve"),
            (0, machine(hottest_c=90.1), "stop"),
            (2, machine(hottest_c=70.0), "stop"),
            (30, machine(hottest_c=70.0), "serve"),
        ],
    ),
    "the owner's games: five seconds, and a minute of quiet": (
        Rules(),
        [
            (0, gpu(others=0.26), "serve"),
            (5, gpu(others=0.26), "pause"),
            (40, gpu(others=0.1), "pause"),
            (0, gpu(others=0.09), "pause"),
            (60, gpu(others=0.09), "serve"),
        ],
    ),
    "others need the GPU's memory: at once": (
        Rules(),
        [
            (0, gpu(free=512 * MIB), "serve"),
            (0, gpu(free=511 * MIB), "stop"),
            (0, gpu(free=1_023 * MIB), "stop"),
            (0, gpu(free=1_024 * MIB), "stop"),
            (60, gpu(free=1_024 * MIB), "serve"),
        ],
    ),
    "the GPU is not yielded": (
        Rules(yield_gpu=False),
        [(0, gpu(others=1.0, free=0), "serve"), (60, gpu(others=1.0, free=0), "serve")],
    ),
    "the owner's work: half a minute, and a minute of quiet": (
        Rules(),
        [
            (0, machine(load_others=0.76), "serve"),
            (30, machine(load_others=0.76), "pause"),
            (0, machine(load_others=0.5), "pause"),
            (0, machine(load_others=0.49), "pause"),
            (60, machine(load_others=0.49), "serve"),
        ],
    ),
    "the processor is not yielded": (
        Rules(yield_cpu=False),
        [(0, machine(load_others=1.0), "serve"), (99, machine(load_others=1.0), "serve")],
    ),
    "quiet hours wrap around midnight": (
        Rules(quiet=(22 * 60, 7 * 60)),
        [
            (0, machine(minute=22 * 60 - 1), "serve"),
            (60, machine(minute=22 * 60), "pause"),
            (7_200, machine(minute=0), "pause"),
            (60, machine(minute=7 * 60 - 1), "pause"),
            (60, machine(minute=7 * 60), "serve"),
        ],
    ),
    "quiet hours within a day": (
        Rules(quiet=(9 * 60, 17 * 60)),
        [
            (0, machine(minute=8 * 60), "serve"),
            (60, machine(minute=12 * 60), "pause"),
            (60, machine(minute=17 * 60), "serve"),
        ],
    ),
    "a metered network": (
        Rules(),
        [(0, machine(metered=True), "pause"), (30, machine(metered=False), "serve")],
    ),
    "a metered network that may be used": (
        Rules(pause_on_metered=False),
        [(0, machine(metered=True), "serve")],
    ),
    "two changes are apart, except for an emergency": (
        Rules(),
        [
            (0, machine(metered=True), "pause"),
            (1, machine(metered=False), "pause"),
            (28, machine(metered=False), "pause"),
            (1, machine(metered=False), "serve"),
            (1, machine(metered=True), "serve"),
            (1, machine(metered=True, hottest_c=99.0), "stop"),
        ],
    ),
    "no sensors, no rules": (Rules(), [(0, machine(), "serve"), (60, machine(), "serve")]),
    "a rule whose sensor is gone lets go": (
        Rules(),
        [(0, machine(hottest_c=99.0), "stop"), (30, machine(), "serve")],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_rules(name):
    rules, steps = TABLE[name]
    seen = watch([(seconds, at) for seconds, at, _ in steps], rules)
    assert [verdict.state.value for verdict in seen] == [expected for *_, expected in steps]


def test_a_pause_by_hand_beats_everything_until_its_time():
    rules = Rules(hand=Hand(until=NOW + 7_200))
    paused = decide(machine(**MAINS), NOW, rules, Verdict())
    assert (paused.state, paused.until) == (State.PAUSE, NOW + 7_200)
    almost = decide(machine(**MAINS), NOW + 7_199, rules, paused)
    assert almost.state is State.PAUSE
    assert decide(machine(**MAINS), NOW + 7_200, rules, almost).state is State.SERVE


def test_the_owners_word_waits_for_nothing():
    hot = decide(machine(metered=True), NOW, Rules(), Verdict())
    stopped = decide(machine(metered=False), NOW + 1, Rules(hand=Hand(stop=True)), hot)
    assert stopped.state is State.STOP
    assert decide(machine(metered=False), NOW + 2, Rules(), stopped).state is State.SERVE


def test_what_is_resumed_by_hand_still_obeys_the_other_rules():
    held = machine(on_mains=False, battery=41.0)
    paused = decide(held, NOW, Rules(hand=Hand()), Verdict())
    assert len(paused.reasons) == 2
    resumed = decide(held, NOW + 1, Rules(), paused)
    assert resumed.state is State.PAUSE
    assert resumed.reasons == ("on battery (41 %); resumes on mains",)


def test_until_is_told_only_if_every_reason_has_an_end():
    quiet = Rules(quiet=(22 * 60, 7 * 60))
    alone = decide(machine(minute=23 * 60), NOW, quiet, Verdict())
    assert alone.until == NOW + 8 * 3_600
    assert alone.reasons == ("quiet hours; resumes at 07:00",)
    both = decide(machine(minute=23 * 60, metered=True), NOW, quiet, Verdict())
    assert both.until is None


@given(
    st.lists(
        st.tuples(
            st.floats(1, 40),
            st.floats(60, 100),
            st.floats(0, 1),
            st.booleans(),
            st.sampled_from([None, True]),
        ),
        max_size=40,
    )
)
def test_no_state_flickers_and_every_pause_has_a_reason(steps):
    looks = [
        (seconds, machine(hottest_c=heat, load_others=load, metered=metered, battery=50.0,
                          on_mains=mains))
        for seconds, heat, load, metered, mains in steps
    ]  # fmt: skip
    now, before = NOW, Verdict()
    for (seconds, at), verdict in zip(looks, watch(looks, Rules()), strict=True):
        now += seconds
        if verdict.state is not before.state:
            assert verdict.state is State.STOP or now - before.changed >= APART
        assert (verdict.state is State.SERVE) or verdict.reasons
        before = verdict
        assert at is not None
