"""The items of a run: rows of a JSON lines, CSV or Parquet file, whole in memory, with the digest of the file."""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_TEXT
from headrace_workers.core.json_lines import BOM, LineTooLong, NoJSON, lines, parsed
from headrace_workers.features.evals.run_errors import WrongRows, WrongRun

MAX_BYTES: Final = 512 * 1024**2
MAX_ROWS: Final = 500_000
_LONGEST_LINE: Final = 4 * 1024**2  # bytes
_LONGEST_ID: Final = 200  # characters


@dataclass(frozen=True, slots=True)
class Item:
    """A row: its id, its place in the file, and its fields. Items of one `cluster` vary together."""

    id: str
    line: int
    row: Mapping[str, Any]
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """All items of a file, in its order. `digest` is the file's SHA-256, in hexadecimal."""

    path: Path
    digest: str
    items: tuple[Item, ...]

    def where(self, item: Item) -> str:
        """Return the item's place, for messages."""
        return f"{self.path}:{item.line}"


def read_dataset(path: Path, id_field: str | None = None, cluster_field: str | None = None) -> Dataset:
    """Return the dataset at `path`. An item's id is the field that is named for it, else its line.

    WrongRows names each row that does not do; WrongRun, ConfigurationError where nothing can be read.
    """
    content = _content(path)
    items: list[Item] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for line, row in _rows(path, content):
        if isinstance(row, str):
            problems.append(f"{path}:{line}: {row}")
            continue
        if len(items) >= MAX_ROWS:
            raise WrongRun(f"{path}: it has more than {MAX_ROWS:,} rows: split it")
        try:
            name = str(line) if id_field is None else _named(row, id_field)
            cluster = None if cluster_field is None else _named(row, cluster_field)
        except ValueError as error:
            problems.append(f"{path}:{line}: {error}")
            continue
        if (first := seen.setdefault(name, line)) != line:
            problems.append(f"{path}:{line}: `{id_field}` is {name!r} as in line {first}: ids must differ")
        items.append(Item(name, line, row, cluster))
    if problems:
        raise WrongRows(problems)
    if not items:
        raise WrongRun(f"{path} has no rows: there is nothing to evaluate")
    return Dataset(path, hashlib.sha256(content).hexdigest(), tuple(items))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WrongRun(f"{path}: it has more than {MAX_BYTES // 1024**2} MiB: split it")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _named(row: Mapping[str, Any], field: str) -> str:
    if field not in row:
        raise ValueError(f"it lacks `{field}`; it has {', '.join(f'`{name}`' for name in row) or 'nothing'}")
    value = row[field]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise ValueError(f"`{field}` must be a text or a whole number, and not empty")
    if len(name := str(value)) > _LONGEST_ID or "\x00" in name:
        raise ValueError(f"`{field}` has more than {_LONGEST_ID} characters, or NUL")
    return name


def _rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each row with its line, or with the reason why it is invalid."""
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from _json_rows(path, content)
        case ".csv":
            yield from _csv_rows(path, content)
        case ".parquet":
            yield from _parquet_rows(path)
        case other:
            raise WrongRun(f"{path}: a dataset ends in .jsonl, .csv or .parquet, not in {other or 'nothing'}")


def _json_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        for line in lines(io.BytesIO(content), _LONGEST_LINE):
            try:
                row = parsed(line.text)
            except NoJSON as error:
                yield line.number, str(error)
                continue
            yield line.number, row if isinstance(row, dict) else 'it must be a JSON object, such as {"question": …}'
    except LineTooLong as error:
        raise WrongRows([f"{path}:{error.number}: it has more than {_LONGEST_LINE:,} bytes"]) from None


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the rows of a CSV file. Cells are texts; the first row has the names of the fields."""
    try:
        text = content.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise WrongRun(f"{path} is no UTF-8 (byte {error.start + 1}): save it as UTF-8") from None
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    head: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if head is None:
                head = _head(path, cells)
            elif len(cells) == len(head):
                yield start, dict(zip(head, cells, strict=True))
            else:
                yield start, f"it has {len(cells)} cells, and the first line names {len(head)}"
    except csv.Error as error:
        raise WrongRows([f"{path}:{line}: it is no CSV: {error}"]) from None


def _head(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "" in names or len(set(names)) < len(names):
        raise WrongRun(f"{path}:1: the first line must name each column, and no two alike")
    return names


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            f"{path}: Parquet is read with pyarrow, which is not here: `pip install pyarrow`, or save it as JSON lines"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise WrongRun(f"{path} is no Parquet that can be read: {str(error)[:200]}") from None
    if table.num_rows > MAX_ROWS:
        raise WrongRun(f"{path}: it has more than {MAX_ROWS:,} rows: split it")
    yield from enumerate(table.to_pylist(), start=1)
