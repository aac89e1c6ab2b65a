"""Write `vectors/onion-1.json`: circuits recorded frame by frame, for decoders written by others.

    python tests/p2p/onion/make_vectors.py

The layout, in UTF-8 with sorted keys, lower-case hex and one LF at the end (hexN = N bytes):

    {"format": "tussah-onion-vectors/1", "network": int, "cases": [{"name", "issued": int,
     "hops": [{"role": 0|1, "id", "onion_private", "client_ephemeral", "hop_ephemeral",
               "puzzle": hex8, "status": hex16}, ...],
     "kem_seed": hex64, "kem_m": hex32, "request", "offer", "session": hex32, "resume": hex32,
     "create": [[frame, frame], ...], "created": [[frame, frame], ...],
     "cells": [{"forward": bool, "number": int, "stream", "kind", "flags", "offset", "data",
                "frames": [frame, ...]}],
     "fail": {"hop": int, "code": int, "frames": [frame, ...]} | null,
     "bad": [{"why": str, "link": int, "frames": [frame, ...]}]}]}

- Hops and links count from 1: hop 1 is the guard, link n leads from hop n - 1 (or the client) to
  hop n. `create` begins at link 1, `created` at the hop that answers, and every list of frames is
  in the order of travel. All ephemerals are private keys; `puzzle` and `status` are as on the wire.
- Nothing random is missing: only what fills a frame behind its `length`, and the filler of a
  relay's refusal, must be taken from the frames themselves.
- In a refused case `create` ends at the hop that refuses, the status of the hops behind it is
  zeros, `session` and `resume` are empty, and `offer` holds an endpoint's reason.
- Cells are numbered per direction; those not listed were sent as dummies.
- A `bad` entry comes after the cells, on the state that they left, and leaves none. Its frames go
  to hop `link` if they are CREATE or CELL, and on link 1 to the client if CREATED or FAIL.
- One circuit number per link; a CREATE among the bad uses it again, as if the circuit were new.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from kyber_py.ml_kem import ML_KEM_768

from p2p.entropy import seeded
from p2p.errors import OnionError
from p2p.onion.cell import (
    BODY_SIZE,
    MAX_DATA,
    Cell,
    Code,
    Command,
    FailCode,
    Frame,
    Info,
    Kind,
    Status,
    create_size,
    handshake_frames,
    reply_size,
)
from p2p.onion.handshake import (
    Accepted,
    ClientHandshake,
    HopRole,
    Target,
    open_create,
    prologue,
    solve_puzzle,
)
from p2p.onion.noise import NK, NKPSK2, CipherState, _Symmetric, public_key

OUTPUT = Path(__file__).parent / "vectors" / "onion-1.json"
NETWORK = -3
ISSUED = 1_790_000_040
NUMBERS = (0, 1, 1023, 1024, 1025, 2048)
"""The first two cells and those around the first changes of keys."""


class KyberKem:
    """ML-KEM-768 whose encapsulation can be repeated: it takes `m` from the entropy."""

    def generate(self, entropy):
        public, private = ML_KEM_768.key_derive(entropy.token(64))
        return private, public

    def encapsulate(self, public, entropy):
        try:
            secret, ciphertext = ML_KEM_768._encaps_internal(public, entropy.token(32))
        except ValueError as error:
            raise OnionError("no ML-KEM-768 encapsulation key") from error
        return ciphertext, secret

    def decapsulate(self, private, ciphertext):
        return ML_KEM_768.decaps(private, ciphertext)


KEM = KyberKem()


class Listed:
    """Entropy that hands out what it was given, in order."""

    def __init__(self, *values):
        self.values = list(values)

    def token(self, n):
        value = self.values.pop(0)
        assert len(value) == n
        return value


class Hop:
    """A node of a path, with every random value that it will use."""

    def __init__(self, entropy, role):
        self.role = role
        self.id = entropy.token(32)
        self.private = entropy.token(32)
        self.client_ephemeral = entropy.token(32)
        self.hop_ephemeral = entropy.token(32)
        self.puzzle = 0
        self.status = bytes(16)
        self.opened = None
        self.keys = None
        self.forward_key = b""

    @property
    def target(self):
        return Target(id=self.id, onion_key=public_key(self.private))

    def open(self, create, *drawn):
        entropy = Listed(*drawn)
        return open_create(
            create, [self.private], me=self.id, network=NETWORK, kem=KEM, entropy=entropy
        )

    def written(self):
        return {
            "role": int(self.role),
            "id": self.id.hex(),
            "onion_private": self.private.hex(),
            "client_ephemeral": self.client_ephemeral.hex(),
            "hop_ephemeral": self.hop_ephemeral.hex(),
            "puzzle": self.puzzle.to_bytes(8, "little").hex(),
            "status": self.status.hex(),
        }


class Recording:
    """One circuit: the secrets of all its sides, and its case as it grows."""

    def __init__(self, name, relays, *, request=b"\x00ask", offer=b"\x00yes", bits=0):
        entropy = seeded(1).fork(name)
        roles = [HopRole.RELAY] * relays + [HopRole.ENDPOINT]
        self.hops = [Hop(entropy, role) for role in roles]
        self.circuits = [1 << 31 | entropy.below(1 << 31) for _ in roles]
        self.kem_seed, self.kem_m = entropy.token(64), entropy.token(32)
        self.entropy = entropy
        self.request, self.offer, self.bits = request, offer, bits
        self.layers = None
        self.sent = {True: 0, False: 0}
        self.case = {
            "name": name,
            "issued": ISSUED,
            "kem_seed": self.kem_seed.hex(),
            "kem_m": self.kem_m.hex(),
            "request": request.hex(),
            "offer": offer.hex(),
            "session": "",
            "resume": "",
            "create": [],
            "created": [],
            "cells": [],
            "fail": None,
            "bad": [],
        }

    # --- frames ---

    def frame(self, link, command, body):
        return Frame(self.circuits[link - 1], command, 0, body).pack(self.entropy).hex()

    def handshake(self, link, command, message):
        frames = handshake_frames(self.circuits[link - 1], command, message)
        return [frame.pack(self.entropy).hex() for frame in frames]

    # --- set-up ---

    def client(self):
        """The client's side anew, with the same keys; its CREATE is always the same."""
        drawn = Listed(*[hop.client_ephemeral for hop in self.hops], self.kem_seed)
        targets = [hop.target for hop in self.hops]
        client = ClientHandshake(targets, network=NETWORK, kem=KEM, entropy=drawn)
        for hop, ephemeral in zip(self.hops, client.ephemerals, strict=True):
            hop.puzzle = solve_puzzle(hop.id, ephemeral, ISSUED, self.bits)
        puzzles = [hop.puzzle for hop in self.hops]
        return client, client.create(ISSUED, self.request, puzzles)

    def build(self, refusing=None, code=Code.OK, detail=0):
        """Record CREATE and CREATED; hop `refusing` says no, or nobody does."""
        client, create = self.client()
        last = refusing or len(self.hops)
        for link, hop in enumerate(self.hops[:last], 1):
            self.case["create"].append(self.handshake(link, Command.CREATE, create))
            hop.opened = hop.open(create, *self._drawn(hop, link == refusing, link))
            create = getattr(hop.opened, "create", b"")

        status = Status(code=code, detail=detail, unix=ISSUED + last)
        reply = self._answer(self.hops[last - 1], status)
        self.case["created"].append(self.handshake(last, Command.CREATED, reply))
        for link in reversed(range(1, last)):
            reply = self._wrap(self.hops[link - 1], ISSUED + link, reply)
            self.case["created"].append(self.handshake(link, Command.CREATED, reply))
        self._finish(client.read(reply))
        return self

    def _drawn(self, hop, refuses, depth):
        if hop.role == HopRole.ENDPOINT:
            return self.kem_m, hop.hop_ephemeral
        filler = [self.entropy.token(reply_size(depth + 1))] if refuses else []
        return *filler, hop.hop_ephemeral

    def _answer(self, hop, status):
        hop.status = status.pack()
        if hop.role == HopRole.RELAY:
            return hop.opened.refuse(status)
        if status.code != Code.OK:
            return hop.opened.refuse(status, self.offer)
        answered = hop.opened.accept(status.unix, self.offer)
        hop.keys, hop.forward_key = answered.hop, hop.opened._responder.split().forward
        return answered.reply

    def _wrap(self, hop, unix, reply):
        hop.status = Status(code=Code.OK, unix=unix).pack()
        wrapped, hop.keys = hop.opened.wrap(unix, reply)
        hop.forward_key = hop.opened._responder.split().forward
        return wrapped

    def _finish(self, result):
        if isinstance(result, Accepted):
            self.layers = result.layers
            self.case["session"] = result.session.hex()
            self.case["resume"] = result.resume.hex()

    # --- cells ---

    def send(self, forward, cell, *, record=True):
        """One cell to the other end; what crosses each link is kept if it is to be recorded."""
        bodies = self._forward(cell) if forward else self._backward(cell.pack(len(self.hops)))
        links = range(1, len(self.hops) + 1)
        if record:
            frames = [
                self.frame(link, Command.CELL, body)
                for link, body in zip(links if forward else reversed(links), bodies, strict=True)
            ]
            self.case["cells"].append(
                {
                    "forward": forward,
                    "number": self.sent[forward],
                    "stream": cell.stream,
                    "kind": int(cell.kind),
                    "flags": cell.flags,
                    "offset": cell.offset,
                    "data": cell.data.hex(),
                    "frames": frames,
                }
            )
        self.sent[forward] += 1

    def _forward(self, cell):
        bodies = [self.layers.seal(cell.pack(len(self.hops)))]
        for hop in self.hops:
            bodies.append(hop.keys.forward(bodies[-1]))
        assert Cell.unpack(bodies.pop()) == cell
        return bodies

    def _backward(self, text):
        bodies = [text]
        for hop in reversed(self.hops):
            bodies.append(hop.keys.backward(bodies[-1]))
        assert self.layers.open(bodies[-1]) == text
        return bodies[1:]

    def converse(self):
        """The cells around the first changes of keys, both ways, of every kind."""
        for number in range(NUMBERS[-1] + 1):
            record = number in NUMBERS
            self.send(True, FORWARD.get(number, DUMMY), record=record)
            self.send(False, BACKWARD.get(number, DUMMY), record=record)
        return self

    def fail(self, failing, code):
        """The last word of relay `failing`."""
        body = self.hops[failing - 1].keys.fail(code)
        frames = [self.frame(failing, Command.FAIL, body)]
        for link in reversed(range(1, failing)):
            body = self.hops[link - 1].keys.backward(body)
            frames.append(self.frame(link, Command.FAIL, body))
        assert self.layers.open_fail(body) == (failing, code)
        self.case["fail"] = {"hop": failing, "code": int(code), "frames": frames}
        return self

    # --- what must be refused ---

    def bad(self, why, link, *frames):
        """Frames that our own side refuses at this place too."""
        try:
            self._judge(link, [Frame.unpack(bytes.fromhex(frame)) for frame in frames])
        except OnionError:
            self.case["bad"].append({"why": why, "link": link, "frames": list(frames)})
        else:
            raise AssertionError(f"{why}, link {link}: accepted")

    def _judge(self, link, frames):
        body = b"".join(frame.body for frame in frames)
        match frames[0].command:
            case Command.CREATE:
                self.hops[link - 1].open(body, self.kem_m)
            case Command.CELL:
                self.hops[link - 1].keys.forward(body)
            case Command.CREATED:
                self.client()[0].read(body)
            case Command.FAIL:
                self.layers.open_fail(body)

    def body_at(self, link, number, text):
        """What crosses a link as the forward cell of any number: the layers from there on."""
        for hop in reversed(self.hops[link - 1 :]):
            state = CipherState(hop.forward_key)
            state._number = number
            text = state.seal(b"", text)
        return text

    def written(self):
        return self.case | {"hops": [hop.written() for hop in self.hops]}


DUMMY = Cell(0, Kind.DUMMY, 0, 0, b"")
_FULL = bytes(i % 251 for i in range(MAX_DATA))
_END = MAX_DATA + 6
FORWARD = {
    1: Cell(1, Kind.DATA, 0, 0, _FULL),
    1023: Cell(1, Kind.DATA, 0, MAX_DATA, b"prompt"),
    1024: Cell(1, Kind.END, 0, _END, b""),
    1025: Cell(0, Kind.PING, 0, 0, b""),
    2048: Cell(1, Kind.DATA, 0, _END, b"tick"),
}
BACKWARD = {
    0: Cell(1, Kind.DATA, 0, 0, b""),
    1: Cell(1, Kind.DATA, 0, 0, _FULL),
    1024: Cell(0, Kind.PONG, 0, 0, b""),
    1025: Cell(1, Kind.DATA, 0, MAX_DATA, b"answer"),
    2048: Cell(1, Kind.END, 0, _END, b"."),
}


# --- the cases ---


def cases():
    """Every case, in order."""
    yield Recording("1 relay", 1).build().converse().fail(1, FailCode.NEXT_LOST)
    yield (
        Recording("2 relays", 2, request=b"", offer=b"")
        .build()
        .converse()
        .fail(2, FailCode.NEXT_DESTROYED)
    )
    words = {"request": bytes(range(256)) * 2, "offer": bytes(range(240)) * 4}
    yield Recording("3 relays", 3, **words).build().converse().fail(3, FailCode.BAD_CELL)

    yield Recording("relay 1 of 3 fails", 3).build().fail(1, FailCode.LIMITS)
    lifetime = Recording("relay 2 of 3 fails", 3).build()
    lifetime.send(False, Cell(1, Kind.RESET, 0, 0, b"\x02"))
    yield lifetime.fail(2, FailCode.LIFETIME)

    yield Recording("hop 2 is busy", 3, offer=b"").build(2, Code.BUSY, 16)
    yield Recording("the endpoint refuses", 2, offer=b"\x00no").build(3, Code.REFUSED)
    yield spoilt()


def spoilt():
    """A good circuit with puzzles solved, then everything that each place must refuse."""
    recording = Recording("refused frames", 3, bits=8).build()
    for text in (b"pro", b"mpt"):
        recording.send(True, Cell(1, Kind.DATA, 0, 0 if text == b"pro" else 3, text))
    recording.send(False, Cell(1, Kind.DATA, 0, 0, b"answer"))
    spoil_cells(recording)
    spoil_creates(recording)
    spoil_replies(recording)
    return recording


def spoil_cells(recording):
    text = Cell(1, Kind.DATA, 0, 6, b"!").pack(len(recording.hops))
    for link in range(1, len(recording.hops) + 1):
        good = recording.body_at(link, 2, text)
        for bit in (0, len(good) * 4 + 3, len(good) * 8 - 1):
            body = flipped(good, bit)
            recording.bad("a flipped bit", link, recording.frame(link, Command.CELL, body))
        replay = recording.case["cells"][1]["frames"][link - 1]
        recording.bad("the last cell again", link, replay)
        early = recording.body_at(link, 3, text)
        recording.bad("a cell too early", link, recording.frame(link, Command.CELL, early))

    good = recording.body_at(2, 2, text)
    for body in (good[:-1], good + bytes(16), b""):
        recording.bad("a cell of a wrong length", 2, recording.frame(2, Command.CELL, body))
    deeper = recording.body_at(3, 2, text)
    recording.bad("a cell of another depth", 2, recording.frame(2, Command.CELL, deeper))
    header = recording.circuits[0].to_bytes(4, "little") + bytes([Command.CELL, 0])
    overlong = (header + (BODY_SIZE + 1).to_bytes(2, "little")).ljust(BODY_SIZE + 8, b"\0")
    recording.bad("a length past the end of the frame", 1, overlong.hex())


def spoil_creates(recording):
    create = recording.client()[1]
    relay, end = recording.hops[2], recording.hops[3]
    public = KEM.generate(Listed(recording.kem_seed))[1]
    onward = Info(next=end.id, issued=ISSUED).pack()
    final = Info(next=None, issued=ISSUED).pack()
    far = int.from_bytes(public[:2], "little") & 0xF000 | 3329  # q itself, 12 bits
    spoilt_key = far.to_bytes(2, "little") + public[2:]

    entries = [
        ("a flipped bit in e", 1, flipped(create, 5)),
        ("a flipped bit in a CREATE", 1, flipped(create, 2384 * 4)),
        ("a CREATE of a wrong length", 1, create[:-1]),
        ("a relay at the endpoint's depth", 3, sealed(recording, relay, onward, 4)),
        ("a low-order point to a relay", 3, sealed(recording, relay, onward, 3, e=bytes(32))),
        ("a low-order point to an endpoint", 4, sealed(recording, end, final + public, 4, e=ONE)),
        ("an ek with a coefficient of q", 4, sealed(recording, end, final + spoilt_key, 4)),
        ("an ek of coefficients over q", 4, sealed(recording, end, final + b"\xff" * 1184, 4)),
    ]
    for why, link, message in entries:
        recording.bad(why, link, *recording.handshake(link, Command.CREATE, message))
    message = sealed(recording, relay, onward, 3)
    assert recording.hops[2].open(message).next == end.id
    message = sealed(recording, end, final + public, 4)
    assert recording.hops[3].open(message, recording.kem_m).request == b""


ONE = b"\x01" + bytes(31)
"""The point with u = 1, of order 4: its agreement with any key is zero, as that of u = 0 is."""


def sealed(recording, hop, text, depth, e=None):
    """A CREATE of any content, sealed right; under the all-zero secret if `e` is of low order."""
    suite = {HopRole.RELAY: NK, HopRole.ENDPOINT: NKPSK2}[hop.role]
    symmetric = _Symmetric(suite, prologue(NETWORK, hop.role, hop.id), hop.target.onion_key)
    private = recording.entropy.token(32)
    ephemeral = public_key(private) if e is None else e
    symmetric.mix_ephemeral(suite, ephemeral)
    symmetric.mix_key(agreed(private, hop.target.onion_key) if e is None else bytes(32))
    return ephemeral + symmetric.seal(text.ljust(create_size(depth) - 48, b"\0"))


def agreed(private, public):
    return X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(public)
    )


def spoil_replies(recording):
    created = [bytes.fromhex(frame)[8:] for frame in recording.case["created"][-1]]
    reply = b"".join(created)
    guard, create = recording.hops[0], recording.client()[1]
    symmetric = _Symmetric(NK, prologue(NETWORK, guard.role, guard.id), guard.target.onion_key)
    symmetric.mix_ephemeral(NK, create[:32])
    symmetric.mix_key(agreed(guard.private, create[:32]))
    symmetric.open(create[32:])
    symmetric.mix_ephemeral(NK, bytes(32))
    symmetric.mix_key(bytes(32))
    low = bytes(32) + symmetric.seal(Status(code=Code.OK, unix=ISSUED).pack() + reply[64:])

    entries = [
        ("a flipped bit in a CREATED", flipped(reply, 2384 * 8 - 1)),
        ("a low-order point from the guard", low),
        ("a CREATED of a wrong length", reply[:-1]),
    ]
    for why, message in entries:
        recording.bad(why, 1, *recording.handshake(1, Command.CREATED, message))
    fail = flipped(recording.hops[0].keys.fail(FailCode.LIMITS), 77)
    recording.bad("a flipped bit in a FAIL", 1, recording.frame(1, Command.FAIL, fail))


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def text():
    """The whole file."""
    written = [recording.written() for recording in cases()]
    vectors = {"format": "tussah-onion-vectors/1", "network": NETWORK, "cases": written}
    return json.dumps(vectors, sort_keys=True, indent=1) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="utf-8")
