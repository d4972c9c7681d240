"""The tree as mutmut wants it: the packages under `src`, the tests beside it, and its settings in pyproject.toml."""

import json
import shutil
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("schemas/headrace_schemas", "producers/headrace_producers", "workers/headrace_workers")
_BESIDE = ("tests", "tools", "bench", "examples", "docs", "README.md", "NOTICE")

# What is mutated.
_MUTATED = (
    "src/headrace_workers/core/ledger/*.py",
    "src/headrace_workers/core/sql/*.py",
    "src/headrace_workers/features/*/store/*.py",
    "src/headrace_workers/core/pipeline/settle.py",
    "src/headrace_workers/runtime/bridge/relay.py",
    "src/headrace_workers/runtime/bridge/event_publisher.py",
    "src/headrace_workers/features/moderation/*.py",
    "src/headrace_workers/features/judging/*.py",
)
# The ledger's face has methods with the names of the modules behind it: its copies would not find those. Tables are
# made when they are imported, before there is a mutant. Commands are noticed by the tests of the command line, which
# are not among those below.
_NOT_MUTATED = ("*/ledger/ledger.py", "*/ledger/for_*.py", "*/commands.py", "*/commands/*.py")
# What is to notice: the tests that are quick enough to be run for each.
TESTS = (
    "tests/workers/core/ledger",
    "tests/workers/core/pipeline/test_settle.py",
    "tests/workers/runtime/worker/test_run.py",
    "tests/workers/runtime/bridge/test_record_admission.py",
    "tests/workers/runtime/bridge/test_bridge.py",
    "tests/workers/runtime/bridge/test_dispatch.py",
    "tests/workers/runtime/bridge/test_evals.py",
    "tests/workers/runtime/bridge/test_reap.py",
    "tests/workers/runtime/bridge/test_relay.py",
    "tests/workers/runtime/bridge/test_relay_duty.py",
    "tests/workers/features/moderation",
    "tests/workers/features/judging",
    "tests/workers/features/generation/test_stage.py",
    "tests/workers/features/providers/test_identity.py",
    "tests/workers/features/generation/outages/test_breakers.py",
    "tests/workers/features/batches/test_adopting.py",
    "tests/workers/features/batches/test_life.py",
    "tests/workers/features/cache/semantic/test_audits.py",
    "tests/workers/features/knowledge/test_bases.py",
    "tests/workers/features/cache/semantic/test_exact.py",
    "tests/workers/features/cache/semantic/test_explored.py",
    "tests/workers/features/webhooks/test_telling.py",
)
# What fails once and not again failed by luck: that is no mutant's doing.
_FLAGS = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--reruns",
    "1",
    "-m",
    "not acceptance and not chaos and not slow",
)
_SETTINGS: dict[str, object] = {
    "source_paths": ["src"],
    "only_mutate": list(_MUTATED),
    "do_not_mutate": list(_NOT_MUTATED),
    # What a log line says is for people, and no test's business.
    "do_not_mutate_patterns": [r"^\s*log\(", r"logging\.getLogger"],
    "also_copy": [name for name in _BESIDE if name != "tests"],
    "pytest_add_cli_args": list(_FLAGS),
    "pytest_add_cli_args_test_selection": list(TESTS),
    "process_isolation": "forkserver",  # a child must not inherit another's servers and connections
    "timeout_multiplier": 4.0,
    "timeout_constant": 15.0,  # seconds: each child starts services of its own
    "use_git_change_detection": False,
    "debug": True,  # its log then holds what the tests say, which is needed where they fail without any mutation
}


def mutated() -> list[Path]:
    workers = _ROOT / "workers"
    generator = (path for pattern in _MUTATED for path in workers.glob(pattern.removeprefix("src/")))
    return sorted(path for path in generator if not any(path.match(pattern) for pattern in _NOT_MUTATED))


def make_tree(folder: Path) -> None:
    leave_out = shutil.ignore_patterns("__pycache__")
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, folder / "src" / Path(package).name, ignore=leave_out)
    for name in _BESIDE:
        if (_ROOT / name).is_dir():
            shutil.copytree(_ROOT / name, folder / name, ignore=leave_out)
        else:
            shutil.copy2(_ROOT / name, folder / name)
    project = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # JSON's strings, lists, numbers and booleans are TOML's too.
    settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in _SETTINGS.items())
    (folder / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{settings}", encoding="utf-8")
