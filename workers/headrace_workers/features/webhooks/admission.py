"""Admission of callbacks: a job's callback must lead somewhere."""

from collections.abc import Collection

from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.admission.check import AdmissionCheck, Named
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.webhooks.allowed_targets import Reach
from headrace_workers.features.webhooks.callbacks import Unknown, check_url, no_such_endpoint


class CallbackCheck(AdmissionCheck):
    """The check of callbacks. `unknown` returns those of these endpoints that are not registered."""

    def __init__(self, reach: Reach, unknown: Unknown) -> None:
        self._reach = reach
        self._unknown = unknown

    def check(self, job: Job) -> None:
        """Raise InvalidRecord where the callback's URL leads where webhooks may not go."""
        check_url(job.callback, self._reach)

    def named(self, job: Job) -> Collection[str]:
        """Return the endpoint that the callback names, if it names one."""
        return () if job.callback is None or job.callback.endpoint is None else (job.callback.endpoint,)

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return those of these endpoints that are not registered."""
        return self._unknown(named)

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a callback to this endpoint, which is not registered."""
        return no_such_endpoint(named)
