"""The DHT under those who would hide a value in it, and those who would drown a node of it."""

import pytest

from p2p.bucket import Buckets
from p2p.dht import answering
from p2p.dht import value as values
from p2p.dht.settings import DEFAULT
from p2p.dht.value import Freshness
from p2p.entropy import seeded
from simulations import run, theory
from simulations.adversary.eclipse import grind
from simulations.experiment import load
from simulations.reading import WrongExperiment

BASE = load({"name": "x", "scenario": "dht"}).with_(
    {
        "run.nodes": 40,
        "run.until": 10.0,
        "network.latency": {"kind": "constant", "rtt_ms": 100.0},
        "network.loss": 0.0,
        "workload.lookups_per_node_s": 0.12,
    }
)

ALL = range(10, 10 + 2 * DEFAULT.k)
"""more than keep a value"""


def played(*adversaries, **changes):
    exp = BASE.with_({"adversary": list(adversaries), **changes})
    trial = run.Trial(exp, 1)
    trial.run(exp.run.until)
    return trial


def play(*adversaries, **changes):
    return {str(one.key): one for one in played(*adversaries, **changes).meter.summary()}


def eclipse(nodes, how="forge"):
    return {"kind": "eclipse", "victim": 5, "nodes": list(nodes), "how": how}


def test_ids_can_be_ground_to_be_near():
    key = bytes(32)
    near, far = (grind(key, tries, seeded(1)).id for tries in (200, 1))
    assert near < far
    assert near[0] < 8


@pytest.mark.parametrize(
    "how",
    ["deny", *(pytest.param(how, marks=pytest.mark.slow) for how in ("forge", "silent"))],
)
def test_while_a_keeper_is_honest_the_value_is_found(how):
    found = play(eclipse(ALL[: DEFAULT.k // 2], how))
    assert found["lookup_found{eclipsed}"].count > 30
    assert found["lookup_found{eclipsed}"].mean > 0.9
    assert found["lookup_false{eclipsed}"].mean == 0.0


def test_when_no_keeper_is_honest_it_is_gone_and_no_false_one_is_believed():
    found = play(eclipse(ALL))
    assert found["lookup_found{eclipsed}"].mean < 0.1
    assert found["lookup_false{eclipsed}"].mean == 0.0


def test_who_checks_no_signature_believes_anything(monkeypatch):
    monkeypatch.setattr(values, "check", lambda value, now: Freshness.LIVE)
    assert play(eclipse(ALL))["lookup_false{eclipsed}"].mean > 0.9


FLOOD = 60.0


def test_a_flood_gets_what_a_peer_is_allowed_and_others_their_answers():
    found = play({"kind": "flooder", "nodes": [10], "rate": FLOOD}, **{"run.nodes": 30})
    share = theory.bucket_share(FLOOD, 10.0, allowed=DEFAULT.query_rate, burst=DEFAULT.query_burst)
    assert found["flood_answered"].mean == pytest.approx(share, abs=0.04)
    assert found["lookup_closest"].mean > 0.95


FEW = {"run.nodes": 20, "run.until": 4.0, "protocol.dht.max_peers": 4}


def test_more_peers_than_a_table_may_hold_are_not_held():
    trial = played(**FEW)
    assert trial.audit.checked["I10"] > 50
    assert not trial.audit.violations


def test_a_table_that_holds_them_all_is_told_of(monkeypatch):
    monkeypatch.setattr(
        answering, "Buckets", lambda rate, burst, size: Buckets(rate, burst, 10 * size)
    )
    assert {one.invariant for one in played(**FEW).audit.violations} == {"I10"}


def test_attackers_of_a_dht_are_named():
    with pytest.raises(WrongExperiment, match="adversary drown"):
        play({"kind": "drown"})
    with pytest.raises(WrongExperiment, match="not the victim"):
        play(eclipse([5]))
