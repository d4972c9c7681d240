"""The parts of workers that judge: the verifier of claims, and what is known of judges."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from headrace_workers.features.generation.parts import held_models
from headrace_workers.features.judging.ground_step import ClaimVerifier
from headrace_workers.features.judging.settings import JudgingSettings
from headrace_workers.features.knowledge.load_verifier import load_verifier
from headrace_workers.models.verifiers.measured import judge_fault, no_fault, refuse_chance
from headrace_workers.models.verifiers.verifier import Relation
from headrace_workers.models.verifiers.verify_stage import model_of_verifier
from headrace_workers.runtime.settings import ModelSettings
from headrace_workers.runtime.worker.parts import WorkerParts


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {
        "claim_verifier": lambda: worker.once(_claim_verifier),
        "judge_fault": lambda: worker.once(_judge_fault),
    }


def _judge_fault(worker: WorkerParts) -> Callable[[str], str | None]:
    """Return the function that says why a model failed its probe; a later probe counts from the next group on."""
    if worker.settings.of(ModelSettings).accept_untrusted:
        return no_fault
    return partial(judge_fault, worker.settings.home)


def _claim_verifier(worker: WorkerParts) -> ClaimVerifier | None:
    own = worker.settings.of(JudgingSettings)
    if own.grounded_verify is None:
        return None
    refuse_chance(worker.settings.home, own.grounded_verify, Relation.SUPPORTED)
    if model_of_verifier(own.grounded_verify) is not None:
        return ClaimVerifier(own.grounded_verify, holds=held_models(worker))
    verifier = load_verifier(own.grounded_verify)
    return ClaimVerifier(verifier.name, verifier, own.grounded_verify_time)
