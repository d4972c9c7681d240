"""The catalogue, `<home>/models.toml`: models on other machines, chains of models, and prices of models, by alias.

    [models.large]
    engine = "openai"
    model = "gpt-5-mini"
    api_key = "env:OPENAI_API_KEY"
    context_length = 400000

    [chains.careful]
    models = ["small", "large"]

    [prices.small]
    hour = 0.40

Light on purpose: the bridge reads it, and imports no client of a provider.
"""

import ipaddress
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_CHAIN, Alias, Name, ShortText
from headrace_schemas.output_format import FormatName
from headrace_schemas.reasons import describe
from headrace_workers.core.environment import environment
from headrace_workers.core.pipeline.chain import OWN

_REFERENCE: Final = re.compile(r"(env):([A-Za-z_][A-Za-z0-9_]*)|(file):(/.+)")
_MOST_BYTES: Final = 65_536

CATALOGUE_FILE: Final = "models.toml"
MOST_BYTES: Final = 1_000_000
MOST_PRICE: Final = 1_000_000  # of a million tokens, or an hour
_MOST_MODELS: Final = 1_000
_ENDPOINTS: Final = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True)
class SecretReference:
    """An environment variable (`env:OPENAI_API_KEY`) or a file (`file:/run/secrets/openai`) that holds a secret."""

    kind: Literal["env", "file"]
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reference in a text. Raise ValueError, which does not quote the text: it may be the key itself."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ValueError(
                "must say where the key is, as env:VARIABLE or file:/absolute/path; a key itself has no place here"
            )
        return cls("env", match[2]) if match[1] else cls("file", match[4])

    def read(self) -> str:
        """Return the secret as it is now. Raise ConfigurationError where it is missing or empty."""
        if self.kind == "env":
            value = environment().get(self.name, "")
            missing = f"the environment variable {self.name} is not set"
        else:
            missing = f"{self.name} cannot be read, or is empty"
            try:
                with Path(self.name).open("rb") as file:
                    value = file.read(_MOST_BYTES).decode()
            except (OSError, UnicodeDecodeError):
                value = ""
        if not (value := value.strip()):
            raise ConfigurationError(
                f"{missing}: it should hold the key of a provider that a model in models.toml needs"
            )
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"the key in {self} has characters that no HTTP header can carry")
        return value

    def __str__(self) -> str:
        """Return the reference as `parse` reads it."""
        return f"{self.kind}:{self.name}"


def _endpoint(text: str) -> str:
    """Return an endpoint without the slash at its end. Raise ValueError where it is no address to send a key to."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL, such as https://api.example.com/v1")
    if parts.username or parts.password:
        raise ValueError("must hold no user and no password: name the key in api_key")
    if parts.query or parts.fragment:
        raise ValueError("must have neither a query nor a fragment: name the model in `model`")
    return text.rstrip("/")


def is_near(endpoint: str) -> bool:
    """Return True where an endpoint is on this machine or in a private network, as far as its name shows."""
    host = urlsplit(endpoint).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".internal", ".local")) or "." not in host
    return address.is_private or address.is_loopback


class RemoteModel(BaseModel):
    """A model on another machine, and how it is asked. Times are in seconds.

    `provider` is whom tenants' allow-lists, rate limits and receipts name; `own` is a machine of yours. `open_calls`
    is how many calls one worker holds open. `lacks` names parameters that the model refuses, or `tools`, and `formats`
    the formats to which the endpoint holds an answer: of others its prompt tells. `logprobs` says that it tells how
    likely its tokens were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    model: Annotated[ShortText, Field(min_length=1)]
    endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    provider: Name = ""
    api_key: Annotated[
        SecretReference | None,
        BeforeValidator(lambda text: SecretReference.parse(text) if isinstance(text, str) else text),
    ] = None
    open_calls: Annotated[int, Field(ge=1, le=1024)] = 64
    connect: Annotated[float, Field(gt=0, le=60)] = 5.0
    first_token: Annotated[float, Field(gt=0, le=3600)] = 30.0
    idle: Annotated[float, Field(gt=0, le=3600)] = 20.0
    total: Annotated[float, Field(gt=0, le=3600)] = 300.0
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    lacks: frozenset[str] = frozenset()
    formats: frozenset[FormatName] = frozenset({"json_schema", "json_object"})
    logprobs: bool = False

    @property
    def is_own(self) -> bool:
        """Return True where what it reads stays on machines of yours."""
        return self.provider == OWN


class CatalogueModel(RemoteModel):
    """An entry of the catalogue: a remote model with its engine and its context, in tokens."""

    engine: Name
    context_length: Annotated[int, Field(ge=2, le=100_000_000)]

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """Fill in the endpoint and the provider that follow from the engine."""
        if not isinstance(data, dict) or not isinstance(engine := data.get("engine"), str):
            return data
        usual = _ENDPOINTS.get(engine)
        endpoint = data.get("endpoint", usual)
        if endpoint is None:
            raise ValueError(f"engine {engine!r} answers on no other machine; here may stand: {', '.join(_ENDPOINTS)}")
        provider = data.get("provider")
        if provider is None and endpoint == usual:
            provider = engine
        if provider is None and isinstance(endpoint, str) and is_near(endpoint):
            provider = OWN
        if provider is None:
            raise ValueError(
                f"provider is missing: say who runs {endpoint}, so that tenants can allow it; {OWN!r} is a machine "
                "of yours"
            )
        return {**data, "endpoint": endpoint, "provider": provider}

    @model_validator(mode="after")
    def _keeps_keys_secret(self) -> Self:
        if self.api_key and urlsplit(self.endpoint).scheme == "http" and not is_near(self.endpoint):
            raise ValueError("endpoint is http:// and would show api_key to the network: use https://")
        return self

    @property
    def remote(self) -> RemoteModel:
        """Return what the engine needs to know."""
        return RemoteModel.model_construct(**{name: getattr(self, name) for name in RemoteModel.model_fields})


class CataloguePrice(BaseModel):
    """The price of a model, in the deployment's currency: of a million tokens of input, cached input and output, of an
    hour of the machine, of which one call is charged for `longest` seconds at most, and of a million tokens that a
    tuning job trains it with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Annotated[float, Field(ge=0, le=MOST_PRICE)] = 0.0
    cached: Annotated[float, Field(ge=0, le=MOST_PRICE)] | None = None
    output: Annotated[float, Field(ge=0, le=MOST_PRICE)] = 0.0
    hour: Annotated[float, Field(ge=0, le=MOST_PRICE)] = 0.0
    longest: Annotated[float, Field(gt=0, le=86_400)] | None = None
    training: Annotated[float, Field(ge=0, le=MOST_PRICE)] | None = None

    @property
    def is_of_calls(self) -> bool:
        """Return True if it has the price of calls, and not of training alone."""
        return bool(self.model_fields_set & {"input", "output", "hour"})

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.is_of_calls and self.training is None:
            raise ValueError("name a price: input and output for a million tokens, hour, or training")
        return self


class CatalogueChain(BaseModel):
    """A chain of the catalogue: models of which each answers where those before it cannot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[tuple[Alias, ...], Field(min_length=1, max_length=MAX_CHAIN)]


class Catalogue(BaseModel):
    """The models, chains and prices of a home's catalogue, by alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[dict[Alias, CatalogueModel], Field(max_length=_MOST_MODELS)] = {}
    chains: Annotated[dict[Alias, CatalogueChain], Field(max_length=_MOST_MODELS)] = {}
    prices: Annotated[dict[Alias, CataloguePrice], Field(max_length=_MOST_MODELS)] = {}

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if both := sorted(self.models.keys() & self.chains.keys()):
            raise ValueError(f"{both[0]} names a model and a chain: rename one of them")
        for alias, chain in self.chains.items():
            if nested := [model for model in chain.models if model in self.chains]:
                raise ValueError(f"the chain {alias} holds the chain {nested[0]}: name models alone")
            if len(set(chain.models)) < len(chain.models):
                raise ValueError(f"the chain {alias} names a model twice: name each once")
        return self


def read_catalogue(home: Path) -> Catalogue:
    """Return the catalogue of a home, which is empty where there is no file. Raise ConfigurationError, which says what
    is wrong with it and where.
    """
    path = home / CATALOGUE_FILE
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ConfigurationError(f"{path} is not a file: replace it by one, or remove it")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Catalogue()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"{path} has more than {MOST_BYTES:,} bytes, which is too much for a catalogue")
    try:
        return Catalogue.model_validate(tomllib.loads(content.decode("utf-8-sig")))
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {describe(error)}") from None  # without the values: one may be a key
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
