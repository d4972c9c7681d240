"""Weights out of a safetensors file, as numpy arrays in float32. Format: github.com/huggingface/safetensors, "Format".

Eight bytes say how long a JSON header is; it names each tensor's type, shape and place in the bytes after it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_HEADER: Final = 100_000_000  # bytes, as the format has it
_WIDTHS: Final = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The place of a tensor in its file, in bytes from the beginning, with its type and shape."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return all tensors of the file by name. Raise ConfigurationError unless it is a whole safetensors file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError(f"its header would have {length} bytes, the file has {size}")
            header: dict[str, Any] = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _stored(name, entry, 8 + length, size) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is no readable safetensors file: {error}") from error


def read_tensor(path: Path, stored: StoredTensor) -> "NDArray[np.float32]":
    """Return one tensor, in memory of its own, so that it may be written to."""
    import numpy as np

    with path.open("rb") as file:
        file.seek(stored.start)
        content = file.read(stored.end - stored.start)
    if stored.kind == "BF16":  # the upper half of a float32
        wide = np.frombuffer(content, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").astype(np.float32).reshape(stored.shape)
    return (
        np.frombuffer(content, dtype="<f4" if stored.kind == "F32" else "<f2").astype(np.float32).reshape(stored.shape)
    )


def _stored(name: str, entry: Mapping[str, Any], behind: int, size: int) -> StoredTensor:
    kind, shape = str(entry["dtype"]), tuple(int(length) for length in entry["shape"])
    start, end = (behind + int(offset) for offset in entry["data_offsets"])
    if kind in _WIDTHS and end - start != _WIDTHS[kind] * math.prod(shape):
        raise ValueError(f"{name} of shape {shape} in {kind} does not fill its {end - start} bytes")
    if not behind <= start <= end <= size:
        raise ValueError(f"{name} lies outside the file")
    return StoredTensor(kind, shape, start, end)
