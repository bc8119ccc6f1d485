"""A language model service on a server of the test, and a request for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bigpe.services.llm.config import load_client
from bigpe.services.llm.service import LlmConfig, LlmRequest, LlmService, Turn
from bigpe.services.store.call_cache import CallCache
from bigpe.services.store.database import Store

PROVIDER = "autogen_ext.models.openai.OpenAIChatCompletionClient"
ABILITIES = {
    "vision": False,
    "function_calling": False,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
    "multiple_system_messages": True,
}


def config_for(url: str, *, timeout_s: float = 20.0, **more: Any) -> LlmConfig:
    abilities = ABILITIES | more.pop("abilities", {})
    config = {"model": "test-model", "base_url": url, "model_info": abilities}
    return LlmConfig(provider=PROVIDER, config=config, timeout_s=timeout_s, **more)


@asynccontextmanager
async def service_on(
    config: LlmConfig, folder: Path
) -> AsyncIterator[tuple[LlmService, CallCache]]:
    async with Store(folder / "p.db") as store:
        effects = CallCache(store)
        service = LlmService(load_client(config), effects, config=config)
        try:
            yield service, effects
        finally:
            await service.close()


def a_request(**changes: Any) -> LlmRequest:
    turns = (
        Turn(role="system", text="Rewrite."),
        Turn(role="user", text="a hat"),
        Turn(role="assistant", text="a hat, felt"),
        Turn(role="user", text="a fox"),
    )
    return LlmRequest(
        **({"turns": turns, "seed": 5, "temperature": 0.3, "max_tokens": 64} | changes)
    )
