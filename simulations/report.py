"""A report of the runs in a directory: Markdown, and one HTML file that needs no other.

The same runs give the same bytes. A mean of one seed stands as what it is, without an interval.
"""

import html
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from p2p.transport.fabric import EPOCH
from simulations import drawing, outputs, plots
from simulations.experiment import load, ready
from simulations.gathering import Gathered, Point, changed, gather, settings
from simulations.run import Run
from simulations.summing import Line, summarize
from simulations.words import number, unit, value

SCHEMA: Final = "tussah/sim-report/1"

MAX_DIGESTS: Final = 100
"""lines of digests that a report lists"""

MAX_VIOLATIONS: Final = 20


def write(place: Path, into: Path | None = None) -> list[Path]:
    """Write the report of all runs below a directory; returns its files.

    Without matplotlib there is Markdown only. Raises `LocalError` if there is no run.
    """
    gathered = gather(place)
    into = into or place
    into.mkdir(parents=True, exist_ok=True)
    markdown = into / "report.md"
    markdown.write_text(as_markdown(gathered))
    if not plots.available():
        return [markdown]
    page = into / "report.html"
    page.write_text(as_html(gathered))
    return [markdown, page]


def document(place: Path, files: Sequence[Path]) -> dict[str, object]:
    """The `sim report` document."""
    return {
        "schema": SCHEMA,
        "runs": len(outputs.find(place)),
        "files": [str(path) for path in files],
        "plots": any(path.suffix == ".html" for path in files),
    }


def as_markdown(gathered: Gathered) -> str:
    """The report for a terminal, a repository, a mail."""
    return "\n".join(_markdown(gathered)).rstrip() + "\n"


def as_html(gathered: Gathered) -> str:
    """The report for a browser, with its plots in it."""
    body = "\n".join(_blocks(gathered))
    return _PAGE.format(title=html.escape(_title(gathered)), body=body)


# --- what both say ---


def _title(gathered: Gathered) -> str:
    return min(run.exp.name for _, run in gathered.runs)


def _exp_texts(gathered: Gathered) -> tuple[str, list[tuple[str, str]]]:
    """The question, and the setting: what all runs share and no default is."""
    _, run = gathered.runs[0]
    shared = {
        key: value(each)
        for key, each in changed(run.exp).items()
        if key not in gathered.keys and key != "name"
    }
    rows = [("scenario", run.exp.scenario), ("nodes", str(run.exp.run.nodes))]
    rows += [("virtual time", f"{number(run.exp.run.until)} s")]
    told = {"scenario", "run.nodes", "run.until"}
    rows += [(key, each) for key, each in sorted(shared.items()) if key not in told]
    rows = [row for row in rows if row[0] != "nodes" or "run.nodes" not in gathered.keys]
    return run.exp.question, rows


def _lines(gathered: Gathered) -> dict[str, tuple[Line, ...]]:
    """Every line by the name of its point."""
    found: dict[str, list[Line]] = {}
    for line in summarize(gathered.runs):
        found.setdefault(at(line.point), []).append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def at(point: Point) -> str:
    """A point by its keys, as a heading has it."""
    return ", ".join(f"{key} = {value(each)}" for key, each in point.items())


_HEAD: Final = ("metric", "mean", "95 % interval", "n", "")


def _cells(line: Line) -> tuple[str, ...]:
    it = line.interval
    span = "one seed, no interval"
    if it.low is not None and it.high is not None:
        span = f"{number(it.low)} to {number(it.high)}"
    warning = "" if line.seeds == 1 and not line.unsettled else line.warning
    if line.seeds == 1 and line.unsettled:
        warning = "not stationary"
    mean = f"{number(it.mean)}{unit(line.unit)}"
    return (line.metric, mean, span, str(it.n), warning)


_DIGESTS: Final = ("seed", "digest", "records", "outcome")


def _digests(gathered: Gathered) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for point, run in gathered.runs[:MAX_DIGESTS]:
        where = (at(point),) if gathered.keys else ()
        digest = run.digest or "no log"
        rows.append((*where, str(run.seed), digest, str(run.records), run.outcome))
    return rows


def _troubles(gathered: Gathered) -> list[tuple[str, str]]:
    """What went wrong, each with the command that shows it."""
    found: list[tuple[str, str]] = []
    for _, run in gathered.runs:
        where = outputs.place(Path("runs"), run.exp, run.seed)
        if run.outcome in ("failed", "limit"):
            last = run.detail.strip().splitlines()[-1:]
            said = f"seed {run.seed}: {run.outcome}, {' '.join(last)}"
            found.append((said, f"tussah sim replay {where}"))
        for each in run.violations:
            when = each.at - EPOCH
            told = f"{each.invariant} at {when:.6f} s, node {each.node}: {each.detail}"
            said = f"seed {run.seed}: {told}"
            command = f"tussah sim replay {where} --until {when:.6f} --node {each.node} --trace"
            found.append((said, command))
    return found[:MAX_VIOLATIONS]


def _again(gathered: Gathered) -> list[str]:
    """The commands that make these runs again, one for each point."""
    commands: list[str] = []
    for point in gathered.points:
        runs = [run for there, run in gathered.runs if there == point]
        seeds = sorted(run.seed for run in runs)
        whole = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
        chosen = [f"--seeds {seeds[0]}..{seeds[-1]}"] if whole else [f"--seeds {n}" for n in seeds]
        commands += [f"tussah sim run {_named(runs[0])} {each}{_sets(runs[0])}" for each in chosen]
    return commands


def _named(run: Run) -> str:
    """What `sim run` takes: a ready name, or the file that the experiment must be in."""
    return run.exp.name if run.exp.name in ready() else f"{run.exp.name}.toml"


def _sets(run: Run) -> str:
    """What differs from the ready experiment, and where it is on its grid."""
    if run.exp.name not in ready():
        return ""
    base = load(run.exp.name)
    usual, given = settings(base), settings(run.exp)
    sets = {
        key: each
        for key, each in given.items()
        if usual.get(key, ()) != each or key in base.sweep.grid
    }
    return "".join(f" --set {shlex.quote(f'{key}={value(each)}')}" for key, each in sets.items())


# --- Markdown ---


def _markdown(gathered: Gathered) -> Iterator[str]:
    question, setting = _exp_texts(gathered)
    yield f"# {_title(gathered)}\n"
    if question:
        yield f"{question}\n"
    yield from _table(("setting", "value"), setting)
    for name, lines in _lines(gathered).items():
        yield f"## {name or 'Results'}\n"
        yield from _table(_HEAD, [_cells(line) for line in lines])
    troubles = _troubles(gathered)
    if troubles:
        yield "## What went wrong\n"
        yield from (f"- {said}: `{command}`" for said, command in troubles)
        yield ""
    yield "## Reproduce\n"
    yield "```sh"
    yield from _again(gathered)
    yield "```\n"
    head = ("point", *_DIGESTS) if gathered.keys else _DIGESTS
    yield from _table(head, _digests(gathered))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
    yield ""


# --- HTML ---


def _blocks(gathered: Gathered) -> Iterator[str]:
    question, setting = _exp_texts(gathered)
    yield f"<h1>{html.escape(_title(gathered))}</h1>"
    yield f"<p>{html.escape(question)}</p>"
    yield _html_table(("setting", "value"), setting)
    for name, lines in _lines(gathered).items():
        yield f"<h2>{html.escape(name or 'Results')}</h2>"
        yield _html_table(_HEAD, [_cells(line) for line in lines])
    for heading, drawn in drawing.every(gathered).items():
        if drawn:
            yield f"<h2>{heading}</h2>"
        for plot in drawn:
            label = html.escape(plot.title)
            yield f'<figure role="img" aria-label="{label}">{plots.svg(plot)}</figure>'
    troubles = _troubles(gathered)
    if troubles:
        yield "<h2>What went wrong</h2>"
        yield _html_table(("what", "look into it"), troubles)
    yield "<h2>Reproduce</h2>"
    yield f"<pre>{html.escape(chr(10).join(_again(gathered)))}</pre>"
    head = ("point", *_DIGESTS) if gathered.keys else _DIGESTS
    yield _html_table(head, _digests(gathered))


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>\n<tr>{heads}</tr>\n{lines}\n</table>"


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #8884; }}
figure {{ margin: 1rem 0; background: #fff; }}
svg {{ max-width: 100%; height: auto; }}
pre {{ overflow-x: auto; padding: .5rem; border: 1px solid #8884; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
