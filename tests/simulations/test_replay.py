"""A run again: the same, up to an instant, down to the line; and where two runs part."""

from dataclasses import replace

import pytest

from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH
from simulations import outputs, shrinking
from simulations import replay as replaying
from simulations.code import ROOT
from simulations.experiment import load
from simulations.recording import perform
from simulations.replay import bisect, decoded, replay, words
from simulations.run import Trial

TINY = {
    "name": "tiny",
    "scenario": "dht",
    "run": {"nodes": 8, "until": 6},
    "workload": {"lookups_per_node_s": 1.5, "publishes_per_s": 2.0},
}


def recorded(place, name, *, seed=3, **changes):
    exp = load(TINY).with_({key.replace("__", "."): value for key, value in changes.items()})
    perform(exp, seed, place / name)
    return place / name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three runs: one, one with slower nodes, and one that begins as the first and ends later."""
    place = tmp_path_factory.mktemp("replay")
    recorded(place, "one")
    recorded(place, "hasty", protocol={"dht.query_timeout": 0.15})
    recorded(place, "again")
    return place


def test_a_replay_reaches_the_checkpoints_of_the_original(place):
    original = outputs.read(place / "one")
    half = replay(place / "one", until=3.5)
    assert (half.differs, half.same_code, half.compared) == (None, True, 3)
    whole = replay(place / "one")
    assert whole.digest == original.digest
    assert whole.compared == len(original.checkpoints)


def test_a_replay_that_is_another_run_says_from_where_on(place):
    run = outputs.read(place / "one")
    exp = run.exp.with_({"protocol.dht.query_timeout": 0.15})
    outputs.prepare(place / "forged")
    outputs.write(replace(run, exp=exp), place / "forged", place / "forged")
    found = replay(place / "forged")
    assert found.differs in run.checkpoints or found.differs.digest == run.digest


def test_records_of_one_node_are_seen_in_order(place):
    seen = []
    found = replay(place / "one", until=3.0, node=5, see=seen.append)
    assert {each.record.node for each in seen} == {5}
    assert [each.record.number for each in seen] == list(range(len(seen)))
    assert all(each.causes == () for each in seen)
    assert sum(found.sizes.values()) > 0


def test_a_trace_names_the_lines_behind_a_record(place):
    seen = []
    replay(place / "one", until=3.0, node=5, trace=True, see=seen.append)
    traced = [each for each in seen if each.causes]
    assert traced
    assert all(each.record.now >= EPOCH + 2.0 for each in traced)
    for cause in (cause for each in traced for cause in each.causes):
        line = (ROOT / cause.file).read_text().splitlines()[cause.line - 1]
        assert cause.file.startswith(("p2p/", "ledger/", "inference/"))
        assert cause.made in line or line.strip().startswith(("def ", "async def ", "@", "class "))
    assert " at p2p/" in words(traced[-1])


def test_two_runs_part_at_a_record(place):
    parting = bisect(place / "one", place / "hasty")
    assert not parting.equal
    first, other = all_records(place / "one"), all_records(place / "hasty")
    shared = next(
        at for at, pair in enumerate(zip(first, other, strict=False)) if len(set(pair)) > 1
    )
    assert (parting.before, parting.after) == (first[shared], other[shared])


def all_records(directory):
    """What the bisection must find without looking at everything."""
    run, found = outputs.read(directory), []
    Trial(run.exp.with_({"run.log": "full"}), run.seed, sink=found.append).run(6.0)
    return sorted(found, key=lambda each: (each.now, each.node, each.number))


def test_equal_runs_do_not_part(place):
    assert bisect(place / "one", place / "again").equal


def test_a_run_that_does_not_repeat_cannot_be_bisected(place):
    run = outputs.read(place / "one")
    other = tuple(each._replace(digest="0" * 32) for each in run.checkpoints)
    outputs.prepare(place / "foreign")
    outputs.write(
        replace(run, digest="0" * 32, checkpoints=other), place / "foreign", place / "foreign"
    )
    with pytest.raises(LocalError, match="does not repeat"):
        bisect(place / "one", place / "foreign")


def test_a_run_without_a_log_cannot_be_bisected(tmp_path):
    silent = recorded(tmp_path, "silent", run__log="off", run__until=0.5)
    with pytest.raises(LocalError, match="without a log"):
        bisect(silent, silent)


def test_data_is_text_where_it_is_some():
    record = replaying.Record(EPOCH, 0, 0, 3, 0, b"Found(hops=2)")
    assert decoded(record) == "Found(hops=2)"
    assert decoded(record._replace(data=b"\xff\x00")) == "ff00"
    assert decoded(record._replace(data=b"x" * 1000)).endswith("… (1000 bytes)")


# --- shrink ---


def test_what_broke_is_made_small(place, monkeypatch, tmp_path):
    """The run fails while fault 4 is there, at 3 nodes or more, and 2 s or later."""
    faults = [{"kind": f"kind-{number}", "at": 1} for number in range(6)]
    exp = load({**TINY, "fault": faults})
    original = outputs.read(place / "one")

    def fragile(exp, seed):
        broke = (
            any(each.kind == "kind-4" for each in exp.fault)
            and exp.run.nodes >= 3
            and exp.run.until >= 2.0
        )
        failed = {"I1": 1} if broke else {}
        outcome = "violated" if broke else "ok"
        return replace(original, exp=exp, outcome=outcome, checked={"I1": 9}, failed=failed)

    monkeypatch.setattr(shrinking, "run", fragile)
    outputs.prepare(tmp_path / "run")
    outputs.write(fragile(exp, 3), tmp_path / "run", tmp_path / "run")
    shrunk = shrinking.shrink_run(tmp_path / "run", most=200)
    assert shrunk.faults == (4,)
    assert shrunk.after.exp.run.nodes == 3
    assert 2.0 <= shrunk.after.exp.run.until <= 3.0
    assert shrunk.after.outcome == "violated"


def test_what_did_not_break_cannot_be_made_small(place):
    with pytest.raises(LocalError, match="Nothing broke"):
        shrinking.shrink_run(place / "one", most=10)
