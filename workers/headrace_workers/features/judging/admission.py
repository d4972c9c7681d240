"""Admission of criteria: a job's criteria must be usable."""

from headrace_schemas.criteria import JsonSchema, Regex
from headrace_schemas.job import AnyJob, JudgedJob
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.features.judging.usable import check_usable


class CriteriaCheck(AdmissionCheck):
    """The check of criteria, which hostile ones make long."""

    def is_doubtful(self, job: AnyJob) -> bool:
        """Return True where the job has a pattern or a schema."""
        return isinstance(job, JudgedJob) and any(isinstance(each, Regex | JsonSchema) for each in job.criteria)

    def examine(self, job: AnyJob) -> None:
        """Raise InvalidRecord, which names the first of the job's criteria that cannot be used."""
        check_usable(job)
