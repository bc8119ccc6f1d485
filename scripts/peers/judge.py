"""Judging what methods hand in: held-out paired gains on test prompts, off every budget."""

from __future__ import annotations

from typing import NamedTuple

from bigpe.agents.statistics.moments import mean
from bigpe.runtime.evaluation.measure import gains_by_prompt, image_seed, measure, under
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.runtime.run.services import Services
from bigpe.services.core.values import (
    Instruction,
    LlmUsage,
    RenderRequest,
    ScoreRequest,
    derive_seed,
)
from peers.task import Task


async def heldout(services: Services, instruction: Instruction, task: Task) -> dict[str, float]:
    """Test prompt -> paired gain, score units."""
    rows = await measure(services, under(instruction, "handed in"), task.test, seed=task.seed)
    return {prompt: mean(gains) for prompt, gains in gains_by_prompt(rows).items()}


class Picked(NamedTuple):
    """What best-of-n got, and what it spent."""

    gains: dict[str, float]
    """Test prompt -> paired gain, score units."""
    renders: int
    usage: LlmUsage


async def best_of_n(services: Services, task: Task) -> Picked:
    """The budget spent on the test prompts themselves.

    Each prompt is rewritten n times under the seed instruction, all are painted at the prompt's
    test seed, and the picture that scores best is kept: n + 1 renders a prompt with the naive one.
    Where not even one rewrite fits, the naive picture stays: a gain of 0.
    """
    count = task.budget // len(task.test) - 1
    seed_instruction = seed_instructions()[0].instruction
    gains: dict[str, float] = {}
    painted: set[tuple[str, str]] = set()
    usage = LlmUsage()
    for prompt in task.test:
        texts: list[str] = [prompt]
        for draw in range(max(count, 0)):
            llm_seed = derive_seed(task.seed, "best-of-n", prompt, draw)
            llm = services.llm("generator")
            done = await services.style.rewrite(llm, seed_instruction, prompt, llm_seed)
            texts.append(done.text)
            usage += done.usage
        seed = image_seed(task.seed, prompt, 0)
        scores: list[float] = []
        for text in texts:
            image = await services.render.render(RenderRequest(prompt=text, seed=seed))
            request = ScoreRequest(image=image.digest, prompt=prompt)
            scores.append((await services.score.score(request)).value)
        painted |= {(prompt, text) for text in texts}
        gains[prompt] = max(scores) - scores[0]
    return Picked(gains, len(painted) if count > 0 else 0, usage)
