"""Admission of decision jobs: the input and each question must fit together into the context of the job's model."""

from collections.abc import Sequence

from headrace_schemas import DecisionJob, HeadraceError, Message
from headrace_schemas.decision import Choice, Predicate, ScaleQuestion, labels_of
from headrace_schemas.errors import InvalidRecord, PromptTooLong
from headrace_workers.core.admission import AdmissionCheck, KnownModels
from headrace_workers.core.pipeline.task import Job, pieces_of_question
from headrace_workers.features.generation.admission import tokens_at_most, tokens_of_text

_AROUND_QUESTION = 256  # tokens of the words in which a question is put, and of the marks of its turn


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
        return context is not None and tokens_of(job, questions=(_longest(job),)) >= context

    def examine(self, job: Job) -> int | None:
        """Return the tokens that the job reads: its input once, and each question. None where only a guess can be had.

        Raise PromptTooLong where a question does not fit beside the input.
        """
        if not isinstance(job, DecisionJob):
            return None
        longest = _longest(job)
        asked = Message(role="user", content=_words_of(longest))
        try:
            whole = self._models.prompt_tokens(job.first_model, (*job.conversation, asked), job.tenant)
        except PromptTooLong as error:
            raise _too_long(error, job, longest) from error
        except HeadraceError as error:  # permanent to a worker; here another job may be right
            raise InvalidRecord(str(error)) from error
        if whole is None:
            return None
        return whole + sum(pieces_of_question(each) for each in job.questions if each is not longest)


def _too_long(error: PromptTooLong, job: DecisionJob, question: Predicate | Choice | ScaleQuestion) -> PromptTooLong:
    name = question.name or f"number {job.questions.index(question) + 1}"
    found = PromptTooLong(f"the input and the question {name} do not fit into the model's context together: {error}")
    found.param = "input" if job.input is not None else "messages"
    return found


def _longest(job: DecisionJob) -> Predicate | Choice | ScaleQuestion:
    return max(job.questions, key=lambda question: len(_words_of(question)))


def _words_of(question: Predicate | Choice | ScaleQuestion) -> str:
    return question.model_dump_json(exclude={"type", "name"}, exclude_none=True)


def tokens_of(
    job: DecisionJob, carried: int = 0, questions: Sequence[Predicate | Choice | ScaleQuestion] | None = None
) -> int:
    """Return the most tokens of a call with the job's input and these questions, by default all of them, whatever
    tokenizer counts them. The bytes that a job `carried` to its model count whole.
    """
    asked = job.questions if questions is None else questions
    words = sum(2 * tokens_of_text(_words_of(each)) + _AROUND_QUESTION + 2 * labels_of(each) for each in asked)
    return tokens_at_most(job.conversation, None, (), words, carried=carried)
