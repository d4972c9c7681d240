"""The run file, in TOML: the dataset, the variants, the criteria, and the smallest difference that counts."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from headrace_schemas import (
    Bleu,
    ChrF,
    Cosine,
    Criterion,
    ExactMatch,
    FuzzyMatch,
    Gleu,
    Pairwise,
    Rouge,
    Sampling,
    TokenF1,
)
from headrace_schemas.errors import Category, HeadraceError, InvalidRecord
from headrace_schemas.grounding import WithoutPassages
from headrace_schemas.limits import (
    INTEGRAL,
    MAX_CRITERIA,
    Alias,
    Key,
    Label,
    ModelName,
    Name,
    NonEmptyText,
    Tenant,
    Text,
)
from headrace_schemas.model import Value
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.reasons import describe
from headrace_schemas.recall import SECONDS_OF_A_YEAR, CacheMode
from headrace_workers.core.json_lines import listed
from headrace_workers.core.templates import Template
from headrace_workers.features.judging.admission import check_criteria


class WrongRun(HeadraceError):
    """A run file that says something else than it may; the message has the file, the field and what it may be."""

    category = Category.INVALID


class WrongRows(HeadraceError):
    """Rows of a dataset that do not do; the message has a line `file:line: reason` for each."""

    category = Category.INVALID

    def __init__(self, problems: Sequence[str], count: int | None = None) -> None:
        count = len(problems) if count is None else count
        noun = "row is" if count == 1 else "rows are"
        super().__init__(f"{count:,} {noun} wrong, and nothing was asked:\n{listed(problems, count)}")


MAX_VARIANTS: Final = 16
MAX_REPEATS: Final = 100
_LONGEST_FILE: Final = 1_000_000  # bytes
_PLACE: Final = re.compile(r"\b(variants|criteria)\.(\d+)")


_OF_APPLICATIONS: Final = {"name", "application", "variables", "sampling"}  # fields that such a variant may give


class Variant(Value):
    """One way of asking: a model and a prompt, or an application. The first of a run is what the others are compared
    with.
    """

    name: Label
    model: Alias | None = None
    application: ModelName | None = None  # NAME@VERSION; a row's fields are its variables
    variables: tuple[Name, ...] | None = None  # the fields that are; by default all that have no other use
    prompt: NonEmptyText | None = None
    system: NonEmptyText | None = None
    sampling: Sampling = Sampling()
    cache: CacheMode = CacheMode.OFF  # a deployment may have another default: here answers are new unless it is said
    max_age: Annotated[float | None, Field(gt=0, le=SECONDS_OF_A_YEAR)] = None
    knowledge: Alias | None = None
    without_passages: WithoutPassages | None = None
    output: OutputFormat | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.application is None:
            if self.model is None or self.prompt is None:
                raise ValueError("prompt: is missing: give a prompt, or an `application` that has one")
        elif given := sorted(self.model_fields_set - _OF_APPLICATIONS):
            raise ValueError(f"{given[0]}: the application sets it: leave it out, or name a model in its place")
        return self

    @property
    def asked(self) -> str:
        """The model, or the application, that answers."""
        return self.application or self.model or ""

    @field_validator("prompt", "system")
    @classmethod
    def _with_placeholders(cls, text: str | None) -> str | None:
        if text is not None:
            Template.parse(text)
        return text


class Run(Value):
    """A whole run."""

    name: Key
    dataset: NonEmptyText
    id: Key | None = None
    cluster: Key | None = None
    reference: Text | None = None
    primary: Label
    margin: Annotated[float, Field(gt=0, le=1)]
    level: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS), INTEGRAL] = 1
    tenant: Tenant | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=MAX_VARIANTS)]
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1, max_length=MAX_CRITERIA)]

    @field_validator("reference")
    @classmethod
    def _with_placeholders(cls, text: str | None) -> str | None:
        if text is not None:
            Template.parse(text)
        return text

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for what, names in (
            ("variants", [variant.name for variant in self.variants]),
            ("criteria", self.criterion_names),
        ):
            if twice := sorted({name for name in names if list(names).count(name) > 1}):
                raise ValueError(f"{what}: two are called {twice[0]!r}: give each a `name` of its own")
        if self.reference is None and (compares := self._comparing()):
            raise ValueError(
                f"reference: is missing, and {compares} compares with it: say which field holds the right answer, such "
                'as reference = "{{answer}}"'
            )
        if self.primary not in self.criterion_names:
            raise ValueError(f"primary: is {self.primary!r}; it must be one of {', '.join(self.criterion_names)}")
        return self

    def _comparing(self) -> str | None:
        """Return the first criterion that needs a reference, or None."""
        compares = ExactMatch | TokenF1 | ChrF | Bleu | Gleu | Rouge | FuzzyMatch | Cosine | Pairwise
        return next((criterion.key for criterion in self.criteria if isinstance(criterion, compares)), None)

    @property
    def criterion_names(self) -> tuple[str, ...]:
        """The names of the criteria, in order."""
        return tuple(criterion.key for criterion in self.criteria)

    @property
    def primary_place(self) -> int:
        """The place of the criterion that decides."""
        return self.criterion_names.index(self.primary)


def read_run(path: Path, default_model: str) -> Run:
    """Return the run that a file describes. `default_model` is for variants that name none. Raise WrongRun."""
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise WrongRun(
                f"{path}: it has more than {_LONGEST_FILE:,} bytes: a run file names its dataset, it has none"
            )
        raw = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise WrongRun(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongRun(f"{path}: it is no UTF-8 (byte {error.start + 1})") from error
    except tomllib.TOMLDecodeError as error:
        raise WrongRun(f"{path}: it is no TOML: {error}") from error
    filled = _filled(raw, path, default_model)
    document = json.dumps(filled, default=str).encode()
    try:
        run = Run.model_validate_json(document, strict=True)
        check_criteria(run.criteria)
    except (ValidationError, InvalidRecord) as error:
        problem = describe(error, document) if isinstance(error, ValidationError) else str(error)
        raise WrongRun(f"{path}: {_PLACE.sub(lambda found: _numbered(found, filled), problem)}") from None
    return run


def _filled(raw: dict[str, Any], path: Path, default_model: str) -> dict[str, Any]:
    """Return the file's content with defaults: `[common]` in each variant, prompts from files, names of criteria."""
    filled = {"name": path.stem, **raw}
    common = filled.pop("common", {})
    if not isinstance(common, dict):
        raise WrongRun(f"{path}: common: must be a table: write [common]")
    for name in ("variants", "criteria"):
        tables = filled.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise WrongRun(f"{path}: {name}: must be tables: write [[{name}]] above each")
    common = _with_texts(common, path, "common")
    own = [
        _with_texts(variant, path, f"variants {place}") for place, variant in enumerate(filled.get("variants", []), 1)
    ]
    filled["variants"] = [_variant(common, entry, default_model) for entry in own]
    filled["criteria"] = [
        _criterion(criterion, path, place) for place, criterion in enumerate(filled.get("criteria", []), 1)
    ]
    return filled


def _variant(common: Mapping[str, Any], own: Mapping[str, Any], default_model: str) -> dict[str, Any]:
    if "application" in own:
        common = {name: value for name, value in common.items() if name in _OF_APPLICATIONS}
    else:
        common = {"model": default_model, **common}
    filled = {**common, **own}
    if isinstance(common.get("sampling"), dict) and isinstance(own.get("sampling"), dict):
        filled["sampling"] = {**common["sampling"], **own["sampling"]}
    return filled


def _criterion(table: Mapping[str, Any], path: Path, place: int) -> Mapping[str, Any]:
    """Return the criterion itself, or the one in its `file`, whose default name is the file's."""
    if "file" not in table:
        return table
    if len(table) > 1:
        raise WrongRun(f"{path}: criteria {place}: file stands alone: what it asks for stands in the file")
    text = _text_of(path, f"criteria {place}.file", table["file"])
    file = path.parent / table["file"]
    try:
        return {"name": file.stem, "criterion": "rubric", **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise WrongRun(f"{file}: it is no TOML: {error}") from error


def _with_texts(table: Mapping[str, Any], path: Path, where: str) -> dict[str, Any]:
    """Return the table with the contents of its `prompt_file` and `system_file`."""
    filled = dict(table)
    for field in ("prompt", "system"):
        file = filled.pop(f"{field}_file", None)
        if file is None:
            continue
        if field in filled:
            raise WrongRun(f"{path}: {where}: both {field} and {field}_file are given: give one")
        filled[field] = _text_of(path, f"{where}.{field}_file", file)
    return filled


def _text_of(path: Path, field: str, file: object) -> str:
    if not isinstance(file, str):
        raise WrongRun(f"{path}: {field}: must be text: the name of a file beside this one")
    try:
        return (path.parent / file).read_bytes().decode()
    except OSError as error:
        raise WrongRun(f"{path}: {field}: {path.parent / file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongRun(f"{path}: {field}: {file} is no UTF-8 (byte {error.start + 1})") from error


def _numbered(found: "re.Match[str]", filled: Mapping[str, Any]) -> str:
    """Return `variants.1` as people count, and with its name where it has one."""
    kind, place = found[1], int(found[2])
    tables = filled[kind]
    name = tables[place].get("name", tables[place].get("criterion")) if place < len(tables) else None
    return f"{kind} {place + 1}" + (f" ({name})" if isinstance(name, str) and name else "")
