"""`python -m bench.without_rules …` is headrace whose policy finds nothing, since no detector of its own looks."""

from headrace_workers.__main__ import main
from headrace_workers.features.moderation import moderator

if __name__ == "__main__":
    moderator.shipped_detectors = list
    main()
