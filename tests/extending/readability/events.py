"""The event of readability."""

from typing import Final

from headrace_schemas.event_types import EventType
from headrace_schemas.events import JobEvent
from headrace_schemas.moderation import Count
from headrace_schemas.topics import Topic


class ReadabilityMeasured(JobEvent):
    """How easy an answer is to read."""

    sentences: Count
    long_sentences: Count


READABILITY_MEASURED: Final = EventType(
    "headrace.readability.measured.v1",
    ReadabilityMeasured,
    Topic.MODERATED,
    example=ReadabilityMeasured(
        job_id="7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", tenant="shop", sentences=3, long_sentences=1
    ),
)
