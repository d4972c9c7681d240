"""Asking an engine."""

from headrace_schemas import HeadraceError, Message, Sampling
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request


def ask(text: str, **sampling: object) -> Request:
    return Request((Message(role="user", content=text),), Sampling.model_validate(sampling))


def done(answers: list[Completion | HeadraceError]) -> list[Completion]:
    """The answers, none of which may be an error."""
    completions = [answer for answer in answers if isinstance(answer, Completion)]
    assert len(completions) == len(answers), answers
    return completions


def one(generator: CTranslate2Generator, request: Request) -> Completion:
    return done(generator.generate([request]))[0]
