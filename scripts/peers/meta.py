"""The language model as the peers' prompt engineer: one way of asking, for all of them.

Their published meta prompts ask for analysis that a 135M model cannot do. So each peer's request is
put in a few short lines (its adapter does that), shown how to answer by examples, held to the
JSON schema that bigpe's Modifier is held to, and given professional prompts, the source of
phrases that bigpe's Modifier has.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from bigpe.agents.terms import one_line
from bigpe.services.errors import UnusableAnswerError
from bigpe.services.llm import Asks, LlmRequest, Turn
from bigpe.services.values import LlmUsage, derive_seed

ATTEMPTS = 3
TEMPERATURE = 0.8
MAX_TOKENS = 80
SHOWN = 2
"""Professional prompts a request; bigpe's Modifier sees as many."""
LONGEST_ASK = 2400
"""Characters of a peer's request, its end kept: what the model's context holds."""
LONGEST_PROFESSIONAL = 240
SYSTEM = (
    "You write instructions for rewriting short picture prompts. You are given earlier "
    "instructions, how well they did, and professional prompts for style. Write a new and better "
    "instruction in one sentence of at most 30 words that names phrases to include."
)
EXAMPLES = (
    (
        "text:\nSay more, with plastic bags and gravel.\nscore: 12\n\n"
        "text:\nSay more, with walnut wood.\nscore: 61\n\n"
        "professional: a writing desk, ink, brass fittings, a quill",
        "Say more, with walnut wood, ink and brass fittings.",
    ),
    (
        "parent: Add things, with lantern and cobblestones.\n"
        "parent: Add things, with moss and ripples.\n"
        "professional: an old bridge by a canal, hand rails, ivy",
        "Add things, with lantern, moss, ripples and ivy.",
    ),
    (
        "current: Say who made it, with old bolts.\n"
        "Example 1\nreward -0.040\na gate, old bolts\n"
        "professional: a gate in a wall, wrought iron, roses",
        "Say who made it, with wrought iron and roses.",
    ),
)
SCHEMA = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "maxLength": 300}},
    "required": ["instruction"],
    "additionalProperties": False,
}


class PromptEngineer:
    """Answers the peers' requests; equal requests in equal order get equal answers."""

    def __init__(self, llm: Asks, professional: Sequence[str], seed: int) -> None:
        self._llm = llm
        self._professional = professional
        self._seed = seed
        self.usage = LlmUsage()

    async def ask(self, text: str, number: int) -> str:
        """A new instruction for the request `text`, the `number`-th of the run; "" for none."""
        for attempt in range(ATTEMPTS):
            seed = derive_seed(self._seed, "meta", number, attempt)
            try:
                answer = await self._llm.ask(self._request(text, seed))
            except UnusableAnswerError:
                self.usage += LlmUsage(calls=1)
                continue
            self.usage += answer.usage
            if told := _instruction(answer.text):
                return told
        return ""

    def _request(self, text: str, seed: int) -> LlmRequest:
        turns = [Turn(role="system", text=SYSTEM)]
        for user, instruction in EXAMPLES:
            turns.append(Turn(role="user", text=user))
            answer = json.dumps({"instruction": instruction})
            turns.append(Turn(role="assistant", text=answer))
        shown = random.Random(seed).sample(self._professional, SHOWN)
        lines = [text[-LONGEST_ASK:]]
        lines += [f"professional: {one_line(prompt)[:LONGEST_PROFESSIONAL]}" for prompt in shown]
        turns.append(Turn(role="user", text="\n".join(lines)))
        return LlmRequest(
            turns=tuple(turns),
            seed=seed,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            answer_schema=SCHEMA,
        )


def _instruction(raw: str) -> str:
    try:
        told = json.loads(raw)["instruction"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return one_line(told) if isinstance(told, str) else ""
