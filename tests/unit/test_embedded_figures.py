"""docs/figures/embedded.jsonl: measured on the shipped weights, and every bar met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigpe.services.fingerprints import folder_fingerprint

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "services/embedded"
LINES = (ROOT / "docs/figures/embedded.jsonl").read_text("utf-8").splitlines()
FIGURES: dict[str, dict[str, Any]] = {row["figure"]: row for row in map(json.loads, LINES)}


def test_they_were_measured_on_the_shipped_weights() -> None:
    told = FIGURES["weights"]["sha256"]
    assert told == {name: folder_fingerprint(EMBEDDED / name) for name in told}
    assert set(told) == {"pipeline", "scorer", "guard", "reader"}


@pytest.mark.parametrize("name", [name for name, row in FIGURES.items() if "bar" in row])
def test_the_bar_is_met(name: str) -> None:
    assert FIGURES[name]["met"] is True


def test_the_package_data_is_small() -> None:
    size = sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file())
    assert size <= 40e6
