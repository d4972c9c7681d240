"""Guards: checks that two questions with similar vectors ask for the same."""
