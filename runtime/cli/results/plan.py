"""`bigpe plan`."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bigpe.agents.statistics.power import (
    MOST_PROMPTS,
    SURE,
    SpreadParts,
    power,
    prompts_needed,
    spread_parts,
)
from bigpe.runtime.cli.common import (
    DEFAULT_RUN,
    json_option,
    print_json,
    project_option,
    read_store,
    stderr,
    stdout,
)
from bigpe.runtime.transcript.replay import replayed_campaign
from bigpe.services.core.errors import ConfigError

SEEDS = (1, 2, 4)
EXAMPLES = """
\b
Examples:
  bigpe plan --effect 0.004               for the run `main`, 80% power
  bigpe plan --effect 0.4 --sd 1.2        without a run, in any unit
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--effect",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="The mean gain to find, in score units (HPS x 100 shows 100 times this).",
)
@click.option(
    "--power",
    "wanted",
    type=click.FloatRange(0.05, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="The chance to find it.",
)
@click.option(
    "--run", default=DEFAULT_RUN, show_default=True, help="The run whose gains give the spread."
)
@click.option(
    "--sd",
    type=click.FloatRange(min=0, min_open=True),
    help="The spread of a prompt's gain, instead of a run's.",
)
@project_option
@json_option
def plan(
    effect: float, wanted: float, run: str, sd: float | None, project: Path, as_json: bool
) -> None:
    """Compute how many test prompts and renders a comparison needs.

    It uses the paired t test on prompts, two-sided at 5%, with the spread of a run's gains. More
    seeds per prompt reduce only the spread within a prompt.

    A spread that is estimated from few gains may be too small. `prompts, to be sure` uses its
    upper 80% bound, so in one of five cases it is too small as well.
    """
    if sd is not None:
        spread = SpreadParts(sd**2, 0.0)
    else:
        spread = _spread(run, project)
    rows = [_row(effect, spread, seeds, wanted) for seeds in (SEEDS if spread.within else (1,))]
    if as_json:
        print_json({"effect": effect, "power": wanted, "plans": rows})
        return
    _show(rows, effect, wanted, spread)


def _row(effect: float, spread: SpreadParts, seeds: int, wanted: float) -> dict[str, Any]:
    deviation = spread.sd(seeds)
    prompts = prompts_needed(effect, deviation, wanted)
    bound = spread.sd_at_most(seeds)
    return {
        "seeds": seeds,
        "sd": deviation,
        "prompts": prompts,
        "renders": None if prompts is None else 2 * seeds * prompts,
        "power": None if prompts is None else power(effect, deviation, prompts),
        "sd_at_most": bound,
        "prompts_to_be_sure": prompts_needed(effect, bound, wanted),
    }


def _show(rows: list[dict[str, Any]], effect: float, wanted: float, spread: SpreadParts) -> None:
    title = f"to find a mean gain of {effect:g} with power {wanted:.0%}"
    table = Table("seeds a prompt", "spread", "prompts", "renders", "power", title=title)
    exact = math.isinf(spread.df)
    if not exact:
        table.add_column("prompts, to be sure")
    for row in rows:
        cells = [
            str(row["seeds"]),
            f"{row['sd']:.4f}",
            _count(row["prompts"]),
            "-" if row["renders"] is None else f"{row['renders']:,}",
            "-" if row["power"] is None else f"{row['power']:.1%}",
        ]
        table.add_row(*cells, *([] if exact else [_count(row["prompts_to_be_sure"])]))
    stdout().print(table)
    stdout().print("renders: each prompt and seed once naive and once rewritten, for one treatment")
    if not exact:
        stdout().print(
            f"to be sure: the spread rests on {spread.df:,.0f} degrees of freedom; with "
            f"{SURE:.0%} confidence it is at most {rows[0]['sd_at_most']:.4f}"
        )
    if not spread.within and not exact:
        stderr().print("no prompt has two gains yet, so what more seeds would bring is not exact")


def _count(prompts: int | None) -> str:
    return f"more than {MOST_PROMPTS:,}" if prompts is None else f"{prompts:,}"


def _spread(run: str, folder: Path) -> SpreadParts:
    """The spread of the run's gains, within each instruction."""
    campaign = read_store(folder, lambda store: replayed_campaign(store, run), run)
    by_arm: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in campaign.pairs if campaign.started else ():
        if pair.arm != "professional":
            by_arm[pair.arm][pair.naive].append(pair.gain)
    spread = spread_parts(list(prompts.values()) for prompts in by_arm.values())
    if spread is None or spread.sd(1) == 0:
        raise ConfigError(
            f"run {run!r} has no gains of two prompts under one instruction yet; go on with it, "
            "or give the spread with --sd"
        )
    return spread
