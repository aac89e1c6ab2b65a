"""What must hold of a demonstration: each statement is tested on what was recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from scripts.demo.books import DUST, Books
from scripts.demo.story import Check, Witness, ton, whole
from scripts.failure import Document
from scripts.parties import Network
from scripts.recorder import Markers

Rows: TypeAlias = Iterator[Check]


def checks(result: Document, witnesses: Sequence[Witness], path: Sequence[Witness]) -> Rows:
    """Every statement of the report."""
    relays = [witness for witness in witnesses if witness.role == "relay"]
    workers = [witness for witness in witnesses if witness.role == "worker"]
    mints = [witness for witness in witnesses if witness.role == "mint"]

    yield _answered(result)
    yield _whole(witnesses)
    yield _frames(witnesses)
    yield _nobody(
        "links", "link carried the prompt or the answer in clear", witnesses, _clear_on_links
    )
    yield _nobody("relays", "relay held the prompt or the answer", relays, _read)
    yield _nobody(
        "asker",
        "relay of the path behind the guard met the asker",
        [relay for relay in path[2:] if relay.role == "relay"],
        _met_client,
    )
    yield _nobody("worker", "worker met the asker", workers, _met_client)
    yield _nobody("unlinked", "relay joined asker and worker", relays, _joined)
    yield _carried(path)
    yield _bystander(workers, path[-1])
    if mints:
        yield _nobody("mint", "mint met the asker or read the text", mints, _met_or_read)
        others = [*relays, *workers]
        yield _nobody("payer", "relay or worker saw the asker's wallet", others, _saw_payer)


def _answered(result: Document) -> Check:
    finish, receipt = result["finish"], result["receipt"]
    ok = finish in ("stop", "length") and receipt is not None
    return Check(name="answered", ok=ok, detail=f"finish {finish}, receipt signed by the worker")


def _whole(witnesses: Sequence[Witness]) -> Check:
    cut = [witness.name for witness in witnesses if not witness.seen.complete]
    detail = f"incomplete: {', '.join(cut)}" if cut else "every recorder holds the whole run"
    return Check(name="recorded", ok=not cut, detail=detail)


def _frames(witnesses: Sequence[Witness]) -> Check:
    frames = sum(witness.seen.frames for witness in witnesses)
    odd = sum(witness.seen.odd_frames for witness in witnesses)
    detail = f"{frames} onion frames on all links, {odd} not of 1200 bytes"
    return Check(name="frames", ok=frames > 0 and odd == 0, detail=detail)


def _nobody(
    name: str, sin: str, witnesses: Sequence[Witness], guilty: Callable[[Witness], bool]
) -> Check:
    found = [witness.name for witness in witnesses if guilty(witness)]
    detail = f"{', '.join(found)}: {sin}" if found else f"no {sin}"
    return Check(name=name, ok=not found, detail=detail)


def _clear_on_links(witness: Witness) -> bool:
    return witness.seen.clear_on_links


def _read(witness: Witness) -> bool:
    return witness.seen.saw.prompt or witness.seen.saw.answer


def _met_client(witness: Witness) -> bool:
    return witness.seen.saw.client_id or witness.seen.saw.client_address


def _joined(witness: Witness) -> bool:
    return _met_client(witness) and witness.seen.saw.worker_id


def _met_or_read(witness: Witness) -> bool:
    return _met_client(witness) or _read(witness)


def _saw_payer(witness: Witness) -> bool:
    return witness.seen.saw.payer


def _carried(path: Sequence[Witness]) -> Check:
    """The recorders of neighbours agree that cells went from one to the other."""
    gaps = [
        f"{one.name} - {other.name}"
        for one, other in pairwise(path)
        if other.id not in one.seen.neighbours or one.id not in other.seen.neighbours
    ]
    detail = f"no cells on {', '.join(gaps)}" if gaps else "every link of the path carried cells"
    return Check(name="path", ok=not gaps, detail=detail)


def _bystander(workers: Sequence[Witness], answering: Witness) -> Check:
    """The worker that was not asked knows nothing; the one that was must have read the prompt."""
    others = [worker for worker in workers if worker is not answering]
    ok = not any(_read(worker) for worker in others) and _read(answering)
    detail = f"{answering.name} alone read the prompt and wrote the answer"
    return Check(name="reader", ok=ok, detail=detail)


def logs(markers: Markers, network: Network) -> Check:
    """No log of any process names the asker, its address, the prompt or the answer."""
    guilty = [
        party.name
        for party in network.parties
        if party.home.log.exists() and markers.names_asker(party.home.log.read_bytes())
    ]
    detail = f"{', '.join(guilty)}: log names the asker or the text" if guilty else "no log does"
    return Check(name="logs", ok=not guilty, detail=detail)


def money(result: Document, books: Books | None) -> Rows:
    """That nothing was lost, and nobody was paid who did not work."""
    cost = result["cost"]
    assert isinstance(cost, Mapping)
    paid = cost["paid_nano"]
    if books is None:
        detail = f"{paid} nano paid; this network answers for free"
        yield Check(name="conserved", ok=paid == 0, detail=detail)
        return
    gap = books.earned - paid
    yield Check(
        name="paid",
        ok=books.paid == books.earned and 0 <= gap < DUST and paid > 0,
        detail=f"client {ton(books.paid)}, worker {ton(books.earned)}: the same",
    )
    yield Check(
        name="settled",
        ok=books.open_lanes == 0 and books.claims > 0,
        detail=f"{books.claims} claims and closes on the chain, {books.open_lanes} lanes left open",
    )
    yield _conserved(books)


def _conserved(books: Books) -> Check:
    """What the giver gave is there, but for the fees; the chain's own sheet is exact."""
    supply = books.supply
    before = sum(balance.on_chain for balance in books.before)
    after = sum(balance.on_chain for balance in books.after)
    gave = whole(supply["genesis"]) - whole(supply["giver"])
    ok = bool(supply["exact"]) and before == gave == after + books.fees
    detail = f"{ton(before)} before, {ton(after)} after, {ton(books.fees)} in fees"
    return Check(name="conserved", ok=ok, detail=detail)
