"""A run as it is pinned before anything is asked: every variant's question to every item, as jobs of the batch lane.

Lines of the jobs go item by item, in it repeat by repeat, in it variant by variant: what changes with time (a service
that is busier, a judge that is replaced) changes for all variants alike.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pydantic import ValidationError

from headrace_schemas import GenerationJob, Message
from headrace_schemas.codec import check_size, encode_value
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.job import Lane
from headrace_schemas.reasons import describe
from headrace_workers.features.evals.dataset_items import Dataset, Item
from headrace_workers.features.evals.placeholders import NoSuchField, Template
from headrace_workers.features.evals.run_errors import WrongRows, WrongRun
from headrace_workers.features.evals.run_file import Run, Variant

MAX_JOBS: Final = 1_000_000
_MAX_PROBLEMS: Final = 1_000  # a file in which every row is wrong is reported soon
_SEEDS: Final = 2**32


@dataclass(frozen=True)
class Plan:
    """A run with its items. `salt` sets it apart from the same run at another time."""

    run: Run
    dataset: Dataset
    tenant: str
    salt: str = ""

    def __post_init__(self) -> None:
        if self.jobs > MAX_JOBS:
            raise WrongRun(
                f"{len(self.dataset.items):,} items × {len(self.run.variants)} variants × {self.run.repeats} repeats "
                f"are more than {MAX_JOBS:,} jobs: take fewer items or variants"
            )

    @property
    def jobs(self) -> int:
        """The number of jobs."""
        return len(self.dataset.items) * self.run.repeats * len(self.run.variants)

    @cached_property
    def pinned(self) -> dict[str, Any]:
        """All that says what the run is, with the digests of its dataset and of its criteria."""
        run = self.run.model_dump(mode="json")
        criteria = json.dumps(run["criteria"], sort_keys=True)
        return {
            "run": run,
            "dataset_sha256": self.dataset.digest,
            "criteria_sha256": hashlib.sha256(criteria.encode()).hexdigest(),
            "tenant": self.tenant,
            "salt": self.salt,
        }

    @cached_property
    def identity(self) -> str:
        """The digest of what is pinned, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.pinned, sort_keys=True).encode()).hexdigest()

    def lines(self) -> Iterator[bytes]:
        """Yield the jobs as JSON lines. At the end raise WrongRows, which names each row that makes no job."""
        problems: list[str] = []
        templates = [_Templates.of(variant) for variant in self.run.variants]
        reference = None if self.run.reference is None else Template.parse(self.run.reference)
        for number, item in enumerate(self.dataset.items):
            for repeat in range(self.run.repeats):
                for place, (variant, template) in enumerate(zip(self.run.variants, templates, strict=True)):
                    line = self.line_of(number, repeat, place)
                    try:
                        job = self._job(item, variant, template, reference, line, repeat)
                        value = encode_value(job)
                        check_size(value)
                    except ValidationError as error:  # before ValueError, which it is
                        problems.append(f"{self.dataset.where(item)}: variant {variant.name}: {describe(error)}")
                    except (ValueError, InvalidRecord) as error:
                        problems.append(f"{self.dataset.where(item)}: variant {variant.name}: {error}")
                    else:
                        yield b'{"kind":"generation",' + value[1:] + b"\n"
                if problems:  # of the first repeat; the others are wrong alike
                    break
            if len(problems) >= _MAX_PROBLEMS:
                break
        if problems:
            raise WrongRows(problems)

    def line_of(self, item: int, repeat: int, variant: int) -> int:
        """Return the number of a job's line, from 1; `place_of` is the inverse."""
        return (item * self.run.repeats + repeat) * len(self.run.variants) + variant + 1

    def key_of(self, line: int) -> str:
        """Return the idempotency key of a job. The job's id follows from it and the tenant."""
        return f"evaluation-{self.identity[:40]}-{line}"

    def _job(
        self, item: Item, variant: Variant, template: "_Templates", reference: Template | None, line: int, repeat: int
    ) -> GenerationJob:
        prompt = _filled(template.prompt, item, "prompt")
        fields: dict[str, Any] = {"prompt": prompt}
        if template.system is not None:
            system = Message(role="system", content=_filled(template.system, item, "system"))
            fields = {"messages": (system, Message(role="user", content=prompt))}
        sampling = variant.sampling
        if sampling.seed is not None and repeat:  # the same seed would give the same answer again
            sampling = sampling.model_copy(update={"seed": (sampling.seed + repeat) % _SEEDS})
        return GenerationJob(
            **fields,
            tenant=self.tenant,
            idempotency_key=self.key_of(line),
            lane=Lane.BATCH,
            model=variant.model,
            sampling=sampling,
            cache=variant.cache,
            max_age=variant.max_age,
            knowledge=variant.knowledge,
            without_passages=variant.without_passages,
            output=variant.output,
            reference=None if reference is None else _filled(reference, item, "reference"),
            criteria=self.run.criteria,
            metadata={
                "evaluation": self.identity[:12],
                "item": item.id,
                "variant": variant.name,
                "dataset_sha256": self.pinned["dataset_sha256"],
                "criteria_sha256": self.pinned["criteria_sha256"],
            },
        )


@dataclass(frozen=True, slots=True)
class _Templates:
    prompt: Template
    system: Template | None

    @classmethod
    def of(cls, variant: Variant) -> "_Templates":
        return cls(Template.parse(variant.prompt), None if variant.system is None else Template.parse(variant.system))


def _filled(template: Template, item: Item, what: str) -> str:
    try:
        return template.fill(item.row)
    except NoSuchField as error:
        raise ValueError(f"the {what} cannot be filled: {error}") from None
