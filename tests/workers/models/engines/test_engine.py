import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.workers.ledger_jobs import take_in
from tests.workers.models.engines.shouting import ENGINE
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import run_all

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import Feature, install
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.machine import available_cores, available_memory
from headrace_workers.features.generation.stage import generate
from headrace_workers.models import ENGINES
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.engines.engine import Machine, choose_placement, engines, int8_saturates
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.registry import Registry, read_card, write_card
from headrace_workers.testing import make_echo_model
from headrace_workers.wiring.features import FEATURES


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose model `echo` runs on an engine that a feature of the test adds."""
    _install(*FEATURES, _SHOUTING)
    folder = make_echo_model(tmp_path)
    write_card(folder, replace(read_card(folder), engine="shouting"))
    yield tmp_path
    _install(*FEATURES)


_SHOUTING = Feature(name="shouting", extensions=(ENGINES.by(lambda: (ENGINE,)),))


def _install(*features: Feature) -> None:
    install(features)
    engines.cache_clear()


def test_a_job_runs_on_an_engine_that_is_one_file_and_one_line(home: Path, ledger: Ledger) -> None:
    """Nothing else has to know the engine: its card names it, and its worker loads it."""
    take_in(ledger, [generation(prompt="hello")])
    run_all(ledger, partial(generate, generator=load_generator(home, "echo")))
    (row,) = ledger.outbox(9)
    answer = json.loads(row.record.value)["answer"]
    assert (answer["text"], answer["usage"]["prompt_tokens"]) == ("HELLO", 5)


def test_the_engine_counts_its_tokens(home: Path) -> None:
    hello = (Message(role="user", content="hello"),)
    models = CountingModels(home, Registry(home))
    assert (models.prompt_tokens("echo", hello, "default"), models.text_tokens("echo", "hi")) == (5, 2)


def test_an_engine_without_probabilities_cannot_judge_or_guard(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="echo runs on the engine shouting, which gives no probabilities"):
        load_generator(home, "echo", needs_logprobs=True)


CPU_TYPES = frozenset({"int8", "int8_float32", "float32"})
GPU_TYPES = frozenset({"int8", "int8_float16", "int8_float32", "int8_bfloat16", "float16", "bfloat16", "float32"})


def machine(cuda_devices: int = 0, cores: int = 4) -> Machine:
    return Machine(
        cores=cores,
        cuda_devices=cuda_devices,
        compute_types=lambda device: GPU_TYPES if device == "cuda" else CPU_TYPES,
    )


@pytest.mark.parametrize(
    ("stored", "cuda", "expected"),
    [
        ("int8", 0, ("cpu", "int8")),
        ("int8_float16", 0, ("cpu", "int8")),
        ("float32", 0, ("cpu", "float32")),
        ("bfloat16", 0, ("cpu", "float32")),
        ("int8", 1, ("cuda", "int8_float16")),
        ("float32", 1, ("cuda", "float16")),
        ("bfloat16", 1, ("cuda", "bfloat16")),
    ],
)
def test_the_best_format_for_weights_and_device(stored: str, cuda: int, expected: tuple[str, str]) -> None:
    placement = choose_placement(stored, machine(cuda))
    assert (placement.device, placement.compute_type) == expected
    assert placement.compute_type in placement.reason


def test_generations_side_by_side_follow_the_cores() -> None:
    assert choose_placement("int8", machine(cores=6)).inter_threads == 6
    assert choose_placement("int8", machine(cores=6)).intra_threads == 1
    assert choose_placement("int8", machine(1, cores=6)).inter_threads == 1
    assert choose_placement("int8", machine(cores=6), inter_threads=2).inter_threads == 2


def test_what_the_machine_cannot_do_is_refused_with_what_it_can() -> None:
    with pytest.raises(ConfigurationError, match="possible: float32, int8, int8_float32"):
        choose_placement("int8", machine(), compute_type="float16")
    with pytest.raises(ConfigurationError, match="no CUDA device"):
        choose_placement("int8", machine(), device="cuda")


def test_a_gpu_may_be_left_aside() -> None:
    assert choose_placement("int8", machine(1), device="cpu").device == "cpu"


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cores: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    group = tmp_path / "cgroup" / "pod" / "container"
    group.mkdir(parents=True)
    (group.parent / "cpu.max").write_text(limit + "\n")
    assert available_cores(tmp_path / "cgroup", own) == cores


@pytest.mark.parametrize(("limit", "memory"), [("max", 8 * 2**30), (str(2**30), 2**30), (str(2**40), 8 * 2**30)])
def test_a_containers_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, memory: int) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4_096, "SC_PHYS_PAGES": 2 * 2**20}.__getitem__)
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    group = tmp_path / "cgroup" / "pod" / "container"
    group.mkdir(parents=True)
    (group.parent / "memory.max").write_text(limit + "\n")
    assert available_memory(tmp_path / "cgroup", own) == memory


def test_without_cgroups_affinity_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert available_cores(tmp_path / "none", tmp_path / "none") == 3


@pytest.mark.parametrize(
    ("cpuinfo", "isa", "saturates"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_vnni", "", False),
        ("flags\t\t: fpu sse2 avx2 avx_vnni", "", False),
        ("flags\t\t: fpu sse2 avx2", "", True),
        ("flags\t\t: fpu sse2 avx2 avx512f avx512bw", "", True),
        ("flags\t\t: fpu sse2 avx2 avx512_vnni", "avx2", True),
        ("flags\t\t: fpu sse2 avx2 avx512_vnni", "AVX512_CORE_VNNI", False),
        ("Features\t: fp asimd asimddp", "", False),
        ("", "AVX2", False),
    ],
)
def test_int8_overflows_on_x86_without_vnni(tmp_path: Path, cpuinfo: str, isa: str, saturates: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\n{cpuinfo}\nprocessor\t: 1\n{cpuinfo}\n")
    assert int8_saturates(path, {"ONEDNN_MAX_CPU_ISA": isa}) == saturates
    assert not int8_saturates(tmp_path / "none", {})
