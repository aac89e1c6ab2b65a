"""JSON that a model or a worker wrote, as strictly as others will read it."""

import json


def parse(text: str) -> object:
    """The value of a JSON text. Raises `ValueError` for anything else, for numbers that JSON has
    not (NaN, 1e999), for half characters, which nobody could send on, and for what is too deep.
    """
    try:
        value: object = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("too deep") from error
    return value
