"""Text generation with CTranslate2: the adapter behind the port `Generator`, and the only one that serves with it.

CTranslate2 is safe in threads and not across a fork: load after the fork, or in a spawned process.
"""

import atexit
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import ctranslate2
import numpy as np
from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Sampling
from headrace_schemas.errors import Unparsable
from headrace_workers.core.log import Action, log
from headrace_workers.core.machine import available_cores, keep_freed_memory
from headrace_workers.models.engines.batches import (
    Prompt,
    PromptBatches,
    isolate_failures,
    shared_beginning,
    steps_of,
)
from headrace_workers.models.engines.constrained import (
    ConstrainedStopper,
    Grammars,
    SeededConstrainedRow,
    grammar_for,
)
from headrace_workers.models.engines.engine import Device, Machine, Placement, choose_placement
from headrace_workers.models.engines.labels import (
    LEAST_TOKENS,
    LabelRow,
    LabelTree,
    Question,
    note_all,
    paths_of,
    plan_rows,
    sharing,
    unspoken,
)
from headrace_workers.models.engines.logits import SeededRow
from headrace_workers.models.engines.prefixes import Beginning, Prefixes
from headrace_workers.models.engines.prompts import InvalidTemplate, Prompts, check_vocabulary, end_ids
from headrace_workers.models.engines.slots import IDLE_MEMORY, Slots
from headrace_workers.models.engines.stopping import Row, Stopper, cut_at_stop, needs_stopper, presentable
from headrace_workers.models.generator import (
    Completion,
    GivenUp,
    LabelRequest,
    LabelScores,
    Request,
    never,
)
from headrace_workers.models.registry import ModelCard, broken_model, read_card, with_range

# Logits of one batch that are kept at once, in bytes: CTranslate2 keeps those of every step, prompt positions too.
LOGITS_BYTES = 64 * 1024 * 1024
_WORTH_KEEPING = 32  # tokens of each answer for which a batch of constrained rows keeps logits from the beginning
_APART = 64  # tokens by which constrained prompts of a batch are longer than its shortest, together: many stop at once
_COMPILE_FIRST = 0.1  # seconds for which a call waits for its grammars, before it computes the rows whose are compiled
_COMPILE_LOOK = 0.02  # seconds between two looks at the others
_ONE_TOKEN = Request((), Sampling(max_tokens=1, temperature=0, repetition_penalty=1))

T = TypeVar("T")


class CTranslate2Generator:
    """A loaded model. Thread-safe: calls from several threads share the weights and the engine's own threads."""

    def __init__(self, card: ModelCard, folder: Path, placement: Placement, prompts: Prompts) -> None:
        self._card = card
        self._placement = placement
        self._prompts = prompts
        self._tokenizer = prompts.tokenizer
        self._decode = _decoder(prompts.tokenizer)
        self._prefixes = Prefixes(prompts.beginning)
        check_vocabulary(folder, prompts.tokenizer)
        self._end_ids = end_ids(folder, prompts.tokenizer)
        self._vocabulary_size = prompts.tokenizer.get_vocab_size(with_added_tokens=True)
        self._grammars = Grammars(prompts.tokenizer.to_str, self._end_ids)
        self._urgent = False
        self._slots = Slots(placement.inter_threads)
        self._prompt_batches = PromptBatches(placement, self._slots, self._vocabulary_size)
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
    ) -> Self:
        """Load the model in a folder with a `model.toml`; ConfigurationError when it, or the machine, cannot do it."""
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
            generator = cls(card, folder, placement, Prompts.load(folder, card))
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
        """Answer all. A request with a seed (and a temperature) runs alone: see `logits`. A common beginning of prompts
        is computed once: see `prefixes`. A request with a format is held to it: see `constrained`.

        A batch that cannot be computed is an error of its own rows; the others have their answers.
        """
        answers: dict[int, Completion | HeadraceError] = {}
        plain: list[Prompt] = []
        seeded: list[Prompt] = []
        for index, request in enumerate(requests):
            prompt = self._constrain(self._prepare(index, request), request)
            if isinstance(prompt, HeadraceError):
                answers[index] = prompt
            else:
                (seeded if prompt.is_seeded else plain).append(prompt)
        beginnings = self._prefixes.of([requests[item.index] for item in plain], [item.tokens for item in plain])
        plain = [replace(item, beginning=begin) for item, begin in zip(plain, beginnings, strict=True)]
        answers.update(self._answer_all(_await_grammars([*plain, *seeded])))
        return [answers[index] for index in range(len(requests))]

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Return the probability of each label with the end of the turn: see `labels`. The common beginning of
        consecutive questions is computed once a batch, and not kept.
        """
        trees = {
            labels: paths_of(labels, self._prompts.text_ids)
            for labels in {label_request.labels for label_request in requests}
        }
        errors: dict[int, HeadraceError] = {}
        questions: list[Question] = []
        for index, request in enumerate(requests):
            tree = LabelTree(trees[request.labels], self._end_ids if request.whole else ())
            asked = replace(_ONE_TOKEN, messages=request.messages, tenant=request.tenant, given_up=request.given_up)
            prompt = self._prepare(index, asked)
            if isinstance(prompt, Prompt) and self._prompts.room(len(prompt.tokens)) <= tree.longest:
                prompt = self._prompts.too_long(f"{len(prompt.tokens)} tokens, and a label {tree.longest}")
            elif isinstance(prompt, Prompt) and len(prompt.tokens) < LEAST_TOKENS:
                prompt = InvalidTemplate(f"the chat template of {self.alias} makes one token of these messages")
            if isinstance(prompt, HeadraceError):
                errors[index] = prompt
            else:
                questions.append(Question(prompt, tree))
        groups = sharing(questions)
        spoken = {token for paths in trees.values() for path in paths for token in path}
        end = unspoken(self._tokenizer, spoken.union(self._end_ids))
        errors.update(self._weigh_all(groups, end))
        further = [question for question in questions if question.prompt.index not in errors and question.tree.follow()]
        errors.update(self._weigh_all(sharing(further), end))
        scores: dict[int, LabelScores] = {}
        for group in groups:
            for place, question in enumerate(group):
                index = question.prompt.index
                if index not in errors:
                    read = len(question.prompt.tokens) - (len(question.prompt.beginning.tokens) if place else 0)
                    scores[index] = question.tree.scores(len(requests[index].labels), read)
        return [errors.get(index) or scores[index] for index in range(len(requests))]

    def _prepare(self, index: int, request: Request) -> Prompt | HeadraceError:
        tokens = self._prompts.encode(request.messages, request.offer)
        if isinstance(tokens, HeadraceError):
            return tokens
        sampling = request.sampling
        limit = min(sampling.max_tokens, self._prompts.room(len(tokens)))
        if sampling.repetition_penalty is None:
            sampling = sampling.model_copy(update={"repetition_penalty": self._card.repetition_penalty})
        return Prompt(index, tokens, limit, sampling, given_up=request.given_up, tenant=request.tenant)

    def _constrain(self, prompt: Prompt | HeadraceError, request: Request) -> Prompt | HeadraceError:
        """Return the prompt with the answer's grammar, which lets no penalty count, if it has one."""
        if isinstance(prompt, HeadraceError):
            return prompt
        request = replace(request, offer=self._prompts.narrowed(request.offer))
        try:
            grammar = grammar_for(request, self._prompts.dialect(request.offer))
        except HeadraceError as error:
            return error
        except (ValueError, RecursionError) as error:
            return Unparsable(f"the answer's format makes no grammar: {type(error).__name__}", "unsatisfiable")
        if grammar is None:
            return prompt
        sampling = prompt.sampling.model_copy(update={"repetition_penalty": 1.0})
        output = None if request.offer else request.output  # what may be a call is not shortened
        row = self._grammars.row(grammar, output, self._row(prompt), sampling, self._decode)
        return replace(prompt, sampling=sampling, constrained=row)

    def _answer_all(self, prompts: Sequence[Prompt]) -> dict[int, Completion | HeadraceError]:
        """Answer these. Rows whose grammar stopped them go on in batches of their own as soon as a slot is free."""
        answers: dict[int, Completion | HeadraceError] = {}
        running: dict[Future[list[Completion | HeadraceError | None]], list[Prompt]] = {}

        def submit(run: Callable[[list[Prompt]], Any], batch: list[Prompt]) -> None:
            running[self._slots.submit(partial(isolate_failures, run, batch), urgent=self._urgent)] = batch

        fresh, stopped = list(prompts), list[Prompt]()
        with IDLE_MEMORY.busy():
            while fresh or running or stopped:
                compiled = [prompt for prompt in fresh if prompt.is_compiled]
                fresh = [prompt for prompt in fresh if prompt not in compiled]
                # Everything is handed over before the first answer is waited for, so that no slot idles.
                for run, batch in self._first_runs(compiled):
                    submit(run, batch)
                while stopped and len(running) < self.parallel:
                    batch = self._prompt_batches.next_rerun(stopped, self.parallel - len(running))
                    stopped = [prompt for prompt in stopped if prompt not in batch]
                    submit(self._go_on, batch)
                if not running:
                    time.sleep(_COMPILE_LOOK)
                for future in wait(running, _COMPILE_LOOK if fresh else None, FIRST_COMPLETED).done:
                    of_batch = list(zip(running.pop(future), future.result(), strict=True))
                    stopped += [prompt for prompt, answer in of_batch if answer is None]
                    answers.update({prompt.index: answer for prompt, answer in of_batch if answer is not None})
        return answers

    def _first_runs(self, prompts: Sequence[Prompt]) -> Iterable[tuple[Callable[[list[Prompt]], Any], list[Prompt]]]:
        for batch in self._prompt_batches.of([item for item in prompts if not item.is_seeded and not item.constrained]):
            yield self._answer, batch
        for batch in self._prompt_batches.of(
            [item for item in prompts if not item.is_seeded and item.constrained], _APART
        ):
            # Where logits may be kept for a while, a first violation needs no second look at its prompt.
            keeps = steps_of(batch, self._vocabulary_size) >= _WORTH_KEEPING
            yield self._go_on if keeps else self._answer, batch
        for prompt in prompts:
            if prompt.is_seeded:
                yield self._draw, [prompt]

    def _run(self, prompts: list[Prompt], rows: list[Row], **options: Any) -> list[Any]:
        """Run one batch through the engine now. Each row records what is noted of its answer meanwhile."""
        beginning = prompts[0].beginning
        stopper: Callable[[Any], bool] | None = None
        if constrained := [prompt.constrained for prompt in prompts if prompt.constrained]:
            stopper = ConstrainedStopper(constrained)  # of all rows: free ones run apart
        elif needs_stopper(rows):
            stopper = Stopper(rows, self._decode)
        results: list[Any] = self._engine.generate_batch(
            [self._written(prompt)[len(beginning.tokens) :] for prompt in prompts],
            **{
                "include_prompt_in_result": False,  # else max_length would count the prompt
                "max_length": max(row.limit - len(row.ids) for row in rows),
                "end_token": self._end_ids,
                "callback": self._between(stopper),
                **_sampling_options(prompts[0].sampling),
                **beginning.options,
                **options,
            },
        )
        return results

    def _written(self, prompt: Prompt) -> list[str]:
        """Return the tokens of the prompt and of what its answer has already."""
        return prompt.tokens + self._texts(prompt.ids)

    def _texts(self, ids: list[int]) -> list[str]:
        """Return the names of tokens, by which the engine takes them."""
        return [str(self._tokenizer.id_to_token(index)) for index in ids]

    def _row(self, prompt: Prompt) -> Row:
        """Return the state of the prompt's answer; of a new one, before the first token."""
        if prompt.constrained:
            return prompt.constrained.row
        # To ask at each token takes Python's time: nothing beside a CPU's step, and much beside a GPU's.
        asks = self._placement.device == "cpu"
        return Row(prompt.limit, prompt.sampling.stop, prompt.given_up if asks else never)

    def _answer(self, prompts: list[Prompt]) -> list[Completion | HeadraceError | None]:
        """Answer the batch; None stands for an answer that its grammar stopped, and that is to go on."""
        wanted = self._wanted(prompts)
        rows = [self._row(prompt) for prompt in wanted]
        results = self._run(wanted, rows) if wanted else []
        found: dict[int, Completion | HeadraceError | None] = {}
        for prompt, row, result in zip(wanted, rows, results, strict=True):
            ids = row.ids if prompt.constrained else result.sequences_ids[0]
            found[prompt.index] = self._complete(prompt, row, ids)
        return self._in_order(prompts, found)

    def _wanted(self, prompts: list[Prompt]) -> list[Prompt]:
        """Return the prompts that are to run: they may have waited for a slot, and lost their job meanwhile."""
        return [prompt for prompt in prompts if not prompt.is_over and not prompt.given_up()]

    def _in_order(
        self, prompts: list[Prompt], found: dict[int, Completion | HeadraceError | None]
    ) -> list[Completion | HeadraceError | None]:
        for prompt in prompts:
            if prompt.index not in found and prompt.is_over:
                found[prompt.index] = self._complete(prompt, self._row(prompt), prompt.ids)
        return [found.get(prompt.index, GivenUp()) for prompt in prompts]

    def _go_on(self, prompts: list[Prompt]) -> list[Completion | HeadraceError | None]:
        """Run stopped rows until the next token that a grammar forbids, and choose that one among the allowed."""
        wanted = self._wanted(prompts)
        found: dict[int, Completion | HeadraceError | None] = {}
        if wanted:
            rows = [self._row(prompt) for prompt in wanted]
            beginning = wanted[0].beginning
            if not beginning.kept:
                beginning = Beginning(shared_beginning(wanted, [self._written(prompt) for prompt in wanted]))
            most = min(steps_of(wanted, self._vocabulary_size), max(row.limit - len(row.ids) for row in rows))
            wanted = [replace(prompt, beginning=beginning) for prompt in wanted]
            results = self._run(wanted, rows, return_logits_vocab=True, max_length=most)
            for prompt, row, result in zip(wanted, rows, results, strict=True):
                if prompt.constrained and prompt.constrained.is_violated:
                    prompt.constrained.choose(np.array(result.logits[0][-1], dtype=np.float32))
                found[prompt.index] = self._complete(prompt, row, row.ids)
        return self._in_order(prompts, found)

    def _weigh_all(self, groups: Sequence[list[Question]], unspoken: int) -> dict[int, HeadraceError]:
        """Note in the trees what the model says of their labels. Return the errors of the prompts that failed."""
        weigh = partial(self._weigh, unspoken=unspoken)
        plan = plan_rows(groups, self._placement, workers=max(1, self._slots.free), max_steps=self._kept_steps)
        with IDLE_MEMORY.busy():
            running = [
                self._slots.submit(partial(isolate_failures, weigh, batch), urgent=self._urgent) for batch in plan
            ]
            return {
                row.question.prompt.index: error
                for future, batch in zip(running, plan, strict=True)
                for row, error in zip(batch, future.result(), strict=True)
                if error is not None
            }

    def _weigh(self, rows: list[LabelRow], unspoken: int) -> list[HeadraceError | None]:
        """Note what the model says of the labels of these rows, which begin alike. A row whose request was given up
        meanwhile is not computed.
        """
        wanted = [row for row in rows if not row.question.prompt.given_up()]
        if wanted:
            asked = [*wanted]
            if any(row.path for row in wanted):
                # The shortest prompt alone, too: the engine keeps the logits of what others have beyond it.
                asked.append(replace(min(wanted, key=lambda row: len(row.question.prompt.tokens)), path=()))
            prompts = [
                replace(row.question.prompt, tokens=row.question.prompt.tokens + self._texts(list(row.path)))
                for row in asked
            ]
            ends = [Row(prompt.limit, (), never) for prompt in prompts]
            # In tokens that are given to it, the engine takes the end token's logit away: another takes its place.
            results = self._run(prompts, ends, return_logits_vocab=True, end_token=[unspoken])
            note_all(wanted, results[: len(wanted)])
        return [None if row in wanted else GivenUp() for row in rows]

    def _draw(self, prompts: list[Prompt]) -> list[Completion | HeadraceError | None]:
        """Return the answer that the seed of this one prompt decides."""
        (prompt,) = prompts
        if prompt.given_up():
            return [GivenUp()]
        answer = self._row(prompt)
        if prompt.is_over:
            return [self._complete(prompt, answer, prompt.ids)]
        row: SeededRow | SeededConstrainedRow
        if prompt.constrained:
            row = SeededConstrainedRow(prompt.constrained, prompt.sampling.seed)
        else:
            row = SeededRow(
                answer,
                prompt.sampling,
                vocabulary_size=self._vocabulary_size,
                end_ids=self._end_ids,
                decode=self._decode,
            )
        while not row.ended:
            self._engine.generate_batch(
                [prompt.tokens + self._texts(row.ids)],
                include_prompt_in_result=False,
                max_length=min(row.left, self._kept_steps),
                end_token=self._end_ids,
                sampling_topk=1,
                return_logits_vocab=True,
                callback=self._between(row),
            )
        return [self._complete(prompt, answer, row.ids)]

    def _between(self, stops: Callable[[Any], bool] | None) -> Callable[[Any], bool] | None:
        """Return the callback for each token, in which bulk runs yield to urgent ones: see `slots`."""
        if self._urgent or self._placement.device != "cpu":
            return stops
        run = self._slots.urgent_runs.start_bulk_run()

        def between(step: Any) -> bool:
            run.between()
            return stops is not None and stops(step)

        return between

    def _complete(self, prompt: Prompt, row: Row, ids: list[int]) -> Completion | HeadraceError | None:
        constrained = prompt.constrained
        if constrained and not constrained.ended:
            return None
        if row.is_given_up:
            return GivenUp()
        if constrained and constrained.error:
            return constrained.charged_error(len(prompt.tokens))
        # The end token is not among the ids: an answer that has all the tokens it may have was cut off, unless its
        # grammar lets it end there.
        text, stopped = cut_at_stop(self._decode(ids), prompt.sampling.stop)
        is_cut = constrained.is_cut if constrained else len(ids) >= prompt.limit
        ended = stopped or not is_cut
        return Completion(presentable(text), "stop" if ended else "length", len(prompt.tokens), len(ids))

    @property
    def _kept_steps(self) -> int:
        """Over how many steps a run may keep its logits."""
        return max(1, LOGITS_BYTES // (4 * self._vocabulary_size))


def _decoder(tokenizer: Tokenizer) -> Callable[[list[int]], str]:
    """Return what decodes for callbacks. They must not hold the engine: its own thread, which may put a callback away
    last, cannot end it.
    """
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))


def _await_grammars(prompts: list[Prompt]) -> list[Prompt]:
    """Wait a little until the grammars of these are compiled; return the prompts."""
    last = time.monotonic() + _COMPILE_FIRST
    for prompt in prompts:
        if prompt.constrained:
            prompt.constrained.start(max(0.0, last - time.monotonic()))
    return prompts


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
