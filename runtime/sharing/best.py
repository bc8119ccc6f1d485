"""The instruction of a run that commands hand out, and by which prompts it was chosen."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import ValidationError

from bigpe.agents.campaign.campaign import Campaign
from bigpe.runtime.evaluation.compare import Evaluation
from bigpe.runtime.transcript.replay import replayed_campaign, require_finished
from bigpe.services.core.errors import ConfigError, DataError
from bigpe.services.core.values import Instruction
from bigpe.services.store.database import Store

ChosenBy = Literal["validation", "train"]


class BestInstruction(NamedTuple):
    """The best instruction of a run, with what it was chosen from."""

    instruction: Instruction
    chosen_by: ChosenBy
    """The prompts whose gains decided: validation prompts of an evaluation, or train prompts."""
    campaign: Campaign
    report: Evaluation | None
    """The latest finished evaluation of the run."""

    @property
    def note(self) -> str:
        """How it was chosen, for people."""
        return f"instruction {self.instruction.id[:8]}, chosen by {self.chosen_by} gain"


async def best_instruction(store: Store, run: str) -> BestInstruction:
    """The choice of the run's latest finished evaluation, else the best by train gain.

    An evaluation of a single candidate measures no validation prompt: its choice is by train gain.

    Raises:
        ConfigError: The run has no finished round, or no result.
        DataError: Another version of bigpe wrote the evaluation.
    """
    campaign = await replayed_campaign(store, run)
    require_finished(campaign, run)
    report = await _latest_report(store, run)
    selection = report.selection if report else None
    if selection is not None and selection.chosen is not None:
        by: ChosenBy = "validation" if selection.prompts else "train"
        return BestInstruction(selection.chosen, by, campaign, report)
    best = campaign.pool.best()
    if best.mean is None:
        raise ConfigError(f"run {run!r} has no instruction with a result yet; continue it first")
    return BestInstruction(best.instruction, "train", campaign, report)


async def _latest_report(store: Store, run: str) -> Evaluation | None:
    row = await store.row("evaluation_report", run=run)
    if row is None:
        return None
    try:
        return Evaluation.model_validate_json(row["body"])
    except ValidationError as error:
        raise DataError(
            f"the evaluation of {run!r} was written by another version of bigpe; "
            f"run `bigpe evaluate {run}` again"
        ) from error
