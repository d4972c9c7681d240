"""Answers that are given again: exact, and by likeness."""
