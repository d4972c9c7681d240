"""Rows to train on: the tokens of each answer after the prompt that the serving path builds for its conversation.

Prompt, answer and end of the turn are made by the template and tokenizer of the base in the catalogue, so that a model
is trained on the very ids that it is asked with. The loss counts the answer and the end of its turn.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.limits import MAX_MESSAGES
from headrace_schemas.reasons import describe
from headrace_workers.core.json_lines import NoJSON, listed, parsed_object, read_on
from headrace_workers.core.machine import available_memory
from headrace_workers.core.text_file import NotReadable, text_of
from headrace_workers.features.tuning.recipe import Plan
from headrace_workers.models.engines.prompts import Prompts, end_ids
from headrace_workers.models.registry import model_dir

MOST_ROWS: Final = 200_000
MOST_TOKENS: Final = 100_000_000  # of all rows of a run, once; an answer's row repeats the conversation before it
TOKEN_BYTES: Final = 40  # of memory that a token of a row takes: a number, and its place in a list
MAX_LINE: Final = 4_000_000  # bytes
MAX_DATA: Final = 2 * 1024**3  # bytes of a file
LEAST_ROWS: Final = 10  # to train on, as at OpenAI
# If all answers that differ got better, so many show it: one fewer gives a sign test a p-value above 0.05 (2 × 0.5⁵).
_DIFFERING: Final = 6
_PROBLEMS: Final = 1_000  # that are kept
_MESSAGES: Final = TypeAdapter(tuple[Message, ...])


class UnfitData(InvalidRecord):
    """Data that cannot be trained on. The message names the lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """An answer to learn: the line it stands in, the ids of its prompt, and those of the answer with its end. One that
    is held out also has the messages of its conversation before the answer, as JSON.
    """

    line: int
    prompt: list[int]
    answer: list[int]
    messages: Sequence[dict[str, Any]] = ()

    @property
    def tokens(self) -> int:
        """Return how many tokens the row has."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to train on, and rows held out, on which training is measured."""

    train: list[Row]
    held_out: list[Row]


def least_held_out(difference: float) -> int:
    """Return how many held-out examples can show this difference at the best: ⌈6 / difference⌉."""
    return math.ceil(round(_DIFFERING / difference, 6))


def build_rows(plan: Plan, home: Path, goes_on: Callable[[], object] = lambda: None) -> Rows:
    """Return the rows of a plan. Raise UnfitData, which lists the lines that cannot be trained on as they are, and what
    `goes_on` raises, which is called for each line.
    """
    reader = _Reader(plan, home, goes_on)
    read = list(reader.rows(plan.data))
    if plan.held_out is not None:
        train, aside = read, list(reader.rows(plan.held_out))
    else:
        train, aside = _split(read, plan.recipe.held_out, plan.recipe.training.seed)
    reader.refuse()
    _check_counts(plan, train, aside)
    held_out = [
        replace(row, messages=[message.model_dump(mode="json", exclude_defaults=True) for message in messages])
        for row, messages in aside
    ]
    return Rows([row for row, _ in train], held_out)


Read = tuple[Row, tuple[Message, ...]]  # with the conversation up to the answer


class _Reader:
    """Reads files of chats, and collects what is wrong with their lines."""

    def __init__(self, plan: Plan, home: Path, goes_on: Callable[[], object]) -> None:
        self._goes_on = goes_on
        folder = model_dir(home, plan.base.alias)
        self._prompts = Prompts.load(folder, plan.base)
        self._most = min(plan.recipe.training.max_length, plan.base.context_length)
        memory = available_memory()
        self._room = MOST_TOKENS if memory is None else min(MOST_TOKENS, memory // TOKEN_BYTES)
        self._tokens = 0  # of all rows so far
        end = self._prompts.end_of_turn(end_ids(folder, self._prompts.tokenizer))
        if end is None:
            raise ConfigurationError(
                f"the chat template of {plan.base.alias} writes no end after an answer that serving would stop at: a "
                "model that learnt from it would never stop. Choose a base whose template ends its turns"
            )
        self._end = end
        self._problems: list[str] = []
        self._count = 0

    def rows(self, path: Path) -> Iterator[Read]:
        """Yield a row for each answer in a file."""
        count = 0
        try:
            if path.stat().st_size > MAX_DATA:
                raise UnfitData(f"{path.name} has more than {MAX_DATA / 1024**3:.0f} GiB")
            with path.open("rb", buffering=0) as raw:
                for line in read_on(text_of(raw, bounded=True), MAX_LINE):
                    if line.is_empty:
                        continue
                    self._goes_on()
                    try:
                        if line.too_long:
                            raise UnfitData(f"the line is longer than {MAX_LINE:,} bytes")
                        for read in self._of_line(line.number, line.text):
                            count += 1
                            self._tokens += read[0].tokens
                            yield read
                    except (NoJSON, HeadraceError) as error:
                        self._note(f"{path.name}, line {line.number}: {error}")
                    if count > MOST_ROWS:
                        raise UnfitData(f"{path.name} has more than {MOST_ROWS:,} answers")
                    if self._tokens > self._room:
                        raise UnfitData(
                            f"{path.name}, line {line.number}: the rows up to here have {self._tokens:,} tokens; the "
                            f"limit is {self._room:,}. Each answer is a row with the conversation before it: split "
                            "long conversations, give answers the weight 0, or send fewer lines"
                        )
        except NotReadable as error:
            raise UnfitData(str(error.of(path.name))) from None
        except OSError as error:
            raise UnfitData(f"{path.name} cannot be read: {error.strerror}") from error

    def refuse(self) -> None:
        """Raise UnfitData if something was wrong."""
        if self._problems:
            raise UnfitData(f"the data cannot be trained on as it is:\n{listed(self._problems, self._count)}")

    def _note(self, problem: str) -> None:
        self._count += 1
        if len(self._problems) < _PROBLEMS:
            self._problems.append(problem)

    def _of_line(self, number: int, text: bytes) -> Iterator[Read]:
        messages, weights = _conversation(parsed_object(text))
        answers = [
            place for place, message in enumerate(messages) if message.role == "assistant" and weights[place] != 0
        ]
        if not answers:
            raise UnfitData("no message of the assistant is to be learnt: the last one is the answer")
        for place in answers:
            answer = messages[place]
            if not answer.content.strip():
                raise UnfitData("the answer is empty")
            if not any(message.role == "user" for message in messages[:place]):
                raise UnfitData("an answer comes before the first question")
            row = self._row(number, messages[:place], answer.content)
            yield row, messages[:place]

    def _row(self, number: int, asked: tuple[Message, ...], answer: str) -> Row:
        prompt = self._prompts.encode(asked)
        if isinstance(prompt, HeadraceError):
            raise prompt
        ids = [int(self._prompts.tokenizer.token_to_id(token) or 0) for token in prompt]
        row = Row(number, ids, [*self._prompts.text_ids(answer), self._end])
        if row.tokens > self._most:
            raise UnfitData(
                f"prompt and answer have {row.tokens:,} tokens, and would be cut at {self._most:,}: raise max_length, "
                "or shorten them"
            )
        return row


def _conversation(record: dict[str, Any]) -> tuple[tuple[Message, ...], list[int]]:
    """Return the messages of a line of OpenAI's chat format, and the weight of each (0 is not learnt)."""
    given = record.get("messages")
    if strange := sorted(record.keys() - {"messages"}):
        raise UnfitData(f"{', '.join(strange)[:200]} cannot be trained: a line has messages alone")
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise UnfitData("messages must be a list of objects with role and content")
    if not 2 <= len(given) <= MAX_MESSAGES:
        raise UnfitData(f"it has {len(given)} messages; from 2 to {MAX_MESSAGES} can be trained")
    if any(item.get("tool_calls") for item in given):
        raise UnfitData("a message calls tools, which cannot be trained: leave the line out")
    weights = [item.get("weight", 1) for item in given]
    if any(type(weight) is not int or weight not in (0, 1) for weight in weights):
        raise UnfitData("weight must be 0 or 1")
    try:
        # OpenAI calls the system's part `developer` in newer files.
        plain = [{key: value for key, value in item.items() if key != "weight"} for item in given]
        messages = _MESSAGES.validate_python(
            [{**entry, "role": "system"} if entry.get("role") == "developer" else entry for entry in plain]
        )
    except ValidationError as error:
        raise UnfitData(describe(error)) from None
    return messages, weights


def _split(read: Sequence[Read], share: float, seed: int) -> tuple[list[Read], list[Read]]:
    """Return the rows to train on and those held out. All answers to one first question are on one side."""

    def drawn(messages: tuple[Message, ...]) -> float:
        first = next((message.content for message in messages if message.role == "user"), "")
        digest = hashlib.sha256(f"{seed}\0{first}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    aside = {id(row) for row in read if drawn(row[1]) < share}
    return [row for row in read if id(row) not in aside], [row for row in read if id(row) in aside]


def _check_counts(plan: Plan, train: Sequence[Read], aside: Sequence[Read]) -> None:
    """Raise UnfitData for data from which nothing can be learnt, or nothing shown."""
    difference, needed = plan.recipe.difference, least_held_out(plan.recipe.difference)
    if len(train) < LEAST_ROWS:
        raise UnfitData(f"there are {len(train)} answers to train on: {LEAST_ROWS - len(train)} more are needed")
    if len({tuple(row.answer) for row, _ in train}) == 1:
        raise UnfitData(f"all {len(train)} answers are the same: there is nothing to tell apart")
    if len(aside) < needed:
        raise UnfitData(
            f"{len(aside)} answers are held out, and {needed - len(aside)} more are needed to show a difference of "
            f"{difference:g} (6 / {difference:g}: six answers that differ, and all for the better, are the fewest that "
            "a sign test finds at 5 %). Add examples, or set a larger `difference` or `held_out`"
        )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows for the process that trains."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps([row.line, row.prompt, row.answer, row.messages]) + "\n" for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that `write_rows` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row(*json.loads(line)) for line in file]
