"""References of an application's version: models, judges, a knowledge base, a dataset; and which of them exist."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from headrace_schemas import GenerationJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.toml_file import Keys, line_of
from headrace_workers.features.applications.definition import Definition
from headrace_workers.features.applications.store import SHARED
from headrace_workers.features.generation.store.model_generations import model_versions
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import home_of


def dangling(path: Path, definition: Definition, ledger: Ledger, scope: str) -> Iterator[str]:
    """Yield what a file names and what is not here, with its line. Models are looked up where this machine has any."""
    text = path.read_text(encoding="utf-8-sig")

    def at(keys: Keys) -> str:
        line = line_of(text, keys)
        return str(path) if line is None else f"{path}, line {line}"

    registry = Registry(home_of())
    known = registry.aliases()
    if known:
        here = {*known, *registry.catalogue.chains}
        for keys, name in _models(definition):
            if name not in here:
                yield f"{at(keys)}: no model is called {name!r}; known are: {', '.join(known)}"
        if definition.name in here:
            yield (
                f"{path}: a model or chain is called {definition.name!r}, too: jobs that name it get that one. Rename "
                "the application"
            )
    base = definition.job.get("knowledge")
    if base is not None and scope != SHARED and ledger.of(KnowledgeBases).unknown([(scope, base)]):
        yield (
            f"{at(('knowledge', 'base'))}: {scope} has no knowledge base {base!r}: `headrace knowledge add {base} PATH "
            f"--tenant {scope}` makes one"
        )
    test = definition.test
    if test is not None and not (path.parent / test.dataset).is_file():
        yield f"{at(('test', 'dataset'))}: the dataset {test.dataset} is not beside the file: `apps test` needs it"


def _models(definition: Definition) -> Iterator[tuple[Keys, str]]:
    """Yield each model that the file names, with its place there."""
    model = definition.job["model"]
    for place, name in enumerate([model] if isinstance(model, str) else model):
        yield (("model", "name") if isinstance(model, str) else ("model", "chain", place)), name
    job = judging(definition)
    own = len(definition.job.get("criteria", ()))
    for place, criterion in enumerate(job.criteria):
        judge = getattr(criterion, "model", None)
        if judge is not None:
            section, number = ("quality", place) if place < own else ("test", place - own)
            yield (section, "criteria", number, "model"), judge


def identities(definition: Definition, ledger: Ledger) -> Mapping[str, str]:
    """Return the identity of each model that answers or judges for this version, by its alias, as of now."""
    registry = Registry(home_of())
    job = judging(definition)
    chain: Sequence[str] = job.chain
    if isinstance(job.model, str):
        chain = registry.chain(job.model) or chain
    version = model_versions(registry, ledger)
    return {alias: version(alias) for alias in dict.fromkeys([*chain, *job.judge_models])}


def judging(definition: Definition) -> GenerationJob:
    """Return a job with all that the application sets, judged by the criteria of its test, too."""
    job = GenerationJob.model_validate({**definition.job, "prompt": "-"})
    criteria = () if definition.test is None else definition.test.criteria
    return job.model_copy(update={"criteria": (*job.criteria, *criteria)})
