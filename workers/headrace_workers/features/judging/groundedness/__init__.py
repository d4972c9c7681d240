"""Groundedness: whether the evidence supports an answer, by words, by vectors, and by changes of its sentences."""
