"""Scripts that make files of the packages."""

import headrace_workers.wiring  # noqa: F401 - installs the features
