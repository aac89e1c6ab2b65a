"""The only place that draws: documents as text for people, in colour on a terminal.

Rich is imported for a terminal only, and honours NO_COLOR itself.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from scripts.cli.common import out
from scripts.cli.words import at_home, count, ton
from scripts.failure import Document

Row: TypeAlias = tuple[str, ...]

PIN = 12
"""hex digits of a model's hash that name it."""


def quote(offered: Document) -> str:
    """What a worker asks for, and the most that one answer can cost by that."""
    prices = _map(offered, "prices")
    return f"quote: {_per_thousand(prices)}; at most {ton(offered['quoted_nano'])} for this answer"


def status(document: Document) -> None:
    """The `status` document."""
    _draw(list(_status(document)))


def peers(document: Document) -> None:
    """The `peers` document, a line each."""
    rows = [_peer(peer) for peer in _list(document, "peers")]
    _draw([("ID", "ROLES", "ADDRESS", "MODEL"), *rows], header=True)


def models(document: Document) -> None:
    """The `models` document, a line each."""
    rows = [_model(model) for model in _list(document, "models")]
    _draw([("MODEL", "WORKERS", "CONTEXT", "HERE"), *rows], header=True)


def wallet(document: Document) -> None:
    """The `wallet` document."""
    balance, fees = document["balance_nano"], _map(document, "fees_nano")
    open_lanes = [lane for lane in _list(document, "lanes") if lane["state"] != "closed"]
    rows: list[Row] = [
        ("wallet", f"{document['address']}{_STATES.get(str(document['state']), '')}"),
        ("chain", _chain(document["chain"], worthless=document["worthless"] is True)),
        ("balance", "unknown: the chain cannot be reached" if balance is None else ton(balance)),
        *_coins(_map(document, "credits")),
        ("lanes", f"{len(open_lanes)} open{_dues(open_lanes)}"),
    ]
    if fees["claim"] is not None:
        rows.append(("fees", f"{ton(fees['claim'])} a claim, {ton(fees['close'])} a close"))
    _draw(rows)


def coins(document: Document) -> None:
    """The `credits` document."""
    held = _map(document, "credits")
    _draw(list(_coins(held)))
    rows = [(ton(each["value_nano"]), str(each["count"])) for each in _list(held, "by_value")]
    if rows:
        _draw([("VALUE", "COUNT"), *rows], header=True)


def purchase(document: Document) -> None:
    """The `purchase` document."""
    price = document["price_nano"]
    cost = f"for {ton(price)}" if price else "promised for earlier"
    bought = f"bundle {document['bundle']}: {ton(document['value_nano'])} {cost}"
    _draw([("bought", bought), *_coins(_map(document, "credits"))])


def lanes(document: Document) -> None:
    """The `lanes` document."""
    rows = [_lane(lane) for lane in _list(document, "lanes")]
    if not rows:
        out("no lanes: the first purchase, or the first paid answer, opens one\n")
        return
    _draw([("LANE", "ROLE", "STATE", "DEPOSIT", "VOUCHER", "CLAIMED", "DUE"), *rows], header=True)
    moves = [_move(move) for move in _list(document, "transactions")]
    if moves:
        out("\n")
        _draw([("TIME", "FOR", "ACCOUNT", "CAME IN", "FEE", "TRANSACTION"), *moves], header=True)


def receipts(document: Document) -> None:
    """The `receipts` document, a line each."""
    rows = [
        (
            _short(receipt["offer"]),
            _short(receipt["worker"]),
            "+".join(_strings(receipt["tokens"])),
            ton(receipt["cost"]),
            str(receipt["ticks"]),
        )
        for receipt in _list(document, "receipts")
    ]
    _draw([("OFFER", "WORKER", "TOKENS", "COST", "TICKS"), *rows], header=True)


def verification(document: Document) -> None:
    """The `verification` document."""
    for each in _list(document, "receipts"):
        if each["fault"] is not None:
            out(f"line {each['line']}: {each['fault']}\n")
        elif each["repeats"] is not None:
            out(f"line {each['line']}: the receipt of line {each['repeats']} once more\n")
    valid = count(document["valid"], "receipt")
    out(f"{valid} valid, {document['invalid']} invalid\n")


_STATES = {"uninit": " (not used yet)", "frozen": " (frozen: it could not pay its storage)"}


def _chain(name: object, *, worthless: bool) -> str:
    """Which chain it is, and what its coins are worth where that is nothing."""
    whose = "" if name == "testnet" else ", a dev network's own"
    return f"{name}{whose}: its coins are worth nothing" if worthless else str(name)


def _dues(lanes: Sequence[Mapping[str, object]]) -> str:
    """`; 0.01 TON due to this node, 0.02 TON due to others`: what is promised and not claimed."""
    whose = {"payee": "this node", "payer": "others"}
    sums = {role: sum(_nano(x["due_nano"]) for x in lanes if x["role"] == role) for role in whose}
    words = [f"{ton(due)} due to {whose[role]}" for role, due in sums.items() if due]
    return "".join(f"{'; ' if at == 0 else ', '}{word}" for at, word in enumerate(words))


def _coins(held: Mapping[str, object]) -> Iterator[Row]:
    flying, ends = held["in_flight_nano"], held["keyset_epoch_ends_at"]
    yield "credits", f"{ton(held['value_nano'])} in {count(held['count'], 'coin')}"
    if flying:
        yield "", f"{ton(flying)} set aside; what is not used comes back"
    if ends is not None:
        yield "", f"to be spent by {ends}"


def _lane(lane: Mapping[str, object]) -> Row:
    amounts = (ton(lane[f"{name}_nano"]) for name in ("deposit", "voucher", "claimed", "due"))
    state = str(lane["state"]).replace("_", " ")
    if lane["expires_at"] is not None:
        state += f" until {lane['expires_at']}"
    if lane["returned_nano"]:
        state += f", {ton(lane['returned_nano'])} back"
    return str(lane["address"]), str(lane["role"]), state, *amounts


def _move(move: Mapping[str, object]) -> Row:
    amount, fee = ton(move["amount_nano"]), ton(move["fee_nano"])
    gone = "account gone" if move["transaction"] is None else _short(move["transaction"])
    kind = str(move["kind"]).replace("_", " ")
    return str(move["at"]), kind, _short(move["account"]), amount, fee, gone


def _status(document: Document) -> Iterator[Row]:
    node, reach, network = (_map(document, name) for name in ("node", "reach", "network"))
    yield "node", f"{_short(node['id'])} - {_words(node['roles']) or 'asks only'}"
    yield "reach", f"{reach['mode']} {_words(reach['addresses'])}".rstrip()
    joined = "joined" if network["joined"] else "joining"
    yield (
        "network",
        f"{node['network']}: {joined}, {count(network['relays'], 'relay')}, "
        f"{count(network['workers'], 'worker')}, {count(network['links'], 'link')}",
    )
    if document["worker"] is not None:
        yield from _worker(_map(document, "worker"))
    if document["mint"] is not None:
        yield from _mint(_map(document, "mint"))
    yield from _money(_map(document, "money"), node["chain"])
    for alert in _list(document, "alerts"):
        advice = at_home(str(alert["advice"]), Path(str(node["home"])))
        yield "alert", f"{alert['message']} {advice}"


def _worker(worker: Mapping[str, object]) -> Iterator[Row]:
    slots = _map(worker, "slots")
    model = "no model" if worker["model"] is None else _name(worker["model"])
    yield "worker", f"{worker['state']} {model}"
    yield (
        "answers",
        f"{worker['answered']} so far, {worker['tokens']} tokens; "
        f"{slots['busy'] or 0} of {slots['total'] or 0} slots busy, {worker['queue'] or 0} waiting",
    )
    prices = worker["prices"]
    if isinstance(prices, Mapping) and any(prices.values()):
        yield "", f"earned {ton(worker['earned_nano'])}, at {_per_thousand(prices)}"
    for reason in _strings(worker["reasons"]):
        yield "", reason


def _per_thousand(prices: Mapping[str, object]) -> str:
    answer, prompt = (ton(round(_number(prices[name]))) for name in ("completion", "prompt"))
    return f"{answer} for 1,000 tokens of an answer, {prompt} of a prompt"


def _mint(mint: Mapping[str, object]) -> Iterator[Row]:
    sold = f"{count(mint['issued'], 'credit')} signed, {mint['redeemed']} redeemed"
    yield "mint", f"{sold}; {ton(mint['float_nano'])} outstanding"


def _money(money: Mapping[str, object], chain: object) -> Iterator[Row]:
    """Nothing, where answers are free or the wallet is not open."""
    if money["credits_nano"] is None:
        return
    held = money["wallet_nano"]
    wallet = "wallet not seen yet" if held is None else f"{ton(held)} in the wallet"
    worth = "" if chain == "mainnet" else f" ({chain} coins, worth nothing)"
    yield "money", f"{wallet}, {ton(money['credits_nano'])} in credits{worth}"
    figures = {
        "due to this node": money["due_nano"],
        "due to others": money["owed_nano"],
        "earned today": money["earned_today_nano"],
        "spent today": money["spent_today_nano"],
    }
    shown = [f"{ton(nano)} {what}" for what, nano in figures.items() if nano]
    if shown:
        yield "", ", ".join(shown)


def _peer(peer: Mapping[str, object]) -> Row:
    offers = [_name(offer["model"]) for offer in _list(peer, "offers")]
    return (
        _short(peer["id"]),
        _words(peer["roles"]),
        _words(peer["addresses"]) or str(peer["reach"]),
        ", ".join(offers),
    )


def _model(model: Mapping[str, object]) -> Row:
    local = str(model["local"])
    return _name(model["name"]), str(model["workers"]), str(model["context"]), local


# --- drawing ---


def _draw(rows: Sequence[Row], *, header: bool = False) -> None:
    if sys.stdout.isatty():
        _in_colour(rows, header=header)
        return
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out("  ".join(cells).rstrip() + "\n")


def _in_colour(rows: Sequence[Row], *, header: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for at, row in enumerate(rows):
        first, *rest = (Text(cell) for cell in row)
        first.stylize("bold")
        table.add_row(first, *rest, style="dim" if header and at == 0 else None)
    Console().print(table)


def _nano(amount: object) -> int:
    assert isinstance(amount, int)
    return amount


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def _short(identity: object) -> str:
    return str(identity)[:8]


def _name(model: object) -> str:
    """A model's name with as much of its hash as `ask --model` wants."""
    name, colon, digest = str(model).partition(":")
    return name + colon + digest[:PIN]


def _words(names: object) -> str:
    return ", ".join(_strings(names))


def _strings(names: object) -> list[str]:
    assert isinstance(names, list)
    return [str(name) for name in names]


def _map(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = document[name]
    assert isinstance(part, Mapping)
    return part


def _list(document: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    part = document[name]
    assert isinstance(part, list)
    return part
