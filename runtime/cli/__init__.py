"""The command line: a file a command; this one only finds them and reports errors."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

import bigpe
from bigpe.services.errors import BigpeError

# The evidence fit is small, and threads of it would only wait for those of the models. Set before
# anything loads numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS: dict[str, str] = {
    "init": "init:init",
    "config": "config:config",
    "demo": "demo:demo",
    "run": "run:run",
    "resume": "run:resume",
    "fork": "run:fork",
    "status": "status:status",
    "costs": "costs:costs",
    "stop": "status:stop",
    "refine": "refine:refine",
    "inspect": "inspect:inspect",
    "view": "view:view",
    "export": "export:export",
    "publish": "publish:publish",
    "rate": "rate:rate",
    "sheet": "sheet:sheet",
    "experiment": "experiment:experiment",
    "report": "report:report",
    "evaluate": "evaluate:evaluate",
    "plan": "plan:plan",
    "prompts": "prompts:prompts",
    "models": "models:models",
    "roles": "plugins:roles",
    "policies": "plugins:policies",
    "renderers": "plugins:renderers",
    "scorers": "plugins:scorers",
    "safety": "plugins:safety",
    "serve": "serve:serve",
    "gc": "gc:gc",
    "doctor": "doctor:doctor",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order that a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: Any = getattr(import_module(f"bigpe.runtime.cli.{module}"), attribute)
        return command


EXAMPLES = """
\b
Examples:
  bigpe demo my-demo             a whole run on the embedded models
  bigpe init my-project          a commented bigpe.toml to edit
  bigpe run -p my-project        start the run, or go on with it
  bigpe inspect -p my-project    read what the actors said
  bigpe refine -p my-project "a cat on the beach"
"""


@click.group(
    cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(bigpe.__version__, prog_name="bigpe")
def cli() -> None:
    """Find the instruction that makes an LLM rewrite naive image prompts into preferred ones."""


def main() -> None:
    """The `bigpe` command: exit code 2 for usage and configuration, 1 for other errors."""
    try:
        cli(standalone_mode=True)
    except BigpeError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
        sys.exit(error.exit_code)
