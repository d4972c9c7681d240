"""Earlier decisions about the very same input and questions, given again: entries of the cache under their own keys."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace_schemas import DecisionJob, Decisions, Usage
from headrace_schemas.job import Lane
from headrace_schemas.recall import CacheMode, CacheTier, Recall
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import StepWrite
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Admit, Entry, NewEntry, Served
from headrace_workers.features.decisions.temperatures import Calibration, Temperatures, digest_of, fingerprint
from headrace_workers.features.generation.store.model_generations import BELIEVED_SECONDS, ModelGenerations
from headrace_workers.models.generator import Generator
from headrace_workers.models.registry import Registry

_OF_ONE_JOB: Final = {"recall", "attempts", "because"}  # fields of decisions that say nothing of the answers


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a look-up: earlier decisions, with the note that they are given; or the entry that the job's own
    are to fill. Neither where another job fills it now.
    """

    decisions: Decisions | None = None
    served: Served | None = None
    entry_id: int | None = None
    ttl_ms: int = 0

    def kept(self, own: Decisions, ms: float) -> tuple[StepWrite, ...]:
        """Return what keeps the job's own decisions, which took a model so long. A refusal keeps none of them."""
        if self.entry_id is None or any(answer.type == "refusal" for answer in own.answers):
            return ()
        answer = own.model_dump_json(exclude=_OF_ONE_JOB, exclude_none=True)
        return (Admit(self.entry_id, answer.encode(), ms, self.ttl_ms),)


class EarlierDecisions:
    """The decisions of one ledger by one model, whose `version` names what it computes with. `mode` is for jobs that
    name none; every mode but `off` serves the very same request alone. Thread-safe.
    """

    def __init__(self, answers: Answers, version: Callable[[], str], mode: CacheMode, ttl: float) -> None:
        self._answers = answers
        self._version = version
        self._mode = mode
        self._ttl_ms = int(ttl * 1000)

    def look_up(self, tasks: Mapping[int, Task], generator: Generator, temperatures: Temperatures) -> dict[int, Lookup]:
        """Return the result for each job that asks for the cache, by its place. A job that finds nothing is noted as
        the one that fills the entry. Raise Unavailable with the ledger.
        """
        jobs = {place: task.job for place, task in tasks.items() if isinstance(task.job, DecisionJob)}
        jobs = {place: job for place, job in jobs.items() if (job.cache or self._mode) is not CacheMode.OFF}
        if not jobs:
            return {}
        model, number_format = self._version(), generator.quantization
        keys = {
            place: key_of(job, fingerprint(model, number_format), temperatures(job.tenant, number_format))
            for place, job in jobs.items()
        }
        known = self._answers.exact(set(keys.values()))
        found: dict[int, Lookup] = {}
        wanted: list[NewEntry] = []
        for place, job in jobs.items():
            job_id, entry = tasks[place].job_id, known.get(keys[place])
            if entry is not None and (job.max_age is None or entry.age_ms <= job.max_age * 1000):
                found[place] = _given(job_id, job, entry)
            else:
                lane = INTERACTIVE if job.lane is Lane.INTERACTIVE else BATCH
                wanted.append(NewEntry(scope="", key=keys[place], tenant=job.tenant, job_id=job_id, lane=lane))
        leaders = self._answers.lead(wanted, {entry.id for entry in known.values()}).leaders if wanted else {}
        for place in jobs.keys() - found.keys():
            leader = leaders.get(keys[place])
            own = leader is not None and leader.job_id == tasks[place].job_id
            found[place] = Lookup(entry_id=leader.entry_id if leader and own else None, ttl_ms=self._ttl_ms)
        return found


def key_of(job: DecisionJob, model: str, temperatures: Mapping[str, Calibration]) -> str:
    """Return the key of a request: SHA-256, in hexadecimal. `model` is the fingerprint of the model, of the prompt and
    of the scoring. Names of questions are left out.
    """
    digests = [digest_of(question) for question in job.questions]
    asked: dict[str, Any] = {
        "kind": "decision",
        "tenant": job.tenant,
        "model": model,
        "turns": [turn.model_dump(mode="json", exclude_none=True) for turn in job.conversation],
        "questions": [[digest, temperatures.get(digest)] for digest in digests],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _given(job_id: str, job: DecisionJob, entry: Entry) -> Lookup:
    """Return the decisions of an entry, with this job's names of the questions, and 0 tokens."""
    kept = Decisions.model_validate_json(entry.answer)
    saved = kept.usage.prompt_tokens + kept.usage.completion_tokens
    named = zip(job.questions, kept.answers, strict=True)
    changes = {
        "answers": tuple(answer.model_copy(update={"name": question.name}) for question, answer in named),
        "usage": Usage(prompt_tokens=0, completion_tokens=0),
        "recall": Recall(
            tier=CacheTier.EXACT,
            age=max(0, entry.age_ms) / 1000,
            first_job=entry.job_id,
            saved_tokens=saved,
            saved_ms=entry.saved_ms,
        ),
    }
    served = Served(
        job_id=job_id,
        entry_id=entry.id,
        tenant=job.tenant,
        scope=entry.scope,
        tier=CacheTier.EXACT.value,
        similarity=None,
        first_job=entry.job_id,
        saved_tokens=saved,
        saved_ms=entry.saved_ms,
    )
    return Lookup(kept.model_copy(update=changes), served)


def earlier_decisions(ledger: Ledger, registry: Registry, model: str, mode: CacheMode, ttl: float) -> EarlierDecisions:
    """Return the decisions by a model as it is now: a worker goes on with what it loaded when another comes to the
    folder.
    """
    card = registry.find(model)
    told = "/logprobs" if card is not None and card.remote is not None and card.remote.logprobs else ""
    held = f"{registry.version(model)}{told}"
    generations = RecentReads(ledger.of(ModelGenerations).generation, BELIEVED_SECONDS)
    return EarlierDecisions(ledger.of(Answers), lambda: f"{held}/{generations(model)}", mode, ttl)
