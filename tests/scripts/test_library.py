"""The models of a home: what names mean, what is here and fits; catalogues go forward."""

import pytest

from inference import catalogue, gguf
from inference.catalogue import CHUNK, DOMAIN
from inference.fit import Fit, Unfit, Wish
from inference.machine import Machine
from p2p.identity import Identity
from scripts import serving
from scripts.failure import Failed
from scripts.home import Home
from scripts.library import Library
from scripts.settings import Worker

BUILTIN = "smollm2-135m-instruct"
SIGNER, OTHER = Identity(b"s" * 32), Identity(b"o" * 32)
ROOMY = Machine(cores=4, ram_available=16_000_000_000)


def catalogue_of(*models, issued="2026-01-01T00:00:00Z"):
    """A catalogue of models, each (base, rank, GB)."""
    text = f"version = 1\nissued = {issued}\n"
    for number, (base, rank, size) in enumerate(models):
        weights = size * 1_000_000_000
        text += f"""
[[model]]
base = "{base}"
quant = "q4_k_m"
title = "Moth"
licence = "MIT"
rank = {rank}
bytes = {CHUNK}
sha256 = "{number + 16:02x}{"ab" * 31}"
template_sha256 = "{"cd" * 32}"
histogram = {{}}
context = 2048
chunks = "{"ef" * 32}"
[model.memory]
weights = {weights}
kv_per_token = 1
layers = 1
parameters = 2
vocabulary = 3
embedding_length = 4
"""
    return text.encode()


def signed(data, by=SIGNER):
    return by.sign(DOMAIN + data)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def library(home):
    library = Library(home)
    data = catalogue_of(("luna", 50, 60), ("atlas", 30, 2), ("atlas", 20, 3))
    library.add(data, signed(data), SIGNER.public)
    return library


def test_the_release_knows_its_own_model_and_finds_it_where_pip_put_it(home):
    library = Library(home)
    item = library.find("auto")
    assert item.base == BUILTIN
    assert library.path(item) == catalogue.builtin_path()
    (known,) = library.known()
    assert (known.identity, known.rank) == (item.identity, item.rank)


def test_a_name_means_one_model_or_is_told_apart(library):
    assert library.find("luna@q4_k_m").base == "luna"
    assert library.find(f"{BUILTIN}@sha256:b179c9523d0e").quant == "q4_1"
    assert library.find("auto").base == "luna"
    with pytest.raises(Failed, match=r"any of several models: atlas@q4_k_m:11ab.*12ab") as failed:
        library.find("atlas")
    assert failed.value.failure.code == "invalid_request"
    assert library.find("atlas:11abababab" + "ab").rank == 30
    with pytest.raises(Failed, match="No catalogue here names") as failed:
        library.find("mothra")
    assert failed.value.failure.code == "model_not_found"
    with pytest.raises(Failed, match="no model name"):
        library.find("../etc")


def test_a_catalogue_stays_and_goes_forward_only(home, library):
    assert [item.base for item in Library(home).items] == ["luna", "atlas", "atlas", BUILTIN]
    newer = catalogue_of(("luna", 50, 60), issued="2026-02-01T00:00:00Z")
    library.add(newer, signed(newer), None)  # its key is one of ours by now
    assert [item.base for item in library.items] == ["luna", BUILTIN]
    older = catalogue_of(("luna", 1, 1))
    with pytest.raises(Failed, match="older than the one that is here"):
        library.add(older, signed(older), SIGNER.public)
    assert [item.rank for item in Library(home).items] == [50, 10]


def test_a_strangers_catalogue_is_not_taken(home, library):
    data = catalogue_of(("luna", 99, 1))
    for signature, key in ((signed(data, OTHER), None), (signed(data), OTHER.public)):
        with pytest.raises(Failed, match="not taken: ") as failed:
            library.add(data, signature, key)
        assert "--key" in failed.value.failure.advice
    assert len(list(home.catalogues.iterdir())) == 1


def test_a_catalogue_that_was_tampered_with_on_the_disk_is_left_out(home, library):
    (file,) = home.catalogues.iterdir()
    file.write_bytes(file.read_bytes().replace(b"luna", b"lune"))
    assert [item.base for item in Library(home).items] == [BUILTIN]


def test_what_fits_is_the_machines_matter(library):
    by_base = {
        each.item.base: each for each in library.shelf(ROOMY, Wish(context=2_048)) if each.item
    }
    assert isinstance(by_base["luna"].fit, Unfit)
    assert isinstance(by_base[BUILTIN].fit, Fit)
    assert by_base[BUILTIN].held == by_base[BUILTIN].item.size
    assert (by_base["luna"].held, by_base["luna"].path) == (0, None)


def test_auto_serves_the_best_that_is_here_and_fits(home, library):
    assert library.best(ROOMY, Wish()).item.base == BUILTIN
    item = library.find("atlas:11" + "ab" * 5)
    home.models.mkdir()
    (home.models / item.file_name).write_bytes(b"gguf")
    assert library.best(ROOMY, Wish()).item == item
    luna = library.find("luna")
    (home.models / luna.file_name).write_bytes(b"gguf")  # here, but too large for this machine
    assert library.best(ROOMY, Wish()).item == item
    assert library.best(Machine(cores=1, ram_available=0), Wish()) is None

    def path(model):
        return serving._path(Worker(model=model), library)

    assert path("luna") == home.models / luna.file_name
    assert path("/a/b.gguf").name == "b.gguf"
    with pytest.raises(Failed, match="not on this machine") as failed:
        path("atlas:12" + "ab" * 5)
    assert "models pull atlas" in failed.value.failure.advice


def test_what_was_pulled_is_removed_and_nothing_else(home, library):
    item = library.find("luna")
    home.models.mkdir()
    (home.models / item.file_name).write_bytes(bytes(100))
    assert library.remove(item) == item.size
    assert list(home.models.iterdir()) == []
    with pytest.raises(Failed, match="nothing to remove"):
        library.remove(item)
    with pytest.raises(Failed, match="came with an installed package"):
        library.remove(library.find(BUILTIN))
    assert catalogue.builtin_path().exists()


def test_names_of_the_catalogue_are_names_that_can_be_asked_for(library):
    for item in library.items:
        assert item.meant_by(gguf.ModelName.parse(item.name))
