"""A fast stand-in for a language model that can reason, for runs of the free-form style."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core.models import LLMMessage

from bigpe.testing.fake_images import BAD_WORDS, GOOD_WORDS, rng_of
from bigpe.testing.fakes import FakeLlm

TASTE = GOOD_WORDS + BAD_WORDS
"""The words that the fake scorer has an opinion on."""


class FakeReasoner(FakeLlm):
    """A language model that follows the requests of the free-form style.

    Its rewrites contain the words of TASTE that the instruction names, and sometimes one more. Its
    gradients name a word that only better rewrites have. Its instructions have several lines. Where
    a negative prompt is asked for, it is one of BAD_WORDS. It thinks aloud and wraps its answers,
    as such models do.
    """

    def _rewrite(self, messages: Sequence[LLMMessage], extra: Mapping[str, Any]) -> str:
        system, user = str(messages[0].content), str(messages[-1].content)
        if '"improvements"' in system:
            return self._gradient(system, user, extra)
        if '"instruction"' in system:
            return self._instruction(system, user)
        rng = rng_of("rewrite", user, extra.get("seed"))
        instruction = system.partition('"""')[2].partition('"""')[0]
        style = [word for word in TASTE if word in instruction]
        if rng.random() < 0.5:
            style.append(rng.choice([word for word in TASTE if word not in style] or ["soft"]))
        text = f"{user}. The picture has a {', '.join(style) or 'simple'} look"
        apart = f"<negative>{rng.choice(BAD_WORDS)}</negative>" if "<negative>" in system else ""
        return f"<think>\nI follow the instruction.\n</think>\n\n<prompt>{text}</prompt>{apart}"

    def _answer(
        self, messages: Sequence[LLMMessage], extra: Mapping[str, Any], *, schema: bool
    ) -> str:
        return self._rewrite(messages, extra)

    def _gradient(self, system: str, user: str, extra: Mapping[str, Any]) -> str:
        rng = rng_of("gradient", user, extra.get("seed"))
        better = " ".join(re.findall(r"only the best has: (.*)", user))
        found = [word for word in TASTE if word in better]
        word = found[0] if found else rng.choice(TASTE)
        change = {
            "change": f"Ask for a {word} look",
            "reason": "it won within a prompt",
            "add": [word],
            "avoid": [],
            "rows": [],
        }
        answer = {"inference": f"The {word} look made the difference.", "improvements": [change]}
        return f"Here is my analysis:\n```json\n{json.dumps(answer, indent=1)}\n```"

    def _instruction(self, system: str, user: str) -> str:
        present = user.partition('"""')[2].partition('"""')[0]
        improvements = user.partition("Improvements:")[2].partition("\n")[0]
        words = [word for word in TASTE if word in present or word in improvements]
        task = re.search(r"Your task: (\w+)", system)
        operator = task[1] if task else "revise"
        if operator == "condense":
            words = words[:1]
        lines = ["Describe the subject first.", *(f"- Give it a {word} look." for word in words)]
        if operator == "write":  # explore
            lines.append(f"- Compare it with {len(words)} other things.")
        text = {"instruction": "\n".join(lines), "change": f"{operator}: {improvements.strip()}"}
        return json.dumps(text)
