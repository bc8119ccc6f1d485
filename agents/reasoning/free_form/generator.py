"""The system text of the free-form Generator. It also works outside bigpe, in any chat model."""

from __future__ import annotations

from bigpe.agents.reasoning.free_form.settings import FreeFormSettings
from bigpe.services.core.values import Instruction

NO_INSTRUCTION = "Write the prompt that makes the best picture of what the short prompt asks for."
_BARE_ANSWER = "Answer with the finished prompt alone."
_ANSWER = "Answer with the finished prompt alone, between <prompt> and </prompt>."
_BARE_NEGATIVE = (
    ' Then write, on a line of its own that begins with "Negative prompt:", what the picture shall '
    "not show, as a short list."
)
_NEGATIVE = (
    " Then write what the picture shall not show, as a short list between <negative> and "
    "</negative>."
)


def system_text(
    instruction: Instruction | None, settings: FreeFormSettings, *, tagged: bool = True
) -> str:
    """The system text under an instruction; None: only the task.

    `tagged`: whether the answer comes in tags, which bigpe reads and takes off.
    """
    answer, negative = (_ANSWER, _NEGATIVE) if tagged else (_BARE_ANSWER, _BARE_NEGATIVE)
    return settings.templates.of("generator").system_with(
        painter=settings.painter,
        language=settings.language,
        instruction=instruction.text if instruction else NO_INSTRUCTION,
        answer=answer + (negative if settings.negative else ""),
    )
