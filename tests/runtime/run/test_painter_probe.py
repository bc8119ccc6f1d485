"""`bigpe doctor --render`: one picture, and what it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bigpe.runtime.cli import cli
from bigpe.runtime.project.config import check_config
from bigpe.runtime.project.paths import Project
from bigpe.runtime.project.price_list import listed_picture
from bigpe.runtime.run.probe.painter import probe_painter
from bigpe.runtime.run.probe.rows import ProbeReport, ProbeRow
from bigpe.services.render.config import RenderConfig
from bigpe.services.store.blobs import BlobStore
from bigpe.testing.fakes import FakeRenderer


async def painted(folder: Path, renderer: FakeRenderer, **render: Any) -> ProbeReport:
    listened: list[ProbeRow] = []
    config = check_config({"render": render}, where="here")
    report = await probe_painter(
        config, Project(folder), "a red fox", listened.append, renderer=renderer
    )
    assert listened == report.rows
    return report


async def test_it_paints_one_picture(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    report = await painted(tmp_path, FakeRenderer(BlobStore(tmp_path / "images"), log=log))
    rows = {row.check: row for row in report.rows}
    assert {row.verdict for row in report.rows} == {"ok"}
    assert (rows["paints"].figures["width"], rows["costs"].figures["usd"]) == (8, 0.0)
    assert BlobStore(tmp_path / "images").has(rows["picture"].figures["digest"])
    assert len(log.read_text().splitlines()) == 1


async def test_a_failure_is_a_row(tmp_path: Path) -> None:
    renderer = FakeRenderer(BlobStore(tmp_path / "images"))
    renderer.refused_words = frozenset({"fox"})
    report = await painted(tmp_path, renderer)
    last = report.rows[-1]
    assert (last.verdict, last.figures["error"]) == ("fault", "ModerationError")
    assert report.exit_code == 1


async def test_an_unknown_price_says_how_to_set_it(tmp_path: Path) -> None:
    renderer = FakeRenderer(BlobStore(tmp_path / "images"))
    report = await painted(tmp_path, renderer, backend="openai-images", model="mine")
    (costs,) = [row for row in report.rows if row.check == "costs"]
    assert (costs.verdict, costs.figures["usd"]) == ("note", None)
    assert "[prices] render" in costs.remedy


@pytest.mark.parametrize("arguments", [["--prompt", "a fox"], ["--render", "--probe"]])
def test_options_without_effect_are_refused(arguments: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["doctor", "-p", str(tmp_path), *arguments]).exit_code == 2


def test_json_of_a_painter_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bigpe.toml").write_text('[render]\nmodel = "./nowhere"\n')
    result = CliRunner().invoke(cli, ["doctor", "-p", str(tmp_path), "--render", "--json"])
    rows = json.loads(result.stdout)["rows"]
    assert result.exit_code == 2
    assert rows[-1]["verdict"] == "fault"


@pytest.mark.parametrize(
    ("settings", "usd"),
    [
        ({"extra": {"quality": "low"}}, 0.011),
        ({"extra": {"quality": "high"}}, 0.166),
        ({}, None),
        ({"extra": {"quality": "low"}, "urls": ["https://example.com/v1"]}, None),
    ],
)
def test_prices_of_pictures_by_quality_and_size(
    settings: dict[str, Any], usd: float | None
) -> None:
    painter = RenderConfig.model_validate(
        {"backend": "openai-images", "model": "gpt-image-1", "size": 1024, "http": settings}
    )
    listed = listed_picture(painter)
    assert (listed and round(listed[0], 3)) == usd
