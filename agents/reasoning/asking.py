"""Asks a language model for one text: judges how an answer ended, and asks for a longer one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.objects import find_object
from bigpe.agents.reasoning.answers.thoughts import without_thoughts
from bigpe.agents.reasoning.rules import RoleRules
from bigpe.services.core.errors import UnusableAnswerError
from bigpe.services.core.values import LlmAnswer, LlmUsage, Value
from bigpe.services.llm.service import LlmClient, LlmRequest, RemembersRoom, Turn

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_FINAL = frozenset({AnswerFault.LENGTH, AnswerFault.ONLY_THOUGHT})
"""Faults that another request does not mend: the largest limit was used."""


class Fault(NamedTuple):
    """Why an answer cannot be used."""

    code: AnswerFault
    text: str


class Exchanged(Value):
    """Base of what comes of an exchange with a language model."""

    turns: tuple[Turn, ...] = ()
    """The last request and its raw answer."""
    usage: LlmUsage = LlmUsage()
    """Usage of all attempts."""
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls of all attempts, oldest first."""


@dataclass
class Exchange:
    """The calls of a language model for one text."""

    llm: LlmClient
    rules: RoleRules
    turns: tuple[Turn, ...] = ()
    """The last request and its raw answer."""
    usage: LlmUsage = LlmUsage()
    effect_keys: tuple[str, ...] = ()
    """Keys of the stored calls, oldest first."""
    attempts: int = 0
    _doubled: int = field(default=0)

    async def obtain(
        self, request: Callable[[int], LlmRequest], judge: Callable[[str], T | Fault], wanted: str
    ) -> T | Fault:
        """What `judge` makes of the first answer that it can use, else the last fault.

        Failures of the service propagate.

        Args:
            request: Makes the request of an attempt; attempts are counted from 0.
            judge: Reads an answer.
            wanted: The form of an answer in words, for a model whose answer had another.
        """
        fault = Fault(AnswerFault.EMPTY, "nothing was requested")
        for index in range(self.rules.attempts):
            current = request(index)
            if index and not self.rules.embedded:
                current = _naming(current, fault, wanted)
            self.attempts += 1
            answer = await self._ask(current)
            if isinstance(answer, Fault):
                fault = answer
                if fault.code in _FINAL:
                    break
                continue
            judged = judge(answer)
            if not isinstance(judged, Fault):
                return judged
            fault = judged
            await self._discard()
        return fault

    async def _ask(self, request: LlmRequest) -> str | Fault:
        """One answer. Its limit is doubled as long as it does not suffice.

        A language model that remembers such a limit sends it at once for later texts.
        """
        most = self.rules.max_tokens << self.rules.doublings
        while True:
            own = self.rules.max_tokens << self._doubled
            room = min(most, max(own, self._room()))
            sent = {"max_tokens": own, "room": room if room > own else None}
            request = request.model_copy(update=sent)
            try:
                answer = await self.llm.ask(request)
            except UnusableAnswerError as error:
                self._note(request, error.raw, error.usage)
                return Fault(AnswerFault.EMPTY, str(error))
            limit = answer.limit or own
            fault = self._fault(answer, limit)
            if fault is not None and self._doubled and answer.effect_key in self.effect_keys[-1:]:
                return fault  # the user's own limit is not raised
            self._note(request, answer.text, answer.usage)
            self.effect_keys += (answer.effect_key,)
            if fault is None:
                return answer.text
            await self._discard()
            if fault.code not in _FINAL or self._doubled == self.rules.doublings or limit >= most:
                return fault
            self._doubled += 1
            if isinstance(self.llm, RemembersRoom):
                await self.llm.needs_room(self.rules.role, min(most, 2 * limit))

    def _room(self) -> int:
        """The limit that earlier answers of the role needed, tokens."""
        return self.llm.room_of(self.rules.role) if isinstance(self.llm, RemembersRoom) else 0

    async def _discard(self) -> None:
        """Remember that the last answer cannot be used."""
        if self.effect_keys and self.effect_keys[-1]:
            await self.llm.discard(self.effect_keys[-1])

    def fields(self) -> dict[str, Any]:
        """The fields of `Exchanged`."""
        return {"turns": self.turns, "usage": self.usage, "effect_keys": self.effect_keys}

    def _note(self, request: LlmRequest, raw: str, usage: LlmUsage) -> None:
        self.turns = (*request.turns, Turn(role="assistant", text=raw))
        self.usage += usage

    def _fault(self, answer: LlmAnswer, limit: int) -> Fault | None:
        if self.rules.embedded:
            empty = not answer.text.strip()
            return Fault(AnswerFault.EMPTY, "the model answered with no text") if empty else None
        if answer.refusal is not None:
            return Fault(AnswerFault.REFUSED, f"the model refused: {answer.refusal[:160]}")
        if answer.finish_reason == "content_filter":
            return Fault(AnswerFault.REFUSED, "the filter of the server refused the answer")
        visible = without_thoughts(answer.text)
        nothing = not visible.text.strip()
        thought = visible.thought or bool(answer.reasoning or answer.usage.reasoning_tokens)
        cut = answer.finish_reason == "length"
        if nothing and (thought or cut):
            return Fault(
                AnswerFault.ONLY_THOUGHT,
                f"the model used {limit:,} tokens for thoughts and answered nothing; "
                f"{self._remedy}, or let the model think less",
            )
        if cut:
            text = f"the answer was cut at {limit:,} tokens; {self._remedy}"
            return Fault(AnswerFault.LENGTH, text)
        if nothing:
            return Fault(AnswerFault.EMPTY, "the model answered with no text")
        return None

    @property
    def _remedy(self) -> str:
        own = getattr(self.llm, "own_limit", None) is not None
        place = "[llm.NAME]" if own else f"[reasoning.{self.rules.role}]"
        return f"raise {place} max_tokens"


def _naming(request: LlmRequest, fault: Fault, wanted: str) -> LlmRequest:
    """The request with the fault of the last answer, so that a model can mend it.

    It stands in the first turn: the last turn stays the text to work on.
    """
    if fault.code in _FINAL or fault.code in (AnswerFault.REFUSED, AnswerFault.EMPTY):
        return request
    first, *others = request.turns
    note = f"Your last answer could not be used: {fault.text}. {wanted}"
    turn = first.model_copy(update={"text": f"{first.text}\n\n{note}"})
    return request.model_copy(update={"turns": (turn, *others)})


def answer_in(raw: str, model: type[M], rules: RoleRules) -> M | None:
    """The JSON object of an answer; None if it has none of this shape.

    The embedded model answers under a grammar, so its whole answer is the object or useless.
    """
    if not rules.embedded:
        return find_object(raw, model)
    try:
        return model.model_validate(json.loads(raw))
    except (ValueError, RecursionError):  # no JSON, JSON of another shape, or too deep or long
        return None
