"""The catalogue of this release, signed; `inference.catalogue` reads it."""
