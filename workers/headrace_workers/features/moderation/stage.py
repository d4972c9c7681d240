"""The stages that moderate prompts and answers."""

from collections.abc import Callable
from functools import partial

from headrace_schemas import DecisionJob, GenerationJob, ModerationJob, Output
from headrace_workers.core.pipeline.stage import FurtherAnswers, Stage
from headrace_workers.core.pipeline.task import Job, StepEvent
from headrace_workers.features.moderation import asked_again
from headrace_workers.features.moderation.deployed_policy import policy_of
from headrace_workers.features.moderation.settings import ModerationSettings, Switch
from headrace_workers.features.moderation.step import moderate
from headrace_workers.features.moderation.step import screen as screen_prompts
from headrace_workers.runtime.settings import Settings


def no_tenant(_tenant: str) -> bool:
    """Name no tenant."""
    return False


def stages(
    *,
    screen: bool = False,
    must_screen: Callable[[str], bool] = no_tenant,
    answered_again: Callable[[str], bool] = no_tenant,
) -> tuple[Stage, ...]:
    """Return the stages of a deployment. `screen` decides for jobs that do not say whether their prompts are moderated;
    prompts of the tenants in `must_screen` always are. Answers of the tenants in `answered_again` are made again if
    they may not be shown.
    """
    return (
        # By workers that moderate, before anything is looked up for a prompt that the policy blocks.
        Stage(
            name="screen",
            order=20,
            takes=(GenerationJob, DecisionJob),
            step=screen_prompts,
            when=partial(_asks_screening, screen, must_screen),
            done_by="moderate",
            needs=("screener", "seen_prompts", "trusts_system"),
        ),
        Stage(
            name="moderate",
            order=50,
            takes=(Output, ModerationJob),
            step=moderate,
            needs=("moderator", "canaries"),
            further_answers=partial(_further_answers, answered_again),
        ),
    )


def stages_of(settings: Settings | None) -> tuple[Stage, ...]:
    """Return the stages for these settings. ConfigurationError where the moderation policy is wrong."""
    if settings is None:
        return stages()
    policy = policy_of(settings)
    return stages(
        screen=settings.of(ModerationSettings).screen is Switch.ON,
        must_screen=lambda tenant: policy(tenant).screen,
        answered_again=lambda tenant: policy(tenant).makes_again,
    )


def _asks_screening(default: bool, must: Callable[[str], bool], job: Job, _event: StepEvent) -> bool:
    assert isinstance(job, GenerationJob | DecisionJob)  # noqa: S101 - the stage takes no other
    return must(job.tenant) or (default if job.screen is None else job.screen)


def _further_answers(answered_again: Callable[[str], bool], job: Job) -> FurtherAnswers:
    return FurtherAnswers(asked_again.MOST if answered_again(job.tenant) else 0)
