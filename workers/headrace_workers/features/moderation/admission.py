"""Admission of moderation jobs: the moderator that a job names must exist."""

from headrace_schemas import ModerationJob
from headrace_schemas.errors import UnknownModel
from headrace_schemas.job import POLICY_MODEL
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.core.pipeline.task import Job


class ModeratorCheck(AdmissionCheck):
    """The check of moderators: there is one, the deployment's policy."""

    def check(self, job: Job) -> None:
        """Raise UnknownModel where the job asks for another moderator than the policy."""
        if isinstance(job, ModerationJob) and job.model not in (None, POLICY_MODEL):
            raise UnknownModel(
                f"no moderator is called {job.model!r}; there is: {POLICY_MODEL}, which need not be named"
            )
