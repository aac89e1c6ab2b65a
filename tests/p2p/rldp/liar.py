"""A peer that reads the symbols it is sent, and answers each transfer with lies of one kind.

It knows what left, so that its lies pass whatever a look at the numbers alone can refuse. All of it
is drawn from one `random.Random`.
"""

from collections import OrderedDict
from dataclasses import dataclass

from p2p import tl
from p2p.rldp.fec import Encoder, symbols_of
from p2p.rldp.transfer import (
    DATA_HEAD,
    HEAD_SIZE,
    PART_ID,
    SEQNO_END,
    Head,
    TransferId,
    pack_head,
    part_size,
    parts_of,
    read_head,
)
from p2p.ton import Rldp2Complete, Rldp2Confirm, RldpQuery

KEPT = 32
"""parts that are lied about at once; the oldest are left in silence"""

EDGES = (0, 1, -1, 31, 32, 33, 2**31 - 1, -(2**31))


@dataclass
class Seen:
    """A part that comes in."""

    head: Head
    source: int
    lie: object
    sent: int = 0
    told: int = 0
    counted: int = 0

    @property
    def most(self):
        """Symbols beyond which a node lets itself be used against others."""
        return 5 * self.source + 100


class Liar:
    """See the module. `only` is the name of a lie, if all are to be of that kind."""

    def __init__(self, rng, only=None):
        self.rng = rng
        self.only = only
        self.parts = OrderedDict()
        self.symbols = 0

    def ask(self, now, body, max_answer=1 << 24):
        """The messages of a query by RLDP2: its symbols, and perhaps some that contradict them."""
        until = int(now) + self.rng.choice((1, 20, 60))
        content = tl.pack(RldpQuery(self.rng.randbytes(32), max_answer, until, body))
        transfer = TransferId(self.rng.randbytes(32))
        symbol = Encoder(content).symbol
        messages = [
            _message(Head(transfer, 0, len(content)), seqno, symbol(seqno))
            for seqno in range(symbols_of(len(content)))
        ]
        if self.rng.random() < 0.3:
            messages.insert(self.rng.randrange(len(messages) + 1), self._junk(transfer))
        return messages

    def hear(self, payload):
        """Something that the node sent by RLDP2."""
        if not payload.startswith(PART_ID):
            return
        head = read_head(payload[:HEAD_SIZE])
        seqno = int.from_bytes(payload[HEAD_SIZE:SEQNO_END], "little")
        part = self.parts.get((head.transfer, head.part)) or self._meet(head)
        part.sent = max(part.sent, seqno + 1)
        self.symbols += 1
        assert part.sent <= part.most

    def lies(self):
        """What there is to say now: of the parts of which something came, and now and then more."""
        messages = [
            message
            for part in self.parts.values()
            if part.sent > part.told or self.rng.random() < 0.02
            for message in part.lie(part)
        ]
        for part in self.parts.values():
            part.told = part.sent
        return messages

    # --- inside ---

    def _meet(self, head):
        source = symbols_of(part_size(head.total, head.part))
        name = self.only or self.rng.choice(LIES)
        part = Seen(head, source, getattr(self, name))
        self.parts[head.transfer, head.part] = part
        if len(self.parts) > KEPT:
            self.parts.popitem(last=False)
        return part

    def _junk(self, transfer):
        """A symbol of a transfer that is another one now: larger, smaller, of another part."""
        total = self.rng.choice((1, 768, 3_000, 2_000_001, 16_000_000, 2**62))
        number = self.rng.randrange(min(parts_of(total), 6))
        return _message(Head(transfer, number, total), self.rng.randrange(9), bytes(768))

    # --- lies ---

    def wants_more(self, part):
        """All is here, and it is not enough."""
        return [_confirm(part, part.sent, _mask(min(32, part.sent)), part.sent)]

    def counts_then_names(self, part):
        """As many are here as left; then the newest is, and still only as many."""
        if part.counted and part.sent > part.counted:
            counted, part.counted = part.counted, 0
            return [_confirm(part, part.sent, 1, counted)]
        part.counted = part.sent
        return [_confirm(part, part.sent, 0, part.sent)]

    def denies(self, part):
        """All was lost."""
        return [_confirm(part, part.sent, 0, 0)]

    def drips(self, part):
        """All but the newest was lost."""
        return [_confirm(part, part.sent, 1, 1)]

    def almost(self, part):
        """One is missing, for ever."""
        count = min(part.sent, part.source - 1)
        return [_confirm(part, part.sent, 0, count), _confirm(part, part.sent, 1, max(1, count))]

    def completes(self, part):
        """It is here already; or it will have been, when all but nothing has come."""
        return [] if self.rng.random() < 0.5 else [_complete(part)] * 2

    def denies_and_completes(self, part):
        """All was lost, and all is here."""
        return self.denies(part) + ([_complete(part)] if self.rng.random() < 0.2 else [])

    def beyond(self, part):
        """More is here than ever left."""
        more = part.sent + self.rng.choice((1, 32, 5_000))
        return [_confirm(part, more, -1, more), _confirm(part, part.sent, -1, more)]

    def elsewhere(self, part):
        """Another part or transfer is here, and symbols of the node's own answer come."""
        number = part.head.part + self.rng.choice((1, -1, 4, 2**30))
        other = bytes(byte ^ 0xFF for byte in part.head.transfer)
        return [
            _confirm(part, part.sent, 1, part.sent, number=number),
            _complete(part, number=number),
            _confirm(part, part.sent, 1, part.sent, transfer=other),
            self._junk(TransferId(other)),
        ]

    def wild(self, part):
        """Numbers of chance."""
        near = (part.sent, part.sent - 1, part.source, part.sent // 2)
        drawn = [self.rng.choice((*EDGES, *near)) for _ in range(3)]
        return [_confirm(part, *drawn)]

    def mixed(self, part):
        """Each time another lie."""
        return getattr(self, self.rng.choice(LIES[:-1]))(part)


LIES = (
    "wants_more",
    "counts_then_names",
    "denies",
    "drips",
    "almost",
    "completes",
    "denies_and_completes",
    "beyond",
    "elsewhere",
    "wild",
    "mixed",
)


def _mask(bits):
    return -1 if bits == 32 else (1 << bits) - 1


def _confirm(part, highest, mask, count, *, number=None, transfer=None):
    number = part.head.part if number is None else number
    return tl.pack(Rldp2Confirm(transfer or part.head.transfer, number, highest, mask, count))


def _complete(part, *, number=None):
    return tl.pack(Rldp2Complete(part.head.transfer, part.head.part if number is None else number))


def _message(head, seqno, symbol):
    return pack_head(head) + seqno.to_bytes(4, "little") + DATA_HEAD + symbol
