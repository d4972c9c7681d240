"""Builders of the moderators of prompts, passages and answers in a worker."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_workers.core.cached_values import once
from headrace_workers.core.config_watch import EVERY
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Awaited, Loop, Progress
from headrace_workers.features.generation.parts import load
from headrace_workers.features.knowledge.parts import embedder
from headrace_workers.features.moderation.deployed_policy import InForce, canaries_of, policy_here, trusts_system_of
from headrace_workers.features.moderation.detector import Detector, Moderator
from headrace_workers.features.moderation.leak import Canaries
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.store import Policies
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.worker.parts import WorkerParts

if TYPE_CHECKING:  # they import NumPy, which most processes do without
    from headrace_workers.features.moderation.moderator import Aids
    from headrace_workers.features.moderation.step import SeenPrompts


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {
        "moderator": lambda: _moderator(worker),
        "screener": lambda: worker.once(_screening)[0],
        "seen_prompts": lambda: worker.once(_screening)[1],
        "trusts_system": lambda: trusts_system_of(worker.settings),
        "canaries": lambda: worker.once(_canaries),
        "shown": lambda: worker.once(_canaries).shown,
        "passage_screener": lambda: once(lambda: _passage_screener(worker.settings, worker.once(_aids))),
    }


def _canaries(worker: WorkerParts) -> Canaries:
    return canaries_of(worker.settings)


def _detectors(_worker: WorkerParts) -> list[Detector]:
    """Load the shipped detectors. They are large: what screens and what moderates share them."""
    from headrace_workers.features.moderation.moderator import shipped_detectors

    return shipped_detectors()


def _aids(worker: WorkerParts) -> "Aids":
    """Return what detectors that the policy names work with; a guard is loaded once for all who ask."""
    from headrace_workers.features.moderation.moderator import Aids

    guard = cache(lambda alias: load(worker.settings, alias, needs_logprobs=True))
    return Aids(lambda: worker.once(embedder), guard, worker.settings.of(ModerationSettings).moderation_key)


def _moderator(worker: WorkerParts) -> Moderator:
    aids, detectors = worker.once(_aids), worker.once(_detectors)
    return moderator(worker.settings, aids, detectors, worker.ledger, worker.progress)


def _screening(worker: WorkerParts) -> "tuple[Moderator, SeenPrompts]":
    return _screener(worker.settings, worker.once(_aids), worker.once(_detectors))


def moderator(
    settings: Settings, aids: "Aids", detectors: list[Detector], ledger: Ledger, progress: Progress
) -> Moderator:
    """Return what moderates outputs. A thread of its own tells the ledger by which policy."""
    from headrace_workers.features.moderation.deployed_policy import InForce, WatchedModerator

    follows = _follows(settings, aids, detectors, partial(policy_here, settings), "outputs")
    bounded = _ready(settings, follows)
    default = InForce(load_policy().versions)
    in_force = follows.in_force if isinstance(follows, WatchedModerator) else lambda: default
    PolicyNews(ledger.of(Policies), in_force, progress.loop("policies")).start()
    return bounded


def _screener(settings: Settings, aids: "Aids", detectors: list[Detector]) -> "tuple[Moderator, SeenPrompts]":
    """Return what looks at prompts, for what outputs are looked at for and for orders that are not the operator's, and
    what knows which prompts it let pass.
    """
    from headrace_workers.features.moderation.deployed_policy import WatchedModerator
    from headrace_workers.features.moderation.step import SeenPrompts, always

    looking = [*detectors, _injection_detector()]
    follows = _follows(settings, aids, looking, partial(policy_here, settings), "prompts")
    standing = follows.standing if isinstance(follows, WatchedModerator) else always
    return _ready(settings, follows), SeenPrompts(standing)


def _passage_screener(settings: Settings, aids: "Aids") -> Moderator:
    """Return what looks at passages: for orders to the model alone."""

    def policy(path: Path) -> Policy:
        return policy_here(settings, path).of_passages

    return _ready(settings, _follows(settings, aids, [_injection_detector()], policy, "passages"))


def _injection_detector() -> Detector:
    """Return what looks for orders to the model: patterns. A policy may add the head that ships."""
    from headrace_workers.features.knowledge.suspicious import suspicions
    from headrace_workers.features.moderation.injection import InjectionDetector

    return InjectionDetector(suspicions)


def _follows(
    settings: Settings, aids: "Aids", detectors: list[Detector], load: Callable[[Path], Policy], what: str
) -> Moderator:
    """Return what moderates by the deployment's policy, or by the default one."""
    from headrace_workers.features.moderation.deployed_policy import WatchedModerator
    from headrace_workers.features.moderation.moderator import with_policy

    path = settings.of(ModerationSettings).policy
    if path is None:
        return with_policy(detectors, load_policy())
    return WatchedModerator(path, detectors, aids, what=what, load_policy=load)


def _ready(settings: Settings, moderator: Moderator) -> Moderator:
    """Load all that a moderator needs, and bound its time."""
    from headrace_workers.features.moderation.moderator import BoundedModerator, warm_up

    warm_up(moderator)  # a detector that cannot load is an error now, and the first job does not wait for it
    return BoundedModerator(moderator, settings.of(ModerationSettings).detector_time)


class PolicyNews(KeepsGoing):
    """Looks every two seconds, so that a file is followed, or refused, also while nothing is to be moderated."""

    def __init__(self, policies: Policies, in_force: Callable[[], InForce], loop: Loop, every: float = EVERY) -> None:
        super().__init__(loop)
        self._policies, self._in_force, self._every = policies, in_force, every
        self._recorded: InForce | None = None

    def _look(self) -> Awaited | None:
        with self._progress.excused():  # a policy may name a model that is to be loaded
            now = self._in_force()
        if now != self._recorded:
            switched = self._recorded is None or self._recorded.versions != now.versions
            self._policies.note(now.versions, now.refused, switched=switched)
            self._recorded = now  # policies that could not be written are reported at the next look
        self._stop.wait(self._every)
        return None
