"""What a grid with lines and an axis says: numbers that can be checked by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress, ttest_rel
from support.builders import experiment_cell

from bigpe.agents.statistics.significance import holm, student_p
from bigpe.runtime.experiments.cells import ExperimentCell, append_cell
from bigpe.runtime.experiments.report.contrasts import contrasts, further_tables, trends
from bigpe.runtime.experiments.report.page import report_html
from bigpe.runtime.experiments.report.plots import curves_svg
from bigpe.runtime.experiments.report.tables import BEST
from bigpe.runtime.formatting import markdown_table

GAINS = {
    ("ucb1", 1): (0.12, 0.10, 0.14),
    ("ucb1", 2): (0.11, 0.08, 0.15),
    ("ucb1", 5): (0.06, 0.07, 0.02),
    ("greedy", 1): (0.12, 0.10, 0.14),
    ("greedy", 2): (0.10, 0.05, 0.09),
    ("greedy", 5): (0.01, 0.05, -0.02),
}
ORDER = tuple(f"{policy}, batch {size}" for policy, size in GAINS)


def cells(
    gains: dict[tuple[str, int], tuple[float, ...]] = GAINS, **rest: Any
) -> list[ExperimentCell]:
    return [
        experiment_cell(
            f"{policy}, batch {size}",
            seed,
            experiment="batch-size",
            series=policy,
            x=size,
            config=f"{policy} {size}",
            budget=100,
            gains={BEST: {"a cat": gain}},
            **rest,
        )
        for (policy, size), by_seed in gains.items()
        for seed, gain in enumerate(by_seed)
    ]


def tables(cells: list[ExperimentCell], order: tuple[str, ...] = ()) -> list[list[list[str]]]:
    return further_tables(contrasts(cells, order), trends(cells, order))


def test_lines_are_compared_at_equal_x_by_run_seed() -> None:
    *found, over_all = contrasts(cells(), ORDER)
    assert [(item.line, item.other, item.x, item.seeds) for item in found] == [
        ("ucb1", "greedy", 1, 3),
        ("ucb1", "greedy", 2, 3),
        ("ucb1", "greedy", 5, 3),
    ]
    assert [item.difference for item in found] == [0.0, round(10 / 3, 4), round(11 / 3, 4)]
    p_values = [
        ttest_rel(GAINS["ucb1", size], GAINS["greedy", size]).pvalue if size > 1 else 1.0
        for size in (1, 2, 5)
    ]
    assert [item.p_holm for item in found] == pytest.approx(holm(p_values), abs=1e-4)
    assert found[0].lo == found[0].hi == 0.0
    means = [
        [np.mean([100 * GAINS[policy, size][seed] for size in (1, 2, 5)]) for seed in range(3)]
        for policy in ("ucb1", "greedy")
    ]
    assert over_all.x is None and over_all.difference == pytest.approx(7 / 3, abs=1e-4)
    assert over_all.p_holm == pytest.approx(ttest_rel(*means).pvalue, abs=1e-4)


def test_the_first_line_is_that_of_the_first_arm() -> None:
    turned = contrasts(cells(), tuple(reversed(ORDER)))
    assert {item.line for item in turned} == {"greedy"}
    assert turned[-1].difference == -contrasts(cells(), ORDER)[-1].difference


def test_a_trend_is_the_mean_slope_over_log2() -> None:
    ucb1, greedy = trends(cells(), ORDER)
    slopes = [
        linregress(np.log2([1, 2, 5]), [100 * GAINS["ucb1", x][s] for x in (1, 2, 5)]).slope  # pyright: ignore[reportAttributeAccessIssue]
        for s in range(3)
    ]
    assert ucb1.slope == pytest.approx(np.mean(slopes), abs=1e-4)
    assert ucb1.lo is not None and ucb1.hi is not None and ucb1.lo < ucb1.slope < ucb1.hi
    assert ucb1.apart is None and ucb1.xs == (1, 2, 5)
    assert greedy.apart == pytest.approx(ucb1.slope - greedy.slope, abs=2e-4)


def test_a_seed_that_lacks_an_arm_counts_where_it_has_both() -> None:
    some = [cell for cell in cells() if not (cell.arm == "greedy, batch 2" and cell.seed == 0)]
    found = {item.x: item.seeds for item in contrasts(some, ORDER)}
    assert found == {1: 3, 2: 2, 5: 3, None: 2}
    assert {entry.line: entry.seeds for entry in trends(some, ORDER)} == {"ucb1": 3, "greedy": 2}


@pytest.mark.parametrize(
    "gains",
    [
        {("ucb1", 1): (0.1, 0.2), ("greedy", 2): (0.1, 0.2)},  # no x in common
        {("ucb1", 1): (0.1,), ("greedy", 1): (0.1,)},  # one run seed
        {("ucb1", 0): (0.1, 0.2), ("ucb1", 1): (0.1, 0.2), ("ucb1", 2): (0.1, 0.2)},  # no log of 0
        {("ucb1", 1): (0.1, 0.2), ("ucb1", 2): (0.1, 0.2)},  # two places are a difference
    ],
)
def test_what_cannot_be_compared_is_left_out(gains: dict[tuple[str, int], Any]) -> None:
    assert tables(cells(gains)) == []


def test_failed_measures_are_no_gain_of_nothing() -> None:
    unmeasured = [cell.model_copy(update={"gains": {}}) for cell in cells()]
    assert tables(unmeasured) == []


def test_p_of_no_difference_is_one() -> None:
    assert student_p([0.0, 0.0, 0.0]) == 1.0


def test_names_cannot_break_the_table() -> None:
    odd = {("a | b\n<i>", 1): (0.1, 0.2), ("c", 1): (0.1, 0.3)}
    [[head, *rows]] = tables(cells(odd))
    assert head[0] == "a | b\n<i> less"
    first, *_ = markdown_table(head, rows).splitlines()
    assert first == r"| a \| b &lt;i> less | c |"


def test_the_page_shows_them(tmp_path: Path) -> None:
    for cell in cells():
        append_cell(tmp_path / "batch-size.jsonl", cell)
    page = report_html(tmp_path)
    assert "ucb1 less" in page and "each doubling" in page
    assert f"<td>{tables(cells(), ORDER)[0][2][1]}</td>" in page


def command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bigpe", "experiment", "table", "batch-size", *options]
        + ["--cells", str(folder / "cells")],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_table_can_be_asked_for_a_part_and_another_reference(tmp_path: Path) -> None:
    for cell in cells():
        append_cell(tmp_path / "cells" / "batch-size.jsonl", cell)
    part = command(
        tmp_path, "--only", "ucb1, batch 2", "--only", "greedy, batch 2", "--reference",
        "greedy, batch 2", "--json",
    )  # fmt: skip
    output = json.loads(part.stdout)
    assert [row["condition"] for row in output["rows"]] == ["ucb1, batch 2", "greedy, batch 2"]
    assert output["reference"] == "greedy, batch 2"
    assert round(output["rows"][0]["difference"], 2) == 3.33
    assert [item["x"] for item in output["contrasts"]] == [2] and output["trends"] == []
    assert not (tmp_path / "batch-size.md").exists()
    unknown = command(tmp_path, "--reference", "thompson")
    assert unknown.returncode == 2 and "it has: ucb1, batch 1; greedy, batch 1" in unknown.stderr
    whole = command(tmp_path, "--no-plot")
    assert whole.returncode == 0 and "each doubling" in whole.stdout
    assert json.loads((tmp_path / "batch-size.json").read_text())["trends"]


def test_an_option_of_another_command_is_wrong_usage(tmp_path: Path) -> None:
    alone = subprocess.run(
        [sys.executable, "-m", "bigpe", "experiment", "run", "policies", "--reference", "ucb1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert alone.returncode == 2 and "--reference" in alone.stderr


def test_many_arms_have_a_panel_a_line() -> None:
    result = cells(curves={"pool diversity": [(1.0, 0.4), (2.0, 0.3)]})
    drawn = curves_svg(result, "pool diversity", label="d", axis="naive prompts a batch") or ""
    texts = re.findall(r">([^<>]+)</text>", drawn)
    assert {"ucb1", "greedy", "naive prompts a batch"} <= set(texts)
    assert [text for text in texts if text in {"1", "2", "5"}][-3:] == ["1", "2", "5"]  # one legend
    assert len(re.findall(r'id="axes_\d+"', drawn)) == 2
