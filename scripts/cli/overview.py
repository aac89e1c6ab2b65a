"""What `tussah --help` shows: every command in its section, and where to begin.

Written by hand: the parser's own help costs a quarter of a second of imports, and a person who
types `tussah` waits for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

FIRST = """First steps:
  tussah network join INVITE        a member of the network gives it to you
  tussah ask "Name three moths."    starts a node that only asks, if none runs
  tussah up --worker --detach       serve answers with this machine
"""

LAST = """Every command takes --json and --home DIR, and says more with --help.
"""


def whole(about: str, commands: Mapping[str, str], sections: Mapping[str, Sequence[str]]) -> str:
    """The overview of `commands`, a name and what it does each."""
    placed = {name for names in sections.values() for name in names}
    rest = [name for name in commands if name not in placed]
    lines = ["Usage: tussah COMMAND", "", about, "", FIRST]
    for title, names in (*sections.items(), ("More", rest)):
        lines += _section(title, {name: commands[name] for name in names}, commands)
    return "\n".join(lines) + "\n" + LAST


def group(name: str, about: str, commands: Mapping[str, str]) -> str:
    """The commands of a group."""
    head = [f"Usage: tussah {name} COMMAND", "", about, ""]
    return "\n".join([*head, *_section("Commands", commands, commands)])


def _section(title: str, commands: Mapping[str, str], beside: Iterable[str]) -> Iterator[str]:
    """A title and its commands, in columns as wide as `beside` needs."""
    if commands:
        width = max(map(len, beside))
        yield f"{title}:"
        yield from (f"  {name:<{width}}  {does}" for name, does in commands.items())
        yield ""
