"""A directory in memory: relays, workers and what they say of themselves.

The adverts are the real ones but for their signatures, which nobody here checks; who is taken for
one operator is decided by the real rules, from addresses. So a population of thousands is there at
once, and paths and workers are chosen from it by the real code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, final

from p2p.entropy import Entropy, sample
from p2p.identity import AdnlId
from p2p.onion.path import RelayView
from p2p.overlay.advert import Advert, Digest, Fields, Model, OnionKey, Prices, Role, Rules
from p2p.overlay.groups import group_of, nobody, subnet_of
from p2p.overlay.listing import Entry
from p2p.transport.fabric import EPOCH
from p2p.wire import Endpoint

RULES: Final = Rules(network=-1)
"""Those of a public network: who shares a /16 is taken for one operator."""

PORT: Final = 4001

MODEL: Final = Model(
    identity=sha256(b"the model of simulations").digest(),
    quant=3,
    context=16_384,
    prompt_rate=448,
    answer_rate=32,
    slots=4,
    prices=Prices(0, 0),
    label="simulated",
)
"""What every worker serves unless its experiment says otherwise."""

DAYS_LISTED: Final = 7
"""days of the last seven: everybody has been here for long"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A listed node, as both halves of the choice see it."""

    index: int
    """The node's number in its experiment."""
    entry: Entry
    view: RelayView


def member(
    index: int,
    roles: Role,
    address: Endpoint,
    *,
    model: Model | None = None,
    attachments: tuple[AdnlId, ...] = (),
) -> Member:
    """A node that says this of itself; with attachments it cannot be dialled."""
    dialled = not attachments
    fields = Fields(
        roles=roles | Role.DIALABLE if dialled else roles,
        network=RULES.network,
        seq=1,
        life=RULES.usual_life,
        addresses=(address,) if dialled else (),
        onion=OnionKey(int(EPOCH // 86_400), sha256(b"onion %d" % index).digest()),
        attachments=attachments,
        models=() if model is None else (model,),
    )
    return _listed(index, fields)


def offering(one: Member, model: Model) -> Member:
    """The same node with this model and no other."""
    advert = one.entry.advert
    advert = replace(advert, fields=replace(advert.fields, models=(model,)))
    return replace(one, entry=replace(one.entry, advert=advert))


def _listed(index: int, fields: Fields) -> Member:
    public = sha256(b"node %d" % index).digest()
    advert = Advert(
        buffer=b"",
        digest=Digest(public[:16]),
        id=AdnlId(sha256(public).digest()),
        public=public,
        issued=int(EPOCH),
        fields=fields,
    )
    group = group_of(advert, RULES, nobody, lambda _: None)
    assert fields.onion is not None
    return Member(
        index=index,
        entry=Entry(advert=advert, live=True, open=True, days=DAYS_LISTED, group=group),
        view=RelayView(
            id=advert.id,
            onion_key=fields.onion.key,
            operator=group,
            subnet=subnet_of(advert),
            roles=fields.roles,
            stable=True,
            weight=1.0,
            attachments=fields.attachments,
        ),
    )


@final
class Register:
    """The `DirectoryView` of everybody: who is listed, the same for all."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = {each.view.id: each for each in members}
        listed = self._members.values()
        self._relays = [each.view for each in listed if Role.RELAY in each.view.roles]
        self.workers: Sequence[Entry] = [
            each.entry for each in listed if Role.WORKER in each.view.roles
        ]

    def relay(self, peer: AdnlId, /) -> RelayView | None:
        """Any listed node."""
        found = self._members.get(peer)
        return None if found is None else found.view

    def relays(self) -> Sequence[RelayView]:
        """All relays, in the order given."""
        return self._relays

    def entry(self, peer: AdnlId) -> Entry:
        """A listed node as workers are drawn."""
        return self._members[peer].entry

    def index(self, peer: AdnlId) -> int:
        """The number of a listed node."""
        return self._members[peer].index

    def __len__(self) -> int:
        return len(self._members)


# --- addresses ---

_RESERVED: Final = frozenset([0, 10, 100, 127, 169, 172, 192, 198, 203])
"""First bytes with blocks that are not public in them."""

FIRST_BYTES: Final = tuple(byte for byte in range(1, 224) if byte not in _RESERVED)

BLOCKS: Final = 256 * len(FIRST_BYTES)
"""/16 blocks that there are"""


def blocks(entropy: Entropy, count: int) -> list[int]:
    """So many distinct /16 blocks. Raises `ValueError` for more than there are."""
    if count > BLOCKS:
        raise ValueError(f"there are {BLOCKS} public blocks of addresses")
    return sample(entropy, range(BLOCKS), count)


def address(block: int, host: int) -> Endpoint:
    """The address of a host in a /16 block: 65,024 of them stand apart by their /24."""
    first, second = FIRST_BYTES[block // 256], block % 256
    return Endpoint(f"{first}.{second}.{host % 256}.{1 + host // 256 % 254}", PORT)
