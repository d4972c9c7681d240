"""Reads the `model.bin` that CTranslate2 writes, version 6: the library itself has no way to look at weights."""

from pathlib import Path
from struct import calcsize, unpack_from

import numpy as np

_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Return all variables by name. A bfloat16 is its two bytes; aliases are left out."""
    content, at = path.read_bytes(), 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = unpack_from(form, content, at)
        at += calcsize(form)
        return int(value)

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return content[at - length : at - 1].decode()

    assert number("I") == 6
    text(), number("I")
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = _TYPES[number("B")].replace("bfloat16", "uint16")
        size = number("I")
        found[name] = np.frombuffer(content[at : at + size], dtype=kind).reshape(shape)
        at += size
    return found
