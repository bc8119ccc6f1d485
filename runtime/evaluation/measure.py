"""Measures treatments of naive prompts: rewrites, renders and scores each prompt at fixed seeds.

All calls go through the call cache, so an interrupted measurement pays only for new calls. Results
of held-out prompts stay hidden from runs (see `bigpe.services.store.held_out`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import ConfigDict, Field

from bigpe.agents.diagnostics.alarm import FIRST, RewriteOutcome, alarm, outcome_of
from bigpe.agents.evidence.terms import subject_kept, subject_words, words
from bigpe.agents.messages.answer_fault import AnswerFault
from bigpe.agents.reasoning.interface import ReasoningStyle
from bigpe.agents.reasoning.rewriting import Rewrite
from bigpe.runtime.run.services import Services
from bigpe.services.core.errors import STOPS_RUN, AlarmError, BigpeError
from bigpe.services.core.retrying import RetryRule, all_results, retry
from bigpe.services.core.values import (
    Image,
    Instruction,
    LlmUsage,
    NegativePrompt,
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
"""Other prompts that an image is compared with, to check whether it shows its own."""
IN_FLIGHT = 16
"""Most comparisons in flight; the services' queues batch their images."""


class Treatment(Value):
    """The change of a naive prompt before it is rendered."""

    name: str
    """Title in reports."""
    kind: Kind
    """Unchanged; rewritten without an instruction; rewritten with it; replaced by given texts."""
    instruction: Instruction | None = None
    texts: dict[str, str] = Field(default_factory=dict)
    """Text by naive prompt, for kind "texts"; other prompts are missing."""

    @property
    def id(self) -> str:
        """Digest of all fields except the name."""
        return digest(self.model_dump(mode="json", exclude={"name"}))[:32]


NAIVE = Treatment(name="naive", kind="naive")
PLAIN = Treatment(name="LLM without instruction", kind="plain")


def under(instruction: Instruction, name: str) -> Treatment:
    """The treatment with an instruction."""
    return Treatment(name=name, kind="instruction", instruction=instruction)


class GuardPair(Value):
    """A guard's scores of both images."""

    naive: float
    score: float

    @property
    def gain(self) -> float:
        """Difference of the scores, in the guard's units."""
        return self.score - self.naive


class EvaluationRow(Value):
    """A naive prompt at one seed under one treatment, compared with the naive image."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    treatment: str
    prompt: str
    """The naive prompt; all scores are against it."""
    seed: int
    """Seed of both images."""
    text: str = ""
    """The rendered text; empty if the comparison is missing without one."""
    negative: NegativePrompt = ""
    """The negative prompt of the rewrite."""
    naive_score: float | None = None
    score: float | None = None
    gain: float | None = None
    """score - naive_score, score units; exactly 0 for a fallback; None: missing."""
    fallback: str | None = None
    """Reason why the rewrite was not usable and the naive prompt was rendered."""
    fault: AnswerFault | None = None
    """The class of `fallback`."""
    failure: str | None = None
    """Cause of a missing comparison: a failed service, or no text for this prompt."""
    truncated: int = 0
    """Tokens of `text` that the renderer's tokenizers cut off."""
    words: int = 0
    subject_kept: bool = True
    guards: dict[str, GuardPair] = Field(default_factory=dict)
    held_against: int = 0
    """Number of other prompts that both images were compared with."""
    rewrite_shown: bool | None = Field(default=None, alias="shown")
    """Whether the image suits its naive prompt better than all others; None: not checked."""
    naive_shown: bool | None = None
    """Whether the naive image does."""
    usage: LlmUsage = LlmUsage()
    naive_image: str = ""
    image: str = ""


class _Sides(NamedTuple):
    naive: Image
    rendered: Image


def image_seed(seed: int, prompt: str, draw: int) -> int:
    """The image seed number `draw` of a prompt in evaluations with `seed`; runs use others."""
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
    """Measure a treatment on prompts. Equal arguments and equal services give equal rows.

    A failed service gives a row with its cause and no gain. A rewrite that cannot be used gives a
    row with gain 0. Errors of `STOPS_RUN` propagate.

    Args:
        services: language model, renderer, scorer and guards.
        treatment: the treatment of all prompts.
        prompts: naive prompts.
        seeds: images per prompt.
        seed: decides the image seeds and the seeds of the language model.
        others: prompts that an image is compared with, to check whether it shows its own prompt.
            The first guard scores them, or else the scorer.
        retry: rule for failed calls.
        on_row: called with each row as soon as it exists, in any order.

    Returns:
        `seeds` rows per prompt, in the order of `prompts`.
    """
    measurer = _Measurer(services, treatment, seed, others, retry or RetryRule())
    slots = asyncio.Semaphore(IN_FLIGHT)

    first = FirstRows(treatment)
    failed = False

    async def measured(number: int, prompt: str, draw: int) -> EvaluationRow | None:
        nonlocal failed
        async with slots:
            if failed:
                return None
            try:
                row = await measurer.row(prompt, draw)
                first.add(number, row)
            except BaseException:
                # No further comparison begins. Those that wait for a service give up.
                failed = True
                services.watch.abandon()
                raise
        if on_row is not None:
            on_row(row)
        return row

    pairs = [(prompt, draw) for prompt in prompts for draw in range(seeds)]
    try:
        rows = await all_results(measured(number, *pair) for number, pair in enumerate(pairs))
    except AlarmError:
        # The next evaluation may have a mended model: it must not meet the same answers.
        await services.memory.begin_again()
        raise
    return [row for row in rows if row is not None]


async def treated(
    style: ReasoningStyle,
    llm: LlmClient,
    treatment: Treatment,
    prompt: str,
    draw: int,
    *,
    seed: int,
) -> Rewrite:
    """The text that is rendered for `prompt` under the treatment; `draw`: index of the seed.

    BigpeError if the treatment has no text for the prompt or the model fails.
    """
    if treatment.kind == "naive":
        return Rewrite(naive=prompt, text=prompt)
    if treatment.kind == "texts":
        if prompt not in treatment.texts:
            raise BigpeError(f"{treatment.name}: there is none for this prompt")
        return Rewrite(naive=prompt, text=treatment.texts[prompt])
    llm_seed = derive_seed(seed, "evaluation-llm", prompt, draw)
    return await style.rewrite(llm, treatment.instruction, prompt, llm_seed)


def distractors(prompt: str, others: Sequence[str]) -> list[str]:
    """At most `DISTRACTORS` prompts of other subjects; equal arguments give equal prompts."""
    own = subject_words(prompt)
    apart = [other for other in set(others) if not own & subject_words(other)]
    apart.sort(key=lambda other: (derive_seed("distractor", prompt, other), other))
    return apart[:DISTRACTORS]


def gains_by_prompt(rows: Sequence[EvaluationRow]) -> dict[str, list[float]]:
    """The gains by prompt, over its seeds; prompts without gains are left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.gain is not None:
            found[row.prompt].append(row.gain)
    return dict(found)


def guard_gains(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, list[float]]]:
    """The gains by guard and prompt, over the seeds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, pair in row.guards.items():
            found[name][row.prompt].append(pair.gain)
    return {name: dict(groups) for name, groups in found.items()}


class FirstRows:
    """The alarm about the first rewrites under an instruction, see `agents.diagnostics.alarm`."""

    def __init__(self, treatment: Treatment) -> None:
        self._treatment = treatment
        self._first: dict[int, RewriteOutcome] = {}

    def add(self, number: int, row: EvaluationRow) -> None:
        """Note row number `number` (from 0). AlarmError once the first rows raise the alarm."""
        if number >= FIRST or self._treatment.kind != "instruction":
            return
        outcome = outcome_of(row.prompt, row.fallback, row.fault)
        if row.failure is not None and not row.text:
            update = {"reason": "failed", "cause": row.failure, "failed": True}
            outcome = outcome.model_copy(update=update)
        self._first[number] = outcome
        if reason := alarm([self._first[key] for key in sorted(self._first)]):
            raise AlarmError(f"{self._treatment.name}: {reason}")


class _Measurer:
    """Measures prompts under one treatment."""

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
        """The comparison, or a row with the cause of its absence."""
        row = EvaluationRow(
            treatment=self._treatment.id, prompt=prompt, seed=image_seed(self._seed, prompt, draw)
        )
        services, llm = self._services, self._services.llm("generator")
        done = await _attempt(
            lambda: treated(services.style, llm, self._treatment, prompt, draw, seed=self._seed),
            self._retry,
        )
        if isinstance(done, str):
            return row.model_copy(update={"failure": done})
        row = row.model_copy(
            update={
                "text": done.text,
                "negative": done.negative,
                "fallback": done.fallback,
                "fault": done.fault,
                "usage": done.usage,
                "words": len(words(done.text)),
                "subject_kept": subject_kept(prompt, done.text),
            }
        )
        scored = await _attempt(lambda: self._scored(row), self._retry)
        return row.model_copy(update={"failure": scored}) if isinstance(scored, str) else scored

    async def _scored(self, row: EvaluationRow) -> EvaluationRow:
        sides = _Sides(
            *await all_results(
                [self._render(row.prompt, row), self._render(row.text, row, row.negative)]
            )
        )
        naive, score = await self._both(self._services.score, row, sides)
        guards = {
            name: GuardPair.model_validate(
                dict(zip(("naive", "score"), await self._both(guard, row, sides), strict=True))
            )
            for name, guard in self._services.guards.items()
        }
        against = distractors(row.prompt, self._others)
        rewrite_shown, naive_shown = await self._prompt_shown(against, row, sides)
        return row.model_copy(
            update={
                "held_against": len(against),
                "rewrite_shown": rewrite_shown,
                "naive_shown": naive_shown,
                "naive_score": naive,
                "score": score,
                "gain": score - naive,
                "guards": guards,
                "truncated": max(sides.rendered.truncated_tokens.values(), default=0),
                "naive_image": sides.naive.digest,
                "image": sides.rendered.digest,
            }
        )

    async def _prompt_shown(
        self, against: Sequence[str], row: EvaluationRow, sides: _Sides
    ) -> tuple[bool | None, bool | None]:
        """Whether the naive prompt suits the rewrite's and the naive image best."""
        if not against:
            return None, None
        scorer = next(iter(self._services.guards.values()), self._services.score)

        async def best(side: Image) -> bool:
            own, *rest = await all_results(
                scorer.score(ScoreRequest(image=side.digest, prompt=prompt))
                for prompt in (row.prompt, *against)
            )
            return all(own.value > other.value for other in rest)

        rewrite_shown, naive_shown = await all_results([best(sides.rendered), best(sides.naive)])
        return rewrite_shown, naive_shown

    async def _render(self, prompt: str, row: EvaluationRow, negative: str = "") -> Image:
        request = RenderRequest(prompt=prompt, seed=row.seed, negative=negative)
        return await self._services.render.render(request)

    async def _both(
        self, scorer: ScoreService, row: EvaluationRow, sides: _Sides
    ) -> tuple[float, float]:
        naive, rendered = await all_results(
            scorer.score(ScoreRequest(image=side.digest, prompt=row.prompt)) for side in sides
        )
        return naive.value, rendered.value


async def _attempt(work: Callable[[], Awaitable[T]], rule: RetryRule) -> T | str:
    """The result of `work`, or the cause of its failure after the last attempt."""
    try:
        return await retry(work, rule)
    except STOPS_RUN:
        raise
    except BigpeError as error:
        return str(error)
