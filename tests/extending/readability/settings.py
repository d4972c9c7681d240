"""Settings of readability."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number


class ReadabilitySettings(Variables):
    """Settings of readability."""

    title: ClassVar[str] = "Readability"

    longest_sentence: int = number(
        25, "Words that a sentence may have before it counts as long.", read_by="workers", le=1_000
    )
