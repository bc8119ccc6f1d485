"""What could be gained in the embedded world: whose words are meant, and how many are found."""

from __future__ import annotations

import json

import pytest
from embedded_world.world_reach import say_named
from support.paths import ROOT

REACH = ROOT / "docs" / "figures" / "reach.jsonl"


def test_what_instructions_name_is_counted_in_the_cells_that_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_named()
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    displayed = [json.loads(line) for line in REACH.read_text("utf-8").splitlines()]
    named = [row for row in displayed if row["figure"].startswith("liked_named_")]
    assert counted == named, (
        "run: python scripts embedded_world.world_reach > docs/figures/reach.jsonl"
    )
    assert {"liked_named_bigpe@200", "liked_named_gepa@400"} <= {row["figure"] for row in named}
