"""The classes of TON's declarations: each is bound to its line of the schema, and to no other."""

import types
import typing
from zlib import crc32

import pytest

from p2p import tl, ton
from tests.p2p.tlvalues import CLASSES, DECLARED, constructors, is_boxed


def schema_of(*lines):
    return tl.Binding("\n".join(f"{crc32(line.encode()):08x} {line}" for line in lines))


def test_every_declaration_has_a_class_and_every_class_a_declaration():
    classes = {
        name
        for name, value in vars(ton).items()
        if isinstance(value, type) and issubclass(value, tl.TlObject) and value is not tl.TlObject
    }
    assert classes == {one.class_name for one in DECLARED.values()}
    assert [CLASSES[name].tl.id for name in DECLARED] == [one.id for one in DECLARED.values()]


@pytest.mark.parametrize(
    "name", [name for name, value in vars(ton).items() if isinstance(value, types.UnionType)]
)
def test_a_union_has_every_constructor_of_its_type(name):
    union = getattr(ton, name)
    members = typing.get_args(union)
    results = {DECLARED[one].result for one, cls in CLASSES.items() if cls in members}
    (result,) = results
    functions = {"overlay.getBroadcast", "dht.findValue", "dht.requestReversePing"}
    assert set(members) == {CLASSES[one] for one in constructors(result) if one not in functions}
    assert name.removesuffix("Type") == "".join(p[0].upper() + p[1:] for p in result.split("."))
    assert is_boxed(result)


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"a": int},
        {"b": bytes, "a": int},
        {"a": int, "b": int},
        {"a": int, "b": bytes, "c": int},
        {"a": int, "b": bytes | None},
    ],
)
def test_a_class_with_other_fields_is_refused(annotations):
    binding = schema_of("x a:int b:bytes = X")
    with pytest.raises(TypeError, match="declared is"):
        binding.bind(type("X", (tl.TlObject,), {"__annotations__": annotations}))


def test_a_class_that_is_not_declared_or_bound_twice_is_refused():
    binding = schema_of("x = X")
    binding.bind(type("X", (tl.TlObject,), {}))
    for name in ("X", "Y"):
        with pytest.raises(TypeError, match="not declared"):
            binding.bind(type(name, (tl.TlObject,), {}))


def test_a_declaration_that_nests_in_itself_is_refused():
    binding = schema_of("x inner:vector x = X")
    with pytest.raises(TypeError, match="before its class"):
        binding.bind(type("X", (tl.TlObject,), {"__annotations__": {"inner": tuple}}))


def test_a_declaration_that_nests_too_deep_is_refused():
    depth = tl.MAX_NESTING
    binding = schema_of("x0 = X0", *(f"x{i} a:x{i - 1} = X{i}" for i in range(1, depth + 1)))
    inner = binding.bind(type("X0", (tl.TlObject,), {}))
    for i in range(1, depth):
        inner = binding.bind(type(f"X{i}", (tl.TlObject,), {"__annotations__": {"a": inner}}))
    with pytest.raises(TypeError, match="too deep"):
        binding.bind(type(f"X{depth}", (tl.TlObject,), {"__annotations__": {"a": inner}}))


def test_bool_is_boxed_by_its_two_ids():
    binding = schema_of("x a:Bool = X")
    cls = binding.bind(type("X", (tl.TlObject,), {"__annotations__": {"a": bool}}))
    for value, number in [(True, "b5757299"), (False, "379779bc")]:
        assert tl.pack(cls(value), boxed=False).hex() == number
        assert tl.parse(cls, bytes.fromhex(number), boxed=False) == cls(value)
    with pytest.raises(tl.TlError):
        tl.parse(cls, bytes(4), boxed=False)
    with pytest.raises(ValueError, match="bool"):
        tl.pack(cls(1))
