"""Readability: how long the sentences of answers are."""
