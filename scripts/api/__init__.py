"""The local API: a small ASGI server on trio, and the applications it serves."""
