"""Builders of the cache look-up and of the sampling for audits."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace_schemas.errors import UnknownModel
from headrace_workers.core.log import Action, log
from headrace_workers.features.cache.auditing import Auditing, AuditLabels
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.generation.parts import held_models
from headrace_workers.features.generation.store.model_generations import model_versions
from headrace_workers.features.knowledge.parts import question_embedder
from headrace_workers.models.registry import Registry
from headrace_workers.models.verifiers.measured import refuse_chance
from headrace_workers.models.verifiers.verifier import Relation, Verifier
from headrace_workers.models.verifiers.verify_stage import model_of_verifier
from headrace_workers.runtime.worker.parts import WorkerParts, woken_by_changes

if TYPE_CHECKING:  # it imports NumPy, which most processes do without
    from headrace_workers.features.cache.semantic.lookup import AnswerLookup


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    settings = worker.settings
    return {
        "cache": lambda: _cache(worker),
        "cache_mode": lambda: settings.of(CacheSettings).cache,
        "cache_ttl": lambda: settings.of(CacheSettings).cache_ttl,
        "max_wait": lambda: settings.of(CacheSettings).max_wait,
        "audit_texts": lambda: worker.ledger.of(Audits).texts,
        "auditing": lambda: Auditing(worker.pipeline, settings.of(CacheSettings).audit_share),
    }


def _cache(worker: WorkerParts) -> "AnswerLookup":
    """Return the answers that may be given again. Where no embedder is here, only those to the very same request."""
    from headrace_workers.core.ledger.change_feed import Follower
    from headrace_workers.features.cache.semantic.lookup import AnswerLookup, ModelOfVerifier
    from headrace_workers.features.cache.semantic.nearest import NearestQuestions
    from headrace_workers.features.cache.semantic.questions import Keeping, Known, Questions, Saved
    from headrace_workers.features.cache.semantic.scope_limits import ScopeLimits
    from headrace_workers.features.knowledge.load_verifier import load_verifier

    settings, ledger, progress = worker.settings, worker.ledger, worker.progress
    version = model_versions(Registry(settings.home), ledger)
    try:
        made = worker.once(question_embedder)
    except UnknownModel as error:
        log("recall", logging.INFO, Action.NO_EMBEDDER, f"only the very same request is answered again: {error}")
        return AnswerLookup(ledger, version)
    known = Known(made.dimensions)
    saved = Saved(settings.home / "recall", ledger.identity, made.id)
    questions = Questions(ledger, known, saved)
    follower = Follower(questions, progress.loop("follow"), partial(ledger.report_position, worker.name, "entry"))
    worker.once(woken_by_changes).add(follower.woken)
    follower.start()
    Keeping(saved, questions).start()
    own = settings.of(CacheSettings)
    verifier: Verifier | ModelOfVerifier | None = None
    labels: Verifier | AuditLabels | None = None
    refuse_chance(settings.home, own.verify, Relation.SAME_QUESTION)
    if (model := model_of_verifier(own.verify)) is not None:
        verifier, labels = ModelOfVerifier(model, held_models(worker)), AuditLabels(model, worker.pipeline.prices)
    elif own.verify is not None:
        verifier = labels = load_verifier(own.verify, own.verify_time)
    standings = ScopeLimits(
        ledger, own.max_error, worker.name, progress.loop("standings"), serves_unshown=own.serve_unshown,
        verifier=labels,
    )  # fmt: skip
    standings.start()
    return AnswerLookup(ledger, version, NearestQuestions(made, known, own.similarity, standings.limit), verifier)
