"""Figures in one form: a JSON object a line on stdout, nothing else there."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence


def say(
    figure: str,
    value: float | None,
    *,
    unit: str,
    n: int,
    how: str,
    lo: float | None = None,
    hi: float | None = None,
) -> None:
    """One figure; `lo` and `hi` are what `how` says of them, null if there are none."""
    row = {"figure": figure, "value": value, "unit": unit, "n": n, "lo": lo, "hi": hi, "how": how}
    print(json.dumps(row, ensure_ascii=False), flush=True)


def say_ratio(figure: str, above: Sequence[float], below: Sequence[float], how: str) -> None:
    """Median of `above` by median of `below`, seconds measured in turn; lo and hi: single pairs."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    value = statistics.median(above) / statistics.median(below)
    say(
        figure,
        round(value, 3),
        unit="ratio",
        n=len(ratios),
        lo=round(min(ratios), 3),
        hi=round(max(ratios), 3),
        how=f"{how}; medians, lo and hi of single repeats",
    )
