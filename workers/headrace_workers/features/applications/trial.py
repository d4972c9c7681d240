"""`headrace apps test`: an evaluation with the variants `production` (if there is another version) and `new`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from headrace_schemas import Criterion, GenerationJob
from headrace_schemas.application import PRODUCTION
from headrace_schemas.errors import ConfigurationError, HeadraceError, InvalidRecord
from headrace_workers.cli.output import hush_kafka, say
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.applications.definition import Definition, Test, render
from headrace_workers.features.applications.references import identities, judging
from headrace_workers.features.applications.store import Application, Applications
from headrace_workers.features.evals.analysis import Gate
from headrace_workers.features.evals.commands import Serving, carry_out
from headrace_workers.features.evals.plan import Dataset, Plan, read_dataset
from headrace_workers.features.evals.run_file import Run, Variant, WrongRows

NEW: Final = "new"
_REFERENCE: Final = "reference"  # the field with the right answer, where [test] names none
_MARGIN: Final = 0.05  # the smallest difference that counts, where the gate names none
_ALONE: Final = 0.5  # the least mean of the metric, where there is no version to compare with


@dataclass(frozen=True)
class Trial:
    """The test of a version. Jobs are those of the tenant, which may be one of many for a shared application."""

    ledger: Ledger
    app: Application
    number: int
    tenant: str
    folder: Path  # with the dataset

    @cached_property
    def definition(self) -> Definition:
        """The version that is tested."""
        return self._read(self.number)

    @cached_property
    def before(self) -> "tuple[int, Definition] | None":
        """The other version that is in production, if there is one."""
        number = self.app.labels.get(PRODUCTION)
        return None if number in (None, self.number) else (number, self._read(number))

    def run(self, output: Path | None, name: str, serving: Serving, *, as_json: bool) -> bool:
        """Run the test, keep its result with the version, and return True if the gate holds with certainty."""
        hush_kafka()
        self._check_names()
        plan = self._plan(name)
        models = identities(self.definition, self.ledger)
        all_models = dict.fromkeys([*models, *(identities(self.before[1], self.ledger) if self.before else ())])
        gate = self._gate(plan.run)
        report, passed = carry_out(plan, output, gate, serving._replace(models=tuple(all_models)), as_json=as_json)
        if report["without_end"]:
            return False
        if identities(self.definition, self.ledger) != models:
            raise HeadraceError("a model changed during the test: run it again, with another --name")
        self.ledger.of(Applications).note_test(self.app.scope, self.app.name, self.number, passed, models, report)
        return passed

    def _read(self, number: int) -> Definition:
        version = self.ledger.of(Applications).version(self.app.scope, self.app.name, str(number))
        if version is None:
            raise ConfigurationError(
                f"{self.app.name} has no version {number}: `headrace apps list {self.app.name}` lists its versions"
            )
        return Definition.from_json(version.definition)

    @property
    def _test(self) -> Test:
        if self.definition.test is None:
            raise ConfigurationError(
                f"{self.app.name}@{self.number} has no [test]: write one into its file, and push it"
            )
        return self.definition.test

    def _check_names(self) -> None:
        """Raise ConfigurationError if the tenant's jobs would get another application by this name."""
        hides = self.ledger.of(Applications).listed((self.tenant,), name=self.app.name)
        if not self.app.scope and hides:
            raise ConfigurationError(
                f"{self.tenant} has an application {self.app.name} of its own, which hides the shared one: test as "
                "another tenant, with HEADRACE_TENANT"
            )

    def _plan(self, name: str) -> Plan:
        test, dataset = self._test, self._dataset()
        variants = [self._variant(NEW, self.number, self.definition)]
        if self.before is not None:
            variants.insert(0, self._variant(PRODUCTION, *self.before))
        rows = [item.row for item in dataset.items]
        reference = test.reference
        if reference is None and any(_REFERENCE in row for row in rows):
            reference = "{{reference}}"
        run = Run(
            name=f"{self.app.name}@{self.number}",
            dataset=test.dataset,
            reference=reference,
            primary=self.definition.problem.metric,
            margin=self._margin(),
            variants=tuple(variants),
            criteria=self._criteria(),
        )
        return Plan(run, dataset, self.tenant, name)

    def _dataset(self) -> Dataset:
        """Return the dataset of the version. Raise WrongRows, which names the rows that a version does not take."""
        test = self._test
        path = self.folder / test.dataset
        dataset = read_dataset(path)
        if dataset.digest != test.sha256:
            raise ConfigurationError(
                f"{path} is not the dataset that {self.app.name}@{self.number} was pushed with: push the file again, "
                "or name another folder with --folder"
            )
        if problems := list(self._wrong_rows(dataset)):
            raise WrongRows(problems)
        return dataset

    def _wrong_rows(self, dataset: Dataset) -> Iterator[str]:
        versions = [(NEW, self.definition), *([(PRODUCTION, self.before[1])] if self.before else [])]
        for item in dataset.items:
            for name, definition in versions:
                given = {key: item.row[key] for key in definition.variables if item.row.get(key) is not None}
                try:
                    render(definition, given)
                except InvalidRecord as error:
                    yield f"{dataset.where(item)}: {name}: {error}"

    def _variant(self, name: str, number: int, definition: Definition) -> Variant:
        return Variant(name=name, application=f"{self.app.name}@{number}", variables=tuple(definition.variables))

    def _criteria(self) -> Sequence[Criterion]:
        """Return the criteria of the version and of its test. Raise ConfigurationError where the version in production
        has another criterion under the same name: their scores could not be compared.
        """
        criteria = judging(self.definition).criteria
        if self.before is not None:
            number, definition = self.before
            own = {
                criterion.key: criterion
                for criterion in GenerationJob.model_validate({**definition.job, "prompt": "-"}).criteria
            }
            for criterion in criteria:
                if own.get(criterion.key, criterion) != criterion:
                    raise ConfigurationError(
                        f"the criterion {criterion.key!r} of {self.app.name}@{number}, which is in production, is "
                        "another one, so that scores cannot be compared: give the new one another name"
                    )
        return criteria

    def _margin(self) -> float:
        *_, last = self._test.gate.split()
        return float(last) if " - " in self._test.gate and float(last) > 0 else _MARGIN

    def _gate(self, run: Run) -> Gate:
        if self.before is not None or PRODUCTION not in self._test.gate:
            return Gate.parse(self._test.gate, run)
        bound = f"{NEW} >= {_ALONE}"
        say(f"no other version is in production, so the gate is {bound}, and not {self._test.gate}")
        return Gate.parse(bound, run)
