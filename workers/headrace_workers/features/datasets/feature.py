"""The datasets feature: cleaning of training data."""

from headrace_workers.core.feature import Feature, commands_in

FEATURE = Feature(
    name="datasets",
    groups={
        "dataset": "Prepare training data.\n\nExample: `headrace dataset export tickets --application ticket-triage`"
    },
    commands=commands_in(
        "headrace_workers.features.datasets.commands", {"dataset export": "export", "dataset clean": "clean"}
    ),
)
