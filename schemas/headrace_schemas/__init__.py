"""The contract of headrace: jobs, events, topics, envelope and errors. No I/O, no environment."""

from headrace_schemas.criteria import (
    Bleu,
    ChrF,
    Contains,
    Criterion,
    ExactMatch,
    Grounded,
    JsonValid,
    Length,
    Regex,
    Rubric,
    TokenF1,
)
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Category, HeadraceError, InvalidRecord
from headrace_schemas.events import (
    Answer,
    DeadLetter,
    Embedding,
    JobCancelled,
    JobHeld,
    JudgeVerdict,
    Moderated,
    Output,
    Result,
    Score,
    StageRecord,
    Usage,
)
from headrace_schemas.job import CancelJob, EmbeddingJob, EvaluationJob, GenerationJob, Message, ModerationJob, Sampling
from headrace_schemas.moderation import Finding, ModerationVerdict
from headrace_schemas.topics import Topic

__all__ = [
    "Answer",
    "Bleu",
    "CancelJob",
    "Category",
    "ChrF",
    "Contains",
    "Criterion",
    "DeadLetter",
    "Embedding",
    "EmbeddingJob",
    "Envelope",
    "EvaluationJob",
    "ExactMatch",
    "Finding",
    "GenerationJob",
    "Grounded",
    "HeadraceError",
    "InvalidRecord",
    "JobCancelled",
    "JobHeld",
    "JsonValid",
    "JudgeVerdict",
    "Length",
    "Message",
    "Moderated",
    "ModerationJob",
    "ModerationVerdict",
    "Output",
    "Regex",
    "Result",
    "Rubric",
    "Sampling",
    "Score",
    "StageRecord",
    "TokenF1",
    "Topic",
    "Usage",
]
