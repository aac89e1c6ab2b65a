"""Row 14: who is best gets most where askers rank, and an even share where they draw."""

import math

import pytest

from simulations import theory
from simulations.reading import WrongExperiment

WORKERS, ATTACKERS = 60, 5


@pytest.fixture(params=[1, pytest.param(12, marks=pytest.mark.slow)])
def more(request):
    return request.param


def fair(rate=1.0, best=0, slots=16, adversary=None, clients=200):
    nodes = clients + WORKERS
    return {
        "run": {"nodes": nodes},
        "nodes": {"mix": {"client": clients / nodes, "worker": WORKERS / nodes}},
        "workload": {"arrivals": {"kind": "poisson", "rate": rate}},
        "protocol": {"market.best": best, "queue.slots": slots},
        "adversary": [adversary or {"kind": "steer", "share": ATTACKERS / WORKERS}],
    }


def share(form, count):
    return pytest.approx(form, abs=3.0 * math.sqrt(form * (1.0 - form) / count))


@pytest.mark.parametrize("best", [5, 10, 20])
def test_attackers_who_are_cheapest_get_their_part_of_the_best_few(play, best, more):
    _, seen = play("market", 120 * more, **fair(best=best))
    asks = seen["bad_worker"]
    assert asks.mean == share(theory.steered(ATTACKERS, best), asks.count)
    assert seen["candidate_workers"].mean == best


@pytest.mark.parametrize("lure", [{"price": 0.01, "speed": 10.0}, {"price": 5.0, "speed": 0.5}])
def test_no_price_and_no_speed_changes_an_attackers_share_of_the_real_market(play, lure, more):
    adversary = {"kind": "steer", "share": ATTACKERS / WORKERS, **lure}
    _, seen = play("market", 120 * more, **fair(adversary=adversary))
    asks = seen["bad_worker"]
    assert asks.mean == share(theory.even(ATTACKERS, WORKERS), asks.count)
    assert seen["candidate_workers"].mean == WORKERS


def test_many_names_in_one_block_of_addresses_are_one_slot(play, more):
    adversary = {"kind": "sybil", "workers": 40, "blocks": 2}
    _, seen = play("market", 120 * more, **fair(adversary=adversary))
    assert seen["bad_worker"].mean == share(2 / (WORKERS + 2), seen["bad_worker"].count)
    assert seen["candidate_workers"].mean == WORKERS + 2


def test_ranking_overloads_the_best_where_drawing_serves_all(play):
    """One slot each: five workers cannot do what sixty do, and their askers cool off."""
    ranked = play("market", 25, **fair(rate=4.0, best=5, slots=1))[1]
    drawn = play("market", 25, **fair(rate=4.0, slots=1))[1]
    assert ranked["ask_outcome{error}"].total > ranked["ask_outcome{answer}"].total
    assert "ask_outcome{error}" not in drawn
    assert ranked["worker_load"].mean > 2 * drawn["worker_load"].mean


def test_what_is_paid_is_the_price_of_who_was_drawn(play):
    cheap = {"kind": "steer", "share": 1 - 1 / WORKERS, "price": 0.0}
    _, seen = play("market", 100, **fair(adversary=cheap))
    assert seen["price_nano"].quantiles[50] == 0.0 < seen["price_nano"].quantiles[100]


def test_same_seed_same_digest(play):
    digests = [play("market", 30, seed=seed, **fair())[0].log.digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_attacker_of_another_scenario_is_refused(play):
    with pytest.raises(WrongExperiment, match="steer, sybil"):
        play("market", 1, **fair(adversary={"kind": "relays"}))
