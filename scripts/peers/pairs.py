"""bigpe against each peer at equal renders, paired by run seed, as one family of comparisons.

Gains are held-out, score x 100. The interval is Student's t over the run seeds that both have run;
p is that of its test. Holm's correction (agents/statistics/significance.py) counts every row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from bigpe.agents.statistics.intervals import Interval, mean_interval
from bigpe.agents.statistics.significance import holm, student_p
from bigpe.runtime.experiments.report.contrasts import differences
from peers.curves import OURS, Curves, interval_text

COLUMNS = ("peer", "renders", "seeds", "difference", "lo", "hi", "p_holm")


class Pair(NamedTuple):
    """bigpe less a peer at one budget."""

    peer: str
    budget: int
    seeds: int
    difference: Interval
    p_holm: float


def pairs_of(curves: Curves) -> list[Pair]:
    """Of every budget and peer that share two run seeds or more with bigpe."""
    found: list[tuple[str, int, list[float]]] = []
    for (peer, budget), theirs in sorted(curves.items(), key=lambda item: (item[0][1], item[0][0])):
        apart = differences(curves.get((OURS[0], budget), {}), theirs)
        if peer != OURS[0] and len(apart) > 1:
            found.append((peer, budget, apart))
    p_values = [student_p(apart) for _, _, apart in found]
    return [
        Pair(peer, budget, len(apart), mean_interval(apart), p_holm)
        for (peer, budget, apart), p_holm in zip(found, holm(p_values), strict=True)
    ]


def pairs_markdown(pairs: Sequence[Pair]) -> str:
    """A row a peer and budget."""
    lines = [
        "| bigpe less | renders | run seeds | difference [95%] | p after Holm |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for pair in pairs:
        p = "< 0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"
        difference = interval_text(pair.difference)
        lines.append(f"| {pair.peer} | {pair.budget} | {pair.seeds} | {difference} | {p} |")
    return "\n".join([*lines, ""])


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """The same for programs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for pair in pairs:
        numbers = [*pair.difference, pair.p_holm]
        writer.writerow(
            [pair.peer, pair.budget, pair.seeds, *(f"{number:.6g}" for number in numbers)]
        )
    return out.getvalue()
