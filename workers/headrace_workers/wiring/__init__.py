"""The composition root: everything is built here, once a process, from the settings. A file for each kind of process,
and for what they share. Importing any part of it loads all features.
"""

from headrace_workers.core.feature import install
from headrace_workers.wiring.features import FEATURES

install(FEATURES)
