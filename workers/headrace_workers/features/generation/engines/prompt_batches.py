"""The batches in which the prompts of a call run on a loaded model."""

from collections.abc import Iterable, Sequence

from headrace_workers.features.generation.engines.batching import plan_batches
from headrace_workers.features.generation.engines.hardware import Placement
from headrace_workers.features.generation.engines.rerun_batches import Prompt, next_rerun
from headrace_workers.features.generation.engines.slots import Slots


class PromptBatches:
    """Batches of prompts, as large as the model's placement can run, and cut finer while slots are free."""

    def __init__(self, placement: Placement, slots: Slots, vocabulary_size: int) -> None:
        self._placement = placement
        self._slots = slots
        self._vocabulary_size = vocabulary_size

    def plan(self, prompts: Sequence[Prompt], max_steps: int | None = None) -> list[list[Prompt]]:
        """Return batches of prompts that may all run together. `max_steps` is that of `plan_batches`."""
        plan = plan_batches(
            [prompt.length for prompt in prompts],
            max_tokens=self._placement.batch_tokens,
            max_rows=self._placement.batch_rows,
            workers=max(1, self._slots.free),
            max_steps=max_steps,
        )
        return [[prompts[index] for index in batch] for batch in plan]

    def of(self, prompts: Sequence[Prompt], max_steps: int | None = None) -> Iterable[list[Prompt]]:
        """Yield batches of any prompts.

        Requests of one call mostly agree in how tokens are chosen, and in what they begin with; the engine takes one of
        each a batch.
        """
        groups: dict[tuple[object, int, int], list[Prompt]] = {}
        for prompt in prompts:
            # CTranslate2 takes the tokens by which a prompt is longer than the shortest of its batch for the answer's,
            # the end token among them: a penalty is right only among prompts of one length.
            length = 0 if prompt.sampling.repetition_penalty == 1 else len(prompt.tokens)
            groups.setdefault((prompt.choice_key, id(prompt.beginning), length), []).append(prompt)
        for group in groups.values():
            yield from self.plan(group, max_steps)

    def next_rerun(self, stopped: Sequence[Prompt], workers: int) -> list[Prompt]:
        """Return those of the stopped prompts that go on next together."""
        return next_rerun(
            stopped,
            vocabulary_size=self._vocabulary_size,
            max_tokens=self._placement.batch_tokens,
            max_rows=self._placement.batch_rows,
            workers=workers,
        )
