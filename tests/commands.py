"""The argument lists that deployments give to `headrace`: docker-compose.yml and the tests share this one list."""

from typing import Final

COMMANDS: Final[dict[str, list[str]]] = {
    "init": ["init", "--pull", "smollm2-135m-instruct", "--pull", "all-minilm-l6-v2"],
    "bridge": ["bridge"],
    "gateway": ["gateway", "--host", "0.0.0.0"],
    "worker-generate": ["worker", "--role", "generate", "--model", "smollm2-135m-instruct"],
    "worker-moderate": ["worker", "--role", "moderate"],
    "worker-recall": ["worker", "--role", "recall"],
    "worker-judge": ["worker", "--role", "judge"],
    "worker-deliver": ["worker", "--role", "deliver"],
    "health-bridge": ["health", "bridge"],
    "health-worker": ["health", "worker"],
    "health-gateway": ["health", "gateway"],
}
