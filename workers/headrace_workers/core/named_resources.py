"""Resources that a job names, and the read permissions that its sender needs for them. Pure."""

from typing import Final

from headrace_schemas import GenerationJob
from headrace_schemas.job import AnyJob

KNOWLEDGE: Final = "knowledge"
WEBHOOKS: Final = "webhooks"
FAMILIES: Final = (KNOWLEDGE, WEBHOOKS)  # of resources that a job can name


def named_by(job: AnyJob) -> dict[str, str]:
    """Return the family of each resource that a job names, by the field that names it."""
    found = {}
    if isinstance(job, GenerationJob) and job.knowledge is not None:
        found["knowledge"] = KNOWLEDGE
    if job.callback is not None and job.callback.endpoint is not None:
        found["callback.endpoint"] = WEBHOOKS
    return found
