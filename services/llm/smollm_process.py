"""The process of the embedded LLM: llama.cpp through xllamacpp.

An answer depends only on the request: one request at a time, and a fixed number of threads.
Requests of an actor differ only in the last turn. The turns before it, the *head*, are evaluated
once and kept. Head and rest are always evaluated separately, so the numbers do not depend on
whether the head was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xllamacpp as _xllamacpp

from bigpe.services.core.errors import ConfigError, LlmError
from bigpe.services.core.values import Json

xllamacpp: Any = _xllamacpp  # an extension module without types
CONTEXT_TOKENS = 2048
HEADS = 4
"""Number of kept heads: gradients, proposals and two instructions."""
TURN, END = "<|im_start|>", "<|im_end|>"
"""ChatML's marks, which SmolLM2 uses. They are tokens, so text can be split at them."""


class SmolLmBackend:
    """Answers OpenAI-style chat completion requests."""

    def __init__(self, config: Json) -> None:
        """`config`: "path" of the GGUF file, "threads", "context" (tokens)."""
        context = int(config.get("context", CONTEXT_TOKENS))
        params = xllamacpp.CommonParams()
        params.model.path = str(config["path"])
        params.n_parallel = HEADS
        params.n_ctx = context * HEADS
        params.kv_unified = False  # each slot has its own cache: no head sees another
        params.cache_ram_mib = 0
        # A prompt is never divided, and without flash attention a token's numbers do not depend on
        # how many are read with it: so answers equal those of a process that keeps nothing.
        params.n_batch = params.n_ubatch = context
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.warmup = False
        params.verbosity = 0
        threads = int(config.get("threads", 2))
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = threads
            cpu.poll = 0  # a spinning thread would slow down the renderer
        self._heads = _Heads(HEADS)
        self._keeps = True
        """False if the model uses other marks than ChatML's."""
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ConfigError(f"cannot load {config['path']}: {error}") from error

    def handle(self, method: str, payload: Json) -> Json:
        """Method `chat`: an OpenAI-style request; returns the answer unchanged."""
        if method != "chat":
            raise LlmError(f"the embedded LLM has no method {method!r}")
        head = _head(payload["messages"]) if self._keeps else ""
        slot, kept = self._heads.place(head)
        tokens = self._read(head, slot, kept) if head else 0
        answer = self._chat(payload, slot, reuse=tokens > 0)
        if tokens and "choices" in answer and answer["timings"]["cache_n"] != tokens:
            self._keeps = False
            answer = self._chat(payload, slot, reuse=False)
        if "choices" not in answer:
            raise LlmError(f"the embedded LLM refused the request: {str(answer)[:500]}")
        return answer

    def _read(self, head: str, slot: int, kept: bool) -> int:
        """Evaluate the head in the slot; returns its number of tokens, 0 if it is too long.

        `END` after it, which no turn begins with: what the slot holds beyond the head is dropped,
        however the turns that followed it began.
        """
        wish = {"prompt": head + END, "max_tokens": 0, "cache_prompt": kept, "id_slot": slot}
        answer: Any = self._server.handle_completions(wish)
        return int(answer["usage"]["prompt_tokens"]) - 1 if "usage" in answer else 0

    def _chat(self, payload: Json, slot: int, *, reuse: bool) -> Json:
        wish = {**payload, "cache_prompt": reuse, "id_slot": slot}
        answer: Any = self._server.handle_chat_completions(wish)
        return answer if isinstance(answer, dict) else {"answer": answer}


class _Heads:
    """Which slot holds which head. GreedyDual (Young 1994) drops a short head that was not used
    recently."""

    def __init__(self, slots: int) -> None:
        self._head = [""] * slots
        self._credit = [0] * slots

    def place(self, head: str) -> tuple[int, bool]:
        """The slot for the head, and whether it holds the head already."""
        kept = bool(head) and head in self._head
        slot = self._head.index(head) if kept else self._credit.index(min(self._credit))
        floor = min(self._credit)
        self._head[slot], self._credit[slot] = head, floor + len(head)
        return slot, kept


def _head(messages: Sequence[Json]) -> str:
    """All turns before the last in ChatML, with the last turn's mark; "" if there is only one."""
    turns = [f"{TURN}{m['role']}\n{m['content']}{END}\n" for m in messages[:-1]]
    return "".join([*turns, TURN]) if turns and messages[0]["role"] == "system" else ""


def open_backend(config: Json) -> SmolLmBackend:
    """The factory that the worker process calls."""
    return SmolLmBackend(config)
