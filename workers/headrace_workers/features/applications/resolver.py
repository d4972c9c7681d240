"""Resolution of a job's application, at admission: the version that its name stands for, with its variables."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from headrace_schemas import Criterion, GenerationJob, Message, Sampling
from headrace_schemas.application import PRODUCTION, ApplicationVersion, Resolution
from headrace_schemas.codec import check_size, decode_job, encode_value
from headrace_schemas.errors import InvalidRecord, UnknownModel
from headrace_schemas.job import Job as JobFields
from headrace_schemas.limits import MAX_MESSAGES
from headrace_workers.core.admission import KnownModels
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.applications.definition import Definition, render
from headrace_workers.features.applications.store import PINNED, Version, Wanted

BELIEVED_SECONDS: Final = 1.0
_MOST: Final = 10_000  # look-ups that are kept
_KEPT: Final = 256  # definitions that are read already
# A job may set these itself. Of its sampling, each field that it gives counts; its criteria come after those of the
# application.
_OVERRIDDEN: Final = frozenset({"sampling", "lane", "criteria"})
# Fields of a job that agree with whatever an application sets.
_AGREEING: Final = {
    *JobFields.model_fields, "model", "application", "variables", "prompt", "messages", "sampling", "reference",
}  # fmt: skip
_TO_MEASURE: Final = 100_000  # characters from which on the job's size is counted


class ApplicationResolver:
    """Resolver of applications (core/admission.py). `look_up` asks the ledger for several names at once."""

    def __init__(
        self,
        models: KnownModels,
        look_up: Callable[[Collection[Wanted]], Mapping[Wanted, Version]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._look_up = look_up
        self._monotonic = monotonic
        self._recent: dict[Wanted, tuple[float, Version]] = {}
        self._lock = threading.Lock()

    def wanted(self, job: Job, pinned: str | None = None) -> Wanted | None:
        """Return the version to look up; None for a job that names a model, or a chain."""
        if not isinstance(job, GenerationJob):
            return None
        if job.application is None:
            model = job.model
            if not isinstance(model, str) or self._models.knows(model, job.tenant):
                return None
            if self._models.chain(model) is not None:
                return None
        name, at = _named(job)
        return Wanted(job.tenant, name, f"{PINNED}{pinned}" if pinned else at)

    def find(self, wanted: Collection[Wanted]) -> Mapping[Wanted, Version]:
        """Return these versions, without the missing ones. Those of the last second are not looked up. Raise
        Unavailable.
        """
        began = self._monotonic()
        with self._lock:
            recent = {name: self._recent[name] for name in wanted if name in self._recent}
        found = {name: version for name, (at, version) in recent.items() if began - at < BELIEVED_SECONDS}
        if missing := [name for name in wanted if name not in found]:
            looked_up = self._look_up(missing)
            found |= looked_up
            with self._lock:
                if len(self._recent) > _MOST:
                    self._recent.clear()
                self._recent |= {name: (began, version) for name, version in looked_up.items()}
        return found

    def pin(self, found: Version) -> str:
        """Return the version's digest."""
        return found.digest

    def resolve(self, job: Job, wanted: Wanted, found: Version | None) -> Job:
        """Return the job with all that the version says. Raise InvalidRecord or UnknownModel, which name the field."""
        assert isinstance(job, GenerationJob)  # noqa: S101 - `wanted` names no version for others
        if found is None:
            if job.application is None and "@" not in str(job.model):
                return job  # it names a model, which nobody has: admission says so
            raise _unknown(wanted)
        definition, fields = _read(found.digest, found.definition)
        _check_fields(job, definition)
        own = render(definition, job.variables)
        _, at = _named(job)
        label = None if at.isdigit() else at
        version = ApplicationVersion(name=found.name, version=found.number, digest=found.digest, label=label)
        changes: dict[str, Any] = {
            **fields,
            "application": None,
            "prompt": None,
            "messages": (*own, *_conversation(job)),
            "resolution": Resolution(application=version, turns=len(own)),
        }
        if "lane" in job.model_fields_set:
            changes.pop("lane", None)
        if job.sampling.model_fields_set:
            given = {name: getattr(job.sampling, name) for name in job.sampling.model_fields_set}
            changes["sampling"] = changes.get("sampling", Sampling()).model_copy(update=given)
        if job.criteria and "criteria" in fields:
            changes["criteria"] = _with_own(fields["criteria"], job.criteria, found.name)
        resolved = job.model_copy(update=changes)
        _check_whole(resolved)
        # The application's fields agree with one another, and those of a plain request with any.
        return resolved if job.model_fields_set <= _AGREEING else _agreeing(resolved)


def _named(job: GenerationJob) -> tuple[str, str]:
    """Return the application that a job names, and its label, or its version in digits."""
    name, _, at = str(job.application or job.model).partition("@")
    return name, at or PRODUCTION


def _unknown(wanted: Wanted) -> UnknownModel:
    """Return the error of a job whose application is not there."""
    if wanted.at.startswith(PINNED):
        return UnknownModel(
            f"the version of the application {wanted.name!r} that a gateway resolved is not in the ledger: send the "
            "job again"
        )
    kind = "version" if wanted.at.isdigit() else "label"
    return UnknownModel(
        f"there is no application {wanted.name!r} with the {kind} {wanted.at!r}: `headrace apps list` shows those that "
        "there are"
    )


@lru_cache(_KEPT)
def _read(digest: str, text: str) -> tuple[Definition, Mapping[str, Any]]:
    """Return a definition, and the fields that it sets as values of a job."""
    definition = Definition.from_json(text)
    job = GenerationJob.model_validate({**definition.job, "prompt": "-"})
    return definition, {name: getattr(job, name) for name in definition.job}


def _check_fields(job: GenerationJob, definition: Definition) -> None:
    """Raise InvalidRecord for a field that the application sets, too."""
    for name in definition.job:
        if name in _OVERRIDDEN or name == "model" or name not in job.model_fields_set:
            continue
        if getattr(job, name) != type(job).model_fields[name].default:
            raise InvalidRecord(
                f"{name}: the application {definition.name} sets it; leave it out, or push a version without it",
                param=name,
            )


def _with_own(criteria: Sequence[Criterion], own: Sequence[Criterion], application: str) -> tuple[Criterion, ...]:
    """Return an application's criteria and a job's own. Raise InvalidRecord for another one of the same name."""
    by_name = {criterion.key: criterion for criterion in criteria}
    for item in own:
        if by_name.setdefault(item.key, item) != item:
            raise InvalidRecord(
                f"criteria: the application {application} has another criterion {item.key!r}; give yours another name",
                param="criteria",
            )
    return tuple(by_name.values())


def _agreeing(job: GenerationJob) -> Job:
    """Return the job. Raise InvalidRecord where its fields contradict those of its application."""
    value = encode_value(job)
    check_size(value)
    return decode_job("generation", value)


def _conversation(job: GenerationJob) -> tuple[Message, ...]:
    """Return the turns that the job brings: they come after the application's."""
    return job.messages if job.prompt is None else (Message(role="user", content=job.prompt),)


def _check_whole(job: GenerationJob) -> None:
    """Raise InvalidRecord where the job with its application's messages is more than a job may be."""
    assert job.resolution is not None  # noqa: S101 - it was just made
    name = job.resolution.application.name
    if not job.messages:
        raise InvalidRecord(f"neither prompt nor messages is given, and the application {name} has none: give one")
    if len(job.messages) > MAX_MESSAGES:
        raise InvalidRecord(
            f"messages: the application {name} has {job.resolution.turns} of its own, which makes "
            f"{len(job.messages)}; at most {MAX_MESSAGES} are taken",
            param="messages",
        )
    if sum(len(turn.content) for turn in job.messages) > _TO_MEASURE:
        check_size(encode_value(job))
