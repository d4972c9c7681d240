"""What runs elsewhere (workflows, pre-commit) runs what the Makefile has, with no more rights than it needs."""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each workflow in turn, as plain data."""
    return yaml.safe_load(request.param.read_text("utf-8"))


def jobs(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return list(workflow["jobs"].values())


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow) for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "images", "release"}


def test_what_they_make_can_be_made(workflow: dict[str, Any]) -> None:
    targets = set(re.findall(r"^(\S+):(?!=)", MAKEFILE.replace("$(VENV)", ".venv"), re.MULTILINE))
    made = {
        word
        for step in steps(workflow)
        for arguments in re.findall(r"^make (.*)$", step.get("run", ""), re.MULTILINE)
        for word in arguments.split()
        if "=" not in word
    }
    assert made <= targets


def test_ci_runs_everything_once_and_the_unit_tests_on_every_version() -> None:
    """Lint, documentation, tests, slow ones and those of compose; the versions begin where the project's do."""
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    runs = {name: [step.get("run", "") for step in job["steps"]] for name, job in ci["jobs"].items()}
    assert "make PYTHON=python lint" in runs["lint"]
    assert "make PYTHON=python docs" in runs["docs"]
    assert 'make PYTHON="$python" docs' in (ROOT / ".ci/run").read_text("utf-8")
    assert {"make PYTHON=python test", "make PYTHON=python test-slow"} <= set(runs["test"])
    assert "make PYTHON=python test-compose" in runs["compose"]
    assert 'make PYTHON="$python" test-compose' in (ROOT / ".ci/run").read_text("utf-8")
    assert "matrix" not in ci["jobs"]["test"].get("strategy", {})
    assert {"make PYTHON=python check", ".ci/wheel python"} <= set(runs["unit"])
    assert ci["jobs"]["unit"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert ci["env"]["KAFKA_VERSION"] in (ROOT / "docker-compose.yml").read_text("utf-8")


def test_constraints_are_versions_that_the_project_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {canonicalize_name(requirement.name): requirement.specifier for requirement in map(Requirement, lines)}
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    named = chain(project["project"]["dependencies"], *extras.values(), groups["dev"], groups["docs"])
    wanted = [
        requirement
        for requirement in map(Requirement, named)
        if requirement.name != "headrace" and not requirement.marker
    ]
    assert [requirement.name for requirement in wanted if canonicalize_name(requirement.name) not in pinned] == []
    for requirement in wanted:
        (pin,) = pinned[canonicalize_name(requirement.name)]
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{requirement} is pinned to {pin.version}"


def test_files_that_they_name_exist(workflow: dict[str, Any]) -> None:
    named = re.findall(r"docker/Dockerfile[.a-z]*|pyproject\.toml|constraints\.txt|\.ci/[a-z-]+", str(workflow))
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_rights_are_the_least(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    writing = [job for job in jobs(workflow) if "write" in job.get("permissions", {}).values()]
    events = workflow[True]  # YAML 1.1's word for `on`
    assert not writing or (set(events) == {"push"} and set(events["push"]) == {"tags"})


def test_actions_are_pinned_by_major_version(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step["uses"]
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_every_job_has_a_time_limit(workflow: dict[str, Any]) -> None:
    """A job that hangs ends."""
    assert all(job["timeout-minutes"] <= 60 for job in jobs(workflow))


def test_pre_commit_runs_what_make_check_runs() -> None:
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    commands = re.findall(r"\$\(if \$\(\w+\),(.*) \$\(\w+\)\)$", recipe, re.MULTILINE)
    checked = [command.replace("$(BIN)", ".venv/bin") for command in commands]
    assert len(checked) == 3
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (local,) = config["repos"]
    assert local["repo"] == "local"
    *files, message = local["hooks"]
    assert [hook["entry"] for hook in files] == checked
    assert all(hook.get("pass_filenames", True) for hook in files)
    assert message["stages"] == ["commit-msg"]
    assert (ROOT / message["entry"]).is_file()
