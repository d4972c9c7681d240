"""Callbacks of jobs and batches, checked before either is taken in: else they would only fail later.

The host's name is not resolved here: its address may change, and is checked at each delivery.
"""

from collections.abc import Callable, Collection

from headrace_schemas.callback import Recipient
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.admission import AdmissionCheck, Named
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.webhooks import targets
from headrace_workers.features.webhooks.targets import Reach

Unknown = Callable[[Collection[Named]], Collection[Named]]  # those that are not there, or another tenant's


def no_such_endpoint(named: Named) -> InvalidRecord:
    """Return the error of a callback to an endpoint that is not registered."""
    tenant, endpoint = named
    return InvalidRecord(
        f"callback.endpoint: the tenant {tenant} has registered no webhook endpoint {endpoint}; "
        f"`headrace webhooks list --tenant {tenant}` shows those that it has"
    )


def check_url(callback: Recipient | None, reach: Reach) -> None:
    """Raise InvalidRecord where a callback's URL leads where webhooks may not go, as far as the URL itself tells."""
    if callback is None or callback.url is None:
        return
    try:
        targets.read_url(callback.url, reach)
    except targets.UrlRefused as error:
        raise InvalidRecord(f"callback.url: {error}") from error


def check_callback(tenant: str, callback: Recipient | None, unknown: Unknown, reach: Reach) -> None:
    """Raise InvalidRecord where a callback leads where webhooks may not go, or names an endpoint that is not there."""
    check_url(callback, reach)
    if callback is not None and callback.endpoint is not None and unknown([(tenant, callback.endpoint)]):
        raise no_such_endpoint((tenant, callback.endpoint))


class CallbackCheck(AdmissionCheck):
    """The check of callbacks. `unknown` returns those of these endpoints that are not registered."""

    def __init__(self, reach: Reach, unknown: Unknown) -> None:
        self._reach = reach
        self._unknown = unknown

    def check(self, job: Job) -> None:
        """Raise InvalidRecord where the callback's URL leads where webhooks may not go."""
        check_url(job.callback, self._reach)

    def named(self, job: Job, _models: Collection[str]) -> Collection[str]:
        """Return the endpoint that the callback names, if it names one."""
        return () if job.callback is None or job.callback.endpoint is None else (job.callback.endpoint,)

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return those of these endpoints that are not registered."""
        return self._unknown(named)

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a callback to this endpoint, which is not registered."""
        return no_such_endpoint(named)
