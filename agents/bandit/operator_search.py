"""The operators of a run: which one makes the next instruction, and what each has gained."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bigpe.agents.bandit.operators import OperatorChoice
from bigpe.agents.bandit.policies import selection_rng
from bigpe.agents.bandit.pool import Pool, PoolRow
from bigpe.agents.evidence.contrasts import gain_over, prompts_won
from bigpe.agents.evidence.mixed_model import PairedComparison
from bigpe.agents.messages.core import InstructionsProposed
from bigpe.agents.messages.plan import CampaignPlan
from bigpe.agents.messages.search import InstructionRecord, Operator, SearchState, TriedChange
from bigpe.services.core.values import Instruction

BEST = 4
WORST = 2
"""Instructions with results in a SearchState."""
TRIED = 8
"""Changes in a SearchState."""
STAGNANT = 4
"""Rounds without a better best instruction after which the broad operators are favoured."""
LONG_WORDS = 40
"""Words of an instruction that is long enough to be condensed."""
PLATEAU = 2
"""Rounds without a better best instruction after which one may be condensed. While the search
climbs, or has tried seed instructions only, what is needed is not yet known."""


class Trial(NamedTuple):
    """A child whose gain over its parent decides about its operator."""

    round: int
    operator: Operator
    change: str
    parent: str
    settled: bool = False


@dataclass
class OperatorSearch:
    """The operators of a run and their trials."""

    choice: OperatorChoice = field(default_factory=OperatorChoice)
    trials: dict[str, Trial] = field(default_factory=dict[str, Trial])
    """By the id of the child, oldest first."""

    def begin(
        self,
        plan: CampaignPlan,
        index: int,
        own: Instruction,
        pool: Pool,
        pairs: Sequence[PairedComparison],
        *,
        proposals: int,
        stale: int,
        sigma: float,
    ) -> SearchState:
        """The state of the search for round `index`, with operators for `proposals` instructions.

        Args:
            plan: The plan of the run.
            index: Index of the round, from 1.
            own: The instruction of the round.
            pool: The pool when the round is chosen.
            pairs: The comparisons of the rounds that are settled by then.
            proposals: Number of operators to choose, >= 0.
            stale: Rounds since the best lower bound rose.
            sigma: Noise of one gain, score units.
        """
        won = prompts_won(pairs)
        rows = {row.instruction.id: row for row in pool.rows()}
        ranked = sorted(
            (row for row in rows.values() if row.mean is not None),
            key=lambda row: (-(row.mean or 0.0), row.instruction.id),
        )
        listed = ranked if len(ranked) <= BEST + WORST else [*ranked[:BEST], *ranked[-WORST:]]
        rng = selection_rng(plan.seed, -index)  # apart from the draws that choose instructions
        climbs = stale < PLATEAU or not any(trial.settled for trial in self.trials.values())
        possible = _possible(own, ranked, climbs=climbs)
        return SearchState(
            own=_record(rows[own.id], won),
            records=tuple(_record(row, won) for row in listed),
            tried=self._tried(pairs),
            operators=self._chosen(
                possible, rng, proposals, each=plan.proposals, stagnant=stale >= STAGNANT
            ),
            proposals=plan.proposals,
            stale=stale,
            sigma=sigma,
        )

    def _chosen(
        self,
        possible: Collection[Operator],
        rng: random.Random,
        count: int,
        *,
        each: int,
        stagnant: bool,
    ) -> tuple[Operator, ...]:
        """`count` operators; the `each` of a gradient differ while there are others."""
        chosen: list[Operator] = []
        for index in range(count):
            used = chosen[index - index % each :]
            left: list[Operator] = [o for o in possible if o not in used]
            chosen.append(self.choice.choose(left or possible, rng, stagnant=stagnant))
        return tuple(chosen)

    def take(
        self,
        index: int,
        search: SearchState | None,
        proposed: InstructionsProposed | None,
        taken: Collection[str],
    ) -> None:
        """Record the proposals of round `index`.

        An operator whose proposal is missing, refused or not new has lost. `taken`: ids of the
        proposals that the pool took. Without a search, the style has no operators.
        """
        if search is None:
            return
        parent = search.own.instruction.id
        open_operators: list[Operator] = list(search.operators)
        for proposal in proposed.proposals if proposed else ():
            child = proposal.instruction.id
            matching: list[Operator] = [o for o in open_operators if o == proposal.operator]
            if matching and child in taken:
                open_operators.remove(matching[0])
                self.trials[child] = Trial(index, matching[0], proposal.change, parent)
        for operator in open_operators:
            self.choice.settle(operator, won=False)

    def settle(
        self,
        plan: CampaignPlan,
        pool: Pool,
        pairs: Sequence[PairedComparison],
        *,
        unchanged: str = "",
    ) -> None:
        """Decide the trials whose child has had a batch that its parent had, too.

        `unchanged`: id of an instruction whose rewrites equal its parent's; its operator has lost.
        """
        lost = self.trials.get(unchanged)
        if lost is not None and not lost.settled:
            self.choice.settle(lost.operator, won=False)
            self.trials[unchanged] = lost._replace(settled=True)
        open_trials = {child: trial for child, trial in self.trials.items() if not trial.settled}
        if not open_trials:
            return  # the rows take time in a long run
        counts = {row.instruction.id: row.gains for row in pool.rows()}
        for child, trial in open_trials.items():
            if counts.get(child, 0) < plan.batch_size:
                continue
            difference = gain_over(pairs, child, trial.parent)
            if difference is not None:
                self.choice.settle(trial.operator, won=difference.mean > 0)
                self.trials[child] = trial._replace(settled=True)

    def _tried(self, pairs: Sequence[PairedComparison]) -> tuple[TriedChange, ...]:
        tried: list[TriedChange] = []
        for child, trial in list(self.trials.items())[-TRIED:]:
            difference = gain_over(pairs, child, trial.parent)
            tried.append(
                TriedChange(
                    round=trial.round,
                    operator=trial.operator,
                    change=trial.change,
                    parent=trial.parent,
                    child=child,
                    **(difference._asdict() if difference else {}),
                )
            )
        return tuple(tried)


def _possible(own: Instruction, ranked: Sequence[PoolRow], *, climbs: bool) -> set[Operator]:
    possible: set[Operator] = {"revise", "explore"}
    if any(row.instruction.id != own.id for row in ranked):
        possible.add("merge")
    if not climbs and len(own.text.split()) >= LONG_WORDS:
        possible.add("condense")
    return possible


def _record(row: PoolRow, won: dict[str, tuple[str, ...]]) -> InstructionRecord:
    return InstructionRecord(
        instruction=row.instruction,
        gains=row.gains,
        mean=row.mean,
        lo=row.lo,
        hi=row.hi,
        won=won.get(row.instruction.id, ()),
    )
