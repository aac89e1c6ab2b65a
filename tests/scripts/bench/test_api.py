"""The benchmark of the API's server, small: every row of it, against servers that are installed."""

import json

import pytest

from scripts.bench import api, main


def test_prints_one_document_with_every_row(capsys, validate, monkeypatch):
    """Rates of this mean nothing; it only takes less time."""
    monkeypatch.setattr(api, "EVENTS", 50)
    monkeypatch.setattr(api, "STREAMS", 5)
    monkeypatch.setattr(api, "OTHERS", ("uvicorn", "nothing"))
    assert main.main("api", quick=True, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document, "bench")
    rows = {row["name"]: row for row in document["results"]}
    assert rows["cpu_us_per_chunk"]["value"] > 0
    assert rows["cpu_us_per_chunk"]["against"] == "uvicorn"
    assert rows["streams_held"]["value"] == 5
    assert document["notes"] == ["nothing is not installed"]


def test_the_cheapest_of_the_others_is_what_we_are_held_against():
    taken = {"ours": [40.0], "uvicorn": [50.0], "hypercorn": [20.0]}
    bench = api._bench(True, 3, taken, 250)
    assert (bench.results[0].against, bench.results[0].ratio) == ("hypercorn", 2.0)
    assert [aim.met for aim in bench.aims] == [False, True]


def test_without_another_server_there_is_no_ratio_and_no_aim():
    bench = api._bench(True, 3, {"ours": [40.0]}, 190)
    assert bench.results[0].ratio is None
    assert {aim.name: aim.met for aim in bench.aims} == {"streams_held": False}
    assert bench.notes == ["uvicorn is not installed", "hypercorn is not installed"]


@pytest.mark.outside
@pytest.mark.slow
def test_hypercorn_serves_as_well(monkeypatch):
    monkeypatch.setattr(api, "EVENTS", 50)
    with api._serving("hypercorn") as port:
        assert api._spent_us(port) > 0
