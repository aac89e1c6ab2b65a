"""Money under faults: two hundred seeds of the real ledger, and not a nano lost in any of them."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import soak
from simulations.log import EventLog
from simulations.scenarios import Audit
from simulations.scenarios.lanes import Lanes, schedule
from simulations.soak import SMALL, USUAL

ROOT = Path(__file__).parents[2]
SEEDS = 200
SHARE = 25


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_no_seed_breaks_an_invariant(first):
    outcomes, checked = Counter(), Counter()
    for seed in range(first, first + SHARE):
        report = soak.run(soak.trial(seed, SMALL), SMALL)
        assert not report.violations, "\n".join(soak.describe(report, SMALL))
        outcomes.update(report.outcomes)
        checked.update(report.checked)
    assert outcomes["answer"] >= SHARE // 2, outcomes
    assert all(checked[invariant] for invariant in ("I1", "I2", "I4", "I5", "I6", "I7")), checked


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 11_000, 50))
def test_no_seed_of_the_usual_size_breaks_an_invariant(first):
    for seed in range(first, first + 50):
        report = soak.run(soak.trial(seed))
        assert not report.violations, "\n".join(soak.describe(report))


def test_what_was_found_once_does_not_come_back():
    for invariant, trial in soak.known():
        report = soak.run(trial)
        assert not report.broke(invariant), soak.replay_line(trial)


def test_without_faults_every_ask_is_answered_and_nothing_is_left():
    trial = replace(soak.trial(2, USUAL), faults=())
    report = soak.run(trial)
    assert report.outcomes == ("answer",) * 4
    assert not report.violations


def test_how_a_run_is_divided_changes_nothing():
    one = soak.trial(7, SMALL)
    whole = soak.run(one, SMALL)
    log = EventLog()
    entropy = seeded(7)
    lanes = Lanes(entropy, 7, SMALL, schedule(entropy, SMALL), log, Audit())
    for second in range(1, int(one.until)):
        assert lanes.run(EPOCH + second)
    lanes.run(EPOCH + one.until)
    lanes.close()
    assert (log.digest, log.records) == (whole.digest, whole.records)


def test_a_run_stops_at_so_many_records():
    entropy, log = seeded(7), EventLog()
    lanes = Lanes(entropy, 7, SMALL, schedule(entropy, SMALL), log, Audit())
    assert not lanes.run(EPOCH + 60.0, max_records=20)
    assert 20 <= log.records < 40
    lanes.close()


def test_another_process_with_another_hash_seed_replays_a_line():
    trial = soak.trial(3, SMALL)
    report = soak.run(trial, SMALL)
    line = soak.replay_line(trial, SMALL).split()
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, *line[1:]], env=environment, capture_output=True, check=False, timeout=60
    )
    assert f"digest={report.digest} records={report.records}" in told.stdout.decode()
    assert told.returncode == 0
