"""The header parser against PyPI's reader, and against files that lie."""

import mmap
import random
import struct
import tracemalloc
from contextlib import suppress
from hashlib import sha256

import gguf as judge
import numpy as np
import pytest

from inference import fit, gguf
from inference.catalogue import builtin_path
from inference.fit import Need, Wish
from inference.machine import Machine
from p2p.errors import BadModel


def parsed(path):
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            return gguf.parse(view)
        finally:
            view.release()


def compare(path):
    """Everything that both readers tell."""
    ours, theirs = parsed(path), judge.GGUFReader(path)
    assert ours.data == theirs.data_offset
    assert ours.alignment == theirs.alignment
    assert [tensor.name for tensor in ours.tensors] == [one.name for one in theirs.tensors]
    for tensor, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert tensor.shape == tuple(int(size) for size in other.shape)
        assert (tensor.kind, tensor.size) == (other.tensor_type, other.n_bytes)
        assert ours.data + tensor.offset == other.data_offset
    keys = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.keys) == list(keys)
    for name, field in keys.items():
        compare_value(ours.keys[name], field)


def compare_value(value, field):
    match value:
        case gguf.Array():
            assert field.types[0] == judge.GGUFValueType.ARRAY
            assert value.kind == field.types[1]
            assert value.count == len(field.data)
        case tuple():
            assert list(value) == field.contents()
        case _:
            assert value == field.contents()
            assert isinstance(value, bool) == (field.types[0] == judge.GGUFValueType.BOOL)


def write(path, fill, *, architecture="llama"):
    writer = judge.GGUFWriter(path, architecture)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def scalars(writer):
    for bits in (8, 16, 32, 64):
        getattr(writer, f"add_uint{bits}")(f"test.u{bits}", 2**bits - 1)
        getattr(writer, f"add_int{bits}")(f"test.i{bits}", -(2 ** (bits - 1)))
    writer.add_float32("test.f32", 1.5)
    writer.add_float64("test.f64", -0.1)
    writer.add_bool("test.yes", True)
    writer.add_bool("test.no", False)
    writer.add_string("test.text", "\u7d72 \U0001f9f5\n")
    writer.add_string("test.empty", "")


def arrays(writer):
    writer.add_array("tokenizer.ggml.tokens", ["a", "\u00e9", ""])
    writer.add_array("llama.attention.head_count_kv", [3, 1, 0])
    writer.add_array("tokenizer.ggml.eot_token_ids", [7, 9])
    writer.add_array("test.scores", [0.5, -1.0])
    writer.add_array("test.flags", [True, False])


def tensors(writer):
    writer.add_tensor("a.f32", np.ones((3, 5), np.float32))
    writer.add_tensor("b.f16", np.ones((2, 2, 2), np.float16))
    writer.add_tensor("c.i8", np.ones(7, np.int8))


def quantized(writer):
    for kind in (judge.GGMLQuantizationType.Q4_0, judge.GGMLQuantizationType.Q8_0):
        data = judge.quants.quantize(np.ones((4, 64), np.float32), kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)


def aligned(writer):
    writer.add_custom_alignment(4096)
    tensors(writer)


def typical(writer):
    scalars(writer)
    arrays(writer)
    quantized(writer)
    writer.add_chat_template("{{ messages }}")


FILES = [scalars, arrays, tensors, quantized, aligned, typical]


def test_the_built_in_file_reads_as_with_the_reference():
    compare(builtin_path())


@pytest.mark.parametrize("fill", FILES, ids=lambda fill: fill.__name__)
def test_a_written_file_reads_as_with_the_reference(fill, tmp_path):
    compare(write(tmp_path / "model.gguf", fill))


def test_the_tables_are_those_of_the_reference():
    kinds = {int(kind): sizes for kind, sizes in judge.GGML_QUANT_SIZES.items()}
    assert kinds == gguf.BLOCKS
    names = {int(kind): kind.name.lower() for kind in judge.GGML_QUANT_SIZES}
    assert names == gguf.TENSOR_TYPES
    labels = {
        int(kind): kind.name.removeprefix("ALL_").removeprefix("MOSTLY_").lower()
        for kind in judge.LlamaFileType
        if kind.name != "GUESSED"
    }
    assert labels == gguf.FILE_TYPES


def test_the_built_in_model_is_described():
    model = gguf.describe(parsed(builtin_path()))
    assert (model.architecture, model.base, model.quant) == ("llama", "smollm2-135m", "q4_1")
    assert (model.parameters, model.weights) == (134_515_008, 96_576_768)
    assert round(model.bits_per_weight, 2) == 5.74
    assert (model.kv_bytes(), model.kv_bytes("q8_0")) == (23_040, 12_240)
    assert (model.context_train, model.layers, model.vocabulary) == (8_192, 30, 49_152)
    assert [model.tools, model.reasoning, model.embedding] == [False] * 3


def test_heads_may_differ_per_layer(tmp_path):
    def fill(writer):
        writer.add_block_count(3)
        writer.add_embedding_length(64)
        writer.add_head_count(8)
        writer.add_key_length(16)
        arrays(writer)
        tensors(writer)

    model = gguf.describe(parsed(write(tmp_path / "model.gguf", fill)))
    assert model.kv_elements == (3 + 1 + 0) * (16 + 8)


def test_a_file_without_tensors_is_no_model(tmp_path):
    header = parsed(write(tmp_path / "model.gguf", scalars))
    with pytest.raises(BadModel, match="no model"):
        gguf.describe(header)


# --- files that lie ---


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def tensor(name="t", shape=(8,), kind=0, offset=0):
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def file(*, magic=b"GGUF", version=3, keys=(), tensors=(), counts=None, data=bytes(32)):
    counted = counts or (len(tensors), len(keys))
    head = magic + struct.pack("<IQQ", version, *counted) + b"".join([*keys, *tensors])
    return head + bytes(-len(head) % 32) + data


U32 = struct.Struct("<I").pack
ARRAY = struct.Struct("<IQ").pack

LIES = {
    "no GGUF": file(magic=b"GGML"),
    "version 4": file(version=4),
    "big-endian": file(version=0x03000000),
    "tensors and 0 keys": file(counts=(65_537, 0)),
    "0 tensors and 4097 keys": file(counts=(0, 4_097)),
    "key a twice": file(keys=[key("a", 4, U32(1))] * 2),
    "a tensor twice": file(tensors=[tensor()] * 2),
    "value of type 99": file(keys=[key("a", 99, U32(1))]),
    "array a of 1, type 9": file(keys=[key("a", 9, ARRAY(9, 1))]),
    "array a of type 99": file(keys=[key("a", 9, ARRAY(99, 1))]),
    "array a of 16777217": file(keys=[key("a", 9, ARRAY(0, 2**24 + 1))]),
    "ends inside a string": file(keys=[key("a", 9, ARRAY(8, 2**24))]),
    "ends inside something": file(keys=[key("a", 9, ARRAY(10, 2**24))]),
    "no UTF-8": file(keys=[key(b"\xff", 4, U32(1))]),
    "a string of 65536": file(keys=[key("a" * 65_536, 4, U32(1))]),
    "a string of 1048577": file(keys=[key("a", 8, text("b" * (2**20 + 1)))]),
    "a string of 262145": file(keys=[key(gguf.TEMPLATE_KEY, 8, text("b" * (2**18 + 1)))]),
    "a string of 65 ": file(tensors=[tensor("t" * 65)]),
    "has 5 dimensions": file(tensors=[tensor(shape=(1,) * 5)]),
    "too many elements": file(tensors=[tensor(shape=(2**60, 2**60))]),
    "half a block": file(tensors=[tensor(kind=2, shape=(31,))]),
    "outside the file": file(tensors=[tensor(shape=(9,))]),
    "unaligned": file(tensors=[tensor(shape=(1,), offset=4)]),
    "alignment 48": file(keys=[key("general.alignment", 4, U32(48))]),
    "alignment 0": file(keys=[key("general.alignment", 4, U32(0))]),
    "alignment 131072": file(keys=[key("general.alignment", 4, U32(131_072))]),
    "alignment 'a'": file(keys=[key("general.alignment", 8, text("a"))]),
    "alignment True": file(keys=[key("general.alignment", 7, b"\x01")]),
}


@pytest.mark.parametrize("reason", LIES)
def test_a_lie_is_refused_by_name(reason):
    with pytest.raises(BadModel, match=reason):
        gguf.parse(memoryview(LIES[reason]))


def test_a_refusal_allocates_little():
    tracemalloc.start()
    for reason in LIES:
        with suppress(BadModel):
            gguf.parse(memoryview(LIES[reason]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_an_unknown_type_is_as_long_as_the_gap_to_the_next():
    listed = [tensor("a", kind=77), tensor("b", kind=0, offset=64), tensor("c", kind=77, offset=96)]
    header = gguf.parse(memoryview(file(tensors=listed, data=bytes(200))))
    assert [one.size for one in header.tensors] == [64, 32, 104]


@pytest.fixture(scope="module")
def typical_bytes(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "model.gguf", typical).read_bytes()


def test_every_truncation_is_refused(typical_bytes):
    ends = (
        max(one.offset + one.size for one in gguf.parse(memoryview(typical_bytes)).tensors)
        + gguf.parse(memoryview(typical_bytes)).data
    )
    for size in range(ends):
        with pytest.raises(BadModel):
            gguf.parse(memoryview(typical_bytes)[:size])


def test_ten_thousand_mutations_give_a_header_or_a_refusal(typical_bytes):
    draw = random.Random(1)
    for _ in range(10_000):
        changed = bytearray(typical_bytes)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(changed) - 8)
            piece = draw.choice([draw.randbytes(draw.randint(1, 8)), b"\xff" * 8, bytes(8)])
            changed[place : place + len(piece)] = piece
        with suppress(BadModel):
            header = gguf.parse(memoryview(changed))
            assert all(
                header.data + one.offset + one.size <= len(changed) for one in header.tensors
            )
            model = gguf.describe(header)
            assert model.bits_per_weight >= 0
            fit.plan(Machine(cores=1, ram_available=2**33), Need.of(model), Wish())


# --- names ---


def test_identity_is_of_file_and_template():
    one = gguf.identity(sha256(b"file").digest(), sha256(b"template").digest())
    assert len(one) == 32
    assert one != gguf.identity(sha256(b"file").digest(), sha256(b"other").digest())


DIGEST = "b179c9523d0e"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("auto", gguf.ModelName()),
        ("smollm2-135m", gguf.ModelName(base="smollm2-135m")),
        ("SmolLM2-135M-Q4_1", gguf.ModelName(base="smollm2-135m", quant="q4_1")),
        ("smollm2-135m-q4-k-m", gguf.ModelName(base="smollm2-135m", quant="q4_k_m")),
        ("smollm2@q4_1", gguf.ModelName(base="smollm2", quant="q4_1")),
        (f"smollm2:{DIGEST}", gguf.ModelName(base="smollm2", digest=DIGEST)),
        (f"a@q8_0:{DIGEST}", gguf.ModelName(base="a", quant="q8_0", digest=DIGEST)),
        (f"a@sha256:{DIGEST}", gguf.ModelName(base="a", digest=DIGEST)),
    ],
)
def test_a_name_is_understood(asked, meant):
    assert gguf.ModelName.parse(asked) == meant
    assert gguf.ModelName.parse(str(meant)) == meant


@pytest.mark.parametrize("asked", ["", "a b", "a:123", "a@", "a_b", "../a", "x" * 90, "a@sha256"])
def test_what_is_no_name_is_refused(asked):
    with pytest.raises(ValueError, match="no model name"):
        gguf.ModelName.parse(asked)
