"""docs/experiments.md: its file is an experiment, its Python runs, its commands are there."""

import re
import tomllib
from pathlib import Path

import pytest

from scripts.cli.main import SIM_COMMANDS, main
from simulations import experiment

PAGE = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_file_of_the_page_is_an_experiment():
    (text,) = blocks("toml")
    exp = experiment.parse(text)
    assert set(tomllib.loads(text)) >= {"run", "network", "churn", "protocol", "sweep", "quick"}
    assert exp.quicker().run.nodes == 30


def test_the_python_of_the_page_runs():
    (text,) = blocks("python")
    names = {}
    exec(
        text.replace("nodes=50", "nodes=20").replace("range(3)", "range(1)").replace("10.0", "5.0"),
        names,
    )
    assert len(names["run"].digest) == 32
    assert names["trial"].now == 5.0


COMMANDS = sorted(set(re.findall(r"tussah sim [^#\n`]*[^#\n` ]", PAGE + README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page_exist(command, capsys):
    _, _, name, *words = command.split()
    assert name in SIM_COMMANDS
    main(["sim", name, "--help"])
    shown = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word in shown
        if word in experiment.ready() or "=" not in word:
            continue
        key, value = experiment.setting(word)
        experiment.load("churn-1000").with_({key: value})
