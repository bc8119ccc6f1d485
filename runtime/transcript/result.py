"""The result of a run, as JSON values and as a terminal table."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from bigpe.agents.bandit.pool import PoolRow
from bigpe.agents.campaign.campaign import Campaign
from bigpe.agents.messages.plan import BUILT_IN_AUTHOR
from bigpe.runtime.formatting import falling, first_line, interval, points


def result_json(campaign: Campaign) -> dict[str, Any]:
    """The result as JSON values; gains in score units."""
    best, plan = campaign.pool.best(), campaign.plan
    return {
        "reason": campaign.stopped.reason if campaign.stopped else "not complete",
        "best": best.instruction.id,
        "best_instruction": best.instruction.model_dump(mode="json"),
        "renders": campaign.used.renders,
        "policy": plan.policy,
        "seed": plan.seed,
        "instructions": [
            {
                "id": row.instruction.id,
                "text": row.instruction.text,
                "pulls": row.pulls,
                "gains": row.gains,
                "mean_gain": row.mean,
                "lo": row.lo,
                "hi": row.hi,
                "parent": row.parent,
                "born_round": row.born_round,
                "author": row.author,
                "operator": row.operator,
                "change": row.change,
                "state": row.state,
            }
            for row in campaign.pool.rows()
        ],
    }


def result_table(campaign: Campaign) -> Table:
    """Instructions with pulls, mean paired gain and interval, lineage and state."""
    best = campaign.pool.best().instruction.id
    table = Table(
        title="Instructions (gain: score x 100, rewritten less naive)", title_justify="left"
    )
    table.add_column("id", no_wrap=True)
    table.add_column("instruction", ratio=1)
    table.add_column("pulls", justify="right")
    table.add_column("n", justify="right")
    table.add_column("mean gain", justify="right", no_wrap=True)
    table.add_column("95% interval", justify="right", no_wrap=True)
    table.add_column("lineage", no_wrap=True)
    table.add_column("state")
    for row in sorted(campaign.pool.rows(), key=lambda row: falling(row.mean)):
        style = "bold" if row.instruction.id == best else None
        mark = "* " if row.instruction.id == best else ""
        table.add_row(
            f"{mark}{row.instruction.id[:8]}",
            _instruction(row),
            str(row.pulls),
            str(row.gains),
            "-" if row.mean is None else points(row.mean),
            interval(row.lo, row.hi),
            _lineage(row),
            Text(row.state),
            style=style,
        )
    return table


def _instruction(row: PoolRow) -> Text:
    """The first line and the change. Untrusted text: never parsed as markup."""
    text = Text(first_line(row.instruction.text))
    return text.append(f"\n{row.change}", style="dim") if row.change else text


def _lineage(row: PoolRow) -> str:
    if row.parent is None:
        return "seed"
    author = f", {row.author}" if row.author not in ("", BUILT_IN_AUTHOR) else ""
    return f"from {row.parent[:8]}, round {row.born_round}{author}"
