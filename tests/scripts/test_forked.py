"""Programs in processes that are forked from one which has imported everything."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.forked import Process

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def program(tmp_path):
    """Starts a program that is written out, and gives its process and its output."""

    def start(text, *words, **environment):
        script, output = tmp_path / "program.py", tmp_path / "output"
        script.write_text(text)
        process = Process(
            [str(script), *words], name="program", output=output, environment=environment
        )
        return process, output

    return start


def test_it_is_as_if_the_interpreter_had_begun_it(program):
    text = "import os, sys; print(__name__, sys.argv[1:], dict(os.environ)); sys.exit(3)"
    process, output = program(text, "a", "b", ONLY="this")
    assert process.wait(60) == process.returncode == 3
    assert output.read_text() == "__main__ ['a', 'b'] {'ONLY': 'this'}\n"
    process.send_signal(signal.SIGTERM)  # nobody is there any more


def test_its_input_ends_when_it_is_let_go(program):
    process, _ = program("import os, sys; sys.exit(len(os.read(0, 9)))")
    process.let_go()
    assert process.wait(60) == 0


def test_a_signal_that_ended_it_is_its_status(program):
    process, _ = program("import time; time.sleep(600)")
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_modules_of_the_current_directory_are_not_taken_for_ours(tmp_path):
    there = tmp_path / "scripts"
    there.mkdir()
    (there / "__init__.py").write_text("")
    (there / "preloaded.py").write_text("open('taken', 'w')")
    (there / "harmless.py").write_text("")
    driver = tmp_path / "elsewhere" / "driver.py"
    driver.parent.mkdir()
    driver.write_text(f"""
from pathlib import Path
from scripts.forked import Process

if __name__ == "__main__":
    words = [{str(there / "harmless.py")!r}]
    process = Process(words, name="program", output=Path("output"), environment={{}})
    raise SystemExit(process.wait(60))
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(driver)], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "taken").exists()
