"""Benches of headrace: `python -m bench [NAME]`. Every target is a ratio or a time within one run."""

import headrace_workers.wiring  # noqa: F401 - installs the features
