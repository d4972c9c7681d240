"""A criterion as a file: TOML with the fields of the contract, a rubric where it names no kind."""

import json
import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from headrace_schemas import Criterion
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe
from headrace_workers.features.judging.usable import check_criteria

_LONGEST: Final = 100_000  # bytes


class _File(Value):
    """A criterion as a job has it, so that errors have the same words."""

    criteria: tuple[Criterion]


def read_criterion(path: Path) -> Criterion:
    """Return the criterion in a file; without a name of its own, the file's. Raise ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST:
        raise ConfigurationError(f"{path} has more than {_LONGEST:,} bytes, which no criterion needs")
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: byte {error.start} cannot be read") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    criterion = {"name": path.stem, "criterion": "rubric", **table}
    document = json.dumps({"criteria": [criterion]}, default=str).encode()
    try:
        found = _File.model_validate_json(document, strict=True).criteria
        check_criteria(found)
    except (ValidationError, InvalidRecord) as error:
        why = describe(error, document) if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(f"{path}: {why.replace('criteria.0.', '')}") from None
    return found[0]
