"""How good an instruction a run returns, by simulation: the coordinator's code, a modelled world.

    python scripts simulations.simulate_search --seeds 40 --first 5000
    python scripts simulations.simulate_search --growth 4 --set policy.name=greedy

For tuning: thousands of rounds in minutes, where the embedded models take minutes a run.
Campaign, policies, pool, evidence, the choice of what a gradient says and the recipe of a
proposal are bigpe's; the language model and the pictures are modelled. A rewrite is the naive
prompt with the clauses that the exemplars share, each kept with probability 0.93; without any,
junk. What its picture is worth, `modelled_pictures` says. What wins here has still to win on the
models.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from embedded_world.modelled_pictures import score, worth

from bigpe.agents.bandit.pool import Pool
from bigpe.agents.campaign import campaign as campaigns
from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.core import (
    CritiqueRequested,
    Gradient,
    GradientsComputed,
    ImageScored,
    InstructionsProposed,
    Message,
    PromptsRewritten,
    ProposalRequested,
    ProposedInstruction,
    RenderRequested,
    RewriteRequested,
    Rewritten,
    start_run,
)
from bigpe.agents.reasoning.evidence_worded import clause_plan, instruction
from bigpe.agents.reasoning.evidence_worded.gradient import compose, sample_evidence
from bigpe.agents.reasoning.evidence_worded.style import RETRIEVED
from bigpe.agents.statistics.intervals import mean_interval
from bigpe.agents.statistics.moments import mean
from bigpe.prompts.library import professional_prompts
from bigpe.runtime import formatting
from bigpe.runtime.project.config import BigpeConfig, check_config
from bigpe.runtime.project.seed_files import seed_instructions
from bigpe.runtime.run.plan import make_plan, naive_set
from bigpe.services.core.errors import UnusableAnswerError
from bigpe.services.core.values import Instruction, derive_seed, digest
from bigpe.services.llm.service import LlmAnswer, LlmRequest
from bigpe.services.prompt_data.library import NoPrompts, SearchedPrompts, deduplicate, fts_query

KEPT = 0.93
"""Chance that a rewrite takes over a clause of the instruction."""
JUNK = (
    "a tower",
    "a sail",
    "being carried away",
    "a curtain moving",
    "a delicate feather",
    "a boat",
)
HELD_OUT = 60
"""Test prompts on which an instruction is judged."""


class Silent:
    """A language model whose answers cannot be used: what is composed is taken."""

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        raise UnusableAnswerError("silent", raw="")

    async def discard(self, effect_key: str) -> None:
        """Do nothing."""


class Library:
    """The packaged professional prompts, searched as a project's are."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE p USING fts5(text, tokenize='porter unicode61')")
        rows = [(prompt.text,) for prompt in professional_prompts("world")]
        self._db.executemany("INSERT INTO p(text) VALUES (?)", rows)

    async def search(self, text: str, limit: int) -> list[str]:
        query = fts_query(text)
        if not query:
            return []
        answer = "SELECT text FROM p WHERE p MATCH ? ORDER BY bm25(p), rowid LIMIT ?"
        return deduplicate([row[0] for row in self._db.execute(answer, (query, 3 * limit))])[:limit]


def rewritten(instruction: Instruction, naive: str, seed: int) -> str:
    """What the modelled Generator makes of a prompt."""
    rng = random.Random(seed)
    clauses = clause_plan.clauses_of(instruction)
    kept = [clause for clause in clauses if rng.random() < KEPT]
    if not clauses:
        kept = rng.sample(JUNK, 2)
    return ", ".join([naive, *kept])


class World:
    """Answers a campaign's requests."""

    def __init__(self, library: SearchedPrompts) -> None:
        self._library = library

    def reply(self, message: Message) -> Message | None:
        match message:
            case RewriteRequested():
                result = [
                    Rewritten(
                        naive=t.naive,
                        image_seed=t.image_seed,
                        text=rewritten(message.instruction, t.naive, t.llm_seed),
                    )
                    for t in message.tasks
                ]
                return PromptsRewritten.make(
                    message, instruction=message.instruction.id, rewrites=tuple(result)
                )
            case RenderRequested():
                return message.followed_by(
                    ImageScored,
                    image=digest([message.prompt, message.seed]),
                    score=score(message.naive, message.prompt, message.seed),
                    scorer="modelled",
                )
            case CritiqueRequested():
                return self._critique(message)
            case ProposalRequested():
                return self._propose(message)
            case _:
                return None

    def _critique(self, message: CritiqueRequested) -> Message:
        focuses = sample_evidence(
            message.rows, message.instruction, count=message.improvements, seed=message.seed
        )
        output = [compose(rows) for rows in focuses]
        gradients = [
            Gradient(
                inference=item.inference,
                improvement=item.improvement,
                evidence=item.evidence,
                composed=True,
            )
            for item in output
        ]
        return GradientsComputed.make(message, gradients=tuple(gradients))

    def _propose(self, message: ProposalRequested) -> Message:
        proposals: list[ProposedInstruction] = []
        living = list(message.living)
        for index, gradient in enumerate(message.gradients):
            query = " ".join([gradient.improvement, *message.batch])
            requests = instruction.propose(
                Silent(),
                gradient,
                message.rows,
                parent=message.instruction,
                professional=_now(self._library.search(query, RETRIEVED)),
                pairs=message.pairs,
                living=living,
                batch_prompts=message.batch,
                seed=derive_seed(message.seed, index),
            )
            outcome = _now(requests)
            if isinstance(outcome, instruction.Proposal):
                living.append(outcome.instruction)
                proposals.append(
                    ProposedInstruction(
                        instruction=outcome.instruction,
                        improvement=gradient.improvement,
                        composed=True,
                        author=gradient.author,
                    )
                )
        return InstructionsProposed.make(
            message, parent_instruction=message.instruction.id, proposals=tuple(proposals)
        )


def _now(requests: Any) -> Any:
    """The result of a coroutine that never waits."""
    try:
        requests.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


class Found(NamedTuple):
    """Where a run stood when it had used a budget; gains are noise-free and held out, x 100."""

    returned: float
    best_tried: float
    arms: int
    rounds: int


def simulate(config: BigpeConfig, library: Library, budgets: Sequence[int]) -> dict[int, Found]:
    """One run, seen at each budget of renders: a limit only withholds pulls, so a longer run begins
    as a shorter one."""
    splits = naive_set(config, Path())
    held_out = splits.of("test")[:HELD_OUT]
    searched = library if config.data.professional else NoPrompts()
    plan = _now(make_plan(config, splits.of("train"), seed_instructions(), searched))
    existing: dict[str, float] = {}
    campaign, answers = Campaign(), World(searched)
    waiting: list[Message] = [start_run("simulated", plan)]
    found: dict[int, Found] = {}
    applied = 0
    while waiting:
        outgoing = campaign.apply(waiting.pop(0))
        waiting += [a for message in outgoing if (a := answers.reply(message)) is not None]
        if campaign.applied > applied:
            applied = campaign.applied
            rows = [row for row in campaign.pool.rows() if row.mean is not None]
            new = (row.instruction for row in rows if row.instruction.id not in existing)
            existing |= {item.id: expected(item, held_out) for item in new}
            now = Found(
                existing.get(campaign.pool.best().instruction.id, 0.0),
                max(existing.values(), default=0.0),
                len(rows),
                applied,
            )
            found |= {budget: now for budget in budgets if campaign.used.renders <= budget}
    return found


def expected(instruction: Instruction, prompts: tuple[str, ...]) -> float:
    """The noise-free mean gain on the prompts, one scene each, x 100."""
    total = 0.0
    for naive in prompts:
        seed = derive_seed("judged", naive)
        text = rewritten(instruction, naive, derive_seed("judged", instruction.id, naive))
        total += worth(naive, text, seed) - worth(naive, naive, seed)
    return 100 * total / len(prompts)


def settings(changes: Sequence[str], renders: int) -> dict[str, Any]:
    """The configuration that `--set section.key=value` makes; `run` is the section by default."""
    raw: dict[str, Any] = {"run": {"rounds": 100_000}, "budget": {"renders": renders}}
    for change in changes:
        key, _, result = change.partition("=")
        section, _, name = key.rpartition(".")
        with suppress(ValueError):
            result = json.loads(result)
        raw.setdefault(section or "run", {})[name] = result
    return raw


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--renders", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="run seed")
    parser.add_argument("--growth", type=float, help="of the pool, in place of its own")
    parser.add_argument("--set", action="append", default=[], help="a setting, batch_size=3 say")
    result = parser.parse_args()
    if result.growth:
        campaigns.Pool = partial(Pool, pool_growth_factor=result.growth)
    raw = settings(result.set, max(result.renders))
    library = Library()
    runs: list[dict[int, Found]] = []
    for seed in range(result.first, result.first + result.seeds):
        raw["run"]["seed"] = seed
        runs.append(simulate(check_config(raw, where="--set"), library, result.renders))
        print(seed, *(f"{found.returned:+.2f}" for found in runs[-1].values()), file=sys.stderr)
    for budget in result.renders:
        found = [run[budget] for run in runs if budget in run]
        gain = mean_interval([item.returned for item in found])
        tried, arms, rounds = (mean([item[k] for item in found]) for k in (1, 2, 3))
        print(
            f"{budget} renders: gain {formatting.estimate(*gain)}; "
            f"best tried {tried:+.2f}; {arms:.1f} instructions in {rounds:.1f} rounds"
        )


if __name__ == "__main__":
    main()
