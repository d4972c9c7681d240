"""The recipe of a tuned model, in TOML: its base, its data and how it is trained.

A recipe and the bytes that it names decide the id of the run (`Plan.id`): the same recipe goes on with the same run.
"""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_schemas.limits import Alias, Tenant
from headrace_schemas.model import Value
from headrace_schemas.reasons import first_problem
from headrace_schemas.tuning import Lora, Quantizations
from headrace_workers.core.toml_file import Keys, fault_at, line_of
from headrace_workers.features.tuning.admission import EPOCHS
from headrace_workers.models.convert import weights_sha256
from headrace_workers.models.convert_gguf import gguf_parts
from headrace_workers.models.quantization import check_quantization
from headrace_workers.models.registry import TUNED, ModelCard, load_card, may_name, sha256_of

MAX_RECIPE_BYTES: Final = 100_000
MAX_ALIAS: Final = 64
BASE_LEARNING_RATE: Final = 2e-4  # usual for LoRA; a job multiplies it
SOURCES_FILE: Final = "tuning.toml"  # in the home: what each base was made of
_ID_LENGTH: Final = 8
_CARD: Final = "card.json"  # of a data set that `headrace dataset export` wrote, and its two sides
_TRAIN, _HELD_OUT = "train.jsonl", "held-out.jsonl"

_Path = Annotated[str, Field(min_length=1, max_length=4_096)]


class Training(Value):
    """How the matrices are trained: AdamW with a linear schedule. `patience` counts evaluations without a better
    held-out loss until training stops; 0 never stops it early.
    """

    epochs: Annotated[int, Field(ge=1, le=50)] = EPOCHS
    batch_size: Annotated[int, Field(ge=1, le=1_024)] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = BASE_LEARNING_RATE
    max_length: Annotated[int, Field(ge=8, le=131_072)] = 1_024
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    patience: Annotated[int, Field(ge=0, le=100)] = 2


class Recipe(Value):
    """A recipe as it is written. `difference` is the smallest change of the share of right answers that the held-out
    examples must be able to show; `held_out` is a share of the data where `held_out_data` names no file of its own.
    The model belongs to the `tenant` alone, where one is named; it always belongs to the tenant of its base.
    """

    base: Alias
    source: _Path
    data: _Path
    held_out_data: _Path | None = None
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    suffix: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,17}$")] = "tuned"
    difference: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    tenant: Tenant | None = None
    quantizations: Quantizations = ("int8",)
    lora: Lora = Lora()
    training: Training = Training()


_TABLES: Final[dict[Keys, type[Value]]] = {(): Recipe, ("lora",): Lora, ("training",): Training}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe whose files were found and hashed: the base's card and source, the data and its licences."""

    recipe: Recipe
    base: ModelCard
    source: Path
    data: Path
    held_out: Path | None
    sha256: dict[str, str]  # of the source and the data
    licences: dict[str, str]  # of the base, and of the models that wrote the data
    job_id: str | None = None  # that runs it; None by hand

    @property
    def tenant(self) -> str:
        """Return the tenant that the model belongs to, "" for all."""
        return self.base.tenant or self.recipe.tenant or ""

    @property
    def id(self) -> str:
        """Return the id of the run."""
        values: list[Any] = [
            self.recipe.model_dump(mode="json", exclude={"source", "data", "held_out_data"}),
            self.sha256,
            *([] if self.job_id is None else [self.job_id]),
        ]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_ID_LENGTH]

    def alias(self, quantization: str) -> str:
        """Return the name that jobs ask for this model by. The first format of the recipe has the plain name."""
        more = "" if quantization == self.recipe.quantizations[0] else f"-{quantization.replace('_', '-')}"
        end = f"-{self.recipe.suffix}-{self.id}{more}"
        return f"{TUNED}{self.base.alias[: MAX_ALIAS - len(TUNED) - len(end)]}{end}"


def read_recipe(path: Path) -> Recipe:
    """Return a recipe. Raise ConfigurationError, which names the line and what is wrong in it."""
    text, document = _read_toml(path)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        place, words = first_problem(error)
        keys: Keys = tuple(place or ())
        if keys and error.errors()[0]["type"] == "extra_forbidden":
            words += f"; known are {', '.join(_TABLES[keys[:-1]].model_fields)}"
        raise ConfigurationError(fault_at(str(path), line_of(text, keys), keys, words)) from None


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of a file and what it says. Raise ConfigurationError."""
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_RECIPE_BYTES:
            raise ConfigurationError(f"{path.name} has {len(raw):,} bytes; the limit is {MAX_RECIPE_BYTES:,}")
        text = raw.decode("utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path.name} is no TOML: {error}") from None


def plan_of(path: Path, home: Path) -> Plan:
    """Return the plan of a recipe file. Raise ConfigurationError, or UnknownModel, for what cannot be trained."""
    recipe = read_recipe(path)
    held_out = None if recipe.held_out_data is None else _at(path, recipe.held_out_data)
    return planned(recipe, home, _at(path, recipe.source), _at(path, recipe.data), held_out)


def planned(
    recipe: Recipe, home: Path, source: Path, data: Path, held_out: Path | None, job_id: str | None = None
) -> Plan:
    """Return the plan of a recipe, with the places of what it names, that is run by a job or by hand. Raise
    ConfigurationError, or UnknownModel, for what cannot be trained.
    """
    for quantization in recipe.quantizations:
        check_quantization(quantization)
    base = load_card(home, recipe.base)
    if recipe.tenant is not None and not may_name(recipe.tenant, base):
        raise UnknownModel(f"tenant {recipe.tenant} has no model {recipe.base!r}")
    if base.kind != "generator" or base.engine != "ctranslate2":
        raise ConfigurationError(f"{recipe.base} cannot be tuned: it is no generator that runs here with CTranslate2")
    source_sha256 = _checked_source(base, source)
    licences = {base.alias: base.licence}
    if data.is_dir():
        if held_out is not None:
            raise ConfigurationError(f"{data} has a held-out side already: remove held_out_data from the recipe")
        licences |= _licences(data)
        data, held_out = data / _TRAIN, data / _HELD_OUT
    for model, licence in licences.items():
        _check_licence(model, licence)
    files = {"data": data} if held_out is None else {"data": data, "held_out": held_out}
    for file in files.values():
        if not file.is_file():
            raise ConfigurationError(f"{file} is no file: name a JSONL file of chats, or a folder of `dataset export`")
    sha256 = {"source": source_sha256, **{name: sha256_of(file) for name, file in files.items()}}
    return Plan(
        recipe=recipe, base=base, source=source, data=data, held_out=held_out, sha256=sha256, licences=licences,
        job_id=job_id,
    )  # fmt: skip


def source_of(home: Path, base: str) -> Path:
    """Return the file or folder that a base was made of, which the file of sources of this home names. Raise
    ConfigurationError without one.
    """
    path = home / SOURCES_FILE
    sources = _read_toml(path)[1].get("sources") if path.exists() else None
    named = sources.get(base) if isinstance(sources, dict) else None
    if not isinstance(named, str) or not named:
        raise ConfigurationError(
            f"{base} cannot be tuned: nobody says what it was made of. Name its GGUF file or Transformers folder under "
            f'[sources] in {SOURCES_FILE} of HEADRACE_HOME: "{base}" = "PATH"'
        )
    return _at(path, named)


def _at(recipe: Path, written: str) -> Path:
    """Return the path that a recipe means: relative paths begin at the recipe's folder."""
    return recipe.parent / Path(written).expanduser()


def _checked_source(base: ModelCard, source: Path) -> str:
    """Return the SHA-256 of the weights. Raise ConfigurationError unless the base in the catalogue was made of them."""
    if not source.exists():
        raise ConfigurationError(
            f"{source.name} does not exist: name the GGUF file or folder that {base.alias} was made of"
        )
    text = weights_sha256(source) if source.is_dir() else sha256_of(*gguf_parts(source))
    expected = base.source.rpartition("#sha256=")[2] if "#sha256=" in base.source else ""
    if not expected:
        raise ConfigurationError(
            f"{base.alias} does not say which weights it was made of ({base.source}): convert {source.name} again with "
            f"`headrace models convert {source.name} --alias {base.alias}`"
        )
    if text != expected:
        raise ConfigurationError(
            f"{source.name} is not what {base.alias} was made of: its SHA-256 begins with {text[:12]}, and the card "
            f"of {base.alias} says {expected[:12]}"
        )
    return text


def _licences(folder: Path) -> dict[str, str]:
    """Return the licences of the models that wrote a data set. Check that its sides are as they were exported."""
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        digests, models = dict(card["sha256"]), dict(card["models"])
        licences = {str(name): str(entry["licence"]) for name, entry in models.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder / _CARD} cannot be read: export the data set again ({error!r})") from error
    for name in (_TRAIN, _HELD_OUT):
        if not (folder / name).is_file() or sha256_of(folder / name) != digests.get(name):
            raise ConfigurationError(f"{folder / name} is not as it was exported: its SHA-256 is not the card's")
    return licences


def _check_licence(model: str, licence: str) -> None:
    """Raise ConfigurationError for a licence that allows no derived work."""
    words = licence.lower().replace("_", "-").split("-")
    if "nd" in words or licence.lower() in ("proprietary", "all-rights-reserved"):
        raise ConfigurationError(f"the licence of {model} is {licence}, which allows no model that is derived from it")
