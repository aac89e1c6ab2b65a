"""The command line's entry: which commands there are, and how each way of ending is reported.

Commands are named as text and imported when called: `status` must not wait for what `up` needs.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from scripts.cli.common import fail
from scripts.failure import CODES, Failed, Failure

COMMANDS = {
    "up": "Start the node.",
    "down": "Stop the node; running answers finish.",
    "ask": "Ask a question, privately.",
    "status": "Show how the node is.",
    "peers": "Show who is on the network.",
    "models": "Show which models can be asked.",
    "demo": "Run a small network on this machine and ask it a question.",
    "bench": "Measure.",
    "version": "Show which program this is.",
}

NETWORK_COMMANDS = {
    "new": "Make a network with this node as the first to be asked.",
    "join": "Join a network by its invitation.",
    "show": "Show a joined network, or its invitation.",
    "leave": "Forget a network.",
}

MODULES = {"down": "up", "peers": "status", "models": "status"}
"""Commands that live beside another one."""


def build() -> App:
    """The tree of commands."""
    app = App(
        name="tussah",
        help="Private AI inference by anyone's laptop, asked for through onion circuits.",
        help_formatter="plain",
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative="", show_default=_shown_default),
    )
    for name, text in COMMANDS.items():
        app.command(f"scripts.cli.{MODULES.get(name, name)}:{name}", name=name, help=text)
    network = App(name="network", help="Make, join, show and leave networks.", version_flags=[])
    for name, text in NETWORK_COMMANDS.items():
        network.command(f"scripts.cli.network:{name}", name=name, help=text)
    app.command(network)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = _common_last(list(sys.argv[1:] if argv is None else argv))
    as_json = "--json" in words
    try:
        status = build()(
            words, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return fail(_usage(error), as_json=as_json)
    except Failed as failed:
        return fail(failed.failure, as_json=as_json)
    except KeyboardInterrupt:
        return fail(Failure(code="interrupted", message="Interrupted."), as_json=as_json)
    except BrokenPipeError:
        # Who reads our output has enough; nothing may be flushed into the pipe at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CODES["failed"].exit
    return status if isinstance(status, int) else 0


def _shown_default(value: object) -> str | None:
    """A default as help shows it; none that only says "not given"."""
    return str(value) if value else None


def _common_last(words: list[str]) -> list[str]:
    """`--home DIR` and `--json` may stand before the command, too."""
    leading: list[str] = []
    while words and (words[0] == "--json" or words[0].startswith("--home")):
        count = 2 if words[0] == "--home" else 1
        leading += words[:count]
        words = words[count:]
    return words + leading


def _usage(error: CycloptsError) -> Failure:
    command = " ".join(["tussah", *(error.command_chain or ())])
    return Failure(code="usage", message=str(error), advice=f"See {command} --help.")


if __name__ == "__main__":
    sys.exit(main())
