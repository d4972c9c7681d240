"""Evaluations of prompts and models over a dataset, and OpenAI's evals."""
