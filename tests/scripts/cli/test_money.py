"""The commands of money: what they ask of the node, what they print, how they end."""

import io
import json
import os
import signal
import sys
from dataclasses import replace

import pytest

from ledger.credit import BUNDLES, worth
from ledger.money import ZERO, Nano
from scripts.api import client
from scripts.api.money import Coins
from scripts.cli import money, render
from scripts.failure import Failed
from tests.ledger.test_backup import VOUCHER

LANE = "UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh"

EVERY = [
    ["wallet", "show"],
    ["wallet", "deposit"],
    ["wallet", "withdraw", LANE, "0.5", "--yes"],
    ["earnings"],
    ["credits", "list"],
    ["credits", "buy"],
    ["credits", "buy", "S"],
    ["lanes", "list"],
    ["lanes", "settle", LANE],
    ["lanes", "close", LANE],
    ["receipts", "list"],
    ["receipts", "export"],
]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["wallet", "show"], "wallet"),
        (["wallet", "deposit"], "deposit"),
        (["wallet", "deposit", "--amount", "0.5"], "deposit"),
        (["wallet", "withdraw", LANE, "0.5", "--yes"], "withdrawal"),
        (["earnings"], "earnings"),
        (["mint", "audit"], "audit"),
        (["earnings", "--by", "model"], "earnings"),
        (["receipts", "list", "--earned"], "receipts"),
        (["credits", "list"], "credits"),
        (["credits", "buy"], "purchase"),
        (["lanes", "list"], "lanes"),
        (["lanes", "settle", LANE], "lanes"),
        (["lanes", "close", LANE], "lanes"),
        (["receipts", "list"], "receipts"),
    ],
)
def test_document_is_the_nodes(shell, node, validate, words, name):
    status, document = shell.document(*words)
    assert status == 0
    validate(document, name)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_running_node_is_exit_3(shell, validate, words):
    status, document = shell.document(*words)
    assert (status, document["error"]["code"]) == (3, "not_running")
    validate(document, "error")


@pytest.mark.parametrize(
    ("code", "exit_status"),
    [
        ("no_credits", 5),
        ("insufficient_funds", 5),
        ("mint_unreachable", 4),
        ("chain_unreachable", 4),
        ("free_network", 2),
        ("stopping", 4),
    ],
)
@pytest.mark.parametrize(
    "words", [["credits", "buy"], ["wallet", "show"], ["lanes", "close", LANE]], ids=" ".join
)
def test_failure_has_its_exit_status(shell, node, validate, words, code, exit_status):
    node.refuses, node.steps = Failed(code, "It did not work.", "Try later."), []
    status, out, err = shell(*words)
    assert (status, out, err) == (exit_status, "", "tussah: It did not work. Try later.\n")
    status, document = shell.document(*words)
    assert status == document["exit"] == exit_status
    assert document["error"]["code"] == code
    validate(document, "error")


# --- what is asked of the node ---


def test_bundle_is_the_nodes_choice_unless_named(shell, node):
    shell("credits", "buy")
    shell("credits", "buy", "S")
    assert node.bought == [None, "S"]


def test_what_waits_for_the_chain_is_given_time(shell, node, monkeypatch):
    given, call = {}, client.call

    def timed(path, method, target, body=None, *, patience=client.PATIENCE):
        given[target] = patience
        return call(path, method, target, body)

    monkeypatch.setattr(client, "call", timed)
    for words in (["wallet", "show"], ["lanes", "close", LANE]):
        assert shell(*words)[0] == 0
    assert given["/wallet"] == client.PATIENCE
    assert given[f"/lanes/{LANE}/close"] == client.MOVING


def test_other_bundles_are_not_sold(shell, node):
    status, _, err = shell("credits", "buy", "XL")
    assert status == 2
    assert "XL" in err
    assert node.bought == []


def test_help_tells_what_the_bundles_are_worth():
    for name, exponents in BUNDLES.items():
        ton = worth(exponents).value / 1e9
        assert f"{name} {ton:.4f} TON" in money.buy.__doc__


def test_lane_is_named_by_its_address(shell, node):
    shell("lanes", "settle", LANE)
    shell("lanes", "close", LANE)
    assert node.moved == [("settle", LANE), ("close", LANE)]


@pytest.mark.parametrize("lane", ["../shutdown", "a/b", "a b\r\nX: y", "?", "%2e"])
def test_no_lanes_name_reaches_another_request(shell, node, lane):
    assert shell("lanes", "close", lane)[0] in (0, 4)
    assert not node.stopped
    assert node.moved in ([], [("close", lane)])


# --- what people see ---


def test_wallet_for_people_says_what_its_coins_are_worth(shell, node):
    status, out, err = shell("wallet", "show")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "wallet   UQDNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzW9D",
        "chain    local, a dev network's own: its coins are worth nothing",
        "balance  0.7923 TON",
        "credits  0.016779264 TON in 3 coins",
        "         0.000004096 TON set aside; what is not used comes back",
        "         to be spent by 2023-11-14T22:13:20Z",
        "lanes    1 open; 0.003721344 TON due to others",
        "fees     0.0055 TON a claim, 0.007 TON a close",
    ]


@pytest.mark.parametrize(
    ("chain", "worthless", "line"),
    [
        ("testnet", True, "chain    testnet: its coins are worth nothing"),
        ("-17", True, "chain    -17, a dev network's own: its coins are worth nothing"),
        ("mainnet", False, "chain    mainnet"),
    ],
)
def test_chain_is_named_with_its_worth(shell, node, chain, worthless, line):
    node.funds = replace(node.funds, chain=chain, worthless=worthless)
    assert shell("wallet", "show")[1].splitlines()[1] == line


def test_empty_wallet_whose_chain_is_away(shell, node):
    node.funds = replace(
        node.funds,
        state="unknown",
        balance=None,
        coins=Coins(),
        lanes=(),
        claim_fee=None,
        close_fee=None,
    )
    assert shell("wallet", "show")[1].splitlines()[2:] == [
        "balance  unknown: the chain cannot be reached",
        "credits  0 TON in 0 coins",
        "lanes    0 open",
    ]


def test_wallet_that_was_never_used_says_so(shell, node):
    node.funds = replace(node.funds, state="uninit", balance=ZERO)
    assert shell("wallet", "show")[1].splitlines()[0].endswith(" (not used yet)")


def test_credits_for_people(shell, node):
    assert shell("credits", "list")[1].splitlines()[3:] == [
        "VALUE            COUNT",
        "0.000001024 TON  2",
        "0.016777216 TON  1",
    ]


def test_purchase_for_people(shell, node):
    out = shell("credits", "buy")[1].splitlines()
    assert out[:2] == [
        "bought   bundle M: 0.033553408 TON for 0.033721176 TON",
        "credits  0.016779264 TON in 3 coins",
    ]


def test_purchase_says_what_it_costs_before_it_is_made(shell, node):
    status, out, err = shell("credits", "buy")
    assert status == 0
    assert err.splitlines() == [
        "buying credits: bundle M, 0.033553408 TON for 0.033721176 TON, of which 0.000167768 TON "
        "is the mint's fee (local coins, worth nothing)",
        "opening a lane for it: 0.2 TON to mint efefefef, and up to 0.015 TON for fees; what is "
        "not paid over it comes back when it is closed",
        "opening a lane to mint efefefef ... (block 8123, 1 s)",
    ]
    assert out.splitlines()[0].startswith("bought   bundle M")


@pytest.mark.parametrize(
    ("agreed", "told"),
    [
        (0, "Interrupted before anything was promised: nothing is bought."),
        (1, "Interrupted, but the purchase was under way: the node goes on with it."),
    ],
)
def test_purchase_that_is_interrupted_says_what_becomes_of_it(shell, node, validate, agreed, told):
    node.steps = [*node.steps[:agreed], None]
    node.at_rest = lambda: os.kill(os.getpid(), signal.SIGINT)
    status, out, err = shell("credits", "buy")
    assert (status, out) == (130, "")
    assert told in err.splitlines()[-1]
    assert (f"tussah --home {shell.home.path} credits list" in err) is bool(agreed)
    status, document = shell.document("credits", "buy")
    validate(document, "error")
    assert (status, document["error"]["code"]) == (130, "cancelled")


def test_purchase_that_was_promised_for_earlier_costs_nothing_now(capsys, funds):
    document = {
        "bundle": "S",
        "value_nano": 5,
        "price_nano": 0,
        "credits": {
            "value_nano": 5,
            "count": 1,
            "in_flight_nano": 0,
            "keyset_epoch_ends_at": None,
        },
    }
    render.purchase(document)
    assert "bundle S: 0.000000005 TON promised for earlier" in capsys.readouterr().out


def test_lanes_for_people(shell, node):
    (lane,), (move,) = node.funds.lanes, node.funds.history
    closing = replace(lane, role="payee", state="closing", expires_at=1_700_000_000.0)
    gone = replace(move, kind="start_close", transaction="", amount=ZERO, fee=Nano(1))
    node.funds = replace(node.funds, lanes=(lane, closing), history=(move, gone))
    assert shell("lanes", "list")[1] == (
        f"{'LANE':<48}  ROLE   STATE                               DEPOSIT  VOUCHER          "
        "CLAIMED   DUE\n"
        f"{LANE}  payer  open                                0.2 TON  0.033721344 TON  0.03 TON"
        "  0.003721344 TON\n"
        f"{LANE}  payee  closing until 2023-11-14T22:13:20Z  0.2 TON  0.033721344 TON  0.03 TON"
        "  0.003721344 TON\n"
        "\n"
        "TIME                  FOR          ACCOUNT   CAME IN  FEE              TRANSACTION\n"
        "2023-11-14T22:13:20Z  open         UQCrq6ur  0.2 TON  0.001234567 TON  abababab\n"
        "2023-11-14T22:13:20Z  start close  UQCrq6ur  0 TON    0.000000001 TON  account gone\n"
    )


def test_a_closed_lane_owes_nothing_and_says_what_came_back(shell, node):
    (lane,) = node.funds.lanes
    closed = replace(lane, state="closed", returned=Nano(160_000_000))
    node.funds = replace(node.funds, lanes=(closed,), history=())
    _, row = shell("lanes", "list")[1].splitlines()
    assert row.split()[2:] == [
        *("closed,", "0.16", "TON", "back", "0.2", "TON"),
        *("0.033721344", "TON", "0.03", "TON", "0", "TON"),
    ]


def test_no_lanes_is_said(shell, node):
    node.funds = replace(node.funds, lanes=(), history=())
    assert shell("lanes", "list")[1].startswith("no lanes: ")


def test_status_for_people_has_a_line_of_money(capsys):
    prices = {"prompt": 30_000_000, "cached": 0, "completion": 150_000_000.5, "reasoning": 0}
    worker = {
        "state": "serving",
        "model": "moth@q4",
        "slots": {"busy": 0, "total": 1},
        "queue": 0,
        "answered": 2,
        "tokens": 9,
        "earned_nano": 4_000_000,
        "prices": prices,
        "reasons": [],
    }
    purse = {
        "wallet_nano": 10**9,
        "credits_nano": 0,
        "due_nano": 4_000_000,
        "owed_nano": 0,
        "earned_today_nano": 3_000_000,
        "spent_today_nano": 0,
    }
    render.status(
        {
            "node": {
                "id": "ab" * 32,
                "roles": [],
                "home": "/m",
                "network": "moths",
                "chain": "local",
            },
            "reach": {
                "mode": "outbound",
                "addresses": [],
                "udp": [],
                "transports": [],
                "attachments": [],
                "advice": None,
            },
            "network": {
                "joined": True,
                "relays": 1,
                "workers": 0,
                "links": 2,
                "bootstrap": 1,
                "dht": {"serving": False, "active": 0},
                "overlay": {"serving": False, "members": 0, "neighbours": 0},
                "directory_age_s": None,
                "directory_agreement": None,
            },
            "worker": worker,
            "mint": {"float_nano": 5_000_000, "issued": 34, "redeemed": 1},
            "money": purse,
            "alerts": [],
        }
    )
    assert capsys.readouterr().out.splitlines()[3:] == [
        "found by  1 bootstrap node; it is in neither DHT nor overlay",
        "worker    serving moth@q4",
        "answers   2 so far, 9 tokens; 0 of 1 slots busy, 0 waiting",
        "          earned 0.004 TON, "
        "at 0.15 TON for 1,000 tokens of an answer, 0.03 TON of a prompt",
        "mint      34 credits signed, 1 redeemed; 0.005 TON outstanding",
        "money     1 TON in the wallet, 0 TON in credits (local coins, worth nothing)",
        "          0.004 TON due to this node, 0.003 TON earned today",
    ]


# --- receipts ---


def test_receipts_for_people(shell, node):
    assert shell("receipts", "list")[1].splitlines() == [
        "OFFER     WORKER    TOKENS   COST   TICKS",
        f"00000000  {node.worker.id.hex()[:8]}  9+0+1+0  0 TON  0",
    ]


def test_what_is_exported_is_valid_without_a_node(shell, node, tmp_path, validate):
    exported = shell("receipts", "export")[1]
    (tmp_path / "receipts").write_text(exported)
    node.refuses = Failed("free_network", "unused")
    assert shell("receipts", "verify", str(tmp_path / "receipts"))[:2] == (
        0,
        "1 receipt valid, 0 invalid\n",
    )
    status, document = shell.document("receipts", "verify", str(tmp_path / "receipts"))
    assert status == 0
    validate(document, "verification")


def test_receipt_that_stands_there_twice_is_valid_once(shell, node, tmp_path, validate):
    exported = shell("receipts", "export")[1]
    (tmp_path / "receipts").write_text(f"{exported}\n{exported}")
    status, out, _ = shell("receipts", "verify", str(tmp_path / "receipts"))
    assert status == 0
    assert out.splitlines() == [
        "line 3: the receipt of line 1 once more",
        "1 receipt valid, 0 invalid",
    ]
    document = shell.document("receipts", "verify", str(tmp_path / "receipts"))[1]
    validate(document, "verification")


def test_receipt_that_was_touched_is_exit_1_and_named(shell, node, tmp_path, validate):
    touched = {**json.loads(shell("receipts", "export")[1]), "cost": 1}
    (tmp_path / "receipts").write_text(json.dumps(touched) + "\n{}\n")
    status, out, _ = shell("receipts", "verify", str(tmp_path / "receipts"))
    assert status == 1
    assert out.splitlines() == [
        "line 1: says another cost than was signed",
        "line 2: not a receipt in JSON, with `signed` and `public` in hex",
        "0 receipts valid, 2 invalid",
    ]
    status, document = shell.document("receipts", "verify", str(tmp_path / "receipts"))
    assert status == 1
    validate(document, "verification")


def test_no_receipts_is_no_failure(shell, tmp_path):
    (tmp_path / "none").write_text("")
    assert shell("receipts", "verify", str(tmp_path / "none"))[0] == 0
    assert shell("receipts", "verify", str(tmp_path / "absent"))[0] == 2


# --- in and out ---


def test_deposit_link_asks_for_an_amount(shell, node):
    document = shell.document("wallet", "deposit", "--amount", "0.5 TON")[1]
    assert document["link"] == f"ton://transfer/{document['address']}?amount=500000000"
    assert (document["amount_nano"], document["worthless"]) == (500_000_000, True)


def test_qr_code_is_drawn_for_a_terminal_alone(shell, node, monkeypatch):
    assert "\u2588" not in shell("wallet", "deposit")[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\u2588" in shell("wallet", "deposit")[1]
    assert "\u2588" not in shell("wallet", "deposit", "--no-qr")[1]


def test_withdrawal_needs_somebody_to_agree(shell, node, monkeypatch):
    status, document = shell.document("wallet", "withdraw", LANE, "0.5")
    assert (status, document["error"]["code"], node.withdrawn) == (2, "not_agreed", [])
    assert "--yes" in document["error"]["advice"]

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\ny\n"))
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    status, out, err = shell("wallet", "withdraw", LANE, "0.5")
    assert (status, node.withdrawn) == (2, [])
    assert f"Send 0.5 TON to {LANE}? This cannot be undone." in err
    status, out, _ = shell("wallet", "withdraw", LANE, "all")
    assert (status, [wish[:2] for wish in node.withdrawn]) == (0, [(LANE, "all")])
    assert "0.000000005 TON" in out


def test_each_withdrawal_has_a_key_of_its_own(shell, node):
    for _ in range(2):
        shell("wallet", "withdraw", LANE, "0.5", "--yes")
    (*_, first), (*_, second) = node.withdrawn
    assert first != second


def test_earnings_are_summed(shell, node):
    status, out, _ = shell("earnings")
    assert status == 0
    head, first, _, total, due = out.splitlines()
    assert head.split() == ["DAY", "ANSWERS", "TOKENS", "BILLED", "EARNED", "UNSETTLED"]
    assert first.startswith("2026-11-29")
    assert total.startswith("in all")
    assert due.startswith("0.000005 TON due in 1 lane;")
    assert "moth@Q4" in shell("earnings", "--by", "model")[1]
    document = shell.document("earnings")[1]
    for name in ("answers", "tokens", "billed_nano", "earned_nano", "unsettled_nano"):
        assert document[name] == sum(group[name] for group in document["groups"])


def test_earnings_by_something_else_are_refused(shell, node):
    assert shell.document("earnings", "--by", "moon")[0] == 2


# --- friends ---


def test_vouchers_go_to_a_friend_and_are_watched(shell, node, tmp_path, validate):
    file = tmp_path / "friend"
    status, document = shell.document("lanes", "share", str(file))
    assert status == 0
    validate(document, "shared")
    status, document = shell.document("lanes", "watch", str(file))
    assert status == 0
    validate(document, "watch")
    assert [one.voucher for one in node.watched] == [VOUCHER, VOUCHER]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lanes": [{}]}', '{"lanes": [7]}'])
def test_what_is_no_file_of_a_friend_is_refused(shell, node, tmp_path, text):
    file = tmp_path / "friend"
    file.write_text(text)
    status, document = shell.document("lanes", "watch", str(file))
    assert (status, document["exit"]) == (2, 2)


def test_a_friends_file_that_is_none_is_named(shell, node, tmp_path):
    assert shell.document("lanes", "watch", str(tmp_path / "none"))[0] == 2
    assert shell.document("lanes", "share", str(tmp_path / "no" / "place"))[0] == 2


def test_books_that_do_not_balance_are_status_1(shell, node):
    status, out, _ = shell("mint", "audit")
    assert (status, "difference   0 nano" in out) == (0, True)
    node.missing = 7
    status, document = shell.document("mint", "audit")
    assert (status, document["difference_nano"]) == (1, 7)
