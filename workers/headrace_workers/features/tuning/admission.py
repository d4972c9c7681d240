"""Admission of tuning jobs: the base is a model of the tenant's deployment, and the files are the tenant's."""

from collections.abc import Collection
from typing import Final

from headrace_schemas import TuningJob
from headrace_schemas.errors import InvalidRecord, UnknownModel, UnknownResource
from headrace_workers.core.admission import AdmissionCheck, AdmissionParts, Named
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.tuning.copies import SharedModels
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.files.settings import FileSettings
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.models.registry import TUNED

EPOCHS: Final = 3  # of a job that does not say how many
_BYTES_A_TOKEN: Final = 3  # of a training file, by estimate: English text has more, and JSON adds to each row


class RunCheck(AdmissionCheck):
    """The check of tuning jobs."""

    def __init__(self, parts: AdmissionParts) -> None:
        self._shared = SharedModels(parts.home, parts.settings.of(FileSettings).files)
        self._models = parts.models
        self._ledger = parts.ledger

    def check(self, job: Job) -> None:
        """Raise UnknownModel for a base that the tenant may not name, InvalidRecord for one that runs elsewhere."""
        if not isinstance(job, TuningJob):
            return
        if not self._models.knows(job.model, job.tenant):
            known = ", ".join(self._models.aliases(job.tenant)) or "none"
            raise UnknownModel(f"no model is called {job.model!r}; known are: {known}")
        if (provider := self._models.provider(job.model)) is not None or self._models.chain(job.model) is not None:
            where = "a chain of models" if provider is None else f"run by {provider}"
            raise InvalidRecord(f"model: {job.model} is {where}: only a model of your own can be tuned", param="model")

    def examine(self, job: Job) -> int | None:
        """Return about how many tokens the run trains, by the size of its file. Its first stage counts them."""
        if not isinstance(job, TuningJob):
            return None
        file = self._ledger.of(StoredFiles).file(job.training_file, job.tenant)
        return None if file is None else 1 + file.size * (job.epochs or EPOCHS) // _BYTES_A_TOKEN

    def named(self, job: Job, models: Collection[str]) -> Collection[str]:
        """Return the files that the job names, and the tuned models that it may need."""
        base, *files = (job.model, job.training_file, job.validation_file) if isinstance(job, TuningJob) else ("",)
        tuned = [alias for alias in (*models, base) if alias.startswith(TUNED)]
        return [*tuned, *(name for name in files if name is not None)]

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return those of these files that the tenant does not have. The rules say which models are unknown."""
        files, asked = self._ledger.of(StoredFiles), [row for row in named if not row[1].startswith(TUNED)]
        if due := [row for row in named if row[1].startswith(TUNED) and self._shared.due(row[1])]:
            # What nobody made costs no look at the store.
            made = self._ledger.of(TuningRuns).made({tenant for tenant, _ in due})
            self._shared.look_up([alias for _, alias in due if alias in made or self._shared.known(alias)])
        return [(tenant, name) for tenant, name in asked if files.file(name, tenant) is None]

    def missing(self, named: Named) -> UnknownResource:
        """Return the error of a job that names this file, which does not exist."""
        tenant, name = named
        return UnknownResource(f"training_file: the tenant {tenant} has no file {name}: upload it first")
