"""The moderation policy of a deployment: read from its file, and read again when the file changes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.config_watch import EVERY, ConfigWatch
from headrace_workers.core.log import Action, log
from headrace_workers.features.moderation.detector import Detector, Instructions, Moderation
from headrace_workers.features.moderation.leak import UNMARKED, Canaries
from headrace_workers.features.moderation.moderator import Aids, PolicyModerator, with_policy
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.webhooks.settings import SealingSettings
from headrace_workers.runtime.settings import Settings


def policy_of(settings: Settings) -> Callable[[str], Policy]:
    """Return what tells the policy of a tenant, now. ConfigurationError where the policy is wrong."""
    path = settings.of(ModerationSettings).policy
    if path is None:
        return load_policy().of
    return WatchedPolicy(path, load_policy=partial(policy_here, settings)).of


def trusts_system_of(settings: Settings) -> Callable[[str], bool]:
    """Return what tells of which tenants the system prompts are not screened. ConfigurationError as above."""
    policy = policy_of(settings)
    return lambda tenant: policy(tenant).trust_system


def canaries_of(settings: Settings) -> Canaries:
    """Return what marks system prompts, where the policy asks for it. ConfigurationError as above."""
    path = settings.of(ModerationSettings).policy
    if path is None:
        return UNMARKED
    watched = WatchedPolicy(path, what="marks", load_policy=partial(policy_here, settings))
    return Canaries(settings.of(SealingSettings).webhook_key, lambda tenant: watched.of(tenant).canary)


def policy_here(settings: Settings, path: Path) -> Policy:
    """Read the policy in a file. ConfigurationError where it is wrong, or this deployment cannot follow it."""
    policy = load_policy(path)
    if not settings.of(SealingSettings).webhook_key and any(own.canary for own in (policy, *policy.tenants.values())):
        raise ConfigurationError(
            f"moderation policy {path}: canary: the marks are made with HEADRACE_WEBHOOK_KEY, which is not set: "
            "give it a key (`openssl rand -base64 32`), the same to all of headrace's processes"
        )
    return policy


@dataclass(frozen=True, slots=True)
class InForce:
    """The versions that hold, by tenant (`Policy.versions`), and why not what the file says now, where it is wrong."""

    versions: Mapping[str, str]
    refused: str | None = None


class WatchedModerator:
    """Moderates by the policy in a file as it stands now. Thread-safe where the detectors are."""

    def __init__(
        self,
        path: Path,
        detectors: Sequence[Detector],
        aids: Aids | None = None,
        *,
        what: str = "outputs",
        load_policy: Callable[[Path], Policy] = load_policy,
        every: float = EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigurationError where the policy is wrong from the beginning. `what` is moderated."""

        def read() -> tuple[Policy, Sequence[Path]]:
            policy = load_policy(path)
            return policy, (path, *_files_beside(policy))

        def make(policy: Policy) -> tuple[Policy, PolicyModerator]:
            return policy, with_policy(detectors, policy, aids)

        def on_change(now: tuple[Policy, PolicyModerator]) -> None:
            log("moderation", logging.INFO, Action.POLICY_CHANGED, f"{what} are moderated by another policy",
                path=str(path), version=now[0].version)  # fmt: skip

        self._watch = ConfigWatch(
            read, make, (path,), what=what, version=lambda now: now[0].version, log_as="moderation",
            on_change=on_change, every=every, monotonic=monotonic,
        )  # fmt: skip

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        """A verdict for each text by the policy of now: see `PolicyModerator`."""
        return self._watch.now()[1].moderate(texts, tenants, instructions)

    def standing(self) -> object:
        """Return the present moderator: a new object once the policy, or a file that it names, has changed."""
        return self._watch.now()

    def in_force(self) -> InForce:
        """Return what is in force now."""
        policy, _ = self._watch.now()
        return InForce(policy.versions, self._watch.refused)


class WatchedPolicy:
    """The policy in a file as it stands now, for who asks what it wants and moderates nothing. Thread-safe."""

    def __init__(
        self,
        path: Path,
        *,
        what: str = "routing",
        load_policy: Callable[[Path], Policy] = load_policy,
        every: float = EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """ConfigurationError where the policy is wrong from the beginning. `what` is done by it."""

        def read() -> tuple[Policy, Sequence[Path]]:
            return load_policy(path), (path,)

        def itself(policy: Policy) -> Policy:
            return policy

        self._watch = ConfigWatch(
            read, itself, (path,), what=what, version=lambda policy: policy.version, log_as="moderation", every=every,
            monotonic=monotonic,
        )  # fmt: skip

    def of(self, tenant: str) -> Policy:
        """Return what is in force for this tenant."""
        return self._watch.now().of(tenant)


def _files_beside(policy: Policy) -> list[Path]:
    heads = {policy.head} if policy.head else set()
    return sorted(heads | {path for own in (policy, *policy.tenants.values()) for path in own.blocklists})
