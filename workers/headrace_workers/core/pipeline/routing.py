"""Routing of jobs: the only module that decides where a job goes next, both at ingest and when a step is done."""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf
from typing import Any, Final, NamedTuple

from headrace_schemas import GenerationJob
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import JudgedJob, Lane, ModelJob
from headrace_workers.core.ledger.charges import NextCall, NoPrices, Price, Prices
from headrace_workers.core.ledger.outcome import Outcome
from headrace_workers.core.pipeline.chain import Decision, FailedAttempt, decide_next
from headrace_workers.core.pipeline.stage import (
    MODEL_ROLE,
    ReadBytes,
    Stage,
    Step,
    Weight,
    always,
    every,
    in_order,
    installed_stages,
    model_queue,
    no_chain,
    no_further_answers,
    no_model,
)
from headrace_workers.core.pipeline.task import Job, StepEvent, Task, Unit


class Route(NamedTuple):
    """The stage that a job goes to, the queue where its step waits, and the group that may share a call with it; of
    these, those with the same `prefix` begin with the same. `model` runs it, where a model does.
    """

    stage: Stage
    queue: str
    group: str
    prefix: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is served. A worker holds `open_calls` calls open to a model of another machine."""

    alias: str
    open_calls: int = 0

    @property
    def is_remote(self) -> bool:
        """Return True where it answers on another machine."""
        return self.open_calls > 0


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, what running its work costs, the role that does it, and the model, when one does.

    A worker runs `concurrency` of its groups in addition to its other work, where that is more than one. A group has
    `most` steps, where that is fewer than the deployment says.
    """

    name: str
    weight: Weight
    role: str
    model: str | None = None
    concurrency: int = 1
    most: int | None = None


_AROUND: Final = 200  # tokens around what says what is wrong with an answer


def none_avoided(_tenant: str) -> Collection[str]:
    """Return no models."""
    return ()


class Pipeline:
    """The stages, in the order in which a job passes them. Everything that depends on the set of stages asks this.

    Without `stages` it has the stages of all features. `judge_model` answers rubrics that name no model. `avoided`
    returns the models that a tenant's interactive jobs are not sent to while another may answer them. `prices` has the
    prices of the deployment's models; without it no price is known.
    """

    def __init__(
        self,
        stages: Sequence[Stage] | None = None,
        *,
        judge_model: str | None = None,
        avoided: Callable[[str], Collection[str]] = none_avoided,
        prices: Prices | None = None,
    ) -> None:
        self.stages = installed_stages() if stages is None else in_order(stages)
        self._judge_model = judge_model
        self._avoided = avoided
        self.prices = prices or NoPrices()
        self._places = {stage.name: place for place, stage in enumerate(self.stages)}
        # Each job asks these, and most stages answer nothing. The models of its chain are those that the job names.
        self._of_models = tuple(
            stage for stage in self.stages if stage.model is not no_model and stage.chain is no_chain
        )
        self._of_further_answers = tuple(
            stage for stage in self.stages if stage.further_answers is not no_further_answers
        )

    def avoiding(self, avoided: Callable[[str], Collection[str]]) -> "Pipeline":
        """Return the same pipeline, which leads around the models that `avoided` returns."""
        pipeline = copy(self)
        pipeline._avoided = avoided
        return pipeline

    def stage(self, name: str) -> Stage | None:
        """Return the stage of this name, None when this version knows none."""
        place = self._places.get(name)
        return None if place is None else self.stages[place]

    def next_step(
        self,
        job_id: str,
        job: Job,
        event: StepEvent,
        *,
        after: str | None = None,
        to: str | None = None,
        model: str | None = None,
    ) -> Route | None:
        """Return where a job goes with this event: to the stage `to` (and that `model`, where it is named), or to the
        first after `after` that takes it.

        None when no stage does.
        """
        if to is not None:
            found = self.stage(to)
            return None if found is None else self._route(found, job_id, job, model)
        first = 0 if after is None else self._places[after] + 1
        for stage in self.stages[first:]:
            if not (
                isinstance(event, stage.takes)
                and (stage.when is always or stage.when(job, event))
                and (stage.drawn is every or stage.drawn(job_id, job))
            ):
                continue
            if (route := self._route(stage, job_id, job)) is not None:
                return route
        return None

    def goes_back(self, after: str, to: str) -> bool:
        """Return True if a job that goes from `after` to `to` comes to a stage once more."""
        return self._places[to] <= self._places[after]

    def decide(
        self,
        stage: Stage,
        job_id: str,
        job: Job | None,
        attempt: FailedAttempt,
        seconds_left: float | None,
    ) -> tuple[Decision, Route | None]:
        """Return who answers this step next, and the route to that model if it is another: see `decide_next`. A unit
        has no job, and stays with its model.
        """
        if job is None:
            return decide_next(attempt, (), Lane.BATCH, seconds_left), None
        named = stage.model(job_id, job, self._judge_model)
        chain = stage.chain(job) or (() if named is None else (named,))
        decision = decide_next(attempt, chain, job.lane, seconds_left, self._avoided(job.tenant))
        to = decision.model
        return decision, None if to is None else self._route_to(stage, job_id, job, to)

    def models_of(self, job: Job) -> frozenset[str]:
        """Return every model alias that this job may need on its way."""
        models = {stage.model("", job, self._judge_model) for stage in self._of_models}  # all, for every draw
        if isinstance(job, JudgedJob) and job.criteria:
            models.update(job.judge_models)
        if isinstance(job, ModelJob):
            models.update(job.chain)
        return frozenset({model for model in models if model is not None})

    def _route(self, stage: Stage, job_id: str, job: Job, model: str | None = None) -> Route | None:
        model = model or stage.model(job_id, job, self._judge_model)
        if stage.weight is not Weight.MODEL:
            return Route(stage, stage.queue(model), stage.group_of(job, job_id, model), stage.prefix(job))
        if model is None:
            return None
        chain = stage.chain(job)
        if len(chain) > 1 and model in (avoided := self._avoided(job.tenant)):
            shut = FailedAttempt(model=model, opens_in=inf)
            model = decide_next(shut, chain, job.lane, None, avoided).model or model
        return self._route_to(stage, job_id, job, model)

    @staticmethod
    def _route_to(stage: Stage, job_id: str, job: Job, model: str) -> Route:
        return Route(stage, stage.queue(model), stage.group_of(job, job_id, model), stage.prefix(job), model)

    def call(self, route: Route, job: Job, read: ReadBytes) -> NextCall | None:
        """Return the call of a model that a job is routed to and that reads so many bytes; None where none is asked."""
        if route.model is None:
            return None
        return self._call_of(route.stage, route.model, job, read)

    def training(self, model: str, tokens: int) -> NextCall:
        """Return the training of a model with so many tokens, which is reserved and charged as a call is."""
        return NextCall(model, self.prices.training(model), tokens)

    def first_call(
        self, route: Route, job_id: str, job: Job, read: ReadBytes, prices: Mapping[str, Price | None] | None = None
    ) -> NextCall | None:
        """Return the first call that a job needs which begins with this route; None where it needs none. `prices` are
        known ones, by model.
        """
        if route.model is not None:
            return self._call_of(route.stage, route.model, job, read, prices)
        for stage in self.stages:
            if stage.weight is Weight.MODEL and isinstance(job, stage.takes):
                model = stage.model(job_id, job, self._judge_model)
                if model is not None:
                    return self._call_of(stage, model, job, read, prices)
        return None

    def _call_of(
        self, stage: Stage, model: str, job: Job, read: ReadBytes, prices: Mapping[str, Price | None] | None = None
    ) -> NextCall:
        price = prices[model] if prices and model in prices else self.prices.price(model)
        tokens = 0 if price is None else stage.most_tokens(job, read)  # without a price nobody asks for them
        return NextCall(model, price, tokens)

    def reserved_behind(self, route: Route, job_id: str, job: Job, event: StepEvent, read: ReadBytes) -> int:
        """Return the most that the first answer of a job may cost, where it is routed to another model before that, by
        the step of a stage that does not take it there: what admission reserved for the answer stays so.
        """
        if event is not job or isinstance(event, route.stage.takes):
            return 0
        call = self.first_call(route._replace(model=None), job_id, job, read)
        return (call and call.most) or 0

    def most_tokens(self, job: Job, once: int) -> int:
        """Return the largest cost of a job, one answer of which costs `once` with its prompt: it may come back to its
        model.

        Each answer after the first reads the one before it, too, and what is wrong with that.
        """
        if not isinstance(job, GenerationJob):
            return once
        further = [each for stage in self._of_further_answers if (each := stage.further_answers(job)).answers]
        if not further:
            return once
        objection = _AROUND + sum(answers.tokens for answers in further)
        return once + sum(answers.answers for answers in further) * (once + job.sampling.max_tokens + objection)

    # -- queues and workers

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Return the roles that a worker can have."""
        return tuple(dict.fromkeys(stage.role for stage in self.stages))

    def queues(self, models: Sequence[ServedModel]) -> list[Queue]:
        """Return every queue that there is when these models are served; those nearest to the end come first."""
        light = [
            Queue(stage.queue(), stage.weight, stage.role, concurrency=stage.concurrency)
            for stage in reversed(self.stages)
            if stage.weight is not Weight.MODEL
        ]
        return [*dict.fromkeys(light), *map(_queue_of, models)]

    def roles_of(self, names: Sequence[str]) -> frozenset[str]:
        """Return the roles that these words name; `all` is every one but those that stand apart."""
        for name in names:
            if name != "all" and name not in self.roles:
                raise ConfigurationError(f"--role is {name!r}; it may be {', '.join(self.roles)} or all")
        if not names:
            raise ConfigurationError(f"a worker needs a --role: {', '.join(self.roles)} or all")
        if "all" not in names:
            return frozenset(names)
        return frozenset({stage.role for stage in self.stages if stage.apart is None} | (set(names) - {"all"}))

    def queues_of(self, roles: Collection[str], model: str | None, *, remote: bool = False) -> list[str]:
        """Return the queues that a worker of these roles listens to, in the order in which it looks at them. The queues
        of `remote` models come and go, and are not among them.

        Stages near the end come first: a worker finishes jobs before it begins others.
        """
        if MODEL_ROLE in roles and model is None and not remote:
            raise ConfigurationError(f"a worker with the role {MODEL_ROLE} needs a --model, or --remote")
        models = [ServedModel(model)] if model is not None and MODEL_ROLE in roles else []
        return [queue.name for queue in self.queues(models) if queue.model is not None or queue.role in roles]

    def steps_of(
        self, roles: Collection[str], model: str | None, build: Mapping[str, Callable[[], Any]]
    ) -> dict[tuple[str, str], Step]:
        """Return the steps of these roles, by queue and stage. Only what the roles need is built, each once."""
        built: dict[str, Any] = {}

        def need(name: str) -> Any:
            if name not in built:
                built[name] = build[name]()
            return built[name]

        steps: dict[tuple[str, str], Step] = {}
        for stage in self.stages:
            if stage.role not in roles:
                continue
            step = partial(stage.step, **{name: need(name) for name in stage.needs}) if stage.needs else stage.step
            if stage.weight is Weight.MODEL:
                steps[stage.queue(model), stage.name] = _with_model(step, need("generator"))
            else:
                steps[stage.queue(), stage.name] = step
        return steps


def _queue_of(model: ServedModel) -> Queue:
    """Return the queue of a model. Calls to another machine are groups of one: none waits for the slowest of others."""
    queue = model_queue(model.alias)
    if model.is_remote:
        return Queue(queue, Weight.IO, MODEL_ROLE, model.alias, concurrency=model.open_calls, most=1)
    return Queue(queue, Weight.MODEL, MODEL_ROLE, model.alias)


def _with_model(step: Callable[..., Sequence[Outcome]], generator: Any) -> Step:
    """Return a step that asks this model, at once when its group is of the interactive lane. A group is of one lane;
    units are bulk work.
    """

    def run(tasks: Sequence[Task | Unit]) -> Sequence[Outcome]:
        urgent = bool(tasks) and isinstance(tasks[0], Task) and tasks[0].job.lane is Lane.INTERACTIVE
        return step(tasks, generator=generator.urgent if urgent else generator)

    return run
