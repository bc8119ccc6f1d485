"""A language model behind HTTP that answers what a probe and a run ask, in one way or another."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.http_llm import FakeServer, Reply, fails, says, sends

Quirk = Callable[[dict[str, Any], str], Reply | None]
"""The reply to a request that a good server would answer with a text; None: that text."""
OPENAI = "autogen_ext.models.openai.OpenAIChatCompletionClient"


def llm_section(url: str, *, vision: bool = False, **more: Any) -> dict[str, Any]:
    """`[llm.default]` for the server at `url`."""
    info = {
        "vision": vision, "function_calling": False, "json_output": True,
        "structured_output": True, "family": "unknown", "multiple_system_messages": True,
    }  # fmt: skip
    config = {"model": "test-model", "base_url": url, "model_info": info}
    return {"provider": OPENAI, "config": config} | more


def answers(server: FakeServer, quirk: Quirk | None = None) -> Reply:
    """What a capable model writes; `quirk` may replace it."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        request = server.requests[-1]
        text = _text(request)
        other = quirk(request, text) if quirk else None
        (other or says(text))(handler)

    return reply


def _text(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    if isinstance(content, list):
        return "orange"
    if "the word: ready" in content:
        return "ready"
    # A server that takes no schema is sent it as text.
    everything = json.dumps(request)
    if '"colours' in everything:  # as a name: the painter is described in words
        return json.dumps({"subject": "a red fox", "colours": ["red", "white"]})
    return f"{content.strip()}, golden hour, wild roses"


def refuses(name: str) -> Reply:
    """OpenAI's refusal of a parameter."""
    text = f"Unsupported parameter: '{name}' is not supported with this model."
    error = {"message": text, "type": "invalid_request_error", "param": name, "code": "unsupported"}
    return sends(400, json.dumps({"error": error}))


def like_gpt5(request: dict[str, Any], text: str) -> Reply | None:
    """Refuses what GPT-5 refuses."""
    for name in ("max_tokens", "stop"):
        if request.get(name) is not None:
            return refuses(name)
    return refuses("temperature") if request.get("temperature") not in (None, 1) else None


def without_schema(request: dict[str, Any], text: str) -> Reply | None:
    """Refuses every response format."""
    return refuses("response_format") if "response_format" in request else None


def thinking(request: dict[str, Any], text: str) -> Reply | None:
    """Writes its thoughts before the answer."""
    return says(f"<think>\nLet me plan this.\n</think>\n\n{text}")


def refuses_the_key(request: dict[str, Any], text: str) -> Reply | None:
    return fails(401, "Incorrect API key provided")


def knows_no_model(request: dict[str, Any], text: str) -> Reply | None:
    return fails(404, "The model `test-model` does not exist")


def another_answer_each_time(request: dict[str, Any], text: str) -> Reply | None:
    another_answer_each_time.count += 1  # pyright: ignore[reportFunctionMemberAccess]
    return says(f"{text}, view {another_answer_each_time.count}")  # pyright: ignore[reportFunctionMemberAccess]
