"""Cells' files, tables, plots and the page: numbers that can be checked by hand."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from scipy.stats import t as student
from support.builders import experiment_cell

from bigpe.runtime.experiments.cells import append_cell, newest, read_cells
from bigpe.runtime.experiments.report.page import report_html
from bigpe.runtime.experiments.report.plots import curves_svg, gains_svg
from bigpe.runtime.experiments.report.tables import (
    BEST,
    csv_text,
    fault_rows,
    markdown,
    tabulate_cells,
)
from bigpe.services.core.errors import ConfigError, StoreError


def test_lines_come_back_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.jsonl"
    assert read_cells(path) == []
    append_cell(path, experiment_cell(seed=0))
    with path.open("a") as file:
        file.write('{"experiment": "poli')  # what a kill leaves behind
    assert read_cells(path) == [experiment_cell(seed=0)]
    append_cell(path, experiment_cell(seed=1))
    assert read_cells(path) == [experiment_cell(seed=0), experiment_cell(seed=1)]


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_cell(path, experiment_cell())
    with path.open("a") as file:
        file.write('{"experiment": 1}\n')
    with pytest.raises(StoreError, match="line 2"):
        read_cells(path)


def test_the_latest_telling_of_a_cell_counts() -> None:
    assert newest([experiment_cell(gain=0.1), experiment_cell(gain=0.2)]) == [
        experiment_cell(gain=0.2)
    ]


def test_a_table_never_mixes_cells_of_two_rules() -> None:
    old = [experiment_cell("a", s, 0.9) for s in range(3)] + [
        experiment_cell("b", s, 0.9) for s in range(3)
    ]
    new = [experiment_cell("a", s, 0.1, rules=2) for s in range(2)]
    table = tabulate_cells("policies", "b", [*new, *old])
    assert [(row.condition, row.seeds, row.gain) for row in table.rows] == [("a", 2, 10.0)]


def test_intervals_are_over_seeds_and_differences_are_paired() -> None:
    cells = [experiment_cell("a", s, 0.10 + 0.1 * s) for s in range(4)]
    cells += [experiment_cell("b", s, 0.15 + 0.1 * s) for s in range(3)]
    table = tabulate_cells("policies", "a", cells)
    first, second = table.rows
    assert first.gain == pytest.approx(25.0)
    deviation = 12.909944 / 2
    assert first.hi == pytest.approx(25.0 + student.ppf(0.975, 3) * deviation, abs=1e-3)
    assert first.difference is None
    # Paired by seed the difference is 5 without any spread, though the runs differ by 10 each.
    assert (second.difference, second.difference_lo, second.difference_hi) == (5.0, 5.0, 5.0)
    assert second.pairs == 3 and second.seeds == 3


def test_of_two_budgets_of_an_arm_the_latest_counts() -> None:
    old = experiment_cell("a", 0, 0.9, config="old", budget=50, finished=1.0)
    new = experiment_cell("a", 0, 0.1, config="new", budget=200, finished=2.0)
    table = tabulate_cells("policies", "a", [new, old])
    assert table.budgets == (200,)
    assert table.rows[0].gain == pytest.approx(10.0)


def test_conditions_of_one_arm_are_rows_and_can_be_the_reference() -> None:
    gains = {"seed instruction": {"p": 0.1}, BEST: {"p": 0.3}}
    cells = [experiment_cell("bigpe", s, gains=gains) for s in range(2)]
    rows = {row.condition: row for row in tabulate_cells("x", "seed instruction", cells).rows}
    assert rows[BEST].difference == pytest.approx(20.0)
    assert rows["seed instruction"].difference is None
    assert list(rows) == [BEST, "seed instruction"]
    # What the run cost was paid for its own instruction, not for the one it began with.
    assert (rows[BEST].renders, rows["seed instruction"].renders) == (200, None)
    assert "| - |" in markdown(tabulate_cells("x", "seed instruction", cells))


def test_markdown_and_csv_tell_the_same() -> None:
    table = tabulate_cells(
        "policies", "a", [experiment_cell("a|<b>", 0), experiment_cell("a|<b>", 1)], ["a|<b>"]
    )
    assert "a\\|&lt;b>" in markdown(table)
    [row] = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert row["condition"] == "a|<b>" and float(row["gain"]) == pytest.approx(10.0)


def test_plots_are_drawn_and_equal_for_equal_figures() -> None:
    curve = {"pool diversity": [(1.0, 0.5), (2.0, 0.4)]}
    cells = [
        experiment_cell("a <i>", s, 0.1 * s, x=3.0, series="s", curves=curve) for s in range(3)
    ]
    table = tabulate_cells("policies", "a", cells)
    categories, lines = gains_svg(table), gains_svg(table, axis="batch")
    assert categories.startswith("<svg") and lines.startswith("<svg")
    assert "a &lt;i&gt;" in categories and "<i>" not in categories
    assert gains_svg(table) == categories
    curves = curves_svg(cells, "pool diversity", label="d") or ""
    # Those who cannot see a plot are told what it is; its figures stand in the table.
    assert 'role="img" aria-label="Plot of the table of policies: held-out gains"' in categories
    assert 'aria-label="Plot: d by round, a &lt;i&gt;"' in curves and "<i>" not in curves
    assert curves_svg(cells, "other", label="d") is None


def test_a_plots_axes_reach_over_its_figures() -> None:
    cells = [
        experiment_cell(f"{series}@{x:.0f}", seed, gain, x=x, series=series)
        for series in ("one", "two")
        for x, gain in ((50.0, 0.05), (200.0, 0.15))
        for seed in range(2)
    ]
    drawn = gains_svg(tabulate_cells("peers", "one@50", cells), axis="renders")
    ticks = {float(tick) for tick in re.findall(r">([0-9.]+)</text>", drawn)}
    assert {60.0, 200.0} <= ticks  # renders
    assert {6.0, 14.0} <= ticks  # gains


def test_faults_are_counted_by_arm_and_shown(tmp_path: Path) -> None:
    cells = [
        experiment_cell("a", 0, faults=("stagnation", "truncation")),
        experiment_cell("a", 1, faults=("stagnation",)),
        experiment_cell("b", 0, faults=()),
        experiment_cell("c", 0),
    ]
    found = {row.arm: (row.runs, row.faults) for row in fault_rows(cells)}
    assert found == {"a": (2, {"stagnation": 2, "truncation": 1}), "b": (1, {})}
    for cell in cells:
        append_cell(tmp_path / "policies.jsonl", cell)
    page = report_html(tmp_path)
    assert "stagnation (2), truncation (1)" in page and "<td>none</td>" in page


def test_the_page_is_whole_and_takes_no_markup_from_texts(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    append_cell(
        tmp_path / "policies.jsonl",
        experiment_cell(hostile, instruction=hostile, figures={hostile: 1.0}),
    )
    page = report_html(tmp_path)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace('http-equiv="', "")
    assert "batch-size" in page and "Not run yet" in page and "<svg" in page
    assert "Diagnostics" not in page  # this cell does not know of any
    with pytest.raises(ConfigError, match="no cells"):
        report_html(tmp_path / "empty")
