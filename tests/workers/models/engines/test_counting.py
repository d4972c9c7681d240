from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from headrace_schemas import Message, Sampling
from headrace_schemas.errors import PromptTooLong, UnknownModel
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.generation.parts import counting_models
from headrace_workers.features.moderation.leak import LONGEST_MARK
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.engines.ctranslate2_generator import CTranslate2Generator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.registry import Registry, read_card, write_card
from headrace_workers.runtime.settings import Settings
from headrace_workers.testing import make_echo_model, make_hash_embedder, make_tiny_model

HELLO = (Message(role="system", content="Be brief."), Message(role="user", content="What is a headrace?"))
LONG = (Message(role="user", content="x" * 3_000),)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With the models `tiny` and `echo`, and an embedder."""
    make_tiny_model(tmp_path)
    make_echo_model(tmp_path)
    make_hash_embedder(tmp_path)
    return tmp_path


def counting(home: Path) -> CountingModels:
    """The models of this home, looked at anew by each question."""
    times = iter(range(0, 100_000, 10))
    return CountingModels(home, Registry(home, monotonic=lambda: float(next(times))))


def test_a_model_of_a_tenant_does_not_exist_for_other_tenants(home: Path) -> None:
    folder = make_echo_model(home, "hers")
    write_card(folder, replace(read_card(folder), tenant="acme"))
    rules = AdmissionRules(counting(home), Pipeline())
    rules.check_model("hers", "acme")
    texts = []
    for alias in ("hers", "nobodys"):
        with pytest.raises(UnknownModel) as exception_info:
            rules.check_model(alias, "globex")
        texts.append(str(exception_info.value).replace(alias, "it"))
    assert texts[0] == texts[1] == "no model is called 'it'; known are: echo, tiny"
    assert rules.models.aliases("acme") == ["echo", "hers", "tiny"]


def test_what_is_counted_is_what_the_model_is_shown(home: Path) -> None:
    shown = {"shop": (*HELLO, *HELLO)}
    models = CountingModels(home, Registry(home), shown.get)
    plain, marked = (models.prompt_tokens("tiny", HELLO, tenant) for tenant in ("default", "shop"))
    assert plain is not None
    assert marked is not None
    assert marked > plain


def test_the_marks_of_features_are_counted(home: Path) -> None:
    policy = home / "policy.toml"
    policy.write_text("canary = true\n")
    key = b64encode(b"k" * 32).decode()
    env = {"HEADRACE_KAFKA": "nowhere:9092", "HEADRACE_REDIS": "redis://nowhere", "HEADRACE_LEDGER": "sqlite://"}
    of_policy = {"HEADRACE_POLICY": str(policy), "HEADRACE_WEBHOOK_KEY": key, "HEADRACE_HOME": str(home)}
    settings = Settings.from_env(env | of_policy)
    marked, plain = counting_models(settings, Registry(home)), counting(home)
    assert marked.longest_mark == LONGEST_MARK
    number, without = (models.prompt_tokens("tiny", HELLO, "default") for models in (marked, plain))
    assert number is not None
    assert without is not None
    assert number > without


def test_the_count_is_what_the_worker_reports(home: Path) -> None:
    (answer,) = CTranslate2Generator.load(home / "models" / "tiny", inter_threads=1).generate(
        [Request(HELLO, Sampling(max_tokens=1))]
    )
    assert isinstance(answer, Completion)
    assert counting(home).prompt_tokens("tiny", HELLO, "default") == answer.prompt_tokens


def test_a_prompt_over_the_context_is_refused_as_the_worker_would(home: Path) -> None:
    with pytest.raises(PromptTooLong, match="3019 tokens, and the context of tiny holds 2048"):
        counting(home).prompt_tokens("tiny", LONG, "default")


def test_the_echo_has_no_tokenizer(home: Path) -> None:
    """Its prompts are sized by a guess."""
    models = counting(home)
    assert (models.knows("echo", "a"), models.knows("none", "a"), models.aliases("a")) == (
        True,
        False,
        ["echo", "tiny"],
    )
    assert models.prompt_tokens("echo", LONG, "default") is None


def test_a_tokenizer_that_cannot_be_loaded_leaves_the_guess(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "models" / "tiny" / "tokenizer.json").write_text("{}")
    models = counting(home)
    assert [models.prompt_tokens("tiny", HELLO, "default") for _ in range(3)] == [None] * 3
    assert caplog.text.count("sized by a guess") == 1


def test_a_library_that_fails_on_a_prompt_leaves_the_guess(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = counting(home)

    def fail(*_arguments: object) -> int:
        raise RuntimeError("private words")

    models.prompt_tokens("tiny", HELLO, "default")
    monkeypatch.setattr("headrace_workers.models.engines.prompts.Prompts.count", fail)
    assert models.prompt_tokens("tiny", HELLO, "default") is None


def test_a_model_that_was_replaced_is_read_anew(home: Path) -> None:
    models = counting(home)
    assert models.prompt_tokens("tiny", HELLO, "default")
    folder = home / "models" / "tiny"
    write_card(folder, replace(read_card(folder), context_length=10))
    models.aliases("a")  # the registry looks at the disk
    with pytest.raises(PromptTooLong, match="holds 10"):
        models.prompt_tokens("tiny", HELLO, "default")
