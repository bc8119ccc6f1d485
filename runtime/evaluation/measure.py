"""Measuring treatments of naive prompts: rewrite, paint and score each at fixed seeds, paired.

Everything is asked of the memoised services, so a measurement that was interrupted, or that shares
pictures with another, pays only for what is new. Which prompts are measured is the caller's
choice; what is known of held-out ones stays out of a run's sight (see `services.held_out`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from bigpe.agents.evidence.terms import subject_kept, subject_words, words
from bigpe.agents.reasoning.constraints import NONE, Constraints
from bigpe.agents.reasoning.rewriting import Rewrite, rewrite
from bigpe.runtime.run.services import Services
from bigpe.services.core.errors import STOPS_RUN, BigpeError
from bigpe.services.core.retrying import RetryRule, retry
from bigpe.services.core.values import (
    Image,
    Instruction,
    LlmUsage,
    RenderRequest,
    ScoreRequest,
    Value,
    derive_seed,
    digest,
)
from bigpe.services.llm.service import LlmClient
from bigpe.services.score.service import ScoreService

T = TypeVar("T")
Kind = Literal["naive", "plain", "instruction", "texts"]

DISTRACTORS = 3
"""Other prompts that a picture is held against, to see whether it shows its own."""
IN_FLIGHT = 16
"""Comparisons under way at a time; the services' queues batch their pictures."""


class Treatment(Value):
    """What is done to a naive prompt before it is painted."""

    name: str
    """For people."""
    kind: Kind
    """As it is; by the LLM told nothing but its role; under an instruction; by given texts."""
    instruction: Instruction | None = None
    texts: dict[str, str] = Field(default_factory=dict)
    """With "texts": what is painted for a naive prompt; prompts that are not in it are missing."""

    @property
    def id(self) -> str:
        """Content address of all but the name."""
        return digest(self.model_dump(mode="json", exclude={"name"}))[:32]


NAIVE = Treatment(name="naive", kind="naive")
PLAIN = Treatment(name="LLM without instruction", kind="plain")


def under(instruction: Instruction, name: str) -> Treatment:
    """The treatment that an instruction is."""
    return Treatment(name=name, kind="instruction", instruction=instruction)


class GuardPair(Value):
    """What a second scorer says of both pictures."""

    naive: float
    score: float

    @property
    def gain(self) -> float:
        """In the guard's own units."""
        return self.score - self.naive


class EvaluationRow(Value):
    """One naive prompt at one seed under one treatment, against the untouched prompt."""

    treatment: str
    prompt: str
    """The naive prompt; all scores are against it."""
    seed: int
    """Of both pictures."""
    text: str = ""
    """What was painted; empty when that was not known."""
    naive_score: float | None = None
    score: float | None = None
    gain: float | None = None
    """score - naive_score, score units; exactly 0 for a fallback; None: missing."""
    fallback: str | None = None
    """Why the rewrite was not usable, so that the naive prompt was painted."""
    failure: str | None = None
    """Why the comparison is missing: a service failed, or there is no text for this prompt."""
    truncated: int = 0
    """Tokens of `text` that the renderer's tokenizers cut off."""
    words: int = 0
    subject_kept: bool = True
    guards: dict[str, GuardPair] = Field(default_factory=dict)
    held_against: int = 0
    """Other prompts that both pictures were held against."""
    shown: bool | None = None
    """Whether the picture suits its naive prompt better than any of those; None: not looked at."""
    naive_shown: bool | None = None
    """The same of the naive prompt's picture."""
    usage: LlmUsage = LlmUsage()
    naive_image: str = ""
    image: str = ""


class _Sides(NamedTuple):
    naive: Image
    painted: Image


def image_seed(seed: int, prompt: str, draw: int) -> int:
    """The `draw`-th picture seed of a prompt in evaluations with `seed`; no run draws it."""
    return derive_seed(seed, "evaluation-image", prompt, draw)


async def measure(
    services: Services,
    treatment: Treatment,
    prompts: Sequence[str],
    *,
    seeds: int = 1,
    seed: int = 0,
    others: Sequence[str] = (),
    retry: RetryRule | None = None,
    on_row: Callable[[EvaluationRow], None] | None = None,
) -> list[EvaluationRow]:
    """Rows by prompt in the order given, `seeds` each; `seed` decides the picture and LLM seeds.

    Equal arguments and equal services give equal rows. A failed service makes a row with its cause
    and no gain; a rewrite that cannot be used makes one with gain 0. Errors of `STOPS_RUN`
    propagate. `others`: prompts of which some are held against each picture, by the first guard or
    else the scorer, to see whether the picture still shows what was asked. `on_row` hears of each
    row when it is there, in any order.
    """
    meter = _Measurer(services, treatment, seed, others, retry or RetryRule())
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(prompt: str, draw: int) -> EvaluationRow:
        async with slots:
            row = await meter.row(prompt, draw)
        if on_row is not None:
            on_row(row)
        return row

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(prompt, draw)) for prompt in prompts for draw in range(seeds)
            ]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed  # the others broke by the same cause
    return [task.result() for task in tasks]


async def treated(
    llm: LlmClient,
    treatment: Treatment,
    prompt: str,
    draw: int,
    *,
    seed: int,
    rules: Constraints = NONE,
) -> Rewrite:
    """What is painted for `prompt` under the treatment; `draw`: index of the seed.

    BigpeError when the treatment has no text for the prompt, or when the model fails.
    """
    if treatment.kind == "naive":
        return Rewrite(naive=prompt, text=prompt)
    if treatment.kind == "texts":
        if prompt not in treatment.texts:
            raise BigpeError(f"{treatment.name}: there is none for this prompt")
        return Rewrite(naive=prompt, text=treatment.texts[prompt])
    llm_seed = derive_seed(seed, "evaluation-llm", prompt, draw)
    return await rewrite(llm, treatment.instruction, prompt, llm_seed, rules)


def distractors(prompt: str, others: Sequence[str]) -> list[str]:
    """At most `DISTRACTORS` prompts of other subjects; equal arguments give equal prompts."""
    own = subject_words(prompt)
    apart = [other for other in set(others) if not own & subject_words(other)]
    apart.sort(key=lambda other: (derive_seed("distractor", prompt, other), other))
    return apart[:DISTRACTORS]


def gains_by_prompt(rows: Sequence[EvaluationRow]) -> dict[str, list[float]]:
    """The gains of each prompt over its seeds; prompts without any are left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.gain is not None:
            found[row.prompt].append(row.gain)
    return dict(found)


def guard_gains(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, list[float]]]:
    """For each guard, its gains of each prompt over the seeds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, pair in row.guards.items():
            found[name][row.prompt].append(pair.gain)
    return {name: dict(groups) for name, groups in found.items()}


class _Measurer:
    """Measures one treatment."""

    def __init__(
        self,
        services: Services,
        treatment: Treatment,
        seed: int,
        others: Sequence[str],
        retry: RetryRule,
    ) -> None:
        self._services = services
        self._treatment = treatment
        self._seed = seed
        self._others = others
        self._retry = retry

    async def row(self, prompt: str, draw: int) -> EvaluationRow:
        """The comparison, or why it is missing."""
        row = EvaluationRow(
            treatment=self._treatment.id, prompt=prompt, seed=image_seed(self._seed, prompt, draw)
        )
        services, llm = self._services, self._services.llm("generator")
        done = await _attempt(
            lambda: treated(
                llm, self._treatment, prompt, draw, seed=self._seed, rules=services.constraints
            ),
            self._retry,
        )
        if isinstance(done, str):
            return row.model_copy(update={"failure": done})
        row = row.model_copy(
            update={
                "text": done.text,
                "fallback": done.fallback,
                "usage": done.usage,
                "words": len(words(done.text)),
                "subject_kept": subject_kept(prompt, done.text),
            }
        )
        scored = await _attempt(lambda: self._scored(row), self._retry)
        return row.model_copy(update={"failure": scored}) if isinstance(scored, str) else scored

    async def _scored(self, row: EvaluationRow) -> EvaluationRow:
        sides = _Sides(
            *await asyncio.gather(self._paint(row.prompt, row), self._paint(row.text, row))
        )
        naive, score = await self._both(self._services.score, row, sides)
        guards = {
            name: GuardPair.model_validate(
                dict(zip(("naive", "score"), await self._both(guard, row, sides), strict=True))
            )
            for name, guard in self._services.guards.items()
        }
        against = distractors(row.prompt, self._others)
        shown, naive_shown = await self._shown(against, row, sides)
        return row.model_copy(
            update={
                "held_against": len(against),
                "shown": shown,
                "naive_shown": naive_shown,
                "naive_score": naive,
                "score": score,
                "gain": score - naive,
                "guards": guards,
                "truncated": max(sides.painted.truncated_tokens.values(), default=0),
                "naive_image": sides.naive.digest,
                "image": sides.painted.digest,
            }
        )

    async def _shown(
        self, against: Sequence[str], row: EvaluationRow, sides: _Sides
    ) -> tuple[bool | None, bool | None]:
        """Whether the painted and the naive picture suit the naive prompt best of all."""
        if not against:
            return None, None
        judge = next(iter(self._services.guards.values()), self._services.score)

        async def best(side: Image) -> bool:
            own, *rest = await asyncio.gather(
                *(
                    judge.score(ScoreRequest(image=side.digest, prompt=prompt))
                    for prompt in (row.prompt, *against)
                )
            )
            return all(own.value > other.value for other in rest)

        painted, naive = await asyncio.gather(best(sides.painted), best(sides.naive))
        return painted, naive

    async def _paint(self, prompt: str, row: EvaluationRow) -> Image:
        return await self._services.render.render(RenderRequest(prompt=prompt, seed=row.seed))

    async def _both(
        self, scorer: ScoreService, row: EvaluationRow, sides: _Sides
    ) -> tuple[float, float]:
        naive, painted = await asyncio.gather(
            *(scorer.score(ScoreRequest(image=side.digest, prompt=row.prompt)) for side in sides)
        )
        return naive.value, painted.value


async def _attempt(work: Callable[[], Awaitable[T]], rule: RetryRule) -> T | str:
    """The result of `work`, or the cause of its failure after the last attempt."""
    try:
        return await retry(work, rule)
    except STOPS_RUN:
        raise
    except BigpeError as error:
        return str(error)
