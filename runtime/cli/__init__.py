"""The command line: the table of commands, lazy imports and error reports."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from bigpe.services.core.errors import BigpeError
from bigpe.services.core.version import VERSION
from bigpe.services.processes.cpu import without_collection

# The evidence fit is small, and threads of it would only wait for those of the models. Set before
# anything loads numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("project.init:init", "Write a commented bigpe.toml to edit."),
    "config": ("project.config:config", "Check and explain a project's configuration."),
    "demo": ("run.demo:demo", "A whole run on the embedded models, with a contact sheet."),
    "run": ("run.run:run", "Start a run by bigpe.toml, or go on with it."),
    "resume": ("run.run:resume", "Go on with a run that was paused, killed or stopped."),
    "fork": ("run.run:fork", "Start a run from another one's settings."),
    "status": ("run.status:status", "Show a project's runs and their faults."),
    "costs": ("run.costs:costs", "Show what a run asked of its models, and what was paid."),
    "stop": ("run.status:stop", "Pause a run that another process writes."),
    "refine": ("share.refine:refine", "Rewrite prompts under an instruction."),
    "inspect": ("run.inspect:inspect", "Read a run's transcript, from prompts to scores."),
    "view": ("share.view:view", "Show a run in the browser."),
    "export": (
        "share.export:export",
        "Write a run as a page, JSON lines, Parquet or for a tracker.",
    ),
    "publish": ("share.publish:publish", "Hand on a run's instruction with its evaluation."),
    "rate": ("results.rate:rate", "Ask a person which of two pictures they prefer, blind."),
    "sheet": ("results.sheet:sheet", "Draw a contact sheet on test prompts, same seeds."),
    "experiment": (
        "results.experiment:experiment",
        "Run the grid of an experiment and print its table.",
    ),
    "report": ("results.report:report", "Write one HTML page of all experiments that have run."),
    "evaluate": (
        "results.evaluate:evaluate",
        "Judge a run on test prompts, which it has never seen.",
    ),
    "plan": ("results.plan:plan", "Say how many prompts and renders a comparison needs."),
    "prompts": ("project.prompts:prompts", "The project's database of professional prompts."),
    "models": ("project.models:models", "The models that bigpe knows by name."),
    "roles": ("project.plugins:roles", "The roles that [roles.NAME] class may name."),
    "policies": ("project.plugins:policies", "The policies that [policy] name may name."),
    "renderers": ("project.plugins:renderers", "The renderers that [render] backend may name."),
    "scorers": ("project.plugins:scorers", "The scorers that [score] backend may name."),
    "reasoning-styles": (
        "project.plugins:reasoning_styles",
        "The reasoning styles that [reasoning] style may name.",
    ),
    "safety": ("project.plugins:safety", "The safety that [constraints] safety may name."),
    "serve": ("share.serve:serve", "Serve the project's renderer or scorer to runs elsewhere."),
    "gc": ("project.gc:gc", "Remove pictures that nothing refers to."),
    "doctor": ("project.doctor:doctor", "Check this machine and project, and say what is missing."),
}
"""Name -> (dotted path in this package and attribute, line in `bigpe --help` of 80 columns)."""


class LazyGroup(click.Group):
    """Imports the module of a command when the command is used, so that `--help` is quick."""

    def __init__(self, *, table: dict[str, tuple[str, str]], **settings: Any) -> None:
        """`table`: name -> ("module in this package:attribute", line of help)."""
        super().__init__(**settings)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in self._table:
            return None
        module, _, attribute = self._table[cmd_name][0].partition(":")
        with without_collection():
            command: Any = getattr(import_module(f"{__name__}.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line of help per command, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Shell completion without importing the command modules."""
        matches = [pair for pair in self._table.items() if pair[0].startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=line) for name, (_, line) in matches), *options]


EXAMPLES = """
\b
Examples:
  bigpe demo my-demo             a whole run on the embedded models
  bigpe init my-project          a commented bigpe.toml to edit
  bigpe run -p my-project        start the run, or go on with it
  bigpe inspect -p my-project    read the actors' messages
  bigpe refine -p my-project "a cat on the beach"
"""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, prog_name="bigpe")
def cli() -> None:
    """Find the instruction that makes an LLM rewrite naive image prompts into preferred ones."""


def main() -> None:
    """The `bigpe` command: exit code 2 for usage and configuration, 1 for other errors."""
    try:
        cli(standalone_mode=True)
    except BigpeError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(error.exit_code)
