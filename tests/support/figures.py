"""Figures as the scripts print them: one JSON object per line (benchmarks.figures)."""

from __future__ import annotations

import json
from typing import Any

KEYS = {"figure", "value", "unit", "n", "lo", "hi", "how"}


def read_figures(text: str) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in text.splitlines()]
    assert all(set(row) == KEYS for row in rows)
    return {row["figure"]: row for row in rows}
