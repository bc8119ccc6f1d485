"""docs/figures/embedded.jsonl: measured on the shipped weights, and every bar met."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.paths import ROOT

from bigpe.services.models.fingerprints import folder_fingerprint

EMBEDDED = ROOT / "services/models/embedded"
LINES = (ROOT / "docs/figures/embedded.jsonl").read_text("utf-8").splitlines()
FIGURES: dict[str, dict[str, Any]] = {row["figure"]: row for row in map(json.loads, LINES)}
BARS: dict[str, tuple[float, float]] = {
    "reader_subject_acc": (0.95, 1),
    "reader_place_acc": (0.95, 1),
    "reader_light_acc": (0.85, 1),
    "reader_style_acc": (0.85, 1),
    "t2i_subject_acc": (0.85, 1),
    "t2i_place_acc": (0.85, 1),
    "t2i_light_acc": (0.75, 1),
    "t2i_style_acc": (0.75, 1),
    "t2i_sharp_order_acc": (0.85, 1),
    "t2i_vivid_order_acc": (0.85, 1),
    "t2i_detail_order_acc": (0.85, 1),
    "scorer_pair_acc": (0.88, 1),
    "scorer_spearman_generated": (0.7, 1),
    "gain_filler_share": (-0.1, 0.1),
    "render_seconds": (0, 0.4),
    "package_mb": (0, 40),
}
"""Least and most."""


def test_they_were_measured_on_the_shipped_weights() -> None:
    result = FIGURES["package_mb"]["how"]
    for name in ("pipeline", "scorer", "guard", "reader"):
        assert f"{name} {folder_fingerprint(EMBEDDED / name)}" in result


@pytest.mark.parametrize("name", BARS)
def test_the_bar_is_met(name: str) -> None:
    least, most = BARS[name]
    assert least <= FIGURES[name]["value"] <= most


def test_good_words_help_and_bad_words_harm() -> None:
    assert FIGURES["gain_good_modifiers"]["lo"] > 0 > FIGURES["gain_bad_modifiers"]["hi"]


def test_the_package_data_is_small() -> None:
    size = sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file())
    assert size <= 40e6
