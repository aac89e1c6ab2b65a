"""What was recorded between a prototype and an independent implementation of RLDP2."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from nacl.bindings import (
    crypto_scalarmult,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)

from p2p import tl
from p2p.identity import AdnlId
from p2p.rldp.congestion import Mark
from p2p.rldp.core import RldpCore
from p2p.rldp.events import Answered, Payload
from p2p.rldp.fec import Encoder, symbols_of
from p2p.rldp.receiving import OVERHEAD
from p2p.rldp.transfer import Outgoing
from p2p.ton import (
    AdnlMessageCustom,
    AdnlPacketContents,
    Rldp2Complete,
    Rldp2Confirm,
    Rldp2MessagePart,
    RldpQuery,
)

DATA = Path(__file__).parents[2] / "data" / "adnl"
DOWNLOADS = ["rldp2-download-10k", "rldp2-download-300k"]
UPLOAD = "rldp2-upload-100k"


class Recording:
    """The RLDP2 messages of a transcript, both ways, in order."""

    def __init__(self, name):
        self.file = json.loads((DATA / f"{name}.json").read_text())
        self.peer = AdnlId(bytes.fromhex(self.file["peer"]["id"]))
        (self.query,) = [e for e in self.file["events"] if e.get("kind") == "rldp.query"]
        self.messages = [
            (event["dir"], message.data)
            for event in self.file["events"]
            if "dir" in event
            for message in self.custom(event)
        ]

    def custom(self, event):
        packet = tl.parse(AdnlPacketContents, self.plain(event))
        messages = packet.messages or ((packet.message,) if packet.message else ())
        return [message for message in messages if isinstance(message, AdnlMessageCustom)]

    def plain(self, event):
        datagram = base64.b64decode(event["datagram"])
        if event["via"] == "channel":
            secret = bytes.fromhex(self.file["channel"][f"{event['dir']}_secret"])
            digest, hidden = datagram[32:64], datagram[64:]
        else:
            own = "node" if event["dir"] == "in" else "peer"
            _, key = crypto_sign_seed_keypair(bytes.fromhex(self.file[own]["seed"]))
            secret = crypto_scalarmult(
                crypto_sign_ed25519_sk_to_curve25519(key),
                crypto_sign_ed25519_pk_to_curve25519(datagram[32:64]),
            )
            digest, hidden = datagram[64:96], datagram[96:]
        aes = algorithms.AES(secret[:16] + digest[16:])
        cipher = Cipher(aes, modes.CTR(digest[:4] + secret[20:]))
        return cipher.decryptor().update(hidden)

    def all(self, direction, kind):
        found = [tl.parse_any(data) for way, data in self.messages if way == direction]
        return [message for message in found if isinstance(message, kind)]

    def payload(self):
        """The data of the query, of which the file of the upload keeps the formula alone."""
        if self.query["data"] is not None:
            return base64.b64decode(self.query["data"])
        body = bytes(((i * 7919 + i // 251) >> 2) & 255 for i in range(100_000))
        size = b"\xfe" + len(body).to_bytes(3, "little")
        head = bytes.fromhex("65b6a09a") + (7).to_bytes(8, "little")
        return head + size + body + sha256(body).digest()

    def ask(self):
        """A core that asked the recorded query, and when."""
        core = RldpCore(Draws(self.query["query_id"], self.query["transfer_id"]))
        now = float(int(self.file["unix0"]))
        limit = self.query["max_answer_size"] - OVERHEAD
        timeout = self.query["timeout"] - now
        core.query(now, self.peer, self.payload(), timeout=timeout, max_answer=limit)
        return core, now


class Draws:
    """The recorded ids, as if drawn."""

    def __init__(self, *draws):
        self.draws = [bytes.fromhex(draw) for draw in draws]

    def token(self, n):
        assert len(self.draws[0]) == n
        return self.draws.pop(0)


def payloads(outputs):
    return [output.data for output in outputs if isinstance(output, Payload)]


@pytest.mark.parametrize("name", [*DOWNLOADS, UPLOAD])
def test_query_leaves_as_recorded(name):
    recording = Recording(name)
    assert sha256(recording.payload()).hexdigest() == recording.query["data_sha256"]
    core, _ = recording.ask()
    sent = payloads(core.drain())
    recorded = [data for way, data in recording.messages if way == "out"]
    assert sent
    assert sent == recorded[: len(sent)]


@pytest.mark.parametrize("name", DOWNLOADS)
def test_recorded_download_is_answered_confirmed_and_completed(name):
    recording = Recording(name)
    facts = recording.file["rldp"]
    core, now = recording.ask()
    core.drain()
    answers, completes = [], []
    for way, data in recording.messages:
        now += 1e-5
        if way == "in":
            core.receive(now, recording.peer, data)
            outputs = core.drain()
            answers += [output for output in outputs if isinstance(output, Answered)]
            completes += payloads(outputs)
        elif data.startswith(Rldp2Confirm.tl.id):
            (part,) = core._receiving._peers[recording.peer].parts.values()
            assert part.confirm(part.decoder) == data

    (answer,) = answers
    payload = answer.data[8:-32]
    assert answer.data[:4] == bytes.fromhex("4844997d")
    assert sha256(payload).digest() == answer.data[-32:]
    assert sha256(payload).hexdigest() == facts["payload_sha256"]
    assert sha256(answer.data).hexdigest() == facts["answer_sha256"]
    (kept,) = dict.fromkeys(completes)
    assert ("out", kept) in recording.messages
    assert not core.statistics().drops


@pytest.mark.parametrize("name", DOWNLOADS)
def test_symbols_of_the_other_implementation_are_ours(name):
    """Its repair symbols too: of the code of the RFC, and of the one that is TON's own."""
    recording = Recording(name)
    parts = recording.all("in", Rldp2MessagePart)
    count = parts[0].fec_type.symbols_count
    own = {part.seqno: part.data for part in parts if part.seqno < count}
    assert len(own) == count == symbols_of(parts[0].total_size)

    block = b"".join(own[seqno] for seqno in range(count))[: parts[0].total_size]
    encoder = Encoder(block)
    repairs = [part for part in parts if part.seqno >= count]
    assert repairs
    for part in repairs:
        assert encoder.symbol(part.seqno) == part.data


def test_recorded_upload_is_sent_byte_for_byte():
    recording = Recording(UPLOAD)
    query, transfer = (bytes.fromhex(recording.query[k]) for k in ("query_id", "transfer_id"))
    limits = recording.query["max_answer_size"], recording.query["timeout"]
    outgoing = Outgoing(transfer, tl.pack(RldpQuery(query, *limits, recording.payload())))
    part = outgoing.hungry(0.0, 0.1)
    sent = part.send(134, Mark(0.0, 0, 0.0, 0.0))
    assert sent == [data for way, data in recording.messages if way == "out"][:134]

    confirms = recording.all("in", Rldp2Confirm)
    assert len(confirms) > 10
    for confirm in confirms:
        mask = confirm.received_mask & 0xFFFF_FFFF
        outcome = part.flight.confirm(1.0, 9.0, confirm.max_seqno, mask, confirm.received_count)
        assert outcome is not None
    assert part.flight.received == confirms[-1].received_count == 121


def test_recorded_upload_is_answered():
    recording = Recording(UPLOAD)
    core, now = recording.ask()
    core.drain()
    answers = []
    for way, data in recording.messages:
        if way == "in":
            core.receive(now, recording.peer, data)
            answers += [output for output in core.drain() if isinstance(output, Answered)]
    (answer,) = answers
    size = (100_000).to_bytes(8, "little")
    digest = bytes.fromhex(recording.file["rldp"]["payload_sha256"])
    assert answer.data == bytes.fromhex("51419e69") + size + digest + bytes.fromhex("b5757299")
    assert ("out", tl.pack(Rldp2Complete(recording_answer(recording), 0))) in recording.messages
    assert core.sizes()["rldp_outgoing"] == 0


def recording_answer(recording):
    return bytes.fromhex(recording.file["rldp"]["response_transfer_id"])
