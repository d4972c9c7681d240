"""Weights out of a safetensors file."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.workers.sentence_folder import write_safetensors

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.models.sentence_encoder import read_header, read_tensor

NUMBERS = np.array([[1.5, -2.0, 0.25], [3.0, 0.0, -0.5]], dtype=np.float32)


def test_each_type_reads_back_as_float32(tmp_path: Path) -> None:
    """Half precision of both kinds too; in memory of its own, which may be written to."""
    path = tmp_path / "model.safetensors"
    upper_half = (NUMBERS.view(np.uint32) >> 16).astype(np.uint16)
    tensors = {"full": NUMBERS, "half": NUMBERS.astype(np.float16), "brain": upper_half}
    write_safetensors(path, tensors, {"brain": "BF16"})
    header = read_header(path)
    assert list(header) == ["full", "half", "brain"]
    for stored in header.values():
        found = read_tensor(path, stored)
        assert (found.dtype, found.flags.writeable) == (np.float32, True)
        np.testing.assert_array_equal(found, NUMBERS)


def test_a_scalar_and_an_empty_tensor_are_tensors(tmp_path: Path) -> None:
    """Their shapes have no lengths, or one of 0."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"one": np.array(2.0, dtype=np.float32), "none": np.empty((0, 4), dtype=np.float32)})
    shapes = {name: read_tensor(path, stored).shape for name, stored in read_header(path).items()}
    assert shapes == {"one": (), "none": (0, 4)}


def file_of(header: object, body: bytes = b"\0" * 8) -> bytes:
    """A file with this header."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its header would have 0 bytes"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "the file has 10"),
        (file_of(b"{{"), "no readable safetensors file"),
        (file_of([]), "no readable safetensors file"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}), "data_offsets"),
        (file_of({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}), "does not fill its 8 bytes"),
        (file_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}), "a lies outside the file"),
        (file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}), "a lies outside the file"),
        (file_of({"a": {"dtype": "I64", "shape": [1], "data_offsets": [8, 0]}}), "a lies outside the file"),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    """Nothing outside the tensors is read, whatever the header says."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        read_header(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigurationError, match=r"model\.safetensors is no readable"):
        read_header(tmp_path / "model.safetensors")
