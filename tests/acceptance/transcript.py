"""Transcripts: what a person types, and what must be seen.

Lines with `$` are commands; what they print must match the lines below: `{name:kind}` and `{kind}`
stand for a value of that kind, `...` for any lines, `{document: digest = D}` for a JSON document
whose digest is the same wherever D stands. Lines that begin with `[stderr]` are of standard error,
everything else is of standard output.
"""

import json
import re
from dataclasses import dataclass

TALK = "[stderr] "

KINDS = {
    "id": r"[0-9a-f]{8}",
    "int": r"[0-9]+",
    "ms": r"[0-9]+ ms",
    "ton": r"[0-9]+(?:\.[0-9]+)? TON",
    "text": r".+",
    "rest": r".*",
}


@dataclass(frozen=True)
class Step:
    """A command and what it prints."""

    command: str
    out: list
    talk: list


def steps(path):
    """The steps of a transcript."""
    for step in re.split(r"^\$ ", path.read_text(), flags=re.MULTILINE)[1:]:
        command, *lines = step.splitlines()
        talk = [line.removeprefix(TALK) for line in lines if line.startswith(TALK)]
        yield Step(command, [line for line in lines if not line.startswith(TALK)], talk)


def check(step, out, talk, names):
    """What was printed is what the transcript says. `names` keeps what was named."""
    document = re.fullmatch(r"\{document: (\w+) = (\w+)\}", step.out[0]) if step.out else None
    if document is not None:
        key, name = document.groups()
        found = json.loads(out)[key]
        assert found == names.setdefault(name, found)
    else:
        _match(step.out, out)
    if step.talk:
        _match(step.talk, talk)


def _match(lines, printed):
    pattern = _pattern(lines).replace(r"\ ", r"\s+")
    assert re.fullmatch(pattern, printed), f"{printed}\nis not\n" + "\n".join(lines)


def _pattern(lines):
    found = ""
    for line in lines:
        if line == "...":
            found += r"(?:.*\n)*?"
        else:
            parts = re.split(r"(\{[^}]*\})", line)
            found += "".join(map(_part, parts)) + r"\n"
    return found


def _part(part):
    """A value's pattern, or the words as they are."""
    return KINDS[part[1:-1].rpartition(":")[2]] if part[:1] == "{" else re.escape(part)
