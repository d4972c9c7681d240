"""The features of headrace. To add one, add its folder under `features/` and its value here."""

from typing import Final

from headrace_workers.core.feature import Feature
from headrace_workers.features.access.feature import FEATURE as ACCESS
from headrace_workers.features.applications.feature import FEATURE as APPLICATIONS
from headrace_workers.features.batches.feature import FEATURE as BATCHES
from headrace_workers.features.cache.feature import FEATURE as CACHE
from headrace_workers.features.classifiers.feature import FEATURE as CLASSIFIERS
from headrace_workers.features.console.feature import FEATURE as CONSOLE
from headrace_workers.features.datasets.feature import FEATURE as DATASETS
from headrace_workers.features.decisions.feature import FEATURE as DECISIONS
from headrace_workers.features.evals.feature import FEATURE as EVALS
from headrace_workers.features.files.feature import FEATURE as FILES
from headrace_workers.features.generation.feature import FEATURE as GENERATION
from headrace_workers.features.jobs.feature import FEATURE as JOBS
from headrace_workers.features.judging.feature import FEATURE as JUDGING
from headrace_workers.features.knowledge.feature import FEATURE as KNOWLEDGE
from headrace_workers.features.moderation.feature import FEATURE as MODERATION
from headrace_workers.features.providers.feature import FEATURE as PROVIDERS
from headrace_workers.features.quality.feature import FEATURE as QUALITY
from headrace_workers.features.reviews.feature import FEATURE as REVIEWS
from headrace_workers.features.spend.feature import FEATURE as SPEND
from headrace_workers.features.traces.feature import FEATURE as TRACES
from headrace_workers.features.tuning.feature import FEATURE as TUNING
from headrace_workers.features.webhooks.feature import FEATURE as WEBHOOKS

FEATURES: Final[tuple[Feature, ...]] = (
    JOBS,
    GENERATION,
    DECISIONS,
    JUDGING,
    KNOWLEDGE,
    MODERATION,
    FILES,
    BATCHES,
    EVALS,
    CACHE,
    QUALITY,
    WEBHOOKS,
    ACCESS,
    PROVIDERS,
    SPEND,
    TRACES,
    DATASETS,
    CLASSIFIERS,
    APPLICATIONS,
    REVIEWS,
    TUNING,
    CONSOLE,
)
