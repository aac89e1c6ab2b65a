"""What a paid answer leaves behind: no row or line joins the asker with it, and no coin is lost.

After the answer, its change, and the close of every lane on the chain, all processes are killed.
Then every row of every table of every store is read, and every line of every log; bags of cells are
opened, since nothing in a cell stands at a whole byte. The chain's coins are counted anew from its
transactions. Planted rows and lines, and a fee left out, show that each check finds what it is for.
"""

import base64
import os
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from pytoniq_core import Address, Cell, Transaction
from pytoniq_core.tlb.account import ShardAccount
from pytoniq_core.tlb.transaction import InternalMsgInfo

from ledger import tariff
from ledger.chain.collator import GIVER
from ledger.chain.embedded import NETWORK, SUPPLY
from ledger.lane import LaneConfig
from p2p.entropy import SystemEntropy
from scripts import funds, networks, vault
from scripts.parties import running
from tests.acceptance import paid
from tests.acceptance.processes import kill, no_errors, until

CANARY = "the-canary-sings-of-wild-silk-and-of-nothing-else"

WINDOW = 12
"""bytes of a text that would not stand anywhere by chance"""

SHORT = 8
"""hex digits of an id that a log may show"""

LEAST = 16
"""bytes of a value that says which row is meant"""

BAG = bytes.fromhex("b5ee9c72")
"""how a bag of cells begins"""


# --- what there is to be joined ---


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of one paid answer, in bytes."""

    asker: tuple[bytes, ...]
    """Who asked: its node, its wallet, its lane and that lane's key; its ends of connections."""
    worker: tuple[bytes, ...]
    session: tuple[bytes, ...]
    texts: tuple[str, ...]
    """The prompt and the answer."""


def facts_of(network, document, addresses):
    client, worker = network.party("client"), network.party("worker-1")
    receipt = tariff.read(bytes.fromhex(document["receipt"]["signed"]))
    (session,) = paid.rows(network.party("mint"), "SELECT session, id, root FROM lock")
    assert session[0] == receipt.offer
    identity = networks.persistent_identity(worker.home, SystemEntropy())
    return Facts(
        asker=(
            bytes.fromhex(client.status()["node"]["id"]),
            *accounts(client, "payer"),
            *addresses,
        ),
        worker=(identity.id, identity.public, *accounts(worker, "payee")),
        session=(*session, receipt.prompt_hash, receipt.answer_hash),
        texts=(CANARY, document["answer"]),
    )


def accounts(party, role):
    """A party's wallet, its key, and its lanes with their keys of this side."""
    master = vault.opened(party.home).master
    yield from (funds.persistent_account(party.home, NETWORK), master.wallet.public)
    for lane, config in paid.rows(party, "SELECT id, config FROM lane"):
        yield lane
        yield getattr(LaneConfig.parse(config), f"{role}_key")


def own_ends(party):
    """A party's ends of its TCP connections (Linux)."""
    links = (os.readlink(one) for one in Path(f"/proc/{party.process.pid}/fd").iterdir())
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in sockets:
            yield b"127.0.0.1:%d" % int(fields[1].rpartition(":")[2], 16)


# --- everything that was kept ---


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a store, or one line of a log."""

    where: str
    values: tuple

    def __str__(self):
        return f"{self.where}: {self.values}"

    def holds(self, facts, short=False):
        """Whether one of these stands in any value, in any form; `short`: as logs show ids, too."""
        forms = [form for fact in facts for form in forms_of(fact, short)]
        if any(form in value for value in map(as_bytes, self.values) for form in forms):
            return True
        return any(bits_of(fact) in cell for cell in self._cells() for fact in facts)

    def tells(self, texts):
        """Whether a piece of what was said stands in it."""
        whole = b"\0".join(map(as_bytes, self.values))
        return any(window in whole for text in texts for window in windows(text.encode()))

    def _cells(self):
        return (cell for value in self.values for cell in cells(value))


@cache
def forms_of(fact, short):
    """As it is, in hex, in base64, as an address."""
    forms = [fact, fact.hex().encode(), fact.hex().upper().encode()]
    if len(fact) == 32:
        both = (Address((0, fact)).to_str(is_bounceable=bounce) for bounce in (True, False))
        forms += [form.encode() for form in both]
        forms += [base64.b64encode(fact), base64.urlsafe_b64encode(fact)]
        forms += [fact.hex()[:SHORT].encode()] * short
    return forms


@cache
def bits_of(fact):
    return "".join(f"{byte:08b}" for byte in fact)


def as_bytes(value):
    return value if isinstance(value, bytes) else str(value).encode()


@cache
def cells(value):
    """The bits of every cell, if it is a bag of them."""
    if not isinstance(value, bytes) or not value.startswith(BAG):
        return []
    return [cell.bits.to01() for root in Cell.from_boc(value) for cell in tree(root)]


def tree(cell):
    yield cell
    for ref in cell.refs:
        yield from tree(ref)


@cache
def windows(text):
    return {text[at : at + WINDOW] for at in range(max(1, len(text) - WINDOW + 1))}


def store(path):
    """Every row of every table."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for values in connection.execute(f"SELECT * FROM {table}"):
                yield Row(where=f"{path.parent.name} {table}", values=values)


def lines(path):
    """Every line of a log."""
    for line in path.read_text("utf-8", "replace").splitlines():
        yield Row(where=f"{path.parent.name} log", values=(line,))


# --- one paid answer, and its end ---


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of a network whose processes are dead."""

    facts: Facts
    homes: dict
    rows: list
    lines: list
    ledgers: dict
    """Of each party with one, its rows."""


@pytest.fixture(scope="module")
def left():
    with running(paid.plan(relays=3, workers=1)) as network:
        client, mint, worker = map(network.party, ("client", "mint", "worker-1"))
        paid.buy(client)
        asking = paid.ask(client, prompt=f"{CANARY} {CANARY}", deadline_s=30).begun()
        addresses = tuple(own_ends(client))
        document = asking.answer()
        until(lambda: not paid.in_flight(client) and not paid.unsettled(worker))
        paid.check_books(mint, [client], [worker])
        facts = facts_of(network, document, addresses)
        for party in (worker, mint):
            close_lanes(party)
        assert no_errors(network)
        for party in network.parties:
            kill(party)
        yield gather(network, facts)


def close_lanes(party):
    """As the payee: what is due is paid out on the chain, and the payer has the rest."""
    for (lane,) in paid.rows(party, "SELECT id FROM lane WHERE role = 'payee'"):
        party.call("POST", f"/lanes/{funds.address(lane)}/close", {})
    open_ = "SELECT count(*) FROM lane WHERE role = 'payee' AND phase <> 'closed'"
    until(lambda: not paid.total(party, open_))


def gather(network, facts):
    homes = {party.name: party.home for party in network.parties}
    ledgers = {
        name: list(store(home.ledger)) for name, home in homes.items() if home.ledger.exists()
    }
    chain = list(store(homes["chain"].path / "chain.db"))
    return Left(
        facts=facts,
        homes=homes,
        rows=[*chain, *(row for ledger in ledgers.values() for row in ledger)],
        lines=[line for home in homes.values() for line in lines(home.log)],
        ledgers=ledgers,
    )


# --- nothing joins them ---


def joins(row, facts, short=False):
    """Whether one row or line names the asker, and beside it the worker or the session."""
    return row.holds(facts.asker, short) and row.holds((*facts.worker, *facts.session), short)


def leaks(left, rows=(), lines=()):
    """Rows and lines that join what must be apart, or hold what was said."""
    facts = left.facts
    found = [row for row in (*left.rows, *rows) if joins(row, facts)]
    found += [line for line in (*left.lines, *lines) if joins(line, facts, short=True)]
    everything = (*left.rows, *left.lines, *rows, *lines)
    return found + [row for row in everything if row.tells(facts.texts)]


def test_no_row_and_no_line_joins_the_asker_with_worker_session_or_what_was_said(left):
    assert leaks(left) == []
    assert {row.where.split()[1] for row in left.rows} >= {"lock", "lane", "issued", "tx", "taking"}
    assert len(left.facts.asker) >= 6


def test_nothing_that_was_said_stands_in_any_file(left):
    said = {window for text in left.facts.texts for window in windows(text.encode())}
    for home in left.homes.values():
        for file in home.path.rglob("*"):
            whole = file.read_bytes() if file.is_file() else b""
            assert not [window for window in said if window in whole], file


def test_a_worker_keeps_nothing_of_the_asker(left):
    assert not [row for row in left.ledgers["worker-1"] if row.holds(left.facts.asker)]
    for name in ("worker-1", "mint"):
        session = [row.where for row in left.ledgers[name] if row.holds(left.facts.session)]
        assert session, name
    for name in ("client", "mint"):
        assert [row for row in left.ledgers[name] if row.holds(left.facts.asker)], name
    chain = [row for row in left.rows if row.where == "chain tx"]
    for name, known in (("asker", left.facts.asker), ("worker", left.facts.worker)):
        assert [row for row in chain if row.holds(known)], name


def test_no_chain_of_rows_leads_a_mint_from_the_asker_to_the_answer(left):
    """Rows that have a value in common are joined; only the mint itself is in many."""
    mint = left.homes["mint"]
    own = {funds.persistent_account(mint, NETWORK)}
    ledger = left.ledgers["mint"]
    reached = reach(ledger, [row for row in ledger if row.holds(left.facts.asker)], own)
    assert len(reached) > 2
    assert not [row for row in reached if row.holds((*left.facts.worker, *left.facts.session))]


def reach(rows, start, own):
    """All rows that are joined to some, whether directly or over others."""
    by_key = defaultdict(list)
    for row in rows:
        for key in keys(row) - own:
            by_key[key].append(row)
    reached, todo = {id(row): row for row in start}, list(start)
    while todo:
        for key in keys(todo.pop()) - own:
            for row in by_key[key]:
                if id(row) not in reached:
                    reached[id(row)] = row
                    todo.append(row)
    return list(reached.values())


def keys(row):
    """The values of a row that say which one is meant, those of a list by themselves too."""
    values = {value for value in row.values if isinstance(value, bytes) and len(value) >= LEAST}
    lists = [value for value in values if len(value) > 32 and len(value) % 32 == 0]
    return values | {value[at : at + 32] for value in lists for at in range(0, len(value), 32)}


# --- planted ---


def test_a_planted_row_is_found(left, tmp_path):
    facts = left.facts
    for number, (asker, other) in enumerate(
        [
            (facts.asker[0], facts.worker[0]),
            (facts.asker[1], facts.session[0]),
            (facts.asker[3], facts.worker[1].hex().encode()),
            (funds.address(facts.asker[1]).encode(), facts.session[1]),
        ]
    ):
        path = tmp_path / f"planted-{number}" / "ledger.db"
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE note (a BLOB, b BLOB)")
            connection.execute("INSERT INTO note VALUES (?, ?)", (asker, b".." + other))
        assert [row.where for row in leaks(left, rows=list(store(path)))] == [
            f"planted-{number} note"
        ]


def test_a_planted_line_is_found(left, tmp_path):
    log = tmp_path / "node.log"
    asker, worker = left.facts.asker[1], left.facts.worker[0]
    address = left.facts.asker[-1].decode()
    log.write_text(
        f'{{"wallet": "{asker.hex()[:SHORT]}", "worker": "{worker.hex()[:SHORT]}"}}\n'
        f'{{"wallet": "{asker.hex()[:SHORT]}"}}\n'
        f"{address} asked {worker.hex()}\n"
        f"it said{left.facts.texts[1][-20:]}\n"
    )
    found = [line.values[0] for line in leaks(left, lines=list(lines(log)))]
    assert len(found) == 3
    assert f'{{"wallet": "{asker.hex()[:SHORT]}"}}' not in found


def test_a_planted_row_makes_a_chain_of_rows(left):
    mint, facts = left.ledgers["mint"], left.facts
    lane = next(row for row in mint if row.where == "mint lane_in").values[0]
    planted = [*mint, Row(where="mint note", values=(lane, facts.session[0]))]
    start = [row for row in mint if row.holds(facts.asker)]
    assert [row for row in reach(planted, start, set()) if row.where == "mint lock"]


def test_a_cell_is_searched_at_every_bit(left):
    account = left.facts.asker[1]
    rows = [row for row in left.rows if row.where == "chain tx" and row.holds([account])]
    assert any(account not in row.values[-1] for row in rows)


# --- coins ---


def transactions(left):
    """Every transaction of the chain, read by pytoniq-core alone."""
    for row in left.rows:
        if row.where == "chain tx":
            yield Transaction.deserialize(Cell.one_from_boc(row.values[-1]).begin_parse())


def fees_of(transaction):
    """What the account paid, and what the message that came had paid to be forwarded."""
    info = transaction.in_msg.info if transaction.in_msg else None
    carried = info.fwd_fee + info.ihr_fee if isinstance(info, InternalMsgInfo) else 0
    return [transaction.total_fees.grams, carried]


def balances(left):
    """The balance of each account, from its state."""
    for row in left.rows:
        if row.where == "chain account":
            shard = ShardAccount.deserialize(Cell.one_from_boc(row.values[-1]).begin_parse())
            if shard.account is not None:
                yield shard.account.storage.balance.grams


def given(left):
    """What the giver handed out: it has no account, and gets nothing back."""
    came = [one.in_msg.info for one in transactions(left) if one.in_msg is not None]
    gifts = [info for info in came if isinstance(info, InternalMsgInfo)]
    return sum(info.value_coins for info in gifts if info.src.hash_part == GIVER)


def test_accounts_and_fees_are_the_genesis_supply_to_the_nano(left):
    fees = [fee for transaction in transactions(left) for fee in fees_of(transaction)]
    giver = SUPPLY.value - given(left)
    assert giver + sum(balances(left)) + sum(fees) == SUPPLY.value
    assert not [row for row in left.rows if row.where == "chain queue"]

    paid_ = [number for number, fee in enumerate(fees) if fee]
    assert len(paid_) > 10
    for dropped in paid_:
        rest = sum(fees) - fees[dropped]
        assert giver + sum(balances(left)) + rest != SUPPLY.value
