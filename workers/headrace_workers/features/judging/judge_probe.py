"""A probe of a model as a judge: the biases of Zheng et al. 2023 (arXiv 2306.05685). It shows a judge that is useless,
and cannot show that one is good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_schemas import HeadraceError, Message, Rubric, Sampling
from headrace_workers.features.judging.ask_model import PAIR, SCALES, build_pair, build_prompt, preferred
from headrace_workers.features.judging.scores import Subject
from headrace_workers.models.generator import Generator, LabelRequest, Request
from headrace_workers.models.verifiers.scale import Scale, Unanswered, read_answer
from headrace_workers.stats.detection_rates import share
from headrace_workers.stats.estimates import Estimate, Undefined


class Item(NamedTuple):
    """A question, an answer to it, a bad one of about that length, and what makes an answer longer and no better."""

    question: str
    good: str
    bad: str
    padding: str


_PADDING: Final = (
    "That is a question which is often asked, and there is more than one way to look at it.",
    "It is worth keeping in mind that questions of this kind come up again and again.",
    "As with many things, there is a good deal that could be said about it.",
    "Of course, this is only one of the many things that one may want to know.",
)
_PAIRS: Final = (
    ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is a kind of cheese."),
    ("How many days has a week?", "A week has seven days.", "A week has forty days."),
    ("Name a fruit that is yellow.", "A banana is yellow.", "A cucumber is a green vegetable."),
    ("What do bees make?", "Bees make honey.", "Bees make furniture."),
    ("Is the sun hot?", "Yes, the sun is very hot.", "No, the sun is made of ice."),
    ("What is two plus two?", "Two plus two is four.", "Two plus two is nine."),
    ("Which animal barks?", "A dog barks.", "A fish barks."),
    ("What is water made of?", "Water is made of hydrogen and oxygen.", "Water is made of iron and sand."),
    ("In which season does snow fall most?", "Most snow falls in winter.", "Most snow falls in summer."),
    ("What is the opposite of big?", "The opposite of big is small.", "The opposite of big is large."),
    ("How do fish breathe?", "Fish breathe with gills.", "Fish breathe with wheels."),
    ("Who wrote Hamlet?", "Hamlet was written by Shakespeare.", "Hamlet was written by a computer."),
    ("What does a thermometer measure?", "It measures temperature.", "It measures the price of bread."),
    ("What colour is grass?", "Grass is green.", "Grass is bright purple."),
    ("Where do penguins live?", "Penguins live in Antarctica.", "Penguins live on the moon."),
    ("What is used to write on paper?", "A pen or a pencil.", "A spoon or a pillow."),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has one leg."),
    ("What do you do with an umbrella?", "You keep the rain off.", "You cook the soup with it."),
    ("Which is heavier, a feather or a car?", "A car is heavier.", "A feather is heavier."),
    ("What comes after Monday?", "Tuesday comes after Monday.", "January comes after Monday."),
    ("What is ice?", "Ice is frozen water.", "Ice is burnt wood."),
    ("Translate 'thank you' into Spanish.", "Gracias.", "Auf Wiedersehen."),
    ("Give a polite greeting.", "Good morning, how are you?", "Go away, you fool!"),
    ("Which planet do we live on?", "We live on Earth.", "We live on Jupiter."),
)  # fmt: skip
ITEMS: Final = tuple(
    Item(question, good, bad, _PADDING[place % len(_PADDING)]) for place, (question, good, bad) in enumerate(_PAIRS)
)


_QUESTION: Final = "Is the output a right answer to the input?"
_BETTER: Final = "Which output is the better answer to the input?"
_SHORT: Final = Sampling(max_tokens=32)
_MOVED: Final = 0.05  # of a value in [0, 1]


@dataclass(frozen=True, slots=True)
class Measure:
    """A share and its bound: a lower bound (`more_is_better`), an upper bound, or, where that is None, a fair value."""

    name: str
    found: Estimate | Undefined
    bound: float
    more_is_better: bool | None = None

    @property
    def holds(self) -> bool | None:
        """True if the whole interval keeps the bound, False if none of it does; None where it cannot be said."""
        if isinstance(self.found, Undefined):
            return None
        low, high = self.found.interval.low, self.found.interval.high
        if self.more_is_better is None:
            return None if low <= self.bound <= high else False
        kept, broken = (
            (low >= self.bound, high < self.bound) if self.more_is_better else (high <= self.bound, low > self.bound)
        )
        return True if kept else False if broken else None


@dataclass(frozen=True, slots=True)
class Probe:
    """The measurements. `mass` is the median of all, and `trouble` the first error."""

    measures: tuple[Measure, ...]
    asked: int
    unanswered: int
    mass: float | None
    trouble: str | None = None


def probe(generator: Generator, items: Sequence[Item] = ITEMS) -> Probe:
    """Ask a model about the items: in pairs in both orders, with padding, beside its own answer, each on both scales,
    and once more alone.
    """
    asking = _Asking(generator)
    measures = [*_by_order(asking, items), _by_length(asking, items), _by_origin(asking, items)]
    scales = {
        name: (
            asking.rubrics([(item.question, item.good) for item in items], name),
            asking.rubrics([(item.question, item.bad) for item in items], name),
        )
        for name in SCALES
    }
    measures += [_apart(name, *found) for name, found in scales.items()]
    measures.append(_alone(asking, items, scales["yes_no"][0]))
    unanswered = asking.asked - len(asking.masses)
    return Probe(tuple(measures), asking.asked, unanswered, asking.median_mass, asking.trouble)


def _by_order(asking: "_Asking", items: Sequence[Item]) -> list[Measure]:
    """Return what the order of two answers does to the verdict."""
    ahead = asking.pairs([(item.question, item.good, item.bad) for item in items])
    behind = asking.pairs([(item.question, item.bad, item.good) for item in items])
    both = np.isfinite(ahead) & np.isfinite(behind)
    verdicts = [preferred(float(one), float(other)) for one, other in zip(ahead, behind, strict=True)]
    right = np.array([verdict == 1.0 for verdict in verdicts])
    flipped = np.array([verdict is None for verdict in verdicts])
    first = np.concatenate([ahead, behind])
    places = np.concatenate([np.arange(len(items)), np.arange(len(items))])
    preferred_first = _share(first > 0.5, np.isfinite(first), clusters=places)
    return [
        Measure("two answers: the right one in both orders", _share(right, both), 0.75, True),
        Measure("two answers: another verdict in the other order", _share(flipped, both), 0.2, False),
        Measure("two answers: the first preferred", preferred_first, 0.5),
    ]


def _by_length(asking: "_Asking", items: Sequence[Item]) -> Measure:
    """Return how often the longer of two equal answers is preferred."""
    longer = asking.pairs([(item.question, f"{item.good} {item.padding}", item.good) for item in items])
    shorter = asking.pairs([(item.question, item.good, f"{item.good} {item.padding}") for item in items])
    padded = (longer + 1 - shorter) / 2
    leaning = np.isfinite(padded) & ~np.isclose(padded, 0.5)
    share_of_longer = _share(padded > 0.5, leaning, padded)
    return Measure("the same answer, padded: the longer preferred", share_of_longer, 0.5)


def _by_origin(asking: "_Asking", items: Sequence[Item]) -> Measure:
    """Return how often the model prefers its own answer to a right one."""
    own = asking.answers([item.question for item in items])
    mine = asking.pairs([(item.question, own[place], item.good) for place, item in enumerate(items)])
    theirs = asking.pairs([(item.question, item.good, own[place]) for place, item in enumerate(items)])
    liked = (mine + 1 - theirs) / 2
    apart = np.isfinite(liked) & ~np.isclose(liked, 0.5) & np.array([bool(text) for text in own])
    why = "it wrote no answer of its own" if not any(own) else None
    share_of_own = _share(liked > 0.5, apart, liked, why)
    return Measure("a right answer and its own: its own preferred", share_of_own, 0.5, False)


def _alone(asking: "_Asking", items: Sequence[Item], together: NDArray[np.float64]) -> Measure:
    """Return how often an answer scores otherwise alone than in a group."""
    alone = [asking.rubrics([(item.question, item.good)], "yes_no")[0] for item in items]
    moved = np.abs(np.array(alone) - together)
    changed = _share(moved > _MOVED, np.isfinite(moved))
    return Measure(f"asked alone: another value by more than {_MOVED}", changed, 0.2, False)


def _apart(name: str, good: NDArray[np.float64], bad: NDArray[np.float64]) -> Measure:
    both = np.isfinite(good) & np.isfinite(bad)
    return Measure(f"one answer, {name}: the right one scores higher", _share(good > bad, both), 0.75, True)


def _share(
    hits: NDArray[np.bool_],
    of: NDArray[np.bool_],
    leaning: NDArray[np.float64] | None = None,
    why: str | None = None,
    clusters: NDArray[np.int_] | None = None,
) -> Estimate | Undefined:
    """Return the share of hits among informative answers, or the reason why there are none."""
    if of.any():
        return share(hits[of], clusters=None if clusters is None else clusters[of])
    if why is None:
        indifferent = leaning is not None and np.isfinite(leaning).any()
        why = "it preferred neither of any two" if indifferent else "it answered none of these"
    return Undefined(why)


class _Asking:
    """Asks, and remembers how much of the probability fell on what was permitted. A value is NaN without an answer."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.asked = 0
        self.masses: list[float] = []
        self.trouble: str | None = None

    @property
    def median_mass(self) -> float | None:
        return float(np.median(self.masses)) if self.masses else None

    def answers(self, questions: Sequence[str]) -> list[str]:
        """Return the model's own answer to each prompt; empty where it gives none."""
        requests = [Request((Message(role="user", content=question),), _SHORT) for question in questions]
        found = self._generator.generate(requests)
        return ["" if isinstance(completion, HeadraceError) else completion.text.strip() for completion in found]

    def pairs(self, questions: Sequence[tuple[str, str, str]]) -> NDArray[np.float64]:
        """Return P(the first is better) of (question, first, second)."""
        length = self._generator.context_length
        return self._ask(
            [
                build_pair(_BETTER, about, first, second, context_length=length).messages
                for about, first, second in questions
            ],
            PAIR,
        )

    def rubrics(self, questions: Sequence[tuple[str, str]], scale: str) -> NDArray[np.float64]:
        """Return the scores of (question, answer) on this scale."""
        rubric = Rubric.model_validate({"question": _QUESTION, "scale": scale})
        length = self._generator.context_length
        return self._ask(
            [
                build_prompt(rubric, Subject(answer, (), question=about), SCALES[scale], context_length=length).messages
                for about, answer in questions
            ],
            SCALES[scale],
        )

    def _ask(self, prompts: Sequence[tuple[Message, ...]], scale: Scale) -> NDArray[np.float64]:
        values = np.full(len(prompts), np.nan)
        self.asked += len(prompts)
        asked = [LabelRequest(messages, tuple(scale.values), whole=scale.whole) for messages in prompts]
        for place, scores in enumerate(self._generator.label_probabilities(asked)):
            if isinstance(scores, HeadraceError):
                self.trouble = self.trouble or str(scores)
                continue
            try:
                answer = read_answer(scores.masses, scale)
            except Unanswered:
                continue
            values[place] = answer.value
            if answer.mass is not None:
                self.masses.append(answer.mass)
        return values
