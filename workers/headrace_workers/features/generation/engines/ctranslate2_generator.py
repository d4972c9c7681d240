"""Text generation with CTranslate2: the adapter behind the port `Generator`, and the only one that serves with it.

CTranslate2 is safe in threads and not across a fork: load after the fork, or in a spawned process.
"""

import atexit
import json
import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import ctranslate2
import numpy as np
from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.tool import Tool
from headrace_workers.core.cores import available_cores
from headrace_workers.core.log import Action, log
from headrace_workers.core.memory import keep_freed_memory
from headrace_workers.core.ports import Completion, GivenUp, Request, never
from headrace_workers.features.generation.engines.batching import isolate_failures, plan_batches
from headrace_workers.features.generation.engines.chat_template import read_tokenizer_config, token_text
from headrace_workers.features.generation.engines.choice_probabilities import first_tokens, mass
from headrace_workers.features.generation.engines.hardware import (
    Device,
    Machine,
    Placement,
    choose_placement,
)
from headrace_workers.features.generation.engines.idle_memory import IDLE_MEMORY
from headrace_workers.features.generation.engines.prefixes import MOST_TOKENS, NONE, Beginning, Prefixes
from headrace_workers.features.generation.engines.prompts import Prompts
from headrace_workers.features.generation.engines.seeded import SeededRow
from headrace_workers.features.generation.engines.slots import Slots
from headrace_workers.features.generation.engines.stopping import Row, Stopper, cut_at_stop, needs_stopper, presentable
from headrace_workers.features.generation.models.broken_model import broken_model
from headrace_workers.features.generation.models.registry import ModelCard, read_card, with_range
from headrace_workers.features.generation.structured.tools import offered

# Logits of one batch that are kept at once, in bytes: CTranslate2 keeps those of every step, prompt positions too.
_LOGITS_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A request that can run. `limit` is max_tokens, clipped to the room that the context leaves."""

    index: int
    tokens: list[str]
    limit: int
    sampling: Sampling
    beginning: Beginning = NONE
    given_up: Callable[[], bool] = never


class CTranslate2Generator:
    """A loaded model. Thread-safe: calls from several threads share the weights and the engine's own threads."""

    def __init__(
        self, card: ModelCard, folder: Path, placement: Placement, prompts: Prompts, prefix_tokens: int = MOST_TOKENS
    ) -> None:
        self._card = card
        self._placement = placement
        self._prompts = prompts
        self._tokenizer = prompts.tokenizer
        self._prefixes = Prefixes(prompts.beginning, most_tokens=prefix_tokens)
        _check_vocabulary(folder, prompts.tokenizer)
        self._end_ids = _end_ids(folder, prompts.tokenizer)
        self._vocabulary_size = prompts.tokenizer.get_vocab_size(with_added_tokens=True)
        self._urgent = False
        self._slots = Slots(placement.inter_threads)
        self._engine: Any = ctranslate2.Generator(
            str(folder),
            device=placement.device,
            compute_type=placement.compute_type,
            inter_threads=placement.inter_threads + 1,  # one for what is urgent
            intra_threads=placement.intra_threads,
            max_queued_batches=-1,  # the slots bound what comes
        )
        atexit.register(_unload, weakref.ref(self))

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        inter_threads: int | None = None,
        device: Device = "auto",
        compute_type: str | None = None,
        prefix_tokens: int = MOST_TOKENS,
    ) -> Self:
        """Load the model in a folder with a `model.toml`; ConfigurationError when it, or the machine, cannot do it.

        `prefix_tokens` bounds what it keeps of that prompts begin with: see `prefixes`.
        """
        card = read_card(folder)
        machine = Machine(
            cores=available_cores(),
            cuda_devices=ctranslate2.get_cuda_device_count(),
            compute_types=lambda kind: frozenset(ctranslate2.get_supported_compute_types(kind)),
        )
        placement = choose_placement(
            card.quantization, machine, device=device, compute_type=compute_type, inter_threads=inter_threads
        )
        keep_freed_memory()
        try:
            generator = cls(card, folder, placement, Prompts.load(folder, card), prefix_tokens)
        except HeadraceError:
            raise
        except Exception as error:  # the library raises RuntimeError for files that it refuses
            raise broken_model(f"{folder} cannot be loaded: {error}") from error
        log("engine", logging.INFO, Action.MODEL_LOADED, f"loaded on {placement.reason}", model=card.alias)
        return generator

    @property
    def alias(self) -> str:
        """The name that jobs ask for it by."""
        return self._card.alias

    @property
    def quantization(self) -> str:
        """Return the number format that it computes in, in CTranslate2's words, with the bound of int8 weights.

        int8 on a CPU is `int8_float32_pairs`.
        """
        return with_range(str(self._engine.compute_type), self._card.weight_range)

    @property
    def context_length(self) -> int:
        """Prompt and answer together, in tokens."""
        return self._card.context_length

    @property
    def parallel(self) -> int:
        """The number of calls that it computes side by side. An urgent call may be one more."""
        return self._placement.inter_threads

    @property
    def placement(self) -> Placement:
        """The device, number format and threads, and the reason for them."""
        return self._placement

    @property
    def urgent(self) -> Self:
        """The same model, whose calls run beside what runs already when all slots are taken."""
        view = copy(self)
        view._urgent = True
        return view

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all. A request with a seed (and a temperature) runs alone: see `seeded`. What others begin with
        together is computed once: see `prefixes`.

        A batch that cannot be computed is an error of its own rows; the others have their answers.
        """
        answers: dict[int, Completion | HeadraceError] = {}
        plain: list[_Prompt] = []
        seeded: list[_Prompt] = []
        for index, request in enumerate(requests):
            tools = offered(request.tools, request.tool_choice)
            prompt = self._prepare(index, request.messages, request.sampling, request.given_up, tools)
            if isinstance(prompt, HeadraceError):
                answers[index] = prompt
            elif request.sampling.seed is not None and request.sampling.temperature > 0:
                seeded.append(prompt)
            else:
                plain.append(prompt)
        beginnings = self._prefixes.of([requests[each.index] for each in plain], [each.tokens for each in plain])
        plain = [replace(each, beginning=begin) for each, begin in zip(plain, beginnings, strict=True)]
        answered = self._run_all(
            [(self._answer, batch) for batch in self._batches(plain)] + [(self._draw, [one]) for one in seeded]
        )
        answers.update(answered)
        return [answers[index] for index in range(len(requests))]

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Return the probability of each choice as the answer's first token, from the raw logits of that position.

        Of a choice's two spellings (with a leading space and without) one whose first token is blank says nothing and
        is left out. ValueError when two choices share their first token, or when none of a choice's tokens counts.
        """
        ids = first_tokens(choices, self._prompts.text_ids, self._decode)
        found: dict[int, tuple[float, ...] | HeadraceError] = {}
        ready: list[_Prompt] = []
        for index, messages in enumerate(prompts):
            prompt = self._prepare(index, messages, Sampling(max_tokens=1, repetition_penalty=1))
            if isinstance(prompt, HeadraceError):
                found[index] = prompt
            else:
                ready.append(prompt)
        plan = self._plan(ready, max_steps=self._kept_steps)
        weighed = self._run_all([(partial(self._masses, ids=ids), batch) for batch in plan])
        found.update(weighed)
        return [found[index] for index in range(len(prompts))]

    def _prepare(
        self,
        index: int,
        messages: Sequence[Message],
        sampling: Sampling,
        given_up: Callable[[], bool] = never,
        tools: Sequence[Tool] = (),
    ) -> _Prompt | HeadraceError:
        tokens = self._prompts.encode(messages, tools)
        if isinstance(tokens, HeadraceError):
            return tokens
        limit = min(sampling.max_tokens, self._prompts.room(len(tokens)))
        if sampling.repetition_penalty is None:
            sampling = sampling.model_copy(update={"repetition_penalty": self._card.repetition_penalty})
        return _Prompt(index, tokens, limit, sampling, given_up=given_up)

    def _batches(self, prompts: Sequence[_Prompt]) -> Iterable[list[_Prompt]]:
        # Requests of one call mostly agree in how tokens are chosen, and in what they begin with; the engine takes one
        # of each a batch.
        groups: dict[tuple[object, int, int], list[_Prompt]] = {}
        for prompt in prompts:
            # CTranslate2 takes the tokens by which a prompt is longer than the shortest of its batch for the answer's,
            # the end token among them: a penalty is right only among prompts of one length.
            length = 0 if prompt.sampling.repetition_penalty == 1 else len(prompt.tokens)
            groups.setdefault((_choice_key(prompt.sampling), id(prompt.beginning), length), []).append(prompt)
        for group in groups.values():
            yield from self._plan(group)

    def _plan(self, prompts: Sequence[_Prompt], max_steps: int | None = None) -> list[list[_Prompt]]:
        plan = plan_batches(
            [len(prompt.tokens) for prompt in prompts],
            max_tokens=self._placement.batch_tokens,
            max_rows=self._placement.batch_rows,
            workers=max(1, self._slots.free),
            max_steps=max_steps,
        )
        return [[prompts[index] for index in batch] for batch in plan]

    def _run_all(
        self, work: Sequence[tuple[Callable[[list[_Prompt]], list[T]], list[_Prompt]]]
    ) -> dict[int, T | HeadraceError]:
        # Everything is handed over before the first answer is waited for, so that no slot idles.
        with IDLE_MEMORY.busy():
            running = [
                self._slots.submit(partial(isolate_failures, run, batch), urgent=self._urgent) for run, batch in work
            ]
            return {
                prompt.index: answer
                for future, (_, batch) in zip(running, work, strict=True)
                for prompt, answer in zip(batch, future.result(), strict=True)
            }

    def _run(self, prompts: list[_Prompt], rows: list[Row], **options: Any) -> list[Any]:
        """Run one batch through the engine now. Each row records what is noted of its answer meanwhile."""
        beginning = prompts[0].beginning
        results: list[Any] = self._engine.generate_batch(
            [prompt.tokens[len(beginning.tokens) :] for prompt in prompts],
            include_prompt_in_result=False,  # else max_length would count the prompt
            max_length=max(row.limit for row in rows),
            end_token=self._end_ids,
            callback=self._between(Stopper(rows, self._decode) if needs_stopper(rows) else None),
            **_sampling_options(prompts[0].sampling),
            **beginning.options,
            **options,
        )
        return results

    def _row(self, prompt: _Prompt) -> Row:
        """Return the state of the prompt's answer, before the first token."""
        # To ask at each token takes Python's time: nothing beside a CPU's step, and much beside a GPU's.
        asks = self._placement.device == "cpu"
        return Row(prompt.limit, prompt.sampling.stop, prompt.given_up if asks else never)

    def _answer(self, prompts: list[_Prompt]) -> list[Completion | HeadraceError]:
        found: dict[int, Completion | HeadraceError] = {}
        wanted = [prompt for prompt in prompts if not prompt.given_up()]  # they may have waited for a slot
        rows = [self._row(prompt) for prompt in wanted]
        results = self._run(wanted, rows) if wanted else []
        for prompt, row, result in zip(wanted, rows, results, strict=True):
            found[prompt.index] = self._complete(prompt, row, result.sequences_ids[0])
        return [found.get(prompt.index, GivenUp()) for prompt in prompts]

    def _masses(self, prompts: list[_Prompt], ids: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        # The last entry: those before it are positions of the prompt, in a batch of mixed lengths. Logits are large,
        # and go with the batch.
        results = self._run(prompts, [self._row(prompt) for prompt in prompts], return_logits_vocab=True)
        return [mass(np.array(result.logits[0][-1], dtype=np.float32), ids) for result in results]

    def _draw(self, prompts: list[_Prompt]) -> list[Completion | HeadraceError]:
        """Return the answer that the seed of this one prompt decides."""
        (prompt,) = prompts
        if prompt.given_up():
            return [GivenUp()]
        answer = self._row(prompt)
        row = SeededRow(
            answer,
            prompt.sampling,
            vocabulary_size=self._vocabulary_size,
            end_ids=self._end_ids,
            decode=self._decode,
        )
        while not row.ended:
            self._engine.generate_batch(
                [prompt.tokens + [str(self._tokenizer.id_to_token(index)) for index in row.ids]],
                include_prompt_in_result=False,
                max_length=min(row.left, self._kept_steps),
                end_token=self._end_ids,
                sampling_topk=1,
                return_logits_vocab=True,
                callback=self._between(row),
            )
        return [self._complete(prompt, answer, row.ids)]

    def _between(self, stops: Callable[[Any], bool] | None) -> Callable[[Any], bool] | None:
        """Return the callback for each token, in which bulk runs yield to urgent ones: see `yield_to_interactive`."""
        if self._urgent or self._placement.device != "cpu":
            return stops
        run = self._slots.urgent_runs.start_bulk_run()

        def between(step: Any) -> bool:
            run.between()
            return stops is not None and stops(step)

        return between

    def _complete(self, prompt: _Prompt, row: Row, ids: list[int]) -> Completion | HeadraceError:
        if row.is_given_up:
            return GivenUp()
        # The end token is not among the ids: an answer that has all the tokens it may have was cut off.
        text, stopped = cut_at_stop(self._decode(ids), prompt.sampling.stop)
        ended = stopped or len(ids) < prompt.limit
        return Completion(presentable(text), "stop" if ended else "length", len(prompt.tokens), len(ids))

    @property
    def _kept_steps(self) -> int:
        """Over how many steps a run may keep its logits."""
        return max(1, _LOGITS_BYTES // (4 * self._vocabulary_size))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def _choice_key(sampling: Sampling) -> tuple[float | None, ...]:
    """Return a key: requests with the same key may share a batch.

    All greedy ones do, since they ignore top_p and top_k.
    """
    if sampling.temperature == 0:
        return (0.0, 1.0, 1, sampling.repetition_penalty)
    return (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty)


def _sampling_options(sampling: Sampling) -> dict[str, Any]:
    penalty = {"repetition_penalty": sampling.repetition_penalty or 1}
    if sampling.temperature == 0:
        return {"sampling_topk": 1, **penalty}
    return {
        **penalty,
        "sampling_topk": sampling.top_k,  # 0: no bound, in the contract and in CTranslate2
        "sampling_topp": sampling.top_p,
        "sampling_temperature": sampling.temperature,
    }


def _unload(generator: "weakref.ref[CTranslate2Generator]") -> None:
    """End the engine's threads while Python still runs: one that puts a callback away later aborts the process."""
    loaded = generator()
    if loaded is not None:
        loaded._engine = None


def _check_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise ConfigurationError unless the weights' tokens are the tokenizer's.

    One of them may have more, as padding.
    """
    beside = folder / "vocabulary.json"
    if not beside.is_file():
        return
    for index, token in enumerate(json.loads(beside.read_text(encoding="utf-8"))):
        other = tokenizer.id_to_token(index)
        if other is not None and other != token:
            raise broken_model(
                f"{folder / 'tokenizer.json'} is not this model's: its token {index} is {other!r}, in {beside.name} "
                f"{token!r}"
            )


def _end_ids(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """Return every token that ends an answer: the tokenizer's, and those of `generation_config.json` (Llama 3 has
    three).
    """
    ids = {tokenizer.token_to_id(token_text(read_tokenizer_config(folder).get("eos_token")))}
    beside = folder / "generation_config.json"
    if beside.is_file():
        listed = json.loads(beside.read_text(encoding="utf-8")).get("eos_token_id")
        ids |= set(listed) if isinstance(listed, list) else {listed}
    ends = sorted(index for index in ids if index is not None)
    if not ends:
        raise ConfigurationError(f"{folder} names no end token in tokenizer_config.json: answers would never end")
    return ends
