"""A correlator by its parts, against an independent judge, and at the ends of what it may find."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations.adversary import observer
from simulations.adversary.observer import Flow, Observer, Watch, correlation, counts, threshold
from simulations.metrics import Meter

numbers = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=40)


@settings(max_examples=25)
@given(numbers)
def test_rank_correlation_is_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    xs, ys = zip(*pairs, strict=True)
    if len(dict.fromkeys(xs)) == 1 or len(dict.fromkeys(ys)) == 1:
        assert correlation(xs, ys) == 0.0
    else:
        assert correlation(xs, ys) == pytest.approx(stats.spearmanr(xs, ys).statistic)


def test_cells_are_counted_by_quarters_of_a_second():
    assert counts([10.0, 10.1, 10.3, 11.0], 10.0, 5) == [2, 1, 0, 0, 1]


def test_one_wrong_pair_in_a_thousand_passes():
    wrong = [number / 10_000 for number in range(10_000)]
    bar = threshold(wrong)
    assert sum(score > bar for score in wrong) == 10
    assert threshold([0.1, 0.7]) == 0.7
    assert threshold([]) == -1.0


def test_flow_is_most_like_itself_however_late():
    ticks = [0.0, 0.1, 0.15, 1.0, 1.1, 2.7, 2.8, 2.9, 4.0]
    flow = Flow(ticks, [tick + 0.75 for tick in ticks])
    other = Flow(ticks, [0.5, 1.6, 1.7, 2.0, 2.1, 2.2, 3.3, 3.4, 4.6])
    assert observer.score(flow, flow) == pytest.approx(1.0)
    assert observer.score(flow, other) < 0.8


def joined(rate, pause):
    """Share joined of answers that begin so many seconds one after the other."""
    watch = Watch(Observer(rate=rate), seeded(1))
    for number in range(20):
        watch.see(pause * number, 0.1, 200, 30.0)
    meter = Meter(lambda: EPOCH)
    watch.judge(meter)
    (summary,) = meter.summary()
    return summary.mean


def test_answer_that_nobody_elses_overlaps_is_joined_whatever_its_shape():
    """What is not solved: shapes make all alike but for when they begin and end."""
    assert joined(0, 60.0) == joined(4, 60.0) == 1.0
    assert joined(4, 0.1) < joined(0, 0.1)


def test_shaped_answers_are_of_whole_buckets():
    watch = Watch(Observer(rate=4), seeded(2))
    watch.see(100.0, 0.1, 30, 30.0)
    (flow,) = watch._flows
    assert len(flow.worker) == 32
    assert flow.worker[-1] == 108.0
