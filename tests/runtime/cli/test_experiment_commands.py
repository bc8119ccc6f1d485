"""The commands of `bigpe experiment` that need no model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bigpe.runtime.cli.results.experiment import experiment
from bigpe.runtime.experiments.grids import EXPERIMENTS
from bigpe.services.core.errors import ConfigError


def invoke(*words: object) -> Result:
    return CliRunner().invoke(experiment, list(map(str, words)))


def test_every_command_has_help_with_examples() -> None:
    for name in ("list", "run", "forecast", "table", "worksheet", "agreement"):
        done = invoke(name, "--help")
        assert done.exit_code == 0 and f"bigpe experiment {name}" in done.stdout


def test_the_experiments_are_listed() -> None:
    assert [item["name"] for item in json.loads(invoke("list", "--json").stdout)] == [*EXPERIMENTS]
    assert all(name in invoke("list").stdout for name in EXPERIMENTS)


def test_a_forecast_counts_the_missing_cells(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_text("[run]\nrounds = 3\n")
    options = ("-p", tmp_path, "--seeds", 3, "--renders", 50, "--only", "ucb1", "--only", "greedy")
    expected = json.loads(invoke("forecast", "policies", *options, "--json").stdout)
    assert (expected["cells"], expected["missing"], expected["hours"]) == (6, 6, None)
    assert expected["renders"] == 6 * (50 + 2 * 24)
    assert "6 of 6 cells" in invoke("forecast", "policies", *options).stdout
    assert not (tmp_path / "bigpe.db").exists(), "nothing was run"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no-such-experiment"),
        ("run", "transfer", "--other", "steps"),
        ("run", "policies", "--set", "rounds=3"),
        ("table", "policies"),
        ("worksheet", "policies", "claims.csv"),
    ],
)
def test_wrong_usage_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bigpe.toml").write_text("")
    error = invoke(*words).exception
    assert isinstance(error, ConfigError) and error.exit_code == 2
    assert not list(tmp_path.glob("*.csv")), "nothing was written"


def filled(path: Path, *verdicts: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "verdict"), *((f"C{i}", v) for i, v in enumerate(verdicts))])
    return path


def test_two_worksheets_are_compared(tmp_path: Path) -> None:
    first = filled(tmp_path / "a.csv", "true", "true", "false", "false")
    second = filled(tmp_path / "b.csv", "true", "false", "false", "")
    found = json.loads(invoke("agreement", first, second, "--json").stdout)
    assert found["n"] == 3 and found["observed"] == pytest.approx(2 / 3)
    assert found["true"] == [0.5, pytest.approx(1 / 3)]
    nothing = invoke("agreement", first, filled(tmp_path / "c.csv", ""))
    assert isinstance(nothing.exception, ConfigError)
