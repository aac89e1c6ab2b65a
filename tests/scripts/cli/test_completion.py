"""`tussah completion`: what it prints is what the shells take."""

import shutil
import subprocess

import pytest

COMPLETE = """
source /dev/stdin
COMP_WORDS=(%s) COMP_CWORD=%d
_tussah
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script():
    from scripts.cli.main import build

    return build().generate_completion(prog_name="tussah", shell="bash")


def complete(script, *words):
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = COMPLETE % (quoted, len(words) - 1)
    run = subprocess.run(
        ["bash", "--norc", "-c", code], input=script, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [(("do",), "doctor"), (("network", "jo"), "join"), (("ask", "--rel"), "--relays")],
)
def test_bash_completes_commands_and_options(script, words, offered):
    assert offered in complete(script, "tussah", *words)


def test_a_script_has_every_command(shell, validate):
    status, document = shell.document("completion", "zsh")
    validate(document, "completion")
    assert status == 0
    assert all(word in document["script"] for word in ("doctor", "config", "max-price"))


def test_another_shell_is_refused_with_those_there_are(shell):
    status, _, err = shell("completion", "csh")
    assert status == 2
    assert "fish" in err
