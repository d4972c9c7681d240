"""The classifiers feature: heads on the embedder's vectors that answer decisions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.models import ENGINES

if TYPE_CHECKING:  # most processes do without it
    from headrace_workers.models.engines.engine import Engine


def _engines() -> "Sequence[Engine[Any, Any]]":
    from headrace_workers.features.classifiers.engine import ENGINE

    return (ENGINE,)


FEATURE = Feature(
    name="classifiers",
    groups={"classifier": "Train classifiers, which answer decisions at a fraction of a model's cost."},
    commands=commands_in(
        "headrace_workers.features.classifiers.commands",
        {
            "classifier train": "train",
            "classifier evaluate": "evaluate",
            "classifier list": "list_all",
            "classifier delete": "delete",
        },
    ),
    extensions=(ENGINES.by(_engines),),
)
