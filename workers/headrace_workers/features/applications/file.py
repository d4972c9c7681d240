"""The file of an application, in TOML: read with the files beside it, checked, and written."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from math import isfinite
from pathlib import Path, PurePath
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError

from headrace_schemas import GenerationJob
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.limits import MAX_ITEMS
from headrace_schemas.model import Value
from headrace_schemas.reasons import first_problem
from headrace_schemas.review import ApplicationReview, place_of_second
from headrace_workers.core.templates import RESERVED, Template, WrongTemplate
from headrace_workers.core.toml_file import Keys, fault_at, line_of, to_toml
from headrace_workers.features.applications.definition import (
    Definition,
    Problem,
    Test,
    Turn,
    Variable,
    templates_of,
    value_of,
)
from headrace_workers.features.judging.admission import check_criteria

MAX_FILE_BYTES: Final = 1_000_000  # of the application's file, and of each file with a message
MAX_DATASET_BYTES: Final = 512 * 1024**2
# The fields of a job that a section sets, by their names there. `[format]` is the field `output` as a whole.
SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "model": {
        "name": "model", "chain": "model", "sampling": "sampling", "lane": "lane",
        "fallback_on_refusal": "fallback_on_refusal",
    },
    "tools": {"functions": "tools", "choice": "tool_choice", "parallel_calls": "parallel_tool_calls"},
    "knowledge": {"base": "knowledge", "filter": "knowledge_filter", "without_passages": "without_passages"},
    "cache": {"mode": "cache", "max_age": "max_age"},
    "quality": {"criteria": "criteria", "min_quality": "min_quality", "screen": "screen"},
}  # fmt: skip
_KNOWN: Final = ("problem", "model", "prompt", "format", "tools", "knowledge", "cache", "quality", "review", "test")
_REQUIRED: Final = ("problem", "model", "prompt")
_CRITERION: Final = re.compile(r"criteria\.(\d+)\.(\w+): ")

AValue = TypeVar("AValue", bound=Value)


class _Wrong(Exception):
    """A fault in an application's file, with the keys that lead to it; `line` counts within the value, from 1."""

    def __init__(self, keys: Keys, reason: str, line: int | None = None, file: Path | None = None) -> None:
        super().__init__(reason)
        self.keys, self.line, self.file = keys, line, file


def read_application(path: Path) -> Definition:
    """Return the application that a file describes. Raise ConfigurationError: file, line, what is wrong, what to do."""
    text = _text_of(path, str(path))
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    try:
        return _Reader(path, document).definition()
    except _Wrong as wrong:
        raise ConfigurationError(_located(path, text, wrong)) from None


def _located(path: Path, text: str, wrong: _Wrong) -> str:
    """Return the message of a fault, with the file and the line."""
    line = line_of(text, wrong.keys)
    if wrong.file is not None:
        path, line = wrong.file, wrong.line
    elif wrong.line is not None and line is not None:
        # A text of several lines begins after its quotes, or in the next line.
        opened = re.search("(?:\"\"\"|''')(.*)", text.split("\n")[line - 1])
        line += wrong.line - (1 if opened is None or opened[1] else 0) if opened else 0
    return fault_at(str(path), line, wrong.keys, str(wrong))


class _Reader:
    """A file that is read: each part is checked where its keys are known."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self._document = document
        self._files: dict[int, Path] = {}  # by message
        self._origins: dict[str, Keys] = {"output": ("format",)}  # of the fields of the job

    def definition(self) -> Definition:
        """Return what the file describes. Raise _Wrong."""
        self._only((), self._document, _KNOWN)
        for name in _REQUIRED:
            if name not in self._document:
                raise _Wrong((name,), f"is missing: write the section [{name}]")
        _plain((), self._document)
        prompt = self._section("prompt")
        self._only(("prompt",), prompt, ("messages", "variables"))
        parts = {
            "problem": _read(Problem, ("problem",), self._section("problem")),
            "job": self._job(),
            "messages": tuple(self._messages(prompt)),
            "variables": self._variables(prompt),
            "review": self._review(),
            "test": self._test(),
        }
        try:
            definition = Definition(name=self._path.stem, **parts)
        except ValidationError as error:
            place, words = first_problem(error)
            if place == ("name",):
                raise _Wrong((), f"the file's name is the application's, and {words}: rename it") from None
            raise _Wrong(("prompt", *(key for key in place or () if key != "[key]")), words) from None
        self._check_templates(definition)
        self._check_metric(definition)
        return definition

    def _section(self, name: str) -> Mapping[str, Any]:
        section = self._document.get(name, {})
        if not isinstance(section, dict):
            raise _Wrong((name,), f"must be a table: write [{name}]")
        return section

    @staticmethod
    def _only(keys: Keys, table: Mapping[str, Any], known: "tuple[str, ...] | Mapping[str, str]") -> None:
        for name in table:
            if name not in known:
                raise _Wrong((*keys, name), f"is not known; known are {', '.join(known)}")

    def _job(self) -> dict[str, Any]:
        """Return the fields of the job that the sections set."""
        job: dict[str, Any] = {}
        for section, names in SECTIONS.items():
            table = self._section(section)
            self._only((section,), table, names)
            for name, value in table.items():
                if names[name] in job:
                    raise _Wrong((section, name), "name and chain are both given: give one of them")
                job[names[name]] = value
                self._origins[names[name]] = (section, name)
        if "format" in self._document:
            job["output"] = self._section("format")
        if "model" not in job:
            raise _Wrong(("model",), "names no model: give `name`, or `chain` for several")
        if isinstance(job["model"], str) and "@" in job["model"]:
            raise _Wrong(("model", "name"), "must be a model: an application cannot be the model of another one")
        self._check_job(job)
        return job

    def _check_job(self, job: Mapping[str, Any]) -> None:
        document = json.dumps({**job, "prompt": "-"}).encode()
        try:
            checked = GenerationJob.model_validate_json(document, strict=True)
        except ValidationError as error:
            place, words = first_problem(error, document)
            self._refuse_job(place or (), words)
        try:
            check_criteria(checked.criteria)
        except InvalidRecord as error:
            raise _unusable(("quality",), error) from None

    def _refuse_job(self, place: tuple[int | str, ...], words: str) -> NoReturn:
        """Raise _Wrong at the key that a field of the job comes from. A rule about several begins with one's name."""
        first = str(place[0]) if place else re.split(r"[ .:]", words, maxsplit=1)[0]
        keys = self._origins.get(first, ())
        raise _Wrong((*keys, *place[1:]) if keys else place, words)

    def _messages(self, prompt: Mapping[str, Any]) -> "list[Turn]":
        raw = prompt.get("messages")
        if not isinstance(raw, list) or not raw or not all(isinstance(item, dict) for item in raw):
            raise _Wrong(("prompt", "messages"), "must be tables: write [[prompt.messages]] above each message")
        return [self._message(number, table) for number, table in enumerate(raw)]

    def _message(self, number: int, table: Mapping[str, Any]) -> Turn:
        keys: Keys = ("prompt", "messages", number)
        self._only(keys, table, ("role", "text", "file", "name"))
        if ("text" in table) == ("file" in table):
            raise _Wrong(keys, "must have `text`, or `file` with the name of a file beside this one")
        if "text" in table:
            return _read(Turn, keys, table)
        file = self._beside((*keys, "file"), table["file"])
        self._files[number] = file
        try:
            text = _text_of(file, str(file))
        except ConfigurationError as error:
            raise _Wrong((*keys, "file"), str(error)) from None
        return _read(Turn, keys, {**{name: table[name] for name in table if name != "file"}, "text": text})

    def _beside(self, keys: Keys, name: object) -> Path:
        """Return the path of a file in the folder of this one, or below it."""
        if not isinstance(name, str) or not name:
            raise _Wrong(keys, "must be text: the name of a file beside this one")
        folder = self._path.parent
        try:
            path = (folder / name).resolve()
        except (OSError, ValueError) as error:
            raise _Wrong(keys, f"is no name of a file: {error}") from None
        parts = PurePath(name)
        if parts.is_absolute() or ".." in parts.parts or not path.is_relative_to(folder.resolve()):
            raise _Wrong(keys, f"{name} lies outside of the folder of this file: move it there")
        return folder / name

    def _variables(self, prompt: Mapping[str, Any]) -> dict[str, Variable]:
        raw = prompt.get("variables", {})
        if not isinstance(raw, dict) or not all(isinstance(item, dict) for item in raw.values()):
            raise _Wrong(("prompt", "variables"), "must be tables: write [prompt.variables.NAME] above each")
        return {name: self._variable(("prompt", "variables", name), table) for name, table in raw.items()}

    @staticmethod
    def _variable(keys: Keys, table: Mapping[str, Any]) -> Variable:
        if keys[-1] in RESERVED:
            raise _Wrong(keys, "is a word of the template language: choose another name")
        variable = _read(Variable, keys, table)
        if variable.max_length is not None and variable.type not in ("text", "list"):
            raise _Wrong((*keys, "max_length"), f"is for texts and lists, and this is of type {variable.type}")
        if variable.type == "list" and (variable.max_length or 0) > MAX_ITEMS:
            raise _Wrong((*keys, "max_length"), f"must be at most {MAX_ITEMS}: a list has no more items")
        if variable.enum and variable.type == "boolean":
            raise _Wrong((*keys, "enum"), "is not for true and false: remove it")
        of_item = variable.model_copy(update={"enum": (), "max_length": None})
        try:
            for item in variable.enum:
                value_of(of_item, [item] if variable.type == "list" else item)
        except ValueError as error:
            raise _Wrong((*keys, "enum"), f"one of the values {error}") from None
        try:
            if variable.default is not None:
                value_of(variable, variable.default)
        except ValueError as error:
            raise _Wrong((*keys, "default"), str(error)) from None
        return variable

    def _test(self) -> Test | None:
        if "test" not in self._document:
            return None
        table = {**self._section("test")}
        dataset = self._beside(("test", "dataset"), table.get("dataset"))
        pinned = table.get("sha256")
        # A version that was pulled has no dataset beside it.
        if dataset.exists() or pinned is None:
            table["sha256"] = _sha256(("test", "dataset"), dataset)
            if pinned not in (None, table["sha256"]):
                raise _Wrong(
                    ("test", "sha256"), f"{dataset} has another SHA-256: remove `sha256` to test with this one"
                )
        test = _read(Test, ("test",), table)
        try:
            check_criteria(test.criteria)
            Template.parse(test.reference or "")
        except InvalidRecord as error:
            raise _unusable(("test",), error) from None
        except ValueError as error:
            raise _Wrong(("test", "reference"), str(error)) from None
        return test

    def _review(self) -> ApplicationReview | None:
        if "review" not in self._document:
            return None
        review = _read(ApplicationReview, ("review",), self._section("review"))
        if (second := place_of_second(review.rules)) is not None:
            raise _Wrong(("review", "rules", second, "name"), "is the name of a rule above: give each its own")
        return review

    def _check_templates(self, definition: Definition) -> None:
        templates = templates_of(definition)
        for number in range(len(definition.messages)):
            try:
                next(templates)
            except WrongTemplate as error:
                file = self._files.get(number)
                keys = ("prompt", "messages", number, "text" if file is None else "file")
                raise _Wrong(keys, str(error), error.line, file) from None

    def _check_metric(self, definition: Definition) -> None:
        criteria = [*definition.job.get("criteria", ())]
        names = [criterion.get("name") or criterion["criterion"] for criterion in criteria]
        names += [criterion.key for criterion in definition.test.criteria] if definition.test else []
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise _Wrong(("test", "criteria"), f"two criteria are called {twice[0]!r}: give each a `name` of its own")
        if names and definition.problem.metric not in names:
            raise _Wrong(("problem", "metric"), f"must be one of the criteria: {', '.join(names)}")


def _read(cls: type[AValue], keys: Keys, table: Mapping[str, Any]) -> AValue:
    document = json.dumps(table).encode()
    try:
        return cls.model_validate_json(document, strict=True)
    except ValidationError as error:
        place, words = first_problem(error, document)
        raise _Wrong((*keys, *(place or ())), words) from None


def _unusable(keys: Keys, error: InvalidRecord) -> _Wrong:
    place = _CRITERION.match(str(error))
    within: Keys = ("criteria", int(place[1]), place[2]) if place else ()
    return _Wrong((*keys, *within), str(error).removeprefix(place[0] if place else ""))


def _plain(keys: Keys, value: object) -> None:
    """Raise _Wrong for a value that JSON does not have."""
    match value:
        case dict():
            for name, item in value.items():
                _plain((*keys, name), item)
        case list():
            for number, item in enumerate(value):
                _plain((*keys, number), item)
        case date() | time():
            raise _Wrong(keys, "is a date or a time: write it as text, in quotes")
        case float() if not isfinite(value):
            raise _Wrong(keys, "must be a finite number")


def _text_of(path: Path, named: str) -> str:
    """Return the text of a file, with line feeds alone at the ends of lines: as git leaves it on every system."""
    try:
        if not path.is_file():
            raise ConfigurationError(f"{named} is no file: create it, or mend the name")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{named} has more than {MAX_FILE_BYTES:,} bytes: shorten it")
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigurationError(f"{named} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{named} is not UTF-8: byte {error.start + 1} cannot be read") from None


def _sha256(keys: Keys, path: Path) -> str:
    try:
        if not path.is_file():
            raise _Wrong(keys, f"{path} is no file: create it, or mend the name")
        if path.stat().st_size > MAX_DATASET_BYTES:
            raise _Wrong(keys, f"{path} has more than {MAX_DATASET_BYTES // 1024**2} MiB: test with fewer rows")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _Wrong(keys, f"{path} cannot be read: {error.strerror}") from None


def toml_of(definition: Definition) -> str:
    """Return an application's file, with the text of its messages in it. Reading it gives the same digest."""
    content = json.loads(definition.to_json())
    job = content["job"]
    document: dict[str, Any] = {"problem": content["problem"]}
    for section, names in SECTIONS.items():
        table = {name: job[field] for name, field in names.items() if field in job}
        if section == "model":  # it is a name or a chain
            del table["name" if isinstance(job["model"], list) else "chain"]
        if table:
            document[section] = table
    if "output" in job:
        document["format"] = job["output"]
    document["prompt"] = {"messages": content["messages"]}
    if content.get("variables"):
        document["prompt"]["variables"] = content["variables"]
    document |= {name: content[name] for name in ("review", "test") if name in content}
    return to_toml({name: document[name] for name in _KNOWN if name in document})
