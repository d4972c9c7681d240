"""What a gateway is measured against: a FastAPI application that validates the same body and answers, no more.

`main([PORT])` serves it as the gateway is served.
"""

import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI

from headrace_schemas.job import GenerationJob
from headrace_workers.gateway.serving import config_of, listen

app = FastAPI()


@app.post("/v1/jobs", status_code=202)
async def send(job: GenerationJob) -> dict[str, Any]:
    """Say yes to a job."""
    return {"object": "job", "id": job.job_id(str(uuid.uuid4())), "state": "accepted"}


def main(arguments: list[str]) -> None:
    """Serve at this port until SIGTERM."""
    uvicorn.Server(config_of(app)).run([listen("127.0.0.1", int(arguments[0]))])
