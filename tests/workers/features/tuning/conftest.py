"""A base that can be trained, made once, and the folders of runs."""

import shutil
from pathlib import Path

import pytest
from tests.workers.features.tuning.tiny_base import examples, make_base, write_lines, write_recipe

from headrace_workers.features.tuning.recipe import Plan, plan_of


@pytest.fixture(scope="session")
def base_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a base that was converted from its folder `source`. Others copy it: write nothing there."""
    home = tmp_path_factory.mktemp("base-home")
    make_base(home)
    return home


@pytest.fixture
def home(base_home: Path, tmp_path: Path) -> Path:
    """A home of the test's own with the base, its source and data for it."""
    home = tmp_path / "home"
    shutil.copytree(base_home, home)
    write_lines(home / "data.jsonl", examples(60))
    return home


@pytest.fixture
def plan(home: Path) -> Plan:
    """A run of twelve steps."""
    return plan_of(write_recipe(home, "source"), home)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch compute on one thread: threads that wait for a busy core take many times as long as the tiny base."""
    monkeypatch.setenv("HEADRACE_INTER_THREADS", "1")
