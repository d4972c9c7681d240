"""Admission of decision jobs: the input and each question must fit together into the context of the job's model."""

from headrace_schemas import DecisionJob, HeadraceError
from headrace_schemas.decision import words_of
from headrace_schemas.errors import InvalidRecord, PromptTooLong
from headrace_workers.core.admission import AdmissionCheck, KnownModels
from headrace_workers.core.pipeline.task import Job, pieces_of_question
from headrace_workers.features.decisions.prompts import Question, ask
from headrace_workers.models.token_bounds import tokens_at_most


class QuestionCheck(AdmissionCheck):
    """The check of decision jobs, by the tokenizers of their models."""

    def __init__(self, models: KnownModels) -> None:
        self._models = models

    def is_doubtful(self, job: Job) -> bool:
        """Return False where the input fits with each question however they are cut into tokens, or only the model's
        worker can count them.
        """
        if not isinstance(job, DecisionJob):
            return False
        context = self._models.context_length(job.first_model)
        if context is None:
            return False
        asked = ask(job.conversation, _longest(job))
        label = max(len(label.encode()) for label in asked.labels)
        return tokens_at_most(asked.messages, None, (), label) + self._models.longest_mark >= context

    def examine(self, job: Job) -> int | None:
        """Return the tokens that the job reads; None where only a guess can be had. Raise PromptTooLong."""
        if not isinstance(job, DecisionJob):
            return None
        longest = _longest(job)
        try:
            whole = self._models.prompt_tokens(job.first_model, ask(job.conversation, longest).messages, job.tenant)
        except PromptTooLong as error:
            raise _too_long(error, job, longest) from error
        except HeadraceError as error:  # permanent to a worker; here another job may be right
            raise InvalidRecord(str(error)) from error
        if whole is None:
            return None
        return whole + sum(pieces_of_question(question) for question in job.questions if question is not longest)


def _too_long(error: PromptTooLong, job: DecisionJob, question: Question) -> PromptTooLong:
    name = question.name or f"number {job.questions.index(question) + 1}"
    too_long = PromptTooLong(f"the input and the question {name} do not fit into the model's context together: {error}")
    too_long.param = "input" if job.input is not None else "messages"
    return too_long


def _longest(job: DecisionJob) -> Question:
    return max(job.questions, key=lambda question: sum(map(len, words_of(question))))
