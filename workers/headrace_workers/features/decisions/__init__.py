"""Decisions: questions about an input that a model answers with probabilities."""
