"""Traces of jobs that ended."""
