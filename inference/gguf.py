"""What a GGUF model file says of itself, read without building what nobody needs.

    "GGUF" | version u32 | tensors u64 | keys u64
    keys:    name string | type u32 | value             string = length u64 | UTF-8
    tensors: name string | dims u32 | dim u64 x dims | type u32 | offset u64
    padding to `general.alignment` | data

All little-endian, versions 2 and 3. The file is a stranger's: every count is checked before it is
believed, and whatever breaks a rule raises `BadModel`. Arrays (vocabularies of 10^5 strings) are
hopped over, not built, which is what makes this a hundred times faster than a full reader.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias, final

from p2p.errors import BadModel

MAX_TENSORS: Final = 65_536
MAX_KEYS: Final = 4_096
MAX_KEY: Final = 65_535
"""bytes of a key's name, the format's own limit"""

MAX_TENSOR_NAME: Final = 64
"""bytes: ggml's own limit"""

MAX_STRING: Final = 1024 * 1024
"""bytes of a string that is kept"""

MAX_TEMPLATE: Final = 256 * 1024
"""bytes of a chat template"""

MAX_ARRAY: Final = 2**24
"""elements: a vocabulary sixty times today's largest"""

MAX_KEPT_ARRAY: Final = 65_536
"""elements of an array that is kept"""

MAX_DIMS: Final = 4
MAX_ELEMENTS: Final = 2**48
MAX_ALIGNMENT: Final = 65_536
MAX_HEADER: Final = 256 * 1024 * 1024
"""bytes before the data"""

DEFAULT_ALIGNMENT: Final = 32

MAX_BASE: Final = 64
"""characters of a model's name for people"""

TEMPLATE_KEY: Final = "tokenizer.chat_template"

_BOOL, _STRING, _ARRAY = 7, 8, 9

_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}

_FLOATS: Final = (6, 12)

BLOCKS: Final = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}
"""ggml's tensor types: (elements per block, bytes per block), as package gguf 0.19 has them."""

TENSOR_TYPES: Final = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    9: "q8_1",
    10: "q2_k",
    11: "q3_k",
    12: "q4_k",
    13: "q5_k",
    14: "q6_k",
    15: "q8_k",
    16: "iq2_xxs",
    17: "iq2_xs",
    18: "iq3_xxs",
    19: "iq1_s",
    20: "iq4_nl",
    21: "iq3_s",
    22: "iq2_s",
    23: "iq4_xs",
    24: "i8",
    25: "i16",
    26: "i32",
    27: "i64",
    28: "f64",
    29: "iq1_m",
    30: "bf16",
    34: "tq1_0",
    35: "tq2_0",
    39: "mxfp4",
    40: "nvfp4",
    41: "q1_0",
}

FILE_TYPES: Final = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    7: "q8_0",
    8: "q5_0",
    9: "q5_1",
    10: "q2_k",
    11: "q3_k_s",
    12: "q3_k_m",
    13: "q3_k_l",
    14: "q4_k_s",
    15: "q4_k_m",
    16: "q5_k_s",
    17: "q5_k_m",
    18: "q6_k",
    19: "iq2_xxs",
    20: "iq2_xs",
    21: "q2_k_s",
    22: "iq3_xs",
    23: "iq3_xxs",
    24: "iq1_s",
    25: "iq4_nl",
    26: "iq3_s",
    27: "iq3_m",
    28: "iq2_s",
    29: "iq2_m",
    30: "iq4_xs",
    31: "iq1_m",
    32: "bf16",
    36: "tq1_0",
    37: "tq2_0",
    38: "mxfp4_moe",
    39: "nvfp4",
    40: "q1_0",
}
"""Labels of `general.file_type`, as people write them."""

CACHE_BYTES: Final = {"f16": (2, 1), "q8_0": (34, 32)}
"""bytes per so many elements of a KV cache, by its type"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array that was hopped over."""

    kind: int
    """the format's number of its elements' type"""
    count: int


Entry: TypeAlias = int | float | bool | str | tuple[int, ...] | Array
"""The value of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor is and how large."""

    name: str
    shape: tuple[int, ...]
    kind: int
    """ggml's number of its type"""
    offset: int
    """from the beginning of the data"""
    size: int
    """bytes; of an unknown type, up to the next tensor"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All that stands before the data."""

    version: int
    keys: Mapping[str, Entry]
    tensors: tuple[Tensor, ...]
    alignment: int
    data: int
    """where the data begins"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What a model can do and what it needs, as far as its file tells."""

    architecture: str
    name: str
    base: str
    """for people: slug of its basename and size"""
    quant: str
    licence: str
    parameters: int
    weights: int
    """bytes of all tensors"""
    histogram: Mapping[str, int]
    """tensor type -> bytes: the quant's label hides what is mixed"""
    context_train: int
    layers: int
    embedding_length: int
    kv_elements: int
    """numbers the cache holds per token, over all layers"""
    vocabulary: int
    template: str
    embedding: bool

    @property
    def bits_per_weight(self) -> float:
        """The mean over all tensors."""
        return self.weights * 8 / self.parameters

    @property
    def tools(self) -> bool:
        """Its template knows tool calls."""
        return "tools" in self.template

    @property
    def reasoning(self) -> bool:
        """Its template knows reasoning."""
        return "<think>" in self.template or "enable_thinking" in self.template

    @property
    def template_hash(self) -> bytes:
        """SHA-256 of the template, of nothing if there is none."""
        return sha256(self.template.encode()).digest()

    def kv_bytes(self, kv_type: str = "f16") -> int:
        """Bytes of cache per token."""
        size, elements = CACHE_BYTES[kv_type]
        return self.kv_elements * size // elements


def parse(view: memoryview) -> Header:
    """Read the header of a whole file, mapped or in memory. Raises `BadModel`."""
    reader = _Reader(view)
    version, tensor_count, key_count = _read_start(reader)
    keys = _read_keys(reader, key_count)
    alignment = _alignment(keys)
    found = [_read_tensor(reader) for _ in range(tensor_count)]
    data = -(-reader.at // alignment) * alignment
    return Header(
        version=version,
        keys=keys,
        tensors=_placed(found, alignment, len(view) - data),
        alignment=alignment,
        data=data,
    )


def describe(header: Header) -> Capability:
    """What the header says. Raises `BadModel` if it lacks what every model has."""
    keys = _Keys(header.keys)
    architecture = keys.text("general.architecture")
    if not architecture or not any(math.prod(tensor.shape) for tensor in header.tensors):
        raise BadModel("no model: an architecture or tensors are missing")
    return Capability(
        architecture=architecture,
        name=keys.text("general.name"),
        base=_base(keys),
        quant=_quant(keys),
        licence=keys.text("general.license"),
        parameters=sum(math.prod(tensor.shape) for tensor in header.tensors),
        weights=sum(tensor.size for tensor in header.tensors),
        histogram=_histogram(header.tensors),
        context_train=keys.number(f"{architecture}.context_length"),
        layers=keys.number(f"{architecture}.block_count"),
        embedding_length=keys.number(f"{architecture}.embedding_length"),
        kv_elements=_kv_elements(keys, architecture),
        vocabulary=_vocabulary(keys, architecture),
        template=keys.text(TEMPLATE_KEY),
        embedding=f"{architecture}.pooling_type" in header.keys,
    )


def identity(file_hash: bytes, template_hash: bytes) -> bytes:
    """What a model is called on the wire: file and template, as another template is another
    service. Labels are not in it: nobody owns names."""
    return sha256(b"tussah/model/1\0" + file_hash + template_hash).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A model as people ask for it; None where they left it open."""

    base: str | None = None
    quant: str | None = None
    digest: str | None = None
    """hex, 12 digits or more, of the file: then only that file is acceptable"""

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """`auto`, `base`, `base-quant`, `base@quant`, each also with `:HEX` of the file's hash, or
        `name@sha256:HEX`. Raises `ValueError` with a sentence for people."""
        match = _NAME.fullmatch(text.strip().lower())
        if match is None or (match["quant"] == "sha256" and match["digest"] is None):
            raise ValueError(f"{text!r} is no model name: try auto, NAME, NAME@QUANT or NAME:HASH")
        base, quant, digest = match["base"], match["quant"], match["digest"]
        if base == "auto" and quant is None and digest is None:
            return cls()
        if quant == "sha256":
            quant = None
        elif quant is None:
            base, quant = _split_quant(base)
        if "_" in base or len(base) > MAX_BASE:
            raise ValueError(f"{base!r} is no model name: letters, digits, '.' and '-' only")
        return cls(base=base, quant=quant, digest=digest)

    def __str__(self) -> str:
        name = self.base or "auto"
        quant = f"@{self.quant}" if self.quant else ""
        return f"{name}{quant}:{self.digest}" if self.digest else f"{name}{quant}"


_NAME: Final = re.compile(
    r"(?P<base>[a-z0-9._-]{1,80})(@(?P<quant>[a-z0-9_]{1,32}))?(:(?P<digest>[0-9a-f]{12,64}))?"
)


def _split_quant(text: str) -> tuple[str, str | None]:
    for label in FILE_TYPES.values():
        for form in (label, label.replace("_", "-")):
            if text.endswith(f"-{form}") and len(text) > len(form) + 1:
                return text[: -len(form) - 1], label
    return text, None


# --- reading ---


@final
class _Reader:
    """A place in a file that cannot be left."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._end = min(len(view), MAX_HEADER)
        self.at = 0

    def skip(self, size: int) -> int:
        """Step over bytes; where they began."""
        start = self.at
        if size > self._end - start:
            raise BadModel(f"the header ends inside something at byte {start}")
        self.at = start + size
        return start

    def u32(self) -> int:
        return int.from_bytes(self._view[(start := self.skip(4)) : start + 4], "little")

    def u64(self) -> int:
        return int.from_bytes(self._view[(start := self.skip(8)) : start + 8], "little")

    def text(self, limit: int) -> str:
        length = self.u64()
        if length > limit:
            raise BadModel(f"a string of {length} bytes at {self.at}")
        start = self.skip(length)
        try:
            return str(self._view[start : self.at], "utf-8")
        except UnicodeDecodeError as error:
            raise BadModel(f"no UTF-8 at byte {start}") from error

    def scalar(self, kind: int) -> int | float | bool:
        form = _SCALARS.get(kind)
        if form is None:
            raise BadModel(f"a value of type {kind} at byte {self.at}")
        value: int | float = form.unpack_from(self._view, self.skip(form.size))[0]
        return bool(value) if kind == _BOOL else value

    def hop_strings(self, count: int) -> None:
        """Step over so many strings; the loop that most of the time goes into."""
        at, end, view = self.at, self._end - 8, self._view
        unpack = _SCALARS[10].unpack_from
        for _ in range(count):
            if at > end:
                raise BadModel(f"the header ends inside a string at byte {at}")
            at += 8 + unpack(view, at)[0]
        self.at = at
        self.skip(0)


def _read_start(reader: _Reader) -> tuple[int, int, int]:
    if reader.u32() != int.from_bytes(b"GGUF", "little"):
        raise BadModel("no GGUF file")
    version = reader.u32()
    if version in (0x02000000, 0x03000000):
        raise BadModel("a big-endian GGUF file")
    if version not in (2, 3):
        raise BadModel(f"GGUF version {version}")
    tensors, keys = reader.u64(), reader.u64()
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise BadModel(f"{tensors} tensors and {keys} keys")
    return version, tensors, keys


def _read_keys(reader: _Reader, count: int) -> dict[str, Entry]:
    keys: dict[str, Entry] = {}
    for _ in range(count):
        name = reader.text(MAX_KEY)
        if name in keys:
            raise BadModel(f"key {name} twice")
        keys[name] = _read_value(reader, name, reader.u32())
    return keys


def _read_value(reader: _Reader, name: str, kind: int) -> Entry:
    if kind == _STRING:
        return reader.text(MAX_TEMPLATE if name == TEMPLATE_KEY else MAX_STRING)
    if kind == _ARRAY:
        return _read_array(reader, name)
    return reader.scalar(kind)


def _read_array(reader: _Reader, name: str) -> tuple[int, ...] | Array:
    kind, count = reader.u32(), reader.u64()
    if count > MAX_ARRAY or kind == _ARRAY:
        raise BadModel(f"array {name} of {count}, type {kind}")
    if kind == _STRING:
        reader.hop_strings(count)
        return Array(kind=kind, count=count)
    if _is_kept(name, kind, count):
        return tuple(int(reader.scalar(kind)) for _ in range(count))
    if kind not in _SCALARS:
        raise BadModel(f"array {name} of type {kind}")
    reader.skip(count * _SCALARS[kind].size)
    return Array(kind=kind, count=count)


def _is_kept(name: str, kind: int, count: int) -> bool:
    if kind in _FLOATS or kind not in _SCALARS or count > MAX_KEPT_ARRAY:
        return False
    return name.endswith((".head_count_kv", "_token_ids"))


def _alignment(keys: Mapping[str, Entry]) -> int:
    value = keys.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise BadModel(f"alignment {value!r}")
    return value


def _read_tensor(reader: _Reader) -> Tensor:
    """As it stands; its size is known once all are read."""
    name = reader.text(MAX_TENSOR_NAME)
    dims = reader.u32()
    if dims > MAX_DIMS:
        raise BadModel(f"tensor {name} has {dims} dimensions")
    shape = tuple(reader.u64() for _ in range(dims))
    if math.prod(shape) > MAX_ELEMENTS:
        raise BadModel(f"tensor {name} has too many elements")
    return Tensor(name=name, shape=shape, kind=reader.u32(), offset=reader.u64(), size=0)


# --- checking the tensors ---


def _placed(found: list[Tensor], alignment: int, room: int) -> tuple[Tensor, ...]:
    if len(dict.fromkeys(tensor.name for tensor in found)) != len(found):
        raise BadModel("a tensor twice")
    starts = sorted(dict.fromkeys(tensor.offset for tensor in found))
    ends = dict(zip(starts, [*starts[1:], max(room, 0)], strict=False))  # there may be none
    return tuple(_sized(tensor, alignment, ends[tensor.offset], room) for tensor in found)


def _sized(tensor: Tensor, alignment: int, next_start: int, room: int) -> Tensor:
    size = _size(tensor, next_start)
    if tensor.offset % alignment or size < 0 or tensor.offset + size > room:
        raise BadModel(f"tensor {tensor.name} lies outside the file, or unaligned")
    return Tensor(
        name=tensor.name,
        shape=tensor.shape,
        kind=tensor.kind,
        offset=tensor.offset,
        size=size,
    )


def _size(tensor: Tensor, next_start: int) -> int:
    if tensor.kind not in BLOCKS:
        return next_start - tensor.offset
    per_block, block_bytes = BLOCKS[tensor.kind]
    if tensor.shape and tensor.shape[0] % per_block:
        raise BadModel(f"tensor {tensor.name} has half a block")
    return math.prod(tensor.shape) // per_block * block_bytes


# --- describing ---


@final
class _Keys:
    """Keys by the type that is wanted; one of another type is as good as absent."""

    def __init__(self, keys: Mapping[str, Entry]) -> None:
        self._keys = keys

    def text(self, name: str) -> str:
        value = self._keys.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int = 0) -> int:
        value = self._keys.get(name)
        return value if isinstance(value, int) and 0 <= value < 2**32 else default

    def numbers(self, name: str, count: int) -> list[int]:
        """One number per layer, given once or each."""
        value = self._keys.get(name)
        if isinstance(value, tuple) and len(value) == count:
            return [max(number, 0) for number in value]
        return [self.number(name)] * count

    def length(self, name: str) -> int:
        value = self._keys.get(name)
        return value.count if isinstance(value, Array) else 0


def _vocabulary(keys: _Keys, architecture: str) -> int:
    return keys.length("tokenizer.ggml.tokens") or keys.number(f"{architecture}.vocab_size")


def _kv_elements(keys: _Keys, architecture: str) -> int:
    heads = keys.number(f"{architecture}.attention.head_count")
    usual = keys.number(f"{architecture}.embedding_length") // heads if heads else 0
    width = keys.number(f"{architecture}.attention.key_length", usual)
    width += keys.number(f"{architecture}.attention.value_length", usual)
    layers = min(keys.number(f"{architecture}.block_count"), MAX_KEPT_ARRAY)
    return width * sum(keys.numbers(f"{architecture}.attention.head_count_kv", layers))


def _histogram(tensors: tuple[Tensor, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in tensors:
        label = TENSOR_TYPES.get(tensor.kind, f"type-{tensor.kind}")
        sizes[label] = sizes.get(label, 0) + tensor.size
    return sizes


def _quant(keys: _Keys) -> str:
    kind = keys.number("general.file_type", -1)
    return FILE_TYPES.get(kind, f"type-{kind}") if kind >= 0 else "unknown"


def _base(keys: _Keys) -> str:
    name = keys.text("general.basename") or keys.text("general.name") or "model"
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{name} {keys.text('general.size_label')}".lower())
    return slug.strip("-.")[:MAX_BASE] or "model"
