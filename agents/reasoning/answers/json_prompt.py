"""Finds the prompt in an answer for a painter that reads JSON objects."""

from __future__ import annotations

import json
from typing import Any, cast

from bigpe.agents.evidence.terms import one_line
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.answers.objects import values_in
from bigpe.agents.reasoning.answers.prompt import NEGATIVE_TAG, PromptAnswer, read_prompt
from bigpe.agents.reasoning.answers.thoughts import without_thoughts


def read_json_prompt(raw: str) -> PromptAnswer:
    """The largest JSON object of an answer, on one line, without thoughts and packaging.

    A negative prompt is what `<negative>` holds; a member of the object stays in it.
    """
    plain = read_prompt(raw)
    if plain.fault is not None and plain.fault != AnswerFault.NO_PROMPT:
        return plain
    visible = without_thoughts(raw).text
    found = [value for value in values_in(visible) if isinstance(value, dict)]
    if not found:
        reason = "the answer has no JSON object, which is what this text-to-image model reads"
        return PromptAnswer("", AnswerFault.NO_PROMPT, reason)
    texts = [json.dumps(value, ensure_ascii=False) for value in cast(list[dict[str, Any]], found)]
    tag = NEGATIVE_TAG.search(visible)
    return PromptAnswer(max(texts, key=len), negative=one_line(tag[2]) if tag else "")
