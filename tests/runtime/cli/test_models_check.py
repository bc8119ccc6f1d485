"""`bigpe models check` on the embedded scorer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pictures

from bigpe.runtime.cli import cli
from bigpe.services.core.errors import DataError


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["models", "check", *map(str, arguments), "--model", "embedded"])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs without scores."""
    rng = np.random.default_rng(0)
    names = ("one.png", "two.png")
    for name in names:
        Pictures.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    rows = [{"image": name, "prompt": p, "by": "me"} for name in names for p in ("fox", "owl")]
    return write(tmp_path / "pairs.jsonl", rows)


def test_recorded_scores_agree_until_one_is_changed(pairs: Path) -> None:
    recorded = pairs.with_name("recorded.jsonl")
    assert check(pairs, "--record", recorded).exit_code == 0
    agreed = check(recorded, "--tolerance", "1e-6", "--json")
    assert agreed.exit_code == 0, agreed.output
    assert json.loads(agreed.stdout)["met"] is True
    kept = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert all(row["by"] == "me" for row in kept)
    kept[2]["score"] += 2e-4
    changed = write(recorded, kept)
    differing = check(changed, "--json")
    assert differing.exit_code == 1
    found = json.loads(differing.stdout)
    assert (found["pairs"], found["failed"], found["met"]) == (4, 0, False)
    assert found["largest_difference"] == pytest.approx(2e-4, rel=1e-3)
    assert [(item["image"], item["prompt"]) for item in found["outside"]] == [("two.png", "fox")]
    displayed = check(changed)
    assert (
        displayed.exit_code == 1
        and "two.png" in displayed.stdout
        and "one.png" not in displayed.stdout
    )


def test_an_image_that_is_none_fails_alone(pairs: Path) -> None:
    recorded = pairs.with_name("recorded.jsonl")
    check(pairs, "--record", recorded)
    pairs.with_name("one.png").write_text("no image")
    found = json.loads(check(recorded, "--json").stdout)
    assert (found["failed"], found["met"]) == (2, False)
    assert {item["image"] for item in found["outside"] if item["error"]} == {"one.png"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"image": "one.png", "prompt": "fox"}', "--record"),
        ('{"image": "one.png"}', "line 1"),
        ('{"image": "one.png", "prompt": "fox", "score": 1}\nnot JSON', "line 2"),
        ('{"image": "none.png", "prompt": "fox", "score": 1}', "none.png"),
        ("", "no pairs"),
    ],
)
def test_mistakes_in_the_file_are_named(pairs: Path, text: str, named: str) -> None:
    pairs.write_text(text)
    result = check(pairs)
    assert isinstance(result.exception, DataError)
    assert named in str(result.exception)
