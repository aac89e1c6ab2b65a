"""Datagrams from somebody who knows the protocol and breaks it, at every depth that it has.

Each depth passes the checks of those above it, so that the code beneath is reached: bytes of
chance; datagrams that were good once; good cryptography around junk; good packets around messages
that are none. All of it is drawn from one `random.Random`.
"""

from collections import deque
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import count

from p2p import tl, ton
from p2p.adnl import box, packet
from p2p.adnl.channel import agree
from p2p.adnl.keys import KeyPair, to_curve
from p2p.errors import AdnlError, TlError
from p2p.identity import Identity
from tests.p2p.tlvalues import CLASSES, DECLARED, constructors, is_boxed

KEPT = 64
"""good datagrams and plaintexts that are kept to be broken"""

EDGES = (0, 1, -1, 2, 63, 64, 65, 2**15, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63))

POINTS = (bytes(32), b"\1" + bytes(31), b"\xff" * 32, bytes([0xEC] + [0xFF] * 30 + [0x7F]))
"""keys that are no point, or one of small order"""


class Attacker:
    """Attacks the node of `target`: as one node after another, each of which shakes hands first."""

    def __init__(self, rng, target):
        self.rng = rng
        self.target = target
        self.curve = to_curve(target.public)
        self.datagrams = deque([b""], KEPT)
        self.plain = deque([b""], KEPT)
        self.ids = deque([bytes(32)], KEPT)
        self.now = 0

    def meet(self, now):
        """The greeting of a node that was never seen before."""
        self.now = int(now)
        self.identity = Identity(self.rng.randbytes(32))
        self.key = KeyPair(self.rng.randbytes(32))
        self.secret = self.key.shared(self.curve)
        self.channel = None
        self.numbers = count(1)
        greeting = ton.AdnlMessageCreateChannel(self.key.public, self.now)
        return self._seal(self._signed(self._packet((greeting,))))

    def hear(self, datagram):
        """Something that the node sent: worth breaking, and perhaps the channel it agrees to."""
        self.datagrams.append(datagram)
        with suppress(AdnlError, TlError):
            contents = tl.parse(
                ton.AdnlPacketContents, packet.unseal_direct(self.identity, datagram)
            )
            for message in (contents.message, *(contents.messages or ())):
                if isinstance(message, ton.AdnlMessageConfirmChannel):
                    self.channel = agree(self.key, message.key, self.identity.id, self.target.id)

    # --- as what it is ---

    def datagram(self, now):
        """The next one, at one of the depths."""
        self.now = int(now)
        (depth,) = self.rng.choices(
            (self._noise, self._broken, self._sealed_junk, self._sealed_packet), (2, 3, 2, 3)
        )
        return depth()

    def _noise(self):
        head = self._one_of((b"", self.target.id, self._one_of(self.datagrams)[:32]))
        return head + self.rng.randbytes(self._size())

    def _broken(self):
        return self._break(self._one_of(self.datagrams))

    def _sealed_junk(self):
        if self.rng.random() < 0.3:
            return self._seal(self.rng.randbytes(self._size()))
        return self._seal(self._break(self._one_of(self.plain)))

    def _sealed_packet(self):
        messages = tuple(self._message() for _ in range(self.rng.randrange(4)))
        contents = self._bend(self._packet(messages))
        plain = self._signed(contents) if self.rng.random() < 0.8 else tl.pack(contents)
        return self._seal(plain)

    def _seal(self, plain):
        self.plain.append(plain)
        if self.channel is not None and self.rng.random() < 0.7:
            datagram = self.channel.seal(plain)
        else:
            datagram = self.target.id + self.key.public + box.seal(self.secret, plain)
        self.datagrams.append(datagram)
        return datagram

    def _signed(self, contents):
        signature = self.identity.sign(tl.pack(replace(contents, signature=None)))
        return tl.pack(replace(contents, signature=signature))

    # --- packets ---

    def _packet(self, messages):
        """As an honest node writes it."""
        return ton.AdnlPacketContents(
            self.rng.randbytes(7),
            from_=ton.PubEd25519(self.identity.public),
            messages=messages,
            seqno=next(self.numbers),
            confirm_seqno=0,
            reinit_date=self.now,
            dst_reinit_date=0,
            rand2=self.rng.randbytes(15),
        )

    def _bend(self, contents):
        """Every other packet has a field or two that are missing, or not what they should be."""
        for field in self.rng.sample(DECLARED["adnl.packetContents"].fields, self.rng.randrange(3)):
            name = "from_" if field.name == "from" else field.name
            gone = field.flag is not None and self.rng.random() < 0.3
            contents = replace(contents, **{name: None if gone else self._value(field.type)})
        if contents.reinit_date is None or contents.dst_reinit_date is None:  # of one flag
            contents = replace(contents, reinit_date=None, dst_reinit_date=None)
        return contents

    def _message(self):
        return self._one_of(
            (self._any_message, self._part, self._create, self._query, self._answer, self._reinit)
        )()

    def _any_message(self):
        return self._value("adnl.Message")

    def _part(self):
        """Of a message whose parts all come, sooner or later, or of none."""
        whole = tl.pack(self._any_message())
        size = self._rarely(len(whole), "int") or 0
        offset = self._rarely(0, "int") or 0
        return ton.AdnlMessagePart(sha256(whole).digest(), size & 0xFFFF, offset, whole)

    def _create(self):
        key = self._one_of((*POINTS, KeyPair(self.rng.randbytes(32)).public))
        return ton.AdnlMessageCreateChannel(key, self._rarely(self.now, "int") or 0)

    def _query(self):
        self.ids.append(self.rng.randbytes(32))
        body = self._one_of((b"x", tl.pack(ton.AdnlPing(7)), ton.AdnlPing.tl.id, b""))
        return ton.AdnlMessageQuery(self._one_of(self.ids), body)

    def _answer(self):
        return ton.AdnlMessageAnswer(self._one_of(self.ids), self.rng.randbytes(8))

    def _reinit(self):
        return ton.AdnlMessageReinit(self._date())

    # --- values ---

    def _value(self, kind):
        if kind.startswith("vector "):
            return tuple(self._value(kind[7:]) for _ in range(self.rng.randrange(4)))
        match kind:
            case "int":
                return self._date() if self.rng.random() < 0.3 else _fit(self._one_of(EDGES), 32)
            case "long":
                return _fit(self._one_of(EDGES), 64)
            case "int128":
                return self.rng.randbytes(16)
            case "int256":
                return self._one_of((self.rng.randbytes(32), self.identity.public, *POINTS))
            case "bytes":
                return self.rng.randbytes(self._size())
        name = self._one_of(constructors(kind)) if is_boxed(kind) else kind
        fields = DECLARED[name].fields
        return CLASSES[name](*(self._value(field.type) for field in fields))

    def _date(self):
        return self.now + self._one_of((-1, 0, 1, 59, 61, -3_600))

    def _rarely(self, usual, kind):
        """What is usual; now and then nothing, or any value of its type."""
        chance = self.rng.random()
        if chance < 0.8:
            return usual
        return None if chance < 0.9 else self._value(kind)

    def _size(self):
        return self._one_of((0, 1, 8, 31, 32, 33, 64, 100, 253, 254, 1_024, 1_440, 2_048))

    def _one_of(self, choices):
        return choices[self.rng.randrange(len(choices))]

    # --- breaking ---

    def _break(self, data):
        for _ in range(self.rng.randrange(3)):
            data = self._one_of((self._flip, self._cut, self._grow, self._splice, self._number))(
                data
            )
        return data

    def _flip(self, data):
        changed = bytearray(data)
        for _ in range(self.rng.randrange(1, 9)):
            if changed:
                changed[self.rng.randrange(len(changed))] ^= self.rng.randrange(1, 256)
        return bytes(changed)

    def _cut(self, data):
        return data[: self.rng.randrange(len(data) + 1)]

    def _grow(self, data):
        return data + self.rng.randbytes(self._size())

    def _splice(self, data):
        other = self._one_of(self.datagrams)
        return (
            data[: self.rng.randrange(len(data) + 1)] + other[self.rng.randrange(len(other) + 1) :]
        )

    def _number(self, data):
        """A count, a length or a date that is another one now."""
        at = self.rng.randrange(len(data) // 4 + 1) * 4
        number = _fit(self._one_of(EDGES), 32).to_bytes(4, "little", signed=True)
        return data[:at] + number + data[at + 4 :]


def _fit(number, bits):
    half = 1 << bits - 1
    return (number + half) % (2 * half) - half
