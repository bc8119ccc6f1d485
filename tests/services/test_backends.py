"""The table of built-in backends is complete, and the command line prints it."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from click.testing import CliRunner

from bigpe.runtime.cli import cli
from bigpe.services.backends import RENDERERS, SCORERS
from bigpe.services.render.config import BuiltinRenderer
from bigpe.services.score.service import BuiltinScorer


def test_every_built_in_name_has_a_row() -> None:
    assert set(RENDERERS) == set(get_args(BuiltinRenderer))
    assert set(SCORERS) == set(get_args(BuiltinScorer))


@pytest.mark.parametrize(("command", "table"), [("renderers", RENDERERS), ("scorers", SCORERS)])
def test_the_command_line_lists_every_row(command: str, table: dict[str, object]) -> None:
    listed = json.loads(CliRunner().invoke(cli, [command, "list", "--json"]).stdout)
    assert [row["name"] for row in listed if row["package"] == "bigpe"] == list(table)
