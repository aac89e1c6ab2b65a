"""Decode recordings of onion circuits, as a stranger would who has only their specification.

It shares no line with `p2p`: the curve and the AEAD are libsodium's, ML-KEM is kyber-py's, and the
Noise handshake is written out below. It knows every private key of a recording, so it plays each
end in turn: `Circuit` recomputes what every link should have carried, and `Circuit.deliver` gives
recorded frames to whoever received them, who takes them or raises `RefusedError`.
"""

import copy
import hashlib
import hmac
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from kyber_py.ml_kem import ML_KEM_768
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

VECTORS = Path(__file__).parent / "vectors" / "onion-1.json"

FRAME = 1200
BODY = 1192
CREATE, CREATED, CELL, FAIL = 2, 3, 4, 5

RELAY, ENDPOINT = 0, 1
MAX_DEPTH = 4
REQUEST_LIMIT, OFFER_LIMIT = 512, 960
INFO, STATUS, TAG = 96, 16, 16
EK, CT = 1184, 1088

COUNTED = 1128  # bytes of an endpoint's plaintext that mean something: 12 of header, then data
DATA = 1116
KINDS = range(6)
FAIL_MAGIC = hashlib.sha256(b"tussah-fail/1").digest()[:16]
FAIL_CODES = range(1, 6)
REKEY_EVERY = 1024


class RefusedError(Exception):
    """Frames that their receiver must not take; the text says which rule they break."""


# --- The recording ---


class Hop(NamedTuple):
    """One hop of a recorded path, with the private keys of both its ends."""

    role: int
    id: bytes
    onion_private: bytes
    client_ephemeral: bytes
    hop_ephemeral: bytes
    puzzle: bytes
    status: bytes

    @property
    def refuses(self) -> bool:
        """Whether the path ended here."""
        return self.status[0] != 0


class Cell(NamedTuple):
    """One recorded cell: its stream header, its data, and its frames in the order of travel."""

    forward: bool
    number: int
    stream: int
    kind: int
    flags: int
    offset: int
    data: bytes
    frames: list[bytes]


class Failure(NamedTuple):
    """The last word of relay `hop`, and its frames in the order of travel."""

    hop: int
    code: int
    frames: list[bytes]


class Bad(NamedTuple):
    """Frames on `link` that must be refused."""

    why: str
    link: int
    frames: list[bytes]


@dataclass(frozen=True)
class Recording:
    """One case of a vector file."""

    network: int
    name: str
    issued: int
    hops: list[Hop]
    kem_seed: bytes
    kem_m: bytes
    request: bytes
    offer: bytes
    session: bytes
    resume: bytes
    create: list[list[bytes]]
    created: list[list[bytes]]
    cells: list[Cell]
    fail: Failure | None
    bad: list[Bad]


def load(path: Path = VECTORS) -> list[Recording]:
    """Read every case of a vector file."""
    file = json.loads(path.read_text(encoding="utf-8"))
    if file["format"] != "tussah-onion-vectors/1":
        raise ValueError(f"not a file of onion vectors: {file['format']}")
    return [_recording(file["network"], case) for case in file["cases"]]


TEXT = {"name", "why"}


def _recording(network: int, case: dict[str, Any]) -> Recording:
    fields = {name: _unhex(name, value) for name, value in case.items()}
    fields["hops"] = [Hop(**hop) for hop in fields["hops"]]
    fields["cells"] = [Cell(**cell) for cell in fields["cells"]]
    fields["bad"] = [Bad(**bad) for bad in fields["bad"]]
    if fields["fail"] is not None:
        fields["fail"] = Failure(**fields["fail"])
    return Recording(network=network, **fields)


def _unhex(name: str, value: Any) -> Any:
    match value:
        case str():
            return value if name in TEXT else bytes.fromhex(value)
        case list():
            return [_unhex(name, item) for item in value]
        case dict():
            return {inner: _unhex(inner, item) for inner, item in value.items()}
    return value


# --- Primitives (section 3) ---


def hmac256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256, key first."""
    return hmac.digest(key, data, "sha256")


def hkdf(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Noise's HKDF; who wants two outputs ignores the third."""
    secret = hmac256(key, data)
    first = hmac256(secret, b"\x01")
    second = hmac256(secret, first + b"\x02")
    return first, second, hmac256(secret, second + b"\x03")


def seal(key: bytes, number: int, ad: bytes, text: bytes) -> bytes:
    """ChaCha20-Poly1305 under the nonce of `number`."""
    return crypto_aead_chacha20poly1305_ietf_encrypt(text, ad, _nonce(number), key)


def open_(key: bytes, number: int, ad: bytes, sealed: bytes) -> bytes:
    """The text of `sealed`. Raises `RefusedError` if it was not sealed just so."""
    try:
        return crypto_aead_chacha20poly1305_ietf_decrypt(sealed, ad, _nonce(number), key)
    except CryptoError:
        raise RefusedError("does not open") from None


def _nonce(number: int) -> bytes:
    return bytes(4) + number.to_bytes(8, "little")


@lru_cache(maxsize=256)
def rekeyed(key: bytes, times: int) -> bytes:
    """A split key after this many REKEYs."""
    if times == 0:
        return key
    return seal(rekeyed(key, times - 1), 2**64 - 1, b"", bytes(32))[:32]


def dh(private: bytes, public: bytes) -> bytes:
    """X25519. Raises `RefusedError` where the secret would be all zero."""
    try:
        return crypto_scalarmult(private, public)
    except (CryptoError, RuntimeError):  # libsodium refuses exactly those
        raise RefusedError("low-order point") from None


def encapsulate(ek: bytes, m: bytes) -> tuple[bytes, bytes]:
    """The secret and the ciphertext for `ek`. `RefusedError` for coefficients out of range."""
    try:
        return ML_KEM_768._encaps_internal(ek, m)
    except ValueError:
        raise RefusedError("not an ML-KEM key") from None


def endpoint_psk(secret: bytes, ek: bytes, ct: bytes) -> bytes:
    """The psk of an endpoint: the ML-KEM secret, bound to the key and the ciphertext."""
    transcript = hashlib.sha256(ek + ct).digest()
    return hmac256(hmac256(b"tussah-kem/1", secret), transcript + b"\x01")


class Handshake:
    """Noise NK with a relay, NKpsk2 with an endpoint; the state is the same at both ends."""

    def __init__(self, network: int, hop: Hop) -> None:
        self.psk_suite = hop.role == ENDPOINT
        suite = "NKpsk2" if self.psk_suite else "NK"
        name = f"Noise_{suite}_25519_ChaChaPoly_SHA256".encode()
        self.h = name if len(name) == 32 else hashlib.sha256(name).digest()
        self.ck = self.h
        self.k, self.n = b"", 0

        role = hop.role.to_bytes(1, "little")
        self.mix_hash(
            b"tussah-onion/1" + network.to_bytes(4, "little", signed=True) + role + hop.id
        )
        self.mix_hash(crypto_scalarmult_base(hop.onion_private))

    def first(self, ephemeral: bytes, shared: bytes) -> None:
        """Mix the tokens of message 1; its payload follows."""
        self._mix_ephemeral(ephemeral)
        self.mix_key(shared)

    def second(self, ephemeral: bytes, shared: bytes, psk: bytes = b"") -> None:
        """Mix the tokens of message 2; its payload follows."""
        self._mix_ephemeral(ephemeral)
        self.mix_key(shared)
        if self.psk_suite:
            self.mix_key_and_hash(psk)

    def seal(self, text: bytes) -> bytes:
        """Seal a payload."""
        sealed = seal(self.k, self.n, self.h, text)
        self._pass(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """Open a payload."""
        text = open_(self.k, self.n, self.h, sealed)
        self._pass(sealed)
        return text

    def split(self) -> tuple[bytes, bytes, bytes]:
        """The keys forward and backward, and the exporter."""
        return hkdf(self.ck, b"")

    def mix_hash(self, data: bytes) -> None:
        """Noise's MixHash."""
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, data: bytes) -> None:
        """Noise's MixKey."""
        self.ck, self.k, _ = hkdf(self.ck, data)
        self.n = 0

    def mix_key_and_hash(self, data: bytes) -> None:
        """Noise's MixKeyAndHash."""
        self.ck, mixed, self.k = hkdf(self.ck, data)
        self.mix_hash(mixed)
        self.n = 0

    def _mix_ephemeral(self, ephemeral: bytes) -> None:
        self.mix_hash(ephemeral)
        if self.psk_suite:
            self.mix_key(ephemeral)

    def _pass(self, sealed: bytes) -> None:
        self.mix_hash(sealed)
        self.n += 1


# --- Frames (section 4) ---


class Frame(NamedTuple):
    """A frame without the random bytes behind its body."""

    circuit: int
    command: int
    flags: int
    body: bytes

    def pack(self) -> bytes:
        """Its bytes on the wire, as far as they are not random."""
        head = self.circuit.to_bytes(4, "little") + bytes([self.command, self.flags])
        return head + len(self.body).to_bytes(2, "little") + self.body


def unpack(data: bytes) -> Frame:
    """The frame in 1200 bytes."""
    length = int.from_bytes(data[6:8], "little")
    if len(data) != FRAME:
        raise RefusedError("not the size of a frame")
    if length > BODY:
        raise RefusedError("longer than a frame")
    return Frame(int.from_bytes(data[:4], "little"), data[4], data[5], data[8 : 8 + length])


def in_two(circuit: int, command: int, message: bytes) -> list[Frame]:
    """A CREATE or a CREATED as its two frames."""
    return [
        Frame(circuit, command, 1, message[:BODY]),
        Frame(circuit, command, 0, message[BODY:]),
    ]


def joined(frames: list[Frame]) -> bytes:
    """The message in the two frames of a CREATE or a CREATED."""
    if [frame.flags for frame in frames] != [1, 0] or len(frames[0].body) != BODY:
        raise RefusedError("not in two frames")
    return frames[0].body + frames[1].body


def create_length(depth: int) -> int:
    """The size of a CREATE at a depth."""
    return 2384 - 144 * (depth - 1)


def created_length(depth: int) -> int:
    """The size of a CREATED at a depth."""
    return 2384 - 64 * (depth - 1)


def cell_length(depth: int) -> int:
    """The size of a cell's body on the link that leads to a depth."""
    return BODY - TAG * (depth - 1)


DEPTHS = {create_length(depth): depth for depth in range(1, MAX_DEPTH + 1)}


# --- Fields (sections 5 and 6) ---


def counted(text: bytes, room: int) -> bytes:
    """`text` behind its length, in a field of `room` bytes."""
    return len(text).to_bytes(2, "little") + text + bytes(room - 2 - len(text))


def uncounted(field: bytes, limit: int) -> bytes:
    """The text in a field that `counted` filled."""
    length = int.from_bytes(field[:2], "little")
    if length > limit or any(field[2 + length :]):
        raise RefusedError("a field is not as it should be")
    return field[2 : 2 + length]


def info(recording: Recording, index: int) -> bytes:
    """What the hop at `index` is told beside the CREATE to pass on."""
    hop = recording.hops[index]
    end = hop.role == ENDPOINT
    following = bytes(32) if end else recording.hops[index + 1].id
    numbers = recording.issued.to_bytes(4, "little") + bytes([end, 1, 0, 0])
    return following + numbers + hop.puzzle + bytes(32) + bytes(16)


def check_info(data: bytes, role: int) -> None:
    """Refuse the info of another version or for another role."""
    following, flags, version = data[:32], data[36], data[37]
    if flags != role or version != 1 or any(data[38:40]) or any(data[48:]):
        raise RefusedError("info is not as it should be")
    if any(following) == (role == ENDPOINT):
        raise RefusedError("info names the wrong next hop")


def check_status(data: bytes) -> None:
    """Refuse a status with an unknown code or with a set bit where none has a meaning."""
    if data[0] not in range(9) or any(data[2:4]) or any(data[8:]):
        raise RefusedError("status is not as it should be")


def cell_plaintext(cell: Cell) -> bytes:
    """The bytes of an endpoint's plaintext that count."""
    head = cell.stream.to_bytes(2, "little") + bytes([cell.kind, cell.flags])
    lengths = cell.offset.to_bytes(4, "little") + len(cell.data).to_bytes(2, "little") + bytes(2)
    return head + lengths + cell.data + bytes(DATA - len(cell.data))


def check_plaintext(text: bytes) -> None:
    """Refuse what no end may send in a cell."""
    length = int.from_bytes(text[8:10], "little")
    if text[2] not in KINDS or length > DATA or any(text[10:12]):
        raise RefusedError("a cell's header is not as it should be")
    if any(text[12 + length : COUNTED]):
        raise RefusedError("unused data is not zero")


# --- A circuit, from all its ends at once ---


class Circuit:
    """A recorded circuit, computed again from its keys.

    Links and hops count from 1: link n leads from hop n - 1, or from the client, to hop n.
    `creates` holds the whole message of every link, also of those that a refusal left unused;
    `replies` those that were sent, in the order of travel.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.hops = recording.hops
        self.ek, self.dk = ML_KEM_768.key_derive(recording.kem_seed)
        self.asked: list[Handshake] = []
        self.answered: list[Handshake] = []
        self.creates = self._creates()
        self.replies = self._replies()

        self.opened = len(self.answered) == len(self.hops) and not self.hops[-1].refuses
        keys = [handshake.split() for handshake in self.answered]
        self.forward_keys = [forward for forward, _, _ in keys]
        self.backward_keys = [backward for _, backward, _ in keys]
        exporter = keys[-1][2]
        self.session = hmac256(exporter, b"tussah-session/1") if self.opened else b""
        self.resume = hmac256(exporter, b"tussah-resume/1") if self.opened else b""

    # What the links carry

    def numbers(self) -> list[int]:
        """The circuit's number on every link: the one thing that only the frames tell."""
        return [unpack(frames[0]).circuit for frames in self.recording.create]

    def create_frames(self) -> list[list[Frame]]:
        """The CREATE of every link in use."""
        pairs = zip(self.numbers(), self.creates, strict=False)
        return [in_two(number, CREATE, message) for number, message in pairs]

    def created_frames(self) -> list[list[Frame]]:
        """The CREATED of every link in use, in the order of travel."""
        pairs = zip(reversed(self.numbers()), self.replies, strict=True)
        return [in_two(number, CREATED, message) for number, message in pairs]

    def cell_frames(self, cell: Cell) -> list[Frame]:
        """A cell on every link, in the order of travel."""
        inner = cell.frames[-1] if cell.forward else cell.frames[0]
        keys = self.forward_keys if cell.forward else self.backward_keys
        text = cell_plaintext(cell)
        text += self._behind(keys[-1], cell.number, unpack(inner).body)
        bodies = self._wrapped(text, keys, cell.number)
        travel = list(zip(reversed(self.numbers()), bodies, strict=True))
        if cell.forward:
            travel.reverse()
        return [Frame(number, CELL, 0, body) for number, body in travel]

    def fail_frames(self, failure: Failure) -> list[Frame]:
        """A FAIL on every link that it crossed, in the order of travel."""
        text = FAIL_MAGIC + bytes([failure.code])
        text += bytes(cell_length(failure.hop + 1) - len(text))
        keys = self.backward_keys[: failure.hop]
        bodies = self._wrapped(text, keys, self.next_number(forward=False))
        numbers = reversed(self.numbers()[: failure.hop])
        return [Frame(n, FAIL, 0, body) for n, body in zip(numbers, bodies, strict=True)]

    def next_number(self, *, forward: bool) -> int:
        """The number of the next cell in a direction, after all that are listed."""
        sent = (cell.number for cell in self.recording.cells if cell.forward == forward)
        return max(sent, default=-1) + 1

    # What the ends make of it

    def deliver(self, link: int, frames: list[bytes]) -> bytes:
        """Give frames to who must judge them: a hop, or on the way back the client.

        Returns what they tell the receiver, or what it passes on, and changes nothing: each call
        meets the circuit as the listed cells left it. Raises `RefusedError`.
        """
        unpacked = [unpack(frame) for frame in frames]
        if any(frame.circuit != self.numbers()[link - 1] for frame in unpacked):
            raise RefusedError("another circuit")
        commands = [frame.command for frame in unpacked]
        if commands == [CREATE, CREATE]:
            return self._hop_takes_create(self.hops[link - 1], joined(unpacked))
        if commands == [CREATED, CREATED]:
            return self._client_takes_created(joined(unpacked))
        if commands == [CELL]:
            return self.hop_takes_cell(link, self.next_number(forward=True), unpacked[0])
        if commands == [FAIL]:
            return bytes(self.client_takes_fail(unpacked[0]))
        raise RefusedError("no such command")

    def hop_takes_cell(self, link: int, number: int, frame: Frame) -> bytes:
        """A forward cell at hop `link`: what it passes on, or the endpoint's plaintext."""
        if frame.flags or len(frame.body) != cell_length(link):
            raise RefusedError("not the length of a cell here")
        text = _open_cell(self.forward_keys[link - 1], number, frame.body)
        if link == len(self.hops):
            check_plaintext(text)
        return text

    def client_takes_cell(self, number: int, frame: Frame) -> bytes:
        """A backward cell at the client: the endpoint's plaintext."""
        if frame.flags or len(frame.body) != cell_length(1):
            raise RefusedError("not the length of a cell here")
        text = frame.body
        for key in self.backward_keys:
            text = _open_cell(key, number, text)
        check_plaintext(text)
        return text

    def client_takes_fail(self, frame: Frame) -> tuple[int, int]:
        """A FAIL at the client: the hop that sent it, and its code."""
        if frame.flags or len(frame.body) != cell_length(1):
            raise RefusedError("not the length of a cell here")
        number, text = self.next_number(forward=False), frame.body
        for hop, key in enumerate(self.backward_keys, 1):
            text = _open_cell(key, number, text)
            if text.startswith(FAIL_MAGIC):
                if text[16] not in FAIL_CODES or any(text[17:]):
                    raise RefusedError("a FAIL is not as it should be")
                return hop, text[16]
        raise RefusedError("no FAIL in any layer")

    def _hop_takes_create(self, hop: Hop, message: bytes) -> bytes:
        depth = DEPTHS.get(len(message))
        if depth is None:
            raise RefusedError("not the length of a CREATE")
        if hop.role == RELAY and depth == MAX_DEPTH:
            raise RefusedError("a relay where only an endpoint can be")

        handshake = Handshake(self.recording.network, hop)
        handshake.first(message[:32], dh(hop.onion_private, message[:32]))
        payload = handshake.open(message[32:])
        check_info(payload[:INFO], hop.role)
        if hop.role == RELAY:
            return payload[INFO:]

        encapsulate(payload[INFO : INFO + EK], self.recording.kem_m)
        return uncounted(payload[INFO + EK :], REQUEST_LIMIT)

    def _client_takes_created(self, message: bytes) -> bytes:
        """Peel the replies until the offer, or until a relay that refuses."""
        for depth, hop in enumerate(self.hops, 1):
            if len(message) != created_length(depth):
                raise RefusedError("not the length of a CREATED")
            handshake = copy.copy(self.asked[depth - 1])
            psk = b""
            if hop.role == ENDPOINT:
                ct, message = message[:CT], message[CT:]
                psk = endpoint_psk(ML_KEM_768.decaps(self.dk, ct), self.ek, ct)
            handshake.second(message[:32], dh(hop.client_ephemeral, message[:32]), psk)
            payload = handshake.open(message[32:])
            check_status(payload[:STATUS])
            if hop.role == ENDPOINT:
                return payload[:STATUS] + uncounted(payload[STATUS:], OFFER_LIMIT)
            if payload[0]:
                return payload[:STATUS]
            message = payload[STATUS:]
        raise RefusedError("a path without an endpoint")

    # How the messages are made

    def _creates(self) -> list[bytes]:
        """Every CREATE, made from the endpoint's outwards, which leaves the handshakes `asked`."""
        creates: list[bytes] = []
        for depth in range(len(self.hops), 0, -1):
            hop = self.hops[depth - 1]
            told = info(self.recording, depth - 1)
            if hop.role == ENDPOINT:
                room = create_length(depth) - 32 - TAG - INFO - EK
                inner = self.ek + counted(self.recording.request, room)
            else:
                inner = creates[0]
            handshake = Handshake(self.recording.network, hop)
            shared = dh(hop.client_ephemeral, crypto_scalarmult_base(hop.onion_private))
            ephemeral = crypto_scalarmult_base(hop.client_ephemeral)
            handshake.first(ephemeral, shared)
            creates.insert(0, ephemeral + handshake.seal(told + inner))
            self.asked.insert(0, handshake)
        return creates

    def _replies(self) -> list[bytes]:
        """Every CREATED, made from the hop that answers, which leaves those `answered`."""
        refusing = (depth for depth, hop in enumerate(self.hops, 1) if hop.refuses)
        last = next(refusing, len(self.hops))
        replies: list[bytes] = []
        for depth in range(last, 0, -1):
            hop, handshake = self.hops[depth - 1], copy.copy(self.asked[depth - 1])
            ct, psk = self._encapsulated(hop)
            shared = dh(hop.hop_ephemeral, crypto_scalarmult_base(hop.client_ephemeral))
            ephemeral = crypto_scalarmult_base(hop.hop_ephemeral)
            handshake.second(ephemeral, shared, psk)
            if hop.role == ENDPOINT:
                room = created_length(depth) - CT - 32 - TAG - STATUS
                inner = counted(self.recording.offer, room)
            elif depth == last:
                inner = self._filler(handshake)
            else:
                inner = replies[-1]
            replies.append(ct + ephemeral + handshake.seal(hop.status + inner))
            self.answered.insert(0, handshake)
        return replies

    def _encapsulated(self, hop: Hop) -> tuple[bytes, bytes]:
        """What an endpoint puts before its message 2, and the psk in it; a relay has neither."""
        if hop.role == RELAY:
            return b"", b""
        secret, ct = encapsulate(self.ek, self.recording.kem_m)
        return ct, endpoint_psk(secret, self.ek, ct)

    def _filler(self, handshake: Handshake) -> bytes:
        """What a relay that refuses sent in the place of a reply: random, so it is read."""
        sealed = joined([unpack(frame) for frame in self.recording.created[0]])[32:]
        return copy.copy(handshake).open(sealed)[STATUS:]

    def _behind(self, key: bytes, number: int, body: bytes) -> bytes:
        """The end of an endpoint's plaintext, which does not count: free, so it is read."""
        return _open_cell(key, number, body)[COUNTED:]

    def _wrapped(self, text: bytes, keys: list[bytes], number: int) -> list[bytes]:
        """`text` under one more layer at a time, from the last key's to the first's."""
        bodies = []
        for key in reversed(keys):
            text = seal(rekeyed(key, number // REKEY_EVERY), number, b"", text)
            bodies.append(text)
        return bodies


def _open_cell(key: bytes, number: int, body: bytes) -> bytes:
    return open_(rekeyed(key, number // REKEY_EVERY), number, b"", body)
