"""The text of the schema: what is declared, and that the ids are those of TON."""

from pathlib import Path
from zlib import crc32

import pytest
from pytoniq_core import TlGenerator

from p2p import schema
from tests.p2p.tlvalues import TEXT

DATA = Path(__file__).parents[1] / "data" / "adnl"


def test_a_field_is_read_with_its_type_and_its_flag():
    line = "x flags:# a:int b:flags.3?vector dht.node = X"
    (read,) = schema.read(f"{crc32(line.encode()):08x} {line}")
    assert read.fields == (
        schema.Field("a", "int"),
        schema.Field("b", "vector dht.node", 3),
    )
    assert (read.name, read.class_name, read.result, read.flags_at) == ("x", "X", "X", 0)


def test_parentheses_and_spaces_do_not_count_in_an_id():
    plain = "dht.nodes nodes:vector dht.node = dht.Nodes"
    spaced = "dht.nodes  nodes:(vector dht.node)  =  dht.Nodes"
    number = f"{crc32(plain.encode()):08x}"
    assert schema.read(f"{number} {spaced}") == schema.read(f"{number} {plain}")


def test_an_id_that_is_not_the_crc_is_refused():
    with pytest.raises(ValueError, match="not the id of"):
        schema.read("997275b4 boolTrue = Bool")


def test_every_id_is_that_of_pytoniq_core():
    theirs = TlGenerator.with_default_schemas().generate().name_map
    ours = {one.name: one.id for one in schema.read(TEXT) if not one.name.startswith("tussah.")}
    assert len(ours) == 98
    assert ours == {name: theirs[name].little_id() for name in ours}


def test_the_schema_is_the_one_the_transcripts_came_with():
    assert (DATA / "schema.tl").read_text() == TEXT
