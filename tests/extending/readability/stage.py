"""The stage that measures how easy answers are to read."""

from functools import partial

from headrace_schemas import Moderated
from headrace_workers.core.pipeline.stage import Stage
from headrace_workers.core.pipeline.task import Job, StepEvent
from headrace_workers.features.readability.step import measure


def stage(longest_sentence: int) -> Stage:
    """Return the stage. It comes after moderation, and takes jobs whose metadata has the key `readability`."""
    step = partial(measure, longest_sentence=longest_sentence)
    return Stage(name="readability", order=52, takes=(Moderated,), step=step, when=_asks)


def _asks(job: Job, _event: StepEvent) -> bool:
    return "readability" in job.metadata
