"""The recorded circuits: they regenerate bit for bit, and hold what other decoders need."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from p2p.onion.cell import FRAME_SIZE, Cell, Command, Frame, Kind
from p2p.onion.handshake import ClientHandshake, Refused, Target
from p2p.onion.noise import MlKem768, public_key

HERE = Path(__file__).parent
FILE = HERE / "vectors" / "onion-1.json"
VECTORS = json.loads(FILE.read_text(encoding="utf-8"))
CASES = pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])

CASE_KEYS = {
    "name": str,
    "issued": int,
    "hops": list,
    "kem_seed": 64,
    "kem_m": 32,
    "request": None,
    "offer": None,
    "session": (0, 32),
    "resume": (0, 32),
    "create": list,
    "created": list,
    "cells": list,
    "fail": (dict, type(None)),
    "bad": list,
}
HOP_KEYS = {
    "role": int,
    "id": 32,
    "onion_private": 32,
    "client_ephemeral": 32,
    "hop_ephemeral": 32,
    "puzzle": 8,
    "status": 16,
}


class Listed:
    """Entropy that hands out what it was given, in order."""

    def __init__(self, *values):
        self.values = [bytes.fromhex(value) for value in values]

    def token(self, n):
        value = self.values.pop(0)
        assert len(value) == n
        return value


def frames_of(case):
    """Every frame of a case but the bad ones."""
    for pair in case["create"] + case["created"]:
        yield from pair
    for cell in case["cells"]:
        yield from cell["frames"]
    if case["fail"]:
        yield from case["fail"]["frames"]


def body(*frames):
    return b"".join(Frame.unpack(bytes.fromhex(frame)).body for frame in frames)


def client(case):
    """The client's side of a case, with the real ML-KEM."""
    hops = case["hops"]
    handshake = ClientHandshake(
        [
            Target(
                id=bytes.fromhex(hop["id"]),
                onion_key=public_key(bytes.fromhex(hop["onion_private"])),
            )
            for hop in hops
        ],
        network=VECTORS["network"],
        kem=MlKem768(),
        entropy=Listed(*[hop["client_ephemeral"] for hop in hops], case["kem_seed"]),
    )
    puzzles = [int.from_bytes(bytes.fromhex(hop["puzzle"]), "little") for hop in hops]
    return handshake, handshake.create(case["issued"], bytes.fromhex(case["request"]), puzzles)


def test_vectors_regenerate_bit_for_bit():
    spec = importlib.util.spec_from_file_location("make_vectors", HERE / "make_vectors.py")
    make_vectors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_vectors)
    assert FILE.read_bytes() == make_vectors.text().encode()


def test_file_is_sorted_lower_case_and_ends_with_one_line_feed():
    text = FILE.read_bytes().decode()
    assert text == json.dumps(VECTORS, sort_keys=True, indent=1) + "\n"
    assert VECTORS["format"] == "tussah-onion-vectors/1"


def fits(value, kind):
    if kind is None or isinstance(kind, int) or kind == (0, 32):
        sizes = kind if isinstance(kind, tuple) else (kind,)
        hexes = re.fullmatch("([0-9a-f]{2})*", value)
        return bool(hexes) and (kind is None or len(value) // 2 in sizes)
    return isinstance(value, kind)


@CASES
def test_layout_of_a_case(case):
    assert case.keys() == CASE_KEYS.keys()
    assert all(fits(case[key], kind) for key, kind in CASE_KEYS.items())
    for hop in case["hops"]:
        assert hop.keys() == HOP_KEYS.keys()
        assert all(fits(hop[key], kind) for key, kind in HOP_KEYS.items())


@CASES
def test_every_frame_is_1200_bytes_and_every_handshake_two_frames(case):
    bad = [frame for entry in case["bad"] for frame in entry["frames"]]
    assert {len(frame) for frame in [*frames_of(case), *bad]} == {2 * FRAME_SIZE}
    assert {len(pair) for pair in case["create"] + case["created"]} == {2}


@CASES
def test_real_kem_reads_what_the_double_wrote(case):
    """The client of the daemon makes the same CREATE and reads the recorded reply."""
    handshake, create = client(case)
    assert body(*case["create"][0]) == create
    result = handshake.read(body(*case["created"][-1]))
    if isinstance(result, Refused):
        assert (case["session"], case["resume"]) == ("", "")
        assert result.reason.hex() == case["offer"]
    else:
        assert (result.session.hex(), result.resume.hex()) == (case["session"], case["resume"])
        assert result.offer.hex() == case["offer"]
    statuses = [hop["status"] for hop in case["hops"]][: len(result.statuses)]
    assert [status.pack().hex() for status in result.statuses] == statuses


@pytest.mark.parametrize("hop", [1, 2])
def test_client_reads_recorded_cells_and_failure(hop):
    (case,) = [c for c in VECTORS["cases"] if c["name"] == f"relay {hop} of 3 fails"]
    accepted = client(case)[0].read(body(*case["created"][-1]))
    for cell in case["cells"]:
        data = Cell.unpack(accepted.layers.open(body(cell["frames"][-1]))).data
        assert data.hex() == cell["data"]
    said = accepted.layers.open_fail(body(case["fail"]["frames"][-1]))
    assert said == (hop, case["fail"]["code"])


def test_cases_hold_what_they_must():
    cases = {case["name"]: case for case in VECTORS["cases"]}
    numbers = {0, 1, 1023, 1024, 1025, 2048}
    for relays, name in enumerate(("1 relay", "2 relays", "3 relays"), 1):
        assert len(cases[name]["hops"]) == relays + 1
        for forward in (True, False):
            sent = [cell for cell in cases[name]["cells"] if cell["forward"] == forward]
            assert {cell["number"] for cell in sent} == numbers
            assert max(len(cell["data"]) for cell in sent) == 2 * 1116
            assert min(len(cell["data"]) for cell in sent) == 0
    failing = {c["fail"]["hop"] for c in cases.values() if c["fail"] and len(c["hops"]) == 4}
    assert failing == {1, 2, 3}
    commands = {
        Command(bytes.fromhex(entry["frames"][0])[4]) for entry in cases["refused frames"]["bad"]
    }
    assert commands == {Command.CREATE, Command.CREATED, Command.CELL, Command.FAIL}
    kinds = {cell["kind"] for case in cases.values() for cell in case["cells"]}
    assert kinds == set(Kind)
