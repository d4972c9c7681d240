"""What a step is given: the job, and the event that brought it to this stage."""

from dataclasses import dataclass
from datetime import datetime

from headrace_schemas import EvaluationJob, GenerationJob, Moderated, Output

StepEvent = GenerationJob | EvaluationJob | Output | Moderated


@dataclass(frozen=True, slots=True)
class Task:
    """One job at one stage. `event` is the job itself at the first stage, else the previous stage's event."""

    job_id: str
    job: GenerationJob | EvaluationJob
    event: StepEvent
    accepted_at: datetime
    attempt: int = 1
