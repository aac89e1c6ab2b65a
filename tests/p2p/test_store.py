"""What a node keeps over restarts: what must grow grows, and a bad file costs no start."""

import stat
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import LocalError
from p2p.store import NODES, Kept, KeptGuard, NodeStore

NOW = 1_800_000_000.0
GUARD = KeptGuard(id=b"1" * 32, since=NOW, until=NOW + 50.5, tries=5, passed=4, ended=3, killed=2)
KEPT = Kept(
    nodes=(b"node 1", b"node 2"),
    adverts=((NOW, b"advert"), (NOW + 0.5, b"another")),
    guards=(GUARD,),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "node.sqlite"


def test_every_start_is_later_than_the_one_before(path):
    starts = []
    for now in (NOW, NOW, NOW - 40, NOW + 50):  # a clock that stands, falls, and goes on
        with NodeStore.open(path) as store:
            starts.append(store.start(now))
    assert starts == [int(NOW), int(NOW) + 1, int(NOW) + 2, int(NOW) + 50]


def test_one_start_with_a_clock_years_ahead_is_forgotten(path):
    starts = []
    for now in (NOW, 2_000_000_000.0, NOW + 5, NOW + 6, NOW + 200):
        with NodeStore.open(path) as store:
            starts.append(store.start(now) - int(NOW))
    assert starts == [0, 2_000_000_000 - int(NOW), 5 + 59, 6 + 59, 200]


def test_the_seqs_of_a_start_are_above_all_of_those_before(path):
    firsts = []
    for now in (NOW, NOW, NOW - 1_000, NOW + 50):
        with NodeStore.open(path) as store:
            firsts.append(store.next_seq(now))
    assert all(after - before >= 2**20 for before, after in pairwise(firsts))
    assert firsts[-1] >= int(NOW + 50) << 20
    assert firsts[-1] < 2**53


def test_start_and_seq_do_not_move_each_other(path):
    with NodeStore.open(path) as store:
        assert [store.start(NOW), store.next_seq(NOW) >> 20] == [int(NOW)] * 2


def test_what_is_saved_comes_back(path):
    with NodeStore.open(path) as store:
        assert store.load() == Kept()
        store.save(KEPT)
        store.save(KEPT)
    with NodeStore.open(path) as store:
        assert store.load() == KEPT


@given(
    st.builds(
        Kept,
        nodes=st.lists(st.binary(max_size=200), max_size=5).map(tuple),
        adverts=st.lists(st.tuples(st.floats(0, 4e9), st.binary(max_size=768)), max_size=5).map(
            tuple
        ),
    )
)
def test_anything_kept_comes_back(kept):
    with NodeStore.open(None) as store:
        store.save(kept)
        assert store.load() == kept


def test_guards_are_replaced_alone(path):
    with NodeStore.open(path) as store:
        store.save(KEPT)
        store.save_guards([GUARD, replace(GUARD, id=b"2" * 32)])
    with NodeStore.open(path) as store:
        assert len(store.guards()) == 2
        assert store.load() == replace(KEPT, guards=store.guards())
        store.save_guards([])
        assert store.guards() == ()


def test_file_of_before_there_were_guards_keeps_what_it_has(path):
    with NodeStore.open(path) as store:
        store.save(KEPT)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TABLE guard; PRAGMA user_version = 1")
    with NodeStore.open(path) as store:
        assert store.load() == replace(KEPT, guards=())
        store.save_guards([GUARD])
        assert store.guards() == (GUARD,)


def test_no_more_nodes_are_kept_than_the_bound(path):
    with NodeStore.open(path) as store:
        store.save(Kept(nodes=tuple(n.to_bytes(4, "big") for n in range(NODES + 5))))
        assert len(store.load().nodes) == NODES


def test_only_its_owner_reads_the_file(path):
    with NodeStore.open(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"this is no database", b"SQLite format 3\0" + bytes(4096)])
def test_damaged_file_is_put_aside_and_begun_anew(path, damage):
    path.write_bytes(damage)
    with NodeStore.open(path) as store:
        assert store.load() == Kept()
        store.save(KEPT)
    assert path.with_name("node.sqlite.bad").read_bytes()[: len(damage)] == damage
    with NodeStore.open(path) as store:
        assert store.load() == KEPT


def test_file_of_a_newer_version_is_put_aside(path):
    with NodeStore.open(path) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with NodeStore.open(path) as store:
        assert store.load() == Kept()
    assert path.with_name("node.sqlite.bad").exists()


def test_place_that_cannot_hold_a_file_is_refused(tmp_path):
    with pytest.raises(LocalError, match="cannot be used"), NodeStore.open(tmp_path / "no" / "x"):
        pass
