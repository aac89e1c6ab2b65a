"""The contracts: their source, their compiled code, and the cells that speak to them."""
