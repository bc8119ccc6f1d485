"""A language model that says what the test wrote down, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable

from bigpe.services.core.values import LlmAnswer, LlmUsage
from bigpe.services.llm.service import LlmRequest, Turn

Line = str | Exception | Callable[[LlmRequest], str]


class ScriptedAsks:
    """Answers each request with the next line: says it, raises it, or calls it.

    A request past the last line is a failure of the test, save with `forever`: then the last line
    is said again and again.
    """

    def __init__(self, *lines: Line, forever: bool = False) -> None:
        self._lines = list(lines)
        self._forever = forever
        self.asked: list[LlmRequest] = []
        self.discarded: list[str] = []

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """See `LlmClient.ask`; every answer costs 10 prompt tokens and 2 more."""
        self.asked.append(request)
        assert self._lines, f"asked {len(self.asked)} times, once more than written down"
        line = self._lines[0] if self._forever and len(self._lines) == 1 else self._lines.pop(0)
        if isinstance(line, Exception):
            raise line
        text = line if isinstance(line, str) else line(request)
        return LlmAnswer(text=text, usage=LlmUsage(calls=1, prompt_tokens=10, completion_tokens=2))

    async def discard(self, effect_key: str) -> None:
        """See `LlmClient.discard`."""
        self.discarded.append(effect_key)

    @property
    def last(self) -> tuple[tuple[str, str], ...]:
        """(role, text) of the last request's turns."""
        return said_in(self.asked[-1].turns)


def said_in(turns: tuple[Turn, ...]) -> tuple[tuple[str, str], ...]:
    """(role, text) of each turn."""
    return tuple((turn.role, turn.text) for turn in turns)
