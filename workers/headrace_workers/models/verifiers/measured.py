"""The results of measurements of verifiers and judges on this machine: a verifier that was no better than chance is not
loaded again, and a model that failed its probe gives no scores.
"""

import json
from pathlib import Path
from typing import Any, Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.private_files import private_folder, write_atomically
from headrace_workers.models.verifiers.verifier import Relation

_FILE: Final = "verifiers.json"  # in the home
_JUDGE: Final = "judge"


def note(home: Path, name: str, relation: Relation, *, is_chance: bool, sentence: str) -> None:
    """Write what a verifier was measured to be; a later measurement of the same relation replaces it."""
    _write(home, name, relation.value, {"is_chance": is_chance, "sentence": sentence})


def note_probe(home: Path, model: str, fault: str | None) -> None:
    """Write why a model failed its probe as a judge; None if it did not. A later probe replaces it."""
    _write(home, model, _JUDGE, {"fault": fault})


def _write(home: Path, name: str, measured: str, result: dict[str, Any]) -> None:
    found = _read(home)
    found.setdefault(name, {})[measured] = result
    private_folder(home)
    write_atomically(home / _FILE, json.dumps(found, indent=2, sort_keys=True))


def refuse_chance(home: Path, name: str | None, relation: Relation) -> None:
    """Raise ConfigurationError for a verifier that was measured here, and was no better than chance."""
    said = _read(home).get(name or "", {}).get(relation.value)
    if said is not None and said["is_chance"]:
        raise ConfigurationError(
            f"{name} was measured as a verifier, and is not shown to be better than chance: {said['sentence']}. Name "
            f"another one, or measure it again on other pairs ({home / _FILE} keeps the last measurement)"
        )


def refuse_untrusted(home: Path, judge: str | None) -> None:
    """Raise ConfigurationError for a judge that failed its last probe here."""
    if judge is not None and (fault := judge_fault(home, judge)) is not None:
        raise ConfigurationError(
            f"HEADRACE_JUDGE_MODEL is {judge}, which failed `headrace bench judge`: {fault}. Name another "
            f"model, or set HEADRACE_ACCEPT_UNTRUSTED=true ({home / _FILE} keeps the last probe)"
        )


def judge_fault(home: Path, model: str) -> str | None:
    """Return why a model failed its last probe as a judge; None if it did not, or was not probed here."""
    fault: str | None = _read(home).get(model, {}).get(_JUDGE, {}).get("fault")
    return fault


def no_fault(_model: str) -> str | None:
    """Return None for every model."""
    return None


def _read(home: Path) -> dict[str, dict[str, Any]]:
    try:
        found: dict[str, dict[str, Any]] = json.loads((home / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{home / _FILE} cannot be read: {error}") from error
    return found
