"""`tussah sim`: experiments on the protocol in virtual time. No node, network or key is needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

from cyclopts import Parameter

from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.failure import CODES, Failed

BROKE = CODES["failed"].exit

LINE = 100
"""characters of a question in a list"""

MAX_MINUTES = 10_080
"""a week"""

SHRINK_RUNS = 400
"""runs that one shrinking tries"""


def list_(*, common: Common = PLAIN) -> int:
    """Show the ready experiments and what each asks."""
    with _failing():
        from simulations import experiment

        found = [experiment.load(name) for name in experiment.ready()]
    rows = [{"name": exp.name, "scenario": exp.scenario, "question": exp.question} for exp in found]
    if common.as_json:
        give({"schema": "tussah/sim-list/1", "experiments": rows})
        return 0
    for row in rows:
        out(f"{row['name']:<16} {_first_line(row['question'])}\n")
    return 0


def show(name: str, /, *, common: Common = PLAIN) -> int:
    """Print an experiment with all its values.

    Parameters
    ----------
    name
        A ready one, or a file.
    """
    with _failing():
        from simulations import experiment

        exp = experiment.load(name)
    if common.as_json:
        tree = experiment.as_tree(exp)
        give(
            {
                "schema": "tussah/sim-show/1",
                "name": exp.name,
                "config_hash": exp.config_hash(),
                "experiment": tree,
            }
        )
        return 0
    from simulations import writing

    out(writing.as_toml(exp))
    return 0


def schema(*, common: Common = PLAIN) -> int:
    """Print the JSON schema of an experiment's file."""
    from simulations import reading
    from simulations.experiment import Experiment

    described = reading.schema(Experiment)
    if common.as_json:
        give({"schema": "tussah/sim-schema/1", "experiment": described})
    else:
        out(json.dumps(described, indent=1) + "\n")
    return 0


def run(
    name: str,
    /,
    *,
    seed: int | None = None,
    seeds: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", consume_multiple=False)] = None,
    nodes: int | None = None,
    quick: bool = False,
    into: Annotated[str, Parameter(name="--out")] = "runs",
    engine: str = "futures",
    workers: int | None = None,
    common: Common = PLAIN,
) -> int:
    """Run an experiment: one seed, or every seed and every point of its grid.

    Parameters
    ----------
    name
        A ready experiment, or a file.
    seed
        One run with this seed, of the experiment itself: its grid is left out.
    seeds
        These seeds, both ends included: 0..9.
    set_
        Change a value, as in network.loss=0.05; as often as needed. The grid no longer varies it.
    nodes
        How many nodes.
    quick
        The same question, answered roughly in some seconds.
    into
        Where the runs are written. What is there already is not run again.
    engine
        What runs a sweep: futures, here, or dask=tcp://host:port.
    workers
        How many processes of this machine; as many as it has cores, if not given.
    """
    if seed is not None and seeds is not None:
        raise Failed("usage", "One of --seed and --seeds is enough.", "--seeds 7 is one seed, too.")
    with _failing():
        from simulations import experiment

        exp = experiment.load(name)
        if quick:
            exp = exp.quicker()
        changes: dict[str, object] = dict(experiment.setting(text) for text in set_ or [])
        if nodes is not None:
            changes["run.nodes"] = nodes
        if seeds is not None:
            changes["run.seeds"] = seeds
        exp = exp.with_(changes)
        if seed is not None:
            exp = exp.with_({"run.seeds": str(seed), "sweep.grid": {}})
        alone = len(exp.seeds()) == 1 and not exp.sweep.grid and not engine.startswith("dask")
        from simulations import studies

        document = (
            studies.run_one(exp, Path(into), say)
            if alone
            else studies.run_all(exp, Path(into), say, engine=engine, workers=workers)
        )
    if common.as_json:
        give(document)
    else:
        from scripts.cli import studies as texts

        (texts.sweep if "runs" in document else texts.run)(document)
    return BROKE if document["outcome"] in ("violated", "failed") else 0


def report(
    directory: str,
    /,
    *,
    into: Annotated[str | None, Parameter(name="--out")] = None,
    common: Common = PLAIN,
) -> int:
    """Write report.md and report.html from the runs in a directory.

    Parameters
    ----------
    directory
        Where `sim run` wrote them, or a directory above.
    into
        Where the files are to be written, if not there.
    """
    with _failing():
        from simulations import report as reports

        place = Path(directory)
        files = reports.write(place, None if into is None else Path(into))
        document = reports.document(place, files)
    if common.as_json:
        give(document)
        return 0
    for path in files:
        out(f"{path}\n")
    if not document["plots"]:
        say("No plots: matplotlib is not installed. The extra brings it: pip install 'tussah[sim]'")
    return 0


def compare(before: str, after: str, /, *, common: Common = PLAIN) -> int:
    """Show what differs between two sets of runs, seed by seed.

    Parameters
    ----------
    before
        A directory of runs.
    after
        Another one.
    """
    with _failing():
        from simulations import compare as comparing

        one, other = Path(before), Path(after)
        document = comparing.document(comparing.compare(one, other), one, other)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import studies

        studies.comparison(document)
    return 0


def replay(
    directory: str,
    /,
    *,
    until: float | None = None,
    node: int | None = None,
    trace: bool = False,
    common: Common = PLAIN,
) -> int:
    """Run a run again, and look into it. Exit 1 if it is not the same.

    Parameters
    ----------
    directory
        Of one run: the one with manifest.json.
    until
        Stop after so many virtual seconds.
    node
        Print every record of this node, and its table sizes at the end.
    trace
        Print with each record the line of the protocol that made it; with --until for the last
        virtual second only, since it is slow.
    """
    with _failing():
        from simulations import replay as replaying

        place = Path(directory)
        talk = say if common.as_json else lambda text: out(text + "\n")
        see = None if node is None and not trace else lambda seen: talk(replaying.words(seen))
        replayed = replaying.replay(place, until=until, node=node, trace=trace, see=see)
        document = replaying.document(replayed, place)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import studies

        studies.replayed(document)
    return 0 if document["same"] else BROKE


def bisect(before: str, after: str, /, *, common: Common = PLAIN) -> int:
    """Show the first record at which two runs part. Exit 1 if they do.

    Parameters
    ----------
    before
        A run's directory.
    after
        Another's.
    """
    with _failing():
        from simulations import replay as replaying

        one, other = Path(before), Path(after)
        parting = replaying.bisect(one, other)
        document = replaying.bisect_document(parting, one, other)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import studies

        studies.parting(document)
    return 0 if parting.equal else BROKE


def shrink(directory: str, /, *, runs: int = SHRINK_RUNS, common: Common = PLAIN) -> int:
    """Make a run in which something broke as small as it can be.

    Parameters
    ----------
    directory
        Of the run.
    runs
        How many smaller ones to try at most.
    """
    with _failing():
        from simulations import shrinking

        place = Path(directory)
        document = shrinking.document(shrinking.shrink_run(place, most=runs), place)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import studies

        studies.shrunk(document)
    return BROKE


def soak(
    *,
    minutes: float = 1.0,
    first: int = 0,
    keep: str | None = None,
    common: Common = PLAIN,
) -> int:
    """Run payments under faults with one seed after the other. Exit 1 if an invariant broke.

    What fails is made small, printed with the line that replays it, and kept in a file.

    Parameters
    ----------
    minutes
        For how long.
    first
        The first seed.
    keep
        The file of failures; else that of `make test`, which replays them from then on.
    """
    if not 0.0 <= minutes <= MAX_MINUTES:
        raise Failed("usage", f"--minutes must be from 0 to {MAX_MINUTES}, not {minutes:g}.")
    with _failing():
        from simulations import soaking

        place = None if keep is None else Path(keep)
        document = soaking.run(minutes, first=first, keep=place, say=say)
    if common.as_json:
        give(document)
    return BROKE if document["failures"] else 0


def check(
    name: str,
    /,
    *,
    seed: int = 0,
    engine: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", consume_multiple=False)] = None,
    common: Common = PLAIN,
) -> int:
    """See whether a run is the same in other processes, engines and Pythons. Exit 1 if not.

    Parameters
    ----------
    name
        A ready experiment, or a file; it is run as `--quick` does, at the first point of its grid.
    seed
        Which seed.
    engine
        One more engine to try: dask=tcp://host:port.
    set_
        Change a value, as often as needed.
    """
    with _failing():
        from simulations import check as checking
        from simulations import experiment

        exp = experiment.load(name).quicker()
        exp = exp.with_(dict(experiment.setting(text) for text in set_ or []))
        ways = checking.check(exp, seed, engine=engine, say=say)
        document = checking.document(exp, seed, ways)
    if common.as_json:
        give(document)
    else:
        out("one digest\n" if document["agree"] else "digests differ\n")
    return 0 if document["agree"] else BROKE


def data(
    action: Literal["verify"] = "verify",
    /,
    *,
    directory: Annotated[str | None, Parameter(name="--data")] = None,
    common: Common = PLAIN,
) -> int:
    """Check the data sets that experiments may read, by their SHA-256. Exit 1 if one is wrong.

    Parameters
    ----------
    action
        What to do.
    directory
        Where they are; else what TUSSAH_DATA names.
    """
    from simulations import data as sets

    place = sets.place(directory)
    files = sets.verify(place)
    if common.as_json:
        give(sets.document(place, files))
    else:
        for each in files:
            out(f"{each.state:<7} {each.name}\n")
        if place is None:
            say("No directory of data is named: give --data DIR or set TUSSAH_DATA.")
    return BROKE if any(each.state == "wrong" for each in files) else 0


def _first_line(question: str) -> str:
    """The first sentence, on one line of a terminal."""
    words = " ".join(question.split())
    first = words.partition("? ")[0].rstrip("?") + "?" if "?" in words else words
    return shorten(first, LINE, placeholder=" …")


@contextmanager
def _failing() -> Iterator[None]:
    """What cannot be asked for is exit 2 in one sentence."""
    from p2p.errors import LocalError

    try:
        yield
    except LocalError as error:
        raise Failed("usage", str(error)) from error
