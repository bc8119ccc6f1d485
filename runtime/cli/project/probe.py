"""The probe of a project's models: `bigpe doctor --probe`, `bigpe config check --probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from bigpe.runtime.cli.common import perform, stderr, stdout
from bigpe.runtime.project.config import load_config
from bigpe.runtime.project.paths import Project

if TYPE_CHECKING:
    from bigpe.runtime.run.probe.probe import Probed
    from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow

MARKS = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fault": ("FAIL", "red")}

probe_option = click.option(
    "--probe",
    "wants_probe",
    is_flag=True,
    help="Make a few real calls of each model, and forecast a run. Paid models cost money.",
)


def run_probe(folder: Path, *, as_json: bool = False) -> Probed:
    """Probe the project's models, and print each finding; with JSON, findings are progress.

    ConfigError if the configuration or the prompts cannot be used.
    """
    # The services import as much as all other commands together.
    from bigpe.runtime.run.monitoring.logging import configure_logging
    from bigpe.runtime.run.probe.probe import NAME, plan_probe, probe

    project = Project(folder)
    # What servers refuse is a row of the probe.
    configure_logging(project.log(NAME), quiet=True)
    plan = plan_probe(load_config(project.config), project)
    stderr().print(Text(plan.text), soft_wrap=True)
    console = stderr() if as_json else stdout()

    def show(row: ProbeRow) -> None:
        console.print(row_text(row), soft_wrap=True)

    done = perform(probe(plan, show))
    if not as_json and done.forecast is not None:
        console.print(Text(done.forecast.text), soft_wrap=True)
        for row in done.prices.missing:
            console.print(Text(f"no price of {row.model} is known: {row.remedy}"), soft_wrap=True)
    return done


def run_render(folder: Path, prompt: str | None, *, as_json: bool = False) -> ProbeReport:
    """Let the painter paint one picture, and print each finding, as `run_probe` does.

    Args:
        folder: The project's folder.
        prompt: What to paint; None: the project's first train prompt.
        as_json: Whether standard output is for JSON.

    Raises:
        ConfigError: The configuration or the prompts cannot be used.
    """
    from bigpe.runtime.run.monitoring.logging import configure_logging
    from bigpe.runtime.run.plan import naive_set
    from bigpe.runtime.run.probe.painter import NAME, probe_painter

    project = Project(folder)
    configure_logging(project.log(NAME), quiet=True)
    config = load_config(project.config)
    prompt = prompt or naive_set(config, project.folder).of("train")[0]
    console = stderr() if as_json else stdout()

    def show(row: ProbeRow) -> None:
        console.print(row_text(row), soft_wrap=True)

    return perform(probe_painter(config, project, prompt, show))


def row_text(row: ProbeRow) -> Text:
    """A line for people."""
    mark, style = MARKS[row.verdict]
    remedy = f"; {row.remedy}" if row.remedy else ""
    return Text(mark, style=style) + Text(f" {row.part}: {row.check}: {row.finding}{remedy}")


def probe_json(done: Probed) -> dict[str, Any]:
    """The outcome as JSON, with the exit code of the command."""
    return done.as_json() | {"exit_code": done.report.exit_code}
