"""What the import contracts cannot see in a pure module: calls and sets whose order is not ours."""

import ast
from collections.abc import Iterator

FORBIDDEN_IMPORTS = frozenset(
    [
        "time",
        "random",
        "secrets",
        "uuid",
        "threading",
        "asyncio",
        "trio",
        "socket",
        "os",
        "subprocess",
        "structlog",
    ]
)
FORBIDDEN_NAMES = frozenset(["open", "print", "hash", "id", "input", "eval", "exec"])
FORBIDDEN_ATTRIBUTES = frozenset(
    [
        "urandom",
        "crypto_box_keypair",
        "crypto_sign_keypair",
        "utcnow",
        "today",
        "generate_private_key",
    ]
)
CLOCK_NOW = frozenset(["datetime", "date"])


def violations(source: str) -> Iterator[tuple[int, str]]:
    """Line and reason of everything in a module that a core must not do."""
    tree = ast.parse(source)
    constants = _membership_constants(tree)
    for node in ast.walk(tree):
        reason = _reason(node, constants)
        if reason is not None:
            yield node.lineno, reason


def _reason(node: ast.AST, constants: frozenset[int]) -> str | None:
    match node:
        case ast.Import(names=names):
            return _import_reason([name.name for name in names])
        case ast.ImportFrom(module=str(module), level=0):
            return _import_reason([module])
        case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_NAMES:
            return f"calls {name}()"
        case ast.Call(func=ast.Attribute(attr="generate", value=ast.Name(id=owner))) if owner[
            :1
        ].isupper():
            return f"{owner}.generate() draws its own randomness"
        case ast.Attribute(attr=name) if name in FORBIDDEN_ATTRIBUTES:
            return f"uses {name}"
        case ast.Attribute(attr="now", value=ast.Name(id=owner)) if owner in CLOCK_NOW:
            return "reads a clock"
        case ast.Attribute(attr="random", value=ast.Attribute(attr="utils")):
            return "uses nacl.utils.random"
        case ast.SetComp() | ast.Set() if id(node) not in constants:
            return "builds a set: its order is not ours, use dict[K, None]"
        case ast.Call(func=ast.Name(id="set" | "frozenset")) if id(node) not in constants:
            return "builds a set: its order is not ours, use dict[K, None]"
    return None


def _import_reason(modules: list[str]) -> str | None:
    roots = [module.partition(".")[0] for module in modules]
    bad = [root for root in roots if root in FORBIDDEN_IMPORTS]
    return f"imports {bad[0]}" if bad else None


def _membership_constants(tree: ast.Module) -> frozenset[int]:
    """Sets bound to an UPPER_CASE name of the module and used with `in` and `len` alone."""
    uses: dict[str, bool] = {}
    tests = {
        id(comparator)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for operator, comparator in zip(node.ops, node.comparators, strict=True)
        if isinstance(operator, ast.In | ast.NotIn)
    } | {
        id(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            uses[node.id] = uses.get(node.id, True) and id(node) in tests
    allowed: set[int] = set()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        if name.lstrip("_").isupper() and uses.get(name, True):
            allowed |= {id(inner) for inner in ast.walk(value)}
    return frozenset(allowed)
