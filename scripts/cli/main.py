"""The command line's entry: which commands there are, and how each way of ending is reported.

Commands are named as text and imported when called: `status` must not wait for what `up` needs.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from cyclopts import App, CycloptsError, Parameter

from scripts.cli import overview
from scripts.cli.common import fail, out
from scripts.cli.teaching import Teaching
from scripts.failure import CODES, Failed, Failure
from scripts.home import locate

ABOUT = "Private AI inference by anyone's laptop, asked for through onion circuits."

COMMANDS = {
    "up": "Start the node.",
    "down": "Stop the node; running answers finish.",
    "ask": "Ask a question, privately.",
    "chat": "Talk with a model, privately.",
    "status": "Show how the node is.",
    "top": "Watch the node in the terminal.",
    "doctor": "Check the node, and say what to do.",
    "logs": "Show what the node has written.",
    "peers": "Show who is on the network.",
    "circuits": "Show this node's circuits, and its guards.",
    "id": "Show who this node is.",
    "prices": "Show what answers cost now.",
    "earnings": "Show what this node's worker has earned.",
    "page": "Open the chat page in a browser.",
    "demo": "Run a small network on this machine and ask it a question.",
    "localchain": "Run a TON chain of one's own, for development.",
    "bench": "Measure.",
    "completion": "Print the completion script of a shell.",
    "version": "Show which program this is.",
}

NETWORK_COMMANDS = {
    "new": "Make a network with this node as the first to be asked.",
    "join": "Join a network by its invitation.",
    "show": "Show a joined network, or its invitation.",
    "leave": "Forget a network.",
}

DHT_COMMANDS = {
    "get": "Look up a value.",
    "put": "Store a value under this node's own key.",
    "find-node": "Show the nodes nearest to an id.",
    "config": "Print the bootstrap nodes as TON's tools read them.",
}

SIM_COMMANDS = {
    "list": "Show the ready experiments.",
    "show": "Print an experiment with all its values.",
    "schema": "Print the JSON schema of an experiment's file.",
    "run": "Run an experiment.",
    "report": "Write a report of runs, with plots.",
    "compare": "Show what differs between two sets of runs.",
    "replay": "Run a run again, and look into it.",
    "bisect": "Show where two runs part.",
    "shrink": "Make a run in which something broke small.",
    "check": "See whether a run is the same everywhere.",
    "soak": "Run payments under faults, seed after seed.",
    "data": "Check the data sets that experiments may read.",
}

GROUPS = {
    "network": ("Make, join, show and leave networks.", NETWORK_COMMANDS),
    "dht": ("The network's distributed table: who is where, and small values.", DHT_COMMANDS),
    "config": (
        "The settings, and where each value comes from.",
        {
            "show": "Show every setting, its value and where that comes from.",
            "get": "Print the value of a setting.",
            "set": "Change a setting in the file.",
            "unset": "Take a setting out of the file: its default holds again.",
            "edit": "Open the file in your editor.",
            "path": "Print where the file is.",
        },
    ),
    "service": (
        "The node as a service of your systemd, started with the machine.",
        {
            "install": "Write the unit, and start it.",
            "show": "Print the unit.",
            "remove": "Stop it, and take the unit away.",
        },
    ),
    "models": (
        "Which models there are, which fit this machine, and fetching them.",
        {
            "list": "Show every model: on offer, on this machine, in a catalogue.",
            "show": "Show all that is known of a model.",
            "pull": "Fetch a model.",
            "rm": "Delete a model that was fetched.",
            "add": "Take in a signed catalogue.",
        },
    ),
    "worker": (
        "What this node does for others with its model, and what it leaves to you.",
        {
            "start": "Serve again after a stop; without a running node, start one that serves.",
            "stop": "Serve nothing, and free the model's memory.",
            "pause": "Take nothing new for a while; running answers finish.",
            "resume": "End a pause.",
            "limits": "Show when it gives way to you, and what holds it now.",
        },
    ),
    "key": (
        "Secrets of this home that other programs need.",
        {"api": "Print the key of the local API."},
    ),
    "sim": ("Experiments on the protocol in virtual time, for researchers.", SIM_COMMANDS),
    "wallet": (
        "What this node has on the chain and in credits.",
        {
            "show": "Show the wallet: coins, credits and lanes.",
            "deposit": "Show where coins for this node go, with a QR code.",
            "withdraw": "Send coins from the wallet to an address.",
            "backup": "Show the 24 words that the wallet can be made from again.",
            "restore": "Make the wallet of this home out of its 24 words.",
            "passphrase": "Encrypt the wallet's file, or change its passphrase.",
            "unlock": "Open the encrypted wallet of the running node.",
        },
    ),
    "credits": (
        "Coins that a mint has signed without seeing them: what answers are paid with.",
        {"list": "Show the credits at hand.", "buy": "Buy a bundle of credits."},
    ),
    "lanes": (
        "The contracts on the chain over which this node pays and is paid.",
        {
            "list": "Show every lane and its transactions.",
            "settle": "Claim now what a lane owes this node.",
            "close": "Close a lane and free its coins.",
            "share": "Write this node's vouchers to a file, for a friend to watch.",
            "watch": "Watch a friend's lanes, and claim for it while it sleeps.",
        },
    ),
    "mint": ("Running a mint.", {"audit": "Show the balance sheet of this node's mint."}),
    "receipts": (
        "What workers have signed for.",
        {
            "list": "Show the receipts of this node's answers.",
            "export": "Write them as JSON lines.",
            "verify": "Check exported receipts; no node is needed.",
        },
    ),
}
"""Commands of two words."""

SECTIONS = {
    "Ask": ("ask", "chat", "page", "models", "prices"),
    "This node": (
        "up",
        "down",
        "status",
        "top",
        "doctor",
        "logs",
        "id",
        "config",
        "key",
        "service",
        "worker",
    ),
    "The network": ("network", "peers", "circuits", "dht"),
    "Money": ("wallet", "credits", "lanes", "earnings", "receipts", "mint"),
    "Try, measure, study": ("demo", "localchain", "bench", "sim"),
    "This program": ("completion", "version"),
}
"""Where a command stands in the overview; what is in no section stands below them."""

PLACES = {
    "id": "identity:id_",
    "dht find-node": "dht:find_node",
    "wallet show": "money:wallet",
    "wallet deposit": "money:deposit",
    "wallet withdraw": "money:withdraw",
    "credits list": "money:credits_",
    "credits buy": "money:buy",
    "lanes list": "money:lanes",
    "lanes settle": "money:settle",
    "lanes close": "money:close",
    "lanes share": "money:share",
    "mint audit": "money:audit",
    "lanes watch": "money:watch",
    "receipts list": "receipts:list_",
    "sim list": "sim:list_",
    "models list": "models:list_",
    "config set": "config:set_",
}
"""Where a command is, if not in its own or its group's module under its own name."""

MODULES = {
    "earnings": "money",
    "down": "up",
    "peers": "status",
    "circuits": "status",
    "prices": "models",
}
"""Commands that live beside another one."""


def build(only: str | None = None) -> App:
    """The tree of commands; `only` that one of them, or that group, which is sooner made."""
    app = App(
        name="tussah",
        help=ABOUT,
        help_format="plaintext",
        help_formatter=Teaching(),
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative="", show_default=_shown_default),
    )
    for name in _one(COMMANDS, only):
        place = PLACES.get(name, f"{MODULES.get(name, name)}:{name}")
        app.command(f"scripts.cli.{place}", name=name)
    for group in _one(GROUPS, only):
        about, commands = GROUPS[group]
        inner = App(name=group, help=about, version_flags=[])
        for name in commands:
            place = PLACES.get(f"{group} {name}", f"{group}:{name}")
            inner.command(f"scripts.cli.{place}", name=name)
        app.command(inner)
    return app


def _one(names: Mapping[str, object], only: str | None) -> list[str]:
    return [name for name in names if only in (None, name)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = _with_usual(_common_last(list(sys.argv[1:] if argv is None else argv)))
    ending = partial(fail, home=locate(_home_of(words), os.environ), as_json=_is_json(words))
    bare = _without_common(words)
    if listing := _listing(bare):
        if _is_json(words) and bare == _without_help(bare):
            return ending(_unsaid(bare))
        out(listing)
        return 0
    try:
        first = words[0] if words else ""
        status = build(first if first in COMMANDS or first in GROUPS else None)(
            words, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return ending(_usage(error))
    except Failed as failed:
        return ending(failed.failure)
    except KeyboardInterrupt:
        return ending(Failure(code="interrupted", message="Interrupted."))
    except BrokenPipeError:
        # Who reads our output has enough; nothing may be flushed into the pipe at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CODES["failed"].exit
    return status if isinstance(status, int) else 0


def _listing(words: list[str]) -> str | None:
    """What is shown for no command, or for a group of them alone."""
    match _without_help(words):
        case []:
            about = COMMANDS | {name: text for name, (text, _) in GROUPS.items()}
            return overview.whole(ABOUT, about, SECTIONS)
        case [name] if name in GROUPS:
            return overview.group(name, *GROUPS[name])
        case _:
            return None


def _with_usual(words: list[str]) -> list[str]:
    """`tussah models` alone means `tussah models list`."""
    is_alone = words[:1] == ["models"] and (len(words) == 1 or words[1] in ("--json", "--home"))
    is_alone = is_alone or (words[:1] == ["models"] and words[1].startswith("--home="))
    return [words[0], "list", *words[1:]] if is_alone else words


def _unsaid(words: list[str]) -> Failure:
    """For a program that names no command, or only the group of one."""
    of = " ".join(["tussah", *words])
    known = GROUPS[words[0]][1] if words else [*COMMANDS, *GROUPS]
    return Failure(
        code="usage", message=f"{of} needs a command.", advice=f"Known: {', '.join(known)}."
    )


def _without_help(words: list[str]) -> list[str]:
    return [word for word in words if word not in ("--help", "-h")]


def _without_common(words: list[str]) -> list[str]:
    """The words but for `--json` and `--home DIR`, as far as they are options."""
    options, rest = _options(words)
    kept: list[str] = []
    skips = False
    for word in options:
        if not (skips or word == "--json" or word.startswith("--home")):
            kept.append(word)
        skips = word == "--home"
    return [*kept, *rest]


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
    options, rest = _options(words)
    return [*options, *leading, *rest]


def _options(words: list[str]) -> tuple[list[str], list[str]]:
    """What may be options, and what may not: `--` and all behind it."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end:]


def _is_json(words: list[str]) -> bool:
    return "--json" in _options(words)[0]


def _home_of(words: list[str]) -> str | None:
    """The directory of `--home`, were the rest of the command wrong too."""
    options = _options(words)[0]
    for at, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name == "--home":
            return value if equals else "".join(options[at + 1 : at + 2])
    return None


def _usage(error: CycloptsError) -> Failure:
    command = " ".join(["tussah", *(error.command_chain or ())])
    return Failure(code="usage", message=str(error), advice=f"See {command} --help.")


if __name__ == "__main__":
    sys.exit(main())
