import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace_workers.features.moderation.moderator import PolicyModerator, build_moderator, warm_up
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.profanity import ProfanityDetector
from headrace_workers.features.moderation.secrets import SecretsDetector


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
def _no_network(monkeypatch: pytest.MonkeyPatch, older_threads: set[threading.Thread]) -> None:
    """Whatever tries to resolve a name in these tests fails, but for threads that earlier tests have left."""

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*given: Any, **named: Any) -> Any:
            if threading.current_thread() in older_threads:
                return real(*given, **named)
            raise AssertionError("a detector reached for the network")

        return refuse

    monkeypatch.setattr("socket.getaddrinfo", refusing(socket.getaddrinfo))
    monkeypatch.setattr("socket.socket.connect", refusing(socket.socket.connect))
