"""`bigpe roles`, `policies`, `renderers` and others: plugins for the configuration."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.table import Table
from rich.text import Text

from bigpe.agents.bandit.policies import POLICIES
from bigpe.agents.reasoning.rules import STYLES
from bigpe.runtime.cli.common import json_option, print_json, stdout
from bigpe.services.backends import RENDERERS, SCORERS
from bigpe.services.core.plugins import Kind, rows


def _group(kind: Kind, builtin: Mapping[str, str], place: str) -> click.Group:
    """The command group of a kind; `place`: where in bigpe.toml its names go."""

    command, plural = kind.replace("_", "-"), kind.replace("_", " ")

    @click.group(command, help=f"The {plural} that {place} may name.")
    def group() -> None: ...

    examples = f"\b\nExamples:\n  bigpe {command} list\n  bigpe {command} list --json"

    @group.command("list", epilog=examples)
    @json_option
    def list_(as_json: bool) -> None:
        """List the built-in plugins and those of installed packages, with their packages."""
        found = rows(kind, builtin)
        if as_json:
            print_json([row._asdict() for row in found])
            return
        if not found:
            click.echo(f"no installed package offers {plural}; docs/roles.md shows how to make one")
            return
        table = Table("name", "package", "what it does")
        for row in found:
            table.add_row(Text(row.name, "bold"), Text(row.package), Text(row.summary))
        stdout().print(table)

    return group


roles = _group("roles", {}, "[roles.NAME] class")
policies = _group("policies", POLICIES, "[policy] name")
renderers = _group(
    "renderers", {name: row.summary for name, row in RENDERERS.items()}, "[render] backend"
)
scorers = _group("scorers", {name: row.summary for name, row in SCORERS.items()}, "[score] backend")
reasoning_styles = _group("reasoning_styles", STYLES, "[reasoning] style")
safety = _group("safety", {}, "[constraints] safety")
