"""What Prometheus reads of a node."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families as families

from inference.worker import WorkerStatistics
from scripts.api.metrics import Snapshot
from scripts.api.status import WorkerState
from tests.scripts.api.test_documents import PURSE, state, zeros

WORKING = WorkerState(state="serving", statistics=zeros(WorkerStatistics, answered=7))


def read(requests=None, **changes):
    """Every sample, by name and labels."""
    text = Snapshot(state=state(**changes), requests=requests or {}).text().decode()
    samples = [sample for family in families(text) for sample in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in samples}


def test_what_a_relay_does_is_counted():
    told = read({"answer": 3, "other": 1}, roles=("relay",), asking=2)
    assert told["tussah_requests_total", "answer"] == 3
    assert told["tussah_requests_total", "other"] == 1
    assert told["tussah_requests_open",] == 2
    assert told["tussah_links",] == 4
    assert told["tussah_passages",] == 2
    assert (told["tussah_cells_total", "forward"], told["tussah_cells_total", "backward"]) == (3, 4)
    assert told["tussah_creates_total", "OK"] == 5
    assert told["tussah_listed", "worker"] == 2
    assert not any(name[0].startswith("tussah_worker") for name in told)


def test_a_worker_is_one_thing_at_a_time():
    told = read(worker=WORKING)
    states = {name[1]: value for name, value in told.items() if name[0] == "tussah_worker_state"}
    assert [name for name, value in states.items() if value] == [WORKING.state]
    assert told["tussah_answers_total",] == 7


def test_money_is_told_by_where_it_is():
    told = read(purse=PURSE)
    nano = {name[1]: value for name, value in told.items() if name[0] == "tussah_nano"}
    totals, minted = PURSE.totals, PURSE.minted
    assert nano["due"] == totals.due.value
    assert nano["credits"] == totals.credits.value.value
    assert nano["outstanding"] == minted.outstanding.value
    assert told["tussah_mint_credits", "redeemed"] == minted.redeemed
    unseen = read(purse=replace(PURSE, balance=None, minted=None))
    assert {("tussah_nano", "wallet"), ("tussah_nano", "outstanding")}.isdisjoint(unseen)
    assert not [name for name in read() if name[0] == "tussah_nano"]


def test_nothing_names_a_node_or_an_address():
    text = Snapshot(state=state(worker=WORKING), requests={}).text().decode()
    entries = state().entries
    assert not any(entry.id.hex()[:8] in text for entry in entries)
    assert "127.0.0.1" not in text
