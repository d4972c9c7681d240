"""The steps that moderate: prompts before anything is looked up, and answers before they are shown."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from headrace_schemas import (
    Answer,
    Category,
    DecisionJob,
    GenerationJob,
    HeadraceError,
    Message,
    Moderated,
    ModerationJob,
    ModerationVerdict,
    Output,
)
from headrace_schemas.decision import words_of
from headrace_schemas.errors import Unparsable
from headrace_schemas.moderation import Action
from headrace_schemas.reasons import reason_of
from headrace_schemas.tool import Tool
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Outcome, StepWrite
from headrace_workers.core.pipeline.receipt import receipt, review_reason
from headrace_workers.core.pipeline.task import SAID, VERDICT, Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.cache.step import CONTEXT, ENTRY, GIVEN, PLACES, TTL_MS
from headrace_workers.features.cache.store.entries import Admit, Disallow, EntryKeys, Withdraw
from headrace_workers.features.knowledge.grounding import SCREENED, USED
from headrace_workers.features.moderation.asked_again import send_back, whole
from headrace_workers.features.moderation.corrected import MODERATE, by_person
from headrace_workers.features.moderation.detector import Instructions, Moderation, Moderator
from headrace_workers.features.moderation.leak import UNMARKED, Canaries
from headrace_workers.models.structured.tool_calls import fault_of
from headrace_workers.models.structured.tools import as_json
from headrace_workers.models.structured.validity import failure_of

MOST: Final = 50_000  # digests, of 32 bytes each
_DASHES: Final = re.compile(r"-+")
_CALL_LOST: Final = "without what is redacted, the arguments of its call would not be what the tool takes"


def always() -> object:
    """Return the same value each time, for a policy that never changes."""
    return None


class SeenPrompts:
    """The parts of conversations that this process let pass, by digests of a tenant and its turns. Thread-safe. When
    `standing` changes, it forgets them all.
    """

    def __init__(self, standing: Callable[[], object] = always) -> None:
        self._standing = standing
        self._held = standing()
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def now(self) -> object:
        """Return the policy in force: give it to `note` with a conversation that passed by it."""
        held = self._standing()
        with self._lock:
            if held is not self._held:
                self._held = held
                self._passed.clear()
        return held

    def new(self, tenant: str, turns: Sequence[Message]) -> Sequence[Message]:
        """Return the turns to look at: those after the longest prefix that has passed, and its last, since words may go
        on from one turn to the next.
        """
        digests = _digests(tenant, turns)
        with self._lock:
            passed = next((n for n in range(len(turns), 0, -1) if digests[n - 1] in self._passed), 0)
        return turns[max(0, passed - 1) :]

    def note(self, held: object, tenant: str, turns: Sequence[Message]) -> None:
        """Record that this conversation passed by the policy `held`."""
        if not turns:
            return
        digest = _digests(tenant, turns)[-1]
        with self._lock:
            if held is not self._held:
                return
            self._passed[digest] = None
            self._passed.move_to_end(digest)
            while len(self._passed) > MOST:
                self._passed.popitem(last=False)


def screen(
    tasks: Sequence[Task], *, screener: Moderator, seen_prompts: SeenPrompts, trusts_system: Callable[[str], bool]
) -> list[Outcome]:
    """Screen the prompt of each task; the i-th outcome belongs to the i-th task. Every turn is looked at, but for the
    system's of tenants that `trusts_system` names. A blocked prompt ends its job; one to be reviewed, or that nobody
    could look at, is held.
    """
    jobs = {index: task.job for index, task in enumerate(tasks) if isinstance(task.job, GenerationJob | DecisionJob)}
    turns = {index: brought(job, trusts_system(job.tenant)) for index, job in jobs.items()}
    held = seen_prompts.now()
    texts = [_joined(seen_prompts.new(job.tenant, turns[index])) for index, job in jobs.items()]
    verdicts = screener.moderate(texts, [job.tenant for job in jobs.values()])
    outcomes: list[Outcome] = [_no_prompt(task) for task in tasks]
    for (index, job), text, verdict in zip(jobs.items(), texts, verdicts, strict=True):
        outcomes[index] = _screened_outcome(tasks[index], verdict, text)
        if isinstance(verdict, Moderation) and verdict.action in ("allow", "redact"):
            seen_prompts.note(held, job.tenant, turns[index])
    return outcomes


def moderate(tasks: Sequence[Task], *, moderator: Moderator, canaries: Canaries = UNMARKED) -> list[Outcome]:
    """Moderate the output of each task, or the text that it brings; the i-th outcome belongs to the i-th task. An
    answer marked `review`, and any text that the moderator cannot decide about, is held: nothing passes unmoderated.
    """
    corrected = {index: Done(output, to=MODERATE) for index, task in enumerate(tasks) if (output := by_person(task))}
    texts = {
        index: text for index, task in enumerate(tasks) if index not in corrected and (text := _text(task)) is not None
    }
    instructions = [_instructions(tasks[index], canaries) for index in texts]
    verdicts = moderator.moderate(list(texts.values()), [tasks[index].job.tenant for index in texts], instructions)
    outcomes = {index: _outcome(tasks[index], verdict) for index, verdict in zip(texts, verdicts, strict=True)}
    return [corrected.get(index) or outcomes.get(index) or _no_text(task) for index, task in enumerate(tasks)]


def brought(job: GenerationJob | DecisionJob, trusts_system: bool) -> list[Message]:
    """Return the turns of a conversation that its caller brings, without a trusted system's turns. The tools that the
    model may call, and the questions that it is to decide, are a turn of the system. An application's own turns are
    left out; the variables in them are the caller's.
    """
    turns: Sequence[Message] = job.conversation
    if isinstance(job, GenerationJob) and job.resolution is not None and job.resolution.turns:
        turns = [*_variables(job), *turns[job.resolution.turns :]]
    if trusts_system:
        return [turn for turn in turns if turn.role != "system"]
    if isinstance(job, GenerationJob):
        texts = (word for tool in job.tools for word in (tool.description, *words_in(tool.parameters)))
    else:
        texts = (word for question in job.questions for word in words_of(question))
    words = "\n\n".join(word for word in texts if word)
    added = [Message.model_construct(role="system", content=words)] if words else []
    return [*added, *turns]


def _variables(job: GenerationJob) -> list[Message]:
    """Return the texts among an application's variables as one turn."""
    texts = [
        text
        for value in job.variables.values()
        for text in (value if isinstance(value, tuple) else (value,))
        if isinstance(text, str) and text
    ]
    return [Message.model_construct(role="user", content="\n\n".join(texts))] if texts else []


def _joined(turns: Sequence[Message]) -> str:
    return "\n\n".join(text for turn in turns for text in (turn.content, *called_with(turn)))


def _screened_outcome(task: Task, verdict: Moderation | HeadraceError, text: str) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Held(reason_of(verdict), needs_person=False)
    if verdict.action == "block":
        return Ended(receipt(task, status="blocked", moderation=verdict.verdict, refusal="prompt_blocked"))
    if verdict.action == "review" and task.woken_by != RELEASED:
        return Held(f"the prompt: {review_reason(verdict.verdict)}", known={**_known(verdict), SAID: text})
    return Done(context={SCREENED: True})


def _no_prompt(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"screening takes jobs that ask a model, not {type(task.job).__name__}")


def _text(task: Task) -> str | None:
    match task.event:
        case Output() as output:
            return text_of(output.answer)
        case ModerationJob() as job:
            return job.input
    return None


def _instructions(task: Task, canaries: Canaries) -> Instructions | None:
    """Return the instructions of the model that wrote this text; None if it was written elsewhere."""
    if isinstance(task.event, Output) and isinstance(task.job, GenerationJob):
        return canaries.instructions(task.job.tenant, task.job.messages)
    return None


def _outcome(task: Task, verdict: Moderation | HeadraceError) -> Outcome:
    if isinstance(verdict, HeadraceError):
        return Held(reason_of(verdict), needs_person=False)
    if not isinstance(task.event, Output):
        return Ended(receipt(task, moderation=verdict.verdict))
    if (sent_back := send_back(task, task.event, verdict)) is not None:
        return sent_back
    if verdict.action != "review":
        return _passed_on(task, task.event, verdict, verdict.verdict)
    if task.woken_by != RELEASED:
        return Held(review_reason(verdict.verdict), known=_known(verdict))
    done: Action = "allow" if verdict.text == text_of(task.event.answer) else "redact"
    return _passed_on(task, task.event, verdict, verdict.verdict.model_copy(update={"action": done}))


def _known(verdict: Moderation) -> dict[str, Any]:
    """Return what a person needs to see who decides about a text."""
    return {VERDICT: verdict.verdict.model_dump(mode="json", exclude_none=True)}


def _passed_on(task: Task, output: Output, verdict: Moderation, shown: ModerationVerdict) -> Done:
    """Return the text that goes on, and the effect of the policy's verdict on the cache."""
    answer, context = whole(task.context, output.answer)
    text = None if verdict.action == "block" else verdict.text
    if text is not None and (lost := _lost_format(task, output, text)) is not None:
        text, shown = None, shown.model_copy(update={"action": "block", "reason": lost})
    if text is not None and answer.tool_calls:
        assert isinstance(task.job, GenerationJob)  # noqa: S101 - only such a job offers tools
        redacted = with_redacted(answer, text, task.job.tools)
        if redacted is None:
            shown = shown.model_copy(update={"action": "block", "reason": _CALL_LOST})
        answer, text = (answer, None) if redacted is None else (redacted, redacted.text)
    return Done(
        Moderated(
            job_id=output.job_id,
            tenant=output.tenant,
            answer=answer.with_text(text),
            moderation=shown,
        ),
        context=context,
        rows=_admission(task, output, verdict.action),
    )


def _lost_format(task: Task, output: Output, text: str) -> str | None:
    """Return why an answer may not be shown with this text: redaction took its format from it. None where it may be."""
    wanted = task.job.format_of(output.answer.tool_calls) if isinstance(task.job, GenerationJob) else None
    if wanted is None or text == output.text:
        return None
    failure = failure_of(wanted, text, "stop")  # as a whole: the answer had its format
    return None if failure is None else reason_of(Unparsable(f"without what is redacted, {failure}"))


def _admission(task: Task, output: Output, action: str) -> tuple[StepWrite, ...]:
    """Return the change of the cache entry that this job fills, or from which it was served."""
    state = task.context.get(CONTEXT, {})
    if output.answer.by_person:
        return _without_entry(state)
    if GIVEN in state:
        return () if action == "allow" else (Disallow(state[GIVEN], f"moderation would {action} it now"),)
    if ENTRY not in state:
        return ()
    entry_id = state[ENTRY]
    place = state.get(PLACES, {}).get(output.answer.model)
    if action != "allow" or (place is None and not _is_of_first_model(task, output)):
        return (Withdraw(entry_id),)
    ran = next((stage.ran_ms / stage.group_size for stage in reversed(task.stages) if stage.stage == "generate"), 0.0)
    answer = output.answer.model_copy(update={"recall": None}).model_dump_json(exclude_none=True)
    used = tuple((document_id, sha256) for document_id, sha256 in task.context.get(USED, ()))
    return (Admit(entry_id, answer.encode(), ran, state[TTL_MS], used, EntryKeys(*place) if place else None),)


def _without_entry(state: Mapping[str, Any]) -> tuple[StepWrite, ...]:
    """Return the change of the cache by a text that a person wrote: nobody else is given it, or the answer before."""
    ids = [state[name] for name in (GIVEN, ENTRY) if name in state]
    return tuple(row for item in ids for row in (Withdraw(item), Disallow(item, "a person corrected it")))


def _is_of_first_model(task: Task, output: Output) -> bool:
    """Return True if the model answered that the cache looked up: the first one of a chain."""
    return isinstance(task.job, GenerationJob) and output.answer.model == task.job.first_model


def _no_text(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"moderation takes outputs and moderation jobs, not {type(task.event).__name__}")


def _digests(tenant: str, turns: Sequence[Message]) -> list[bytes]:
    """Return the digest of each prefix of a conversation."""
    found = []
    digest = sha256(tenant.encode()).digest()
    for turn in turns:
        called = (call.arguments.encode() for call in turn.tool_calls)
        digest = sha256(b"\0".join((digest, turn.role.encode(), turn.content.encode(), *called))).digest()
        found.append(digest)
    return found


def text_of(answer: Answer) -> str:
    """Return the text of an answer, and after it the values of its calls, each in a part of its own."""
    if not answer.tool_calls:
        return answer.text or ""
    parts = _parts(answer)
    return _between(parts).join(parts)


def with_redacted(answer: Answer, text: str, tools: Sequence[Tool]) -> Answer | None:
    """Return the answer whose text and arguments are those of a redacted `text_of`. None where they cannot be:
    arguments would not be what their tool takes.
    """
    parts = _parts(answer)
    between = _between(parts)
    found = text.split(between)
    if len(found) != len(parts):  # what is redacted reaches over the end of a part
        return None
    left = iter(found)
    said = answer.with_text(next(left))
    by_name = {tool.name: tool for tool in tools}
    calls = []
    for call in answer.tool_calls:
        arguments = as_json(_rebuilt(json.loads(call.arguments), left))
        if call.name not in by_name or fault_of(by_name[call.name], arguments) is not None:
            return None
        calls.append(call.model_copy(update={"arguments": arguments}))
    return said.model_copy(update={"tool_calls": tuple(calls)})


def called_with(turn: Message) -> Iterator[str]:
    """Yield the values of the calls in a turn; a caller may send arguments that are no JSON, which are texts."""
    for call in turn.tool_calls:
        try:
            value = json.loads(call.arguments)
        except (ValueError, RecursionError):
            value = call.arguments
        yield from words_in(value)


def words_in(value: Any) -> Iterator[str]:
    """Yield the names, texts and numbers in a value of any depth, in no order that counts."""
    todo = [value]
    while todo:
        match todo.pop():
            case dict() as inner:
                yield from inner
                todo += inner.values()
            case list() as inner:
                todo += inner
            case str() as word:
                yield word
            case bool() | None:
                pass
            case number:
                yield as_json(number)


def _parts(answer: Answer) -> list[str]:
    values = (json.loads(call.arguments) for call in answer.tool_calls)
    return [answer.text or "", *(part for value in values for part in _leaves(value))]


def _leaves(value: Any) -> Iterator[str]:
    """Yield the names, texts and numbers in a value, in the order in which `_rebuilt` takes them."""
    match value:
        case dict():
            for name, inner in value.items():
                yield name
                yield from _leaves(inner)
        case list():
            for inner in value:
                yield from _leaves(inner)
        case str():
            yield value
        case bool() | None:
            return
        case _:
            yield as_json(value)


def _rebuilt(value: Any, parts: Iterator[str]) -> Any:
    """Return a value with other names, texts and numbers. A number that was redacted is a text."""
    match value:
        case dict():
            return {next(parts): _rebuilt(inner, parts) for inner in value.values()}
        case list():
            return [_rebuilt(inner, parts) for inner in value]
        case str():
            return next(parts)
        case bool() | None:
            return value
        case _:
            part = next(parts)
            return value if part == as_json(value) else part


def _between(parts: Sequence[str]) -> str:
    """Return a line of dashes that is in none of the parts."""
    longest = max((len(run) for part in parts for run in _DASHES.findall(part)), default=0)
    return f"\n{'-' * max(3, longest + 1)}\n"
