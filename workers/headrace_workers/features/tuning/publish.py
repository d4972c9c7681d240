"""The process that publishes: see `training.Process`.

The adapter of the best checkpoint is merged into the base's weights. Before anything is published, the merged network
in float32 is compared with what serves it: the ids of prompts, logits, and greedy answers through the serving path.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from headrace_schemas import HeadraceError, Message, Sampling
from headrace_workers.features.tuning.network import (
    HELD_OUT,
    ORDERS,
    Checkpoints,
    Stopped,
    be,
    load_base,
    tell,
    threads,
    with_adapter,
)
from headrace_workers.features.tuning.rows import Row, read_rows
from headrace_workers.models.convert import TOKENIZER_FILES, convert_transformers, weights_sha256
from headrace_workers.models.engines.prompts import Prompts, end_ids
from headrace_workers.models.engines.stopping import presentable
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.quantization import weight_range
from headrace_workers.models.registry import (
    ModelCard,
    copy_present,
    folder_size,
    is_installed,
    load_card,
    model_dir,
    read_card,
    sha256_of,
    staged_model,
    write_card,
)

LINEAGE: Final = "lineage.json"
CHECKED_PROMPTS: Final = 100
TOLERANCE: Final = 1e-3  # of logits
_COMPARED: Final = 20  # rows whose logits are compared
_LONGEST: Final = 64  # tokens of an answer that is compared
_AT_ONCE: Final = 10  # prompts that are answered together


class Publisher:
    """Merges, compares and publishes a trained run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._orders: dict[str, Any] = json.loads((folder / ORDERS).read_text(encoding="utf-8"))
        self._home = Path(self._orders["home"])
        self._base = model_dir(self._home, self._orders["base"])
        self._card = load_card(self._home, self._orders["base"])
        self._asked = read_rows(folder / HELD_OUT)[:CHECKED_PROMPTS]
        self._most = min(_LONGEST, max(len(asked.answer) for asked in self._asked) + 1)

    def publish(self) -> None:
        """Merge, compare with what would be served, and publish in each format. Raise Stopped if that is not what was
        trained.
        """
        trained = json.loads((self._folder / "trained.json").read_text(encoding="utf-8"))
        with TemporaryDirectory(dir=self._folder, prefix=".merged-") as place:
            merged = Path(place) / "merged"
            tell("doing", what="merging the adapter into the weights")
            network, step = self._merged(trained["best_step"], merged)
            tell("doing", what="comparing with what is served")
            answers, report = self._compared(network, merged)
            for quantization, alias in self._orders["aliases"].items():
                if is_installed(self._home, alias):
                    continue  # by a process that was killed
                tell("doing", what=f"publishing {alias}")
                self._publish(merged, quantization, alias, answers, {**report, **trained, "step": step})
        tell("published", aliases=list(self._orders["aliases"].values()), **report)

    def _merged(self, best: int, merged: Path) -> tuple[Any, int]:
        """Write the merged network as a Transformers folder. Return it, and the step that it is of."""
        from peft import set_peft_model_state_dict

        checkpoints = Checkpoints(self._folder)
        state = checkpoints.at(best) or checkpoints.newest()
        if state is None:
            raise Stopped("no checkpoint of the run is whole: start it again, and it trains from the beginning")
        network = with_adapter(load_base(Path(self._orders["source"])), self._orders["lora"], self._orders["seed"])
        set_peft_model_state_dict(network, state["adapter"])
        network = network.merge_and_unload().eval()
        network.save_pretrained(merged)
        copy_present(TOKENIZER_FILES, self._base, merged)
        # The converter reads the vocabulary alone, from the file as it is.
        config = json.loads((merged / "tokenizer_config.json").read_text(encoding="utf-8"))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        (merged / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return network, int(state["step"])

    def _written(self, merged: Path, draft: Path, quantization: str, alias: str) -> ModelCard:
        """Write the model as it is served into the folder `draft`. Return its card, which is there, too."""
        computed = convert_transformers(merged, draft, quantization)
        copy_present(TOKENIZER_FILES, self._base, draft)
        context = self._card.context_length
        card = ModelCard(
            alias=alias,
            engine="ctranslate2",
            source=f"tuned:{self._card.alias}/{self._folder.name}#sha256={weights_sha256(merged)}",
            licence=self._card.licence,
            sha256=sha256_of(draft / "model.bin"),
            quantization=quantization,
            weight_range=weight_range(quantization),
            size_bytes=folder_size(draft),
            context_length=context if computed is None else min(context, computed),
            tenant=self._orders["tenant"],
        )
        write_card(draft, card)
        return card

    def _compared(self, network: Any, merged: Path) -> tuple[list[str], dict[str, Any]]:
        """Return the greedy answers in float32, and a report. Raise Stopped if the served network differs."""
        with TemporaryDirectory(dir=self._folder, prefix=".float32-") as place:
            served = Path(place)
            self._written(merged, served, "float32", "compared")
            self._same_ids(served)
            difference = self._same_logits(network, served)
            answers = self._answers(served)
            ties = self._same_answers(network, served, answers)
        exact = self._exact(answers)
        return answers, {"logit_difference": difference, "prompts": len(answers), "ties": ties, "exact_float32": exact}

    def _same_ids(self, served: Path) -> None:
        prompts = Prompts.load(served, read_card(served))
        for asked in self._asked:
            tokens = prompts.encode(_conversation(asked))
            if isinstance(tokens, HeadraceError):
                raise Stopped(f"serving refuses a prompt that was trained: {tokens}")
            if [prompts.tokenizer.token_to_id(token) for token in tokens] != asked.prompt:
                raise Stopped("serving builds other ids for a prompt than training did: nothing is published")

    def _same_logits(self, network: Any, served: Path) -> float:
        import ctranslate2
        import torch

        engine = ctranslate2.Generator(str(served), compute_type="float32", intra_threads=threads())
        tokenizer = Prompts.load(served, read_card(served)).tokenizer
        largest = 0.0
        for asked in self._asked[:_COMPARED]:
            tell("alive")
            ids = [*asked.prompt, *asked.answer[:-1]]
            ours = np.array(engine.forward_batch([[tokenizer.id_to_token(number) for number in ids]]))[0]
            with torch.no_grad():
                theirs = network(torch.tensor([ids])).logits[0].numpy()
            width = min(ours.shape[1], theirs.shape[1])  # one of them may be padded
            largest = max(largest, float(np.abs(ours[:, :width] - theirs[:, :width]).max()))
        if not largest <= TOLERANCE:
            raise Stopped(
                f"logits of the served network differ from the trained one's by {largest:.2g}, and {TOLERANCE:g} is "
                "allowed: nothing is published"
            )
        return largest

    def _answers(self, served: Path) -> list[str]:
        """Return greedy answers through the serving path."""
        from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator

        generator = CTranslate2Generator.load(served, device="cpu", inter_threads=threads())
        sampling = Sampling(max_tokens=self._most, repetition_penalty=1)
        answers: list[Completion | HeadraceError] = []
        for first in range(0, len(self._asked), _AT_ONCE):
            tell("alive")
            asked = self._asked[first : first + _AT_ONCE]
            answers += generator.generate([Request(_conversation(row), sampling) for row in asked])
        return [answer.text if isinstance(answer, Completion) else f"error: {answer}" for answer in answers]

    def _same_answers(self, network: Any, served: Path, answers: Sequence[str]) -> int:
        """Return how many answers differ where two tokens are equally likely. Raise Stopped if another differs."""
        tokenizer = Prompts.load(served, read_card(served)).tokenizer
        ends, ties = set(end_ids(served, tokenizer)), 0

        def text_of(ids: Sequence[int]) -> str:
            return presentable(tokenizer.decode(ids, skip_special_tokens=True))

        for asked, answer in zip(self._asked, answers, strict=True):
            tell("alive")
            ids, tie = _greedy(network, asked.prompt, ends, self._most)
            if text_of(ids) == answer:
                continue
            if tie is None or not answer.startswith(text_of(ids[:tie])):
                raise Stopped(
                    "the served network answers a held-out prompt unlike the trained one: nothing is published"
                )
            ties += 1
        return ties

    def _exact(self, answers: Sequence[str]) -> float:
        """Return the share of held-out prompts that are answered as their examples are."""
        tokenizer = Prompts.load(self._base, self._card).tokenizer
        right = [presentable(tokenizer.decode(asked.answer, skip_special_tokens=True)) for asked in self._asked]
        return sum(map(str.__eq__, right, answers)) / len(right)

    def _publish(
        self, merged: Path, quantization: str, alias: str, answers: Sequence[str], report: dict[str, Any]
    ) -> None:
        with staged_model(self._home, alias) as draft:
            self._written(merged, draft, quantization, alias)
            got = self._answers(draft)
            flips = sum(one != other for one, other in zip(answers, got, strict=True))
            metrics = {**report, "flips": flips, "exact": self._exact(got)}
            lineage = {**self._orders["lineage"], "metrics": metrics}
            (draft / LINEAGE).write_text(json.dumps(lineage, indent=1, ensure_ascii=False), encoding="utf-8")
        tell("model", alias=alias, quantization=quantization, flips=flips, prompts=len(got), exact=metrics["exact"])


def _conversation(row: Row) -> tuple[Message, ...]:
    return tuple(Message.model_validate(message) for message in row.messages)


def _greedy(network: Any, prompt: Sequence[int], ends: set[int], most: int) -> tuple[list[int], int | None]:
    """Return the likeliest tokens one after the other, and the place of the first that another was as likely as."""
    import torch

    ids: list[int] = []
    tie, past = None, None
    given = torch.tensor([prompt])
    while len(ids) < most:
        with torch.no_grad():
            result = network(given, past_key_values=past, use_cache=True)
        past, logits = result.past_key_values, result.logits[0, -1]
        first, second = logits.topk(2).values.tolist()
        if tie is None and first - second <= 2 * TOLERANCE:
            tie = len(ids)
        best = int(logits.argmax())
        if best in ends:
            break
        ids.append(best)
        given = torch.tensor([[best]])
    return ids, tie


def main() -> None:
    """Publish."""
    be(lambda folder: Publisher(folder).publish())
