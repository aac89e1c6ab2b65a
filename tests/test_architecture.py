"""The rules of the tree, and a planted violation of each that must be caught."""

import ast
import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["p2p", "ledger", "inference", "simulations", "scripts"]

spec = importlib.util.spec_from_file_location("purity", Path(__file__).parent / "purity.py")
purity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(purity)


def contract(name):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config[f"importlinter:contract:{name}"]


def pure_files():
    for module in contract("pure")["source_modules"].split():
        path = ROOT / module.replace(".", "/")
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        else:
            yield path.with_suffix(".py")


PLANTED = {
    "downwards": ("ledger/money.py", "import inference.market"),
    "inside-p2p": ("p2p/extra.py", '"""Unplaced."""'),
    "no-cycles": ("ledger/money.py", "import ledger.tariff"),
    "pure": ("inference/market.py", "import p2p.node"),
    "doors": ("scripts/daemon.py", "import llama_cpp"),
    "thin-cli": ("scripts/cli/status.py", "import p2p.codec"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources and the contracts, to be damaged."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "setup.cfg", copy)
    return copy


def lint(tree, name):
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [command, "--contract", name, "--no-cache"], cwd=tree, capture_output=True, text=True
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_breaks_its_contract(tree, name):
    file, line = PLANTED[name]
    path = tree / file
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + "\n" + line + "\n")
    try:
        code, output = lint(tree, name)
    finally:
        path.unlink() if before is None else path.write_text(before)

    assert code == 1, output
    assert "BROKEN" in output


@pytest.mark.parametrize("path", list(pure_files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_module_keeps_the_rules_that_imports_do_not_show(path):
    assert list(purity.violations(path.read_text())) == []


def test_core_classes_beside_trio_effects_touch_no_trio():
    for file, name in [("inference/asking.py", "AskCore"), ("inference/serving.py", "WorkerCore")]:
        tree = ast.parse((ROOT / file).read_text())
        core = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
        names = {n.id for n in ast.walk(core) if isinstance(n, ast.Name)}
        assert not names & {"trio", "structlog", "time", "random", "os"}, file
        assert not [n for n in ast.walk(core) if isinstance(n, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from os import urandom",
        "x = open('f')",
        "print(1)",
        "x = hash(b'')",
        "x = id(x)",
        "x = os.urandom(4)",
        "x = nacl.utils.random(4)",
        "x = datetime.now()",
        "x = X25519PrivateKey.generate()",
        "x = {1, 2}",
        "x = {y for y in z}",
        "x = set(z)",
        "ORDERED = frozenset([1])\nx = list(ORDERED)",
    ],
)
def test_purity_lint_reports_a_planted_construct_at_its_line(line):
    found = list(purity.violations("\n\n" + line + "\n"))
    assert [at for at, _ in found] == [3]


def test_purity_lint_allows_a_constant_that_only_answers_membership():
    assert (
        list(purity.violations("KNOWN = frozenset([1])\n\ndef f(x):\n    return x in KNOWN\n"))
        == []
    )


def protocol_written_again(source):
    """Lines of a module of simulations in which something of the protocol is made by hand."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="pack" | "parse" | "parse_any" | "parse_prefix")):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in ("tl", "codec"):
                    yield node.lineno, "makes or reads bytes of the wire"
            case ast.ClassDef(decorator_list=decorators, bases=bases):
                if "declared" in map(_last_name, decorators):
                    yield node.lineno, "declares a message"
                if any(_last_name(base).endswith("Core") for base in bases):
                    yield node.lineno, f"{node.name} changes a core by inheritance"
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in PRIMITIVES:
                yield node.lineno, f"calls {name}"


def _last_name(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


PRIMITIVES = (
    "crypto_sign",
    "crypto_scalarmult",
    "crypto_box",
    "X25519PrivateKey",
    "ChaCha20Poly1305",
    "AESGCM",
    "Cipher",
    "HKDF",
)
"""Cryptography that only the protocol does."""


STAND_INS = [ROOT / "simulations/purse.py"]
"""Their bytes are their own: a coin that no mint has signed."""


ATTACKERS = ROOT / "simulations/adversary"
"""They forge what no core would say."""


def honest_files():
    for path in sorted((ROOT / "simulations").rglob("*.py")):
        if path not in STAND_INS and ATTACKERS not in path.parents:
            yield path


@pytest.mark.parametrize(
    "path",
    list(honest_files()),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_simulations_write_nothing_of_the_protocol_again(path):
    """They build the real cores: what a simulation says would else be about itself."""
    assert list(protocol_written_again(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "x = tl.pack(message)",
        "x = codec.parse_any(body)",
        "@tl.declared\nclass DhtPing: pass",
        "x = crypto_scalarmult(a, b)",
        "x = ChaCha20Poly1305(key)",
        "class Mine(DhtCore): pass",
    ],
)
def test_protocol_that_is_written_again_is_found_at_its_line(line):
    found = list(protocol_written_again("\n\n" + line + "\n"))
    assert [at for at, _ in found] in ([3], [4])


def test_every_number_of_the_protocol_has_a_unit_and_a_reason():
    lines = (ROOT / "p2p/defaults.py").read_text().splitlines()
    names = [i for i, line in enumerate(lines) if re.match(r"[A-Z][A-Z0-9_]* (=|:)", line)]
    assert names
    for i in names:
        after = "\n".join(lines[i + 1 : i + 3])
        assert re.match(r'\s*(\)|\}|\])?\s*"""[^":]+: \S', after), f"{lines[i]}: no unit and reason"


def test_broad_excepts_stand_only_at_process_boundaries_with_a_reason():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"except (Base)?Exception\b|except:", line) and "#" not in line
    ]
    assert found == []
