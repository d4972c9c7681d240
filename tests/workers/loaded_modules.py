"""How many modules of headrace each kind of process loads before it begins work.

`python -m tests.workers.loaded_modules` shows the numbers by room, `--accept` writes them into `loaded_modules.json`.
Each kind is a fork of one process that has loaded what several kinds load: each library is imported once.
"""

import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

ACCEPTED = Path(__file__).with_suffix(".json")
ROLES = ("recall", "moderate", "generate", "judge", "deliver")


def loaded() -> dict[str, list[str]]:
    """Return the modules of headrace that each kind of process loads. Call it in a process that has loaded none."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "HEADRACE_HOME": home, "HEADRACE_KAFKA": "localhost:1", "HEADRACE_REDIS": "redis://localhost:1/0",
            "HEADRACE_LEDGER": f"sqlite:///{home}/ledger.db", "TMPDIR": home,
        }  # fmt: skip
        modules = {"health": _in_a_fork(_health)}
        _load_libraries()
        import headrace_workers.wiring  # noqa: F401
        from headrace_workers.runtime.settings import other_groups

        other_groups()
        _in_a_fork(_prepare)
        modules["submit"] = _in_a_fork(_submit)
        from headrace_workers.core.pipeline.stage import installed_stages
        from headrace_workers.wiring import parts  # noqa: F401

        installed_stages()
        modules |= {"bridge": _in_a_fork(_bridge), "gateway": _in_a_fork(_gateway)}
        from headrace_workers.wiring import build_worker  # noqa: F401

        return modules | {role: _in_a_fork(lambda role=role: _worker(role)) for role in ROLES}


def by_room(modules: list[str]) -> Counter[str]:
    """Return the number of modules in each room; a feature is one."""
    return Counter(room_of(module) for module in modules)


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[1:3] if parts[1:2] == ["features"] else parts[1:2]) if len(parts) > 2 else parts[0]


def _in_a_fork(entry: Callable[[], object]) -> list[str]:
    """Return the modules that are loaded when the entry has returned."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            entry()
            names = sorted(name for name in sys.modules if name.partition(".")[0].startswith("headrace_"))
            os.write(write, json.dumps(names).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)  # its threads never end
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.wait()
    assert text, "an entry failed"
    found: list[str] = json.loads(text)
    return found


def _load_libraries() -> None:
    import celery
    import fastapi
    import kafka.admin
    import numpy as np
    import prometheus_client
    import redis
    import rich
    import sqlalchemy.dialects.sqlite
    import typer
    import uvicorn

    assert all((celery, fastapi, kafka, np, prometheus_client, redis, rich, sqlalchemy, typer, uvicorn))


def _health() -> None:
    from headrace_workers.runtime.health.reports import check

    check(["bridge"])


def _submit() -> None:
    """Submit a job to a broker that is not there."""
    from headrace_workers.wiring.command_line import run

    assert run(["submit", "--prompt", "hello"]) != 0


def _prepare() -> None:
    from headrace_workers.core.migrate import migrate
    from headrace_workers.core.sql.database import connect
    from headrace_workers.models.engines.echo import make_echo_model

    make_echo_model(Path(os.environ["HEADRACE_HOME"]))
    migrate(connect(os.environ["HEADRACE_LEDGER"]))


def _bridge() -> None:
    from headrace_workers.core.progress import Progress
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.wiring.build_bridge import build_bridge

    build_bridge(Settings.from_env(), frozenset({"reap"}), Progress())


def _gateway() -> None:
    from headrace_workers.core.progress import Progress
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.wiring.build_gateway import build_gateway
    from headrace_workers.wiring.gateway_app import build_app

    build_app(build_gateway(Settings.from_env(), Progress(), durable=True, open_to="tests"))


def _worker(role: str) -> None:
    from headrace_workers.core.progress import Progress
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.wiring.build_worker import build_hands, pipeline_of

    settings = Settings.from_env()
    pipeline = pipeline_of(settings)
    model = "echo" if role == "generate" else None
    build_hands(settings, pipeline, pipeline.roles_of([role]), model, Progress())


def main() -> None:
    modules = loaded()
    if "--json" in sys.argv:
        print(json.dumps(modules))
        return
    rooms: Mapping[str, Counter[str]] = {kind: by_room(names) for kind, names in modules.items()}
    lines = [f"{json.dumps(kind)}: {json.dumps(dict(sorted(rooms[kind].items())))}" for kind in rooms]
    text = "{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n"
    if "--accept" in sys.argv:
        ACCEPTED.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
