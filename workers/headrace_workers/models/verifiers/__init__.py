"""Models that verify: they say whether a relation holds between two texts."""
