"""The clients of others that tests drive. docs/reference/openai.md has a row of each: `make reference` writes it."""

import json
import re
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = Path(__file__).parent
_ROOT: Final = _FOLDER.parents[1]
_PARSING: Final = "tests/workers/http/test_parsing_clients.py"
_LOOPS: Final = "tests/clients/agent_loops.py"


class Client(NamedTuple):
    """A client: its packages as PyPI or npm calls them, what is driven, and the files that import it as `imported`."""

    name: str
    packages: tuple[str, ...]
    imported: str
    driven: str
    files: tuple[str, ...]
    note: str = ""

    @property
    def versions(self) -> str:
        return ", ".join(" and ".join(_versions(package)) for package in self.packages)


def _versions(package: str) -> list[str]:
    if package.startswith("npm:"):
        found = json.loads((_FOLDER / "package.json").read_text("utf-8"))["dependencies"]
        return [found[package.removeprefix("npm:")]]
    lists = (_FOLDER / "requirements.txt", _ROOT / "constraints.txt")
    pattern = re.compile(rf"^{re.escape(package)}==(\S+)$", re.M)
    return [version for path in lists if package == "openai" or path == lists[0]
            for version in pattern.findall(path.read_text("utf-8"))]  # fmt: skip


CLIENTS: Final = (
    Client(
        "openai, Python", ("openai",), "openai",
        "chats, completions, responses, embeddings, moderations, models, files, uploads, batches, vector stores, "
        "evals, webhooks; "
        "`parse` and `stream` with a format and with tools",
        ("tests/workers/http/openai_client.py", _PARSING),
    ),
    Client(
        "openai, JavaScript", ("npm:openai",), "openai",
        "chats, responses, moderations, files, uploads, batches, evals, models, errors; `parse` and `stream`",
        ("tests/workers/http/test_javascript.py", _PARSING),
    ),
    Client(
        "Vercel AI SDK: ai, @ai-sdk/openai-compatible", ("npm:ai", "npm:@ai-sdk/openai-compatible"), "ai",
        "`generateObject`; `generateText` with tools, and with tools and `Output.object`", (_PARSING, _LOOPS),
        "set `supportsStructuredOutputs: true`",
    ),
    Client(
        "LangGraph", ("langgraph",), "langgraph.prebuilt", "`create_react_agent` with a tool and `response_format`",
        (_LOOPS,),
    ),
    Client(
        "openai-agents", ("openai-agents",), "agents",
        "`Agent` with a tool and `output_type`, by responses and by chats", (_LOOPS,),
    ),
    Client(
        "Pydantic AI", ("pydantic-ai-slim",), "pydantic_ai",
        "`Agent` with `NativeOutput` and with an output tool, alone and beside a tool; chats and responses",
        (_PARSING, _LOOPS),
    ),
    Client(
        "AutoGen: autogen-agentchat, autogen-ext", ("autogen-agentchat", "autogen-ext"), "autogen_agentchat.agents",
        "`AssistantAgent` with a tool and `output_content_type`", (_LOOPS,),
        "AutoGen wants `FunctionTool(…, strict=True)` beside a format",
    ),
    Client(
        "dspy", ("dspy",), "dspy", "`ReAct` with a tool and typed outputs", (_LOOPS,),
        "`ReAct` writes its calls as text: it sends no `tools`",
    ),
    Client(
        "langchain-openai", ("langchain-openai",), "langchain_openai",
        "`with_structured_output` by both methods; chats and responses", (_PARSING,),
    ),
    Client("instructor", ("instructor",), "instructor", "`Mode.JSON_SCHEMA`, `Mode.TOOLS`", (_PARSING,)),
)  # fmt: skip
