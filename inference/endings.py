"""How an ask may end without a whole answer, in words: what happened, why, and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from inference.body import Field
from inference.market import AUTO, Choice, Reason
from inference.protocol import Refusal, Refuse, Setting
from inference.request import AskRequest, Code, Finish, Policy
from ledger.money import Nano
from ledger.payment import Unpaid
from ledger.tariff import Stop


class Why(Enum):
    """Why a worker that was drawn gave no answer."""

    BUSY = "busy"
    PAUSED = "paused"
    NO_MODEL = "no_model"
    UNSUPPORTED = "unsupported"
    TOO_LONG = "too_long"
    PAYMENT = "payment"
    SPENT = "spent"
    MINT = "mint"
    MINT_SILENT = "mint_silent"
    PRICE = "price"
    ENGINE = "engine"
    SILENT = "silent"
    LOST = "lost"
    LIED = "lied"
    UNREACHABLE = "unreachable"
    CIRCUIT = "circuit"


WHY: Final[Mapping[Refuse, Why]] = {
    Refuse.BUSY: Why.BUSY,
    Refuse.PAUSED: Why.PAUSED,
    Refuse.NO_MODEL: Why.NO_MODEL,
    Refuse.UNSUPPORTED: Why.UNSUPPORTED,
    Refuse.TOO_LONG: Why.TOO_LONG,
    Refuse.BAD_REQUEST: Why.UNSUPPORTED,
    Refuse.BAD_GRAMMAR: Why.UNSUPPORTED,
    Refuse.BAD_TEMPLATE: Why.UNSUPPORTED,
    Refuse.PAYMENT: Why.PAYMENT,
    Refuse.UNPAID: Why.PAYMENT,
    Refuse.DEADLINE: Why.BUSY,
    Refuse.ENGINE: Why.ENGINE,
    Refuse.TOO_MANY: Why.BUSY,
}
"""What a refusal means as long as nothing of an answer has come."""

FINISH: Final[Mapping[Stop, Finish]] = {
    Stop.STOP: "stop",
    Stop.LENGTH: "length",
    Stop.TOOL_CALLS: "tool_calls",
    Stop.DEADLINE: "deadline",
    Stop.PAUSED: "worker_lost",
}
"""What the end in a receipt is called; a worker may not say the others."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One way to end."""

    code: Code
    message: str
    advice: str


TOO_LARGE: Final = Ending(
    "request_too_large",
    "The request is larger than 4 MiB, the most that a worker takes.",
    "Send less text.",
)
NOT_JOINED: Final = Ending(
    "joining_network",
    "This node has not yet learnt who is on the network: no bootstrap node has answered.",
    "Check the connection and the network's bootstrap list, then try again.",
)
NODE_FULL: Final = Ending(
    "busy",
    "This node has as many circuits as it may have.",
    "Try again when one of its requests has ended.",
)
NO_WORKER: Final = Ending(
    "no_worker",
    "No worker on the network serves a model that this node knows.",
    "Wait for one to join, or serve one: tussah up --worker.",
)
NOT_SERVED: Final = Ending(
    "no_worker",
    "No worker on the network serves this model now.",
    "Ask for `auto`, or wait; `tussah models` lists what is served.",
)
CANCELLED: Final = Ending("cancelled", "Stopped before the answer was whole.", "")
CIRCUIT_LOST: Final = Ending(
    "circuit_lost",
    "A relay of the circuit went away in the middle of the answer.",
    "Ask again: other relays will be used.",
)


def no_path(relays: int) -> Ending:
    """There are fewer relays than hops."""
    return Ending(
        "no_path",
        f"No circuit of {relays} relays can be built: the network has too few of them that may "
        "stand in one path.",
        "Wait for more relays to join, or ask for fewer with --relays; fewer hide less.",
    )


def no_request(what: str) -> Ending:
    """Every worker would refuse it: it is not sent."""
    return Ending(
        "invalid_request",
        f"The request is none that a worker takes: {what}.",
        "Change the request.",
    )


def unpaid(reason: Unpaid, detail: str) -> Ending:
    """No coins could be set aside; nothing was spent."""
    code, message, advice = _UNPAID[reason]
    return Ending(code, f"{message} ({detail})." if detail else f"{message}.", advice)


_UNPAID: Final[Mapping[Unpaid, tuple[Code, str, str]]] = {
    Unpaid.NO_CREDITS: (
        "no_credits",
        "There are too few credits for this request, and no more can be bought now",
        "Fund the wallet and buy credits (tussah credits buy), or ask for fewer tokens.",
    ),
    Unpaid.NO_MINT: (
        "mint_unreachable",
        "No mint that both this node and the worker use is there now",
        "Try again in a minute; `tussah peers` shows the mints.",
    ),
    Unpaid.LANE: (
        "no_credits",
        "The lane to the mint is not open, or has too little on it",
        "Fund the wallet; `tussah lanes list` shows how far the lane is.",
    ),
    Unpaid.MINT_DOWN: (
        "mint_unreachable",
        "The mint does not answer, so that no credits can be bought",
        "Try again in a minute; nothing was spent.",
    ),
    Unpaid.NO_PATH: (
        "no_path",
        "No circuit to the mint can be built",
        "Wait for more relays to join, or set ask.relays lower: fewer hide less.",
    ),
    Unpaid.CHAIN_DOWN: (
        "chain_unreachable",
        "The chain does not answer, so that no lane to the mint can be opened",
        "Check the network's lite-servers, then try again; nothing was spent.",
    ),
    Unpaid.NOT_AGREED: (
        "not_agreed",
        "There are too few credits for this request, and buying some was not agreed to",
        "Agree with --yes, or buy them first (tussah credits buy).",
    ),
    Unpaid.DEAR: (
        "price_above_cap",
        "The mint's fee is above what this node pays",
        "Wait for another mint, or join a network that names one; nothing was spent.",
    ),
    Unpaid.STORE: (
        "internal",
        "No credits can be set aside, since this node cannot write down that they are",
        "See to the disk, then try again; nothing was spent.",
    ),
}


def bad_request(refusal: Refusal) -> Ending:
    """The worker read the request and it is none."""
    what = {
        Refuse.BAD_GRAMMAR: "the grammar of the answer",
        Refuse.BAD_TEMPLATE: "the model's chat template, with these messages",
    }.get(refusal.code, _field_name(refusal.detail))
    return Ending(
        "invalid_request",
        f"The worker refused the request because of {what}.",
        "Change the request; asking another worker would not help.",
    )


def too_late(deadline_s: float, state: str) -> Ending:
    """The caller's limit is near, and there is no whole answer."""
    doing = {
        "draw": "no worker had been found",
        "opening": "no worker had answered through its circuit",
        "paying": "no credits had been set aside",
        "offered": "the prompt had not left",
    }.get(state, "the answer was not complete")
    return Ending(
        "deadline",
        f"The limit of {round(deadline_s, 1):g} s was nearly over and {doing}.",
        "Allow more time with --deadline, or ask for fewer tokens.",
    )


def worker_late(deadline_s: float) -> Ending:
    """The worker says that it ran out of time."""
    return Ending(
        "deadline",
        f"The worker could not finish within the limit of {round(deadline_s, 1):g} s.",
        "Allow more time with --deadline, or ask for fewer tokens.",
    )


def broken_off(why: Why, lie: str) -> Ending:
    """An answer had begun and does not go on."""
    what = {
        Why.SILENT: "The worker fell silent",
        Why.ENGINE: "The worker's model failed",
        Why.LIED: f"The worker broke the protocol ({lie})",
    }.get(why, "The worker went away")
    return Ending(
        "worker_lost",
        f"{what} in the middle of the answer; nobody else can go on with it.",
        "Ask again: another worker will be drawn.",
    )


def all_failed(whys: Sequence[Why], relays: int) -> Ending:
    """Workers were asked through so many relays, and none gave an answer."""
    tally = ", ".join(f"{_WORDS[why]} ({whys.count(why)})" for why in dict.fromkeys(whys))
    code = _common_code(whys)
    advice = _DIRECTLY if code == "circuit_lost" and not relays else _ADVICE[code]
    return Ending(code, f"No worker answered: {tally}.", advice)


_DIRECTLY: Final = (
    "Ask with --relays 1 or more: without relays only those workers answer whose owners have "
    "allowed it (worker.allow_direct)."
)


def nobody(request: AskRequest, policy: Policy, choices: Mapping[bytes, Choice]) -> Ending:
    """No listed worker is acceptable."""
    if not choices:
        return _unknown_model(request, policy)
    reasons: dict[Reason, int] = {}
    for choice in choices.values():
        for reason, count in choice.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    serving = {reason: n for reason, n in reasons.items() if reason not in _NOT_SERVING}
    if not serving:
        return NO_WORKER if request.model == AUTO else NOT_SERVED
    tally = ", ".join(f"{_UNFIT[reason]} ({count})" for reason, count in serving.items())
    code: Code
    message = f"No worker is acceptable: {tally}.{_too_dear(choices, policy.max_price)}"
    if list(serving) == [Reason.UNPAYABLE]:
        code, advice = _NO_PURSE if policy.purse is None else _NO_MINT
        return Ending(code, message, advice)
    code = "no_worker"
    if len(serving) == 1:
        code = _REASON_CODES.get(next(iter(serving)), code)
    return Ending(code, message, _ADVICE[code])


def _too_dear(choices: Mapping[bytes, Choice], cap: Nano) -> str:
    """What the cheapest of those that are too dear asks for, if any is."""
    quotes = [choice.cheapest for choice in choices.values() if choice.cheapest is not None]
    if not quotes:
        return ""
    cheapest = min(quotes)
    answer, prompt = (
        Nano(price).ceil_div(_PER_THOUSAND)
        for price in (cheapest.prices.completion, cheapest.prices.prompt)
    )
    return (
        f" The cheapest asks {answer} for 1,000 tokens of an answer and {prompt} of a prompt, up "
        f"to {cheapest.most} for this request; the cap is {cap}."
    )


_PER_THOUSAND: Final = 1_000
"""An advert has prices for a million tokens."""


_NOT_SERVING: Final = (Reason.NOT_LIVE, Reason.SELF, Reason.MODEL)

_UNFIT: Final[Mapping[Reason, str]] = {
    Reason.NEEDS: "unable to do what is asked",
    Reason.CONTEXT: "its context too small",
    Reason.PRICE: "above the price cap",
    Reason.UNPAYABLE: "paid by a mint that is not there",
    Reason.SLOW: "too slow",
    Reason.ASSURANCE: "not assured enough",
    Reason.UNREACHABLE: "out of reach",
    Reason.BUSY: "busy",
    Reason.COOLING: "asked in vain a moment ago",
    Reason.BANNED: "banned for a lie",
}
"""Those of workers that serve the model."""

_REASON_CODES: Final[Mapping[Reason, Code]] = {
    Reason.PRICE: "price_above_cap",
    Reason.CONTEXT: "context_length_exceeded",
}

_NO_MINT: Final[tuple[Code, str]] = (
    "mint_unreachable",
    "Credits are neither lost nor of any use until a mint of this network is back; `tussah peers` "
    "shows it then.",
)

_NO_PURSE: Final[tuple[Code, str]] = (
    "no_credits",
    "This node has no open wallet to pay from; `tussah status` says why.",
)

_CODES: Final[Sequence[tuple[tuple[Why, ...], Code]]] = (
    ((Why.BUSY, Why.PAUSED), "busy"),
    ((Why.PRICE,), "price_above_cap"),
    ((Why.SPENT,), "no_credits"),
    ((Why.MINT, Why.MINT_SILENT), "mint_unreachable"),
    ((Why.TOO_LONG,), "context_length_exceeded"),
    ((Why.CIRCUIT, Why.UNREACHABLE), "circuit_lost"),
    ((Why.SILENT, Why.LOST, Why.LIED, Why.ENGINE, Why.UNREACHABLE, Why.CIRCUIT), "worker_lost"),
)
"""A code for tries that all ended in one of these ways; else `all_refused`."""

_WORDS: Final[Mapping[Why, str]] = {
    Why.BUSY: "busy",
    Why.PAUSED: "paused",
    Why.NO_MODEL: "no longer serving the model",
    Why.UNSUPPORTED: "unable to do what was asked",
    Why.TOO_LONG: "its context too small",
    Why.PAYMENT: "payment refused",
    Why.SPENT: "the credits spent before, says its mint",
    Why.MINT: "no mint in common",
    Why.MINT_SILENT: "its mint silent",
    Why.PRICE: "its offer above the price cap",
    Why.ENGINE: "its model failed",
    Why.SILENT: "silent",
    Why.LOST: "gone",
    Why.LIED: "broke the protocol",
    Why.UNREACHABLE: "out of reach",
    Why.CIRCUIT: "no circuit to it",
}

_ADVICE: Final[Mapping[Code, str]] = {
    "busy": "Try again in a minute.",
    "no_credits": "A copy of this wallet may have spent them; buy others: tussah credits buy.",
    "mint_unreachable": "Try again in a minute; nothing is lost, what was locked returns.",
    "price_above_cap": "Raise the cap with --max-price, or ask for fewer tokens.",
    "context_length_exceeded": "Send less text, or ask for fewer tokens.",
    "circuit_lost": "Try again: other relays are used as long as there are any; --relays 2 needs "
    "fewer, and hides less. `tussah peers` shows who is there.",
    "worker_lost": "Try again; `tussah peers` shows who is there.",
    "all_refused": "Try again later, or ask for another model.",
    "no_worker": "Wait, or ask for another model; `tussah models` lists what is served.",
}


def _field_name(number: int) -> str:
    for names in (Setting, Field):
        if number in list(names):
            return f"its {names(number).name.lower()}"
    return f"its field {number}"


def _common_code(whys: Iterable[Why]) -> Code:
    seen = tuple(dict.fromkeys(whys))
    for among, code in _CODES:
        if all(why in among for why in seen):
            return code
    return "all_refused"


def _unknown_model(request: AskRequest, policy: Policy) -> Ending:
    names = ", ".join(sorted({known.base: None for known in policy.known})[:8])
    return Ending(
        "model_not_found",
        f"No model is known by the name {request.model!r}.",
        f"Ask for `auto` or one of: {names}." if names else "Ask for `auto`.",
    )
