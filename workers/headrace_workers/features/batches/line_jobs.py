"""Makes the jobs of a line of a batch's input, or says why it makes none. Pure but for what `admit` asks."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_json

from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.job_defaults import NoKind
from headrace_workers.core.json_lines import NoJSON, Read, parsed_object
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.features.batches.line_admission import INVALID, Admit, NoJob, Terms, admitted_job
from headrace_workers.features.batches.requests import is_request, jobs_of_request
from headrace_workers.features.batches.store.batch_lines import NewLine

LONGEST_LINE: Final = 8 * MAX_VALUE_BYTES  # bytes: JSON may write one character as six
_LONGEST_NAME: Final = 256  # characters of a custom_id
_LANE: Final = {"lane": "batch"}


def admitted(read: Read, terms: Terms, admit: Admit) -> NewLine:
    """Return a line that is to be run, with its jobs or the reason why it makes none. Raises nothing."""
    named: str | None = None
    try:
        line = _object(read)
        named = name_of(line)
        if is_request(line):
            found = jobs_of_request(line, read.number, terms, admit)
            tokens = _cost(found.jobs, judged=found.judged)
            return NewLine(read.number, read.end, named, found.jobs, tokens, read.text)
        jobs = (_plain(line, read.number, terms, admit),)
    except NoJob as error:
        return NewLine(read.number, read.end, named, code=error.code, reason=str(error), param=error.param)
    return NewLine(read.number, read.end, named, jobs, tokens=_cost(jobs, judged=_is_judged(line)))


def _cost(jobs: tuple[NewJob, ...], *, judged: bool) -> int:
    """Return what jobs may cost at most, in tokens: a model that judges reads question and answer once more."""
    tokens = sum(job.cost for job in jobs)
    return 2 * tokens if judged else tokens


def _is_judged(line: Mapping[str, Any]) -> bool:
    criteria = line.get("criteria") or ()
    return any(isinstance(each, dict) and each.get("criterion") == "rubric" for each in criteria)


def passed_over(read: Read) -> NewLine:
    """Return a line that is not to be run: only its name is read."""
    try:
        return NewLine(read.number, read.end, name_of(_object(read)))
    except NoJob as error:
        return NewLine(read.number, read.end, code=error.code, reason=str(error), param=error.param)


def _object(read: Read) -> dict[str, Any]:
    if read.too_long:
        raise NoJob(INVALID, f"the line has more than the {LONGEST_LINE:,} bytes that are taken")
    try:
        return parsed_object(read.text)
    except NoJSON as error:
        raise NoJob(INVALID, str(error)) from None


def name_of(line: Mapping[str, Any]) -> str | None:
    """Return the name of a line: `custom_id`, or the idempotency key of a job. Raise NoJob where it is no name."""
    field = "custom_id" if "custom_id" in line else "idempotency_key"
    name = line.get(field)
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\x00" in name:
        raise NoJob(INVALID, f"{field} must be a text of 1 to {_LONGEST_NAME} characters, without NUL", field)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise NoJob(INVALID, f"{field} holds half of a surrogate pair, which is no character", field) from None
    return name


def _plain(line: dict[str, Any], number: int, terms: Terms, admit: Admit) -> NewJob:
    """Return the job of a line in headrace's own form. Its id is the line's; its own key is only its name, but in a
    batch of own keys.
    """
    if terms.endpoint is not None:
        raise NoJob(
            INVALID, f"it is no request to {terms.endpoint}: `custom_id`, `method`, `url` and `body` are needed", "url"
        )
    if "custom_id" in line:
        raise NoJob(
            INVALID,
            "custom_id: is a request's, with method, url and body; a job has its `idempotency_key`",
            "custom_id",
        )
    try:
        kind, filled = terms.defaults.fill(line)
    except NoKind as error:
        raise NoJob(INVALID, str(error)) from None
    filled = {**_LANE, **filled}
    if not (terms.own_keys and "idempotency_key" in filled):
        filled["idempotency_key"] = terms.key(number)
    if filled.setdefault("tenant", terms.tenant) != terms.tenant:
        raise NoJob(INVALID, f"tenant is {filled['tenant']!r}, and the batch is {terms.tenant!r}'s", "tenant")
    try:
        value = to_json(filled)
    except ValueError as error:  # a text with half of a surrogate pair
        raise NoJob(INVALID, f"it cannot be written as JSON: {error}") from None
    return admitted_job(kind, value, number, terms, admit)
