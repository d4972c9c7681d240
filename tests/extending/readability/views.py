"""Readability as HTTP and `--json` show it."""

from pydantic import BaseModel


class Readability(BaseModel):
    """How easy the answer of a job is to read."""

    job_id: str
    sentences: int
    long_sentences: int
