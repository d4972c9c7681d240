"""The rules by which a deployment admits jobs: the same for records of Kafka and for requests over HTTP."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from headrace_schemas import Message
from headrace_schemas.errors import DeadlinePassed, InvalidRecord, PromptTooLong, UnknownModel
from headrace_schemas.event_types import type_of
from headrace_schemas.job import ModelJob, TuningJob
from headrace_schemas.tool import NO_TOOLS, Offer
from headrace_workers.core.environment import SettingsOf
from headrace_workers.core.feature import Feature, installed
from headrace_workers.core.ledger.charges import UNKNOWN, NextCall, Price, routed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.chain import Link, pin, tokens_with, with_chain
from headrace_workers.core.pipeline.routing import Pipeline, Route
from headrace_workers.core.pipeline.stage import ReadBytes
from headrace_workers.core.pipeline.task import Job, estimate_tokens, pack

Named = tuple[str, str]  # the tenant, and the name of a resource of that tenant


class AdmissionCheck:
    """The check of one feature. A subclass overrides what it needs; instances are thread-safe."""

    def check(self, job: Job) -> None:
        """Raise the error of a job that cannot be run. Quick, since the gateway calls it on its event loop."""

    def is_doubtful(self, job: Job) -> bool:
        """Return True where `examine` may refuse the job. Quick, like `check`."""
        return False

    def examine(self, job: Job) -> int | None:
        """Do the checks that take time, and return the tokens of one answer with its prompt where they were counted.

        Raise the error of a job that cannot be run. Return None where this check counts no tokens of such a job.
        """
        return None

    def named(self, job: Job, models: Collection[str]) -> Collection[str]:
        """Return the names of the resources that the job, which may need these models, needs to exist."""
        return ()

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Ask the ledger once for all these resources, and return the missing ones. Raise Unavailable."""
        return ()

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a job that names this resource, which does not exist."""
        raise NotImplementedError


class Resolver(Protocol):
    """Replaces a name of a job by all that the name stands for. Thread-safe.

    `find` is asked once for all jobs of one look; what it returned is handed back to `resolve`.
    """

    def wanted(self, job: Job, pinned: str | None = None) -> Hashable | None:
        """Return what must be looked up before this job is resolved; None if its names need no look-up. Quick.

        `pinned` is what a gateway found, as `pin` returned it.
        """

    def find(self, wanted: Collection[Any]) -> Mapping[Any, Any]:
        """Return what these names stand for, without the unknown ones. Ask the ledger once. Raise Unavailable."""

    def resolve(self, job: Job, wanted: Any, found: Any | None) -> Job:
        """Return the job as it is to be run. Raise the error of a job whose name is unknown, or that does not fit."""

    def pin(self, found: Any) -> str:
        """Return how a record says what its gateway found."""


class KnownModels(Protocol):
    """The models of a deployment, as far as admission asks about them."""

    def knows(self, alias: str, tenant: str) -> bool:
        """Return True where a model that this tenant's jobs may name answers to this alias."""

    def aliases(self, tenant: str) -> list[str]:
        """Return the aliases of a tenant's models in order, for messages."""

    def chain(self, name: str) -> tuple[str, ...] | None:
        """Return the models of the chain with this name; None where no chain has it."""

    def context_length(self, alias: str) -> int | None:
        """Return how many tokens prompt and answer may have together; None where the model is not here."""

    def provider(self, alias: str) -> str | None:
        """Return the provider whose machine runs the model; None for a machine of the deployment."""

    def lacks(self, alias: str) -> Collection[str]:
        """Return the sampling parameters that the model has not; none where the model is not here."""

    def knows_tools(self, alias: str) -> bool:
        """Return True if the model can be asked to choose whether to call a tool; False where it is not here."""

    def prompt_tokens(
        self, alias: str, messages: Sequence[Message], tenant: str, offer: Offer = NO_TOOLS
    ) -> int | None:
        """Return the tokens of a tenant's prompt, with the tools that its model is offered, by the model's own count.
        None where only a guess can be had.

        Raise what is wrong with the prompt, such as PromptTooLong.
        """

    @property
    def longest_mark(self) -> int:
        """Return how many bytes the model may see in addition to the conversation that it is sent."""


class KnownEmbedder(Protocol):
    """The embedder of a deployment, as far as admission asks about it."""

    @property
    def alias(self) -> str:
        """Return the name under which jobs ask for it."""

    def check(self, alias: str) -> None:
        """Raise UnknownModel where another embedder is asked for, or this one is not here. Quick."""

    def input_tokens(self, alias: str, text: str) -> int | None:
        """Return the tokens of a text as this embedder reads it, None where only a guess can be had.

        Raise UnknownModel where another embedder is asked for, or this one is not here, and InputTooLong.
        """


class ResolvedJob(NamedTuple):
    """A job with the models of the chain that it names, and all models that it may need, with their prices."""

    job: Job
    prices: Mapping[str, Price | None]

    @property
    def unpriced(self) -> str | None:
        """Return a model that costs what nobody knows; None where all prices are known, or the models are own."""
        return min((alias for alias, price in self.prices.items() if price is UNKNOWN), default=None)


class FirstStep(NamedTuple):
    """Start of a job: its first step, the tokens of its answer there, and the context that pins its chain and the price
    of its first call. `call` is the first call of a model that it needs, if it needs one.
    """

    route: Route
    tokens: int
    context: bytes | None = None
    call: NextCall | None = None


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """The models, the pipeline and the features' checks, in the order in which they are asked. Thread-safe.

    A caller resolves each job once, with `resolve`, before it calls the other methods.
    """

    models: KnownModels
    pipeline: Pipeline
    checks: Sequence[AdmissionCheck] = ()
    resolver: Resolver | None = None

    def check(self, resolved: ResolvedJob, now: int, expires: datetime | None = None) -> None:
        """Raise the error of a job that cannot be run, as far as a quick look shows.

        `now` is in ms since 1970; `expires` is a second deadline, that of the job's envelope.
        """
        job = resolved.job
        for deadline in (job.deadline, expires):
            if deadline is not None and milliseconds(deadline) <= now:
                raise DeadlinePassed(f"the deadline {deadline.isoformat()} has passed")
        for alias in sorted(resolved.prices):
            self.check_model(alias, job.tenant)
        for check in self.checks:
            check.check(job)

    def check_model(self, alias: str, tenant: str) -> None:
        """Raise UnknownModel where no model of this deployment that the tenant may name has this alias."""
        if not self.models.knows(alias, tenant):
            known = ", ".join(self.models.aliases(tenant)) or "none"
            raise UnknownModel(f"no model is called {alias!r}; known are: {known}")

    def is_doubtful(self, job: Job) -> bool:
        """Return True where `examine` may refuse the job. Quick."""
        return any(check.is_doubtful(job) for check in self.checks)

    def examine(self, job: Job) -> int:
        """Do the checks that take time, and return the tokens of one answer with its prompt.

        The tokens are exact where a check counted them, else an estimate. Raise the error of a job that cannot be run.
        """
        counted = _counted(self.checks, job)
        return estimate_tokens(job) if counted is None else counted

    def examine_doubtful(self, job: Job) -> int | None:
        """Let those checks examine the job that may refuse it; return its tokens where one of them counted these."""
        return _counted([check for check in self.checks if check.is_doubtful(job)], job)

    def wanted(self, job: Job, pinned: str | None = None) -> Hashable | None:
        """Return what `find` must look up before the job is resolved; None if nothing."""
        return None if self.resolver is None else self.resolver.wanted(job, pinned)

    def find(self, wanted: Collection[Hashable | None]) -> Mapping[Any, Any]:
        """Return what the names of several jobs stand for, without unknown ones. Raise Unavailable."""
        names = {name for name in wanted if name is not None}
        return self.resolver.find(names) if names and self.resolver is not None else {}

    def resolve(self, job: Job, wanted: Hashable | None = None, found: Mapping[Any, Any] = {}) -> ResolvedJob:
        """Return the job with what its name stands for, the models of its chain, and its models' prices.

        `wanted` is what `wanted` returned of the job. Raise the error of a job that cannot be resolved.
        """
        if wanted is not None and self.resolver is not None:
            job = self.resolver.resolve(job, wanted, found.get(wanted))
        if isinstance(job, ModelJob) and isinstance(job.model, str):
            chain = self.models.chain(job.model)
            job = job if chain is None else job.model_copy(update={"model": chain})
        price = self.pipeline.prices.price
        return ResolvedJob(job, {alias: price(alias) for alias in self.pipeline.models_of(job)})

    def first_step(self, job_id: str, resolved: ResolvedJob, tokens: int, read_bytes: int = 0) -> FirstStep:
        """Return the start of a job that reads so many bytes, and pin its chain and its price.

        `tokens` is the length of one answer of its first model. Raise InvalidRecord if no stage takes the job.
        """
        context: dict[str, Any] = {}
        first = job = resolved.job
        if isinstance(job, TuningJob):  # one token a step: runs take turns by their segments
            training = self.pipeline.training(job.model, tokens)
            return FirstStep(self.route(job_id, job), 1, pack(routed(context, training), ()), training)
        if isinstance(job, ModelJob) and not isinstance(job.model, str):
            context = pin(self._links(job, job.chain, tokens))
            first = with_chain(job, context)
        route = self.route(job_id, first)
        if isinstance(job, ModelJob) and route.model is not None:
            tokens = tokens_with(route.model, job.first_model, tokens, context)
        call = self.pipeline.first_call(route, job_id, first, ReadBytes(read_bytes), resolved.prices)
        return FirstStep(route, tokens, pack(routed(context, call if route.model else None), ()), call)

    def _links(self, job: Job, chain: Sequence[str], tokens: int) -> list[Link]:
        """Return the chain of a job whose first model can take it. Another that cannot is skipped, and says why."""
        links = [Link(chain[0], tokens)]
        for model in chain[1:]:
            alone = job.model_copy(update={"model": model})
            try:
                links.append(Link(model, self.examine(alone)))
            except PromptTooLong as error:
                links.append(Link(model, skipped=str(error)))
        return links

    def route(self, job_id: str, job: Job) -> Route:
        """Return where the job begins. Raise InvalidRecord where no stage of this deployment takes it."""
        route = self.pipeline.next_step(job_id, job, job)
        if route is None:
            raise InvalidRecord(f"no stage of this deployment takes {type_of(job)}")
        return route


class NamedResources:
    """The resources that jobs name. The ledger is asked for each of them once."""

    def __init__(self, checks: Sequence[AdmissionCheck]) -> None:
        self._checks = checks
        self._exists: list[dict[Named, bool]] = [{} for _ in checks]

    def look_up(self, jobs: Iterable[ResolvedJob]) -> None:
        """Ask for what these jobs name: once for all of them and each kind of resource. Raises Unavailable."""
        jobs = tuple(jobs)
        for check, exists in zip(self._checks, self._exists, strict=True):
            if new := named_by(check, jobs) - exists.keys():
                missing = check.unknown(sorted(new))
                exists.update((row, row not in missing) for row in new)

    def check(self, resolved: ResolvedJob) -> None:
        """Raise the error of a job that was looked up, and names what does not exist."""
        job, prices = resolved
        for check, exists in zip(self._checks, self._exists, strict=True):
            for name in sorted(check.named(job, prices.keys())) if exists else ():
                if not exists[job.tenant, name]:
                    raise check.missing((job.tenant, name))


def _counted(checks: Iterable[AdmissionCheck], job: Job) -> int | None:
    found = [check.examine(job) for check in checks]  # all of them: each may refuse the job
    return next((tokens for tokens in found if tokens is not None), None)


def named_by(check: AdmissionCheck, jobs: Iterable[ResolvedJob]) -> frozenset[Named]:
    """Return the resources of this check's kind that the jobs name."""
    return frozenset([(job.tenant, name) for job, prices in jobs for name in check.named(job, prices.keys())])


def milliseconds(time: datetime) -> int:
    """Return a time as ms since 1970."""
    return int(time.timestamp() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionParts:
    """The things that features make their checks of."""

    ledger: Ledger
    pipeline: Pipeline
    models: KnownModels
    embedder: KnownEmbedder
    settings: SettingsOf
    home: Path


def admission_rules(parts: AdmissionParts) -> AdmissionRules:
    """Return the rules by which this process takes jobs in, with the checks of all features in their order."""

    def checks_of(feature: Feature) -> Iterator[AdmissionCheck]:
        if feature.job_check is not None:
            yield feature.job_check()
        if feature.admission is not None:
            yield feature.admission(parts)

    checks = tuple(check for feature in installed() for check in checks_of(feature))
    resolver = next((feature.resolver(parts) for feature in installed() if feature.resolver is not None), None)
    return AdmissionRules(parts.models, parts.pipeline, checks, resolver)


def job_checks() -> Sequence[AdmissionCheck]:
    """Return the checks of all features that need nothing but the job, for a process without a deployment."""
    return tuple(feature.job_check() for feature in installed() if feature.job_check is not None)
