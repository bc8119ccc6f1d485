"""A gate that asks a language model whether a proposed instruction is fit to be tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bigpe.agents.messages.core import AnyMessage
from bigpe.agents.plugins import Gate, Judgement, RoleError
from bigpe.services.llm.service import LlmRequest, Turn

SYSTEM = """You review instructions that tell a language model how to rewrite image prompts.
Veto an instruction that breaks the policy below. Amend one that can be mended in a few words.
Answer with JSON alone: {"verdict": "keep", "veto" or "amend", "text": the amended instruction,
"reason": one sentence}.
Policy: """


class Options(BaseModel):
    """`[roles.NAME.options]`."""

    model_config = ConfigDict(extra="forbid")

    policy: str = "no living artists by name, no brands, nothing that contradicts itself"
    """What an instruction must keep to."""
    forbidden: list[str] = Field(default_factory=list)
    """Words that no instruction may contain; checked without the language model."""


class _Vote(BaseModel):
    verdict: Literal["keep", "veto", "amend"]
    text: str = ""
    reason: str = ""


class Reviewer(Gate):
    """Vetoes or amends proposed instructions by a policy, with a reason (LLM)."""

    Options = Options
    before = "InstructionsProposed"

    async def judge(self, message: AnyMessage, items: Sequence[str]) -> Sequence[Judgement]:
        """One judgement an instruction."""
        return [await self._judge_one(index, text) for index, text in enumerate(items)]

    async def _judge_one(self, index: int, text: str) -> Judgement:
        options: Options = self.context.options
        named = [word for word in options.forbidden if word.casefold() in text.casefold()]
        if named:
            return Judgement(item=index, verdict="veto", reason=f"it names {', '.join(named)}")
        request = LlmRequest(
            turns=(
                Turn(role="system", text=SYSTEM + options.policy),
                Turn(role="user", text=text),
            ),
            seed=0,
            temperature=0.0,
            max_tokens=200,
            answer_schema=_Vote.model_json_schema(),
        )
        answer = await self.context.llm.ask(request)
        vote = _read(answer.text)
        if vote.verdict == "amend" and not vote.text.strip():
            raise RoleError("the model amends an instruction and gives no text")
        return Judgement(item=index, verdict=vote.verdict, text=vote.text, reason=vote.reason)


def _read(raw: str) -> _Vote:
    try:
        return _Vote.model_validate(json.loads(raw[raw.index("{") : raw.rindex("}") + 1]))
    except ValueError as error:  # no JSON, or JSON of another shape
        raise RoleError(f"the model's answer is no judgement: {raw[:200]}") from error
