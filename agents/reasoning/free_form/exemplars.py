"""Exemplars of the free-form style: won comparisons that an instruction is proposed with."""

from __future__ import annotations

from collections.abc import Sequence

from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.evidence.terms import one_line
from bigpe.services.core.values import Exemplar, Instruction

PROFESSIONAL_ARM = "professional"


def won_exemplars(pairs: Sequence[PairedComparison], count: int) -> tuple[Exemplar, ...]:
    """The rewrites with the highest gains, at most `count`, each of another naive prompt.

    Professional prompts are no rewrites and are left out.

    Args:
        pairs: Comparisons of train prompts.
        count: 0 for none.
    """
    won = [pair for pair in pairs if pair.gain > 0 and not pair.fallback]
    won.sort(key=lambda pair: (-pair.gain, pair.naive, pair.seed))
    best: dict[str, Exemplar] = {}
    for pair in won:
        if pair.arm != PROFESSIONAL_ARM:
            exemplar = Exemplar(naive=pair.naive, rewrite=pair.rewrite, negative=pair.negative)
            best.setdefault(_spelled(pair.naive), exemplar)
    return tuple(best.values())[:count]


def as_answers(instruction: Instruction, naive: str, *, negative: bool) -> Instruction:
    """The instruction with its exemplars in the form of answers, without one of `naive` itself.

    Such an exemplar would give the answer away. `negative`: whether answers have negative prompts.
    """
    answers = tuple(
        exemplar.model_copy(update={"rewrite": _answer(exemplar, negative=negative)})
        for exemplar in instruction.exemplars
        if _spelled(exemplar.naive) != _spelled(naive)
    )
    return instruction.model_copy(update={"exemplars": answers})


def _answer(exemplar: Exemplar, *, negative: bool) -> str:
    apart = f"\n<negative>{exemplar.negative}</negative>" if negative and exemplar.negative else ""
    return f"<prompt>{exemplar.rewrite}</prompt>{apart}"


def _spelled(text: str) -> str:
    return one_line(text).casefold().rstrip(" .")
