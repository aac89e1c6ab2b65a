"""`tussah sim`: what it prints, what it exits with, and that its documents are as published."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from p2p.transport.fabric import EPOCH
from scripts.cli.main import main
from simulations import experiment, outputs, plots, soaking
from simulations.scenarios import Violation

TINY = """
name = "tiny"
question = "Does it run?"
scenario = "dht"
[run]
nodes = 8
until = 6
seeds = "0..1"
[workload]
lookups_per_node_s = 1.5
publishes_per_s = 2.0
[quick]
run.until = 2
run.seeds = "1"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file of an experiment, and the runs of it: both seeds, and one with a shorter timeout."""
    place = tmp_path_factory.mktemp("sim")
    (place / "tiny.toml").write_text(TINY)
    sweep = ["sim", "run", str(place / "tiny.toml"), "--engine", "here"]
    assert main([*sweep, "--out", str(place / "a")]) == 0
    other = ["--set", "protocol.dht.query_timeout=0.1", "--set", "protocol.dht.k=3"]
    assert main([*sweep, *other, "--out", str(place / "b")]) == 0
    return place


def seed(place, name, number=0):
    (found,) = (place / name).glob(f"*/seed-{number:04d}")
    return found


# --- run ---


def test_a_run_is_a_document_and_is_not_made_twice(shell, place, validate):
    words = ["sim", "run", str(place / "tiny.toml"), "--seed", "1", "--out", str(place / "a")]
    status, document = shell.document(*words)
    validate(document, "sim-run")
    assert (status, document["outcome"], document["resumed"]) == (0, "ok", True)
    assert document["digest"] == outputs.read(Path(document["out"])).digest
    assert document["replay"] == f"tussah sim replay {document['out']}"
    assert {metric["low"] for metric in document["metrics"]} == {None}

    status, out, err = shell(*words)
    assert status == 0
    assert "One seed: no interval." in out
    assert err == ""


def test_a_fresh_run_gives_the_digest_of_the_sweep(shell, place, tmp_path, validate):
    words = ["sim", "run", str(place / "tiny.toml"), "--seed", "1", "--out", str(tmp_path)]
    _, document = shell.document(*words)
    validate(document, "sim-run")
    assert document["resumed"] is False
    assert document["digest"] == outputs.read(seed(place, "a", 1)).digest


def test_a_sweep_is_a_document(shell, place, validate):
    words = ["sim", "run", str(place / "tiny.toml"), "--engine", "here", "--out", str(place / "a")]
    status, document = shell.document(*words)
    validate(document, "sim-sweep")
    assert status == 0
    assert [run["resumed"] for run in document["runs"]] == [True, True]
    assert document["points"][0]["point"] == {}
    assert all(metric["low"] is not None for metric in document["points"][0]["metrics"])

    status, out, _ = shell(*words)
    assert "tiny: 2 runs, 2 of them there already" in out
    assert "2 seeds are few" in out


def test_quick_changes_what_its_table_says(shell, place, tmp_path):
    words = ["sim", "run", str(place / "tiny.toml"), "--quick", "--out", str(tmp_path)]
    status, document = shell.document(*words)
    assert (status, document["virtual_s"], document["seed"]) == (0, 2.0, 1)


def test_a_limit_leaves_a_manifest_and_is_no_failure(shell, place, tmp_path):
    words = ["sim", "run", str(place / "tiny.toml"), "--seed", "1", "--out", str(tmp_path)]
    status, document = shell.document(*words, "--set", "limits.records=300")
    assert (status, document["outcome"]) == (0, "limit")
    assert outputs.read(Path(document["out"])).outcome == "limit"


def test_a_broken_invariant_is_exit_1(shell, place, tmp_path, monkeypatch, validate):
    class Broken:
        now, nodes, log = EPOCH, (), None

        def run(self, until, max_records=None):
            self.now = until
            return True

    def build(setting):
        setting.audit.fail(Violation(invariant="I1", at=EPOCH, node=0, detail="a coin less"))
        return Broken()

    module = ModuleType("simulations.scenarios.queue")
    module.build = build
    monkeypatch.setitem(sys.modules, module.__name__, module)
    words = ["sim", "run", str(place / "tiny.toml"), "--set", "scenario=queue", "--seed", "1"]
    status, document = shell.document(*words, "--out", str(tmp_path))
    validate(document, "sim-run")
    assert (status, document["outcome"]) == (1, "violated")
    status, out, _ = shell(*words, "--out", str(tmp_path))
    assert (status, "I1 did not hold: 1 times of 0" in out) == (1, True)


WRONG = [
    (["sim", "run", "dht-hopps"], "There is no dht-hopps."),
    (["sim", "run", "{file}", "--set", "run.nodez=3"], "Did you mean run.nodes?"),
    (["sim", "run", "{file}", "--set", "run.nodes=few"], "run.nodes must be a whole number"),
    (["sim", "run", "{file}", "--nodes", "0"], "run.nodes must be from 1 to 50000, not 0."),
    (["sim", "run", "{file}", "--seeds", "5..1"], "the first seed is above the last"),
    (["sim", "run", "{file}", "--seed", "1", "--seeds", "5"], "One of --seed and --seeds"),
    (["sim", "run", "{file}", "--seeds", "0..999999"], "10000 are the most"),
    (["sim", "run", "{file}", "--set", "protocol.dht.kk=3"], "Did you mean protocol.dht.k?"),
    (
        ["sim", "run", "{file}", "--seed", "1", "--set", "protocol.adnl.peers=3"],
        "There is no protocol.adnl.peers",
    ),
    (["sim", "run", "{file}", "--engine", "ray"], "There is no engine ray"),
    (["sim", "run", "{big}"], "larger than 1000 kB"),
    (["sim", "run", "{nowhere}/x.toml"], "cannot be read"),
    (["sim", "show", "dht-hopps"], "There is no dht-hopps."),
    (["sim", "report", "{nowhere}"], "holds no finished run"),
    (["sim", "compare", "{nowhere}", "{nowhere}"], "holds no finished run"),
    (["sim", "replay", "{nowhere}"], "no finished run"),
    (["sim", "bisect", "{nowhere}", "{nowhere}"], "no finished run"),
    (["sim", "shrink", "{nowhere}"], "no finished run"),
    (["sim", "shrink", "{run}"], "Nothing broke"),
    (["sim", "replay", "{run}", "--until", "99"], "99 s is not in it"),
    (["sim", "replay", "{run}", "--node", "8"], "There is no node 8"),
    (["sim", "check", "dht-hopps"], "There is no dht-hopps."),
    (["sim", "data", "fetch"], "fetch"),
    (["sim", "soak", "--minutes", "-1"], "--minutes must be from 0"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=lambda each: str(each)[-40:])
def test_what_cannot_be_asked_for_is_exit_2_in_one_sentence(shell, place, validate, words, says):
    big = place / "big.toml"
    big.write_bytes(b"#" * 2_000_000)
    names = {"file": place / "tiny.toml", "big": big, "nowhere": place / "none"}
    names["run"] = seed(place, "a")
    words = [word.format(**names) for word in words]
    status, out, err = shell(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) <= 1 or "See tussah" in err
    status, document = shell.document(*words)
    validate(document, "error")
    assert (status, document["exit"]) == (2, 2)


# --- read ---


def test_ready_experiments_are_listed_shown_and_read_again(shell, validate):
    _, document = shell.document("sim", "list")
    validate(document, "sim-list")
    assert [each["name"] for each in document["experiments"]] == experiment.ready()
    assert all("?" in each["question"] for each in document["experiments"])
    name = document["experiments"][0]["name"]
    _, out, _ = shell("sim", "show", name)
    assert experiment.parse(out) == experiment.load(name)
    _, shown = shell.document("sim", "show", name)
    validate(shown, "sim-show")
    assert experiment.from_tree(shown["experiment"]) == experiment.load(name)
    _, out, _ = shell("sim", "list")
    assert out.startswith(name)
    assert len(out.splitlines()) == len(experiment.ready())


@pytest.mark.parametrize("name", experiment.ready())
def test_every_ready_experiment_has_a_quick_way(name):
    exp = experiment.load(name)
    assert exp.name == name
    assert exp.quick
    exp.quicker()


def test_the_schema_is_of_an_experiments_file(shell, validate):
    _, document = shell.document("sim", "schema")
    validate(document, "sim-schema")
    _, out, _ = shell("sim", "schema")
    assert json.loads(out) == document["experiment"]


def test_a_report_says_which_files_it_wrote(shell, place, validate, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: True)
    monkeypatch.setattr(plots, "svg", lambda plot: "<svg/>")
    words = ["sim", "report", str(place / "a"), "--out", str(place / "reports")]
    status, document = shell.document(*words)
    validate(document, "sim-report")
    assert sorted(map(Path, document["files"])) == sorted((place / "reports").iterdir())
    assert (status, document["runs"]) == (0, 2)
    assert all(Path(each).is_file() for each in document["files"])


def test_a_report_without_the_extra_is_markdown(shell, place, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    status, out, err = shell("sim", "report", str(place / "a"))
    assert (status, out) == (0, f"{place / 'a' / 'report.md'}\n")
    assert "pip install 'tussah[sim]'" in err


def test_a_comparison_pairs_equal_seeds(shell, place, validate):
    words = ["sim", "compare", str(place / "a"), str(place / "b")]
    status, document = shell.document(*words)
    validate(document, "sim-compare")
    assert (status, document["pairs"]) == (0, 2)
    assert [each["key"] for each in document["settings"]] == [
        "protocol.dht.k",
        "protocol.dht.query_timeout",
    ]
    _, out, _ = shell(*words)
    assert "protocol.dht.k: its default -> 3" in out
    assert " -> " in out.splitlines()[-2]


def test_a_run_compared_with_itself_differs_in_nothing(shell, place):
    _, document = shell.document("sim", "compare", str(place / "a"), str(place / "a"))
    assert document["settings"] == []
    assert all(each["equal"] for each in document["digests"])
    assert {each["change"] for each in document["metrics"]} == {0.0}
    assert {(each["low"], each["high"]) for each in document["metrics"]} == {(0.0, 0.0)}


# --- look into ---


def test_a_replay_is_the_run(shell, place, validate):
    words = ["sim", "replay", str(seed(place, "a")), "--until", "4", "--node", "3"]
    status, document = shell.document(*words)
    validate(document, "sim-replay")
    assert (status, document["same"], document["checkpoints"]) == (0, True, 3)
    assert document["sizes"]
    status, out, _ = shell(*words)
    assert status == 0
    assert "3 checkpoints as in the run" in out
    assert " node 3 #0 " in out
    assert " node 4 " not in out


def test_a_bisection_names_the_first_record_that_differs(shell, place, validate):
    words = ["sim", "bisect", str(seed(place, "a")), str(seed(place, "b"))]
    status, document = shell.document(*words)
    validate(document, "sim-bisect")
    assert (status, document["equal"]) == (1, False)
    assert document["records"]["before"] != document["records"]["after"]
    status, out, _ = shell(*words)
    assert (status, out.count("node")) == (1, 2)

    words = ["sim", "bisect", str(seed(place, "a")), str(seed(place, "a"))]
    status, document = shell.document(*words)
    validate(document, "sim-bisect")
    assert (status, document["equal"]) == (0, True)


@pytest.mark.slow
def test_a_check_makes_a_run_every_way_there_is(shell, place, validate):
    status, document = shell.document("sim", "check", str(place / "tiny.toml"))
    validate(document, "sim-check")
    assert (status, document["agree"]) == (0, True)
    assert len([each for each in document["ways"] if each["digest"]]) >= 4


# --- soak ---


def test_a_soak_says_how_many_seeds_failed(shell, tmp_path, validate, monkeypatch):
    """What it tells and keeps is for `simulations.soak` to say, which one seed fails here."""

    def failing(minutes, *, first, say, regressions):
        say(f"1 seeds from {first} on: 1 failed")
        return 1

    status, document = shell.document("sim", "soak", "--minutes", "0")
    validate(document, "sim-soak")
    assert (status, document["failures"]) == (0, 0)
    monkeypatch.setattr(soaking.soak, "soak", failing)
    keep = tmp_path / "seeds.toml"
    status, document = shell.document("sim", "soak", "--first", "3", "--keep", str(keep))
    validate(document, "sim-soak")
    assert (status, document["kept_in"]) == (1, str(keep))
    assert document["said"] == ["1 seeds from 3 on: 1 failed"]


# --- data ---


def test_data_sets_are_verified(shell, tmp_path, monkeypatch, validate):
    monkeypatch.delenv("TUSSAH_DATA", raising=False)
    status, document = shell.document("sim", "data", "verify")
    validate(document, "sim-data")
    assert (status, {each["state"] for each in document["files"]}) == (0, {"absent"})
    for each in document["files"]:
        path = tmp_path / each["name"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    status, document = shell.document("sim", "data", "verify", "--data", str(tmp_path))
    validate(document, "sim-data")
    assert (status, {each["state"] for each in document["files"]}) == (1, {"wrong"})


def test_data_sets_that_are_there_are_the_right_ones(shell):
    data = Path("/work/shared/data")
    if not data.is_dir():
        pytest.skip("the data sets are not on this machine")
    status, out, _ = shell("sim", "data", "--data", str(data))
    assert status == 0
    assert "wrong" not in out
    assert "ok" in out
