"""A policy as a TOML file has it: read, checked, and refused with the line of the mistake."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Alias, Tenant
from headrace_schemas.moderation import Action
from headrace_workers.core.toml_file import Keys, line_of
from headrace_workers.features.moderation.leak import SHORTEST
from headrace_workers.features.moderation.name_model import NameModel
from headrace_workers.features.moderation.openai_endpoint import Endpoint
from headrace_workers.features.moderation.policy import ACTIONS, REGENERATE, Policy, Rule

_ALIAS: Final[TypeAdapter[str]] = TypeAdapter(Alias)
_OF_OPENAI: Final = frozenset({"url", "model", "timeout"})
_TIMEOUT: Final = 5.0  # seconds
_LONGEST_TIMEOUT: Final = 60.0
MAX_FILE_BYTES: Final = 1_000_000
MAX_TENANTS: Final = 1_000
MAX_ALLOWED: Final = 1_000  # entries of one category's allow-list
MAX_ENTRY: Final = 500  # characters of one
_MOST_DETECTORS: Final = 9
_LONGEST_STRETCH: Final = 10_000
_SHAPE: Final = 'must be an action, or { action = "…", min_score = 0.0 to 1.0, detectors = 1 to 9 }'
_OF_ONE: Final = frozenset({"categories", "allow", "blocklist", "screen", "trust_system", "canary", "verbatim"})
_TENANT: Final[TypeAdapter[str]] = TypeAdapter(Tenant)


def load_policy(path: Path | None = None) -> Policy:
    """Return the policy in a TOML file, over the default policy. Paths are relative to it. Raise ConfigurationError."""
    if path is None:
        return _default()
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"moderation policy {path} has {size} bytes; at most {MAX_FILE_BYTES} are taken. "
                "Terms and patterns belong into a blocklist"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"moderation policy {path} cannot be read: {error}") from error
    return _parse(text, str(path), _default(), path.parent)


@cache
def _default() -> Policy:
    text = files("headrace_workers.features.moderation").joinpath("default_policy.toml").read_text(encoding="utf-8")
    return _parse(text, "default_policy.toml", None, Path())


def _parse(text: str, where: str, default: Policy | None, folder: Path) -> Policy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"moderation policy {where} is no TOML: {error}") from error
    try:
        only((), document, _OF_ONE | {"tenants", "head", "detectors"})
        whole = _read((), document, default, folder)
        tenants = table_of(("tenants",), document.get("tenants", {}))
        if len(tenants) > MAX_TENANTS:
            raise Wrong(("tenants",), f"there are {len(tenants)}; at most {MAX_TENANTS} are taken")
        head = read_path((), document, "head", folder)
        named = read_detectors(document, folder)
        own = {name: _of_tenant(name, value, whole, folder) for name, value in tenants.items()}
    except Wrong as wrong:
        line = line_of(text, wrong.keys)
        place = f"{where}, line {line}" if line is not None else where
        subject = f"{'.'.join(map(str, wrong.keys))}: " if wrong.keys else ""
        raise ConfigurationError(f"moderation policy {place}: {subject}{wrong}") from None
    return replace(whole, head=head, tenants=MappingProxyType(own), **named)


def _of_tenant(name: str, value: object, whole: Policy, folder: Path) -> Policy:
    keys = ("tenants", name)
    try:
        _TENANT.validate_python(name)
    except ValidationError:
        raise Wrong(keys, "this is no tenant's name") from None
    table = table_of(keys, value)
    only(keys, table, _OF_ONE)
    return _read(keys, table, whole, folder)


def _read(keys: Keys, table: Mapping[str, Any], base: Policy | None, folder: Path) -> Policy:
    """Return the policy of a table, which changes `base`. Without a base the table names all categories."""
    rules: dict[str, Rule] = {} if base is None else dict(base.rules)
    categories = table_of((*keys, "categories"), table.get("categories", {}))
    for name, value in categories.items():
        at = (*keys, "categories", name)
        if base is not None:
            _is_category(at, rules)
        rules[name] = _rule(at, value, rules[name].allowed if name in rules else ())
    for name, entries in table_of((*keys, "allow"), table.get("allow", {})).items():
        at = (*keys, "allow", name)
        _is_category(at, rules)
        rule = rules[name]
        rules[name] = replace(rule, allowed=(*rule.allowed, *_allowed(at, entries)))
    blocklist = read_path(keys, table, "blocklist", folder)
    own = () if blocklist is None else (blocklist,)
    return Policy(
        MappingProxyType(rules),
        (*(base.blocklists if base else ()), *own),
        screen=read_switch(keys, table, "screen", base is not None and base.screen),
        trust_system=read_switch(keys, table, "trust_system", base is not None and base.trust_system),
        canary=read_switch(keys, table, "canary", base is not None and base.canary),
        verbatim=_verbatim(keys, table, None if base is None else base.verbatim),
    )


def _verbatim(keys: Keys, table: Mapping[str, Any], default: int | None) -> int | None:
    value = table.get("verbatim", default)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not SHORTEST <= value <= _LONGEST_STRETCH:
        between = f"from {SHORTEST} to {_LONGEST_STRETCH}"
        raise Wrong((*keys, "verbatim"), f"is {value!r}, but must be a number of characters {between}, or 0 for none")
    return value


def _rule(keys: Keys, value: object, allowed: tuple[str, ...]) -> Rule:
    table = {"action": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or "action" not in table or table.keys() - {"action", "min_score", "detectors"}:
        raise Wrong(keys, _SHAPE)
    action, score, detectors = table["action"], table.get("min_score", 0.0), table.get("detectors", 1)
    again = action == REGENERATE
    action = "block" if again else action
    if action not in ACTIONS:
        raise Wrong(keys, f"unknown action {action!r}; known are {', '.join((*ACTIONS, REGENERATE))}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise Wrong(keys, f"min_score is {score!r}, but must be a number from 0 to 1")
    if isinstance(detectors, bool) or not isinstance(detectors, int) or not 1 <= detectors <= _MOST_DETECTORS:
        raise Wrong(keys, f"detectors is {detectors!r}, but must be a whole number from 1 to {_MOST_DETECTORS}")
    return Rule(cast(Action, action), float(score), detectors, allowed, again)


def _allowed(keys: Keys, entries: object) -> tuple[str, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise Wrong(keys, "must be a list of texts that are let be")
    if len(entries) > MAX_ALLOWED:
        raise Wrong(keys, f"has {len(entries)} entries; at most {MAX_ALLOWED} are taken")
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise Wrong(keys, f"an entry has {len(entry)} characters; at most {MAX_ENTRY} are taken")
        if not entry.strip("*") or "*" in entry[1:-1] or (entry.startswith("*") and entry.endswith("*")):
            raise Wrong(keys, f"{entry!r} must be a text, with one * at its beginning or at its end if any")
    return tuple(entries)


def _is_category(keys: Keys, rules: Mapping[str, Rule]) -> None:
    if keys[-1] not in rules:
        raise Wrong(keys, f"unknown category {keys[-1]!r}; known are {', '.join(sorted(rules))}")


def read_detectors(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the fields of Policy for the detectors that the document names. Raise Wrong."""
    keys: Keys = ("detectors",)
    table = table_of(keys, document.get("detectors", {}))
    only(keys, table, frozenset({"openai", "guard", "names", "injection_head"}))
    return {
        "openai": _endpoint((*keys, "openai"), table["openai"]) if "openai" in table else None,
        "guard": _guard((*keys, "guard"), table["guard"]) if "guard" in table else None,
        "names": _names((*keys, "names"), table["names"], folder) if "names" in table else None,
        "injection_head": read_switch(keys, table, "injection_head", False),
    }


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


class Wrong(Exception):
    """A fault in a policy file, with the keys that lead to it."""

    def __init__(self, keys: Keys, reason: str) -> None:
        super().__init__(reason)
        self.keys = keys


def table_of(keys: Keys, value: object) -> Mapping[str, Any]:
    """Return the value, which must be a table."""
    if not isinstance(value, dict):
        raise Wrong(keys, "must be a table")
    return value


def only(keys: Keys, table: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse a key that is not known."""
    for name in table:
        if name not in known:
            raise Wrong((*keys, name), f"unknown key; known are {', '.join(sorted(known))}")


def read_path(keys: Keys, table: Mapping[str, Any], name: str, folder: Path) -> Path | None:
    """Return the path that a key names, relative to `folder`; None without the key."""
    value = table.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise Wrong((*keys, name), "must be a path")
    return None if value is None else folder / value


def read_switch(keys: Keys, table: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return the value of a key that is true or false."""
    value = table.get(name, default)
    if not isinstance(value, bool):
        raise Wrong((*keys, name), f"is {value!r}, but must be true or false")
    return value
