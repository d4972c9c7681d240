"""The step that measures how easy answers are to read."""

import re
from collections.abc import Sequence
from typing import Final

from headrace_schemas import Moderated
from headrace_workers.core.pipeline.outcome import Done, Outcome
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.readability.events import ReadabilityMeasured
from headrace_workers.features.readability.store import row_of

_END: Final = re.compile(r"[.!?]+(?:\s|$)")


def measure(tasks: Sequence[Task], *, longest_sentence: int) -> list[Outcome]:
    """Measure the answer of each task; the i-th outcome belongs to the i-th task."""
    return [_measured(task, longest_sentence) for task in tasks]


def _measured(task: Task, longest_sentence: int) -> Done:
    text = task.event.answer.text if isinstance(task.event, Moderated) else None
    words = [len(sentence.split()) for sentence in _END.split(text or "") if sentence.strip()]
    measured = ReadabilityMeasured(
        job_id=task.job_id,
        tenant=task.job.tenant,
        sentences=len(words),
        long_sentences=sum(count > longest_sentence for count in words),
    )
    return Done(also=(measured,), rows=(row_of(measured),))
