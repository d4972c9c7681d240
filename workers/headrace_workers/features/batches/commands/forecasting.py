"""A forecast of a file as a batch, made before anything is submitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.durations import show_ms
from headrace_workers.core.file_format import HEAD
from headrace_workers.core.json_lines import read_on
from headrace_workers.core.text_file import NotReadable, check_beginning, text_of
from headrace_workers.features.batches.commands.batch_files import Deployment
from headrace_workers.features.batches.estimate import LEVEL, Interval
from headrace_workers.features.batches.forecast import GENERATES, Forecast, History
from headrace_workers.features.batches.line_admission import Terms
from headrace_workers.features.batches.line_jobs import LONGEST_LINE, admitted
from headrace_workers.features.batches.new_batch import BatchOptions
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.runtime.settings import ModelSettings, home_of

if TYPE_CHECKING:
    from headrace_workers.features.batches.line_admission import Admit

_HISTORY = 5_000  # jobs that ended last


class Forecasting:
    """The reader of files as a bridge would read them, with the models of this home. It writes nothing."""

    def __init__(self, here: Deployment) -> None:
        from headrace_workers.features.generation.models.registry import Registry

        self._ledger = here.ledger
        self._registry = Registry(home_of())
        self._cache = CacheSettings.from_env().cache
        self._history = History.of(here.batches.lately(GENERATES, _HISTORY))

    def of(self, path: Path, shown: str, wishes: BatchOptions) -> Forecast:
        """Return the forecast of a file. Raise ConfigurationError or NotReadable."""
        from headrace_workers.features.generation.models.model_versions import model_versions

        answers = self._ledger.of(Answers)
        version = model_versions(self._registry, self._ledger)
        found = Forecast(self._cache, version, lambda keys: answers.exact(keys) if keys else ())
        until = self._ledger.now() + int(wishes.window * 1000)
        terms = Terms("batch_dry-run", 0, wishes.tenant, until, wishes.defaults, wishes.endpoint)
        admit = self._admit()
        try:
            with path.open("rb", buffering=0) as raw, text_of(raw) as text:
                check_beginning(text.read(HEAD + 1))
            with path.open("rb", buffering=0) as raw, text_of(raw) as text:
                for read in read_on(text, LONGEST_LINE):
                    if not read.is_empty:
                        found.add(admitted(read, terms, admit))
        except OSError as error:
            raise ConfigurationError(f"{shown} cannot be read: {error.strerror}") from error
        except NotReadable as error:
            raise error.of(shown) from None
        found.end()
        return found

    def _admit(self) -> "Admit":
        from headrace_workers.core.admission.parts import AdmissionParts, admission_rules
        from headrace_workers.core.environment import EnvironmentSettings
        from headrace_workers.core.pipeline.routing import Pipeline
        from headrace_workers.features.generation.engines.counting import CountingModels
        from headrace_workers.features.knowledge.embedders.deployed_embedder import ServedEmbedder
        from headrace_workers.runtime.bridge.record_admission import RecordAdmission

        parts = AdmissionParts(
            ledger=self._ledger,
            pipeline=Pipeline(judge_model=ModelSettings.from_env().judge_model),
            models=CountingModels(home_of(), self._registry),
            embedder=ServedEmbedder(home_of(), ModelSettings.from_env().embedder),
            settings=EnvironmentSettings(),
        )
        return RecordAdmission(admission_rules(parts), self._ledger.now()).admit

    def lines(self, found: Forecast, max_tokens: int | None) -> Sequence[str]:
        """Return the forecast for people, a line each."""
        sentences = [f"{found.lines:,} lines, of which {found.answered:,} would be run"]
        sentences += [f"  {count:,} would not: {code}" for code, count in found.failed.most_common()]
        sentences += [f"  line {number}: {code}: {reason}" for number, code, reason in found.problems]
        if found.known or found.repeated:
            sentences.append(
                f"the cache: {found.known:,} are answered already, {found.repeated:,} ask for the same as another"
            )
        sentences.append(f"tokens: {found.prompt_tokens:,} to be read, {found.most_tokens:,} in all at most")
        for model, wanted in found.wanted.items():
            lines = sum(wanted.values())
            tokens, seconds = self._history.tokens(model, wanted), self._history.seconds(model, wanted)
            if tokens is None or seconds is None:
                sentences.append(
                    f"{model}: {lines:,} lines; too few of its answers are known to tell what they will take"
                )
                continue
            sentences.append(
                f"{model}: {lines:,} lines will write {tokens.expected:,.0f} tokens ({tokens.low:,.0f} to "
                f"{tokens.high:,.0f}) in {show_ms(seconds.expected * 1000)} ({show_ms(seconds.low * 1000)} to "
                f"{show_ms(seconds.high * 1000)}), in {LEVEL:.0%} of cases"
            )
        if max_tokens is not None and found.most_tokens > max_tokens:
            sentences.append(f"--max-tokens {max_tokens:,} may end before the last line does")
        return sentences

    def to_json(self, found: Forecast) -> dict[str, Any]:
        """Return the forecast for programs."""
        models = {
            model: {
                "lines": sum(wanted.values()),
                "completion_tokens": _interval(self._history.tokens(model, wanted)),
                "seconds": _interval(self._history.seconds(model, wanted)),
            }
            for model, wanted in found.wanted.items()
        }
        return {
            "lines": found.lines,
            "would_run": found.answered,
            "errors": dict(found.failed),
            "first_errors": [{"line": line, "code": code, "message": why} for line, code, why in found.problems],
            "prompt_tokens": found.prompt_tokens,
            "most_tokens": found.most_tokens,
            "cached": found.known,
            "repeated": found.repeated,
            "models": models,
            "level": LEVEL,
        }


def _interval(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {"expected": found.expected, "low": found.low, "high": found.high}
