"""What people prefer: pairs of pictures to judge, votes, and what the votes say.

A pair is two treatments of one naive prompt, painted with the same seed. Which one stands left, and
the order of the pairs, come from a hash of run, rater and pair: nobody can tell a side by a rule,
and a rater who comes back goes on where they stopped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from bigpe.agents.messages.core import ArmPulled
from bigpe.agents.statistics.agreement import cohen_kappa, share_interval
from bigpe.agents.statistics.intervals import Interval
from bigpe.runtime.evaluation.measure import EvaluationRow, under
from bigpe.runtime.transcript.reader import messages
from bigpe.runtime.transcript.summary import RunSummary
from bigpe.services.core.errors import ConfigError
from bigpe.services.core.values import Instruction, Value, derive_seed, digest
from bigpe.services.store.database import Store

Choice = Literal["first", "second", "tie"]
NAIVE = "naive"
HELD_OUT, TRAIN = "test", "train"


class Side(NamedTuple):
    """A picture and its score against the naive prompt."""

    image: str
    score: float


class RatingPair(NamedTuple):
    """Two pictures of one naive prompt and seed."""

    prompt: str
    seed: int
    first: Side
    second: Side

    @property
    def key(self) -> str:
        """Its name on the page; says nothing of the treatments."""
        return digest([self.prompt, self.seed, self.first.image, self.second.image])[:32]

    def first_is_left(self, run: str, rater: str) -> bool:
        """Where the first picture stands for this rater."""
        return derive_seed(run, rater, "side", self.prompt, self.seed) % 2 == 0


class Question(NamedTuple):
    """What people are asked of a run."""

    first: str
    """"naive", or an instruction's id; also for `second`."""
    second: str
    source: str
    """"test": pictures of an evaluation's held-out prompts; "train": of the run's own rounds."""
    pairs: list[RatingPair]
    equal: int
    """Comparisons with the same picture on both sides (a fallback): nothing to judge."""


def treatment_of(facts: RunSummary, named: str) -> str:
    """ "naive", "best" or the start of an instruction's id, as an id. ConfigError if it is none."""
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
    """The pairs for two treatments (ids): of held-out prompts if any were evaluated, else train.

    ConfigError when no prompt and seed was painted under both.
    """
    if first == second:
        raise ConfigError("there is nothing to compare: both sides are the same")
    for source in (HELD_OUT, TRAIN):
        sides = [await _sides(store, facts, run, one, source) for one in (first, second)]
        both = sorted(sides[0].keys() & sides[1].keys())
        pairs = [RatingPair(*place, sides[0][place], sides[1][place]) for place in both]
        told = [pair for pair in pairs if pair.first.image != pair.second.image]
        if told:
            return Question(first, second, source, told, len(pairs) - len(told))
    raise ConfigError(
        f"no naive prompt was painted with the same seed under both {first[:8]} and {second[:8]}; "
        "`bigpe evaluate` paints held-out prompts under the best and the first instruction"
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
    """The rater's pairs, at most `limit`, in an order that says nothing."""
    return sorted(pairs, key=lambda p: digest([run, rater, "order", p.prompt, p.seed]))[:limit]


class Vote(Value):
    """What a person said of a pair."""

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
    """Which picture stood left."""
    choice: Choice
    ms: float
    """From the page to the vote."""
    ts: float


async def votes_of(store: Store, run: str, first: str, second: str) -> list[Vote]:
    """All votes on two treatments, in the order that they came."""
    rows = await store.rows("votes", run=run, first=first, second=second)
    return [Vote.model_validate(dict(row)) for row in rows]


async def reports_of(store: Store, run: str) -> list[tuple[str, str, RatingReport]]:
    """What the votes say, of each two treatments that were judged."""
    rows = await store.rows("voted", run=run)
    asked = [(str(row["first"]), str(row["second"])) for row in rows]
    return [(*ids, report_of(await votes_of(store, run, *ids))) for ids in asked]


# -- what the votes say -----------------------------------------------------------------------


class RatingReport(Value):
    """Shares are of pairs: each pair counts once, by the majority of its raters."""

    votes: int
    raters: tuple[str, ...]
    pairs: int
    wins: int
    """Pairs of which the second picture is preferred."""
    losses: int
    ties: int
    """Pairs of which neither is: as many raters prefer one as the other, or no fewer say that
    there is no difference."""
    win_rate: float | None
    """wins / (wins + losses); None without a decided pair."""
    win_rate_interval: tuple[float, float] | None
    """Wilson, 95%."""
    tie_share: float | None
    """ties / pairs; None without a pair. A win rate says little where most pairs are ties."""
    tie_share_interval: tuple[float, float] | None
    judged_by_scorer: int
    """Decided pairs with unequal scores."""
    agreement: float | None
    """Share of these in which the scorer prefers what people prefer."""
    agreement_interval: tuple[float, float] | None
    kappa: float | None
    """Cohen's kappa of people and scorer on these; None where chance leaves nothing to agree on."""
    left_share: float | None
    """Share of decided votes for the left picture: far from one half, somebody clicks one side."""


def report_of(votes: Sequence[Vote]) -> RatingReport:
    """What the votes on two treatments say."""
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
