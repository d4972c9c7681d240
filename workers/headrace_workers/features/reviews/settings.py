"""Settings of reviews."""

from pathlib import Path
from typing import ClassVar, Final

from headrace_workers.core.environment import Variables, variable

FILE: Final = "reviews.toml"  # in the home


class ReviewSettings(Variables):
    """Settings of the review queue."""

    title: ClassVar[str] = "Reviews"

    reviews: Path | None = variable(
        None,
        "The review rules: a TOML file that bridges follow when it changes. Unset: `reviews.toml` in the home; without "
        "that file, only held jobs enter the review queue.",
        read_by="bridges and commands",
    )
