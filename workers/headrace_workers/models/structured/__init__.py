"""Structured output: which formats can be had, how a model is held to one, and whether an answer has it."""
