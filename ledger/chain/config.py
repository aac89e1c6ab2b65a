"""The configuration that TON's rules and prices are read from: mainnet's, and dearer ones."""

from collections.abc import Collection
from importlib import resources
from typing import Final

from pytoniq_core import Builder, Cell, HashMap

GAS: Final = (20, 21)
"""Parameters with gas prices: of the masterchain, of the basechain."""
FORWARD: Final = (24, 25)
"""Parameters with forward prices."""

_FLAT_GAS: Final = 0xD1
_NUMBER_BITS: Final = 32


def mainnet_config() -> bytes:
    """Mainnet's, as a bag of cells; `ledger/data/README.md` says from when and whence."""
    return resources.files("ledger.data").joinpath("config.boc").read_bytes()


def scale_config(boc: bytes, params: Collection[int], factor: int) -> bytes:
    """A configuration whose prices in `params`, of `GAS` and `FORWARD`, are `factor` times higher.

    Raises `ValueError` for another parameter.
    """
    root = Cell.one_from_boc(boc)
    scaled = HashMap(_NUMBER_BITS, value_serializer=_store_reference)
    for number, value in (HashMap.parse(root.begin_parse(), _NUMBER_BITS) or {}).items():
        cell = value.load_ref()
        scaled.set(number, _scaled(number, cell, factor) if number in params else cell)
    scaled_boc: bytes = (scaled.serialize() or Cell.empty()).to_boc()
    return scaled_boc


def _scaled(number: int, prices: Cell, factor: int) -> Cell:
    if number in GAS:
        return _scaled_gas(prices, factor)
    if number in FORWARD:
        return _scaled_forward(prices, factor)
    raise ValueError(f"parameter {number} holds no prices of gas or forwarding")


def _scaled_gas(prices: Cell, factor: int) -> Cell:
    """`gas_flat_pfx#d1 limit:u64 price:u64`, then `#dd` or `#de` with `price:u64` first."""
    reader, scaled = prices.begin_parse(), Builder()
    if reader.preload_uint(8) == _FLAT_GAS:
        scaled.store_bits(reader.load_bits(8 + 64))
        scaled.store_uint(reader.load_uint(64) * factor, 64)
    scaled.store_bits(reader.load_bits(8)).store_uint(reader.load_uint(64) * factor, 64)
    cell: Cell = scaled.store_slice(reader).end_cell()
    return cell


def _scaled_forward(prices: Cell, factor: int) -> Cell:
    """`msg_forward_prices#ea lump:u64 bit:u64 cell:u64`, then fractions."""
    reader, scaled = prices.begin_parse(), Builder()
    scaled.store_bits(reader.load_bits(8))
    for _ in range(3):
        scaled.store_uint(reader.load_uint(64) * factor, 64)
    cell: Cell = scaled.store_slice(reader).end_cell()
    return cell


def _store_reference(value: Cell, builder: Builder) -> Builder:
    builder.store_ref(value)
    return builder
