"""One question to each language model before a new run pays for a picture.

A refused key or an unknown model then ends the command with its cause, and no run is left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from bigpe.runtime.run.services import Services
from bigpe.services.core.errors import (
    PAUSES_RUN,
    ConfigError,
    LlmError,
    ServiceError,
    UnusableAnswerError,
)
from bigpe.services.core.outages.watch import OutageReport
from bigpe.services.llm.service import LlmRequest, LlmService, Turn
from bigpe.services.store.caller_context import caller_context

QUESTION = "Answer with the word: ready"
MAX_TOKENS = 64

BeforeStart = Callable[[str, Services, Iterable[str]], Awaitable[None]]
"""What to do before a new run is stored. Gets its name, services and roles with a model."""


def first_question(tell: Callable[[str], None]) -> BeforeStart:
    """Ask the models of a new run; `tell` gets a line before and after each answer.

    The question is a paid call of the run, and no part of its transcript. A model with weights of
    its own on this machine is not asked: nothing can be wrong with its address or its key.
    """

    async def ask_all(run: str, services: Services, roles: Iterable[str]) -> None:
        asking = True

        def report(news: OutageReport) -> None:
            if asking and news.notable:
                tell(news.line)

        services.watch.listen(report)
        models: dict[LlmService, str] = {}
        for role in roles:
            models.setdefault(services.llm(role), role)
        await asyncio.gather(
            *(_ask(run, role, llm, tell) for llm, role in models.items() if not llm.deterministic)
        )
        asking = False

    return ask_all


async def _ask(run: str, role: str, llm: LlmService, tell: Callable[[str], None]) -> None:
    """Raises ConfigError for a failure that a repetition does not mend."""
    # A stored answer is no check, so each question has its own seed.
    request = LlmRequest(
        turns=(Turn(role="user", text=QUESTION),),
        seed=time.time_ns() & 0x7FFFFFFF,
        temperature=0.0,
        max_tokens=MAX_TOKENS,
    )
    tell(f"asking {llm.name} one question before the first picture")
    start = time.monotonic()
    with caller_context(run, role, 0):
        try:
            await llm.ask(request)
        except UnusableAnswerError:
            pass  # it answers; what it writes to a real request is judged there
        except PAUSES_RUN as error:  # there is no run yet that could pause
            raise ServiceError(f"[llm] {role}: {error}. Nothing was rendered") from error
        except LlmError as error:
            if error.transient:
                raise
            raise ConfigError(f"[llm] {role}: {error}. Nothing was rendered") from error
    tell(f"{llm.name} answered in {time.monotonic() - start:.1f} s")
