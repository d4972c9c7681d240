"""What a gateway is measured against: a FastAPI application that validates the same body and answers, no more; and that
has many who wait for one event, and answers all of them.

`main([PORT])` serves it as the gateway is served.
"""

import asyncio
import time
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from headrace_schemas.job import GenerationJob
from headrace_workers.wiring.http_server import config_of, listen

app = FastAPI()


class Hall:
    """Those who wait: they are answered with what was put down, when that is done."""

    def __init__(self) -> None:
        self.waiting = 0
        self.body = b""
        self.woken = asyncio.Event()


_hall = Hall()


@app.post("/v1/jobs", status_code=202)
async def send(job: GenerationJob) -> dict[str, Any]:
    """Say yes to a job."""
    return {"object": "job", "id": job.job_id(str(uuid.uuid4())), "state": "accepted"}


@app.get("/v1/jobs/{job_id}")
async def wait(job_id: str) -> Response:
    """Wait until all are woken."""
    _hall.waiting += 1
    await _hall.woken.wait()
    return Response(_hall.body, media_type="application/json")


@app.get("/waiting")
async def waiting() -> int:
    """How many wait."""
    return _hall.waiting


@app.post("/wake")
async def wake(request: Request) -> float:
    """Answer all who wait with this body; when that began, by the machine's clock."""
    _hall.body = await request.body()
    woken, _hall.woken, _hall.waiting = _hall.woken, asyncio.Event(), 0
    woken.set()
    return time.time()


def main(arguments: list[str]) -> None:
    """Serve at this port until SIGTERM."""
    uvicorn.Server(config_of(app)).run([listen("127.0.0.1", int(arguments[0]))])
