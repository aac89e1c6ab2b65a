"""Experiments: what a file may say, what it may not, and how a mistake is named."""

import json
import pickle

import jsonschema
import pytest

from simulations import knobs
from simulations.experiment import (
    MAX_FILE,
    Experiment,
    GilbertElliott,
    Weibull,
    as_tree,
    from_tree,
    load,
    parse,
    seeds,
    setting,
)
from simulations.reading import WrongExperiment, schema
from simulations.writing import as_toml

SMALL = {"name": "small", "scenario": "dht"}

FULL = """
name = "full"
question = "What does everything cost?"
version = 1
scenario = "dht"
[run]
nodes = 300
until = 20
seeds = "3..5"
warmup = 2.5
log = "sample:0.01"
[nodes]
mix = { client = 0.5, relay = 0.5 }
[network]
latency = { kind = "constant", rtt_ms = 80 }
loss = { p_good_bad = 0.01, p_bad_good = 0.2, loss_bad = 0.5 }
uplink_mbps = 20
downlink_mbps = "none"
nat = { open = 0.4, symmetric = 0.6 }
[churn]
sessions = { k = 0.5, lambda_min = 20 }
[workload]
lookups_per_node_s = 0.1
[protocol]
dht.k = 8
dht.query_timeout = "1..2"
[[fault]]
kind = "partition"
at = 5
for = 2
depth = 3
[[fault]]
kind = "crash"
rate = 0.1
[[adversary]]
kind = "sybil"
share = 0.1
[measure]
metrics = ["lookup_s"]
[sweep]
grid."protocol.dht.k" = [8, 20]
grid."network.jitter" = [0, 0.1]
[quick]
run.nodes = 30
sweep.grid."protocol.dht.k" = [8]
"""


def test_a_file_may_say_everything():
    exp = parse(FULL)
    assert exp.run.until == 20.0
    assert exp.run.warmup == 2.5
    assert exp.network.loss == GilbertElliott(p_good_bad=0.01, p_bad_good=0.2, loss_bad=0.5)
    assert exp.network.uplink_mbps == 20.0
    assert exp.network.nat == {"open": 0.4, "symmetric": 0.6}
    assert exp.churn.sessions == Weibull(k=0.5, lambda_min=20.0)
    assert exp.protocol == {"dht.k": 8, "dht.query_timeout": "1..2"}
    assert exp.fault[0].duration == 2.0
    assert exp.fault[0].knobs == {"depth": 3}
    assert exp.fault[1].rate == 0.1
    assert exp.measure.metrics == ("lookup_s",)
    assert exp.sweep.grid == {"protocol.dht.k": (8, 20), "network.jitter": (0, 0.1)}
    assert list(exp.seeds()) == [3, 4, 5]


def test_defaults_are_those_of_the_dataclasses():
    exp = load(SMALL)
    assert exp == Experiment(name="small", scenario="dht")
    assert exp.run.nodes == 100
    assert exp.network.latency.kind == "matrix"


def test_an_experiment_is_read_again_from_its_own_tables():
    exp = parse(FULL)
    assert from_tree(json.loads(json.dumps(as_tree(exp)))) == exp
    assert pickle.loads(pickle.dumps(exp)) == exp


@pytest.mark.parametrize("text", [FULL, "name = 'x'\nscenario = 'dht'"])
def test_an_experiment_is_read_again_from_the_text_of_it(text):
    exp = parse(text)
    assert parse(as_toml(exp)) == exp


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[run]\nnodez = 3", "There is no run.nodez. Did you mean run.nodes?"),
        ("[netwrk]\nloss = 0", "There is no netwrk. Did you mean network?"),
        ("[network]\nlatency = { kind = 'regins' }", "Did you mean regions?"),
        ("[network]\nlatency = { rtt = 5 }", "There is no network.latency.rtt. Did you mean"),
        ("[run]\nnodes = '3'", "run.nodes must be a whole number, not '3'."),
        ("[run]\nnodes = true", "run.nodes must be a whole number, not True."),
        ("[run]\nnodes = 1.5", "run.nodes must be a whole number"),
        ("[run]\nnodes = 0", "run.nodes must be from 1 to 50000, not 0."),
        ("[run]\nnodes = 50001", "run.nodes must be from 1 to 50000"),
        ("[run]\nuntil = nan", "run.until must be from"),
        ("[run]\nseeds = '5..1'", "run.seeds 5..1 is empty"),
        ("[run]\nseeds = 'all'", "run.seeds must be a seed or two"),
        ("[run]\nwarmup = 'some'", "run.warmup must be"),
        ("[run]\nlog = 'sample:2'", "run.log must be off, digest, full or sample:0.01"),
        ("[network]\nloss = 1.5", "network.loss must be"),
        ("[network]\nloss = { p_good_bad = 0.1 }", "network.loss.p_bad_good is missing."),
        ("[network]\nnat = { open = 0.5, symetric = 0.5 }", "Did you mean network.nat.symmetric?"),
        ("[network]\nnat = { open = 0.5 }", "The shares of network.nat add up to 0.5, not to 1."),
        ("[nodes]\nmix = { client = 2.0 }", "nodes.mix.client must be from 0 to 1"),
        ("[protocol]\ndht.kk = 8", "There is no protocol.dht.kk. Did you mean protocol.dht.k?"),
        ("[protocol]\ndht.k = 'many'", "protocol.dht.k must be a whole number"),
        ("[protocol]\ndht.k = -1", "protocol.dht.k must be from 0"),
        ("[protocol]\nonion.relays = 4", "protocol.onion.relays must be from 1 to 3"),
        ("[protocol]\ndht.query_timeout = '5..2'", "must be a range that rises"),
        ("[sweep]\ngrid.'protocol.dht.kk' = [1]", "Did you mean protocol.dht.k?"),
        ("[sweep]\ngrid.'run.nodes' = [0]", "run.nodes must be from 1"),
        ("[sweep]\ngrid.'run.nodes' = 5", "sweep.grid.run.nodes must be a list"),
        ("[[fault]]\nat = 3", "fault[0].kind is missing."),
        ("[[fault]]\nkind = 'x'\ndepth = [1]", "fault[0].depth must be"),
        ("[measure]\ninvariants = 'some'", "measure.invariants must be"),
        ("scenario = 'dhs'", "Did you mean dht?"),
        ("name = 'Böse'", "name must be lower-case words"),
        ("version = 2", "version must be from 1 to 1"),
        ("run = 5", "run must be a table, not 5."),
        ("x = [", "This is no TOML"),
    ],
)
def test_a_mistake_is_named_with_its_key(text, says):
    head = ""
    if not text.startswith("name"):
        head += "name = 'x'\n"
    if not text.startswith("scenario"):
        head += "scenario = 'dht'\n"
    with pytest.raises(WrongExperiment) as raised:
        parse(head + text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_grid_of_a_million_is_refused_at_once():
    grid = {"protocol.dht.k": list(range(1, 1001)), "run.nodes": list(range(1, 1001))}
    with pytest.raises(WrongExperiment, match="10000000 runs; 10000 are the most"):
        load({**SMALL, "sweep": {"grid": grid}})


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.toml"
    path.write_bytes(b"#" * 2 * MAX_FILE)
    with pytest.raises(WrongExperiment, match="larger than 1000 kB"):
        load(path)


def test_a_ready_name_that_is_none_gets_a_suggestion():
    with pytest.raises(WrongExperiment, match="There is no dht-hopps"):
        load("dht-hopps")
    with pytest.raises(WrongExperiment, match="cannot be read"):
        load("nowhere/else.toml")


def test_values_are_changed_by_dotted_key_and_bare_ones_of_the_run():
    exp = parse(FULL).with_(nodes=200, **{"protocol.dht.width": 5, "fault.0.at": 7})
    assert exp.run.nodes == 200
    assert exp.protocol == {"dht.k": 8, "dht.query_timeout": "1..2", "dht.width": 5}
    assert exp.fault[0].at == 7.0
    assert exp.with_({"network.latency.kind": "matrix"}).network.latency.rtt_ms == 80.0
    assert exp.with_({"churn.sessions": "none"}).churn.sessions == "none"


@pytest.mark.parametrize("key", ["netwrk.loss", "run.nodes.x", "nodez", "fault.9.at", "name.x"])
def test_a_key_that_is_none_cannot_be_set(key):
    with pytest.raises(WrongExperiment):
        parse(FULL).with_({key: 1})


def test_quick_is_the_same_question_smaller():
    exp = parse(FULL).quicker()
    assert exp.run.nodes == 30
    assert exp.sweep.grid["protocol.dht.k"] == (8,)
    assert exp.question == "What does everything cost?"


def test_a_grid_is_every_combination():
    points = list(parse(FULL).points())
    assert [dict(point) for point, _ in points] == [
        {"protocol.dht.k": k, "network.jitter": jitter} for k in (8, 20) for jitter in (0, 0.1)
    ]
    assert [exp.protocol["dht.k"] for _, exp in points] == [8, 8, 20, 20]
    assert all(not exp.sweep.grid for _, exp in points)
    assert len({exp.config_hash() for _, exp in points}) == 4


def test_what_is_set_is_no_longer_varied():
    exp = parse(FULL).with_({"network.jitter": 0.5})
    assert list(exp.sweep.grid) == ["protocol.dht.k"]
    assert exp.network.jitter == 0.5
    both = {"network.jitter": 0.5, "sweep.grid": {"network.jitter": [0.1]}}
    assert list(parse(FULL).with_(both).sweep.grid) == ["network.jitter"]


def test_the_hash_is_of_what_is_simulated_alone():
    exp = load(SMALL)
    same = [{"run.seeds": "5"}, {"limits.wall_s": 5}, {"sweep.grid": {"run.nodes": [5]}}]
    other = [{"run.nodes": 5}, {"protocol.dht.k": 8}, {"network.loss": 0.02}]
    assert {exp.with_(each).config_hash() for each in same} == {exp.config_hash()}
    assert exp.config_hash() not in {exp.with_(each).config_hash() for each in other}
    assert load({**SMALL, "run": {"until": 60}}).config_hash() == exp.config_hash()


def test_settings_are_toml_or_text():
    assert setting("run.until=10") == ("run.until", 10)
    assert setting("network.loss=0.5") == ("network.loss", 0.5)
    assert setting("run.seeds=0..9") == ("run.seeds", "0..9")
    assert setting("sweep.grid.run.nodes=[1, 2]") == ("sweep.grid.run.nodes", [1, 2])
    with pytest.raises(WrongExperiment, match="write key=value"):
        setting("run.until")


def test_seeds_are_a_range_with_both_ends():
    assert seeds("7") == range(7, 8)
    assert seeds("0..9") == range(10)


def test_the_schema_takes_what_the_reader_takes():
    described = schema(Experiment)
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(as_tree(parse(FULL)), described)
    for wrong in ({"run": {"nodes": 0}}, {"run": {"nodez": 3}}, {"network": {"loss": "much"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**SMALL, **wrong}, described)


def test_knobs_are_fields_of_real_settings():
    changed = knobs.apply(
        knobs.DhtSettings(), "dht", {"dht.k": 20, "dht.query_timeout": "1..2", "overlay.fanout": 5}
    )
    assert changed == knobs.DhtSettings(k=20, query_timeout=(1.0, 2.0))
    assert knobs.apply(knobs.DhtSettings(), "dht", {"dht.publish": 5}).publish == (5.0, 5.0)
    assert "overlay.fanout" in knobs.known()
    assert "overlay.admission" not in knobs.known()
