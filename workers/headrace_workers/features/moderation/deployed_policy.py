"""The moderation policy of a deployment, and what depends on it: for all who ask what it wants."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.canary import UNMARKED, Canaries
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.watching import WatchedPolicy
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
    if not settings.of(SealingSettings).webhook_key and any(each.canary for each in (policy, *policy.tenants.values())):
        raise ConfigurationError(
            f"moderation policy {path}: canary: the marks are made with HEADRACE_WEBHOOK_KEY, which is not set: "
            "give it a key (`openssl rand -base64 32`), the same to all of headrace's processes"
        )
    return policy
