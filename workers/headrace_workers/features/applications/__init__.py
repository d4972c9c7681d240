"""Applications: a use case in one versioned file, which jobs name in place of a model."""
