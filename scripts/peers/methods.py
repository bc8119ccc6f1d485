"""Every method of the race: what it is called, and how it comes to its instruction."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from bigpe.agents.statistics.moments import mean
from bigpe.runtime.experiments.shared_models import SharedModels
from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.session import Session
from bigpe.services.core.values import Instruction, LlmUsage, derive_seed, digest
from peers.arena import Arena
from peers.ledger import Spent
from peers.realise import realise
from peers.server import race
from peers.task import bench_file, random_instruction

MINIBATCH = 4
FINALISTS = 3
TAIL = 0.3
"""Share of random search's budget that is kept for its finalists."""


class Entry(NamedTuple):
    """What a method hands in."""

    instruction: Instruction
    renders: int
    usage: LlmUsage
    note: str


class Place(NamedTuple):
    """Where a race is held."""

    base: BigpeConfig
    project: Project
    models: SharedModels
    python: Path
    """The interpreter of the peers' environment."""


Method = Callable[[Arena, Place], Awaitable[Entry]]


def _peer(script: str, *words: str) -> Method:
    async def run(arena: Arena, place: Place) -> Entry:
        text, note = await race(arena, place.python, script, *words)
        return Entry(realise(text), arena.ledger.spent, arena.llm_usage, note)

    return run


async def _random(arena: Arena, place: Place) -> Entry:
    """Random phrases of professional prompts, each tried on four prompts; the best three again."""
    rng = random.Random(derive_seed(arena.task.seed, "random-search"))
    pool = [*arena.task.train, *arena.task.validation]
    gains: dict[str, list[float]] = defaultdict(list)

    async def pull(text: str, prompts: list[str], draw: int = 0) -> None:
        for prompt in prompts:
            gains[text].append((await arena.evaluate(text, prompt, draw)).gain)

    waiting = list(arena.task.initial[:2])
    try:
        while arena.ledger.spent < (1 - TAIL) * arena.ledger.budget:
            text = waiting.pop(0) if waiting else random_instruction(rng)
            await pull(text, rng.sample(pool, MINIBATCH))
        for draw in itertools.count():
            for prompt in rng.sample(pool, len(pool)):
                for text in sorted(gains, key=lambda t: -mean(gains[t]))[:FINALISTS]:
                    await pull(text, [prompt], draw)
    except Spent:
        pass
    tried = {text: found for text, found in gains.items() if found}
    best = max(tried, key=lambda t: mean(tried[t])) if tried else arena.task.initial[0]
    note = f"{len(tried)} candidates, the best on {len(gains[best])} prompts"
    return Entry(realise(best), arena.ledger.spent, arena.llm_usage, note)


def _ours(**changes: dict[str, object]) -> Method:
    """bigpe itself, a whole run, with `section={key: value}` changed."""

    async def run(arena: Arena, place: Place) -> Entry:
        raw = place.base.model_dump(mode="json", exclude_defaults=True)
        run_section: dict[str, object] = {"rounds": 100_000, "seed": arena.task.seed}
        settings: dict[str, dict[str, object]] = {
            "run": run_section | changes.get("run", {}),
            "budget": {"renders": arena.task.budget},
            "data": {"naive": str(bench_file(arena.task.bench))} | changes.get("data", {}),
            "policy": changes.get("policy", {}),
        }
        for section, values in settings.items():
            raw[section] = raw.get(section, {}) | values
        config = check_config(raw, where="the race")
        name = f"race-{digest(config.model_dump(mode='json'))[:24]}"
        async with Session.open(
            name,
            config,
            project=place.project.folder,
            llms=place.models.llms,
            renderer=place.models.renderer,
            scorer=place.models.scorer,
        ) as session:
            async for _ in session.run():
                pass
            campaign = session.coordinator.campaign
            used = campaign.used
            usage = LlmUsage(calls=used.llm_calls, prompt_tokens=used.tokens)
            best = session.pool.best().instruction
            return Entry(best, used.renders, usage, f"{campaign.applied} rounds")

    return run


OUR_RUN: dict[str, object] = {"batch_size": 1, "pilot_prompts": 2, "concurrency": 1}
"""bigpe's settings, tuned on bench-dev like the peers' own: single prompts did best."""

METHODS: dict[str, Method] = {
    "bigpe": _ours(run=OUR_RUN),
    "gepa": _peer("race_gepa.py"),
    "gepa+evidence": _peer("race_gepa.py", "evidence"),
    "opro": _peer("race_promptolution.py", "opro"),
    "evoprompt-ga": _peer("race_promptolution.py", "ga"),
    "evoprompt-de": _peer("race_promptolution.py", "de"),
    "capo": _peer("race_promptolution.py", "capo"),
    "random": _random,
}
OURS = frozenset({"bigpe"})
"""Methods that change with bigpe's own way of searching."""
"""best-of-n hands in no instruction; the judge runs it (see `judge.best_of_n`)."""
