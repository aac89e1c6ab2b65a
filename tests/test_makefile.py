"""What `make` hands on: a question as it was typed, whatever make or a shell would make of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SHOW = 'include Makefile\nshow:\n\t@printf "%s" "$$Q"\n'


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("given", ["argument", "environment"])
@pytest.mark.parametrize(
    "question", ["- why $HOME moths?", 'it\'s "quoted" `x` $$ $(HOME) # 5%', "Überall?", ""]
)
def test_question_is_asked_as_typed(question, given):
    words = [f"Q={question}"] if given == "argument" else []
    outside = {name: text for name, text in os.environ.items() if "MAKE" not in name}
    result = subprocess.run(
        ["make", "--no-print-directory", "-f", "-", "show", *words],
        input=SHOW,
        env={**outside, "Q": question},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == question
