"""Addresses of models on other machines, as people give them on a command line, and their entries in the catalogue.

http://localhost:11434/v1#qwen3    a model behind an OpenAI-compatible endpoint
openai:gpt-5-mini                  a model of a provider, by the provider's engine
"""

import fcntl
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from headrace_schemas.aliases import alias_of
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.reasons import describe
from headrace_workers.core.private_files import opened_privately, private_folder, write_atomically
from headrace_workers.models.catalogue import (
    CATALOGUE_FILE,
    CatalogueModel,
    is_near,
    read_catalogue,
)
from headrace_workers.models.registry import CARD_FILE, model_dir

_URL: Final = re.compile(r"https?://[^#]+#.+")
# By engine: the variable that usually holds its key, and a context that its models have at least.
_PROVIDERS: Final = {"openai": ("OPENAI_API_KEY", 128_000), "anthropic": ("ANTHROPIC_API_KEY", 200_000)}
_CONTEXT: Final = 8_192  # tokens: servers of your own have a setting for it


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """A model on another machine. Without an endpoint it is its engine's usual one.

    `api_key` refers to its key (`env:VARIABLE` or `file:/path`), `context_length` is in tokens, and `price` that of a
    million tokens of input and of output.
    """

    engine: str
    model: str
    endpoint: str | None = None
    api_key: str | None = None
    context_length: int | None = None
    price: tuple[float, float] | None = None

    @property
    def alias(self) -> str:
        """Return the name by which jobs name the model."""
        return alias_of(self.model.replace(":", "-"))

    def checked(self) -> CatalogueModel:
        """Return the model as the catalogue has it. Raise ConfigurationError, which says what is wrong with it."""
        try:
            content = tomllib.loads(self.entry())["models"][self.alias]
            return CatalogueModel.model_validate(content)
        except ValidationError as error:
            raise ConfigurationError(f"the model cannot be added: {describe(error)}") from None

    def entry(self) -> str:
        """Return its entry in the catalogue, as TOML."""
        variable, context = _PROVIDERS[self.engine] if self.endpoint is None else (None, _CONTEXT)
        fields: dict[str, str | int] = {"engine": self.engine, "model": self.model}
        if self.endpoint is not None:
            fields["endpoint"] = self.endpoint
            if not is_near(self.endpoint):
                fields["provider"] = _provider_of(self.endpoint)
        if self.api_key is not None or variable is not None:
            fields["api_key"] = self.api_key or f"env:{variable}"
        fields["context_length"] = self.context_length or context
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
        if self.price is not None:
            lines += ["", f'[prices."{self.alias}"]', f"input = {self.price[0]}", f"output = {self.price[1]}"]
        return "\n".join((f'[models."{self.alias}"]', *lines, ""))


def known_engines() -> list[str]:
    """Return the engines that ask other machines and have an endpoint of their own."""
    return list(_PROVIDERS)


def _provider_of(endpoint: str) -> str:
    """Return a provider's name made of its host's, such as `api_groq_com`."""
    name = re.sub(r"[^a-z0-9]", "_", (urlsplit(endpoint).hostname or "").lower())
    return (name if name[:1].isalpha() else f"at_{name}")[:64]


def parse_address(text: str) -> ModelAddress | None:
    """Return the address in a text; None for an alias, or a path."""
    if _URL.fullmatch(text):
        endpoint, _, model = text.partition("#")
        return ModelAddress("openai", model, endpoint.rstrip("/"))
    engine, _, model = text.partition(":")
    return ModelAddress(engine, model) if engine in _PROVIDERS and model else None


def enter_model(home: Path, address: ModelAddress) -> str | None:
    """Write the model into the home's catalogue; return its entry, or None where it is there already.

    Raise ConfigurationError if its alias means another model here, or the catalogue cannot be read.
    """
    with _alone(home):
        return _enter(home, address)


def _enter(home: Path, address: ModelAddress) -> str | None:
    alias, path = address.alias, home / CATALOGUE_FILE
    if (model_dir(home, alias) / CARD_FILE).exists():
        raise ConfigurationError(
            f"{alias} is a model of this machine: give the other one an alias of its own in {path}, and name that"
        )
    there = read_catalogue(home).models.get(alias)
    if there is not None:
        if there.model == address.model and address.endpoint in (None, there.endpoint):
            return None
        raise ConfigurationError(
            f"{path} has a model {alias} already, {there.model} at {there.endpoint}: name that, or give this one an "
            "alias of its own"
        )
    entry = address.entry()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_atomically(path, f"{before.rstrip()}\n\n{entry}".lstrip())
    read_catalogue(home)  # raises what is wrong with it now
    return entry


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one process at a time change the catalogue: two that read it at once would each lose the other's entry."""
    private_folder(home)
    with open(home / f".{CATALOGUE_FILE}.lock", "w", opener=opened_privately) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
