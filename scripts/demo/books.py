"""What the money of a demonstration did: balances, lanes settled and closed, every transaction.

Nothing is taken from what one party says of another: what the client paid is held against what the
worker was promised, and the chain's own sheet must be exact to the nano.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.failure import Document, Failed
from scripts.parties import CHAIN, COINS, Network, Party

SETTLE_SECONDS: Final = 60.0
"""For what follows an answer: the last settlement, the change, claims and closes in blocks."""

POLL_SECONDS: Final = 0.2

DUST: Final = 1_024
"""nano: the least credit. What is too little for one stays with the worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one party has, in nano."""

    name: str
    role: str
    on_chain: int
    credits: int

    @property
    def total(self) -> int:
        """Both."""
        return self.on_chain + self.credits


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The whole story, in nano."""

    bought: Document
    """The `purchase` document."""
    set_aside: int
    """Locked for the answer."""
    paid: int
    """Ticks that the mint paid, as the client's change shows it."""
    change: int
    earned: int
    """What the worker was promised for it, by the mint's voucher."""
    fee: int
    """The mint's."""
    before: Sequence[Balance]
    after: Sequence[Balance]
    transactions: Sequence[Document]
    """Of all parties, each once, in the order of the chain."""
    names: Mapping[str, str]
    """Whose wallet an address is."""
    open_lanes: int
    supply: Document

    @property
    def fees(self) -> int:
        """What the chain took for all of it, as the parties' transactions say."""
        return sum(_nano(transaction["fee_nano"]) for transaction in self.transactions)

    @property
    def claims(self) -> int:
        """Claims and closes that the chain took; each causes more transactions than its own."""
        return sum(t["kind"] in _PAYING and t["peer"] is None for t in self.transactions)


_PAYING: Final = ("claim", "close")


def given(network: Network) -> list[Balance]:
    """What everybody had at first: the coins of the chain's giver."""
    return [
        Balance(name=party.name, role=party.role, on_chain=COINS.get(party.role, 0), credits=0)
        for party in payers(network)
    ]


def balances(network: Network) -> list[Balance]:
    """What everybody with a wallet has now."""
    return [
        Balance(
            name=party.name,
            role=party.role,
            on_chain=_nano(wallet["balance_nano"]),
            credits=_held(wallet),
        )
        for party in payers(network)
        for wallet in [party.call("GET", "/wallet")]
    ]


def payers(network: Network) -> list[Party]:
    """Everybody with a wallet."""
    return [party for role in ("client", "mint", "worker") for party in network.of(role)]


def buy(network: Network) -> Document:
    """Have the client buy a bundle; this opens its lane to the mint."""
    return network.party("client").call("POST", "/credits/buy", {})


def close(network: Network, before: Sequence[Balance], bought: Document, say: "Say") -> Books:
    """Wait for the change, then settle and close every lane on the chain, and add up."""
    client, chain = network.party("client"), network.party(CHAIN)
    had = _nano(_map(bought, "credits")["value_nano"])
    say("change is fetched over a circuit of its own, after a random pause\n")
    wallet = _wait(client, "/wallet", lambda w: not _map(w, "credits")["in_flight_nano"])
    earned = _wait_settled(network, had - _held(wallet))
    for party in (*network.of("worker"), *network.of("mint")):
        _close_lanes(party, say)
    return Books(
        bought=bought,
        set_aside=had,
        paid=had - _held(wallet),
        change=_held(wallet),
        earned=earned,
        fee=_nano(bought["price_nano"]) - _nano(bought["value_nano"]),
        before=before,
        after=balances(network),
        transactions=list(_transactions(network)),
        names={
            _text(party.call("GET", "/wallet")["address"]): f"{party.name}'s wallet"
            for party in payers(network)
        },
        open_lanes=_open_lanes(network),
        supply=chain.call("GET", "/supply"),
    )


Say = Callable[[str], None]


def _wait_settled(network: Network, spent: int) -> int:
    """What the workers were promised, once it is what the client has spent."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        promised = sum(
            _nano(lane["voucher_nano"])
            for worker in network.of("worker")
            for lane in _list(worker.call("GET", "/lanes"), "lanes")
        )
        if promised >= spent or time.monotonic() > until:
            return promised
        time.sleep(POLL_SECONDS)


def _close_lanes(party: Party, say: Say) -> None:
    """As the payee: claim what is due and end the lane, so that the payer has its rest."""
    for lane in _list(party.call("GET", "/lanes"), "lanes"):
        if lane["role"] != "payee" or lane["state"] == "closed":
            continue
        for action in ("settle", "close"):
            say(f"{party.name}: {action} of lane {_text(lane['address'])[:8]}\n")
            _act(party, f"/lanes/{lane['address']}/{action}")
        _wait(party, "/lanes", _all_closed)


def _act(party: Party, target: str) -> None:
    """Too little due for a claim is no failure: the close pays it."""
    try:
        party.call("POST", target, {})
    except Failed as failed:
        if not target.endswith("/settle"):
            raise
        if failed.failure.code != "failed":
            raise


def _all_closed(document: Document) -> bool:
    lanes = _list(document, "lanes")
    return all(lane["state"] == "closed" for lane in lanes if lane["role"] == "payee")


def _wait(party: Party, target: str, is_done: Callable[[Document], bool]) -> Document:
    """The document once it is as it should be, or as it is when time is up."""
    until = time.monotonic() + SETTLE_SECONDS
    while not is_done(document := party.call("GET", target)) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return document


def _transactions(network: Network) -> Iterator[Document]:
    seen: dict[str, Document] = {}
    for party in payers(network):
        for transaction in _list(party.call("GET", "/lanes"), "transactions"):
            place = f"{transaction['transaction']}{transaction['account']}{transaction['kind']}"
            seen.setdefault(place, {**transaction, "party": party.name, "order": len(seen)})
    return iter(sorted(seen.values(), key=lambda each: (_text(each["at"]), _nano(each["order"]))))


def _open_lanes(network: Network) -> int:
    """Lanes that no end of them has seen closed; a payer may take seconds to believe it."""
    ends = [
        lane for party in payers(network) for lane in _list(party.call("GET", "/lanes"), "lanes")
    ]
    closed = {_text(lane["address"]) for lane in ends if lane["state"] == "closed"}
    return len({_text(lane["address"]) for lane in ends} - closed)


# --- documents ---


def document(books: Books) -> Document:
    """As part of the `demo` document."""
    return {
        "claims": books.claims,
        "fees_nano": books.fees,
        "conserved": books.supply["exact"],
        "bought": books.bought,
        "paid_nano": books.paid,
        "earned_nano": books.earned,
        "change_nano": books.change,
        "mint_fee_nano": books.fee,
        "balances": [
            {
                "name": before.name,
                "role": before.role,
                "before_nano": before.on_chain,
                "after_nano": after.on_chain,
                "credits_nano": after.credits,
            }
            for before, after in zip(books.before, books.after, strict=True)
        ],
        "transactions": list(books.transactions),
        "supply": books.supply,
    }


def _held(wallet: Document) -> int:
    return _nano(_map(wallet, "credits")["value_nano"])


def _nano(value: object) -> int:
    assert value is None or isinstance(value, int)
    return value or 0


def _text(value: object) -> str:
    return str(value)


def _map(document: Document, name: str) -> Mapping[str, object]:
    part = document[name]
    assert isinstance(part, Mapping)
    return part


def _list(document: Document, name: str) -> list[Mapping[str, object]]:
    part = document[name]
    assert isinstance(part, list)
    return part
