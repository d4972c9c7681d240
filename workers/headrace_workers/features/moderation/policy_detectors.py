"""Detectors that a policy file names: an endpoint like OpenAI's, a guard, a model that finds names, and the head for
prompt injection.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.limits import Alias
from headrace_workers.features.moderation.name_model import NameModel
from headrace_workers.features.moderation.openai_endpoint import Endpoint
from headrace_workers.features.moderation.policy_tables import Wrong, only, read_path, read_switch, table_of
from headrace_workers.features.moderation.toml_lines import Keys

_ALIAS: Final[TypeAdapter[str]] = TypeAdapter(Alias)
_OF_OPENAI: Final = frozenset({"url", "model", "timeout"})
_TIMEOUT: Final = 5.0  # seconds
_LONGEST_TIMEOUT: Final = 60.0


class NamedDetectors(NamedTuple):
    """Detectors that a policy file names; None, or False, where it does not."""

    openai: Endpoint | None = None
    guard: str | None = None
    names: NameModel | None = None
    injection_head: bool = False


def read_detectors(document: Mapping[str, Any], folder: Path) -> NamedDetectors:
    """Return the detectors that the document names. Paths are relative to `folder`. Raise Wrong."""
    keys: Keys = ("detectors",)
    table = table_of(keys, document.get("detectors", {}))
    only(keys, table, frozenset({"openai", "guard", "names", "injection_head"}))
    return NamedDetectors(
        _endpoint((*keys, "openai"), table["openai"]) if "openai" in table else None,
        _guard((*keys, "guard"), table["guard"]) if "guard" in table else None,
        _names((*keys, "names"), table["names"], folder) if "names" in table else None,
        read_switch(keys, table, "injection_head", False),
    )


def _names(keys: Keys, value: object, folder: Path) -> NameModel:
    table = table_of(keys, value)
    only(keys, table, frozenset({"model", "everywhere"}))
    return NameModel(read_path(keys, table, "model", folder), read_switch(keys, table, "everywhere", False))


def _endpoint(keys: Keys, value: object) -> Endpoint:
    table = table_of(keys, value)
    only(keys, table, _OF_OPENAI)
    url, model, timeout = table.get("url"), table.get("model"), table.get("timeout", _TIMEOUT)
    if not isinstance(url, str) or not _is_http(url):
        raise Wrong((*keys, "url"), f"is {url!r}, but must be an http(s) URL without a password in it")
    if not isinstance(model, str) or not model or len(model) > 200 or not model.isprintable():
        raise Wrong((*keys, "model"), "must name one of the endpoint's models")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST_TIMEOUT:
        raise Wrong((*keys, "timeout"), f"is {timeout!r}, but must be seconds, at most {_LONGEST_TIMEOUT:g}")
    return Endpoint(url, model, float(timeout))


def _guard(keys: Keys, value: object) -> str:
    table = table_of(keys, value)
    only(keys, table, frozenset({"model"}))
    try:
        return _ALIAS.validate_python(table.get("model"))
    except ValidationError:
        raise Wrong((*keys, "model"), "must be the alias of a model (`headrace models list`)") from None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.password is None
    except ValueError:
        return False
