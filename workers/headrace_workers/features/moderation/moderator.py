"""Detectors and a policy together: they decide which part of a text may be shown, in a bounded time."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from headrace_schemas import HeadraceError
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.core.log import Action, log
from headrace_workers.core.log import Action as LogAction
from headrace_workers.features.moderation.decision import Judge
from headrace_workers.features.moderation.detector import (
    Detection,
    Detector,
    Instructions,
    Moderation,
    Moderator,
    NoAnswer,
    Source,
)
from headrace_workers.features.moderation.injection import CATEGORY as INJECTION
from headrace_workers.features.moderation.leak import CanaryDetector, Leaks, VerbatimDetector
from headrace_workers.features.moderation.openai_endpoint import OpenAIDetector
from headrace_workers.features.moderation.policy import Policy
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.text_views import Look, looks_at
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.generator import Generator

# Something for every detector to look at, so that all of them load what they need.
_SAMPLE = (
    "My name is Jo. Write to jo@headrace.io or call +44 20 7946 0958. Card 4111 1111 1111 1111, "
    "key AKIAIOSFODNN7EXAMPLE, http://a:b@c."
)
_CHARACTERS_A_SECOND: Final = 10_000  # of what is slowest to look at, with much to spare
_MOST_HUNG: Final = 4  # threads that never came back: from there on nothing more is asked until one does

_Verdicts = list[Moderation | HeadraceError]


def no_guard(alias: str) -> Generator:
    """Raise ConfigurationError: the policy names a guard, and no model is loaded here."""
    raise ConfigurationError(f"the moderation policy names the guard {alias}, and no model is loaded here")


def no_embedder() -> Embedder:
    """Raise ConfigurationError: the policy names a head, and no embedder is loaded here."""
    raise ConfigurationError("the moderation policy names a head, and there is no embedder here")


@dataclass(frozen=True, slots=True)
class Aids:
    """The models that detectors of a policy use: an embedder, a guard by its alias, and the key of an endpoint."""

    embedder: Callable[[], Embedder] = no_embedder
    guard: Callable[[str], Generator] = no_guard
    openai_key: str | None = field(default=None, repr=False)


class PolicyModerator:
    """Runs every detector over all texts and does what the policy says. Thread-safe where the detectors are."""

    def __init__(
        self, detectors: Sequence[Detector], policy: Policy, lists: Mapping[str | None, Detector] | None = None
    ) -> None:
        """Moderate by `policy`.

        `detectors` look at every text. `lists` has the blocklists of tenants; that of None is for all tenants that the
        policy does not name.

        ConfigurationError when policy and detectors do not fit each other.
        """
        self._detectors = tuple(detectors)
        self._lists = dict(lists or {})
        self._judges: dict[tuple[str | None, bool], Judge] = {}
        self._leaks: dict[str | None, tuple[Leaks, ...]] = {}
        for tenant in (None, *policy.tenants):
            here, sources = policy.of(tenant), [*detectors, *self._own(tenant)]
            self._leaks[tenant] = leaks = _leaks(here)
            self._judges[tenant, False] = Judge(sources, here)
            if leaks:
                self._judges[tenant, True] = Judge([*sources, *leaks], here)

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        """Return a verdict for each text by the policy of its tenant, or an error if a detector failed on it: the text
        must then be held. Where the policy asks for it, an answer is searched for the `instructions` of its model.

        A text in which something hides words is looked at as it is, and without that: see `text_views.py`.
        A text with more findings than a verdict can list, or that grows over the contract's bound when it is
        redacted, is blocked: nothing is shown that was not looked at in full.
        """
        whose = [None] * len(texts) if tenants is None else [t if t in self._leaks else None for t in tenants]
        looks = looks_at(texts)
        # In order, and what several looks at a text showed only once.
        found: list[dict[tuple[Source, Detection], None]] = [{} for _ in texts]
        failed: dict[int, HeadraceError] = {}
        unchanged = [look for look in looks if not look.for_words]
        work = [(detector, looks if detector.reads_words else unchanged) for detector in self._detectors]
        if self._lists:
            work += [
                (detector, [look for look in looks if whose[look.of] == tenant])
                for tenant, detector in self._lists.items()
            ]
        for detector, mine in work:
            for look, result in zip(mine, _run(detector, [look.text for look in mine]), strict=True):
                if isinstance(result, HeadraceError):
                    failed.setdefault(look.of, result)
                elif result:
                    found[look.of].update({(detector, look.in_whole(detection)): None for detection in result})
        known = [None] * len(texts) if instructions is None else instructions
        for look, leaks, said in self._repeats(unchanged, whose, known):
            if isinstance(said, HeadraceError):
                failed.setdefault(look.of, said)
            else:
                found[look.of].update({(leaks, look.in_whole(detection)): None for detection in said})
        return [
            failed[i] if i in failed else self._judge(whose[i], known[i]).decide(text, list(found[i]))
            for i, text in enumerate(texts)
        ]

    def _repeats(
        self, looks: Sequence[Look], whose: Sequence[str | None], known: Sequence[Instructions | None]
    ) -> Iterator[tuple[Look, Leaks, list[Detection] | HeadraceError]]:
        """Yield the places where answers repeat their model's instructions, for tenants that look for that."""
        for look in looks:
            instructions = known[look.of]
            if instructions is not None:
                for leaks in self._leaks[whose[look.of]]:
                    yield look, leaks, _found(leaks, look.text, instructions)

    def _judge(self, tenant: str | None, instructions: Instructions | None) -> Judge:
        return self._judges[tenant, instructions is not None and bool(self._leaks[tenant])]

    @property
    def looks_for(self) -> frozenset[str]:
        """The categories that a finding of any text may have."""
        sources: list[Source] = [*self._detectors, *self._lists.values()]
        sources += [leak for leaks in self._leaks.values() for leak in leaks]
        return frozenset().union(*(source.categories for source in sources))

    def _own(self, tenant: str | None) -> list[Detector]:
        return [self._lists[tenant]] if tenant in self._lists else []


def warm_up(moderator: Moderator) -> None:
    """Load what the detectors load lazily. Raises the HeadraceError of a detector that cannot work here; one whose
    service is away may work by and by, and its texts are held until then.
    """
    for verdict in moderator.moderate([_SAMPLE]):
        if isinstance(verdict, NoAnswer) and verdict.passes:
            log("moderation", logging.WARNING, LogAction.DETECTOR_FAILED, str(verdict))
        elif isinstance(verdict, HeadraceError):
            raise verdict


def build_moderator(policy_path: Path | None = None, aids: Aids | None = None) -> PolicyModerator:
    """Return a moderator with every detector of headrace, for the policy in a file, or the default one. Libraries and
    models load with the first text, or by `warm_up()`. Raise ConfigurationError when policy or blocklist are wrong.
    """
    return with_policy(shipped_detectors(), load_policy(policy_path), aids)


def shipped_detectors() -> list[Detector]:
    """Return the detectors that look at every text, whatever the policy."""
    from headrace_workers.features.moderation.personal_data import PersonalDataDetector
    from headrace_workers.features.moderation.profanity import ProfanityDetector
    from headrace_workers.features.moderation.secrets import SecretsDetector
    from headrace_workers.features.moderation.severe import SevereDetector

    return [PersonalDataDetector(), SecretsDetector(), ProfanityDetector(), SevereDetector()]


def with_policy(detectors: Sequence[Detector], policy: Policy, aids: Aids | None = None) -> PolicyModerator:
    """Return these detectors, the detectors that the policy names, and its blocklists. Each set of lists is compiled
    once."""
    from headrace_workers.features.moderation.blocklist import BlocklistDetector

    compiled: dict[tuple[Path, ...], Detector] = {}
    lists: dict[str | None, Detector] = {}
    for tenant in (None, *policy.tenants):
        paths = policy.of(tenant).blocklists
        if paths:
            if paths not in compiled:
                compiled[paths] = BlocklistDetector.from_files(paths)
            lists[tenant] = compiled[paths]
    named = [*_named(policy, aids or Aids())]
    if policy.injection_head and any(
        INJECTION in detector.categories for detector in detectors
    ):  # prompts and passages
        named.append(_injection_head(aids or Aids()))
    return PolicyModerator([*detectors, *named], policy, lists)


def _named(policy: Policy, aids: Aids) -> Iterator[Detector]:
    """Yield the detectors that a policy names, for all tenants."""
    if policy.head is not None:
        from headrace_workers.features.moderation.head import HeadDetector, load_categories

        yield HeadDetector(load_categories(policy.head), aids.embedder())
    if policy.openai is not None:
        yield OpenAIDetector(replace(policy.openai, key=aids.openai_key))
    if policy.guard is not None:
        from headrace_workers.features.moderation.guard import GuardDetector

        yield GuardDetector(aids.guard(policy.guard))
    if policy.names is not None:
        from headrace_workers.features.moderation.name_model import NameModelDetector

        yield NameModelDetector(policy.names)


def _injection_head(aids: Aids) -> Detector:
    """Return the head for prompt injection. Only its words look where its embedder is missing."""
    from headrace_workers.features.moderation.injection import InjectionHeadDetector, injection_head

    head = injection_head()
    try:
        embedder = aids.embedder()
    except UnknownModel:
        embedder = None
    if embedder is None or embedder.id != head.embedder:
        log("moderation", logging.WARNING, LogAction.DETECTOR_FAILED, "the head for prompt injection looks at words "
            "alone: its embedder is not installed here", embedder=head.embedder)  # fmt: skip
    return InjectionHeadDetector(head, embedder)


def _leaks(policy: Policy) -> tuple[Leaks, ...]:
    """Return the detectors that look for a model's instructions in its answer."""
    found: list[Leaks] = [CanaryDetector()] if policy.canary else []
    return (*found, VerbatimDetector(policy.verbatim)) if policy.verbatim else tuple(found)


def _found(leaks: Leaks, text: str, instructions: Instructions) -> list[Detection] | HeadraceError:
    try:
        return leaks.find(text, instructions)
    except Exception as error:
        return _failed(leaks.name, error)


def _run(detector: Detector, texts: Sequence[str]) -> list[list[Detection] | HeadraceError]:
    """Return the detector's answer for all texts. When it fails, run it for each alone: only the culprit is held."""
    try:
        return [*_checked(detector, texts)]
    except Exception:
        log("moderation", logging.WARNING, LogAction.DETECTOR_FAILED, "a detector failed on a batch: now one by one",
            detector=detector.name)  # fmt: skip
        return [_run_one(detector, text) for text in texts]


def _run_one(detector: Detector, text: str) -> list[Detection] | HeadraceError:
    try:
        return _checked(detector, [text])[0]
    except Exception as error:
        return _failed(detector.name, error)


def _failed(detector: str, error: Exception) -> HeadraceError:
    """Return an error with the kind of this error alone, since its message may quote the text; NoAnswer never quotes
    it.
    """
    if isinstance(error, NoAnswer):
        return NoAnswer(f"moderation detector {detector}: {error}; the output is held", passes=error.passes)
    return Unavailable(f"moderation detector {detector} failed ({type(error).__name__}); the output is held")


def _checked(detector: Detector, texts: Sequence[str]) -> list[list[Detection]]:
    """Return the detector's findings. Raise ValueError for an answer of the wrong length."""
    results = detector.detect(texts)
    if len(results) != len(texts):
        raise ValueError("a detector must answer once for each text")
    for text, detections in zip(texts, results, strict=True):
        for d in detections:
            if d.category not in detector.categories or not 0 <= d.start < d.end <= len(text) or not 0 <= d.score <= 1:
                raise ValueError("a detection is out of bounds")
    return results


@dataclass(frozen=True, slots=True)
class _Call:
    work: Callable[[], _Verdicts]
    answer: "Future[_Verdicts]"


def _ends(answer: "Future[_Verdicts]", seconds: float) -> bool:
    return bool(wait([answer], seconds).done)


class BoundedModerator:
    """A moderator that asks another one in a thread, and waits no longer than `seconds`, and one more for each 10,000
    characters; a group that hangs is asked again text by text. Thread-safe.
    """

    def __init__(
        self, moderator: Moderator, seconds: float, ends: Callable[["Future[_Verdicts]", float], bool] = _ends
    ) -> None:
        """Bound each call. `ends` waits some seconds for an answer, and returns True if it is there."""
        self._moderator = moderator
        self._ends = ends
        self._seconds = seconds
        self._idle: queue.SimpleQueue[queue.SimpleQueue[_Call]] = queue.SimpleQueue()
        self._hung = 0
        self._lock = threading.Lock()

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list[Moderation | HeadraceError]:
        """Return a verdict for each text, or an error if no verdict comes in time."""
        verdicts = self._ask(texts, tenants, instructions)
        if verdicts is not None:
            return verdicts
        if len(texts) == 1:
            return [self._late()]
        found: _Verdicts = []
        for index, text in enumerate(texts):
            tenant = None if tenants is None else [tenants[index]]
            alone = self._ask([text], tenant, None if instructions is None else [instructions[index]])
            found += [self._late()] if alone is None else alone
        return found

    def _ask(
        self, texts: Sequence[str], tenants: Sequence[str] | None, instructions: Sequence[Instructions | None] | None
    ) -> _Verdicts | None:
        """Return the answer; None if it does not come in time, or if too many threads hang already."""
        if self._hung >= _MOST_HUNG:
            return None
        call = _Call(lambda: self._moderator.moderate(texts, tenants, instructions), Future())
        hand = self._hand()
        hand.put(call)
        if not self._ends(call.answer, self._seconds + sum(map(len, texts)) / _CHARACTERS_A_SECOND):
            self._give_up(call.answer, hand)
            return None
        self._idle.put(hand)
        return call.answer.result()

    def _hand(self) -> "queue.SimpleQueue[_Call]":
        """Return the queue that takes a call: of an idle thread, or of a new one."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            hand: queue.SimpleQueue[_Call] = queue.SimpleQueue()
            threading.Thread(target=_work, args=(hand,), name="moderation", daemon=True).start()
            return hand

    def _give_up(self, answer: "Future[_Verdicts]", hand: "queue.SimpleQueue[_Call]") -> None:
        with self._lock:
            self._hung += 1
        log("moderation", logging.ERROR, Action.DETECTOR_HANGS, "moderation does not finish: its texts are held",
            threads=self._hung)  # fmt: skip

        def back(_answer: "Future[_Verdicts]") -> None:
            with self._lock:
                self._hung -= 1
            self._idle.put(hand)

        answer.add_done_callback(back)

    def _late(self) -> HeadraceError:
        return Unavailable(f"moderation came to no end within {self._seconds:g} s; it is held")


def _work(hand: "queue.SimpleQueue[_Call]") -> None:
    while True:
        call = hand.get()
        try:
            call.answer.set_result(call.work())
        except BaseException as error:
            call.answer.set_exception(error)
