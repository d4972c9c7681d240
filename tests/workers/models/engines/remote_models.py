"""Remote models for tests: one of each engine, behind a provider on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace_schemas import Message, Sampling
from headrace_workers.models.engines.engine import LoadOptions
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Generator, Request, never

REMOTE_ENGINES = ("openai", "anthropic")


def catalogue(home: Path, engine: str, url: str, alias: str = "far", *, add: bool = False, **entries: Any) -> None:
    """Write a catalogue with one model, or `add` it; it has a minute for what it is to do."""
    path = "/v1" if engine == "openai" and "/v1" not in url else ""
    known = {
        "engine": engine, "model": "teacher", "endpoint": f"{url}{path}", "context_length": 1000,
        "connect": 60.0, "first_token": 60.0, "idle": 60.0, "total": 240.0,
    }  # fmt: skip
    lines = [f"{name} = {_toml(value)}" for name, value in {**known, **entries}.items()]
    home.mkdir(parents=True, exist_ok=True)
    path_of = home / "models.toml"
    before = path_of.read_text() if add else ""
    path_of.write_text(before + "\n".join([f"[models.{alias}]", *lines, ""]))


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def remote(home: Path, engine: str, url: str, redis: str | None = None, **entries: Any) -> Generator:
    catalogue(home, engine, url, **entries)
    return load_generator(home, "far", LoadOptions(redis=redis, prefix="test."))


def ask(text: str, *, given_up: Callable[[], bool] = never, system: str | None = None, **sampling: object) -> Request:
    """Return a request of one user turn, behind a system message if there is one."""
    turns = (Message(role="system", content=system),) if system is not None else ()
    return Request((*turns, Message(role="user", content=text)), Sampling.model_validate(sampling), given_up=given_up)
