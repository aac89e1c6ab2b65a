"""The benchmark of circuits, small: every row of it, in the one shape."""

import json

from scripts.bench import main, onion, stations

NAMES = {
    "cells_per_second_memory",
    "cells_per_second_libp2p",
    "cells_per_second_libp2p_vs_tcp",
    "circuits_per_second_client",
    "relay_creates_per_second",
    "added_latency_ms_p50",
    "added_latency_ms_p99",
}


def test_prints_one_document_with_every_row_and_every_aim(monkeypatch, capsys, validate):
    small = {"CELLS": 60, "WIRE_CELLS": 60, "CIRCUITS": 2, "PINGS": 3}
    for name, value in small.items():
        monkeypatch.setattr(onion, name, value)
    assert main.main("onion", quick=True, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document, "bench")
    assert {row["name"] for row in document["results"]} == NAMES
    assert all(row["value"] > 0 or "latency" in row["name"] for row in document["results"])
    assert {aim["name"] for aim in document["aims"]} == set(onion.AIMS)


def test_every_cell_of_an_answer_passes_the_relay():
    assert stations.through_memory(50).cells >= 50
