"""Level L3: processes on loopback, held against the simulated world."""

import pytest

from p2p.wire import Endpoint
from simulations import run
from simulations.agreement import Agreement, agreement, setting
from simulations.loopback import Wire
from simulations.reading import WrongExperiment


@pytest.mark.parametrize(
    "change",
    [
        {"scenario": "town"},
        {"run.nodes": 51},
        {"churn.sessions": "debian"},
        {"adversary": [{"kind": "boastful", "share": 0.5}]},
    ],
    ids=str,
)
def test_what_has_no_level_l3_is_refused_before_a_process_starts(change):
    with pytest.raises(WrongExperiment, match="Level L3"):
        run.Trial(setting().with_({"run.level": "L3", **change}), 1)


class Socket:
    def __init__(self):
        self.sent = []

    def sendto(self, packet, where):
        self.sent.append((packet, where))

    def recvfrom(self, size):
        if not self.sent:
            raise BlockingIOError
        return self.sent.pop(0)


def test_a_datagram_says_whom_it_is_for_and_comes_back_saying_whom_it_is_from():
    wire = Wire(Socket(), ("127.0.0.1", 9))
    there = Endpoint("10.1.2.3", 4001)
    wire.send(0.0, there, b"hello")
    assert wire.take() == [(there, b"hello")]
    assert wire.take() == []


def told(**changes):
    same = {"messages": (2_000, 2_000), "median_s": (0.3, 0.3), "hops": (1, 1), "found": (1, 1)}
    return Agreement(**{**same, "late_s": 0.0, **changes})


def test_who_differs_by_more_than_the_machine_is_late_does_not_agree():
    assert told().holds
    assert not told(messages=(2_000, 2_101)).holds
    assert not told(median_s=(0.3, 0.331)).holds
    assert told(median_s=(0.3, 0.331), late_s=0.001).holds
    assert told(median_s=(0.01, 0.0149)).holds


@pytest.mark.slow
def test_twenty_processes_agree_with_the_simulated_world():
    found = agreement(setting(), seed=1)
    assert found.holds, "\n".join(found.lines())


@pytest.mark.slow
def test_a_run_of_processes_is_an_experiment_like_any_other():
    """Clocks and randomness of this process are not its cores' and may be asked."""
    exp = setting(nodes=3, seconds=2.0).with_({"run.level": "L3"})
    done = run.run(exp, 1, guarded=True)
    assert done.outcome == "ok", done.detail
    assert done.digest is None
    assert done.metrics["messages{dht}"] > 0
