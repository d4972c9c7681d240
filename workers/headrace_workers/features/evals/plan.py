"""A run as it is pinned before anything is asked: jobs by item, repeat and variant, so that changes over time hit all
variants alike.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from headrace_schemas import GenerationJob, Message
from headrace_schemas.codec import check_size, encode_given
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.reasons import describe
from headrace_workers.core.json_lines import BOM, LineTooLong, NoJSON, lines, parsed
from headrace_workers.core.templates import NoSuchField, Template
from headrace_workers.features.evals.run_file import Run, Variant, WrongRows, WrongRun

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
    """Return the dataset at `path`. Raise WrongRows, which names them, WrongRun and ConfigurationError."""
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


MAX_JOBS: Final = 1_000_000
_MAX_PROBLEMS: Final = 1_000  # a file in which every row is wrong is reported soon
_SEEDS: Final = 2**32


@dataclass(frozen=True)
class Plan:
    """A run with its items. `salt` sets it apart from the same run at another time."""

    run: Run
    dataset: Dataset
    tenant: str
    salt: str = ""

    def __post_init__(self) -> None:
        if self.jobs > MAX_JOBS:
            raise WrongRun(
                f"{len(self.dataset.items):,} items × {len(self.run.variants)} variants × {self.run.repeats} repeats "
                f"are more than {MAX_JOBS:,} jobs: take fewer items or variants"
            )

    @property
    def jobs(self) -> int:
        """The number of jobs."""
        return len(self.dataset.items) * self.run.repeats * len(self.run.variants)

    @cached_property
    def pinned(self) -> dict[str, Any]:
        """All that says what the run is, with the digests of its dataset and of its criteria."""
        run = self.run.model_dump(mode="json")
        for variant in run["variants"]:
            for name in ("application", "variables"):  # runs without them were pinned before there were any
                if variant[name] is None:
                    del variant[name]
        criteria = json.dumps(run["criteria"], sort_keys=True)
        return {
            "run": run,
            "dataset_sha256": self.dataset.digest,
            "criteria_sha256": hashlib.sha256(criteria.encode()).hexdigest(),
            "tenant": self.tenant,
            "salt": self.salt,
        }

    @cached_property
    def identity(self) -> str:
        """The digest of what is pinned, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.pinned, sort_keys=True).encode()).hexdigest()

    def lines(self) -> Iterator[bytes]:
        """Yield the jobs as JSON lines. At the end raise WrongRows, which names each row that makes no job."""
        problems: list[str] = []
        templates = [_Templates.of(variant) for variant in self.run.variants]
        reference = None if self.run.reference is None else Template.parse(self.run.reference)
        for number, item in enumerate(self.dataset.items):
            for repeat in range(self.run.repeats):
                for place, (variant, template) in enumerate(zip(self.run.variants, templates, strict=True)):
                    line = self.line_of(number, repeat, place)
                    try:
                        job = self._job(item, variant, template, reference, line, repeat)
                        value = encode_given(job)
                        check_size(value)
                    except ValidationError as error:  # before ValueError, which it is
                        problems.append(f"{self.dataset.where(item)}: variant {variant.name}: {describe(error)}")
                    except (ValueError, InvalidRecord) as error:
                        problems.append(f"{self.dataset.where(item)}: variant {variant.name}: {error}")
                    else:
                        yield b'{"kind":"generation",' + value[1:] + b"\n"
                if problems:  # of the first repeat; the others are wrong alike
                    break
            if len(problems) >= _MAX_PROBLEMS:
                break
        if problems:
            raise WrongRows(problems)

    def line_of(self, item: int, repeat: int, variant: int) -> int:
        """Return the number of a job's line, from 1; `place_of` is the inverse."""
        return (item * self.run.repeats + repeat) * len(self.run.variants) + variant + 1

    def key_of(self, line: int) -> str:
        """Return the idempotency key of a job. The job's id follows from it and the tenant."""
        return f"evaluation-{self.identity[:40]}-{line}"

    def _job(
        self, item: Item, variant: Variant, template: "_Templates", reference: Template | None, line: int, repeat: int
    ) -> GenerationJob:
        sampling = variant.sampling
        if sampling.seed is not None and repeat:  # the same seed would give the same answer again
            sampling = sampling.model_copy(update={"seed": (sampling.seed + repeat) % _SEEDS})
        if variant.application is None:
            asked = self._asked_of_model(item, variant, template)
        else:
            asked = self._asked_of_application(item, variant, reference)
        return GenerationJob(
            **asked,
            **({"sampling": sampling} if sampling.model_fields_set else {}),
            tenant=self.tenant,
            idempotency_key=self.key_of(line),
            lane=Lane.BATCH,
            reference=None if reference is None else _filled(reference, item, "reference"),
            criteria=self.run.criteria,
            metadata={
                "evaluation": self.identity[:12],
                "item": item.id,
                "variant": variant.name,
                "dataset_sha256": self.pinned["dataset_sha256"],
                "criteria_sha256": self.pinned["criteria_sha256"],
            },
        )

    def _asked_of_application(self, item: Item, variant: Variant, reference: Template | None) -> dict[str, Any]:
        """Return the fields of a job that asks an application: its variables are fields of the row."""
        names = variant.variables
        if names is None:
            others = {self.run.id, self.run.cluster, *(() if reference is None else reference.fields)}
            names = tuple(name for name in item.row if name not in others)
        return {
            "application": variant.application,
            "variables": {name: item.row[name] for name in names if item.row.get(name) is not None},
        }

    @staticmethod
    def _asked_of_model(item: Item, variant: Variant, template: "_Templates") -> dict[str, Any]:
        """Return the fields of a job that asks a model."""
        assert template.prompt is not None  # noqa: S101 - a variant without an application has one
        prompt = _filled(template.prompt, item, "prompt")
        fields: dict[str, Any] = {"prompt": prompt}
        if template.system is not None:
            system = Message(role="system", content=_filled(template.system, item, "system"))
            fields = {"messages": (system, Message(role="user", content=prompt))}
        return {
            **fields,
            "model": variant.model,
            "cache": variant.cache,
            "max_age": variant.max_age,
            "knowledge": variant.knowledge,
            "without_passages": variant.without_passages,
            "output": variant.output,
        }


@dataclass(frozen=True, slots=True)
class _Templates:
    prompt: Template | None
    system: Template | None

    @classmethod
    def of(cls, variant: Variant) -> "_Templates":
        return cls(*(None if text is None else Template.parse(text) for text in (variant.prompt, variant.system)))


def _filled(template: Template, item: Item, what: str) -> str:
    try:
        return template.fill(item.row)
    except NoSuchField as error:
        raise ValueError(f"the {what} cannot be filled: {error}") from None
