"""Ratings by people: pairs of images, votes, and their statistics.

A pair has the images of two treatments of a naive prompt, at the same seed. The sides and the order
of the pairs come from a hash of run, rater and pair. So a rater cannot guess the treatment of a
side, and a later visit has the same order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from bigpe.agents.messages.core import ArmPulled
from bigpe.agents.statistics.agreement import cohen_kappa, share_interval
from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.evaluation.measure import EvaluationRow, under
from bigpe.runtime.formatting import counted
from bigpe.runtime.transcript.reader import messages
from bigpe.runtime.transcript.summary import RunSummary
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction, Value, derive_seed, digest
from bigpe.services.store.database import Store

Choice = Literal["first", "second", "tie"]
NAIVE = "naive"
HELD_OUT, TRAIN = "test", "train"


class Side(NamedTuple):
    """An image and its score against the naive prompt."""

    image: str
    score: float


class RatingPair(NamedTuple):
    """Two images of a naive prompt at the same seed."""

    prompt: str
    seed: int
    first: Side
    second: Side

    @property
    def key(self) -> str:
        """Name of the pair on the page; it does not reveal the treatments."""
        return digest([self.prompt, self.seed, self.first.image, self.second.image])[:32]

    def first_is_left(self, run: str, rater: str) -> bool:
        """Whether the first image is on the left for this rater."""
        return derive_seed(run, rater, "side", self.prompt, self.seed) % 2 == 0


class Question(NamedTuple):
    """The pairs of two treatments that people rate."""

    first: str
    """"naive", or an instruction's id; also for `second`."""
    second: str
    """"naive", or an instruction's id."""
    source: str
    """"test": images of an evaluation's held-out prompts; "train": of the run's own rounds."""
    pairs: list[RatingPair]
    equal: int
    """Comparisons with the same image on both sides (a fallback), which are not rated."""


def treatment_of(facts: RunSummary, named: str) -> str:
    """The treatment of "naive", "best" or the start of an instruction's id.

    ConfigError if there is no such instruction, or several.
    """
    if named == NAIVE:
        return NAIVE
    if named == "best":
        return facts.best
    fitting = [id for id in facts.arms if named and id.startswith(named)]
    if len(fitting) != 1:
        raise ConfigError(
            f"{named!r} names {len(fitting)} instructions of the run; use naive, best or the start "
            "of an id that `bigpe inspect --pool` shows"
        )
    return fitting[0]


async def question_of(
    store: Store, facts: RunSummary, run: str, first: str, second: str
) -> Question:
    """The pairs of two treatments (ids): of held-out prompts if some were evaluated, else train.

    ConfigError if no prompt was rendered with the same seed under both.
    """
    if first == second:
        raise ConfigError("there is nothing to compare: both sides are the same")
    for source in (HELD_OUT, TRAIN):
        sides = [await _sides(store, facts, run, id, source) for id in (first, second)]
        both = sorted(sides[0].keys() & sides[1].keys())
        pairs = [RatingPair(*place, sides[0][place], sides[1][place]) for place in both]
        distinct = [pair for pair in pairs if pair.first.image != pair.second.image]
        if distinct:
            return Question(first, second, source, distinct, len(pairs) - len(distinct))
    raise ConfigError(
        f"no naive prompt was rendered with the same seed under both {first[:8]} and "
        f"{second[:8]}; run `bigpe evaluate` to render held-out prompts under the best and the "
        "first instruction"
    )


Place = tuple[str, int]


async def _sides(
    store: Store, facts: RunSummary, run: str, treatment: str, source: str
) -> dict[Place, Side]:
    if source == HELD_OUT:
        instruction = None if treatment == NAIVE else facts.arms[treatment].instruction
        return await _held_out_sides(store, run, instruction)
    found: dict[Place, Side] = {}
    async for _, _, pulled in messages(store, run, ArmPulled):
        for gain in pulled.gains:
            if treatment == NAIVE:
                found[gain.naive, gain.seed] = Side(gain.naive_image, gain.naive_score)
            elif pulled.instruction == treatment:
                found[gain.naive, gain.seed] = Side(gain.image, gain.score)
    return found


async def _held_out_sides(
    store: Store, run: str, instruction: Instruction | None
) -> dict[Place, Side]:
    wanted = None if instruction is None else under(instruction, "").id
    found: dict[Place, Side] = {}
    for stored in await store.rows("evaluation_rows", run=run, split=HELD_OUT):
        if wanted is not None and stored["treatment"] != wanted:
            continue
        row = EvaluationRow.model_validate_json(stored["body"])
        image, score = (
            (row.naive_image, row.naive_score) if wanted is None else (row.image, row.score)
        )
        if image and score is not None:
            found[row.prompt, row.seed] = Side(image, score)
    return found


def in_order(pairs: Sequence[RatingPair], run: str, rater: str, limit: int) -> list[RatingPair]:
    """Up to `limit` pairs in the rater's order, which is by hash."""
    return sorted(pairs, key=lambda p: digest([run, rater, "order", p.prompt, p.seed]))[:limit]


class Vote(Value):
    """A rater's choice for a pair."""

    run: str
    rater: str
    first: str
    second: str
    source: str
    prompt: str
    seed: int
    first_image: str
    second_image: str
    first_score: float
    second_score: float
    left_side: Literal["first", "second"]
    """The image on the left."""
    choice: Choice
    ms: float
    """Time from the page to the vote."""
    ts: float
    """Unix time, seconds."""


async def votes_of(store: Store, run: str, first: str, second: str) -> list[Vote]:
    """All votes on two treatments, in order of arrival."""
    rows = await store.rows("votes", run=run, first=first, second=second)
    return [Vote.model_validate(dict(row)) for row in rows]


async def reports_of(store: Store, run: str) -> list[tuple[str, str, RatingReport]]:
    """The reports of all rated pairs of treatments, with the ids of both."""
    rows = await store.rows("voted", run=run)
    rated = [(str(row["first"]), str(row["second"])) for row in rows]
    return [(*ids, report_of(await votes_of(store, run, *ids))) for ids in rated]


# -- statistics -------------------------------------------------------------------------------


class RatingReport(Value):
    """Statistics of the votes on two treatments.

    Shares are shares of pairs: each pair counts once, by the majority of its raters.
    """

    votes: int
    raters: tuple[str, ...]
    pairs: int
    wins: int
    """Pairs whose second image is preferred."""
    losses: int
    ties: int
    """Pairs without a preferred image: votes for both sides are equal, or at least as many votes
    see no difference."""
    win_rate: float | None
    """wins / (wins + losses); None without a decided pair."""
    win_rate_interval: tuple[float, float] | None
    """95% interval by Wilson."""
    tie_share: float | None
    """ties / pairs; None without a pair. If it is high, the win rate has little weight."""
    tie_share_interval: tuple[float, float] | None
    judged_by_scorer: int
    """Decided pairs with unequal scores."""
    agreement: float | None
    """Share of these pairs in which the scorer prefers the same image as people."""
    agreement_interval: tuple[float, float] | None
    kappa: float | None
    """Cohen's kappa of people and scorer on these pairs; None if it is not defined."""
    left_share: float | None
    """Share of decided votes for the left image; far from 0.5, a rater clicks one side."""


def report_of(votes: Sequence[Vote]) -> RatingReport:
    """Compute the statistics of the votes on two treatments."""
    by_pair: defaultdict[Place, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.prompt, vote.seed].append(vote)
    verdicts = [(_majority(group), group[0]) for group in by_pair.values()]
    wins = sum(verdict == "second" for verdict, _ in verdicts)
    losses = sum(verdict == "first" for verdict, _ in verdicts)
    judged = [
        (verdict, "second" if vote.second_score > vote.first_score else "first")
        for verdict, vote in verdicts
        if verdict != "tie" and vote.second_score != vote.first_score
    ]
    ties = len(by_pair) - wins - losses
    agreed = sum(people == scorer for people, scorer in judged)
    decided = [vote for vote in votes if vote.choice != "tie"]
    left = sum(vote.choice == vote.left_side for vote in decided)
    return RatingReport(
        votes=len(votes),
        raters=tuple(sorted({vote.rater for vote in votes})),
        pairs=len(by_pair),
        wins=wins,
        losses=losses,
        ties=ties,
        win_rate=wins / (wins + losses) if wins + losses else None,
        win_rate_interval=_bounds(share_interval(wins, wins + losses)),
        tie_share=ties / len(by_pair) if by_pair else None,
        tie_share_interval=_bounds(share_interval(ties, len(by_pair))),
        judged_by_scorer=len(judged),
        agreement=agreed / len(judged) if judged else None,
        agreement_interval=_bounds(share_interval(agreed, len(judged))),
        kappa=cohen_kappa(judged),
        left_share=left / len(decided) if decided else None,
    )


def _majority(group: Sequence[Vote]) -> Choice:
    counts = Counter[Any](vote.choice for vote in group)
    if counts["first"] == counts["second"]:
        return "tie"
    preferred: Choice = "first" if counts["first"] > counts["second"] else "second"
    return preferred if counts[preferred] > counts["tie"] else "tie"


def _bounds(interval: Interval | None) -> tuple[float, float] | None:
    if interval is None or interval.lo is None or interval.hi is None:
        return None
    return interval.lo, interval.hi


# -- text --------------------------------------------------------------------------------------


def rating_lines(report: RatingReport, first: str, second: str) -> list[str]:
    """The report as lines; `first` and `second` are treatments: "naive" or an instruction's id."""
    first, second = (id if id == NAIVE else id[:8] for id in (first, second))
    if not report.votes:
        return [f"no votes yet on {first} against {second}; collect some with `bigpe rate`"]
    lines = [
        f"{counted(report.votes, 'vote')} of {counted(len(report.raters), 'rater')} on "
        f"{counted(report.pairs, 'pair')}: {second} preferred on {report.wins}, {first} on "
        f"{report.losses}, neither on {report.ties}",
        f"win rate of {second}: {_share_text(report.win_rate, report.win_rate_interval)} "
        "of the decided pairs (Wilson)",
        f"ties: {_share_text(report.tie_share, report.tie_share_interval)} of all pairs "
        "(no visible difference, or raters disagree)",
        f"the scorer agrees on {_share_text(report.agreement, report.agreement_interval)} of "
        f"{counted(report.judged_by_scorer, 'pair')}; Cohen's kappa "
        f"{'-' if report.kappa is None else f'{report.kappa:+.2f}'}",
    ]
    if report.left_share is not None:
        lines.append(f"votes for the left picture: {100 * report.left_share:.0f}%")
    return lines


def _share_text(share: float | None, bounds: tuple[float, float] | None) -> str:
    if share is None or bounds is None:
        return "-"
    return f"{100 * share:.0f}% [{100 * bounds[0]:.0f}%, {100 * bounds[1]:.0f}%]"
