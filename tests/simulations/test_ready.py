"""The ready experiments of choices and queues: each runs, measures what it asks, and repeats."""

import pytest

from simulations import experiment, run

SHORT = {
    "onion-adversary": (6_000, {"users_linked", "linked", "linked_prompt"}),
    "onion-latency": (15, {"path_s", "ttft_s", "circuit_build_s"}),
    "price-war": (10, {"bad_worker", "worker_load", "candidate_workers"}),
    "queueing": (60, {"wait_s", "worker_load", "ask_outcome"}),
}


@pytest.mark.parametrize("name", SHORT)
def test_ready_experiment_measures_what_it_asks_and_repeats(name):
    until, metrics = SHORT[name]
    exp = experiment.load(name).with_(until=until)
    first, again = (run.run(exp, 1) for _ in range(2))
    assert first.outcome == "ok", first.detail
    assert first.digest == again.digest
    assert metrics <= {each.key.metric for each in first.summaries}
    assert exp.question.endswith(("?", ".", "rate."))


@pytest.mark.parametrize("name", SHORT)
def test_every_point_of_a_ready_experiment_is_one(name):
    exp = experiment.load(name)
    points = [exp for _, exp in exp.points()]
    assert len({point.config_hash() for point in points}) == len(points) >= 3
    assert exp.quicker().run.until < exp.run.until
