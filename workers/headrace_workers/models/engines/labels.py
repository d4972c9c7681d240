"""Labels as paths of tokens: the rows that a model computes to score them, and the probabilities that its logits give.

The probability of a label is that of its tokens and of the end of the turn after them, and a label counts as it is
spelled and after a space. Labels that begin alike share the beginning of their paths. One row for each path that is
the beginning of no other is enough: its logits tell of every position on it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headrace_workers.models.engines.batches import Prompt, plan_batches, shared_beginning
from headrace_workers.models.engines.engine import Placement
from headrace_workers.models.engines.logits import UnusableLogits
from headrace_workers.models.engines.prefixes import Beginning, common
from headrace_workers.models.generator import LabelScores

Path = tuple[int, ...]

# Tokens of all rows of a batch, the common beginning in each: the engine copies its state for each row.
MOST_TOKENS: Final = 4_096
AT_ONCE: Final = 16  # paths of a question that are read at once; of more, the first tokens are looked at before
LEAST_SHARE: Final = 1e-3
LEAST_TOKENS: Final = 2  # of a row: where one has a single token, the engine counts those of others for its answer's
_APART: Final = 64  # steps of all rows of a batch together: each copies the state of its row


def paths_of(labels: Sequence[str], encode: Callable[[str], list[int]]) -> dict[Path, int]:
    """Return the index of the label that each path of tokens spells.

    ValueError when two labels have the same tokens, or when a label has none.
    """
    owners: dict[Path, int] = {}
    for index, label in enumerate(labels):
        path = tuple(encode(label))
        if not label.strip() or not path:
            raise ValueError(f"the label {label!r} has no token that says anything")
        if path in owners:
            raise ValueError(f"the labels {labels[owners[path]]!r} and {label!r} are the same tokens")
        owners[path] = index
    for index, label in enumerate(labels):
        owners.setdefault(tuple(encode(f" {label}")), index)
    return owners


def unspoken(tokenizer: Tokenizer, spoken: Set[int]) -> int:
    """Return a token that is not among these, and that a model hardly ever writes."""
    added = sorted(tokenizer.get_added_tokens_decoder())
    vocabulary = range(tokenizer.get_vocab_size(with_added_tokens=True) - 1, -1, -1)
    return next(int(token) for token in (*added, *vocabulary) if token not in spoken)


class LabelTree:
    """The paths of a request's labels, and what the model's logits say of them.

    `end_ids` end the turn after a label; without them, the answer may go on.
    """

    def __init__(self, owners: Mapping[Path, int], end_ids: Sequence[int]) -> None:
        self._owners = owners
        self._end_ids = list(end_ids)
        self._next: dict[Path, list[int]] = defaultdict(list)
        for path in owners:
            for depth, token in enumerate(path):
                if token not in self._next[path[:depth]]:
                    self._next[path[:depth]].append(token)
        self._after: dict[Path, dict[int, float]] = {}  # probabilities of the next tokens
        self._ends: dict[Path, float] = {}

        leaves = self._leaves()
        self.longest = max(map(len, leaves))
        """The number of tokens of the longest path that is read."""
        self.read = leaves if len(leaves) <= AT_ONCE else [()]
        """The paths after which the model's logits are to be noted next."""
        self._is_followed = self.read is leaves

    def follow(self) -> bool:
        """Return True if there are more paths to `read`, now that it is known how labels may begin.

        A first token with less than LEAST_SHARE of the likeliest one's probability is not followed: its labels have 0.
        """
        if self._is_followed or () not in self._after:
            return False
        self._is_followed = True
        first = self._after[()]
        least = LEAST_SHARE * max(first.values())
        self.read = [path for path in self._leaves() if first[path[0]] >= least]
        return bool(self.read)

    def _leaves(self) -> list[Path]:
        """Return the paths after which logits are needed, less those that another one begins with."""
        needed = dict.fromkeys(path if self._end_ids else path[:-1] for path in self._owners)
        begun = {path[:depth] for path in needed for depth in range(len(path))}
        return [path for path in needed if path not in begun]

    def note(self, path: Path, logits: NDArray[np.float32]) -> None:
        """Note the logits (vocabulary,) that the model has after a path. Raise UnusableLogits where one is NaN."""
        top = float(logits.max())
        if not np.isfinite(top):
            raise UnusableLogits("the model returned figures that are no numbers: pull or convert it again")
        weights = np.exp(logits.astype(np.float64) - top)
        total = float(weights.sum())
        self._after[path] = {token: float(weights[token]) / total for token in self._next.get(path, ())}
        self._ends[path] = float(weights[self._end_ids].sum()) / total

    def scores(self, labels: int, read: int) -> LabelScores:
        """Return the scores of so many labels, for which `read` tokens of a prompt were computed."""
        masses = [0.0] * labels
        for path, label in self._owners.items():
            if (path if self._end_ids else path[:-1]) in self._after:
                shares = (self._after[path[:depth]][token] for depth, token in enumerate(path))
                masses[label] += math.prod(shares, start=self._ends[path] if self._end_ids else 1.0)
        return LabelScores(tuple(masses), read, sum(map(len, self.read)))


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A prompt and the tree of its labels."""

    prompt: Prompt
    tree: LabelTree


@dataclass(frozen=True, slots=True, eq=False)
class LabelRow:
    """A row of a batch: a question's prompt, and a path of its labels after it."""

    question: Question
    path: Path

    @property
    def length(self) -> int:
        """The number of tokens of both."""
        return len(self.question.prompt.tokens) + len(self.path)


def sharing(questions: Sequence[Question]) -> list[list[Question]]:
    """Return the questions with what they begin with together, which is computed once a batch.

    A question shares it with the one before it where both have at least half of their tokens in common.
    """
    groups: list[list[Question]] = []
    for question in questions:
        before = groups[-1][-1] if groups else None
        if before is not None and _is_alike(before.prompt, question.prompt):
            groups[-1].append(question)
        else:
            groups.append([question])
    return [group if _is_loose(group) else _with_beginning(group) for group in groups]


def _is_loose(group: Sequence[Question]) -> bool:
    """Return True if nothing but one prompt is read: such prompts run together, whatever they begin with."""
    return len(group) == 1 and not group[0].tree.longest


def _is_alike(before: Prompt, prompt: Prompt) -> bool:
    shared = len(common(before.tokens, prompt.tokens)) if before.tenant == prompt.tenant else 0
    return 2 * shared >= max(len(before.tokens), len(prompt.tokens))


def _with_beginning(group: list[Question]) -> list[Question]:
    prompts = [question.prompt for question in group]
    beginning = Beginning(shared_beginning(prompts, [prompt.tokens[: 1 - LEAST_TOKENS] for prompt in prompts]))
    return [replace(question, prompt=replace(question.prompt, beginning=beginning)) for question in group]


def plan_rows(
    groups: Sequence[Sequence[Question]], placement: Placement, *, workers: int, max_steps: int
) -> list[list[LabelRow]]:
    """Return batches of the rows of these groups, each of one group: of like length, and bounded in tokens and in the
    steps whose logits they keep. Prompts that are read alone are cut finer for several `workers`.
    """
    loose = [LabelRow(group[0], ()) for group in groups if _is_loose(group)]
    batches = _planned(loose, placement, placement.batch_tokens, workers, max_steps)
    for group in groups:
        if not _is_loose(group):
            rows = [LabelRow(question, path) for question in group for path in question.tree.read]
            batches += _planned(rows, placement, MOST_TOKENS, 1, min(max_steps, _APART))
    return batches


def _planned(
    rows: Sequence[LabelRow], placement: Placement, max_tokens: int, workers: int, max_steps: int
) -> list[list[LabelRow]]:
    plan = plan_batches(
        [row.length for row in rows],
        max_tokens=max_tokens,
        max_rows=placement.batch_rows,
        workers=workers,
        max_steps=max_steps,
    )
    return [[rows[index] for index in batch] for batch in plan]


def note_all(rows: Sequence[LabelRow], results: Sequence[Any]) -> None:
    """Note the logits of rows, which were kept from the end of the shortest of their prompts on at the latest."""
    for row, result in zip(rows, results, strict=True):
        for depth, logits in enumerate(result.logits[0][-len(row.path) - 1 :]):
            row.question.tree.note(row.path[:depth], np.array(logits, dtype=np.float32).reshape(-1))
