"""The detectors, loaded once: scikit-learn and Presidio take a second each."""

import pytest

from headrace_workers.moderation.moderator import PolicyModerator, build_moderator, warm_up
from headrace_workers.moderation.personal_data import PersonalDataDetector
from headrace_workers.moderation.profanity import ProfanityDetector
from headrace_workers.moderation.secrets import SecretsDetector


@pytest.fixture(scope="session")
def personal_data() -> PersonalDataDetector:
    return PersonalDataDetector()


@pytest.fixture(scope="session")
def secrets() -> SecretsDetector:
    return SecretsDetector()


@pytest.fixture(scope="session")
def profanity() -> ProfanityDetector:
    return ProfanityDetector()


@pytest.fixture(scope="session")
def moderator() -> PolicyModerator:
    moderator = build_moderator()
    warm_up(moderator)
    return moderator


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tries to resolve a name in these tests fails."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a detector reached for the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
