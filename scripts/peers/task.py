"""The race's task: which prompts, which seeds, which settings. The same for every method.

`bench-dev.txt` (run seeds 0-4) is for tuning; `bench-final.txt` (run seeds 100-109) is for the
one published figure. The two share no prompt and no near-duplicate, and each is split by bigpe's
own rule into train, validation and test prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bigpe.agents.evidence.terms import words
from bigpe.prompts.library import professional_prompts
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.services.core.values import derive_seed
from bigpe.services.prompt_data.splits import split

Bench = Literal["dev", "final"]
SEEDS: dict[Bench, tuple[int, ...]] = {"dev": tuple(range(5)), "final": tuple(range(100, 110))}
BUDGETS = (50, 100, 200, 400)
RULES = 3
"""Raised when a method, its settings or the judging changes: earlier cells then do not count.

bigpe's own search has rules of its own, `bigpe.agents.messages.plan.RULES`."""
METHOD_RULES = {"capo": 2}
"""The same for one method: cells of the others still count. CAPO 1: a run that ends within its
first step hands in the best that it has scored (no run of the others had ended so). CAPO 2: a
population of four and races of one block at every budget, so that it makes steps at all."""
PEERS_VALIDATION = 8
INITIAL = 10
"""Initial instructions that population methods may start from; EvoPrompt's paper has ten."""
LONGEST_CLAUSE = 4


class Task(NamedTuple):
    """What a method is given, save the test prompts, which only the judge uses."""

    bench: Bench
    seed: int
    budget: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    initial: tuple[str, ...]
    """Instructions to start from: bigpe's seed instructions first, then random phrases of
    professional prompts, so that a population has something to cross."""


def bench_file(bench: Bench) -> Path:
    """The committed prompt set."""
    return Path(__file__).with_name(f"bench-{bench}.txt")


def load_task(bench: Bench, seed: int, budget: int) -> Task:
    """The task of one run."""
    places = split(bench_file(bench).read_text("utf-8").splitlines()).places
    part = {
        name: tuple(text for text, place in places.items() if place == name)
        for name in ("train", "validation", "test")
    }
    rng = random.Random(derive_seed(seed, "race-initial"))
    seeds = [item.instruction.text for item in seed_instructions()]
    initial = [*seeds, *(random_instruction(rng) for _ in range(INITIAL - len(seeds)))]
    return Task(
        bench,
        seed,
        budget,
        part["train"],
        part["validation"][:PEERS_VALIDATION],
        part["test"],
        tuple(initial),
    )


def clauses() -> list[str]:
    """The short clauses of the packaged professional prompts: what bigpe's Modifier explores."""
    found = {
        " ".join(listed)
        for prompt in professional_prompts("world")
        for part in prompt.text.split(",")[1:]
        if 0 < len(listed := words(part)) <= LONGEST_CLAUSE
    }
    return sorted(found)


def random_instruction(rng: random.Random) -> str:
    """An instruction that names one to three random clauses."""
    return told_of(rng.sample(clauses(), rng.randint(1, 3)))


def told_of(phrases: Sequence[str]) -> str:
    """The instruction that names these phrases, as bigpe words its own; none: a bare one."""
    if not phrases:
        return "Add details."
    first, last = ", ".join(phrases[:-1]), phrases[-1]
    return f"Add details. Include {f'{first} and {last}' if first else last}."
