"""Which prompts and seeds a pull gets: hashes of the run's seed, never of what happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from bigpe.agents.messages import RewriteTask
from bigpe.services.values import Instruction, derive_seed


class Draws:
    """The draws of one run."""

    def __init__(self, seed: int, train: Sequence[str]) -> None:
        self._seed = seed
        self._train = train
        self._drawn: Counter[tuple[str, str]] = Counter()

    def prompts(self, count: int, index: int | str) -> list[str]:
        """Prompts for a pull, without replacement."""
        rng = random.Random(derive_seed(self._seed, "prompts", index))
        return rng.sample(self._train, min(count, len(self._train)))

    def task(self, instruction: Instruction, naive: str) -> RewriteTask:
        """The prompt under this instruction, with seeds that no earlier pull of both had."""
        draw = self._drawn[instruction.id, naive]
        self._drawn[instruction.id, naive] += 1
        return RewriteTask(
            naive=naive,
            image_seed=self.image_seed(naive, draw),
            llm_seed=derive_seed(self._seed, "llm", instruction.id, naive, draw),
        )

    def image_seed(self, naive: str, draw: int) -> int:
        """The `draw`-th seed of a fixed list per prompt: all arms share the naive pictures."""
        return derive_seed(self._seed, "image", naive, draw)
