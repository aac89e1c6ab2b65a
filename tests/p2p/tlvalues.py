"""Values of every declaration for property tests, and how two other libraries spell them."""

import importlib.resources

from hypothesis import strategies as st

from p2p import schema, ton

TEXT = importlib.resources.files("p2p").joinpath("schema.tl").read_text()
DECLARED = {one.name: one for one in schema.read(TEXT) if one.result != "Bool"}
CLASSES = {name: getattr(ton, one.class_name) for name, one in DECLARED.items()}
NAMES = {cls: name for name, cls in CLASSES.items()}
EDGES = (0, 1, 3, 252, 253, 254, 255, 257, 1024)

sizes = st.sampled_from(EDGES) | st.integers(0, 40)
PLAIN = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "int128": st.binary(min_size=16, max_size=16),
    "int256": st.binary(min_size=32, max_size=32),
    "bytes": sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size)),
}


def constructors(kind):
    """The names that a value of a boxed type may have."""
    return [one.name for one in DECLARED.values() if one.result == kind]


def is_boxed(kind):
    return kind.rpartition(".")[2][0].isupper()


def of_type(kind):
    if kind in PLAIN:
        return PLAIN[kind]
    if kind.startswith("vector "):
        return st.lists(of_type(kind.removeprefix("vector ")), max_size=3).map(tuple)
    return (
        st.one_of([values(name) for name in constructors(kind)]) if is_boxed(kind) else values(kind)
    )


@st.composite
def values(draw, name):
    """A value of one declaration; fields that share a flag are there together or not at all."""
    flags = draw(st.integers(0, 2**32 - 1))
    return CLASSES[name](
        *(
            draw(of_type(field.type)) if field.flag is None or flags >> field.flag & 1 else None
            for field in DECLARED[name].fields
        )
    )


anything = st.sampled_from(sorted(DECLARED)).flatmap(values)


def judged(library, path):
    """Our schema as pytoniq-core and ton-core read it; parsing what is in `bytes` switched off."""
    lines = [line.partition(" ")[2] for line in TEXT.splitlines() if not line.startswith("//")]
    spelled = [_with_parentheses(line) for line in lines]
    path.write_text("\n".join(f"{line};" for line in spelled))
    schemas = library.TlGenerator(str(path)).from_file(str(path))
    return library.TlSchemas(schemas, auto_deserialize=False)


def _with_parentheses(line):
    words = line.replace("vector ", "vector_").split(" ")
    return " ".join(_vector(word) for word in words)


def _vector(word):
    before, found, item = word.partition("vector_")
    return f"{before}(vector {item})" if found else word


def to_dict(value):
    """A value as those libraries take it."""
    declaration = DECLARED[NAMES[type(value)]]
    spelled = {"@type": declaration.name}
    flags = 0
    for field in declaration.fields:
        one = getattr(value, "from_" if field.name == "from" else field.name)
        if one is not None:
            spelled[field.name] = _spell(field.type, one)
            flags |= 0 if field.flag is None else 1 << field.flag
    return spelled if declaration.flags_at is None else spelled | {"flags": flags}


def _spell(kind, value):
    if kind in ("int128", "int256"):
        return value.hex()
    if kind in PLAIN:
        return value
    if kind.startswith("vector "):
        return [_spell(kind.removeprefix("vector "), one) for one in value]
    return to_dict(value)


def from_dict(name, spelled):
    """The value of one declaration that those libraries have read."""
    fields = DECLARED[name].fields
    return CLASSES[name](*(_unspell(field.type, spelled.get(field.name)) for field in fields))


def _unspell(kind, spelled):
    if spelled is None:
        return None
    if kind in ("int128", "int256"):
        return bytes.fromhex(spelled)
    if kind in PLAIN:
        return spelled
    if kind.startswith("vector "):
        return tuple(_unspell(kind.removeprefix("vector "), one) for one in spelled)
    return from_dict(spelled["@type"] if is_boxed(kind) else kind, spelled)
