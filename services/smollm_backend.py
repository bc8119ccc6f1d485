"""The embedded LLM, inside its own process: llama.cpp through xllamacpp.

Deterministic: one request at a time, no reuse of an earlier request's key-value cache, a fixed
number of threads; so an answer depends on nothing but the request.
"""

from __future__ import annotations

from typing import Any

import xllamacpp as _xllamacpp

from bigpe.services.errors import ConfigError, LlmError
from bigpe.services.values import Json

xllamacpp: Any = _xllamacpp  # an extension module without types
CONTEXT_TOKENS = 2048


class SmolLmBackend:
    """Answers OpenAI-style chat completion requests."""

    def __init__(self, config: Json) -> None:
        """`config`: "path" of the GGUF file, "threads", "context" (tokens)."""
        params = xllamacpp.CommonParams()
        params.model.path = str(config["path"])
        params.n_ctx = int(config.get("context", CONTEXT_TOKENS))
        params.n_parallel = 1
        params.cache_prompt = False
        params.warmup = False
        params.verbosity = 0
        threads = int(config.get("threads", 2))
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = threads
            cpu.poll = 0  # a spinning thread would starve the picture model
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ConfigError(f"cannot load {config['path']}: {error}") from error

    def handle(self, method: str, payload: Json) -> Json:
        """`chat`: an OpenAI-style request; its answer as it is."""
        if method != "chat":
            raise LlmError(f"the embedded LLM has no method {method!r}")
        answer: Any = self._server.handle_chat_completions({**payload, "cache_prompt": False})
        if not isinstance(answer, dict) or "choices" not in answer:
            raise LlmError(f"the embedded LLM refused the request: {str(answer)[:500]}")
        return answer


def open_backend(config: Json) -> SmolLmBackend:
    """The factory that the worker process calls."""
    return SmolLmBackend(config)
