"""The example notebook: its cells run, one after the other, and hold no outputs of some machine."""

import ast
import json
from pathlib import Path

import pytest

from simulations import frames

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "experiments.ipynb"


def cells():
    found = json.loads(NOTEBOOK.read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells())


def execute(source, names):
    """As a kernel does: statements, and the value of a last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    )


def test_every_cell_of_the_notebook_runs(capsys):
    """By the interpreter itself: a kernel would need a hundred packages for what is a loop."""
    if not frames.available():
        pytest.skip("polars is not installed: the extra sim brings it")
    names, shown = {"__name__": "__main__"}, []
    for cell in cells():
        shown.append(execute("".join(cell["source"]), names))
    assert shown[0].startswith("What do lookups cost")
    assert shown[-1][1] == "one seed, no interval"
    assert "lookup_s" in capsys.readouterr().out
