"""`bigpe evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from bigpe.runtime.cli.common import (
    fresh_option,
    json_option,
    perform,
    print_json,
    project_option,
    run_argument,
    stderr,
    stdout,
)
from bigpe.runtime.evaluation import pipeline as evaluating
from bigpe.runtime.evaluation.compare import Evaluation
from bigpe.runtime.evaluation.forecast import Forecast, forecast
from bigpe.runtime.evaluation.open_run import open_run_for_evaluation
from bigpe.runtime.evaluation.report import markdown, show
from bigpe.runtime.project.paths import Project
from bigpe.runtime.run.monitoring.logging import configure_logging
from bigpe.services.core.atomic_file import partial_file
from bigpe.services.core.errors import PAUSES_RUN, ConfigError
from bigpe.services.core.values import Instruction

INTERRUPTED = 130
EXAMPLES = """
\b
Examples:
  bigpe evaluate                              the run `main`, on all its test prompts
  bigpe evaluate wide --prompts 40 --seeds 2
  bigpe evaluate --candidates 1 --prompts 10  no choice on validation prompts: quick
  bigpe evaluate --prompts 10 --yes           start although the choice takes most of the time
  bigpe evaluate --instruction "Name the light and the lens." --markdown report.md
  bigpe evaluate --prompts 12 --validation 8 --without plain --without seeds   few LLM calls
  bigpe evaluate --until-significant --max-prompts 80 --precision 0.005
"""


@click.command(epilog=EXAMPLES)
@run_argument
@project_option
@click.option(
    "--instruction", "texts", multiple=True, metavar="TEXT", help="Compare this text too."
)
@click.option(
    "--prompts",
    "--max-prompts",
    "prompts",
    type=click.IntRange(min=2),
    help="Largest number of test prompts; default: all.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--candidates",
    type=click.IntRange(1, 100),
    default=evaluating.CANDIDATES,
    show_default=True,
    help="Instructions that validation prompts choose among. 1: take the run's best unmeasured.",
)
@click.option(
    "--validation",
    type=click.IntRange(min=2),
    help="Largest number of validation prompts; default: all.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(get_args(evaluating.Reference)),
    help="Do not compare this: the LLM without an instruction (plain), the seed instructions, "
    "professional prompts.",
)
@click.option(
    "--until-significant",
    is_flag=True,
    help="Add test prompts until the gain differs from 0, by a confidence sequence from 12 prompts "
    "on. Its coverage is 95% for gains up to the skewness of a lognormal of sigma 1, and lower if "
    "the mean depends on fewer than one prompt in twenty.",
)
@click.option(
    "--precision",
    type=click.FloatRange(min=0, min_open=True),
    help="With --until-significant: also stop at this half-width (score units).",
)
@click.option(
    "--yes",
    "-y",
    is_flag=True,
    help="Start without a question when the choice on validation prompts takes much more than the "
    "test prompts.",
)
@fresh_option
@click.option("--every-prompt", is_flag=True, help="Print the whole table by prompt.")
@click.option(
    "--markdown",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the report to this file.",
)
@json_option
def evaluate(
    run: str,
    project: Path,
    texts: tuple[str, ...],
    prompts: int | None,
    seeds: int,
    seed: int,
    candidates: int,
    validation: int | None,
    without: tuple[evaluating.Reference, ...],
    until_significant: bool,
    precision: float | None,
    yes: bool,
    fresh: bool,
    every_prompt: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a run on test prompts, which had no influence on the run or the selection.

    The best instruction is selected on validation prompts. Then naive prompts, the LLM without an
    instruction, the seed instructions, professional prompts, the best instruction and given texts
    are compared, paired by prompt and seed. It prints a forecast of its calls before it starts.
    After an interruption the same command continues, and no call is paid for twice.
    """
    if precision is not None and not until_significant:
        raise ConfigError("--precision says when --until-significant may stop; give both")
    if validation is not None and candidates == 1:
        raise ConfigError("--candidates 1 chooses without validation prompts; drop --validation")
    settings = evaluating.EvaluationSettings(
        instructions=tuple(Instruction(text=text) for text in texts if text.strip()),
        prompts=prompts,
        seeds=seeds,
        seed=seed,
        candidates=candidates,
        validation=validation,
        without=frozenset(without),
        until_significant=until_significant,
        precision=precision,
    )
    configure_logging(Project(project).log(f"{run}-evaluation"))
    try:
        report = perform(_evaluate(run, project, settings, yes=yes, fresh=fresh))
    except PAUSES_RUN as error:
        note = "all paid calls are stored, and the same command continues"
        stderr().print(Text(f"paused: {error}; {note}"), soft_wrap=True)
        raise SystemExit(INTERRUPTED) from None
    except KeyboardInterrupt:
        stderr().print(Text("stopped; all paid calls are stored, and the same command continues"))
        raise SystemExit(INTERRUPTED) from None
    if file is not None:
        with partial_file(file) as partial:
            partial.write_text(markdown(report), "utf-8")
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    show(stdout(), report, every_prompt=every_prompt)


async def _evaluate(
    run: str, folder: Path, settings: evaluating.EvaluationSettings, *, yes: bool, fresh: bool
) -> Evaluation:
    console = stderr()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def on_progress(at: evaluating.EvaluationProgress) -> None:
        if at.doing not in tasks:
            tasks[at.doing] = progress.add_task(at.doing, total=at.of)
            if not console.is_terminal:
                console.print(Text(f"{at.doing}: {at.of} comparisons"))
        progress.update(tasks[at.doing], completed=at.done)

    async with open_run_for_evaluation(run, project=folder, fresh=fresh) as opened:
        _require_consent(await forecast(opened, settings), yes=yes)
        opened.services.watch.listen(
            lambda report: console.print(Text(report.line)) if report.notable else None
        )
        with progress:
            return await evaluating.evaluate(opened, settings, on_progress)


def _require_consent(expected: Forecast, *, yes: bool) -> None:
    """Print the forecast. ConfigError without consent to an expensive selection."""
    stderr().print(Text(_sentence(expected)))
    if yes or not expected.needs_consent:
        return
    part = expected.selection
    reason = (
        f"the choice on validation prompts alone takes {part.llm:,} LLM calls and "
        f"{part.renders:,} pictures, more than the test prompts"
    )
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{reason}; run it again with --yes to start it, or with --candidates 1 to take the "
            "run's best instruction without that choice"
        )
    click.confirm(f"{reason[0].upper()}{reason[1:]}. Start?", abort=True, err=True)


def _sentence(expected: Forecast) -> str:
    calls = expected.total
    minutes = "unknown" if expected.minutes is None else f"{expected.minutes:.1f}"
    usd = "unknown" if expected.usd is None else f"{expected.usd:.2f}"
    if expected.unpriced:
        usd += f" (no price of {', '.join(expected.unpriced)} is known; set [prices])"
    return (
        f"this evaluation asks for about {calls.llm:,} LLM calls, {calls.renders:,} pictures and "
        f"{calls.scores:,} scores that are not stored yet; model minutes: {minutes}, USD: {usd}"
    )
