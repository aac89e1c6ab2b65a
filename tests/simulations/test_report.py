"""Reports: the same bytes from the same runs, whole in one file, and honest about one seed."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH
from simulations import drawing, outputs, plots, report
from simulations.compare import compare
from simulations.experiment import load
from simulations.gathering import arrange, gather
from simulations.log import Checkpoint
from simulations.metrics import Key, Row, Summary
from simulations.run import Run
from simulations.scenarios import Violation

BASE = load({"name": "made-up", "scenario": "dht", "question": "Is <b> escaped | kept?"})


def made(seed, *, loss=0.01, outcome="ok", seconds=None, violations=()):
    """A run that nobody ran: figures that a seed and a loss give."""
    exp = BASE.with_({"network.loss": loss})
    values = [0.1 * (number + seed + 1) * (1 + loss) for number in range(20)]
    total = sum(values)
    quantiles = tuple(0.1 * (seed + 1) + percent / 50 for percent in range(101))
    return Run(
        exp=exp,
        seed=seed,
        config_hash=exp.config_hash(),
        run_hash="0" * 32,
        outcome=outcome,
        detail="ValueError: a core" if outcome == "failed" else "",
        virtual_s=60.0,
        wall_s=seconds or 1.0,
        cpu_s=1.0,
        rss_bytes=1,
        records=1000 + seed,
        digest=f"{seed:032x}",
        rows=tuple(Row(float(t), "lookup_s", "", value) for t, value in enumerate(values)),
        summaries=(
            summary("lookup_found", min(18 + seed, 20), 20),
            summary("lookup_s", total, 20, quantiles),
            summary("messages", 1000 * (1 + loss), 20, label="dht"),
        ),
        checkpoints=(Checkpoint(int(EPOCH), 1, "00"),),
        checked={"I1": 10},
        failed={"I1": 1} if violations else {},
        violations=tuple(violations),
    )


def summary(name, total, count, quantiles=(), label=""):
    mean = total if name == "messages" else total / count
    return Summary(
        key=Key(name, label),
        total=total,
        count=count,
        mean=mean,
        quantiles=tuple(quantiles),
        cut=0,
        stationary=True,
    )


def text(*runs):
    return report.as_markdown(arrange(runs))


def test_one_seed_has_no_interval():
    said = text(made(1))
    lines = [line for line in said.splitlines() if line.startswith("| lookup_s |")]
    assert lines == ["| lookup_s | 1.161 s | one seed, no interval | 1 |  |"]
    assert " to " not in said.partition("## Reproduce")[0].partition("## Results")[2]


def test_few_seeds_carry_a_warning_and_many_do_not():
    assert "3 seeds are few" in text(*map(made, range(3)))
    assert "seeds are few" not in text(*map(made, range(5)))


def test_a_proportion_counts_the_trials_of_all_seeds():
    (line,) = [x for x in text(made(0), made(1)).splitlines() if "lookup_found" in x]
    assert line.startswith("| lookup_found | 0.925 | 0.8014 to 0.9742 | 40 |")


def test_what_a_run_has_not_counted_is_nothing_and_not_unknown():
    some = made(0)
    none = replace(made(1), summaries=some.summaries[:2])
    (line,) = [x for x in text(some, none).splitlines() if "messages" in x]
    assert line.startswith("| messages{dht} | 505 |")


def test_points_of_a_grid_stand_apart_in_order():
    said = text(made(0, loss=0.1), made(0), made(1), made(1, loss=0.1))
    heads = [line for line in said.splitlines() if line.startswith("## network")]
    assert heads == ["## network.loss = 0.01", "## network.loss = 0.1"]
    assert "tussah sim run made-up.toml --seeds 0..1" in said


def test_what_went_wrong_is_said_with_the_command_that_shows_it():
    broken = Violation(invariant="I1", at=EPOCH + 2.5, node=7, detail="a coin is missing")
    said = text(made(0, violations=[broken]), made(1, outcome="failed"))
    assert "seed 0: I1 at 2.500000 s, node 7: a coin is missing" in said
    assert "seed-0000 --until 2.500000 --node 7 --trace`" in said
    assert "seed 1: failed, ValueError: a core" in said
    (line,) = [each for each in said.splitlines() if each.startswith("| lookup_s |")]
    assert "one seed, no interval | 1 |" in line, "a failed run counts for none"


def test_a_ready_experiment_is_reproduced_by_what_differs_from_it():
    exp = load("dht-small").with_({"run.nodes": 7, "protocol.dht.k": 5})
    (command,) = [
        line
        for line in text(replace(made(3), exp=exp)).splitlines()
        if line.startswith("tussah sim run")
    ]
    assert command == (
        "tussah sim run dht-small --seeds 3 --set run.nodes=7 --set protocol.dht.k=5"
    )


def test_a_table_keeps_its_columns_whatever_stands_in_it():
    said = text(made(0))
    assert "Is <b> escaped | kept?" in said
    assert len({line.count("|") for line in said.splitlines() if line.startswith("| lookup")}) == 1


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra sim")
    gathered = arrange([made(seed, loss=loss) for seed in range(2) for loss in (0.01, 0.1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "MAX_PLOTS", 2)
        plots_ = [plot for sort in drawing.every(gathered).values() for plot in sort]
        return report.as_html(gathered), report.as_html(gathered), plots_


def test_a_page_is_the_same_when_it_is_made_again(page):
    html, again, _ = page
    assert again == html


def test_a_page_needs_nothing_else(page):
    html, _, _ = page
    outside = re.findall(r'(?:src|href)="(?!#)[^"]*"', html)
    assert outside == []
    assert "<script" not in html
    assert "Is &lt;b&gt; escaped" in html


def test_a_page_has_every_plot(page):
    html, _, drawn = page
    assert len(drawn) >= 4
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == len(drawn)
    for svg in svgs:
        ET.fromstring(svg)


def test_a_plot_over_time_has_a_band_and_one_along_the_grid_its_points():
    gathered = arrange([made(seed, loss=loss) for seed in range(3) for loss in (0.01, 0.1)])
    every = drawing.every(gathered)
    (over,) = every["Over time"]
    assert [curve.label for curve in over.curves] == ["loss 0.01", "loss 0.1"]
    curve = over.curves[0]
    assert all(low < y < high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True))
    along = {plot.title: plot for plot in every["Along the grid"]}
    assert list(along["messages{dht} by network.loss"].curves[0].x) == [0.01, 0.1]
    (spread,) = every["Distributions"]
    assert spread.curves[0].y[-1] == 1.0


def test_a_long_run_has_a_short_curve(monkeypatch):
    monkeypatch.setattr(drawing, "MAX_POINTS", 5)
    (over,) = drawing.every(arrange([made(0)]))["Over time"]
    assert len(over.curves[0].x) == 5
    assert over.curves[0].low == ()


# --- on disk ---


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.frames, "available", lambda: False)
    for seed in range(2):
        for name, loss in (("a", 0.01), ("b", 0.1)):
            run = made(seed, loss=loss)
            directory = outputs.place(tmp_path / name, run.exp, seed)
            outputs.prepare(directory)
            outputs.write(run, directory, directory)
    return tmp_path


def test_runs_are_gathered_from_below_a_directory(place):
    assert gather(place).keys == ("network.loss",)
    assert [run.seed for _, run in gather(place / "a").runs] == [0, 1]
    with pytest.raises(LocalError, match="no finished run"):
        gather(place / "c")


def test_without_matplotlib_a_report_is_markdown(place, monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    assert report.write(place) == [place / "report.md"]


def test_a_comparison_is_of_pairs(place):
    found = compare(place / "a", place / "b")
    assert found.settings == {"network.loss": (0.01, 0.1)}
    changes = {each.metric: each for each in found.changes}
    assert changes["messages{dht}"].change.mean == pytest.approx(90.0)
    assert changes["lookup_found"].warning == "may be chance"
    assert changes["messages{dht}"].warning == ""


def test_a_comparison_of_several_points_with_one_is_refused(place):
    with pytest.raises(LocalError, match="differ in more"):
        compare(place / "a", place)


def test_nothing_in_common_is_said_so(place, tmp_path):
    (tmp_path / "a").rename(tmp_path / "all")
    one, other = sorted((tmp_path / "all").glob("*/seed-*"))
    with pytest.raises(LocalError, match="No seed"):
        compare(one, other)
