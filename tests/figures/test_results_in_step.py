"""What docs/results/ shows is what its cells say, whoever added the latest one."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from peers.bench_peers import write_table
from support.paths import ROOT

from bigpe.runtime.experiments.cells import read_cells
from bigpe.runtime.experiments.grids import EXPERIMENTS
from bigpe.runtime.experiments.report.contrasts import contrasts, trends
from bigpe.runtime.experiments.report.tables import csv_text, markdown, tabulate_cells

RESULTS = ROOT / "docs" / "results"
RUN = [name for name in EXPERIMENTS if (RESULTS / "cells" / f"{name}.jsonl").exists()]


@pytest.mark.parametrize("name", RUN)
def test_table_json_and_plot_stand_beside_the_cells(name: str) -> None:
    remedy = f"run: bigpe experiment table {name} --cells docs/results/cells"
    chosen = EXPERIMENTS[name]
    cells = read_cells(RESULTS / "cells" / f"{name}.jsonl")
    table = tabulate_cells(name, chosen.reference, cells, chosen.labels)
    assert (RESULTS / f"{name}.md").read_text("utf-8") == markdown(table), remedy
    assert (RESULTS / f"{name}.csv").read_text("utf-8") == csv_text(table), remedy
    report = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    assert report["question"] == chosen.question, remedy
    assert {key: report[key] for key in ("rows", "cells", "commits")} == {
        key: table.model_dump(mode="json")[key] for key in ("rows", "cells", "commits")
    }, remedy
    for key, made in (("contrasts", contrasts), ("trends", trends)):
        assert report[key] == [cell.model_dump(mode="json") for cell in made(cells, chosen.labels)]
    plot = ElementTree.fromstring((RESULTS / f"{name}.svg").read_text("utf-8"))
    assert plot.tag.endswith("svg") and len(list(plot.iter())) > 20, remedy


def test_there_are_results() -> None:
    assert {"baselines", "policies"} <= set(RUN)


@pytest.mark.parametrize(("bench", "option"), [("dev", ""), ("final", " --bench final")])
def test_the_races_tables_and_curves_stand_beside_its_cells(
    bench: str, option: str, tmp_path: Path
) -> None:
    name = f"peers-{bench}"
    write_table(name, read_cells(RESULTS / "cells" / f"{name}.jsonl"), tmp_path)
    made = sorted(tmp_path.iterdir())
    assert [path.suffix for path in made] == [".csv", ".md", ".csv", ".md", ".svg"]
    for path in made:
        if path.suffix != ".svg":  # its bytes are matplotlib's affair
            displayed = (RESULTS / path.name).read_text("utf-8")
            assert displayed == path.read_text("utf-8"), (
                f"run: python scripts peers.bench_peers --figures{option}"
            )
