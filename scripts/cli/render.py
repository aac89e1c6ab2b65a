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


def table(rows: Sequence[Row], *, header: bool = False) -> None:
    """Rows in columns; the first one is their head if it says so."""
    _draw(rows, header=header)


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
    _draw([("ID", "ROLES", "ADDRESS", "VIA", "MODEL"), *rows], header=True)


def circuits(document: Document) -> None:
    """The `circuits` document: ours a line each, guards a line each, others' in sums."""
    own = [_circuit(circuit) for circuit in _list(document, "circuits")]
    _draw([("CIRCUIT", "STATE", "AGE", "RELAYS", "TO", "LEFT"), *own], header=True)
    guards = [_guard(guard) for guard in _list(document, "guards")]
    _draw([("GUARD", "STATE", "UNTIL", "PASSED", "KILLED"), *guards], header=True)
    passing, ending = _map(document, "passing"), _map(document, "ending_here")
    _draw(
        [
            (
                "passing",
                f"{count(passing['circuits'], 'circuit')}, {passing['cells_forward']} cells out "
                f"and {passing['cells_backward']} back so far",
            ),
            (
                "ending here",
                f"{count(ending['circuits'], 'circuit')}, {ending['broken']} waiting for their "
                f"askers, {ending['resumed']} gone on with so far",
            ),
        ]
    )


def identity(document: Document) -> None:
    """The `id` document."""
    _draw(list(_identity(document)))


def value(document: Document) -> None:
    """The `dht-value` document: the value on standard output as it is, or what it says."""
    key = _map(document, "key")
    owner = f"{key['owner']} ({document['rule']} rule)"
    rows = [("key", str(key["id"])), ("name", f"{key['name']}, index {key['idx']}")]
    rows += [("owner", owner), ("until", str(document["expires_at"]))]
    if document["reads"] is not None:
        rows += [("says", each) for each in _strings(document["reads"])] or [("says", "nothing")]
    elif document["text"] is not None:
        rows.append(("text", str(document["text"])))
    else:
        rows.append(("hex", str(document["value_hex"])))
    _draw(rows)


def stored(document: Document) -> None:
    """The `dht-stored` document."""
    key = _map(document, "key")
    again = ", and stored again while the node runs" if document["kept"] else ""
    until = f"{document['expires_at']}{again}"
    _draw(
        [
            ("stored", f"{count(document['bytes'], 'byte')} by {count(document['nodes'], 'node')}"),
            ("until", until),
            ("key", str(key["id"])),
            ("read it", f"tussah dht get {key['owner']} --name {key['name']}"),
        ]
    )
    if not document["persistent"]:
        out("This node only asks: its key ends with it, and nobody can renew the value then.\n")


def nodes(document: Document) -> None:
    """The `dht-nodes` document, a line each."""
    rows = [
        (str(node["id"]), _words(node["addresses"]) or "nowhere")
        for node in _list(document, "nodes")
    ]
    _draw([("ID", "ADDRESS"), *rows], header=True)


def models(document: Document) -> None:
    """The `models` document, a line each."""
    rows = [_model(model) for model in _list(document, "models")]
    _draw([("MODEL", "WORKERS", "CONTEXT", "SIZE", "HERE", "FITS"), *rows], header=True)


def model(document: Document) -> None:
    """The `model` document."""
    size = document["size_bytes"]
    mixed = _map(document, "histogram")
    rows: list[Row] = [
        ("model", f"{document['name']}"),
        ("", str(document["title"])),
        ("pinned", f"tussah ask --model {document['pin']}"),
        ("licence", str(document["licence"])),
        ("size", f"{_bytes(size)}, {document['bits_per_weight']} bits a weight"),
        ("", ", ".join(f"{kind} {_bytes(part)}" for kind, part in mixed.items())),
        ("context", f"{document['context']} tokens, {document['kv_bytes_per_token']} bytes each"),
        ("here", str(document["path"] or f"{_bytes(document['downloaded_bytes'])} of it")),
        ("fits", f"{document['fits'] or 'unknown'}: {document['why']}"),
        ("offered", f"by {count(document['workers'], 'worker')}"),
    ]
    rows += [("source", source) for source in _strings(document["sources"])]
    _draw(rows)


def added(document: Document) -> None:
    """The `catalogue` document: what was taken in."""
    rows: list[Row] = [("key", str(document["key"])), ("issued", str(document["issued_at"]))]
    rows += [("model", _name(name)) for name in _strings(document["models"])]
    _draw(rows)


def prices(document: Document) -> None:
    """The `prices` document, a line each."""
    rows = [_priced(each) for each in _list(document, "models")]
    if not rows:
        out("no worker offers a model now\n")
        return
    head = ("MODEL", "WORKERS", "FREE", "ANSWER (TON FOR 1,000)", "PROMPT", "TOKENS/S")
    _draw([head, *rows], header=True)


def _priced(each: Mapping[str, object]) -> Row:
    speeds = each["tokens_per_s"]
    middle = str(speeds["p50"]) if isinstance(speeds, Mapping) else "-"
    return (
        _name(each["name"]),
        str(each["workers"]),
        str(each["free"]),
        _span(_map(each, "completion")),
        _span(_map(each, "prompt")),
        middle,
    )


def _span(prices: Mapping[str, object]) -> str:
    """`0`, or the least, middle and most."""
    each = [ton(round(_number(prices[name]))) for name in ("min", "median", "max")]
    short = [amount.removesuffix(" TON") for amount in each]
    return short[0] if len(set(short)) == 1 else " / ".join(short)


def settings(document: Document) -> None:
    """The `config` document, a line each."""
    rows = [
        (str(each["name"]), _setting(each["value"]), str(each["from"]))
        for each in _list(document, "settings")
    ]
    _draw([("SETTING", "VALUE", "FROM"), *rows], header=True)


def worker(document: Document) -> None:
    """The `worker` document: how it stands, then its rules."""
    rows: list[Row] = [("worker", f"{document['state']} {_name(document['model'] or 'no model')}")]
    rows += [("", reason) for reason in _strings(document["reasons"])]
    if document["until_at"] is not None:
        rows.append(("until", str(document["until_at"])))
    fit = document["fit"]
    if isinstance(fit, Mapping):
        rows.append(("model", str(fit["why"])))
        slots, context = count(fit["slots"], "answer"), f"{fit['context']} tokens of context"
        rows.append(("", f"{slots} at once, {context}"))
    _draw(rows)
    table = [_rule(rule) for rule in _list(document, "rules")]
    _draw([("RULE", "SETTING", "VALUE", "MEASURED", "NOW"), *table], header=True)


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


def deposit(document: Document, *, qr: bool) -> None:
    """The `deposit` document, with a QR code of its link unless nobody can see one."""
    rows = [("address", str(document["address"])), ("link", str(document["link"]))]
    chain = _chain(document["chain"], worthless=document["worthless"] is True)
    _draw([*rows, ("chain", chain)])
    if qr and sys.stdout.isatty():
        import segno

        segno.make(str(document["link"]), micro=False).terminal(out=sys.stdout, compact=True)


def withdrawal(document: Document) -> None:
    """The `withdrawal` document."""
    amount = f"{ton(document['amount_nano'])} to {document['to']}"
    if document["state"] != "done":
        _draw([("on its way", amount), ("", "`tussah wallet show` lists it once it is there")])
        return
    rows = [("sent", amount), ("fees", ton(document["fees_nano"]))]
    _draw([*rows, ("transaction", str(document["transaction"]))])


def earnings(document: Document) -> None:
    """The `earnings` document, a line each, and the sums."""
    rows = [_earned(group) for group in _list(document, "groups")]
    total = ("in all", *_earned(document)[1:])
    if rows:
        head = (str(document["by"]).upper(), "ANSWERS", "TOKENS", "BILLED", "EARNED", "UNSETTLED")
        _draw([head, *rows, total], header=True)
    due, lanes = ton(document["due_nano"]), count(document["lanes"], "lane")
    out(f"{due} due in {lanes}; it settles when that is worth the fee\n")


def _earned(group: Mapping[str, object]) -> Row:
    name = group.get("day") or group.get("model") or group.get("model_hash") or "no receipt"
    amounts = (ton(group[f"{which}_nano"]) for which in ("billed", "earned", "unsettled"))
    return str(name), str(group["answers"]), str(group["tokens"]), *amounts


def audit(document: Document) -> None:
    """The `audit` document."""
    rows = [(name.replace("_", " "), ton(document[f"{name}_nano"])) for name in _SHEET]
    difference = _nano(document["difference_nano"])
    sold = f"{count(document['purchases'], 'purchase')} this week"
    coins = f"{document['issued']} issued, {document['redeemed']} redeemed"
    _draw([*rows, ("difference", f"{difference} nano"), ("credits", f"{coins}; {sold}")])


_SHEET = ("received", "advance", "outstanding", "locked", "given", "owed", "fees", "expired")


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


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value) or "-"


def _identity(document: Document) -> Iterator[Row]:
    if document["id"] is None:
        yield "id", "none: this home has no key, and who only asks has a new one at each start"
        return
    yield "id", str(document["id"])
    yield "adnl", f"{document['adnl']}.adnl"
    yield "peer id", str(document["peer_id"])
    yield "public key", str(document["public_key"])
    if not document["persistent"]:
        yield "", "of this run alone: who only asks has a new one at each start"
    if not document["running"]:
        yield "addresses", "the node does not run: tussah up"
    else:
        yield "UDP", _words(document["udp"]) or "told to nobody"
        yield "TCP", _words(document["tcp"]) or "told to nobody"


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
    yield from _reach(reach)
    joined = "joined" if network["joined"] else "joining"
    yield (
        "network",
        f"{node['network']}: {joined}, {count(network['relays'], 'relay')}, "
        f"{count(network['workers'], 'worker')}, {count(network['links'], 'link')}",
    )
    yield from _found(network)
    if document["worker"] is not None:
        yield from _worker(_map(document, "worker"))
    if document["mint"] is not None:
        yield from _mint(_map(document, "mint"))
    yield from _money(_map(document, "money"), node["chain"])
    for alert in _list(document, "alerts"):
        advice = at_home(str(alert["advice"]), Path(str(node["home"])))
        yield "alert", f"{alert['message']} {advice}"


def _reach(reach: Mapping[str, object]) -> Iterator[Row]:
    listens = [f"TCP {each}" for each in _strings(reach["addresses"])]
    listens += [f"UDP {each}" for each in _strings(reach["udp"])]
    tried = " (nobody has tried)" if reach["mode"] == "direct" and not reach["checked_at"] else ""
    yield (
        "reach",
        f"{reach['mode']}{tried}: {', '.join(listens)}" if listens else str(reach["mode"]),
    )
    for transport in _list(reach, "transports"):
        yield "", f"{str(transport['transport']).upper()}: {_tried(transport)}"
    if attachments := _strings(reach["attachments"]):
        yield "", f"links kept by {', '.join(map(_short, attachments))}"
    if reach["advice"] is not None:
        yield "", str(reach["advice"])


def _tried(transport: Mapping[str, object]) -> str:
    """What strangers have found of one transport."""
    match transport["dialable"]:
        case "yes":
            return f"others can dial {transport['endpoint']}"
        case "no":
            return "others cannot dial it"
        case _:
            return str(transport["reason"])


def _found(network: Mapping[str, object]) -> Iterator[Row]:
    """How the node finds the others, and the list of them that it has."""
    dht, overlay = _map(network, "dht"), _map(network, "overlay")
    named = network["bootstrap"]
    first = count(named, "bootstrap node") if named else "it is the bootstrap node"
    if dht["serving"] or overlay["serving"]:
        yield (
            "found by",
            f"{first}, {count(dht['active'], 'node')} of the DHT, "
            f"{count(overlay['members'], 'member')} of the overlay, "
            f"{count(overlay['neighbours'], 'neighbour')} among them",
        )
    else:
        yield "found by", f"{first}; it is in neither DHT nor overlay"
    age, agreement = network["directory_age_s"], network["directory_agreement"]
    if age is not None and agreement is not None:
        yield (
            "directory",
            f"epoch {network['directory_epoch']}, {count(network['directory_count'], 'node')}, "
            f"{network['directory_live']} of them live, root {_short(network['directory_root'])}, "
            f"confirmed {_number(age):.0f} s ago, {100 * _number(agreement):.0f} % agree",
        )


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


def _rule(rule: Mapping[str, object]) -> Row:
    measured, value = rule["measured"], rule["value"]
    if rule["rule"] == "vram" and isinstance(measured, int):
        measured = f"{measured / 1e9:.1f} GB free"
    return (
        str(rule["rule"]),
        str(rule["setting"]),
        "off" if value in (None, False) else "on" if value is True else str(value),
        "no sensor" if measured is None else str(measured),
        "holds" if rule["holds"] else "-",
    )


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
        ", ".join(_ways(peer)) or "directory",
        ", ".join(offers),
    )


def _ways(peer: Mapping[str, object]) -> Iterator[str]:
    """What this node has to do with a peer, beside reading of it in the directory."""
    if not peer["live"]:
        yield "silent of late"
    if peer["link"] == "up":
        yield "link"
    if peer["dht"]:
        yield "DHT"
    if peer["overlay"] != "none":
        yield str(peer["overlay"])


def _circuit(circuit: Mapping[str, object]) -> Row:
    left = circuit["left_s"]
    relays = [_short(relay) for relay in _strings(circuit["relays"])]
    return (
        str(circuit["id"]),
        str(circuit["state"]),
        f"{circuit['age_s']} s",
        " ".join(relays) or "none",
        _short(circuit["end"]),
        "" if left is None else f"{left} s",
    )


def _guard(guard: Mapping[str, object]) -> Row:
    return (
        _short(guard["id"]),
        str(guard["state"]),
        str(guard["until_at"]),
        f"{guard['passed']} of {guard['tries']}",
        f"{guard['killed']} of {guard['ended']}",
    )


def _model(model: Mapping[str, object]) -> Row:
    size = "-" if model["size_bytes"] is None else _bytes(model["size_bytes"])
    return (
        _name(model["name"]),
        str(model["workers"]),
        str(model["context"]),
        size,
        str(model["local"]),
        str(model["fits"] or "-"),
    )


def _bytes(size: object) -> str:
    assert isinstance(size, int)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


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
