"""The options that `submit`, `run` and `batch submit` share, attributes and filters as they are typed, and the file of
jobs that is read.
"""

import inspect
import json
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, cast

import typer
from pydantic import ValidationError

from headrace_producers.settings import ProducerSettings
from headrace_schemas.attributes import AttributeMap, Attributes, Filter
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.grounding import WithoutPassages
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_COMPLETION_TOKENS
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe
from headrace_schemas.recall import CacheMode
from headrace_workers.cli.durations import parse_duration
from headrace_workers.cli.jobfile import Job
from headrace_workers.cli.output import say
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.text_file import GZIP, HEAD, ZSTANDARD, NotReadable, check_beginning, text_of

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="KEY=VALUE", help="only documents with this attribute: KEY=VALUE, also != < <= > >=, or JSON"
    ),
]
MetaOption = Annotated[
    list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="an attribute of each of these documents")
]

_TYPES: Final = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_COMPARED: Final = re.compile(r"([^=<>!]+)(!=|>=|<=|=|<|>)(.*)", re.DOTALL)


class _Where(Value):
    knowledge_filter: Filter


class _Meta(Value):
    attributes: Attributes


def attributes_of(given: Sequence[str] | None) -> AttributeMap:
    """Return the attributes of all `--meta` options. Raise ConfigurationError for one that cannot be an attribute."""
    found: dict[str, Any] = {}
    for option in given or ():
        key, mark, value = option.partition("=")
        if not mark:
            raise ConfigurationError(f"--meta {option!r} has no value: write KEY=VALUE")
        if key.strip() in found:
            raise ConfigurationError(f"--meta names {key.strip()!r} twice: a document has one value of it")
        found[key.strip()] = _typed(value)
    try:
        return _Meta.model_validate({"attributes": found}).attributes
    except ValidationError as error:
        raise ConfigurationError(f"--meta: {describe(error)}") from None


def filter_of(given: Sequence[str] | None) -> Filter | None:
    """Return one filter for all `--where` options, which must all hold; None without any. Raise ConfigurationError."""
    if not given:
        return None
    filters = [_filter(option) for option in given]
    whole = filters[0] if len(filters) == 1 else {"type": "and", "filters": filters}
    try:
        return _Where.model_validate_json(json.dumps({"knowledge_filter": whole}), strict=True).knowledge_filter
    except ValidationError as error:
        raise ConfigurationError(f"--where: {describe(error)}") from None


def _filter(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"--where begins like JSON, but is not JSON: {error}") from None
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        raise ConfigurationError(
            f"--where {text!r} has no comparison: write KEY=VALUE (or != < <= > >=), or a filter as JSON"
        )
    key, mark, value = compared.groups()
    return {"type": _TYPES[mark], "key": key.strip(), "value": _typed(value)}


def _typed(text: str) -> bool | int | float | str:
    """Return the value of true, false and numbers as JSON writes them; everything else, and text in quotes, is text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text.strip()
    return value if isinstance(value, bool | int | float | str) else text.strip()


def _no_number(name: str) -> None:
    raise ValueError(name)


STDIN = "-"
_MAX_NOTED = 3

ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="the model for lines that name none [HEADRACE_MODEL]")
]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", min=1, max=MAX_COMPLETION_TOKENS, help="longest answer, in tokens")
]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", min=0, max=2, help="sampling temperature; 0 is greedy")
]
CacheOption = Annotated[CacheMode | None, typer.Option("--cache", help="which earlier answers may be served")]
KnowledgeOption = Annotated[str | None, typer.Option("--knowledge", help="the knowledge base for the answers")]
WithoutPassagesOption = Annotated[
    WithoutPassages | None, typer.Option("--without-passages", help="what to do if no passage is relevant")
]
LaneOption = Annotated[Lane | None, typer.Option("--lane", help="interactive jobs run before batch jobs")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="the jobs' tenant [HEADRACE_TENANT]")]
PriorityOption = Annotated[int | None, typer.Option("--priority", min=0, max=9, help="priority; 9 is the most urgent")]
DeadlineOption = Annotated[str | None, typer.Option("--deadline", help="jobs expire after, e.g. 90s, 10m, 2h")]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The options that `submit`, `run` and `batch submit` share: they fill in what a line does not say."""

    model: ModelOption = None
    temperature: TemperatureOption = None
    cache: CacheOption = None
    knowledge: KnowledgeOption = None
    where: WhereOption = None
    without_passages: WithoutPassagesOption = None
    lane: LaneOption = None
    priority: PriorityOption = None
    tenant: TenantOption = None

    def defaults(
        self, *, max_tokens: int | None = None, deadline: str | None = None, now: datetime | None = None
    ) -> Defaults:
        """Return the defaults for lines: the options of this call, else the environment's."""
        settings = ProducerSettings.from_env()
        until = None
        if deadline is not None:
            until = ((now or datetime.now(UTC)) + parse_duration(deadline)).isoformat()
        tenant = settings.tenant if self.tenant is None else self.tenant
        fields = {"tenant": tenant, "lane": self.lane, "priority": self.priority, "deadline": until}
        wanted = filter_of(self.where)
        options = {
            "cache": self.cache,
            "knowledge": self.knowledge,
            "knowledge_filter": None if wanted is None else wanted.model_dump(mode="json"),
            "without_passages": self.without_passages,
        }
        return Defaults(
            model=settings.model if self.model is None else self.model,
            embedder=settings.embedder,
            fields=_given(fields),
            sampling=_given({"max_tokens": max_tokens, "temperature": self.temperature}),
            asked=_given(options),
        )


def asks(**usual: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `JobOptions`, in the place of its parameter `asked`. `usual` are other defaults."""

    def given_options(command: Callable[..., None]) -> Callable[..., None]:
        shared = [
            parameter.replace(default=usual.get(name, parameter.default))
            for name, parameter in inspect.signature(JobOptions, eval_str=True).parameters.items()
        ]
        own = inspect.signature(command, eval_str=True)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for own_parameter in own.parameters.values()
            for parameter in (shared if own_parameter.name == "asked" else [own_parameter])
        ]

        @wraps(command)
        def called(**given: Any) -> None:
            options = JobOptions(**{parameter.name: given.pop(parameter.name) for parameter in shared})
            command(asked=options, **given)

        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return called

    return given_options


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def opened(source: str) -> Iterator[tuple[BinaryIO, str]]:
    """Yield a file of jobs, or standard input for `-`, as a stream that can be read twice, and its name for messages.

    Compressed files are decompressed. Raise NotReadable if the file cannot be read.
    """
    if source == STDIN:
        with tempfile.TemporaryFile() as spool:
            while chunk := sys.stdin.buffer.read(1 << 20):
                spool.write(chunk)
            with _unpacked(spool, "standard input") as text:
                yield text, "standard input"
        return
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 - closed below; opening alone is what may fail here
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}") from error
    with stream:
        if not stream.seekable():
            raise ConfigurationError(f"{source} is a pipe: redirect it to standard input, and give - as the file")
        with _unpacked(stream, source) as text:
            yield text, source


@contextmanager
def _unpacked(stream: BinaryIO, source: str) -> Iterator[BinaryIO]:
    """Yield the decompressed text, which can be read twice. Raise NotReadable, also for anything but JSON lines."""
    stream.seek(0)
    if not stream.read(len(ZSTANDARD)).startswith((GZIP, ZSTANDARD)):
        _look(stream, source)
        yield stream
        return
    stream.seek(0)
    with tempfile.TemporaryFile() as spool:
        try:
            shutil.copyfileobj(text_of(cast(RawIOBase, stream)), spool)
        except NotReadable as error:
            raise error.of(source) from None
        _look(spool, source)
        yield spool


def _look(text: BinaryIO, source: str) -> None:
    text.seek(0)
    begins = text.read(HEAD + 1)
    text.seek(0)
    try:
        check_beginning(begins)
    except NotReadable as error:
        raise error.of(source) from None


def prompt_stream(prompt: str, stop: list[str] | None, seed: int | None, key: str | None) -> BinaryIO:
    """Return one prompt as the one line of a file."""
    line: dict[str, Any] = {"prompt": prompt}
    if key is not None:
        line["idempotency_key"] = key
    if sampling := _given({"stop": stop or None, "seed": seed}):
        line["sampling"] = sampling
    return BytesIO(json.dumps(line).encode())


class Once:
    """The names of the jobs of one call. Each line is a new job; sent again in this call, it is the same event."""

    def __init__(self) -> None:
        self._call = uuid.uuid4()

    def __call__(self, line: int, job: Job) -> tuple[Job, str]:
        """Return the job as it is, and the id of its event."""
        return job, str(uuid.uuid5(self._call, str(line)))


def note_repeats(name: str, repeated: list[tuple[int, int]]) -> None:
    """Say which lines are the same job as an earlier one, and so get no receipt of their own."""
    for line, first in repeated[:_MAX_NOTED]:
        say(f"{name}:{line}: the same job as line {first} (same idempotency key); it is answered once")
    if len(repeated) > _MAX_NOTED:
        say(f"and {len(repeated) - _MAX_NOTED} more such lines")
