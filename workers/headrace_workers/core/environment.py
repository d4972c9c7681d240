"""Settings as `HEADRACE_*` variables: each is one field, with its default, its bounds and what it does.

A group of settings is a subclass of `Variables`. The field `lease` is the variable HEADRACE_LEASE. Nothing is read when
a group is built in code; `from_env` reads the environment, and this module is the only one that does.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Final, Literal, Protocol, Self, TypeVar, Union, get_args, get_origin

from pydantic import AliasGenerator, BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from headrace_schemas.errors import ConfigurationError

MOST_BYTES: Final = 10**15  # a petabyte
MOST: Final = 100 * 365 * 86_400  # a hundred years in seconds: more than anybody means, and what the ledger can count
_READ_BY: Final = "read_by"
_SECRET: Final = "secret"  # noqa: S105 - the name of a mark


def environment(env: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return this environment, or the process's own where none is given."""
    return os.environ if env is None else env


def variable_of(field: str) -> str:
    """Return the name of the variable that sets a field."""
    return f"HEADRACE_{field.upper()}"


def variable(default: Any, does: str, *, read_by: str, **bounds: Any) -> Any:
    """Return the field of a variable: what it does, in Markdown, and which processes read it.

    `bounds` are passed to pydantic's `Field`: `gt`, `ge`, `lt` and `le`.
    """
    return Field(default, description=does, json_schema_extra={_READ_BY: read_by}, **bounds)


def number(default: float | None, does: str, *, read_by: str, **bounds: float) -> Any:
    """Return the field of a number: above 0 and `MOST` at most, unless `bounds` say otherwise."""
    if not {"gt", "ge"} & bounds.keys():
        bounds["gt"] = 0
    if not {"lt", "le"} & bounds.keys():
        bounds["le"] = MOST
    return variable(default, does, read_by=read_by, **bounds)


def secret(default: Any, does: str, *, read_by: str) -> Any:
    """Return the field of a secret. It shows neither in `repr` nor in errors, and may lie in the file that the variable
    with `_FILE` at its end names.
    """
    return Field(default, description=does, json_schema_extra={_READ_BY: read_by, _SECRET: True}, repr=False)


def parsed(parse: Callable[[str], object]) -> BeforeValidator:
    """Return the validator that reads a variable's text with `parse`; a ConfigurationError tells what is wrong."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


class Problems:
    """Collector of errors in an environment, so that all of them are reported at once."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep the ConfigurationError that is raised inside, and continue after it."""
        try:
            yield
        except ConfigurationError as error:
            self._problems.append(str(error))

    def tell(self) -> None:
        """Raise ConfigurationError with all that was collected, if anything was."""
        if self._problems:
            raise ConfigurationError("\n".join(self._problems))


class Variables(BaseSettings):
    """Group of settings that belong together. `title` is its heading on the page of all settings."""

    model_config = SettingsConfigDict(
        frozen=True,
        case_sensitive=True,
        enable_decoding=False,  # lists are not JSON: `parsed` reads them
        populate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=variable_of),
    )
    title: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments alone: a group that is built in code does not depend on the environment."""
        return (init_settings,)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the group's variables. ConfigurationError names each that is wrong, its value and what it may be."""
        return cls._read(environment(env))

    @classmethod
    def _read(cls, env: Mapping[str, str], **others: Any) -> Self:
        """Read the group's variables; `others` are fields that no variable sets."""
        try:
            return cls(**_Given(cls, env)(), **others)
        except ValidationError as error:
            wrong = dict.fromkeys(_problem(cls, dict(problem)) for problem in error.errors(include_url=False))
            raise ConfigurationError("\n".join(wrong)) from None


V = TypeVar("V", bound=Variables)


class SettingsOf(Protocol):
    """The settings of a deployment, by group."""

    def of(self, kind: type[V]) -> V:
        """Return the settings of this group."""


class EnvironmentSettings:
    """The settings in the environment, each group read when it is asked for: for commands that need few of them."""

    def of(self, kind: type[V]) -> V:
        """Return the settings of this group. Raise ConfigurationError where a variable is wrong."""
        return kind.from_env()


class _Given(EnvSettingsSource):
    """Source of a group's variables in a given environment, and of secrets that lie in files. An empty variable counts
    as unset, since compose files set variables to nothing.
    """

    def __init__(self, kind: type[Variables], env: Mapping[str, str]) -> None:
        super().__init__(kind)
        texts = {
            name: secret_in(env, name) if is_secret(field) else env.get(name)
            for name, field in variables_of(kind).items()
        }
        self.env_vars = {name: text for name, text in texts.items() if text}


def variables_of(kind: type[Variables]) -> dict[str, FieldInfo]:
    """Return the fields of a group that variables set, by the variables' names."""
    return {variable_of(name): field for name, field in kind.model_fields.items() if read_by(field)}


def secret_in(env: Mapping[str, str], name: str) -> str:
    """Return a secret: the content of the file that `name`_FILE names, else the variable; "" where neither is set."""
    if not (file := env.get(f"{name}_FILE")):
        return env.get(name) or ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{name}_FILE: cannot read {file}: {error.strerror}") from error


def is_secret(field: FieldInfo) -> bool:
    """Return True if a field may lie in a file, and its value is shown nowhere."""
    return bool(_extra(field).get(_SECRET))


def read_by(field: FieldInfo) -> str | None:
    """Return which processes read a field; None if it is no variable."""
    return _extra(field).get(_READ_BY)


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def allowed(field: FieldInfo) -> str:
    """Return the allowed values of a field, in words: "a number above 0", "off, exact, semantic"; "" where it may be
    any text.
    """
    kinds = _kinds(field.annotation)
    choices = [str(getattr(choice, "value", choice)) for kind in kinds for choice in _choices(kind)]
    if choices:
        return ", ".join(choices)
    noun = {int: "a whole number", float: "a number"}.get(next(iter(kinds)), "")
    bounds = {name: value for item in field.metadata for name, value in _bounds(item)}
    low, high = bounds.get("ge"), bounds.get("le")
    if low is not None and high is not None:
        return f"{noun} from {low:,} to {high:,}"
    parts = [
        f"{words} {bounds[name]:,}"
        for name, words in (("gt", "above"), ("lt", "below"), ("le", "up to"))
        if name in bounds
    ]
    return f"{noun} {' and '.join(parts)}".rstrip()


def _kinds(annotation: Any) -> list[Any]:
    """Return the types of an annotation but for None."""
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation]
    return [name for name in get_args(annotation) if name is not type(None)]


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()


def _bounds(constraint: object) -> Iterator[tuple[str, float]]:
    for name in ("gt", "ge", "lt", "le"):
        if (value := getattr(constraint, name, None)) is not None:
            yield name, value


def _problem(kind: type[Variables], problem: Mapping[str, Any]) -> str:
    """Return the error in one variable, in words."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0])
    verb = "may" if problem["type"] in ("enum", "literal_error") else "must"
    return f"{name} is {problem['input']!r}; it {verb} be {allowed(variables_of(kind)[name])}"
