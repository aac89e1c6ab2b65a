"""Every invariant of money has a bug planted that breaks it: found in 200 seeds, and made small."""

from dataclasses import dataclass, replace

import pytest

from simulations import soak
from simulations.faults import Kind
from simulations.soak import SMALL
from tests.simulations import plants

SEEDS = 200
DUPLICATES = replace(SMALL, kinds=(Kind.DUPLICATE, Kind.SLOW), rate=0.5)
LOSSES = replace(SMALL, kinds=(Kind.DROP, Kind.CLOG), rate=0.5)
REPEATS = replace(SMALL, kinds=(Kind.DUPLICATE, Kind.DROP), rate=0.5)
DAMAGE = replace(SMALL, kinds=(Kind.TRUNCATE, Kind.CORRUPT), rate=0.5)
OLD_DISKS = replace(SMALL, kinds=(Kind.ERASE, Kind.CRASH), rate=0.15, asks=5, until=60.0)


@dataclass(frozen=True)
class Planted:
    bug: str
    invariant: str
    size: soak.Size
    seed: int
    """the first that finds it"""
    least: int
    """faults that shrinking leaves of that seed"""

    def __str__(self):
        return self.bug


PLANTED = (
    Planted("refund_twice", "I1", SMALL, 0, 0),
    Planted("no_nonce", "I2", DUPLICATES, 80, 3),
    Planted("ticks_ahead", "I4", SMALL, 0, 0),
    Planted("nullifiers_in_memory", "I5", OLD_DISKS, 90, 2),
    Planted("forgotten_timeout", "I6", LOSSES, 21, 2),
    Planted("lock_again", "I7", REPEATS, 19, 1),
    Planted("unchecked_length", "I11", DAMAGE, 0, 1),
)


def plant(one, monkeypatch):
    getattr(plants, one.bug)(monkeypatch)


def broken(one, seed):
    return soak.run(soak.trial(seed, one.size), one.size)


@pytest.mark.parametrize("one", PLANTED, ids=str)
def test_a_planted_bug_breaks_its_invariant(one, monkeypatch):
    assert one.seed < SEEDS
    whole = broken(one, one.seed)
    assert not whole.violations, list(soak.describe(whole, one.size))
    plant(one, monkeypatch)
    assert broken(one, one.seed).broke(one.invariant)


def small(one, most):
    found = soak.trial(one.seed, one.size)
    least = soak.smallest(found, one.invariant, one.size, most=most)
    report = soak.run(least, one.size)
    again = soak.run(least, one.size)
    assert report.broke(one.invariant)
    assert (report.digest, report.violations) == (again.digest, again.violations)
    return least


@pytest.mark.parametrize(
    "one",
    [PLANTED[0], *(pytest.param(one, marks=pytest.mark.slow) for one in PLANTED[-2:])],
    ids=str,
)
def test_its_faults_are_shrunk_and_the_rest_is_replayed(one, monkeypatch):
    plant(one, monkeypatch)
    least = small(one, most=16)
    assert len(least.faults) <= 3
    assert least.until <= soak.trial(one.seed, one.size).until


@pytest.mark.slow
@pytest.mark.parametrize("one", PLANTED, ids=str)
def test_no_more_faults_are_left_than_it_needs(one, monkeypatch):
    plant(one, monkeypatch)
    assert len(small(one, most=100).faults) <= one.least


@pytest.mark.slow
@pytest.mark.parametrize("one", PLANTED, ids=str)
def test_no_earlier_seed_finds_it(one, monkeypatch):
    plant(one, monkeypatch)
    assert not any(broken(one, seed).broke(one.invariant) for seed in range(one.seed))
