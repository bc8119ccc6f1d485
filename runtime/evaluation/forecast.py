"""Forecast of an evaluation: its calls, and their time and cost by the run's own figures.

A stored rewrite or image is free, and so are the scores of a stored image. A rewrite that is
not stored counts as one call and one image, although a model may need further attempts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bigpe.agents.messages.usage import FREE
from bigpe.runtime.evaluation.measure import (
    DISTRACTORS,
    NAIVE,
    Treatment,
    image_seed,
    treated,
    under,
)
from bigpe.runtime.evaluation.open_run import EvaluatedRun
from bigpe.runtime.evaluation.pipeline import (
    EvaluationSettings,
    all_treatments,
    ordered_prompts,
    target_of,
    validation_prompts,
)
from bigpe.runtime.evaluation.selection import shortlist, unmeasured
from bigpe.runtime.project.prices import PriceTable, price_table
from bigpe.runtime.run.resume.stored_run import require_stored_run
from bigpe.runtime.transcript.costs import usage_of
from bigpe.services.core.errors import BigpeError
from bigpe.services.core.values import LlmAnswer, LlmUsage, RenderRequest, Value
from bigpe.services.llm.service import LlmRequest, LlmService
from bigpe.services.processes.model_service import call_key
from bigpe.services.store.database import Store

MUCH_MORE = 2.0
"""Calls of the whole evaluation over those of the test part, from which a person must agree.

An evaluation of the packaged prompts with default options takes 1.5 times its test part, so it
starts without a question. With few test prompts (--prompts) the choice takes most of the calls.
"""


class Calls(Value):
    """Calls that are not stored yet."""

    llm: int = 0
    renders: int = 0
    scores: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(
            llm=self.llm + other.llm,
            renders=self.renders + other.renders,
            scores=self.scores + other.scores,
        )


class Forecast(Value):
    """Calls, time and cost of an evaluation before it starts."""

    selection: Calls
    """The choice on validation prompts."""
    test: Calls
    """The comparison on test prompts; an upper bound with `--until-significant`."""
    minutes: float | None
    """Working time of sequential calls; None if the run has not measured it."""
    usd: float | None
    """None if a price is not known, or the run has not measured the tokens of a call."""
    unpriced: tuple[str, ...] = ()
    """Models that will be called and have no price."""

    @property
    def total(self) -> Calls:
        """Both parts."""
        return self.selection + self.test

    @property
    def needs_consent(self) -> bool:
        """Whether the total exceeds `MUCH_MORE` times the test part."""
        total, test = (part.llm + part.renders for part in (self.total, self.test))
        return total > MUCH_MORE * test


async def forecast(run: EvaluatedRun, settings: EvaluationSettings) -> Forecast:
    """Forecast the evaluation without loading a model. ConfigError if a split is empty."""
    counter = _Counter(run, settings, await _renderer(run))
    candidates = shortlist(run.campaign.pool.rows(), settings.candidates)
    scores = 1 + len(run.services.guards)
    selection = Calls()
    if candidates and settings.candidates > 1:
        choices = [under(row.instruction, "") for row in candidates]
        selection = await counter.calls(choices, validation_prompts(run, settings), scores)
    prompts = ordered_prompts(run, settings)
    first = unmeasured(candidates[0]) if candidates else None
    treatments = await all_treatments(run, settings, first, prompts)
    if settings.until_significant:
        treatments = [NAIVE, target_of(settings, first)]
    test = await counter.calls(treatments, prompts, scores + DISTRACTORS)
    figures = await _figures(run.store, run.name)
    prices = price_table(run.config)
    total = selection + test
    return Forecast(
        selection=selection,
        test=test,
        minutes=_minutes(total, figures),
        usd=_usd(total, figures, prices),
        unpriced=_unpriced(total, prices),
    )


async def _renderer(run: EvaluatedRun) -> str:
    """Fingerprint of the run's renderer; empty if the run has none yet."""
    record = (await require_stored_run(run.store, run.name)).models.get("renderer")
    return record.fingerprint if record else ""


class _NotStoredError(BigpeError):
    """The answer of a request is not stored."""


class _StoredAnswers:
    """A language model that returns stored answers only."""

    def __init__(self, llm: LlmService, store: Store) -> None:
        self._llm = llm
        self._store = store

    async def ask(self, request: LlmRequest) -> LlmAnswer:
        """See `LlmClient.ask`. _NotStoredError if the answer is not stored."""
        row = await self._store.row("get_effect", key=await self._llm.stored_key(request))
        if row is None:
            raise _NotStoredError
        return LlmAnswer.model_validate_json(row["result"])

    async def discard(self, effect_key: str) -> None:
        """Do nothing: a forecast judges no answers."""


class _Counter:
    """Counts the calls of treatments; images that several treatments share count once."""

    def __init__(self, run: EvaluatedRun, settings: EvaluationSettings, renderer: str) -> None:
        self._run = run
        self._settings = settings
        self._renderer = renderer
        llm = run.services.llm("generator")
        self._answers = _StoredAnswers(llm, run.store)
        self._images: set[RenderRequest] = set()

    async def calls(
        self, treatments: Iterable[Treatment], prompts: Sequence[str], scores: int
    ) -> Calls:
        """The calls of these comparisons; `scores`: number of scores per image."""
        llm, renders = 0, 0
        for treatment in treatments:
            for prompt in prompts:
                for draw in range(self._settings.seeds):
                    done = await self._rewrite(treatment, prompt, draw)
                    llm += not done.stored
                    seed = image_seed(self._settings.seed, prompt, draw)
                    renders += await self._is_new(RenderRequest(prompt=prompt, seed=seed))
                    renders += await self._is_new(
                        RenderRequest(prompt=done.text, seed=seed, negative=done.negative)
                    )
        return Calls(llm=llm, renders=renders, scores=renders * scores)

    async def _rewrite(self, treatment: Treatment, prompt: str, draw: int) -> _Text:
        """What is rendered, and whether it needs no call."""
        if treatment.kind == "texts" and prompt not in treatment.texts:
            return _Text(prompt)  # a missing row
        try:
            style, seed = self._run.services.style, self._settings.seed
            done = await treated(style, self._answers, treatment, prompt, draw, seed=seed)
        except _NotStoredError:
            return _Text(f"{treatment.id} {prompt}", stored=False)
        return _Text(done.text, done.negative)

    async def _is_new(self, request: RenderRequest) -> bool:
        if request in self._images:
            return False
        self._images.add(request)
        _, key = call_key("render", self._renderer, request)
        return await self._run.store.row("get_effect", key=key) is None


class _Text(NamedTuple):
    """The text that a comparison renders."""

    text: str
    negative: str = ""
    stored: bool = True
    """Whether it is known without a call."""


class _Figures(NamedTuple):
    """Means of the run's own paid calls."""

    seconds: dict[str, float]
    """Seconds per call, by kind."""
    llm: LlmUsage
    """Sum of the generator's calls."""


async def _figures(store: Store, run: str) -> _Figures:
    calls: dict[str, int] = {}
    ms: dict[str, float] = {}
    llm = LlmUsage()
    for row in await store.rows("payments", run=run):
        if row["outcome"] != "answered":
            continue
        kind = row["kind"]
        calls[kind] = calls.get(kind, 0) + row["calls"]
        ms[kind] = ms.get(kind, 0.0) + row["ms"]
        if kind == "llm" and row["actor"] == "generator":
            llm += usage_of(row)
    return _Figures({kind: ms[kind] / 1000 / calls[kind] for kind in calls}, llm)


def _minutes(calls: Calls, figures: _Figures) -> float | None:
    counts = {"llm": calls.llm, "render": calls.renders, "score": calls.scores}
    if any(count and kind not in figures.seconds for kind, count in counts.items()):
        return None
    return sum(figures.seconds[kind] * count for kind, count in counts.items() if count) / 60


def _unpriced(calls: Calls, prices: PriceTable) -> tuple[str, ...]:
    counts = {
        prices.llm_row("generator"): calls.llm,
        prices.row("render"): calls.renders,
        prices.row("score"): calls.scores,
    }
    return tuple(row.model for row, count in counts.items() if count and row.price is None)


def _usd(calls: Calls, figures: _Figures, prices: PriceTable) -> float | None:
    llm, render, score = prices.llm("generator"), prices.each("render"), prices.each("score")
    measured = figures.llm
    if (calls.renders and render is None) or (calls.scores and score is None):
        return None
    pictures = calls.renders * (render or 0) + calls.scores * (score or 0)
    if not calls.llm or llm == FREE:
        return pictures
    if llm is None or not measured.calls:
        return None
    # Scale the price of the sum, because mean tokens per call would have to be rounded.
    return pictures + llm.usd(measured) * calls.llm / measured.calls
